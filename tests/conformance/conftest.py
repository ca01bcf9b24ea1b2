"""The servers that everything here is tried on."""

from __future__ import annotations

import signal
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conformance.servers import Server, running
from tests.ports import free_port

APPLICATION = "tests.conformance.nasty:app"
GRACE = 2

SERVERS = ("uvicorn-h11", "uvicorn-httptools", "hypercorn")


def command(name: str, application: str, port: int) -> list[str]:
    """How to run an application on one of `SERVERS`."""
    if name == "hypercorn":
        return ["hypercorn", application, "--bind", f"127.0.0.1:{port}", "--graceful-timeout", str(GRACE)]
    options = ["--port", str(port), "--timeout-graceful-shutdown", str(GRACE), "--http", name.partition("-")[2]]
    return ["uvicorn", application, *options]


@pytest.fixture(scope="session")
def slow_db(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A SQLite file with a table `shop` and a view `forever` that never gives its fourth row."""
    path = tmp_path_factory.mktemp("db") / "slow.db"
    connection = sqlite3.connect(path)
    connection.executescript(
        """
        CREATE TABLE shop (id INTEGER, name TEXT, price NUMERIC);
        INSERT INTO shop VALUES (1, 'a,b', 1.5), (2, NULL, 2), (3, 'say "é"', NULL);
        CREATE VIEW forever AS
        WITH RECURSIVE n(id) AS (SELECT 1 UNION ALL SELECT id + 1 FROM n WHERE id < 4000000000)
        SELECT id FROM n WHERE id <= 3 OR id = 4000000000;
        """
    )
    connection.close()
    return path


@pytest.fixture(scope="session")
def events(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("events") / "events"
    path.touch()
    return path


@pytest.fixture(scope="session", params=SERVERS)
def nasty(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, slow_db: Path, events: Path
) -> Iterator[Server]:
    """The application of `nasty.py` on each server."""
    name, port = request.param, free_port()
    environ = {"NASTY_EVENTS": str(events), "NASTY_DB": str(slow_db)}
    output = tmp_path_factory.mktemp(name) / "output"
    with running(command(name, APPLICATION, port), output, port=port, environ=environ) as server:
        server.name = name
        yield server
        assert server.stop() in (0, -signal.SIGTERM)  # uvicorn's own command ends by the signal that it was sent
        assert "BrokenOff" not in server.log()


@pytest.fixture(scope="session", params=["uvicorn", "hypercorn"])
def service(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, slow_db: Path
) -> Iterator[Server]:
    """`asgi-export serve` of a SQLite file and made-up rows, on each server."""
    output = tmp_path_factory.mktemp(request.param) / "output"
    arguments = ["serve", str(slow_db), "simulated", "--port", "0", "--server", request.param, "--limit", "100000/1s"]
    with running(["asgi_export", *arguments], output) as server:
        yield server
        assert server.stop() == 0
        assert "Traceback" not in server.log()
