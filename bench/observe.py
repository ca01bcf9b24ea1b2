"""What do request id, access log and metrics cost an export?

- 1,000,000 rows of Parquet (four columns) to CSV over HTTP, to a client that discards;
- 2,000 exports of ten made-up rows, over eight connections that are kept.

The whole service on uvicorn, its log going to /dev/null, next to the same without `Observe`, in one process; seconds,
medians of 15, the sides alternating. The cost is the share of the bare one's speed that is lost; the target goes by
the processor time that the server took, since what else this machine does is not in there.

Decided: label children of metrics are kept, requests are counted by 64 at once, only a path that names a probe is
read for one, and the access line is logged without looking up who logs it.

    python -m bench.observe
"""

from __future__ import annotations

import selectors
import socket
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

from bench.engines import table
from bench.servers import EXPORT, Server, free_port, seconds_of, serve

REPEATS = 15
CONNECTIONS = 8
EXPORTS = 2000
ROWS_TARGET = 0.05
EXPORTS_TARGET = 0.10

Act = Callable[[int, str], float]
"""Something done to the server at a port, with a key: how long it took."""


@contextmanager
def serve_both(*sources: str) -> Iterator[Server]:
    """`half_observed`, with the options of `asgi-export serve`."""
    port = free_port()
    options = ["--port", str(port), "--http", "h11", "--no-access-log", "--log-level", "warning"]
    start = ["sh", "-c", 'exec "$0" -m uvicorn "$@" 2> /dev/null', sys.executable, "bench.half_observed:app"]
    env = {"ASGI_EXPORT_SOURCES": " ".join(sources), "ASGI_EXPORT_LIMIT": "100000000/60s"}
    with serve([*start, *options], port, ready="/healthz", env=env) as found:
        yield found


def large_export(port: int, key: str) -> float:
    """Seconds of a whole table."""
    return seconds_of(port, f"{EXPORT}?dataset=table&apiKey={key}")


def small_exports(port: int, key: str) -> float:
    """Seconds of `EXPORTS` of ten rows, each connection asking again as soon as it has its answer."""
    ask = f"GET {EXPORT}?dataset=simulated&total=10&apiKey={key} HTTP/1.1\r\nHost: bench\r\n\r\n".encode()
    with ExitStack() as stack, selectors.DefaultSelector() as selector:
        for _ in range(CONNECTIONS):
            connection = stack.enter_context(socket.create_connection(("127.0.0.1", port)))
            selector.register(connection, selectors.EVENT_READ, bytearray())
            connection.sendall(ask)
        began, done = time.perf_counter(), 0
        while done < EXPORTS:
            for ready, _ in selector.select():
                done += answered(ready, ask)
        return time.perf_counter() - began


def answered(ready: selectors.SelectorKey, ask: bytes) -> bool:
    """Read on; where the answer is whole, ask again. Raises `ConnectionError` for another one than expected."""
    connection, answer = ready.fileobj, ready.data
    assert isinstance(connection, socket.socket)
    answer += connection.recv(65536)
    if not answer.endswith(b"\r\n0\r\n\r\n"):
        return False
    if not answer.startswith(b"HTTP/1.1 200"):
        raise ConnectionError(bytes(answer[:300]))
    answer.clear()
    connection.sendall(ask)
    return True


def processor_seconds(server: Server) -> float:
    """What a server has taken since its start, all threads of it. Linux, sched-stats."""
    threads = Path(f"/proc/{server.process.pid}/task").glob("*/schedstat")
    return sum(int(file.read_text().split()[0]) for file in threads) / 1e9


def measured(server: Server, act: Act, key: str) -> tuple[float, float]:
    """Seconds by the clock and of the processor."""
    before = processor_seconds(server)
    seconds = act(server.port, key)
    return seconds, processor_seconds(server) - before


def compare(what: str, server: Server, act: Act, target: float) -> None:
    """One line with the target."""
    turns = [(measured(server, act, "K"), measured(server, act, "bare")) for _ in range(REPEATS + 1)][1:]
    observed, bare = [[median(figures) for figures in zip(*side, strict=True)] for side in zip(*turns, strict=True)]
    by_clock, by_processor = [1 - less / more for more, less in zip(observed, bare, strict=True)]
    verdict = "met" if by_processor <= target else "MISSED"
    print(f"{what:26} {observed[0]:.3f} s, without {bare[0]:.3f} s: cost {by_clock:5.1%}, ", end="")
    print(f"of processor time {by_processor:5.1%}   target {target:.0%} {verdict}", flush=True)


def main() -> None:
    """Both figures."""
    with TemporaryDirectory(prefix="asgi-export-bench-") as folder:
        file = Path(folder, "table.parquet")
        table(4).write_parquet(file)
        with serve_both("simulated", str(file)) as server:
            compare("1,000,000 rows of Parquet", server, large_export, ROWS_TARGET)
            compare(f"{EXPORTS:,} ten-row exports", server, small_exports, EXPORTS_TARGET)


if __name__ == "__main__":
    main()
