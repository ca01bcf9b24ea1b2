"""How fast does a whole export go, next to what people use today?

`simulated` against Express with csv-stringify (`bench/peers/express/`); a SQLite file of the same four columns
against Datasette's `?_stream=on`, and against the `sqlite3` shell, which has no HTTP to do. Unit: seconds for
1,000,000 rows to a client that discards, connecting included; medians of 5, the sides alternating.

Decided: rows are formatted a batch at a time, not by `csv.writer` (0.18 µs a row against 0.52); 500 simulated
rows a batch. What is left of a simulated export is 0.10 s making rows, 0.18 s text, 0.04 s server and socket.

    python -m bench.throughput
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median

from bench.servers import EXPORT, ROOT, Server, count_lines, free_port, seconds_of, serve, serve_ours, sqlite_file

ROWS = 1_000_000
REPEATS = 5
EXPRESS_TARGET = 10.0
DATASETTE_TARGET = 8.0
EXPRESS = ROOT / "bench" / "peers" / "express"

Side = Callable[[], float]


@contextmanager
def express() -> Iterator[Server]:
    """The peer, with its modules installed where they are missing."""
    if not (EXPRESS / "node_modules").is_dir():
        subprocess.run(["npm", "ci", "--silent"], cwd=EXPRESS, check=True)
    port = free_port()
    environ = {"PORT": str(port), "NODE_ENV": "production"}
    command = ["node", str(EXPRESS / "server.mjs")]
    with serve(command, port, ready=f"{EXPORT}?total=1", env=environ) as server:
        yield server


@contextmanager
def datasette(path: Path) -> Iterator[Server]:
    """Datasette on the same file, with every bound lifted and pages as large as it likes best."""
    port = free_port()
    bounds = {"max_returned_rows": "10000", "max_csv_mb": "0", "sql_time_limit_ms": "600000"}
    settings = [word for name, value in bounds.items() for word in ("--setting", name, value)]
    command = [sys.executable, "-m", "datasette", "serve", "--immutable", str(path), "--port", str(port), *settings]
    with serve(command, port, ready="/-/versions.json") as server:
        yield server


def shell_seconds(path: Path) -> float:
    """How long the `sqlite3` shell takes to write the table to nowhere."""
    began = time.perf_counter()
    command = ["sqlite3", "-readonly", "-csv", "-header", str(path), "SELECT * FROM users"]
    subprocess.run(command, stdout=subprocess.DEVNULL, check=True)
    return time.perf_counter() - began


def medians(*sides: Side) -> list[float]:
    """The sides one after another, `REPEATS` times: the median of each."""
    turns = [[side() for side in sides] for _ in range(REPEATS)]
    return [median(times) for times in zip(*turns, strict=True)]


def expect_lines(port: int, path: str, rows: int) -> None:
    """Warms a side up, and stops a comparison of different work."""
    found = count_lines(port, path)
    if found != rows + 1:
        raise SystemExit(f"{path}: {found} lines; expected {rows} and a header")


def report(what: str, ours: float, peer: str, theirs: float, target: float | None = None) -> None:
    """One line, with the target where there is one."""
    ratio = theirs / ours
    verdict = "" if target is None else f"  target {target:g}x {'met' if ratio >= target else 'MISSED'}"
    print(f"{what:10} {ours:7.3f} s   {peer:13} {theirs:7.3f} s   {ratio:6.2f}x{verdict}", flush=True)


def simulated() -> None:
    """Against Express."""
    path = f"{EXPORT}?total={ROWS}"
    with serve_ours() as ours, express() as theirs:
        for server in (ours, theirs):
            expect_lines(server.port, path, ROWS)
        mine, peer = medians(lambda: seconds_of(ours.port, path), lambda: seconds_of(theirs.port, path))
    report("simulated", mine, "Express", peer, EXPRESS_TARGET)


def sqlite() -> None:
    """Against Datasette, and the shell beside it."""
    with sqlite_file(ROWS) as file, serve_ours(str(file)) as ours, datasette(file) as theirs:
        mine, peer = f"{EXPORT}?dataset=users", "/bench/users.csv?_stream=on&_size=max"
        expect_lines(ours.port, mine, ROWS)
        expect_lines(theirs.port, peer, ROWS)
        mine_seconds, peer_seconds, shell = medians(
            lambda: seconds_of(ours.port, mine),
            lambda: seconds_of(theirs.port, peer),
            lambda: shell_seconds(file),
        )
    report("sqlite", mine_seconds, "Datasette", peer_seconds, DATASETTE_TARGET)
    report("sqlite", mine_seconds, "sqlite3 -csv", shell)


def main() -> None:
    """Both comparisons; a peer that is not installed is named and left out."""
    print(f"{ROWS:,} rows, {os.cpu_count()} cores, medians of {REPEATS}", flush=True)
    simulated() if shutil.which("node") else print("simulated: node is not installed")
    sqlite() if shutil.which("sqlite3") else print("sqlite: the sqlite3 shell is not installed")


if __name__ == "__main__":
    main()
