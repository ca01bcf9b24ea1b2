"""Does an export go at the speed of the engine beneath it?

- Parquet to CSV over HTTP to a client that discards, next to polars' `scan_parquet().sink_csv()` and DuckDB's
  `COPY … TO` into a local file;
- PostgreSQL to CSV over HTTP, next to ``psql -c "COPY … TO STDOUT" | wc -c``.

Seconds for 1,000,000 rows of four and of nineteen columns, medians of 5, the sides alternating; the ratio is the
engine's time by ours. polars and DuckDB use both cores, an export of ours one thread and the loop's.

Decided: batches of 128k cells, one thread hop a chunk; text from COPY is passed through untouched.

    python -m bench.engines
"""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Callable
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

import duckdb
import polars as pl

from bench.servers import EXPORT, seconds_of, serve_ours
from tests.postgres_server import PostgresServer, running_server

ROWS = 1_000_000
REPEATS = 5
POLARS_TARGET = 0.8
DUCKDB_TARGET = 1.0
PSQL_TARGET = 0.95

Side = Callable[[], float]


def table(columns: int) -> pl.DataFrame:
    """Numbers, text, fractions and moments in turn, with nulls here and there."""
    frame = pl.DataFrame({"id": pl.int_range(ROWS, eager=True)})
    kinds = [
        pl.col("id"),
        pl.format("user-{}", pl.col("id") * 7919 % 100_000),
        pl.when(pl.col("id") % 10 > 0).then(pl.col("id") * 31 % 100_000 / 100),
        pl.from_epoch(pl.col("id") + 1_700_000_000),
    ]
    return frame.select([kinds[place % 4].alias(f"c{place}") for place in range(columns)])


def timed(act: Callable[[], object]) -> float:
    """Seconds of a call."""
    began = time.perf_counter()
    act()
    return time.perf_counter() - began


def medians(*sides: Side) -> list[float]:
    """The sides one after another, `REPEATS` times: the median of each."""
    turns = [[side() for side in sides] for _ in range(REPEATS)]
    return [median(times) for times in zip(*turns, strict=True)]


def report(what: str, ours: float, engine: str, theirs: float, target: float) -> None:
    """One line with the target."""
    ratio = theirs / ours
    verdict = "met" if ratio >= target else "MISSED"
    print(f"{what:24} {ours:6.3f} s   {engine:18} {theirs:6.3f} s   {ratio:5.2f}   target {target} {verdict}")


def parquet(columns: int, folder: Path) -> None:
    """A Parquet file against polars and DuckDB."""
    file, output = folder / f"table{columns}.parquet", folder / "output.csv"
    table(columns).write_parquet(file)
    copy = f"COPY (SELECT * FROM '{file}') TO '{output}' (HEADER)"
    with serve_ours(str(file)) as server:
        seconds_of(server.port, EXPORT)
        ours, by_polars, by_duckdb = medians(
            lambda: seconds_of(server.port, EXPORT),
            lambda: timed(lambda: pl.scan_parquet(file).sink_csv(output)),
            lambda: timed(lambda: duckdb.execute(copy)),
        )
    report(f"Parquet, {columns} columns", ours, "polars sink_csv", by_polars, POLARS_TARGET)
    report(f"Parquet, {columns} columns", ours, "DuckDB COPY", by_duckdb, DUCKDB_TARGET)


def load_postgres(columns: int, database: PostgresServer, folder: Path) -> str:
    """Put the table into a database: its name there."""
    name, file = f"table{columns}", folder / "load.csv"
    table(columns).write_csv(file, datetime_format="%Y-%m-%d %H:%M:%S")
    file.chmod(0o644)
    kinds = ["bigint", "text", "double precision", "timestamp"]
    database.execute(f"CREATE TABLE {name} ({', '.join(f'c{n} {kinds[n % 4]}' for n in range(columns))})")
    load = f"\\copy {name} FROM '{file}' (FORMAT csv, HEADER)"
    subprocess.run(["psql", "-q", database.dsn(), "-c", load], check=True)
    return name


def postgres(columns: int, database: PostgresServer, folder: Path) -> None:
    """A table in PostgreSQL against psql."""
    name = load_postgres(columns, database, folder)
    copy = f"psql -q '{database.dsn()}' -c 'COPY {name} TO STDOUT (FORMAT csv)' | wc -c"
    with serve_ours(database.dsn()) as server:
        path = f"{EXPORT}?dataset={name}"
        seconds_of(server.port, path)
        ours, by_psql = medians(
            lambda: seconds_of(server.port, path),
            lambda: timed(lambda: subprocess.run(copy, shell=True, check=True, stdout=subprocess.DEVNULL)),
        )
    report(f"PostgreSQL, {columns} columns", ours, "psql COPY | wc -c", by_psql, PSQL_TARGET)


def main() -> None:
    """Both engines, both widths."""
    print(f"{ROWS:,} rows, {os.cpu_count()} cores, medians of {REPEATS}", flush=True)
    with TemporaryDirectory(prefix="asgi-export-bench-") as name:
        folder = Path(name)
        folder.chmod(0o755)
        for columns in (4, 19):
            parquet(columns, folder)
        with contextmanager(running_server)() as database:
            for columns in (4, 19):
                postgres(columns, database, folder)


if __name__ == "__main__":
    main()
