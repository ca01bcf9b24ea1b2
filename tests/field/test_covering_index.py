"""Databases answer few columns from an index that holds them: in its order, and with a limit other rows."""

from __future__ import annotations

import asyncio
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from asgi_export.sources.postgres.source import PostgresSource
from asgi_export.sources.sqlite.source import SqliteDataset, SqliteSource
from asgi_export.table import Dialect, Selection
from tests.postgres_server import PostgresServer

TABLES = {
    "with rowids": "CREATE TABLE t(id TEXT, name TEXT, filler TEXT)",
    "whose key is the rowid": "CREATE TABLE t(id INTEGER PRIMARY KEY, name TEXT, filler TEXT)",
    "with a key that is an index": "CREATE TABLE t(id TEXT PRIMARY KEY, name TEXT, filler TEXT)",
    "without rowids": "CREATE TABLE t(id INTEGER PRIMARY KEY, name TEXT, filler TEXT) WITHOUT ROWID",
    "with a generated column": "CREATE TABLE t(id INTEGER, name TEXT, filler TEXT, more AS (filler || name))",
}
VIEWS = {
    "of all": "CREATE VIEW v AS SELECT * FROM t",
    "of a view": "CREATE VIEW w AS SELECT * FROM t; CREATE VIEW v AS SELECT id, name, filler FROM w WHERE id >= 0",
    "of a join": "CREATE VIEW v AS SELECT a.id, a.name, b.filler FROM t a LEFT JOIN t b ON b.rowid = a.rowid",
    "of a subquery": "CREATE VIEW v AS SELECT id, name, (SELECT max(filler) FROM t) AS filler FROM t",
    "of a union": "CREATE VIEW v AS SELECT id, name, filler FROM t UNION ALL SELECT id, name, filler FROM t",
    "with an index of its own": "CREATE VIEW v AS SELECT * FROM t INDEXED BY by_name WHERE name > ''",
}


def made(path: Path, script: str) -> Path:
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.executescript(script)
        rows = [(number, f"name {number * 7919 % 1000:03}", "x" * 100) for number in range(1000)]
        connection.executemany("INSERT INTO t(id, name, filler) VALUES (?, ?, ?)", rows)
        connection.execute("CREATE INDEX by_name ON t(name)")
        connection.execute("CREATE INDEX by_both ON t(name, id)")
        connection.execute("ANALYZE")
    return path


def read(dataset: SqliteDataset, *columns: str, limit: int | None = None) -> list[tuple[Any, ...]]:
    with dataset.open(Selection(columns, limit)) as batches:
        return [row for batch in batches for row in batch]


def started(path: Path, name: str) -> SqliteDataset:
    return {found.name: found for found in asyncio.run(SqliteSource(path).start())}[name]


def expect_one_order(dataset: SqliteDataset) -> None:
    names = tuple(column.name for column in dataset.columns)
    whole = read(dataset, *names)
    assert len(whole) >= 1000
    for chosen in (("id",), ("name",), ("id", "name"), ("name", "id"), ("filler",)):
        expected = [tuple(row[names.index(name)] for name in chosen) for row in whole]
        assert read(dataset, *chosen) == expected, chosen
        assert read(dataset, *chosen, limit=3) == expected[:3], chosen
        assert read(dataset, *chosen, limit=0) == []


@pytest.mark.parametrize("table", TABLES.values(), ids=TABLES)
def test_a_table_has_one_order_whatever_columns_are_asked_for(tmp_path: Path, table: str) -> None:
    """The order of an index shows only where the index holds all that is asked for."""
    expect_one_order(started(made(tmp_path / "shop.db", table), "t"))


def test_a_table_with_rowids_has_their_order_though_an_index_holds_all_columns(tmp_path: Path) -> None:
    script = "CREATE TABLE t(id INTEGER PRIMARY KEY, name TEXT, filler TEXT); CREATE INDEX whole ON t(name, filler)"
    found = read(started(made(tmp_path / "shop.db", script), "t"), "id", "name", "filler")
    assert [row[0] for row in found] == list(range(1000))


@pytest.mark.parametrize("view", VIEWS.values(), ids=VIEWS)
def test_a_view_has_the_order_that_it_has_with_all_columns(tmp_path: Path, view: str) -> None:
    path = made(tmp_path / "shop.db", TABLES["whose key is the rowid"])
    with closing(sqlite3.connect(path)) as connection:
        connection.executescript(view)
    expect_one_order(started(path, "v"))


def test_a_virtual_table_has_one_order(tmp_path: Path) -> None:
    path = made(tmp_path / "shop.db", TABLES["with rowids"])
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("CREATE VIRTUAL TABLE v USING fts5(id, name, filler)")
        connection.execute("INSERT INTO v SELECT id, name, filler FROM t ORDER BY name")
    expect_one_order(started(path, "v"))


def test_columns_that_are_not_asked_for_are_not_worked_out(tmp_path: Path) -> None:
    """They are named in a condition that is decided without them."""
    path = made(tmp_path / "shop.db", TABLES["with rowids"])
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE VIEW v AS SELECT id, name, filler, abs(-9223372036854775807 - 1) AS broken FROM t")
    assert len(read(started(path, "v"), "id")) == 1000


def test_a_view_of_two_thousand_columns_gives_one_of_them(tmp_path: Path) -> None:
    names = ", ".join(f"id AS c{number}" for number in range(1996))
    path = made(tmp_path / "shop.db", TABLES["with rowids"])
    with closing(sqlite3.connect(path)) as connection:
        connection.execute(f"CREATE VIEW v AS SELECT id, name, filler, {names} FROM t")
    expect_one_order(started(path, "v"))


def test_a_postgresql_table_has_one_order_whatever_columns_are_asked_for(postgres_server: PostgresServer) -> None:
    """The index is much smaller than a wide table, so that reading all of it costs the server less."""
    postgres_server.execute("CREATE DATABASE covering")
    postgres_server.execute(
        """CREATE TABLE wide (id int, filler text);
        INSERT INTO wide SELECT (g * 7919) % 10007, repeat('x', 900) FROM generate_series(1, 10000) g;
        CREATE INDEX ON wide (id);""",
        "covering",
    )
    postgres_server.execute("VACUUM ANALYZE wide", "covering")
    plan = postgres_server.execute("EXPLAIN SELECT id FROM wide", "covering")
    assert plan.startswith("Index Only Scan"), "the server has to be tempted"

    async def scenario() -> None:
        source = PostgresSource(postgres_server.dsn("covering"))
        (wide,) = await source.start()
        for dialect in (Dialect(), None):
            async with wide.open(Selection(("id", "filler"), 3, dialect)) as batches:
                whole = [batch async for batch in batches]
            async with wide.open(Selection(("id",), 3, dialect)) as batches:
                few = [batch async for batch in batches]
            assert first_fields(few) == first_fields(whole) == ["7919", "5831", "3743"]
        await source.close()

    asyncio.run(scenario())
    postgres_server.execute("DROP DATABASE covering WITH (FORCE)")


def first_fields(batches: list[Any]) -> list[str]:
    if isinstance(batches[0], bytes):
        return [line.partition(",")[0] for line in b"".join(batches).decode().splitlines()]
    return [str(row[0]) for batch in batches for row in batch]
