"""A column whose first 4,096 values are null has the type that its source can give: no export fails for a guess."""

from __future__ import annotations

import sqlite3
from datetime import UTC, date, datetime, time
from decimal import Decimal
from pathlib import Path
from typing import Any

import pandas as pd
import polars as pl
import pyarrow as pa
import pytest

from asgi_export import SqliteSource, dataset
from asgi_export.formats.columnar import SAMPLE_ROWS
from asgi_export.locations import open_location
from tests.field.typed_exports import TYPED, every_reader, export, exported, is_refused, rows_of, table_of
from tests.postgres_server import PostgresServer

NULLS = 2 * SAMPLE_ROWS

BOTH = pytest.mark.parametrize("name", TYPED)

SQLITE = [
    ("DATETIME", "2024-02-29 12:00:00", "2024-02-29 12:00:00", pa.string()),
    ("DATETIME", 1709208000, "1709208000", pa.string()),
    ("DATE", "2024-02-29", "2024-02-29", pa.string()),
    ("TIMESTAMP", 1.5, "1.5", pa.string()),
    ("BOOLEAN", 1, "1", pa.string()),
    ("BOOLEAN", "true", "true", pa.string()),
    ("DECIMAL(10,2)", 12.5, "12.5", pa.string()),
    ("DECIMAL(10,2)", "x", "x", pa.string()),
    ("NUMERIC", 2**53 + 1, "9007199254740993", pa.string()),
    ("", b"\x01", "\\x01", pa.string()),
    ("POINT", "x", "x", pa.string()),
    ("CHARINT", "x", "x", pa.string()),
    ("INTEGER", 2**63 - 1, 2**63 - 1, pa.int64()),
    ("REAL", 0.1, 0.1, pa.float64()),
    ("VARCHAR(5)", "é", "é", pa.string()),
    ("BLOB", b"\x00\xff", b"\x00\xff", pa.binary()),
]


@BOTH
@pytest.mark.parametrize(("declared", "stored", "value", "kind"), SQLITE)
def test_sqlite_gives_what_it_stores_whatever_was_declared(
    tmp_path: Path, name: str, declared: str, stored: Any, value: Any, kind: pa.DataType
) -> None:
    connection = sqlite3.connect(tmp_path / "late.db")
    connection.execute(f"CREATE TABLE late (n INTEGER, a {declared})")
    connection.executemany("INSERT INTO late VALUES (?, ?)", [(n, None) for n in range(NULLS)] + [(NULLS, stored)])
    connection.commit()
    connection.close()
    table = table_of(export(SqliteSource(tmp_path / "late.db"), name), name)
    assert table.schema.field("a").type == kind
    assert table.column("a").to_pylist() == [None] * NULLS + [value]


POSTGRES = [
    ("int[]", "{1,NULL}", "[1,null]", pa.string()),
    ("date[]", "{2024-02-29}", '["2024-02-29"]', pa.string()),
    ("real_estate_kind", "house", "house", pa.string()),
    ("timestamp_kind", "x", "x", pa.string()),
    ("bool_pair", "(t,f)", '{"a":true,"b":false}', pa.string()),
    ("daterange", "[2024-01-01,2024-01-02)", "[2024-01-01,2024-01-02)", pa.string()),
    ("price", "1.25", Decimal("1.25"), pa.decimal128(12, 2)),
    ("integer_text", "x", "x", pa.string()),
    ("numeric", "1e-20", "0.00000000000000000001", pa.string()),
    ("timetz", "12:00+02", "12:00:00+02", pa.string()),
    ("interval", "1 day", "P1D", pa.string()),
    ("uuid", "123e4567-e89b-12d3-a456-426614174000", "123e4567-e89b-12d3-a456-426614174000", pa.string()),
    ("money", "1.5", "$1.50", pa.string()),
    ("bool", "t", True, pa.bool_()),
    ("date", "2024-02-29", date(2024, 2, 29), pa.date32()),
    ("time", "23:59:59.999999", time(23, 59, 59, 999999), pa.time64("us")),
    ("timestamptz", "2024-02-29 12:00+00", datetime(2024, 2, 29, 12, tzinfo=UTC), pa.timestamp("us", "UTC")),
    ("bytea", "\\x00ff", b"\x00\xff", pa.binary()),
    ("float4", "0.1", 0.1, pa.float64()),
    ("int2", "-5", -5, pa.int64()),
]


@pytest.fixture(scope="module")
def late(postgres_server: PostgresServer) -> str:
    columns = ", ".join(f"c{place} {kind}" for place, (kind, *_) in enumerate(POSTGRES))
    literals = ", ".join(f"'{literal}'" for _, literal, *_ in POSTGRES)
    names = ", ".join(f"c{place}" for place in range(len(POSTGRES)))
    postgres_server.execute("CREATE DATABASE late")
    postgres_server.execute(
        f"""
        CREATE TYPE real_estate_kind AS ENUM ('house');
        CREATE TYPE timestamp_kind AS ENUM ('x');
        CREATE TYPE bool_pair AS (a bool, b bool);
        CREATE DOMAIN price AS numeric(12,2);
        CREATE DOMAIN integer_text AS text;
        CREATE TABLE late (n int, {columns});
        INSERT INTO late (n) SELECT g FROM generate_series(1, {NULLS}) g;
        INSERT INTO late (n, {names}) VALUES (0, {literals});
        """,
        "late",
    )
    return postgres_server.dsn("late")


@BOTH
def test_postgresql_gives_what_its_catalogue_says(late: str, name: str) -> None:
    table = table_of(export(open_location(late), name), name)
    assert table.schema.types[1:] == [kind for *_, kind in POSTGRES]
    assert list(table.slice(NULLS, 1).to_pylist()[0].values())[1:] == [value for _, _, value, _ in POSTGRES]


DECLARED = [
    ("", 5, "5", pa.string()),
    ("bigint", 5, 5, pa.int64()),
    ("numeric(8,3)", Decimal("1.125"), Decimal("1.125"), pa.decimal128(8, 3)),
    ("timestamp with time zone", datetime(2024, 1, 1, tzinfo=UTC), datetime(2024, 1, 1, tzinfo=UTC), None),
    ("date", date(2024, 1, 1), date(2024, 1, 1), pa.date32()),
    ("my date", "x", "x", pa.string()),
]


@BOTH
@pytest.mark.parametrize(("declared", "late_value", "value", "kind"), DECLARED)
def test_a_function_is_taken_at_its_word(
    tmp_path: Path, name: str, declared: str, late_value: Any, value: Any, kind: pa.DataType | None
) -> None:
    source = rows_of([(None,)] * NULLS + [(late_value,)], [("a", declared)])
    data = export(source, name)
    assert table_of(data, name).schema.field("a").type == (kind or pa.timestamp("us", "UTC"))
    for reader, rows in every_reader(data, name, tmp_path).items():
        assert len(rows) == NULLS + 1
        assert rows[-1]["a"] == value, reader


@BOTH
def test_a_function_that_declares_another_type_than_it_gives_is_broken_off(name: str) -> None:
    assert is_refused(exported(rows_of([(None,)] * NULLS + [("x",)], [("a", "bigint")]), name))


@BOTH
@pytest.mark.parametrize("frame", [pl.DataFrame, pa.table, pd.DataFrame], ids=["polars", "pyarrow", "pandas"])
def test_a_first_batch_of_columns_without_a_value_fixes_no_type(name: str, frame: Any) -> None:
    @dataset(columns=[("a", "bigint"), "b"])
    def late() -> Any:
        yield frame({"a": [None, None], "b": [None, None]})
        yield frame({"a": [1, 2], "b": [1, 2]})

    table = table_of(export(late, name), name)
    assert table.to_pydict() == {"a": [None, None, 1, 2], "b": [None, None, "1", "2"]}
