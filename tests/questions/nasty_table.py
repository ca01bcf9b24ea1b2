"""One nasty table in every kind of source, each in its own types, for the tests that ask all of them the same.

What a source cannot hold as the others do is named in `LEFT_OUT`, with the reason.
"""

from __future__ import annotations

import asyncio
import json
import math
import random
import sqlite3
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from asgi_export import Column, ExportApp, Selection, dataset
from asgi_export.declared import Kind
from asgi_export.locations import open_location
from asgi_export.values.text import text_of
from tests.doubles import Client
from tests.postgres_server import PostgresServer
from tests.questions.filter_oracle import answer

ROWS = 90
NULL = "\\N"
TEXTS = [
    *["", " ", "a", "A", "Z", "_", "%", "a%", "a_b", "a\\b", "'", '"', "''; --", "$$", "a,b", "line\nend", "cr\rend"],
    *[
        "\u00e9",
        "e\u0301",
        "\ufb01",
        "fi",
        "\u212b",
        "\u00c5",
        "A\u030a",
        "\uffee",
        "\U0001f600",
        "ß",
        "SS",
        "İ",
        "i",
    ],
    *["=1+1", "null", "NULL", "\u2028", "x" * 300, "\u00a0", "日本", "日本語"],
]
DIGITS = [
    "10",
    "9",
    "1e1",
    "10.0",
    "007",
    "0x10",
    "-0",
    "NaN",
    "inf",
    "true",
    "\u0663",
    "",
    "2024-01-01",
    "9.5",
    "+9",
]
ZONES = [UTC, timezone(timedelta(hours=14)), timezone(timedelta(hours=-12)), timezone(timedelta(hours=5, minutes=45))]
MOMENTS = [
    datetime(1, 1, 2, tzinfo=UTC),
    datetime(1969, 12, 31, 23, 59, 59, 999_999, UTC),
    datetime(1970, 1, 1, tzinfo=UTC),
    datetime(2024, 2, 29, 12, 0, 0, 500_000, UTC),
    datetime(2024, 2, 29, 12, 0, 0, 500_001, UTC),
    datetime(2024, 2, 29, 12, tzinfo=UTC),
    datetime(9999, 12, 30, 23, 59, 59, 999_999, UTC),
]


@dataclass(frozen=True, slots=True)
class Held:
    """A column: its values, its types, and how its text becomes a value again."""

    kind: Kind
    values: Sequence[Any]
    arrow: pa.DataType
    postgres: str
    sqlite: str
    read: Callable[[str], Any]


def read_moment(text: str) -> datetime:
    found = datetime.fromisoformat(text)
    return found if found.tzinfo else found.replace(tzinfo=UTC)


def read_flag(text: str) -> bool:
    return {"true": True, "1": True, "false": False, "0": False}[text]


COLUMNS: Mapping[str, Held] = {
    "id": Held("number", [], pa.int64(), "bigint", "INTEGER", int),
    "whole": Held(
        "number",
        [0, 1, -1, 9, 10, 2**53, 2**53 + 1, 2**63 - 1, -(2**63), 100, -100],
        pa.int64(),
        "bigint",
        "INTEGER",
        int,
    ),
    "small": Held("number", [0, 7, 2**31 - 1, -(2**31)], pa.int32(), "integer", "INT", int),
    "beyond": Held("number", [0, 2**63, 2**64 - 1, 2**63 - 1, 2**53 + 1], pa.uint64(), "numeric(20,0)", "", int),
    "ratio": Held(
        "number",
        [0.0, -0.0, 0.1, 0.1 + 0.2, -1e-300, 5e-324, 1.7e308, 2.0**53, math.nan, math.inf, -math.inf, 9.0, 10.0],
        pa.float64(),
        "float8",
        "",
        float,
    ),
    "double": Held(
        "number",
        [0.0, -0.0, 0.1, 0.1 + 0.2, -1e-300, 5e-324, 1.7e308, 2.0**53, 9.0, 10.5, math.inf, -math.inf],
        pa.float64(),
        "double precision",
        "REAL",
        float,
    ),
    "single": Held(
        "number",
        [np.float32(text) for text in ("0", "0.1", "-1.25", "16777216", "inf", "nan", "9", "10")],
        pa.float32(),
        "real",
        "",
        np.float32,
    ),
    "price": Held(
        "number",
        [Decimal(text) for text in ("0.10", "-0.10", "0.00", "99999999.99", "-99999999.99", "9.00", "10.00")],
        pa.decimal128(10, 2),
        "numeric(10,2)",
        "",
        Decimal,
    ),
    "scaled": Held(
        "number",
        [Decimal(text) for text in ("1", "1.0", "1.0000000001", "9", "10.50", "-9999999999999999999999999.5", "0.1")],
        pa.decimal128(38, 10),
        "numeric",
        "",
        Decimal,
    ),
    "text": Held("text", TEXTS, pa.string(), "text", "TEXT", str),
    "digits": Held("text", DIGITS, pa.large_string(), "varchar", "TEXT", str),
    "flag": Held("boolean", [True, False], pa.bool_(), "boolean", "BOOLEAN", read_flag),
    "day": Held(
        "date",
        [date(1, 1, 1), date(1969, 12, 31), date(1970, 1, 1), date(2024, 2, 29), date(9999, 12, 31)],
        pa.date32(),
        "date",
        "DATE",
        date.fromisoformat,
    ),
    "clock": Held(
        "time",
        [time(0), time(0, 0, 0, 1), time(12), time(12, 30), time(23, 59, 59, 999_999)],
        pa.time64("us"),
        "time",
        "TIME",
        time.fromisoformat,
    ),
    "zoned": Held(
        "timestamp",
        [found.astimezone(ZONES[place % 4]) for place, found in enumerate(MOMENTS)],
        pa.timestamp("us", "UTC"),
        "timestamptz",
        "TIMESTAMP",
        read_moment,
    ),
    "naive": Held(
        "timestamp",
        [found.replace(tzinfo=None) for found in MOMENTS],
        pa.timestamp("us"),
        "timestamp",
        "DATETIME",
        read_moment,
    ),
    "raw": Held(
        "bytes",
        [b"", b"\0", b"a", b"ab", b"\xff", b"\\x61", b"'"],
        pa.binary(),
        "bytea",
        "BLOB",
        lambda text: bytes.fromhex(text[2:]),
    ),
    "items": Held("nested", [[1, 2], [], [None, 3]], pa.list_(pa.int64()), "bigint[]", "", json.loads),
}
TEXT_FILE = "a text file holds text, and numbers as decimals"
LEFT_OUT: Mapping[str, Mapping[str, str]] = {
    "sqlite": {
        "beyond": "integers have 64 bits",
        "ratio": "NaN is stored as null",
        "single": "there are doubles only",
        "price": "decimals are stored as doubles",
        "scaled": "decimals are stored as doubles",
        "items": "there are no lists",
    },
    "csv": {
        "ratio": TEXT_FILE,
        "double": TEXT_FILE,
        "single": TEXT_FILE,
        "raw": TEXT_FILE,
        "items": TEXT_FILE,
        "digits": "some of them are text, so the column is",
    },
    "jsonl": {
        "ratio": "RFC 8259 has no NaN",
        "double": "RFC 8259 has no infinity",
        "single": "RFC 8259 has no infinity",
        **dict.fromkeys(("price", "scaled"), "decimals are written as text"),
        **dict.fromkeys(("day", "clock", "zoned", "naive", "raw"), "there are texts, numbers and booleans only"),
    },
}
"""Columns that a source cannot hold as the others do, and why."""

SOURCES = ("sqlite", "postgres", "parquet", "arrow_file", "csv", "jsonl", "rows", "sorted_rows", "columns")


def table_of(source: str) -> list[str]:
    return [name for name in COLUMNS if name not in LEFT_OUT.get(source, {})]


def make_rows() -> list[dict[str, Any]]:
    """The rows of all sources, in an order that no column has; each value is beside different others."""
    shuffled = random.Random(13)
    columns: dict[str, list[Any]] = {"id": shuffled.sample(range(1, ROWS + 1), ROWS)}
    for name, held in COLUMNS.items():
        if name != "id":
            pool = [*held.values, None]
            columns[name] = shuffled.sample((pool * ROWS)[:ROWS], ROWS)
    return [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]


TABLE = make_rows()


def make_sqlite(folder: Path) -> Any:
    def value_of(value: Any) -> Any:
        return value.isoformat() if isinstance(value, date | time) else value

    names = table_of("sqlite")
    with sqlite3.connect(folder / "same.db") as connection:
        connection.execute(f"CREATE TABLE sqlite ({', '.join(f'{name} {COLUMNS[name].sqlite}' for name in names)})")
        rows = [[value_of(row[name]) for name in names] for row in TABLE]
        connection.executemany(f"INSERT INTO sqlite VALUES ({', '.join('?' * len(names))})", rows)
    connection.close()
    return open_location(str(folder / "same.db"))


def make_postgres(server: PostgresServer) -> Any:
    def literal(value: Any, kind: str) -> str:
        if value is None:
            return "NULL"
        if isinstance(value, list):
            return f"ARRAY[{', '.join('NULL' if item is None else str(item) for item in value)}]::{kind}"
        text = "\\x" + value.hex() if isinstance(value, bytes) else str(value)
        return "'" + text.replace("'", "''") + f"'::{kind}"

    columns = ", ".join(f"{name} {held.postgres}" for name, held in COLUMNS.items())
    rows = [", ".join(literal(row[name], held.postgres) for name, held in COLUMNS.items()) for row in TABLE]
    values = ", ".join(f"({row})" for row in rows)
    server.make_database("question", f"CREATE TABLE postgres ({columns}); INSERT INTO postgres VALUES {values}")
    return open_location(server.dsn("question"))


def arrow_table(names: Sequence[str]) -> pa.Table:
    schema = pa.schema([(name, COLUMNS[name].arrow) for name in names])
    return pa.table(
        [pa.array([row[name] for row in TABLE], schema.field(name).type) for name in names], schema=schema
    )


def make_parquet(folder: Path) -> Any:
    pq.write_table(arrow_table(list(COLUMNS)), folder / "parquet.parquet", row_group_size=20)
    return open_location(str(folder / "parquet.parquet"))


def make_arrow_file(folder: Path) -> Any:
    table = arrow_table(list(COLUMNS))
    with pa.ipc.new_file(folder / "arrow_file.arrow", table.schema) as writer:
        writer.write_table(table, max_chunksize=20)
    return open_location(str(folder / "arrow_file.arrow"))


def make_csv(folder: Path) -> Any:
    """All values are quoted, so that nulls, which are not, differ from every text."""

    def field(value: Any) -> str:
        return NULL if value is None else '"' + str(text_of(value)).replace('"', '""') + '"'

    names = table_of("csv")
    lines = [",".join(field(row[name]) for name in names) for row in [dict(zip(names, names, strict=True)), *TABLE]]
    (folder / "csv.csv").write_text("\r\n".join(lines), encoding="utf-8", newline="")
    return open_location(f"{folder / 'csv.csv'}?null={quote(NULL)}")


def make_jsonl(folder: Path) -> Any:
    names = table_of("jsonl")
    lines = [json.dumps({name: row[name] for name in names}) + "\n" for row in TABLE]
    (folder / "jsonl.jsonl").write_text("".join(lines), encoding="utf-8")
    return open_location(str(folder / "jsonl.jsonl"))


def declared(name: str, held: Held) -> Column:
    return Column(name, held.postgres.replace("numeric(20,0)", "numeric"))


OF_FUNCTIONS = [declared(name, held) for name, held in COLUMNS.items()]


@dataset(columns=OF_FUNCTIONS)
def rows(selection: Selection) -> Iterator[Any]:
    yield from [tuple([row[name] for name in selection.columns]) for row in TABLE]


@dataset(columns=OF_FUNCTIONS, applies={"sort"})
async def sorted_rows(selection: Selection) -> Any:
    for row in answer(TABLE, sort=selection.sort):
        yield {name: row[name] for name in selection.columns}


@dataset(columns=OF_FUNCTIONS)
def columns(selection: Selection) -> Iterator[Any]:
    table = arrow_table(list(selection.columns))
    yield table[:31]
    yield from table[31:].to_batches(max_chunksize=7)


class NastyService:
    """One application over all sources, asked one question at a time."""

    def __init__(self, sources: Sequence[Any]) -> None:
        self.app = ExportApp(sources, max_query_bytes=1_000_000)
        self.runner = asyncio.Runner()
        self.runner.run(self.app.start())
        self.datasets = {found.name: found for found in self.app.datasets}

    def ask(self, path: str, query: Sequence[tuple[str, str]] | str = (), app: Any = None, **scope: Any) -> Client:
        """Ask the application, or another one around it."""
        client = Client()
        text = query if isinstance(query, str) else urlencode(query)
        self.runner.run(self._ask(client, app or self.app, text, path=f"/api/v1/exports/{path}", **scope))
        return client

    async def _ask(self, client: Client, app: Any, query: str, **scope: Any) -> None:
        async with asyncio.timeout(20):
            await client.ask(app, query, **scope)

    def close(self) -> None:
        self.runner.run(self.app.stop())
        self.runner.close()


FUNCTIONS = (rows, sorted_rows, columns)
