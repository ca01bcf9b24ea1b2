"""Queries of the operator in SQLite: prepared at the start, run with filters and sort on top."""

from __future__ import annotations

import asyncio
import logging
import math
from datetime import UTC, date, datetime, time
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from asgi_export import ExportApp
from asgi_export.errors import BadRequest, StartupError
from asgi_export.sources.sqlite.source import SqliteDataset, SqliteSource
from asgi_export.table import Filter, ParameterType, Query, QueryParameter, Scalar, Selection, Sort
from tests.doubles import Client, run
from tests.sources.test_sqlite import make
from tests.sources.test_sqlite_cursor import ENDLESS, MANY
from tests.sources.test_sqlite_plans import expect_interruptible

BY_DAY = Query(
    "by_day",
    """SELECT id, total, customer AS "who", 'it''s :no' AS note -- :no, 'neither
    FROM sales WHERE day >= :since AND day < :until AND [id] > /* :no */ 0 ORDER BY id DESC -- the end""",
    (QueryParameter("since", "date"), QueryParameter("until", "date", date(2100, 1, 1))),
    "Sales of a span of days",
)
SINCE = {"since": date(2026, 3, 1), "until": date(2100, 1, 1)}


@pytest.fixture
def db(tmp_path: Path) -> Path:
    return make(
        tmp_path / "shop.db",
        "CREATE TABLE sales(id INTEGER PRIMARY KEY, day DATE, total DECIMAL(10,2), customer TEXT)",
        "INSERT INTO sales SELECT n, date('2026-01-01', '+' || n || ' days'), n / 4.0, 'c' || (n % 3)"
        f" FROM ({MANY.format(rows=100)})",
        "CREATE INDEX by_customer ON sales(customer)",
    )


def started(path: Path, *queries: Query) -> dict[str, SqliteDataset]:
    return {found.name: found for found in asyncio.run(SqliteSource(path, queries=queries).start())}


def named(sql: str, **parameters: ParameterType) -> Query:
    return Query("q", sql, tuple([QueryParameter(name, kind) for name, kind in parameters.items()]))


def rows(dataset: SqliteDataset, *columns: str, **asked: Any) -> list[Any]:
    names = columns or tuple(column.name for column in dataset.columns)
    with dataset.open(Selection(names, **asked)) as batches:
        return [row for batch in batches for row in batch]


def test_a_query_is_a_dataset_behind_the_tables_with_the_types_of_its_columns(db: Path) -> None:
    found = started(db, BY_DAY)
    assert list(found) == ["sales", "by_day"]
    by_day = found["by_day"]
    assert by_day.query is BY_DAY
    assert [(column.name, column.kind) for column in by_day.columns[:3]] == [
        ("id", "number"),
        ("total", "number"),
        ("who", "text"),
    ]
    assert rows(by_day, arguments=SINCE, limit=2) == [(100, 25.0, "c1", "it's :no"), (99, 24.75, "c0", "it's :no")]


def test_the_order_of_a_query_does_not_depend_on_the_columns(db: Path) -> None:
    plain = started(db, named("SELECT id, customer, total FROM sales"))["q"]
    assert rows(plain, "customer") == [(row[1],) for row in rows(plain)]
    by_day = started(db, BY_DAY)["by_day"]
    assert rows(by_day, "who", arguments=SINCE) == [(row[2],) for row in rows(by_day, arguments=SINCE)]


def test_filters_and_a_sort_hold_for_the_result(db: Path) -> None:
    by_day = started(db, BY_DAY)["by_day"]
    asked = (Filter("who", "exact", "c1"), Filter("total", "gte", Decimal("24.25")))
    assert rows(by_day, "id", arguments=SINCE, filters=asked) == [(100,), (97,)]
    assert rows(by_day, "total", arguments=SINCE, filters=asked, sort=(Sort("id"),)) == [(24.25,), (25.0,)]
    assert rows(by_day, "id", arguments=SINCE, filters=asked, limit=0) == []


@pytest.mark.parametrize(
    ("kind", "value", "bound"),
    [
        ("integer", 2**63 - 1, 2**63 - 1),
        ("number", Decimal("0.1"), 0.1),
        ("number", 10**30, 1e30),
        ("number", math.inf, math.inf),
        ("text", "'; DROP TABLE sales; --\0:v0", "'; DROP TABLE sales; --\0:v0"),
        ("boolean", True, 1),
        ("date", date(2026, 1, 31), "2026-01-31"),
        ("time", time(13, 45), "13:45:00"),
        ("timestamp", datetime(2026, 1, 31, 13, 45, tzinfo=UTC), "2026-01-31 13:45:00"),
        ("bytes", b"\0\xff", b"\0\xff"),
    ],
)
def test_arguments_are_bound_as_sqlite_holds_them(db: Path, kind: ParameterType, value: Scalar, bound: Any) -> None:
    query = started(db, named("SELECT :v0 AS given, typeof(:v0) AS kind", v0=kind))["q"]
    ((given, _),) = rows(query, arguments={"v0": value}, filters=(Filter("kind", "not", "x"),))
    assert (given, type(given)) == (bound, type(bound))


@pytest.mark.parametrize(("kind", "value"), [("number", math.nan), ("text", "\ud800")])
def test_an_argument_that_sqlite_has_not_is_a_bad_request(db: Path, kind: ParameterType, value: Scalar) -> None:
    with pytest.raises(BadRequest, match=r"^a: expected"):
        rows(started(db, named("SELECT :a AS a", a=kind))["q"], arguments={"a": value})


@pytest.mark.parametrize(
    "sql",
    [
        "VALUES (1), (2)",
        "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n LIMIT 2) SELECT i FROM n;",
        "SELECT value FROM json_each('[1, 2]')",
        'SELECT count(*), max(id) + 1, "total" FROM sales GROUP BY id LIMIT 2',
        'SELECT 1 AS "a""b", 2 AS ":v0" UNION ALL SELECT 1, 2',
    ],
)
def test_what_reads_is_a_query(db: Path, sql: str) -> None:
    query = started(db, named(sql))["q"]
    assert len(rows(query)) == 2
    assert len(rows(query, query.columns[0].name, sort=(Sort(query.columns[-1].name),))) == 2


@pytest.mark.parametrize(
    ("sql", "reason"),
    [
        ("SELECT gone FROM sales", "no such column: gone"),
        ("SELECT * FROM gone", "no such table"),
        ("SELECT wish(1)", "no such function"),
        ("SELEC 1", "syntax error"),
        ("SELECT 1; SELECT 2", "two statements"),
        ("SELECT ?1", "expected parameters by name"),
        ("SELECT :other", ":other is no parameter"),
        ("SELECT 1) UNION SELECT * FROM (SELECT 2", "syntax error"),
        ("SELECT id, customer AS id FROM sales", "two columns are called 'id'"),
        *((sql, "syntax error") for sql in ("DELETE FROM sales", "PRAGMA user_version=1", "ATTACH ':memory:' AS x")),
        *((sql, "syntax error") for sql in ("EXPLAIN SELECT 1", "INSERT INTO sales VALUES (1)", "CREATE TABLE x(a)")),
        ("WITH x AS (SELECT 1) DELETE FROM sales", "syntax error"),
        ("SELECT load_extension('x') AS x", "not authorized"),
    ],
)
def test_a_query_that_is_no_select_or_cannot_be_prepared_stops_the_start_with_one_line(
    db: Path, sql: str, reason: str
) -> None:
    before = db.read_bytes()
    if "load_extension" in sql:  # it is refused when it runs
        with pytest.raises(Exception, match=reason):
            rows(started(db, named(sql))["q"])
        return
    with pytest.raises(StartupError, match=reason) as caught:
        started(db, named(sql))
    assert str(caught.value).startswith(f"{db}: queries.q: ")
    assert "\n" not in str(caught.value)
    assert db.read_bytes() == before


def test_a_query_with_the_name_of_a_table_stops_the_start(db: Path) -> None:
    with pytest.raises(StartupError, match=r"queries\.sales: a table or view has this name"):
        started(db, Query("sales", "SELECT 1 AS a"))


def test_a_query_follows_migrations_and_is_left_out_when_it_no_longer_prepares(
    db: Path, caplog: pytest.LogCaptureFixture
) -> None:
    source = SqliteSource(db, queries=[named("SELECT * FROM sales")])

    async def scenario() -> None:
        await source.start()
        make(db, "ALTER TABLE sales ADD COLUMN more BLOB")
        *_, query = await source.refresh() or ()
        assert query.columns[-1].name == "more"
        assert await source.refresh() is None
        make(db, "ALTER TABLE sales RENAME TO sold")
        with caplog.at_level(logging.WARNING, "asgi_export.sources.sqlite"):
            assert [found.name for found in await source.refresh() or ()] == ["sold"]
        assert "queries.q: no such table" in caplog.text

    asyncio.run(scenario())


def test_a_query_that_thinks_ends_when_it_is_interrupted(tmp_path: Path) -> None:
    make(tmp_path / "t.db", "CREATE TABLE t(a)")
    sql = ENDLESS.format(below=0).partition(" AS\n")[2].replace("< 0", "< :n")
    query = started(tmp_path / "t.db", named(sql, n="integer"))["q"]
    expect_interruptible(query.open(Selection(("n",), arguments={"n": 0}))._cursor)


def test_a_request_gives_arguments_filters_and_a_sort(db: Path) -> None:
    client = Client()

    async def scenario() -> None:
        app = ExportApp([SqliteSource(db, queries=[BY_DAY])])
        query = "dataset=by_day&columns=id,who&since=2026-04-01&until=2026-04-05&total__gte=22.75&sort=id"
        await client.ask(app, query)
        await app.stop()

    run(scenario())
    assert (client.status, client.body.decode()) == (200, "id,who\n91,c1\n92,c2\n93,c0\n")
