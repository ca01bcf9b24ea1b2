"""A real PgBouncer for the tests, the one that is installed, before the PostgreSQL of `tests.postgres_server`.

Where it is not installed the test is skipped with the reason, or fails where the environment says `CI=true`.
"""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from tests.ports import free_port
from tests.postgres_server import PASSWORD, PostgresServer, identity_for

OPTIONS = {
    "listen_addr": "127.0.0.1",
    "unix_socket_dir": "",
    "auth_type": "plain",
    "default_pool_size": "2",
    "server_login_retry": "1",
    "logfile": "",
}

PROGRAM = "pgbouncer"
START_SECONDS = 10.0


@dataclass(frozen=True, slots=True)
class PgBouncer:
    """A pooler that listens on a port."""

    port: int
    process: subprocess.Popen[Any]

    def dsn(self, database: str, *, user: str, password: str = PASSWORD) -> str:
        return f"postgresql://{user}:{quote(password, safe='')}@127.0.0.1:{self.port}/{quote(database)}"


@contextmanager
def pgbouncer(server: PostgresServer, *, users: list[str], **options: str) -> Iterator[PgBouncer]:
    """A running PgBouncer with these options (`pool_mode="transaction"`), ended afterwards."""
    program = shutil.which(PROGRAM, path=f"{os.environ.get('PATH', '')}:/usr/sbin")
    if program is None:
        (pytest.fail if os.environ.get("CI") == "true" else pytest.skip)(f"apt-get install {PROGRAM}")
    folder = Path(tempfile.mkdtemp(prefix="asgi-export-pgbouncer-"))
    port = free_port()
    identity = identity_for(folder)
    _configure(folder, server, users, {**OPTIONS, **options, "listen_port": str(port)})
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            [program, str(folder / "pgbouncer.ini")], cwd="/", stdout=log, stderr=log, **identity
        )
    try:
        _wait_until_it_listens(process, port, folder / "log")
        yield PgBouncer(port, process)
    finally:
        process.terminate()
        process.wait(10)
        shutil.rmtree(folder)


def _configure(folder: Path, server: PostgresServer, users: list[str], options: Mapping[str, str]) -> None:
    lines = ["[databases]", f"* = host=127.0.0.1 port={server.port}", "[pgbouncer]"]
    lines += [f"{name} = {value}" for name, value in options.items()]
    lines += [f"auth_file = {folder / 'users'}"]
    (folder / "pgbouncer.ini").write_text("\n".join(lines) + "\n")
    (folder / "users").write_text("".join(f'"{user}" "{PASSWORD}"\n' for user in users))


def _wait_until_it_listens(process: subprocess.Popen[Any], port: int, log: Path) -> None:
    while process.poll() is None:
        with suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=START_SECONDS):
            return
        with suppress(subprocess.TimeoutExpired):
            process.wait(0.02)
    raise AssertionError(f"PgBouncer ends at its start: {log.read_text()[-500:]}")
