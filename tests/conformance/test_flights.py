"""The real data set, served by the command line, fetched by curl, and read back equal by everybody."""

from __future__ import annotations

import contextlib
import csv
import sqlite3
import subprocess
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import polars as pl
import pytest

from tests.conformance.servers import curl, running
from tests.flights import COLUMNS, ROWS, TABLE
from tests.made_once import made_once

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def downloaded(flights_db: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    def download(folder: Path) -> None:
        folder.mkdir()
        with running(["asgi_export", "serve", str(flights_db), "--port", "0"], folder / "output") as server:
            for name in ("csv", "parquet", "ndjson"):
                url = f"{server.url}/api/v1/exports/{name}?dataset={TABLE}"
                assert curl(url, "--fail", "--compressed", "-o", str(folder / f"flights.{name}")).returncode == 0

    return made_once(tmp_path_factory, "download", download)


@contextlib.contextmanager
def selected(flights_db: Path, expression: str) -> Iterator[sqlite3.Cursor]:
    """Every row of the table, each column as the expression has it."""
    columns = ", ".join([expression.format(f'"{name}"') for name in COLUMNS])
    with contextlib.closing(sqlite3.connect(flights_db)) as connection:
        yield connection.execute(f"SELECT {columns} FROM {TABLE}")


def same(found: Iterable[Sequence[Any]], expected: Iterable[tuple[Any, ...]]) -> int:
    """How many rows there are, which are equal one by one."""
    count = 0
    for row, other in zip(found, expected, strict=True):
        assert tuple(row) == other
        count += 1
    return count


TEXT = "coalesce(CAST({0} AS TEXT), '')"
"""What CSV has."""


def test_csv_reads_it_back_equal(downloaded: Path, flights_db: Path) -> None:
    with (
        (downloaded / "flights.csv").open(newline="", encoding="utf-8") as file,
        selected(flights_db, TEXT) as expected,
    ):
        reader = csv.reader(file, strict=True)
        assert next(reader) == list(COLUMNS)
        assert same(reader, expected) == ROWS


def test_polars_reads_it_back_equal(downloaded: Path, flights_db: Path) -> None:
    frame = pl.read_csv(downloaded / "flights.csv", infer_schema_length=None)
    with selected(flights_db, "nullif({0}, '')") as expected:
        assert same(frame.iter_rows(), expected) == ROWS


def test_pandas_reads_the_texts_that_polars_reads(downloaded: Path) -> None:
    path = downloaded / "flights.csv"
    frame = pl.from_pandas(pd.read_csv(path, dtype=str, keep_default_na=False))
    assert frame.equals(pl.read_csv(path, infer_schema=False).fill_null(""))
    assert frame.shape == (ROWS, len(COLUMNS))


def test_the_sqlite_shell_reads_it_back_equal(downloaded: Path, flights_db: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy.db"
    columns = ", ".join(f'"{name}" TEXT' for name in COLUMNS)
    script = f'CREATE TABLE copied ({columns});\n.import --csv --skip 1 "{downloaded / "flights.csv"}" copied\n'
    subprocess.run(["sqlite3", str(copy)], input=script, text=True, check=True, timeout=120)
    with contextlib.closing(sqlite3.connect(copy)) as connection:
        connection.execute("ATTACH ? AS source", (str(flights_db),))
        texts = ", ".join([TEXT.format(f'"{name}"') for name in COLUMNS])
        query = f"SELECT count(*) FROM (SELECT {texts} FROM source.{TABLE} EXCEPT SELECT * FROM copied)"
        assert connection.execute(query).fetchone() == (0,)
        assert connection.execute("SELECT count(*) FROM copied").fetchone() == (ROWS,)


def test_parquet_and_ndjson_read_back_equal(downloaded: Path, flights_db: Path) -> None:
    parquet = pl.read_parquet(downloaded / "flights.parquet")
    with selected(flights_db, "{0}") as expected:
        assert same(parquet.iter_rows(), expected) == ROWS
    assert pl.read_ndjson(downloaded / "flights.ndjson", infer_schema_length=None).equals(parquet)
