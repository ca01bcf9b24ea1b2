"""Filters and sorts that SQLite applies: the rows and the order that the reference gives, in any table."""

from __future__ import annotations

import math
import re
import sqlite3
import tempfile
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, date, datetime, time
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from asgi_export.export.filters import operators_of
from asgi_export.sources.sql import quoted
from asgi_export.sources.sqlite.source import SqliteDataset
from asgi_export.table import Column, Filter, Row, Selection, Sort
from asgi_export.values import matching as reference
from asgi_export.values.literals import parse_time, parse_timestamp
from tests.sources.test_sqlite import datasets


@dataclass(frozen=True)
class Text:
    """Text that may be no UTF-8."""

    raw: bytes


DECLARED = {
    "whole": "INTEGER",
    "real": "REAL",
    "price": "DECIMAL(10,2)",
    "name": "TEXT",
    "folded": "TEXT COLLATE NOCASE",
    "any": "",
    "loose": "STRING",
    'od"d': "VARCHAR(5)",
    "raw": "BLOB",
    "flag": "BOOLEAN",
    "day": "DATE",
    "at": "TIMESTAMP",
    "clock": "TIME",
}
NUMBERS: list[Any] = [
    *(0, 1, 2, 5, -1, 2**53, 2**53 + 1, 2**53 + 2, 2**63 - 1, 2**63 - 513, -(2**63)),
    *(0.0, -0.0, 0.1, 0.5, 2.5, 5.0, 1e16, 2.0**53, 2.0**63, -(2.0**63), 1e300, 5e-324, math.inf, -math.inf),
]
TEXTS = [
    *(
        "",
        " ",
        "a",
        "A",
        "b",
        "ab",
        "aB",
        "a\0b",
        "a\0c",
        "é",
        "e\u0301",
        "Z",
        "ß",
        "名",
        "\uffff",
        "😀",
        "\U0010ffff",
    ),
    *("5", "05", " 5", "5.0", "5e0", "0.1", "inf", "nan", "x'", "\\x61", "\\", "x", "1e400", "9007199254740993"),
]
DATES = ["2026-01-31", "2026-02-28", "2026-02-30", "0001-01-01", "9999-12-31", "0000-01-01", "2026-01-31T00:00:00"]
DATES += ["2026-01-31\0", "-001-01-01", " 2026-01-31", "20260131", "2026-1-31", "10000-01-01"]
CLOCKS = [
    "13:45",
    "13:45:00",
    "13:45:00.000",
    "13:45:00.5",
    "13:45:00.50",
    "00:00",
    "23:59:59.999999",
    "24:00",
    "1:00",
]
CLOCKS += ["13:45:00.0000010", "13:45:00.0000001", "13:45Z", "13:60", "13:45\0"]
INSTANTS = [
    *(f"2026-01-31{mark}10:00:00{rest}" for mark in " T\tt" for rest in ("", "Z", ".5", ".50", "+01:00", "\0", ".")),
    *("2026-01-31 10:00", "2026-01-31T10:00:00.123456", "2026-01-31 10:00:00.1234560", "2026-01-31 10:00:00.1234561"),
    *("2026-01-31 09:00:00.123456100-01:00", "2026-01-31 10:00:00.12345612345"),
    *("2026-01-30 23:00:00-11:00", "2026-01-31 11:00+01", "2026-01-31T10:00:00.500000+0000", "2026-01-31 24:00:00"),
    *("0001-01-01 00:00:00", "0001-01-01T00:00+14:00", "9999-12-31 23:59:59", "9999-12-31T23:59-14:00"),
    *("2026-02-30 10:00:00", "0000-01-01 00:00:00", "2026-01-31 10:00:60", "now", "2026-01-31 10:00:00.0000000"),
]
BLOBS = [b"", b"a", b"ab", b"\xff", b"\x00", b"2026-01-31", b"5"]
BROKEN = [Text(b"\xff"), Text(b"a\xff"), Text(b"2026-01-31\xff"), Text(b"\x80b"), Text(b"\xed\xa0\x80")]

STORED: list[Any] = [None, *NUMBERS, *TEXTS, *DATES, *CLOCKS, *INSTANTS, *BLOBS, *BROKEN]
stored = st.sampled_from(STORED) | st.integers(-(2**63), 2**63 - 1) | st.floats(allow_nan=False) | st.text(max_size=3)
of_column = {
    "day": st.sampled_from(DATES) | stored,
    "at": st.sampled_from(INSTANTS) | stored,
    "clock": st.sampled_from(CLOCKS) | stored,
}
rows_of_values = st.lists(st.tuples(*(of_column.get(name, stored) for name in DECLARED)), max_size=12)

FRACTIONS = ("0.1", "2.5", "-0.0", "1e400", "-1e400", "5.00000000000000000001", "9007199254740992.5")
ASKED: dict[str, list[Any]] = {
    "number": [
        *(number for number in NUMBERS if isinstance(number, int)),
        *map(Decimal, FRACTIONS),
        *(2**63, -(2**63) - 1, 2**63 + 1, 10**400, math.inf, -math.inf, math.nan),
    ],
    "text": [
        *TEXTS,
        "\\x",
        "\\xf",
        "61",
        "e",
        "\ud800",
        "i",
        "in",
        "/",
        ".",
        "ff",
        "0",
        "-",
        "2026",
        "1e",
        "xf",
        "80",
    ],
    "boolean": [True, False],
    "bytes": [*BLOBS, b"a\xff", b"\x80b", b"\xed\xa0\x80"],
    "date": [date(2026, 1, 31), date(2026, 2, 28), date.min, date.max],
    "time": [time(13, 45), time(13, 45, 0, 500_000), time(13, 45, 0, 1), time(0), time(23, 59), time.max],
    "timestamp": [
        *(datetime(2026, 1, 31, hour, tzinfo=UTC) for hour in (0, 9, 10)),
        datetime(2026, 1, 31, 10, 0, 0, 500_000, tzinfo=UTC),
        *(datetime.combine(day, time.max if day == date.max else time(), UTC) for day in (date.min, date.max)),
    ],
}
asked = {
    **{kind: st.sampled_from(values) for kind, values in ASKED.items()},
    "number": st.sampled_from(ASKED["number"]) | st.integers() | st.decimals(-(10**20), 10**20),
    "text": st.sampled_from(ASKED["text"]) | st.text(max_size=2),
}
KINDS = {name: Column(name, declared.partition(" COLL")[0]).kind for name, declared in DECLARED.items()}


@st.composite
def filters(draw: st.DrawFn) -> Filter:
    name = draw(st.sampled_from(list(DECLARED)))
    operator = draw(st.sampled_from(operators_of(Column(name, kind=KINDS[name]))))
    if operator == "isnull":
        return Filter(name, operator, draw(st.booleans()))
    value = asked[KINDS[name]]
    if operator in ("in", "notin"):
        return Filter(name, operator, tuple(draw(st.lists(value, max_size=4))))
    return Filter(name, operator, draw(value))


sorts = st.lists(
    st.builds(Sort, st.sampled_from(list(DECLARED)), st.booleans()), max_size=2, unique_by=lambda sort: sort.column
).map(tuple)

LAYOUTS = {
    "plain": "CREATE TABLE t(n INTEGER PRIMARY KEY, {columns})",
    "indexed": "CREATE TABLE t(n INTEGER PRIMARY KEY, {columns}); {indexes}",
    "rowid": "CREATE TABLE t(n INTEGER, rowid TEXT DEFAULT 'x', {columns}); {indexes}",
    "hidden rowid": "CREATE TABLE t(n INTEGER, rowid, oid, _rowid_, {columns}); {indexes}",
    "keyed": "CREATE TABLE t(n INTEGER, {columns}, PRIMARY KEY(n DESC)) WITHOUT ROWID; {indexes}",
    "view": "CREATE TABLE u(n INTEGER PRIMARY KEY, {columns}); {indexes_of_u}; CREATE VIEW t AS SELECT * FROM u",
    "compound": "CREATE TABLE u(n INTEGER PRIMARY KEY, {columns}); {indexes_of_u};"
    " CREATE VIEW t AS SELECT * FROM u WHERE n % 2 UNION ALL SELECT * FROM u WHERE NOT n % 2",
    "union": "CREATE TABLE u(n INTEGER PRIMARY KEY, {columns}); {indexes_of_u};"
    " CREATE VIEW t AS SELECT * FROM u WHERE n % 2 UNION SELECT {rotated} FROM u WHERE NOT n % 2",
    "utf-16": "PRAGMA encoding='UTF-16'; CREATE TABLE t(n INTEGER PRIMARY KEY, {columns}); {indexes}",
}


def build(path: Path, layout: str, rows: list[Row]) -> SqliteDataset:
    names = [quoted(name) for name in DECLARED]
    script = LAYOUTS[layout].format(
        columns=", ".join(f"{quoted(name)} {declared}" for name, declared in DECLARED.items()),
        indexes="; ".join(f"CREATE INDEX i{place} ON t({name})" for place, name in enumerate(names)),
        indexes_of_u="; ".join(f"CREATE INDEX i{place} ON u({name})" for place, name in enumerate(names)),
        rotated=", ".join(["n", *names[1:], names[0]]),
    )
    table = "u" if " u(" in script else "t"
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.executescript(f"PRAGMA synchronous=OFF; PRAGMA journal_mode=OFF; {script}; BEGIN")
        for number, given_row in enumerate(rows):
            row = [None if layout == "utf-16" and isinstance(value, Text) else value for value in given_row]
            marks = ["CAST(? AS TEXT)" if isinstance(value, Text) else "?" for value in row]
            values = [value.raw if isinstance(value, Text) else value for value in row]
            sql = f"INSERT INTO {table}(n, {', '.join(names)}) VALUES (?, {', '.join(marks)})"
            connection.execute(sql, (number, *values))
        connection.execute("COMMIT")
    return datasets(path)["t"]


def read(dataset: SqliteDataset, *columns: str, **asked: Any) -> list[Row]:
    with dataset.open(Selection(columns, **asked)) as batches:
        return [row for batch in batches for row in batch]


# The reference

FAR_YEAR = re.compile(r"-|0000|[0-9]{5}")
OTHER = {"date": FAR_YEAR, "timestamp": FAR_YEAR, "time": re.compile(r"....[0-9]?-")}
"""Text that is of another kind in SQLite, though the reference knows years past those of Python's dates."""


def expected(path: Path, table: SqliteDataset, asked: list[Filter], sort: tuple[Sort, ...]) -> list[int]:
    """The numbers of the rows, by the reference and by the classes in which SQLite stores values."""
    names = [column.name for column in table.columns]
    rows = read(table, *names)
    kinds = {column.name: column.kind for column in table.columns}
    for found in asked:
        rows = matching(rows, names, found)
    classes = stored_classes(path, names)
    for wanted in reversed(sort):
        rows = sorted_by(rows, names, wanted, kinds[wanted.column], classes)
    return [row[names.index("n")] for row in rows]


def matching(rows: list[Row], names: list[str], found: Filter) -> list[Row]:
    """The rows for which a filter holds, where text that cannot be such a value is a value of another kind."""
    place, test, kind = names.index(found.column), reference.test_of(found), KINDS[found.column]
    other = OTHER.get(kind)

    def value(row: Row) -> Any:
        text = isinstance(row[place], str)
        return b"" if text and (kind == "number" or (other and other.match(row[place]))) else row[place]

    return [row for row in rows if test(value(row))]


def stored_classes(path: Path, names: list[str]) -> dict[Any, dict[str, Any]]:
    found = {}
    with closing(sqlite3.connect(path)) as connection:
        connection.text_factory = bytes
        for row in connection.execute(f"SELECT n, {', '.join(f'typeof({quoted(name)})' for name in names)} FROM t"):
            found[row[0]] = dict(zip(names, [kind.decode() for kind in row[1:]], strict=True))
    return found


CLASSES = {"integer": 0, "real": 0, "text": 1, "blob": 2}


def sorted_by(rows: list[Row], names: list[str], sort: Sort, kind: str, classes: Any) -> list[Row]:
    place = names.index(sort.column)
    own: list[Any] = []
    others: list[Any] = []
    for row in rows:
        key = key_of(row[place], kind, classes[row[names.index("n")]][sort.column])
        (others if key is None else own).append((key, row))
    own.sort(key=lambda pair: pair[0], reverse=sort.descending)  # which leaves equals in their order
    return [row for _, row in own] + sorted([row for _, row in others], key=lambda row: row[place] is None)


def key_of(value: Any, kind: str, stored: str) -> Any:
    if value is None:
        return None
    if kind in ("timestamp", "time"):
        return nanoseconds(str(value), parse_timestamp if kind == "timestamp" else parse_time)
    return CLASSES[stored], value.encode() if isinstance(value, str) else value


def nanoseconds(text: str, parse: Callable[[str], Any]) -> Any:
    rest = re.search(r"(\.[0-9]{6})([0-9]{1,3})", text)
    try:
        return (parse(text.replace(rest[0], rest[1])), rest[2].ljust(3, "0")) if rest else (parse(text), "000")
    except ValueError:
        return None


@pytest.mark.parametrize("layout", LAYOUTS)
@settings(max_examples=20, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_rows_and_their_order_are_those_of_the_reference(layout: str, data: st.DataObject) -> None:
    rows = data.draw(rows_of_values)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "t.db"
        table = build(path, layout, rows)
        for _ in range(5):
            found = data.draw(st.lists(filters(), min_size=1, max_size=2))
            expect(path, table, found, data.draw(sorts))


def expect(path: Path, table: SqliteDataset, found: list[Filter], sort: tuple[Sort, ...] = ()) -> None:
    wanted = expected(path, table, found, sort)
    got = numbers(table, found, sort)
    if table.relation.view:  # it promises no order among equals, and none without a sort
        got, wanted = sorted(got), sorted(wanted)
    assert got == wanted, (found, sort)
    limited = numbers(table, found, sort, limit=2)
    assert len(limited) == min(2, len(wanted))
    assert table.relation.view or limited == wanted[:2]


def numbers(table: SqliteDataset, found: list[Filter], sort: tuple[Sort, ...], **more: Any) -> list[int]:
    return [row[0] for row in read(table, "n", filters=tuple(found), sort=sort, **more)]


@pytest.mark.slow
@pytest.mark.parametrize("layout", ["indexed", "union", "utf-16"])
def test_every_stored_value_is_compared_with_every_value_of_a_filter(tmp_path: Path, layout: str) -> None:
    table = build(tmp_path / "t.db", layout, [(value,) * len(DECLARED) for value in STORED])
    names = [column.name for column in table.columns]
    rows = read(table, *names)
    for name in DECLARED:
        for found in all_filters(name):
            wanted = sorted([row[names.index("n")] for row in matching(rows, names, found)])
            assert sorted(numbers(table, [found], ())) == wanted, found
        for descending in (False, True):
            expect(tmp_path / "t.db", table, [], (Sort(name, descending),))


def all_filters(name: str) -> Iterator[Filter]:
    kind = KINDS[name]
    for operator in operators_of(Column(name, kind=kind)):
        if operator == "isnull":
            values: list[Any] = [True, False]
        elif operator in ("in", "notin"):
            values = [(), tuple(ASKED[kind]), *[(value,) for value in ASKED[kind]]]
        else:
            values = ASKED[kind]
        yield from [Filter(name, operator, value) for value in values]
