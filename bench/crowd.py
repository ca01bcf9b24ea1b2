"""How many threads make the batches of many exports at once?

64 exports of 20,000 SQLite rows, in process, to clients that discard, by worker pools of 2 to 64 threads; and the
longest that the event loop was held up meanwhile. Seconds and milliseconds, medians of 5, the sides alternating.

Decided: 8 threads. More wait for the interpreter's lock, which SQLite takes anew for every row; fewer would leave
sources that wait, for a network or a disk, too few.

    python -m bench.crowd
"""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from statistics import median

from asgi_export.export.chunks import ChunkWriter, open_chunks
from asgi_export.formats import FORMATS
from asgi_export.sources.sqlite.source import SqliteSource
from asgi_export.table import Dataset, Dialect, Selection
from asgi_export.threads import THREADS, Workers
from bench.servers import sqlite_file

EXPORTS = 64
ROWS = 20_000
REPEATS = 5
SIDES = (2, 4, 8, 16, 32, 64)
LOOK_SECONDS = 0.001


async def export(dataset: Dataset, workers: Workers) -> None:
    """One of them, to its end."""
    names = tuple(column.name for column in dataset.columns)
    selection = Selection(names, ROWS)
    writer = ChunkWriter(FORMATS["csv"].encoder(dataset.columns, Dialect()))
    async with open_chunks(dataset.open(selection), writer, workers) as chunks:
        async for _ in chunks:
            pass


async def hold(longest: list[float]) -> None:
    """Puts the longest time for which the loop was held up into `longest`, until cancelled."""
    while True:
        began = time.perf_counter()
        await asyncio.sleep(LOOK_SECONDS)
        longest[0] = max(longest[0], time.perf_counter() - began - LOOK_SECONDS)


async def crowd(path: Path, threads: int) -> tuple[float, float]:
    """Seconds of all exports, and of the longest hold."""
    (dataset,) = await SqliteSource(path).start()
    workers, longest = Workers(threads), [0.0]
    holding = asyncio.create_task(hold(longest))
    began = time.perf_counter()
    await asyncio.gather(*[export(dataset, workers) for _ in range(EXPORTS)])
    seconds = time.perf_counter() - began
    holding.cancel()
    workers.close()
    return seconds, longest[0]


def main() -> None:
    """One line a pool."""
    with sqlite_file(ROWS) as path:
        turns = [[asyncio.run(crowd(path, threads)) for threads in SIDES] for _ in range(REPEATS)]
    found = [[median(figures) for figures in zip(*side, strict=True)] for side in zip(*turns, strict=True)]
    ours = found[SIDES.index(THREADS)][0]
    for threads, (seconds, longest) in zip(SIDES, found, strict=True):
        print(f"{threads:3} threads: {seconds:5.2f} s, {seconds / ours:4.2f} of {THREADS}; ", end="")
        print(f"loop held up to {longest * 1000:4.0f} ms")


if __name__ == "__main__":
    main()
