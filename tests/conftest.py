"""What the tests of every room share."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import settings

from tests.flights import flights_database
from tests.made_once import made_once

pytest_plugins = ["tests.postgres_server", "tests.redis_server"]
"""Rooms with fixtures. A fixture that modules import is another one in each, and starts its server again for each."""

settings.register_profile("any machine", deadline=None)  # a busy one may take a second for any example
settings.load_profile("any machine")


def pytest_make_parametrize_id(val: object, argname: str) -> str | None:
    """Name gzip streams by their parameter: they hold the time, and every process must know a test by one name."""
    return argname if isinstance(val, bytes) and val.startswith(b"\x1f\x8b") else None


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Stop where a test is named by an address in memory, which differs from one process of a run to the next."""
    addresses = [item.nodeid for item in items if " at 0x" in item.nodeid]
    if addresses:
        raise pytest.UsageError(f"no name that every process knows: {addresses[0]}")


@pytest.fixture(scope="session")
def flights_db(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A SQLite file of 336,776 real rows. Tests do not change it."""
    return made_once(tmp_path_factory, "flights.db", flights_database)
