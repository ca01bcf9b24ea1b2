"""SIGHUP after a migration, on real servers: what is read again, and what does not end by it."""

from __future__ import annotations

import os
import pty
import signal
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from tests.conformance.servers import ENVIRONMENT, ROOT, Server, eventually, get, running
from tests.ports import free_port
from tests.redis_server import RedisServer

CSV = "/api/v1/exports/csv"
READ_AGAIN = "SIGHUP: the catalogue is read again"


def change(path: Path, statement: str) -> Path:
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute(statement)
    return path


@pytest.mark.parametrize("kind", ["uvicorn", "hypercorn"])
def test_a_hang_up_has_the_catalogue_read_again(tmp_path: Path, kind: str) -> None:
    path = change(tmp_path / "shop.db", "CREATE TABLE orders(id)")
    command = ["asgi_export", "serve", str(path), "--port", "0", "--server", kind]
    with running(command, tmp_path / "log", environ={"ASGI_EXPORT_CATALOGUE_SECONDS": "86400"}) as server:
        assert get(server, CSV).body == b"id\n"
        change(path, "ALTER TABLE orders ADD COLUMN item")
        server.process.send_signal(signal.SIGHUP)
        assert eventually(lambda: get(server, CSV).body == b"id,item\n")
        assert server.process.poll() is None


def test_a_hang_up_reaches_every_worker(tmp_path: Path, redis_server: RedisServer) -> None:
    path = change(tmp_path / "shop.db", "CREATE TABLE orders(id)")
    command = ["asgi_export", "serve", str(path), "--port", "0", "--workers", "2", "--limiter", redis_server.url]
    environ = {"ASGI_EXPORT_CATALOGUE_SECONDS": "86400", "ASGI_EXPORT_LIMIT": "1000000/60s"}
    with running(command, tmp_path / "log", environ=environ) as server:
        change(path, "ALTER TABLE orders ADD COLUMN item")

        def hung_up() -> bool:
            server.process.send_signal(signal.SIGHUP)
            return server.log().count(READ_AGAIN) >= 2

        assert eventually(hung_up, 30)
        assert eventually(lambda: {get(server, CSV).body for _ in range(20)} == {b"id,item\n"}, 30)
        assert "another one is started" not in server.log()


def test_a_terminal_that_is_closed_ends_the_service_and_a_signal_alone_does_not(tmp_path: Path) -> None:
    path = change(tmp_path / "shop.db", "CREATE TABLE orders(id)")
    output = tmp_path / "log"
    ours, theirs = pty.openpty()
    with output.open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "asgi_export", "serve", str(path), "--port", str(port := free_port())],
            cwd=ROOT,
            env={**ENVIRONMENT, "PYTHONUNBUFFERED": "1"},
            stdin=theirs,
            stdout=log,
            stderr=subprocess.STDOUT,
        )
    os.close(theirs)
    server = Server(port, process, output)
    try:
        assert eventually(lambda: b"curl" in output.read_bytes(), 30)
        assert get(server, CSV).body == b"id\n"
        process.send_signal(signal.SIGHUP)
        assert server.logged(READ_AGAIN)
        assert process.poll() is None
        os.close(ours)
        process.send_signal(signal.SIGHUP)
        assert process.wait(20) == 0
    finally:
        process.kill()
        process.wait()
