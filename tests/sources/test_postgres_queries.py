"""Queries of the operator in PostgreSQL: prepared at the start, run with filters and sort on top."""

from __future__ import annotations

import asyncio
import csv
import io
import json
import logging
from datetime import UTC, date, datetime, time
from decimal import Decimal
from typing import Any

import pytest

from asgi_export import ExportApp
from asgi_export.errors import BadRequest, StartupError
from asgi_export.sources.postgres.source import PostgresDataset, PostgresSource
from asgi_export.table import Dialect, Filter, ParameterType, Query, QueryParameter, Selection, Sort
from tests.doubles import Client
from tests.field.test_postgres_encodings import make
from tests.pgbouncer import pgbouncer
from tests.postgres_server import PostgresServer
from tests.sources.postgres_shop import READER, Monitor, Shop, make_shop, run

SQL = f"""
CREATE DOMAIN amount AS numeric(10,2);
CREATE TYPE mood AS ENUM ('calm', 'wild');
CREATE TYPE pair AS (a int, b int);
CREATE TABLE sales (id int PRIMARY KEY, day date, at timestamptz, total amount, customer text, mood mood, pair pair,
  tags text[], paid bool, raw bytea, clock time);
INSERT INTO sales SELECT g, date '2026-01-01' + g, timestamptz '2026-01-01 00:00+00' + g * interval '1 h', g / 4.0,
  'c' || g % 3, 'calm', ROW(1, NULL)::pair, ARRAY['x'], g % 2 = 0, decode('00', 'hex'), '13:45'
  FROM generate_series(1, 100) g;
CREATE INDEX ON sales(day);
GRANT SELECT ON sales TO {READER};
CREATE FUNCTION writes() RETURNS int LANGUAGE sql AS 'DELETE FROM sales RETURNING id';
"""

COPY = Dialect()
PORTAL = Dialect(quote="all")
ROADS = pytest.mark.parametrize("dialect", [COPY, PORTAL, None], ids=["copy", "portal", "values"])

BY_DAY = Query(
    "by_day",
    """SELECT id, total, customer AS "who", 'it''s :no' AS note -- :no, 'neither
    FROM sales WHERE day >= :since AND day < :until AND :since > '1999-01-01'::date ORDER BY id DESC -- the end""",
    (QueryParameter("since", "date"), QueryParameter("until", "date", date(2100, 1, 1))),
    "Sales of a span of days",
)
TYPES: dict[str, ParameterType] = {
    "i": "integer",
    "n": "number",
    "t": "text",
    "b": "boolean",
    "d": "date",
    "c": "time",
    "s": "timestamp",
    "y": "bytes",
}
TYPED = Query(
    "typed",
    "SELECT 1 AS id, :i AS i, :n AS n, :t AS t, :b AS b, :d AS d, :c AS c, :s AS s, :y AS y",
    tuple([QueryParameter(name, kind) for name, kind in TYPES.items()]),
)


@pytest.fixture(scope="module")
def sales(postgres_server: PostgresServer) -> Shop:
    return make_shop(postgres_server, "sales", SQL)


def named(sql: str, **parameters: Any) -> Query:
    return Query("q", sql, tuple(QueryParameter(name, kind) for name, kind in parameters.items()))


async def found(dataset: PostgresDataset, dialect: Dialect | None = COPY, **options: Any) -> list[list[str]]:
    columns = options.pop("columns", tuple(column.name for column in dataset.columns))
    async with dataset.open(Selection(columns, dialect=dialect, **options)) as cursor:
        batches = [batch async for batch in cursor]
    if batches and isinstance(batches[0], bytes):
        return list(csv.reader(io.StringIO(b"".join(batches).decode(), newline="")))  # type: ignore[arg-type]
    return [["" if value is None else str(value) for value in row] for batch in batches for row in batch]  # type: ignore[union-attr]


@ROADS
def test_a_query_is_a_dataset_with_arguments_filters_and_sort(sales: Shop, dialect: Dialect | None) -> None:
    async def test(datasets: dict[str, PostgresDataset], _: Monitor) -> None:
        query = datasets["by_day"]
        assert [(column.name, column.type, column.kind) for column in query.columns] == [
            ("id", "integer", "number"),
            ("total", "numeric", "number"),
            ("who", "text", "text"),
            ("note", "text", "text"),
        ]
        assert query.query is BY_DAY
        arguments = {"since": date(2026, 4, 1), "until": date(2026, 4, 11)}
        rows = await found(query, dialect, arguments=arguments)
        assert [int(row[0]) for row in rows] == list(range(99, 89, -1))
        assert rows[0] == ["99", "24.75", "c0", "it's :no"]
        filters = (
            Filter("who", "exact", "c0"),
            Filter("total", "lt", Decimal(24)),
            Filter("note", "startswith", "it's"),
        )
        some = await found(
            query, dialect, arguments=arguments, filters=filters, sort=(Sort("id"),), columns=("id", "who")
        )
        assert some == [["90", "c0"], ["93", "c0"]]
        assert await found(query, dialect, arguments=arguments, limit=1, columns=("id", "who")) == [["99", "c0"]]

    run(sales, test, queries=[BY_DAY])


@ROADS
def test_arguments_are_values_of_their_type_whatever_they_hold(sales: Shop, dialect: Dialect | None) -> None:
    arguments: dict[str, Any] = {
        "i": -(2**63),
        "n": Decimal("1.50"),
        "t": "'); DROP TABLE sales; -- \\' $$ :d %s ☃",
        "b": True,
        "d": date(1, 1, 1),
        "c": time(23, 59, 59, 999_999),
        "s": datetime(9999, 12, 31, 23, tzinfo=UTC),
        "y": b"\x00'\\",
    }

    async def test(datasets: dict[str, PostgresDataset], _: Monitor) -> None:
        (row,) = await found(datasets["typed"], dialect, arguments=arguments)
        assert row[:4] == ["1", str(-(2**63)), "1.50", arguments["t"]]
        kinds = [column.kind for column in datasets["typed"].columns]
        assert kinds == ["number", "number", "number", "text", "boolean", "date", "time", "timestamp", "bytes"]
        assert (
            await found(datasets["typed"], dialect, arguments=arguments, filters=(Filter("s", "lt", arguments["s"]),))
            == []
        )
        with pytest.raises(BadRequest, match="t: expected text without NUL"):
            await found(datasets["typed"], dialect, arguments={**arguments, "t": "a\0"})

    run(sales, test, queries=[TYPED])


def test_columns_of_every_type_have_the_kinds_of_tables(sales: Shop) -> None:
    sql = "SELECT *, ROW(1, 2) AS anonymous, NULL AS nothing, now()::timestamptz(0) AS now FROM sales"

    async def test(datasets: dict[str, PostgresDataset], _: Monitor) -> None:
        table = {column.name: column.kind for column in datasets["sales"].columns}
        query = {column.name: column.kind for column in datasets["q"].columns}
        assert query == {**table, "anonymous": "text", "nothing": "text", "now": "timestamp"}
        for dialect in (COPY, PORTAL, None):
            rows = await found(datasets["q"], dialect, filters=(Filter("pair", "isnull", value=False),), limit=1)
            assert rows[0][0] == "1"

    run(sales, test, queries=[named(sql)])


@pytest.mark.parametrize(
    ("query", "said"),
    [
        (named("SELECT id FROM nowhere"), 'queries.q: relation "nowhere" does not exist'),
        (named("SELEKT"), "queries.q: syntax error"),
        (named("SELECT 1 AS a; DELETE FROM sales"), "queries.q: two statements; expected one"),
        (named("SELECT 1) AS q; SELECT (2"), "queries.q: two statements"),
        (named("SELECT 1) AS q, (SELECT 2"), "queries.q: syntax error"),
        (named("DELETE FROM sales RETURNING id"), "queries.q: syntax error"),
        (named("WITH gone AS (DELETE FROM sales RETURNING id) SELECT id FROM gone"), "data-modifying"),
        (named("SELECT id INTO other FROM sales"), "queries.q: "),
        (named("COPY sales TO STDOUT"), "queries.q: "),
        (named("SELECT id, id FROM sales"), "two columns are called 'id'; expected another name by AS"),
        (named("SELECT FROM sales"), "it has no columns"),
        (named("SELECT :a AS a"), ":a is no parameter"),
        (named("SELECT 1 AS a", a="text"), "parameter a is not used"),
        (named("SELECT id FROM sales WHERE id = :a", a="date"), "queries.q: operator does not exist"),
        (Query("sales", "SELECT 1 AS a"), "queries.sales: a table or view has this name"),
    ],
)
def test_a_query_that_does_not_prepare_stops_the_start_with_one_line(sales: Shop, query: Query, said: str) -> None:
    with pytest.raises(StartupError) as caught:
        asyncio.run(sales.source(queries=[query]).start())
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


@ROADS
def test_a_query_cannot_write_whatever_it_calls(sales: Shop, dialect: Dialect | None) -> None:
    async def test(datasets: dict[str, PostgresDataset], _: Monitor) -> None:
        with pytest.raises(Exception, match="could not deliver it"):
            await found(datasets["q"], dialect)

    run(sales, test, queries=[named("SELECT writes() AS a, 1 AS b")])
    assert sales.execute("SELECT count(*) FROM sales") == "100"


@ROADS
def test_an_argument_that_cannot_be_computed_with_is_a_bad_request(
    sales: Shop, dialect: Dialect | None, caplog: pytest.LogCaptureFixture
) -> None:
    query = named("SELECT id, total / :by AS part FROM sales LIMIT :most", by="integer", most="integer")

    async def test(datasets: dict[str, PostgresDataset], monitor: Monitor) -> None:
        for arguments in ({"by": 0, "most": 1}, {"by": 1, "most": -1}):
            with pytest.raises(BadRequest, match="q: the query cannot be computed with these parameters"):
                await found(datasets["q"], dialect, arguments=arguments)
        assert len(await found(datasets["q"], dialect, arguments={"by": 2, "most": 3})) == 3
        assert await monitor.states() == ["idle"]

    run(sales, test, queries=[query], max_connections=1)
    assert "the query fails with its arguments (DivisionByZeroError)" in caplog.text


def test_a_character_that_the_database_lacks_is_a_bad_request(postgres_server: PostgresServer) -> None:
    shop = make(postgres_server, "latin queries", "LATIN1", f"CREATE TABLE t (id int); GRANT SELECT ON t TO {READER}")

    async def test(datasets: dict[str, PostgresDataset], _: Monitor) -> None:
        assert await found(datasets["q"], arguments={"a": "é"}) == [["é", "1"]]
        for dialect in (COPY, PORTAL, None):
            with pytest.raises(BadRequest, match="expected other values"):
                await found(datasets["q"], dialect, arguments={"a": "€"})

    run(shop, test, queries=[named("SELECT :a AS a, 1 AS b", a="text")])


def test_a_migration_changes_the_columns_of_a_query_and_leaves_out_what_no_longer_prepares(
    sales: Shop, caplog: pytest.LogCaptureFixture
) -> None:
    sales.execute(f"CREATE TABLE moving (id int); GRANT SELECT ON moving TO {READER}")
    queries = [Query("all_of_it", "SELECT * FROM moving"), Query("ids", "SELECT id FROM moving"), BY_DAY]

    async def main() -> None:
        source = sales.source(queries=queries)
        try:
            assert [dataset.name for dataset in await source.start()][-3:] == ["all_of_it", "ids", "by_day"]
            sales.execute("ALTER TABLE moving RENAME id TO number")
            again = {dataset.name: dataset for dataset in await source.refresh() or ()}
            assert [column.name for column in again["all_of_it"].columns] == ["number"]
            assert "ids" not in again
            assert (
                len(await found(again["by_day"], arguments={"since": date(2026, 1, 1), "until": date(2027, 1, 1)}))
                == 100
            )
        finally:
            await source.close()
            sales.execute("DROP TABLE moving")

    with caplog.at_level(logging.WARNING):
        asyncio.run(main())
    assert 'queries.ids: column "id" does not exist; it is left out' in caplog.text


def test_a_query_is_asked_over_http_and_through_a_pooler(sales: Shop) -> None:
    async def main() -> None:
        with pgbouncer(sales.server, users=[READER], pool_mode="transaction") as pooler:
            app = ExportApp([PostgresSource(pooler.dsn(sales.database, user=READER), queries=[BY_DAY])])
            answers = {}
            for query in (
                "since=2026-04-10&total__gte=25&columns=id,who",
                "",
                "since=x",
                "since=2026-01-01&until=a%27b",
            ):
                client = Client()
                await client.ask(app, f"dataset=by_day&{query}", path="/api/v1/exports/csv")
                answers[query] = (client.status, client.body)
            await app.stop()
        assert [status for status, _ in answers.values()] == [200, 400, 400, 400]
        first, missing, *_ = [body for _, body in answers.values()]
        assert first == b"id,who\n100,c1\n"
        assert json.loads(missing)["detail"].startswith("since: missing")

    asyncio.run(main())
