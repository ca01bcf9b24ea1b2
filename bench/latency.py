"""How soon does a first byte come, does the loop stay free, and how soon is a source closed?

- the first byte of an export, milliseconds, median of 50 connections;
- `/healthz` while eight exports run flat out, milliseconds at the 99th percentile of 300 requests;
- from a client's reset to the end of its export in the access log, milliseconds, the worst of 20.

Made-up rows (encoded on the loop) and SQLite (in threads), on both servers.

Decided: slices of 4096 cells on the loop; the first batch is one row.

    python -m bench.latency
"""

from __future__ import annotations

import re
import socket
import struct
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.client import HTTPConnection
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

from bench.servers import EXPORT, SERVERS, discard, free_port, request, serve, sqlite_file

FIRST_BYTE_TARGET = 10.0
HEALTH_TARGET = 50.0
CLOSE_TARGET = 250.0
EXPORTS = 8
PROBES = 300
CLOSES = 20
RESET = struct.pack("ii", 1, 0)
ENDED = re.compile(r"request_id=(\S+) .*ending=\"client left\"")


def report(what: str, where: str, value: float, target: float) -> None:
    """One line with the target."""
    verdict = "met" if value <= target else "MISSED"
    print(f"{what:44} {where:22} {value:8.1f} ms   target {target:g} ms {verdict}", flush=True)


def first_byte(port: int, query: str) -> float:
    """From connecting to the first byte of a body."""
    began = time.perf_counter()
    with request(port, f"{EXPORT}?{query}") as connection:
        data = b""
        while b"\r\n\r\n" not in data or data.endswith(b"\r\n\r\n"):
            data += connection.recv(4096)
    return (time.perf_counter() - began) * 1000


def health(port: int) -> float:
    """The 99th percentile of `/healthz` on one connection."""
    connection = HTTPConnection("127.0.0.1", port)
    times = []
    for _ in range(PROBES):
        began = time.perf_counter()
        connection.request("GET", "/healthz")
        connection.getresponse().read()
        times.append((time.perf_counter() - began) * 1000)
    connection.close()
    return sorted(times)[int(PROBES * 0.99)]


@contextmanager
def flat_out(port: int, query: str) -> Iterator[None]:
    """Clients that ask for one export after the other."""
    stop = threading.Event()

    def run() -> None:
        while not stop.is_set():
            discard(port, f"{EXPORT}?{query}&total=300000")

    clients = [threading.Thread(target=run) for _ in range(EXPORTS)]
    for client in clients:
        client.start()
    try:
        time.sleep(0.5)  # all of them are under way
        yield
    finally:
        stop.set()
        for client in clients:
            client.join()


def closing(port: int, query: str, log: Path) -> float:
    """From a client's reset to the line that says its source was left."""
    worst = 0.0
    for number in range(CLOSES):
        name = f"close-{query.partition('&')[0]}-{number}".replace("=", "-")
        connection = socket.create_connection(("127.0.0.1", port))
        head = f"GET {EXPORT}?{query} HTTP/1.1\r\nHost: bench\r\nX-Request-Id: {name}\r\n\r\n"
        connection.sendall(head.encode())
        connection.recv(4096)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
        connection.close()
        began = time.perf_counter()
        while not any(match[1] == name for match in ENDED.finditer(log.read_text())):
            time.sleep(0.001)
        worst = max(worst, (time.perf_counter() - began) * 1000)
    return worst


def measure(name: str, file: Path, folder: Path) -> None:
    """All three, of both sources, on one server."""
    port, log = free_port(), folder / f"{name}.log"
    command = ["sh", "-c", f'exec "$0" -m asgi_export serve "$@" 2> "{log}"', sys.executable, "simulated", str(file)]
    options = ["--port", str(port), "--server", name, "--limit", "1000000/60s"]
    with serve([*command, *options], port, ready="/healthz"):
        for dataset in ("simulated", "users"):
            query = f"dataset={dataset}"
            discard(port, f"{EXPORT}?{query}&total=1000")
            values = [first_byte(port, f"{query}&total=1000000") for _ in range(50)]
            report("first byte", f"{dataset}, {name}", median(values), FIRST_BYTE_TARGET)
            with flat_out(port, query):
                report(
                    "/healthz beside 8 exports, 99th percentile", f"{dataset}, {name}", health(port), HEALTH_TARGET
                )
            value = closing(port, f"{query}&total=100000000", log)
            report("reset to source closed, the worst", f"{dataset}, {name}", value, CLOSE_TARGET)


def main() -> None:
    """Both servers."""
    with sqlite_file(1_000_000) as file, TemporaryDirectory() as folder:
        for name in SERVERS:
            measure(name, file, Path(folder))


if __name__ == "__main__":
    main()
