"""Clients that stop reading, leave, or take too long: afterwards no database has anything left of them.

What counts is what another session sees: PostgreSQL's own list of sessions, and SQLite's locks.
"""

from __future__ import annotations

import contextlib
import selectors
import socket
import sqlite3
import struct
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from tests.conformance.servers import Server, ask, eventually, get, readable, running
from tests.postgres_server import PostgresServer

EXPORTS = "/api/v1/exports"
DATABASE = "slow_readers"
LONG_SECONDS = 600
"""Longer than any test waits."""

BOUNDS = {"stalled": (1, LONG_SECONDS), "client left": (LONG_SECONDS, LONG_SECONDS), "cut off": (LONG_SECONDS, 2)}
"""Seconds for a stall and in all, by the ending that a test is after: no other bound comes first."""

POOL = 10
"""Connections that the service has to PostgreSQL at most."""

RESET = struct.pack("ii", 1, 0)
RUNNING = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'asgi_export' AND state <> 'idle'"
BIG = """
CREATE TABLE one (id INTEGER, text TEXT);
INSERT INTO one WITH RECURSIVE n(id) AS ({numbers})
SELECT id, 'a text of some length, so that a few rows fill a socket, ' || id FROM n;
CREATE VIEW big AS SELECT a.id AS id, b.text AS text FROM one a, one b;
CREATE TABLE small (id INTEGER);
INSERT INTO small VALUES (7);
"""
"""Nine million rows that cost no disk; a query of them holds what a query of a table does."""


@pytest.fixture(scope="module")
def database(postgres_server: PostgresServer) -> PostgresServer:
    postgres_server.make_database(DATABASE, BIG.format(numbers="SELECT generate_series(1, 3000)"))
    return postgres_server


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two SQLite files: `rollback.db`, and `wal.db` in WAL mode."""
    path = tmp_path_factory.mktemp("slow")
    for name in ("rollback", "wal"):
        with closing(sqlite3.connect(path / f"{name}.db")) as connection:
            if name == "wal":
                connection.execute("PRAGMA journal_mode=WAL")
            connection.executescript(BIG.format(numbers="SELECT 1 UNION ALL SELECT id + 1 FROM n LIMIT 3000"))
    return path


@pytest.fixture(scope="module", params=BOUNDS)
def ending(request: pytest.FixtureRequest) -> str:
    found: str = request.param
    return found


@pytest.fixture(scope="module", params=["uvicorn", pytest.param("hypercorn", marks=pytest.mark.slow)])
def server(
    request: pytest.FixtureRequest,
    tmp_path_factory: pytest.TempPathFactory,
    database: PostgresServer,
    folder: Path,
    ending: str,
) -> Iterator[Server]:
    stall_seconds, max_seconds = BOUNDS[ending]
    sources = [f"pg={database.dsn(DATABASE)}", f"rollback={folder}/rollback.db", f"wal={folder}/wal.db"]
    bounds = ["--limit", "100000/1s", "--stall-seconds", str(stall_seconds), "--max-seconds", str(max_seconds)]
    command = ["asgi_export", "serve", *sources, "--port", "0", "--server", request.param, *bounds]
    with running(command, tmp_path_factory.mktemp("slow-readers") / "output") as found:
        yield found
        assert found.stop() == 0
        assert "was not left within" not in found.log()
        assert "Traceback" not in found.log()


def queries(database: PostgresServer) -> int:
    """Sessions of the service that are in a query or in a transaction."""
    return int(database.text(f"COPY ({RUNNING}) TO STDOUT", DATABASE))


def exclusive(folder: Path) -> bool:
    """Whether another process gets the file that has a rollback journal for itself."""
    with closing(sqlite3.connect(folder / "rollback.db", timeout=0, isolation_level=None)) as connection:
        try:
            connection.execute("BEGIN EXCLUSIVE")
        except sqlite3.OperationalError:
            return False
        connection.execute("ROLLBACK")
        return True


def checkpointed(folder: Path) -> bool:
    """Whether a checkpoint gets the whole log into the file, which no reader of an older state lets it."""
    with closing(sqlite3.connect(folder / "wal.db", timeout=0, isolation_level=None)) as connection:
        connection.execute("UPDATE small SET id = id + 1")
        busy, _, _ = connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
        return not busy


def stop_reading(_clients: list[socket.socket], _server: Server, _ids: list[str]) -> None:
    """Keep the connections and take nothing more."""


def leave(clients: list[socket.socket], _server: Server, _ids: list[str]) -> None:
    """Reset them, as a process does that is killed."""
    for client in clients:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
        client.close()


def dawdle(clients: list[socket.socket], _server: Server, _ids: list[str]) -> None:
    """Read on, a little at a time, until nothing more comes."""
    deadline = time.monotonic() + 60
    with selectors.DefaultSelector() as selector:
        for client in clients:
            selector.register(client, selectors.EVENT_READ)
        while selector.get_map():
            assert time.monotonic() < deadline, "the exports go on"
            for key, _ in selector.select(0.1):
                with contextlib.suppress(ConnectionResetError):
                    if key.fileobj.recv(16_384):  # type: ignore[union-attr]
                        continue
                selector.unregister(key.fileobj)
            time.sleep(0.002)  # the speed of this client: about a megabyte a second


Act = Callable[[list[socket.socket], Server, list[str]], None]
ENDINGS: dict[str, Act] = {"stalled": stop_reading, "client left": leave, "cut off": dawdle}


def ended(server: Server, request_id: str, ending: str) -> bool:
    return any(line.endswith(f'ending="{ending}"') for line in server.access_lines(request_id))


def asked(server: Server, stack: contextlib.ExitStack, target: str, request_id: str) -> Any:
    client = stack.enter_context(ask(server, target, headers=f"X-Request-Id: {request_id}\r\n"))
    assert readable(client)
    return client


@pytest.mark.parametrize("form", ["csv", "arrow"])
def test_however_an_export_ends_its_database_is_free(
    server: Server, database: PostgresServer, folder: Path, form: str, ending: str
) -> None:
    with contextlib.ExitStack() as stack:
        datasets = ("pg.big", "rollback.big", "wal.big")
        ids = [f"{name}-{form}-{ending.replace(' ', '-')}" for name in datasets]
        clients = [
            asked(server, stack, f"{EXPORTS}/{form}?dataset={name}", request_id)
            for name, request_id in zip(datasets, ids, strict=True)
        ]
        if ending == "client left":  # else some may be over already, on a busy machine
            assert queries(database) == 1
            assert not exclusive(folder)
            assert not checkpointed(folder)
        ENDINGS[ending](clients, server, ids)
        for request_id in ids:
            assert eventually(lambda request_id=request_id: ended(server, request_id, ending), 30), server.log()  # type: ignore[misc]
        assert eventually(lambda: queries(database) == 0)
        assert eventually(lambda: exclusive(folder))
        assert eventually(lambda: checkpointed(folder))


@pytest.mark.parametrize("form", ["csv", "arrow"])
def test_the_pool_gives_its_connections_again(
    server: Server, database: PostgresServer, form: str, ending: str
) -> None:
    """As many exports as the pool has connections end badly; then as many are served at once, and in turn."""
    with contextlib.ExitStack() as stack:
        ids = [f"pool-{form}-{ending.replace(' ', '-')}-{number}" for number in range(POOL)]
        clients = [asked(server, stack, f"{EXPORTS}/{form}?dataset=pg.big", request_id) for request_id in ids]
        assert ending != "client left" or queries(database) == POOL
        ENDINGS[ending](clients, server, ids)
        for request_id in ids:
            assert eventually(lambda request_id=request_id: ended(server, request_id, ending), 30)  # type: ignore[misc]
    assert eventually(lambda: queries(database) == 0)
    with contextlib.ExitStack() as stack:
        again = [ask(server, f"{EXPORTS}/csv?dataset=pg.small") for _ in range(POOL)]
        for client in again:
            stack.enter_context(client)
            assert client.recv(12).endswith(b"200")
    assert {get(server, f"{EXPORTS}/csv?dataset=pg.small").body for _ in range(POOL + 1)} == {b"id\n7\n"}
