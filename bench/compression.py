"""Which levels should gzip and zstd have?

CSV text in the chunks of a real export, 24 MiB at most, through one stream of each kind: 336,776 flights out of
SQLite, made-up rows, and random tokens that nothing makes small. CPU seconds, medians of 5, the sides alternating;
size and speed next to zlib at level 6; KiB are what one stream adds to a process that has fed it 2 MiB.

Decided: gzip at 3, zstd at 1, each on a scale from 1 to 9, of which isal writes gzip's 1 to 3. On flights and
made-up rows that is more than five times zlib's speed, at most 1.25 times its size, and zstd is both faster and
smaller. isal at 2 is nearly twice as fast for 3 % more bytes, but then no zstd is faster. On random tokens zstd at
1 is faster and 1 % larger; shorter matches (`min_match=5`, `hash_log=13`) would mend that, but make flights 9 %
larger and slower. A larger window makes made-up rows smaller, because they repeat, and nothing else. Levels below
1 are larger than gzip. Pieces of 16 KiB and of 256 KiB come to the same, pieces of 100 bytes cost isal its speed.

    python -m bench.compression
"""

from __future__ import annotations

import asyncio
import base64
import multiprocessing
import random
import resource
import time
import zlib
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

import zstandard
from isal import isal_zlib

from asgi_export import Selection, SimulatedDataset, SqliteSource, dataset
from asgi_export.asgi.coding import CODINGS, GZIP_WINDOW_BITS, CompressionLevels, Compressor, Gzip, Zstd
from asgi_export.export.chunks import ChunkWriter, open_chunks
from asgi_export.formats import FORMATS
from asgi_export.table import Dataset, Dialect
from asgi_export.threads import Workers
from tests.flights import flights_database

MOST_BYTES = 24 * 2**20
REPEATS = 5
STREAMS = 8
STREAM_BYTES = 2 * 2**20
SPEED_TARGET = 5.0
SIZE_TARGET = 1.25

Make = Callable[[], Compressor]


class Stream:
    """A library's stream that the service does not offer."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream

    def feed(self, data: bytes) -> bytes:
        return bytes(self._stream.compress(data))

    def flush(self) -> bytes:
        raise NotImplementedError

    def finish(self) -> bytes:
        return bytes(self._stream.flush())


def by_library(library: Any, level: int) -> Make:
    """A stream of zlib or isal."""
    return lambda: Stream(library.compressobj(level, zlib.DEFLATED, GZIP_WINDOW_BITS))


def by_parameters(**changes: int) -> Make:
    """A stream of zstd at 1 with something else."""
    parameters = zstandard.ZstdCompressionParameters.from_level(1, write_checksum=True, **changes)
    return lambda: Stream(zstandard.ZstdCompressor(compression_params=parameters).compressobj())


BASE = "zlib 6"
SIDES: Mapping[str, Make] = {
    BASE: lambda: Gzip(6),
    "gzip, the default": lambda: CODINGS["gzip"](CompressionLevels()),
    "zstd, the default": lambda: CODINGS["zstd"](CompressionLevels()),
    **{f"zlib {level}": by_library(zlib, level) for level in (1, 3)},
    **{f"isal {level}": by_library(isal_zlib, level) for level in range(4)},
    **{f"zstd {level}": partial(Zstd, level) for level in (-5, -1, 1, 2, 3, 4, 5, 9)},
    "zstd 1, window 2^17": by_parameters(window_log=17),
    "zstd 1, window 2^20": by_parameters(window_log=20),
    "zstd 1, hash 2^15": by_parameters(hash_log=15),
    "zstd 1, match 6": by_parameters(min_match=6),
    "zstd 1, match 5, hash 2^13": by_parameters(min_match=5, hash_log=13),
    "zstd 1, two hashes": by_parameters(strategy=zstandard.STRATEGY_DFAST),
}


@dataset(columns=["id", "token", "amount"])
def tokens() -> Any:
    """Rows that hold little but chance."""
    chance = random.Random(1)
    return ((number, base64.b64encode(chance.randbytes(24)).decode(), chance.random()) for number in range(400_000))


async def text_of(found: Dataset) -> list[bytes]:
    """The chunks of an export as CSV, as many as are wanted."""
    dialect = Dialect()
    selection = Selection(tuple(column.name for column in found.columns), None, dialect)
    writer = ChunkWriter(FORMATS["csv"].encoder(found.columns, dialect))
    workers, chunks, size = Workers(), [], 0
    async with open_chunks(found.open(selection), writer, workers) as opened:
        async for chunk in opened:
            chunks.append(chunk)
            size += len(chunk)
            if size >= MOST_BYTES:
                break
    workers.close()
    return chunks


def compressed(make: Make, chunks: Sequence[bytes]) -> tuple[float, int]:
    """CPU seconds, and bytes that come out."""
    began = time.thread_time()
    stream = make()
    size = sum(len(stream.feed(chunk)) for chunk in chunks) + len(stream.finish())
    return time.thread_time() - began, size


def kibibytes(name: str) -> int:
    """What a stream adds to a process of its own."""
    piece = "".join(random.Random(2).choices(["one,", "two,", "three\n"], k=STREAM_BYTES // 4)).encode()
    idle = resident_bytes()
    streams = [SIDES[name]() for _ in range(STREAMS)]
    for stream in streams:
        stream.feed(piece)
    return (resident_bytes() - idle) // STREAMS // 1024


def resident_bytes() -> int:
    """Of this process, now. proc(5), statm."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


def memory() -> dict[str, int]:
    """KiB by side, each in a process of its own."""
    with multiprocessing.get_context("spawn").Pool(1, maxtasksperchild=1) as pool:
        return dict(zip(SIDES, pool.map(kibibytes, SIDES, chunksize=1), strict=True))


def compare(title: str, chunks: Sequence[bytes], sizes: Mapping[str, int]) -> None:
    """One line a side, and the targets."""
    total = sum(map(len, chunks))
    print(f"\n{title}, {total / 1e6:.0f} MB in chunks of {median(map(len, chunks)) / 1024:.0f} KiB", flush=True)
    turns = [{name: compressed(make, chunks) for name, make in SIDES.items()} for _ in range(REPEATS)]
    seconds = {name: median(turn[name][0] for turn in turns) for name in SIDES}
    speed = {name: seconds[BASE] / seconds[name] for name in SIDES}
    size = {name: turns[0][name][1] / turns[0][BASE][1] for name in SIDES}
    for name in SIDES:
        rate = total / seconds[name] / 1e6
        print(f"{name:28} {rate:5.0f} MB/s  speed {speed[name]:5.2f}  size {size[name]:5.3f}  {sizes[name]:6} KiB")
    gzip, zstd = "gzip, the default", "zstd, the default"
    verdict("gzip's speed", speed[gzip], SPEED_TARGET, met=speed[gzip] >= SPEED_TARGET)
    verdict("gzip's size", size[gzip], SIZE_TARGET, met=size[gzip] <= SIZE_TARGET)
    verdict("zstd's speed by gzip's", speed[zstd] / speed[gzip], 1, met=speed[zstd] > speed[gzip])
    verdict("zstd's size by gzip's", size[zstd] / size[gzip], 1, met=size[zstd] < size[gzip])


def verdict(what: str, found: float, target: float, *, met: bool) -> None:
    """One target."""
    print(f"  {what:24} {found:5.2f}  target {target:g} {'met' if met else 'MISSED'}", flush=True)


async def flights(folder: Path) -> list[bytes]:
    """Out of the SQLite file."""
    source = SqliteSource(str(flights_database(folder / "flights.db")))
    (table,) = await source.start()
    chunks = await text_of(table)
    await source.close()
    return chunks


def main() -> None:
    """Every side on each of the three."""
    sizes = memory()
    with TemporaryDirectory(prefix="asgi-export-bench-") as name:
        compare("flights", asyncio.run(flights(Path(name))), sizes)
    compare("made-up rows", asyncio.run(text_of(SimulatedDataset())), sizes)
    compare("random tokens", asyncio.run(text_of(tokens)), sizes)


if __name__ == "__main__":
    main()
