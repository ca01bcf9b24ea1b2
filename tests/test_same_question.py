"""The same question gets the same rows, in the same order, from every source that holds the same table.

One table is held by each source in its own types. hypothesis draws filters, a sort, columns and a limit; the answers
are read back and must be those of `filter_oracle.py`, or a 400 where the question is a bad one. What a source cannot
hold is named in `LEFT_OUT`, with the reason.
"""

from __future__ import annotations

import asyncio
import csv
import io
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
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from asgi_export import Column, ExportApp, Selection, dataset
from asgi_export.declared import Kind
from asgi_export.export.filters import OPERATORS, read_value
from asgi_export.locations import open_location
from asgi_export.table import Filter, Sort
from asgi_export.values.text import text_of
from tests.doubles import Client
from tests.filter_oracle import answer
from tests.postgres_server import PostgresServer

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


class Service:
    """One application over all sources, asked one question at a time."""

    def __init__(self, sources: Sequence[Any]) -> None:
        self.app = ExportApp(sources, max_query_bytes=1_000_000)
        self.runner = asyncio.Runner()
        self.runner.run(self.app.start())
        self.datasets = {found.name: found for found in self.app.datasets}

    def ask(self, path: str, query: Sequence[tuple[str, str]] = (), **scope: Any) -> Client:
        client = Client()
        self.runner.run(client.ask(self.app, urlencode(query), path=f"/api/v1/exports/{path}", **scope))
        return client

    def close(self) -> None:
        self.runner.run(self.app.stop())
        self.runner.close()


@pytest.fixture(scope="module")
def service(postgres_server: PostgresServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    folder = tmp_path_factory.mktemp("same")
    made = [make(folder) for make in (make_sqlite, make_parquet, make_arrow_file, make_csv, make_jsonl)]
    found = Service([*made, make_postgres(postgres_server), rows, sorted_rows, columns])
    yield found
    found.close()


@dataclass(frozen=True, slots=True)
class Question:
    """What is asked: names and texts of filters, the sort, the columns of the output, and the limit."""

    columns: tuple[str, ...]
    filters: tuple[tuple[str, str, str], ...] = ()
    sort: tuple[Sort, ...] = ()
    limit: int | None = None

    @property
    def names(self) -> set[str]:
        return {*self.columns, *[name for name, *_ in self.filters], *[found.column for found in self.sort]}

    @property
    def query(self) -> list[tuple[str, str]]:
        pairs = [("columns", ",".join(self.columns)), ("null", NULL)]
        pairs += [(f"{name}__{operator}", text) for name, operator, text in self.filters]
        if self.sort:
            pairs.append(("sort", ",".join(("-" if found.descending else "") + found.column for found in self.sort)))
        return pairs if self.limit is None else [*pairs, ("total", str(self.limit))]

    @property
    def expected(self) -> list[tuple[Any, ...]]:
        filters = [
            Filter(name, operator, read_value(operator, COLUMNS[name].kind, text))  # type: ignore[arg-type]
            for name, operator, text in self.filters
        ]
        found = answer(TABLE, filters, self.sort, self.limit)
        return [tuple([row[name] for name in self.columns]) for row in found]


NUMBERS = ["0", "-0.0", "1", "9", "9.5", "10", "10.0", "1e1", "0.1", "0.30000000000000004", "0.3", "9007199254740993"]
NUMBERS += ["9223372036854775807", "9223372036854775808", "-9223372036854775809", "1e308", "1e309", "-1e400", "nan"]
NUMBERS += ["inf", "-inf", "1e-400", "2147483648", "16777217", "0.10", "0.105", "1.00000000005", "9" * 60]
OTHERS: Mapping[Kind, Sequence[str]] = {
    "number": NUMBERS,
    "text": [*TEXTS, *DIGITS, "B", "e", "a\0b", "\\", "x" * 100, "\ud7ff", "\ue000", "\U0010ffff"],
    "boolean": ["true", "false"],
    "date": ["0001-01-02", "2024-02-28", "2024-03-01"],
    "time": ["00:00", "12:00:00.000001", "23:59"],
    "timestamp": ["2024-02-29", "2024-02-29T17:45:00.5%2B05:45", "1970-01-01 00:00", "9999-12-31T23:59:59.999999Z"],
    "bytes": ["", "00", "61", "6162", "\\xff", "ffff"],
}
OTHERS = {**OTHERS, "timestamp": [text.replace("%2B", "+") for text in OTHERS["timestamp"]]}


def text_for(name: str) -> st.SearchStrategy[str]:
    held = COLUMNS[name]
    own = [str(text_of(value)) for value in held.values]
    return st.sampled_from([*own, *OTHERS.get(held.kind, ())])


@st.composite
def filters(draw: st.DrawFn, names: Sequence[str]) -> tuple[str, str, str]:
    name = draw(st.sampled_from(names))
    operator = draw(st.sampled_from(OPERATORS[COLUMNS[name].kind]))
    if operator == "isnull":
        return name, operator, draw(st.sampled_from(["true", "false"]))
    if operator in ("in", "notin"):
        return name, operator, json.dumps(draw(st.lists(text_for(name), max_size=4)))
    return name, operator, draw(text_for(name))


@st.composite
def questions(draw: st.DrawFn, names: Sequence[str], *, sorts: bool) -> Question:
    chosen = draw(st.lists(st.sampled_from([name for name in names if name != "id"]), max_size=3, unique=True))
    found = draw(st.lists(filters(names), max_size=3))
    orders = [name for name in names if COLUMNS[name].kind != "nested"]
    by = draw(st.lists(st.sampled_from(orders), max_size=3, unique=True)) if sorts else []
    sort = tuple([Sort(name, draw(st.booleans())) for name in by])
    return Question(("id", *chosen), tuple(found), sort, draw(st.none() | st.integers(0, 20)))


def read_csv(body: bytes, names: Sequence[str]) -> list[tuple[Any, ...]]:
    header, *lines = csv.reader(io.StringIO(body.decode(), newline=""), strict=True)
    assert header == list(names)
    reads = [COLUMNS[name].read for name in names]
    return [
        tuple(None if text == NULL else read(text) for read, text in zip(reads, line, strict=True)) for line in lines
    ]


def comparable(found: Sequence[tuple[Any, ...]]) -> list[tuple[Any, ...]]:
    """NaN equals itself here, and instants without an offset are UTC."""
    return [tuple([_comparable(value) for value in row]) for row in found]


def _comparable(value: Any) -> Any:
    if isinstance(value, float | np.float32) and math.isnan(value):
        return "NaN"
    if isinstance(value, datetime):
        return read_moment(value.isoformat()).astimezone(UTC)
    return value


def check(service: Service, source: str, question: Question) -> None:
    """Ask once for CSV, which databases may write themselves, and once for NDJSON, which comes from values."""
    client = service.ask(f"{source}.csv", question.query)
    assert client.status == 200, client.body
    assert comparable(read_csv(client.body, question.columns)) == comparable(question.expected)
    client = service.ask(f"{source}.ndjson", [pair for pair in question.query if pair[0] != "null"])
    assert client.status == 200, client.body
    assert [int(json.loads(line)["id"]) for line in client.body.splitlines()] == [row[0] for row in question.expected]


def sorts(service: Service, source: str) -> bool:
    return "sort" in getattr(service.datasets[source], "applies", ())


def ask_everything(service: Service, source: str, data: st.DataObject) -> None:
    check(service, source, data.draw(questions(table_of(source), sorts=sorts(service, source))))


@pytest.mark.parametrize("source", SOURCES)
@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_every_source_answers_as_the_oracle_does(service: Service, source: str, data: st.DataObject) -> None:
    ask_everything(service, source, data)


@pytest.mark.slow
@pytest.mark.parametrize("source", SOURCES)
@settings(max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_every_source_answers_many_questions_as_the_oracle_does(
    service: Service, source: str, data: st.DataObject
) -> None:
    ask_everything(service, source, data)


@pytest.mark.parametrize("source", SOURCES)
def test_every_source_holds_the_same_table(service: Service, source: str) -> None:
    """Else nothing here is compared: the same kinds, the same values, in the same order."""
    found = service.datasets[source]
    assert [(column.name, column.kind) for column in found.columns] == [
        (name, COLUMNS[name].kind) for name in table_of(source)
    ]
    check(service, source, Question(tuple(table_of(source))))
