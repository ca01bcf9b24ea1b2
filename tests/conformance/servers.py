"""Real servers in processes of their own, and real sockets to talk to them."""

from __future__ import annotations

import contextlib
import os
import re
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

START_SECONDS = 30.0
END_SECONDS = 20.0
ROOT = Path(__file__).parent.parent.parent

ENVIRONMENT = {name: value for name, value in os.environ.items() if not name.startswith(("ASGI_EXPORT_", "PORT"))}


def eventually(condition: Callable[[], object], seconds: float = 10.0) -> bool:
    """Whether a condition comes true in time; looked at again and again."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if condition():
            return True
        time.sleep(0.01)
    return bool(condition())


@dataclass(slots=True)
class Server:
    """A running server: its port, its process, and the file that has what it printed."""

    port: int
    process: subprocess.Popen[bytes]
    output: Path
    name: str = ""
    stopped: bool = field(default=False)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def log(self) -> str:
        return self.output.read_text(encoding="utf-8", errors="replace")

    def logged(self, text: str) -> bool:
        """Whether the text is, or soon will be, in what the server printed."""
        return eventually(lambda: text in self.log())

    def access_lines(self, request_id: str) -> list[str]:
        """The lines of the access log about one request: one, once it has ended."""
        found = [line for line in self.log().splitlines() if f"request_id={request_id} " in line]
        return [line for line in found if " asgi_export.access " in line]

    def stop(self, number: int = signal.SIGTERM, seconds: float = END_SECONDS) -> int:
        """Send a signal, and wait for the end: the exit code."""
        self.stopped = True
        self.process.send_signal(number)
        return self.process.wait(seconds)


@contextlib.contextmanager
def running(
    command: Sequence[str],
    output: Path,
    *,
    port: int | None = None,
    environ: Mapping[str, str] | None = None,
    cwd: Path = ROOT,
    ready: Callable[[Server], bool] | None = None,
) -> Iterator[Server]:
    """Run a command that serves on `port`, or that prints the address it serves on; afterwards stop it.

    It is ready when `ready` says so, or answers `/healthz`.
    """
    with output.open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", *command],
            cwd=cwd,
            env={**ENVIRONMENT, "PYTHONUNBUFFERED": "1", **(environ or {})},
            stdout=log,
            stderr=subprocess.STDOUT,
        )
    try:
        server = Server(port or _printed_port(process, output), process, output, command[0])
        assert eventually(lambda: (ready or _answers)(server), START_SECONDS), output.read_text()
        yield server
    finally:
        if process.poll() is None:
            process.terminate()
            try:
                process.wait(END_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
                raise


def _printed_port(process: subprocess.Popen[bytes], output: Path) -> int:
    def found() -> re.Match[str] | None:
        return re.search(r"on http://[^:]+:(\d+)", output.read_text(encoding="utf-8", errors="replace"))

    assert eventually(lambda: found() or process.poll() is not None, START_SECONDS)
    match = found()
    assert match, output.read_text()
    return int(match[1])


def _answers(server: Server) -> bool:
    if server.process.poll() is not None:
        raise AssertionError(f"the server ended: {server.log()}")
    with contextlib.suppress(OSError), connect(server) as client:
        client.sendall(b"GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        return client.recv(12).endswith(b"200")
    return False


def connect(server: Server, *, receive_buffer: int | None = None) -> socket.socket:
    """A connection; a small buffer makes back-pressure show after less."""
    client = socket.socket()
    if receive_buffer is not None:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
    client.settimeout(20)
    try:
        client.connect(("127.0.0.1", server.port))
    except OSError:
        client.close()
        raise
    return client


def ask(server: Server, target: str, *, method: str = "GET", headers: str = "") -> socket.socket:
    """A connection on which a request has been sent."""
    client = connect(server, receive_buffer=4096)
    client.sendall(f"{method} {target} HTTP/1.1\r\nHost: x\r\n{headers}\r\n".encode("latin-1"))
    return client


def readable(client: socket.socket, seconds: float = 10.0) -> bool:
    return bool(select.select([client], [], [], seconds)[0])


@dataclass(frozen=True, slots=True)
class Answer:
    """One answer as it stood on the wire."""

    status: int
    headers: dict[str, str]
    body: bytes


def raw(server: Server, request: bytes) -> bytes:
    """Everything that comes back for these bytes until the server closes."""
    with connect(server) as client:
        client.sendall(request)
        client.settimeout(20)
        parts: list[bytes] = []
        while part := client.recv(65536):
            parts.append(part)
        return b"".join(parts)


def get(server: Server, target: str, *, method: str = "GET", headers: str = "", version: str = "1.1") -> Answer:
    """One request on a connection of its own."""
    data = raw(
        server,
        f"{method} {target} HTTP/{version}\r\nHost: x\r\nConnection: close\r\n{headers}\r\n".encode("latin-1"),
    )
    top, _, body = data.partition(b"\r\n\r\n")
    status_line, *lines = top.decode("latin-1").split("\r\n")
    pairs = [line.partition(":") for line in lines]
    found = {name.lower(): value.strip() for name, _, value in pairs}
    if method != "HEAD" and found.get("transfer-encoding") == "chunked":
        body = unchunked(body)
    return Answer(int(status_line.split()[1]), found, body)


def unchunked(data: bytes) -> bytes:
    """The content of a chunked body. RFC 9112 §7.1."""
    parts: list[bytes] = []
    while data:
        size, _, data = data.partition(b"\r\n")
        length = int(size, 16)
        if not length:
            return b"".join(parts)
        parts.append(data[:length])
        data = data[length + 2 :]
    raise AssertionError("the body has no final chunk")


def curl(url: str, *options: str, seconds: float = 60) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(["curl", "-s", *options, url], capture_output=True, timeout=seconds, check=False)
