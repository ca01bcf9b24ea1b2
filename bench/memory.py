"""What does an export cost in memory, a long one and five hundred slow ones at once?

Unit: resident bytes of the server process over idle, after a warm-up export; the peak is the kernel's own
(VmHWM). The slow clients read 1 KiB a second with a small receive buffer, of which the server sees a client that
takes nothing. Once each: memory does not scatter as time does.

Decided: chunks of 64 KiB, rows of a batch dropped before their text is sent, 500 made-up rows a batch.

    python -m bench.memory
"""

from __future__ import annotations

import resource
import socket
import time
from contextlib import ExitStack, suppress

from bench.servers import EXPORT, SERVERS, Server, discard, serve_ours, sqlite_file

ROWS = 10_000_000
PEAK_TARGET = 32 * 1024 * 1024
CLIENTS = 500
CLIENT_TARGET = 256 * 1024
SLOW_SECONDS = 8
TABLE_ROWS = 1_000_000


def report(what: str, server: str, value: int, target: int) -> None:
    """One line with the target."""
    verdict = "met" if value <= target else "MISSED"
    print(f"{what:34} {server:10} {value / 1024:10,.0f} KiB   target {target / 1024:,.0f} KiB {verdict}", flush=True)


def peak(name: str) -> None:
    """One long export."""
    with serve_ours(server=name) as server:
        discard(server.port, f"{EXPORT}?total=100000")
        idle = server.resident_bytes()
        discard(server.port, f"{EXPORT}?total={ROWS}")
        report(f"peak of {ROWS:,} simulated rows", name, server.peak_bytes() - idle, PEAK_TARGET)


def slow_clients(name: str, what: str, query: str, *sources: str) -> None:
    """Many exports at once, whose clients read 1 KiB a second."""
    with serve_ours(*sources, server=name) as server, ExitStack() as stack:
        for _ in range(20):
            discard(server.port, f"{EXPORT}?{query}&total=20000")
        idle = server.resident_bytes()
        clients = [stack.enter_context(slow_client(server, query)) for _ in range(CLIENTS)]
        for _ in range(SLOW_SECONDS):
            time.sleep(1)
            for client in clients:
                with suppress(BlockingIOError):
                    client.recv(1024)
        grown = server.resident_bytes() - idle
        report(f"a slow client of {what}, of {CLIENTS}", name, grown // CLIENTS, CLIENT_TARGET)


def slow_client(server: Server, query: str) -> socket.socket:
    """A client with a small receive buffer, which has asked for a long export."""
    client = socket.socket()
    client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    client.connect(("127.0.0.1", server.port))
    client.sendall(f"GET {EXPORT}?{query}&total=100000000 HTTP/1.1\r\nHost: bench\r\n\r\n".encode())
    client.setblocking(False)
    return client


def main() -> None:
    """Both questions on both servers."""
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    with sqlite_file(TABLE_ROWS) as file:
        for name in SERVERS:
            peak(name)
            slow_clients(name, "simulated", "dataset=simulated", "simulated")
            slow_clients(name, "SQLite", "dataset=users", str(file))


if __name__ == "__main__":
    main()
