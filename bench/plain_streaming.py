"""What does an export cost beside a plain `StreamingResponse` that yields one row at a time?

All sides stream the same table of SQLite, on uvicorn in a process of its own: `asgi-export serve`, and a Starlette
application whose generator writes each row with `csv.writer` and yields its line. Its sync generator goes through a
worker thread at each row; its async generator does not, and holds the event loop while SQLite reads. Unit: seconds of
wall time, and of processor time of the server, for 200,000 rows of four columns to a client that discards, connecting
included; medians of 5, the sides alternating.

Decided: nothing; it is the row of figures in the README that most readers can compare with code of their own.

    python -m bench.plain_streaming
"""

from __future__ import annotations

import csv
import io
import os
import sqlite3
import sys
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from statistics import median

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import StreamingResponse
from starlette.routing import Route

from bench.servers import EXPORT, Server, count_lines, free_port, seconds_of, serve, serve_ours, sqlite_file

ROWS = 200_000
REPEATS = 5
FILE = "PLAIN_STREAMING_FILE"
"""The environment variable that names the SQLite file to the plain application."""

Times = tuple[float, float]
"""Wall and processor time in seconds."""


def lines(path: str) -> Iterator[str]:
    """The table as CSV, one line a row."""
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    with closing(sqlite3.connect(path)) as connection:
        cursor = connection.execute("SELECT * FROM users")
        writer.writerow([column[0] for column in cursor.description])
        for row in cursor:
            writer.writerow(row)
            yield buffer.getvalue()
            buffer.seek(0)
            buffer.truncate()
    yield buffer.getvalue()


async def async_lines(path: str) -> AsyncIterator[str]:
    """The same, without a thread."""
    for line in lines(path):
        yield line


async def in_threads(_request: Request) -> StreamingResponse:
    """Answer with a sync generator."""
    return StreamingResponse(lines(os.environ[FILE]), media_type="text/csv")


async def on_the_loop(_request: Request) -> StreamingResponse:
    """Answer with an async generator."""
    return StreamingResponse(async_lines(os.environ[FILE]), media_type="text/csv")


app = Starlette(routes=[Route("/sync", in_threads), Route("/async", on_the_loop)])


@contextmanager
def serve_plain(path: Path) -> Iterator[Server]:
    """Run the plain application on the same file."""
    port = free_port()
    command = [sys.executable, "-m", "uvicorn", "bench.plain_streaming:app", "--port", str(port), "--http", "h11"]
    with serve([*command, "--no-access-log"], port, ready="/async", env={FILE: str(path)}) as server:
        yield server


def processor_seconds(server: Server) -> float:
    """Processor time of a server so far, user and system. proc(5), fields 14 and 15 of stat."""
    fields = Path(f"/proc/{server.process.pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def times_of(server: Server, path: str) -> Times:
    """What one whole answer costs."""
    before = processor_seconds(server)
    wall = seconds_of(server.port, path)
    return wall, processor_seconds(server) - before


def medians(turns: Sequence[Times]) -> Times:
    """The median of each kind of time."""
    wall, processor = zip(*turns, strict=True)
    return median(wall), median(processor)


def main() -> None:
    """Compare the sides, and print the ratios."""
    print(f"{ROWS:,} rows, {os.cpu_count()} cores, medians of {REPEATS}", flush=True)
    with sqlite_file(ROWS) as file, serve_ours(str(file)) as ours, serve_plain(file) as plain:
        sides = {"ours": (ours, EXPORT), "sync generator": (plain, "/sync"), "async generator": (plain, "/async")}
        for server, path in sides.values():
            if count_lines(server.port, path) != ROWS + 1:
                raise SystemExit(f"{path}: expected {ROWS} rows and a header")
        turns = [[times_of(*side) for side in sides.values()] for _ in range(REPEATS)]
    found = dict(zip(sides, map(medians, zip(*turns, strict=True)), strict=True))
    wall, processor = found["ours"]
    for name, times in found.items():
        ratios = f"{times[0] / wall:5.1f}x wall {times[1] / processor:5.1f}x processor"
        print(f"{name:16} {times[0]:7.3f} s wall {times[1]:7.3f} s processor {ratios}", flush=True)


if __name__ == "__main__":
    main()
