"""The real data set, served by the command line, fetched by curl, and read back equal by everybody."""

from __future__ import annotations

import csv
import sqlite3
import subprocess
from collections.abc import Iterator
from itertools import islice
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


@pytest.fixture(scope="module")
def rows(flights_db: Path) -> list[tuple[Any, ...]]:
    connection = sqlite3.connect(flights_db)
    try:
        return connection.execute(f"SELECT * FROM {TABLE}").fetchall()
    finally:
        connection.close()


def test_csv_reads_it_back_equal(downloaded: Path, rows: list[tuple[Any, ...]]) -> None:
    with (downloaded / "flights.csv").open(newline="", encoding="utf-8") as file:
        reader: Iterator[list[str]] = csv.reader(file, strict=True)
        assert len(next(reader)) == len(COLUMNS)
        count = 0
        for row in rows:
            assert next(reader) == ["" if value is None else str(value) for value in row]
            count += 1
        assert list(islice(reader, 1)) == []
    assert count == ROWS


def test_polars_reads_it_back_equal(downloaded: Path, rows: list[tuple[Any, ...]]) -> None:
    frame = pl.read_csv(downloaded / "flights.csv", infer_schema_length=None)
    assert frame.shape == (ROWS, len(COLUMNS))
    expected = [tuple(None if value == "" else value for value in row) for row in rows]
    assert frame.rows() == expected


def test_pandas_reads_it_back_equal(downloaded: Path, rows: list[tuple[Any, ...]]) -> None:
    frame = pd.read_csv(downloaded / "flights.csv", dtype=str, keep_default_na=False)
    expected = [tuple("" if value is None else str(value) for value in row) for row in rows]
    assert list(frame.itertuples(index=False, name=None)) == expected


def test_the_sqlite_shell_reads_it_back_equal(downloaded: Path, flights_db: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy.db"
    columns = ", ".join(f'"{name}" TEXT' for name in COLUMNS)
    script = f'CREATE TABLE copied ({columns});\n.import --csv --skip 1 "{downloaded / "flights.csv"}" copied\n'
    subprocess.run(["sqlite3", str(copy)], input=script, text=True, check=True, timeout=120)
    connection = sqlite3.connect(copy)
    try:
        connection.execute("ATTACH ? AS source", (str(flights_db),))
        texts = ", ".join(f"coalesce(CAST(\"{name}\" AS TEXT), '')" for name in COLUMNS)
        query = f"SELECT count(*) FROM (SELECT {texts} FROM source.{TABLE} EXCEPT SELECT * FROM copied)"
        assert connection.execute(query).fetchone() == (0,)
        assert connection.execute("SELECT count(*) FROM copied").fetchone() == (ROWS,)
    finally:
        connection.close()


def test_parquet_and_ndjson_read_back_equal(downloaded: Path, rows: list[tuple[Any, ...]]) -> None:
    assert pl.read_parquet(downloaded / "flights.parquet").rows() == rows
    assert pl.read_ndjson(downloaded / "flights.ndjson", infer_schema_length=None).rows() == rows
