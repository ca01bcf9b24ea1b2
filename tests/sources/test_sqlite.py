"""A SQLite file as a source: what it lists, what it refuses, and what an export reads back."""

from __future__ import annotations

import asyncio
import logging
import math
import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from asgi_export.addresses import redacted
from asgi_export.errors import SourceFailed, StartupError
from asgi_export.sources.sql import quoted
from asgi_export.sources.sqlite.source import SqliteDataset, SqliteSource
from asgi_export.table import Column, Selection


def make(path: Path, *statements: str) -> Path:
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        for statement in statements:
            connection.execute(statement)
    return path


def datasets(path: Path, **options: Any) -> dict[str, SqliteDataset]:
    return {dataset.name: dataset for dataset in asyncio.run(SqliteSource(path, **options).start())}


def read(dataset: SqliteDataset, *columns: str, limit: int | None = None) -> list[tuple[Any, ...]]:
    names = columns or tuple(column.name for column in dataset.columns)
    with dataset.open(Selection(names, limit)) as batches:
        return [row for batch in batches for row in batch]


@pytest.fixture
def db(tmp_path: Path) -> Path:
    return tmp_path / "shop.db"


def test_tables_and_views_are_datasets_in_the_order_of_creation(db: Path) -> None:
    make(db, "CREATE TABLE z(a)", "CREATE VIEW m AS SELECT a FROM z", "CREATE TABLE b(a)", "CREATE INDEX i ON b(a)")
    assert list(datasets(db)) == ["z", "m", "b"]


def test_declared_types_are_given_as_they_are_and_may_be_empty(db: Path) -> None:
    make(db, "CREATE TABLE t(id INTEGER PRIMARY KEY, price DECIMAL(10,2) NOT NULL, anything)")
    assert datasets(db)["t"].columns == (
        Column("id", "INTEGER"),
        Column("price", "DECIMAL(10,2)"),
        Column("anything", ""),
    )
    assert datasets(db)["t"].default_limit is None


def test_a_declared_type_promises_only_what_sqlite_stores_for_it(db: Path) -> None:
    """DATE, BOOLEAN and DECIMAL hold the text or the number that was stored; JSON is text."""
    declared = [
        "INTEGER",
        "REAL",
        "BLOB",
        "TEXT",
        "DATETIME",
        "DATE",
        "BOOLEAN",
        "DECIMAL(10,2)",
        "JSON",
        "POINT",
        "",
    ]
    make(db, f"CREATE TABLE t({', '.join(f'c{place} {kind}' for place, kind in enumerate(declared))})")
    columns = datasets(db)["t"].columns
    assert [column.kind for column in columns] == (
        ["number", "number", "bytes", "text", "timestamp", "date", "boolean", "number", "text", "text", "text"]
    )
    assert [column.arrow for column in columns] == ["int64", "double", "binary", *["string"] * 8]


def test_sqlites_own_tables_and_the_shadows_of_virtual_tables_are_left_out(db: Path) -> None:
    make(
        db,
        "CREATE TABLE t(id INTEGER PRIMARY KEY AUTOINCREMENT)",
        "CREATE TABLE sqliteish(a)",
        "CREATE VIRTUAL TABLE search USING fts5(title, body)",
        "INSERT INTO search VALUES ('one', 'two')",
    )
    found = datasets(db)
    assert list(found) == ["t", "sqliteish", "search"]
    assert [column.name for column in found["search"].columns] == ["title", "body"]
    assert read(found["search"]) == [("one", "two")]


@pytest.mark.parametrize(
    ("statement", "reason"),
    [
        ("CREATE VIEW bad AS SELECT x FROM gone", "no such table"),
        ("CREATE VIEW bad AS SELECT wish(1) AS x", "no such function"),
        ("CREATE VIEW bad AS SELECT load_extension('x') AS x", "unsafe use"),
        (
            "INSERT INTO sqlite_master VALUES('table','bad','bad',0,'CREATE VIRTUAL TABLE bad USING lost(a)')",
            "module",
        ),
        (
            "INSERT INTO sqlite_master VALUES('view', CAST(x'ff' AS TEXT), CAST(x'ff' AS TEXT), 0,"
            " 'CREATE VIEW \"' || CAST(x'ff' AS TEXT) || '\" AS SELECT 1 AS a')",
            "not UTF-8",
        ),
        (
            "INSERT INTO sqlite_master VALUES('view', 'bad', 'bad', 0,"
            " 'CREATE VIEW bad AS SELECT 1 AS \"' || CAST(x'ff' AS TEXT) || '\"')",
            "not UTF-8",
        ),
    ],
)
def test_what_cannot_be_read_is_left_out_with_one_warning(
    db: Path, statement: str, reason: str, caplog: pytest.LogCaptureFixture
) -> None:
    make(db, "CREATE TABLE t(a)", "PRAGMA writable_schema=ON", statement)
    with caplog.at_level(logging.WARNING, "asgi_export.sources.sqlite"):
        assert list(datasets(db)) == ["t"]
    assert [record.name for record in caplog.records] == ["asgi_export.sources.sqlite"]
    assert reason in caplog.text


def test_generated_columns_are_columns_and_a_table_may_have_no_rowid(db: Path) -> None:
    make(
        db,
        "CREATE TABLE t(k TEXT PRIMARY KEY, twice AS (k || k), kept AS (k || '!') STORED) WITHOUT ROWID",
        "INSERT INTO t VALUES ('b'), ('a')",
    )
    assert read(datasets(db)["t"]) == [("a", "aa", "a!"), ("b", "bb", "b!")]


def test_columns_come_in_the_order_of_the_selection_and_the_limit_holds(db: Path) -> None:
    make(db, "CREATE TABLE t(a, b, c)", "INSERT INTO t VALUES (1, 2, 3), (4, 5, 6), (7, 8, 9)")
    table = datasets(db)["t"]
    assert read(table, "c", "a", limit=2) == [(3, 1), (6, 4)]
    assert read(table, "b", limit=0) == []
    assert len(read(table, limit=10**30)) == 3


def test_an_empty_table_gives_no_batch(db: Path) -> None:
    make(db, "CREATE TABLE t(a)")
    with datasets(db)["t"].open(Selection(("a",))) as batches:
        assert list(batches) == []
        assert next(batches, None) is None


IDENTIFIERS = [
    "",
    'a"b',
    "a]b",
    "a`b",
    "a'b",
    "a;--",
    "select",
    "naïve 名",
    "a.b",
    "a,b",
    " ",
    "%s ?",
    "\n",
    "a\\b",
]


@pytest.mark.parametrize("name", IDENTIFIERS)
def test_any_name_is_only_ever_a_name(db: Path, name: str) -> None:
    make(db, f"CREATE TABLE {quoted(name)}({quoted(name)}, other)", f"INSERT INTO {quoted(name)} VALUES (1, 2)")
    table = datasets(db)[name]
    assert table.columns[0].name == name
    assert read(table, "other", name) == [(2, 1)]


VALUES = [
    None,
    0,
    -(2**63),
    2**63 - 1,
    0.1,
    math.inf,
    -math.inf,
    "",
    "a\x00b",
    'quote " comma , line\r\nend',
    "naïve 名 😀",
    b"",
    b"\x00\xff",
]


def test_a_column_holds_any_value_whatever_its_declared_type(db: Path) -> None:
    make(db, "CREATE TABLE t(n INTEGER PRIMARY KEY, v)")
    with closing(sqlite3.connect(db)) as connection, connection:
        connection.executemany("INSERT INTO t(v) VALUES (?)", [(value,) for value in VALUES])
    got = [value for (value,) in read(datasets(db)["t"], "v")]
    assert got == VALUES
    assert [type(value) for value in got] == [type(value) for value in VALUES]


@given(texts=st.lists(st.binary(max_size=6) | st.text(max_size=6).map(str.encode), max_size=90))
def test_text_comes_back_as_it_is_stored_utf_8_or_not(
    tmp_path_factory: pytest.TempPathFactory, texts: list[bytes]
) -> None:
    """No row is lost, read twice or changed where text that is not UTF-8 stops the fast decoder."""
    db = make(tmp_path_factory.mktemp("text") / "t.db", "CREATE TABLE t(n INTEGER PRIMARY KEY, v TEXT)")
    with closing(sqlite3.connect(db)) as connection, connection:
        connection.executemany("INSERT INTO t(v) VALUES (CAST(? AS TEXT))", [(text,) for text in texts])
    rows = read(datasets(db)["t"])
    assert [number for number, _ in rows] == list(range(1, len(texts) + 1))
    assert [value.encode() if isinstance(value, str) else value for _, value in rows] == texts
    assert all(isinstance(value, str) or not _is_utf_8(value) for _, value in rows)


def _is_utf_8(text: bytes) -> bool:
    try:
        text.decode()
    except UnicodeDecodeError:
        return False
    return True


def test_a_table_of_two_thousand_columns_is_read(db: Path) -> None:
    names = [f"c{number}" for number in range(2000)]
    make(db, f"CREATE TABLE t({','.join(names)})", f"INSERT INTO t VALUES ({','.join(map(str, range(2000)))})")
    assert read(datasets(db)["t"]) == [tuple(range(2000))]


def test_a_column_dropped_after_the_start_is_an_error_not_its_own_name(db: Path) -> None:
    make(db, "CREATE TABLE t(a, b)", "INSERT INTO t VALUES (1, 2)")
    table = datasets(db)["t"]
    make(db, "ALTER TABLE t DROP COLUMN b")
    with pytest.raises(SourceFailed, match=r"no such column: t\.b"):
        read(table, "a", "b")


@pytest.mark.parametrize("name", ["a?mode=rw", "a#b", "100%41", "with blank", "名.db", "a&b=c", "-x", "a:b"])
def test_a_file_may_have_any_name(tmp_path: Path, name: str) -> None:
    make(tmp_path / "plain", "CREATE TABLE t(a)").rename(tmp_path / name)
    assert list(datasets(tmp_path / name)) == ["t"]
    assert [entry.name for entry in tmp_path.iterdir()] == [name]


def test_a_relative_path_is_that_of_the_start(db: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make(db, "CREATE TABLE t(a)")
    monkeypatch.chdir(db.parent)
    source = SqliteSource(db.name)
    monkeypatch.chdir("/")
    assert len(asyncio.run(source.start())) == 1


def unreadable(path: Path) -> Iterator[tuple[Path, str]]:
    (path / "folder").mkdir()
    (path / "notes.db").write_text("Dear diary, " * 100)
    (path / "empty.db").touch()
    make(path / "bare.db", "PRAGMA user_version=1")
    yield path / "missing.db", "No such file or directory"
    yield path / "no" / "way" / "missing.db", "No such file or directory"
    yield path / "folder", "expected a SQLite file"
    yield Path(os.devnull), "expected a SQLite file"
    yield path / "nul\0.db", "null"
    yield path / "notes.db", "file is not a database"
    yield path / "empty.db", "holds no table"
    yield path / "bare.db", "holds no table"


def test_a_location_that_cannot_be_served_stops_the_start_with_one_line_that_names_it(tmp_path: Path) -> None:
    for path, reason in unreadable(tmp_path):
        with pytest.raises(StartupError, match=reason) as caught:
            datasets(path)
        assert str(caught.value).startswith(f"{redacted(str(path))}: ")
        assert "\n" not in str(caught.value)
    assert not (tmp_path / "missing.db").exists()


def test_a_broken_schema_whose_name_is_no_text_stops_the_start_with_one_line(db: Path) -> None:
    make(
        db,
        "CREATE TABLE t(a)",
        "PRAGMA writable_schema=ON",
        "INSERT INTO sqlite_master VALUES('view', CAST(x'ff' AS TEXT), '', 0, 'CREATE VIEW v AS SELECT (')",
    )
    with pytest.raises(StartupError, match="cannot be read"):
        datasets(db)


def test_a_source_has_the_name_of_its_file_unless_it_is_given_one(db: Path) -> None:
    assert SqliteSource(db).name == "shop.db"
    assert SqliteSource(db, name="shop").name == "shop"


def test_check_reads_the_file_and_raises_when_it_is_gone(db: Path) -> None:
    make(db, "CREATE TABLE t(a)")
    source = SqliteSource(db)
    asyncio.run(source.check())
    db.unlink()
    with pytest.raises(sqlite3.OperationalError, match="unable to open"):
        asyncio.run(source.check())
    asyncio.run(source.close())
    asyncio.run(source.close())
