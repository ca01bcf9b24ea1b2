"""One table in five places, exported in every format and read back: equal values, but for the differences listed.

docs/sources.md and docs/http.md name each difference; `KNOWN` and the columns' own notes are that list, asserted.
"""

from __future__ import annotations

import asyncio
import csv
import io
import json
import math
import sqlite3
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from asgi_export import ExportApp, dataset
from asgi_export.locations import open_location
from tests.doubles import Client, http_scope
from tests.postgres_server import PostgresServer

NASTY = [
    "",
    "plain",
    "a,b",
    'say "hi"',
    "line\nend",
    "cr\rend",
    "crlf\r\nend",
    " blank ",
    "é日本語😀",
    "\u2028",
    "=1+1",
    "\\N",
]
MOMENTS = [
    datetime(1970, 1, 1, tzinfo=UTC),
    datetime(2024, 2, 29, 12, 0, 0, 500000, UTC),
    datetime(1900, 1, 1, tzinfo=UTC),
]


@dataclass(frozen=True, slots=True)
class Kind:
    """A column: its values, its types, and how its CSV text becomes a value again."""

    values: list[Any]
    arrow: pa.DataType
    postgres: str
    sqlite: str
    read: Callable[[str], Any]


def moment(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


KINDS: dict[str, Kind] = {
    "small": Kind([0, 1, -1, 127, -128], pa.int8(), "smallint", "INTEGER", int),
    "whole": Kind([0, 2**31 - 1, -(2**31)], pa.int32(), "integer", "INTEGER", int),
    "large": Kind([0, 2**63 - 1, -(2**63), 2**53 + 1], pa.int64(), "bigint", "INTEGER", int),
    "fraction": Kind([0.5, 0.1, -1e-300, 1.7976931348623157e308, math.inf], pa.float64(), "float8", "REAL", float),
    "text": Kind(NASTY, pa.string(), "text", "TEXT", str),
    "wide": Kind(["x" * 10_000, "é" * 5000], pa.large_string(), "varchar", "TEXT", str),
    "flag": Kind([True, False], pa.bool_(), "boolean", "INTEGER", lambda text: text in ("true", "1")),
    "raw": Kind([b"", b"\x00\xff", b"abc"], pa.binary(), "bytea", "BLOB", lambda text: bytes.fromhex(text[2:])),
    "day": Kind(
        [date(1970, 1, 1), date(2024, 2, 29), date(1, 1, 1), date(9999, 12, 31)],
        pa.date32(),
        "date",
        "TEXT",
        date.fromisoformat,
    ),
    "at": Kind(MOMENTS, pa.timestamp("us", "UTC"), "timestamptz", "TEXT", moment),
    "naive": Kind(
        [found.replace(tzinfo=None) for found in MOMENTS],
        pa.timestamp("us"),
        "timestamp",
        "TEXT",
        datetime.fromisoformat,
    ),
    "price": Kind(
        [Decimal("0.10"), Decimal("-99999999.99"), Decimal("0.00")],
        pa.decimal128(10, 2),
        "numeric(10,2)",
        "TEXT",
        Decimal,
    ),
    "numbers": Kind([[1, 2], [], [None, 3]], pa.list_(pa.int64()), "bigint[]", "TEXT", json.loads),
    "short": Kind([0, 2**15 - 1, -(2**15)], pa.int16(), "smallint", "INTEGER", int),
    "exact": Kind(
        [Decimal("1.0000000001"), Decimal("-9999999999999999999999999999.9999999999")],
        pa.decimal128(38, 10),
        "numeric(38,10)",
        "TEXT",
        Decimal,
    ),
    "huge": Kind([Decimal("9" * 59), Decimal(0)], pa.decimal256(60, 0), "numeric(60,0)", "TEXT", Decimal),
    "clock": Kind(
        [time(0), time(23, 59, 59, 999999), time(12, 30)], pa.time64("us"), "time", "TEXT", time.fromisoformat
    ),
    "words": Kind([["a,b", 'q"'], [], [None, "é"]], pa.list_(pa.string()), "text[]", "TEXT", json.loads),
    "digits": Kind(["007", "1e5", "0x10", "-0", "NaN", "true"], pa.string(), "text", "TEXT", str),
    "quotes": Kind(['"', '""', '","', "'", "\\"], pa.string(), "text", "TEXT", str),
    "tabs": Kind(["\t", "a\tb", ";", "|"], pa.string(), "varchar(10)", "TEXT", str),
    "subnormal": Kind([5e-324, 2.2250738585072014e-308, -0.0], pa.float64(), "float8", "REAL", float),
    "halves": Kind([1.5, 2.25, -1024.125], pa.float64(), "double precision", "REAL", float),
    "early": Kind([date(1582, 10, 15), date(1969, 12, 31)], pa.date32(), "date", "TEXT", date.fromisoformat),
    "micro": Kind(
        [datetime(2262, 4, 12, 23, 47, 16, 854776, UTC), datetime(2038, 1, 19, 3, 14, 8, tzinfo=UTC)],
        pa.timestamp("us", "UTC"),
        "timestamptz",
        "TEXT",
        moment,
    ),
    "octets": Kind(
        [bytes(range(256)), b'\r\n,"'], pa.large_binary(), "bytea", "BLOB", lambda t: bytes.fromhex(t[2:])
    ),
    "missing": Kind([None], pa.string(), "text", "TEXT", str),
}
NAMES = list(KINDS)
ROWS: list[tuple[Any, ...]] = [
    (number, *[None if number % 7 == 6 else kind.values[number % len(kind.values)] for kind in KINDS.values()])
    for number in range(300)
]
COLUMNS = ["n", *NAMES]
SCHEMA = pa.schema([("n", pa.int64()), *[(name, kind.arrow) for name, kind in KINDS.items()]])


def as_arrow() -> pa.Table:
    return pa.Table.from_arrays(
        [pa.array(column, field.type) for column, field in zip(zip(*ROWS, strict=True), SCHEMA, strict=True)],
        schema=SCHEMA,
    )


def sqlite_value(value: Any) -> Any:
    """What SQLite can hold of a value: dates and decimals as the text that we would write."""
    if isinstance(value, list):
        return json.dumps(value, separators=(",", ":"), ensure_ascii=False)
    if isinstance(value, date | time):
        return value.isoformat()
    return str(value) if isinstance(value, Decimal) else value


def make_sqlite(folder: Path) -> Any:
    path = folder / "same.db"
    connection = sqlite3.connect(path)
    columns = ", ".join(f"{name} {kind.sqlite}" for name, kind in KINDS.items())
    connection.execute(f"CREATE TABLE same (n INTEGER, {columns})")
    marks = ", ".join("?" * len(COLUMNS))
    connection.executemany(f"INSERT INTO same VALUES ({marks})", [[sqlite_value(v) for v in row] for row in ROWS])
    connection.commit()
    connection.close()
    return open_location(str(path))


def make_parquet(folder: Path) -> Any:
    pq.write_table(as_arrow(), folder / "same.parquet")
    return open_location(str(folder / "same.parquet"))


def make_arrow(folder: Path) -> Any:
    with pa.ipc.new_file(folder / "same.arrow", SCHEMA) as writer:
        writer.write_table(as_arrow())
    return open_location(str(folder / "same.arrow"))


def make_function(folder: Path) -> Any:
    @dataset(columns=COLUMNS, name="same")
    def rows() -> Iterator[Any]:
        yield from ROWS

    return rows


def literal(value: Any, kind: Kind) -> str:
    if value is None:
        return "NULL"
    if isinstance(value, list):
        items = [None if item is None else str(item).replace("'", "''") for item in value]
        return "ARRAY[" + ", ".join("NULL" if item is None else f"'{item}'" for item in items) + f"]::{kind.postgres}"
    text = "\\x" + value.hex() if isinstance(value, bytes) else str(value)
    return "'" + text.replace("'", "''") + f"'::{kind.postgres}"


@pytest.fixture(scope="module")
def database(postgres_server: PostgresServer) -> PostgresServer:
    columns = ", ".join(f"{name} {kind.postgres}" for name, kind in KINDS.items())
    rows = [
        f"({row[0]}, {', '.join(literal(v, k) for v, k in zip(row[1:], KINDS.values(), strict=True))})"
        for row in ROWS
    ]
    sql = f"CREATE TABLE same (n bigint, {columns}); INSERT INTO same VALUES {', '.join(rows)}"
    postgres_server.make_database("same", sql)
    return postgres_server


@pytest.fixture(params=["sqlite", "parquet", "arrow", "function", "postgres"])
def source(request: pytest.FixtureRequest, tmp_path: Path) -> Any:
    if request.param == "postgres":
        return open_location(request.getfixturevalue("database").dsn("same"))
    makers: dict[str, Callable[[Path], Any]] = {
        "sqlite": make_sqlite,
        "parquet": make_parquet,
        "arrow": make_arrow,
        "function": make_function,
    }
    return makers[request.param](tmp_path)


def export(source: Any, name: str, query: str = "") -> bytes:
    async def run() -> bytes:
        client, app = Client(), ExportApp([source])
        await app(http_scope(f"/api/v1/exports/{name}", query), client.receive, client.send)
        await app.stop()
        assert client.status == 200, client.body
        return client.body

    return asyncio.run(run())


def in_order(rows: list[tuple[Any, ...]]) -> list[tuple[Any, ...]]:
    return sorted(rows, key=lambda row: int(row[0]))


@pytest.mark.parametrize("query", ["null=NULL", "null=NULL&quote=all", "null=NULL&newline=crlf&delimiter=tab"])
def test_csv_gives_the_same_values_whichever_source_holds_them(source: Any, query: str) -> None:
    delimiter = "\t" if "tab" in query else ","
    reader = csv.reader(
        io.StringIO(export(source, "csv", query).decode(), newline=""), delimiter=delimiter, strict=True
    )
    assert next(reader) == COLUMNS
    reads: list[Callable[[str], Any]] = [int, *[kind.read for kind in KINDS.values()]]
    rows = [tuple(None if v == "NULL" else read(v) for v, read in zip(row, reads, strict=True)) for row in reader]
    assert in_order(rows) == ROWS


def json_value(value: Any) -> Any:
    """What NDJSON has for a value: no infinity, decimals and moments as text."""
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, bytes):
        return "\\x" + value.hex()
    if isinstance(value, date | time):
        return value.isoformat()
    return str(value) if isinstance(value, Decimal) else value


def test_ndjson_gives_the_same_values(source: Any) -> None:
    rows = [tuple(json.loads(line).values()) for line in export(source, "ndjson").split(b"\n")[:-1]]
    sqlite = "Sqlite" in type(source).__name__
    for row, expected in zip(in_order(rows), ROWS, strict=True):
        for name, found, value in zip(COLUMNS, row, expected, strict=True):
            if sqlite and value is not None and name in ("flag", "numbers", "words"):
                assert found == sqlite_value(value)  # SQLite has no booleans and no lists
            else:
                assert found == json_value(value), name


DECIMALS = ("price", "exact", "huge")
LISTS = ("numbers", "words")
KNOWN = {
    "Sqlite": ("flag", "day", "early", "at", "micro", "naive", "clock", *DECIMALS, *LISTS),
    "function": (*DECIMALS, *LISTS),
    "Postgres": LISTS,
}
"""Columns that are another type in Parquet and Arrow, by source: SQLite has no such types, a function declares none,
and lists out of rows are JSON."""


@pytest.mark.parametrize(
    ("name", "read"),
    [
        ("parquet", lambda data: pq.read_table(io.BytesIO(data))),
        ("arrow", lambda data: pa.ipc.open_stream(data).read_all()),
    ],
)
def test_types_survive_in_columnar_formats(source: Any, name: str, read: Callable[[bytes], pa.Table]) -> None:
    table: pa.Table = read(export(source, name))
    kind = "function" if not hasattr(source, "start") else type(source).__name__.removesuffix("Source")
    rows = in_order([tuple(row.values()) for row in table.to_pylist()])
    assert len(rows) == len(ROWS)
    for row, expected in zip(rows, ROWS, strict=True):
        for column, found, value in zip(COLUMNS, row, expected, strict=True):
            if column not in KNOWN.get(kind, ()):
                assert found == value, column
            elif value is not None:
                assert KINDS[column].read(str(found)) == value or found == sqlite_value(value)


def test_a_duration_is_the_one_type_that_only_rows_and_arrow_have() -> None:
    """Kept beside the table, as SQLite has none: ISO 8601 from both."""

    @dataset(columns=["a"])
    def rows() -> Iterator[Any]:
        yield (timedelta(days=1, seconds=1.5),)

    @dataset(columns=["a"])
    def columns() -> Iterator[Any]:
        yield pa.table({"a": pa.array([timedelta(days=1, seconds=1.5)])})

    assert export(rows, "csv") == export(columns, "csv") == b"a\nP1DT1.5S\n"
