"""schemathesis against real servers, by what the service says of itself: with sockets between, a part of the same."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
import schemathesis

from tests.conformance.servers import running
from tests.fuzzed import configured, expect_nothing, findings, part_of
from tests.openapi.described import KEY, KEYS

pytestmark = pytest.mark.slow

MANY = ("--port", "0", "--limit", "1000000/1s")
BOUNDED = {"ASGI_EXPORT_MAX_ROWS": "10000"}
"""So many rows are in the largest `total` that the description allows, and in `simulated` without one."""


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("shop") / "shop.db"
    with closing(sqlite3.connect(path)) as connection:
        connection.executescript(
            """
            CREATE TABLE people (id INTEGER, name TEXT, email TEXT, "a,b" TEXT);
            INSERT INTO people VALUES (1, '=1+1', 'a@x', NULL), (2, 'say "é"', NULL, '');
            CREATE TABLE orders (id INTEGER, price NUMERIC, note BLOB);
            INSERT INTO orders VALUES (1, 9.5, x'00ff'), (2, NULL, 'a\nb');
            """
        )
    return path


def test_uvicorn_answers_as_it_is_described(tmp_path: Path, shop: Path) -> None:
    with running(
        ["asgi_export", "serve", str(shop), "simulated", *MANY], tmp_path / "log", environ=BOUNDED
    ) as server:
        url = f"{server.url}/openapi.json"
        schema = schemathesis.openapi.from_url(url, config=configured())
        expect_nothing(findings(part_of(schema, "{dataset}.parquet")))
        assert "Traceback" not in server.log()


def test_hypercorn_answers_as_it_is_described_to_a_key(tmp_path: Path, shop: Path) -> None:
    several = KEYS.replace("at_once = 1", "at_once = 9")  # a client sees the end a moment before it is counted
    (tmp_path / "keys.toml").write_text(several)
    guarded = ["--api-keys", str(tmp_path / "keys.toml"), "--server", "hypercorn"]
    with running(["asgi_export", "serve", str(shop), *MANY, *guarded], tmp_path / "log", environ=BOUNDED) as server:
        url = f"{server.url}/openapi.json"
        schema = schemathesis.openapi.from_url(url, config=configured(key=KEY), headers={"X-API-Key": KEY})
        expect_nothing(findings(part_of(schema, "{dataset}.ndjson")))
        assert "Traceback" not in server.log()
