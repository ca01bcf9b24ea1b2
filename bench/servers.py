"""What the benches share: a server in a process of its own, a client that discards, and resident memory.

Linux only, for /proc. Servers run on this machine, so a client's work is in every figure; it is the same
client for both sides of a comparison.
"""

from __future__ import annotations

import os
import socket
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from http.client import HTTPConnection
from pathlib import Path
from tempfile import TemporaryDirectory, TemporaryFile

from asgi_export.sources.simulated import SimulatedDataset, blocks
from asgi_export.table import Selection

SERVERS = ("uvicorn", "hypercorn")
EXPORT = "/api/v1/exports/csv"
READY_SECONDS = 30.0
BUFFER_BYTES = 1024 * 1024
ROOT = Path(__file__).resolve().parent.parent


@dataclass(frozen=True, slots=True)
class Server:
    """A server that answers on `port`; `lines` is what it prints."""

    process: subprocess.Popen[str]
    port: int

    @property
    def lines(self) -> Iterator[str]:
        assert self.process.stdout is not None
        return self.process.stdout

    def resident_bytes(self) -> int:
        """Resident memory now."""
        return self._kibibytes("VmRSS") * 1024

    def peak_bytes(self) -> int:
        """The most that has been resident since the start, counted by the kernel. proc(5), VmHWM."""
        return self._kibibytes("VmHWM") * 1024

    def _kibibytes(self, name: str) -> int:
        for line in Path(f"/proc/{self.process.pid}/status").read_text().splitlines():
            if line.startswith(name + ":"):
                return int(line.split()[1])
        raise LookupError(name)


@contextmanager
def serve(command: Sequence[str], port: int, *, ready: str, env: Mapping[str, str] | None = None) -> Iterator[Server]:
    """Run a server until the end of the block. `ready` is a path that is answered when it has started."""
    with TemporaryFile("w+") as log:
        process = subprocess.Popen(
            command, cwd=ROOT, env={**os.environ, **(env or {})}, stdout=subprocess.PIPE, stderr=log, text=True
        )
        try:
            if not _is_ready(process, port, ready):
                log.seek(0)
                raise RuntimeError(f"{command} did not start: {log.read()[-2000:]}")
            yield Server(process, port)
        finally:
            _end(process)


def _is_ready(process: subprocess.Popen[str], port: int, path: str) -> bool:
    deadline = time.monotonic() + READY_SECONDS
    while time.monotonic() < deadline and process.poll() is None:
        try:
            discard(port, path)
        except ConnectionError:
            time.sleep(0.05)
        else:
            return True
    return False


def _end(process: subprocess.Popen[str]) -> None:
    process.terminate()
    try:
        process.wait(timeout=20)
    except subprocess.TimeoutExpired:
        process.kill()
    process.communicate()


@contextmanager
def serve_ours(*sources: str, server: str = "uvicorn") -> Iterator[Server]:
    """`asgi-export serve` as a user runs it, with a limit that is never met."""
    port = free_port()
    flags = ["--port", str(port), "--server", server, "--limit", "1000000/60s"]
    command = [sys.executable, "-m", "asgi_export", "serve", *sources, *flags]
    with serve(command, port, ready="/healthz") as found:
        yield found


def free_port() -> int:
    """A port that was free a moment ago."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        return int(listening.getsockname()[1])


def request(port: int, path: str) -> socket.socket:
    """A connection on which `path` has been asked for."""
    connection = socket.create_connection(("127.0.0.1", port))
    connection.sendall(f"GET {path} HTTP/1.1\r\nHost: bench\r\nConnection: close\r\n\r\n".encode())
    return connection


def discard(port: int, path: str) -> int:
    """Read a whole answer and drop it: its bytes. Raises `ConnectionError` for a refusal or half an answer."""
    buffer = bytearray(BUFFER_BYTES)
    view = memoryview(buffer)
    with request(port, path) as connection:
        size = connection.recv_into(buffer)
        head = bytes(buffer[:size])
        tail = head[-8:]
        total = size
        while size := connection.recv_into(buffer):
            total += size
            tail = (tail + bytes(view[max(0, size - 8) : size]))[-8:]
    if b" 200 " not in head[:20]:
        raise ConnectionError(f"{path}: {head[:300]!r}")
    if b"\r\ntransfer-encoding: chunked" in head.lower() and not tail.endswith(b"\r\n0\r\n\r\n"):
        raise ConnectionError(f"{path}: half an answer")
    return total


def count_lines(port: int, path: str) -> int:
    """Line feeds in a whole answer: shows that two sides send the same rows."""
    with closing(HTTPConnection("127.0.0.1", port)) as connection:
        connection.request("GET", path)
        return connection.getresponse().read().count(b"\n")


def seconds_of(port: int, path: str) -> float:
    """How long a whole answer takes, connecting included."""
    began = time.perf_counter()
    discard(port, path)
    return time.perf_counter() - began


@contextmanager
def sqlite_file(rows: int, table: str = "users") -> Iterator[Path]:
    """A SQLite file with one table of the four columns of `simulated`, in a folder that is removed after."""
    names = tuple(column.name for column in SimulatedDataset().columns)
    with TemporaryDirectory(prefix="asgi-export-bench-") as folder:
        path = Path(folder, "bench.db")
        with closing(sqlite3.connect(path)) as connection:
            columns = "id INTEGER PRIMARY KEY, name TEXT, value TEXT, created_at TEXT"
            connection.execute(f"CREATE TABLE {table} ({columns})")
            for block in blocks(Selection(names, rows)):
                connection.executemany(f"INSERT INTO {table} VALUES (?, ?, ?, ?)", block)
            connection.commit()
        yield path
