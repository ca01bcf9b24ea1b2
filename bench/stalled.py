"""What do stalled clients of files and databases cost, and what do Parquet exports leave to others?

- resident memory of a client that has asked for an export and reads nothing, MB, of 8 (Parquet, PostgreSQL);
- seconds of a fresh Parquet export beside 64 stalled ones, next to the same alone: medians of 5, alternating in
  blocks, as the stalled ones cannot come and go in between;
- `/healthz` while four Parquet exports run flat out, milliseconds at the 99th percentile.

A table of 1,000,000 rows and four columns.

    python -m bench.stalled
"""

from __future__ import annotations

import threading
import time
from contextlib import ExitStack, contextmanager
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

from bench.engines import load_postgres, table
from bench.latency import health
from bench.memory import slow_client
from bench.servers import EXPORT, discard, seconds_of, serve_ours
from tests.postgres_server import running_server

PARQUET_TARGET_MB = 12.0
POSTGRES_TARGET_MB = 1.0
SPEED_TARGET = 0.7
HEALTH_TARGET_MS = 50.0
MEGABYTE = 1_000_000
CLIENTS = 8
"""Fewer than the connections that a pool holds."""


def report(what: str, value: float, unit: str, target: float, *, at_least: bool = False) -> None:
    """One line with the target."""
    met = value >= target if at_least else value <= target
    print(f"{what:52} {value:8.2f} {unit:3} target {target:g} {'met' if met else 'MISSED'}", flush=True)


def stalled_memory(what: str, query: str, target: float, source: str) -> None:
    """Growth for `CLIENTS` clients that read nothing, a client."""
    with serve_ours(source) as server, ExitStack() as stack:
        discard(server.port, f"{EXPORT}?{query}")
        idle = server.resident_bytes()
        for _ in range(CLIENTS):
            stack.enter_context(slow_client(server, query))
        time.sleep(3)
        grown = (server.resident_bytes() - idle) / CLIENTS / MEGABYTE
        report(f"a stalled client of {what}", grown, "MB", target)


def beside_stalled(file: Path) -> None:
    """A fresh export alone, and beside 64 that are stalled."""
    with serve_ours(str(file)) as server:
        seconds_of(server.port, EXPORT)
        alone = median([seconds_of(server.port, EXPORT) for _ in range(5)])
        with ExitStack() as stack:
            for _ in range(64):
                stack.enter_context(slow_client(server, "header=true"))
            time.sleep(3)
            beside = median([seconds_of(server.port, EXPORT) for _ in range(5)])
    report("speed beside 64 stalled exports, of that alone", alone / beside, "", SPEED_TARGET, at_least=True)


def health_beside_exports(file: Path) -> None:
    """`/healthz` beside four exports."""
    with serve_ours(str(file)) as server:
        stop = threading.Event()

        def run() -> None:
            while not stop.is_set():
                discard(server.port, EXPORT)

        clients = [threading.Thread(target=run) for _ in range(4)]
        for client in clients:
            client.start()
        time.sleep(0.5)
        report("/healthz beside 4 Parquet exports, 99th percentile", health(server.port), "ms", HEALTH_TARGET_MS)
        stop.set()
        for client in clients:
            client.join()


def main() -> None:
    """All of it."""
    with TemporaryDirectory(prefix="asgi-export-bench-") as name:
        folder = Path(name)
        folder.chmod(0o755)
        file = folder / "table.parquet"
        table(4).write_parquet(file)
        stalled_memory("Parquet", "header=true", PARQUET_TARGET_MB, str(file))
        beside_stalled(file)
        health_beside_exports(file)
        with contextmanager(running_server)() as database:
            load_postgres(4, database, folder)
            stalled_memory("PostgreSQL", "dataset=table4", POSTGRES_TARGET_MB, database.dsn())


if __name__ == "__main__":
    main()
