"""What the tests of every room share."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

import pytest
from hypothesis import settings

from tests.flights import flights_database

pytest_plugins = ["tests.postgres_server", "tests.redis_server"]
"""Rooms with fixtures. A fixture that modules import is another one in each, and starts its server again for each."""

settings.register_profile("any machine", deadline=None)  # a busy one may take a second for any example
settings.load_profile("any machine")


@pytest.fixture(scope="session")
def flights_db(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A SQLite file of 336,776 real rows, made once for all processes of the run. Tests do not change it."""
    own = tmp_path_factory.getbasetemp()
    path = (own.parent if "PYTEST_XDIST_WORKER" in os.environ else own) / "flights.db"
    with path.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not path.exists():
            flights_database(path.with_suffix(".making")).rename(path)
    return path
