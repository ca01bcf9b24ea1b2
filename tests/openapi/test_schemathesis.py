"""schemathesis against the application in raw ASGI, by what it says of itself."""

from __future__ import annotations

from pathlib import Path

import pytest
import schemathesis

from asgi_export import ExportApp, MemoryStore, Observe, RateLimit, SimulatedDataset
from tests.fuzzed import configured, expect_nothing, findings, part_of
from tests.openapi.described import EVERYTHING, KEY, ORDERS, PEOPLE, with_keys

MAX_ROWS = 10_000
"""The description says so, and schemathesis asks for as many: all that there may be would take a while."""


def app() -> ExportApp:
    return ExportApp([PEOPLE, ORDERS, EVERYTHING, SimulatedDataset()], max_rows=MAX_ROWS)


@pytest.mark.slow
def test_nothing_is_found_where_everything_is_open() -> None:
    limited = Observe(RateLimit(app(), store=MemoryStore(), limit=10**6))
    expect_nothing(findings(schemathesis.openapi.from_asgi("/openapi.json", limited, config=configured())))


@pytest.mark.slow
def test_nothing_is_found_where_keys_are_needed(tmp_path: Path) -> None:
    """With a key for most requests, and without one or with a wrong one where schemathesis tries that."""
    guarded = with_keys(app(), tmp_path, store=MemoryStore(), limit=10**6)
    config = configured(key=KEY)
    schema = schemathesis.openapi.from_asgi("/openapi.json", guarded, config=config, headers={"X-API-Key": KEY})
    expect_nothing(findings(part_of(schema, "{dataset}.tsv", "{dataset}.arrow")))


@pytest.mark.parametrize("name", ["orders", pytest.param("everything", marks=pytest.mark.slow)])
def test_nothing_is_found_in_the_description_of_one_dataset(name: str) -> None:
    """Its requests name the dataset. Those that do not are another description's, so none are made that break it."""
    config = configured(mode="positive")
    schema = schemathesis.openapi.from_asgi(f"/openapi.json?dataset={name}", app(), config=config)
    found = findings(part_of(schema, "{dataset}.arrow") if name == "everything" else schema)
    assert found.failures == []
    assert found.checks["positive_data_acceptance"] > 100
