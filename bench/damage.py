"""What does the check of every batch of a file cost?

Processor seconds for 1,000,000 rows of four columns, of several kinds and of text alone, from Parquet and Arrow
files to CSV and Parquet, without HTTP; best of 7, with the check and without it alternating.

Decided: every batch is checked in full, for 3 to 10 %: without the check one damaged offset ends the process.

    python -m bench.damage
"""

from __future__ import annotations

import asyncio
import time
from itertools import product
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from pyarrow import feather

from asgi_export.formats import FORMATS
from asgi_export.sources.files import arrow_ipc, parquet
from asgi_export.sources.files.damage import check_batch
from asgi_export.sources.files.source import FileSource
from asgi_export.table import Dialect, Selection

ROWS = 1_000_000
REPEATS = 7


def tables() -> dict[str, pa.Table]:
    places = pa.array(range(ROWS))
    names = pa.array([f"user {place}" for place in range(ROWS)])
    fractions = pa.array([place / 7919 for place in range(ROWS)])
    several = {"id": places, "name": names, "value": fractions, "created_at": places.cast(pa.timestamp("ms"))}
    return {"several": pa.table(several), "text": pa.table({f"c{place}": names for place in range(4)})}


def seconds_of(path: Path, format_name: str, *, check: bool) -> float:
    for room in (parquet, arrow_ipc):
        room.check_batch = check_batch if check else lambda batch: batch  # type: ignore[attr-defined]
    (dataset,) = asyncio.run(FileSource(path).start())
    encoder = FORMATS[format_name].encoder(dataset.columns, Dialect())
    cursor: Any = dataset.open(Selection(tuple(column.name for column in dataset.columns)))
    begin = time.process_time()
    with cursor as batches:
        for batch in batches:
            encoder.feed(batch)
    encoder.tail()
    return time.process_time() - begin


def main() -> None:
    with TemporaryDirectory() as folder:
        for name, table in tables().items():
            pq.write_table(table, f"{folder}/{name}.parquet", row_group_size=128 * 1024)
            feather.write_feather(table, f"{folder}/{name}.arrow", compression="lz4")
        for path, format_name in product(sorted(Path(folder).iterdir()), ("csv", "parquet")):
            sides = [[seconds_of(path, format_name, check=check) for check in (True, False)] for _ in range(REPEATS)]
            checked_, plain = (min(side) for side in zip(*sides, strict=True))
            print(f"{path.name} to {format_name}: {checked_:.3f} s, {plain:.3f} s without, {checked_ / plain:.2f}")


if __name__ == "__main__":
    main()
