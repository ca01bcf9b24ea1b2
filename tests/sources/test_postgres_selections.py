"""Exports of chosen and sorted rows of PostgreSQL: their order, the indexes that are used, and how they end."""

from __future__ import annotations

import asyncio
import csv
import io
import json
from collections.abc import Sequence
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any

import pytest

from asgi_export import ExportApp
from asgi_export.errors import Unavailable
from asgi_export.sources.postgres.cursor import CopyQuery, RowsQuery
from asgi_export.sources.postgres.source import PostgresDataset, PostgresSource
from asgi_export.sources.postgres.statement import query_for
from asgi_export.table import Dialect, Filter, Selection, Sort
from tests.doubles import Client
from tests.field.test_postgres_encodings import make, raw
from tests.pgbouncer import pgbouncer
from tests.postgres_server import PostgresServer
from tests.sources.postgres_shop import READER, Monitor, Shop, make_shop, run

ROWS = 20_000

SQL = f"""
CREATE TABLE big (id int, n int, code text, vc varchar(20), ch char(8), uid uuid, day date, at timestamptz,
  price numeric(10,2), f float8, raw bytea, filler text);
INSERT INTO big SELECT g, g % 500, 'c' || g % 500, 'v' || g % 500, 'h' || g % 500, md5((g % 500)::text)::uuid,
  date '2026-01-01' + g % 500, timestamptz '2026-01-01 00:00+00' + g % 500 * interval '1 h', g % 500 / 4.0,
  g % 500 / 4.0, decode(md5((g % 500)::text), 'hex'), repeat('x', 100)
  FROM generate_series(1, {ROWS}) g ORDER BY md5(g::text);
INSERT INTO big(id, filler) VALUES (0, 'nulls');
CREATE INDEX ON big(n); CREATE INDEX ON big(code); CREATE INDEX ON big(vc); CREATE INDEX ON big(ch);
CREATE INDEX ON big(uid); CREATE INDEX ON big(day); CREATE INDEX ON big(at); CREATE INDEX ON big(price);
CREATE INDEX ON big(f); CREATE INDEX ON big(raw);
CREATE VIEW few AS SELECT id, n, code FROM big WHERE n < 3;
CREATE MATERIALIZED VIEW kept AS SELECT id, n, code FROM big WHERE n < 3;
CREATE TABLE parts (id int, n int) PARTITION BY RANGE (id);
CREATE TABLE parts_1 PARTITION OF parts FOR VALUES FROM (0) TO (100);
CREATE TABLE parts_2 PARTITION OF parts FOR VALUES FROM (100) TO (200);
INSERT INTO parts SELECT g, g % 3 FROM generate_series(0, 199) g;
CREATE EXTENSION file_fdw;
CREATE SERVER files FOREIGN DATA WRAPPER file_fdw;
CREATE FOREIGN TABLE imported (id int, n int) SERVER files
  OPTIONS (program $$printf '1,2\\n2,1\\n3,2\\n'$$, format 'csv');
CREATE TABLE mixed (id int, n int) PARTITION BY LIST (n);
CREATE TABLE mixed_1 PARTITION OF mixed FOR VALUES IN (1);
CREATE FOREIGN TABLE mixed_2 PARTITION OF mixed FOR VALUES IN (2) SERVER files
  OPTIONS (program $$printf '1,2\\n2,2\\n'$$, format 'csv');
INSERT INTO mixed VALUES (9, 1);
CREATE TABLE parent (id int, n int);
CREATE TABLE child () INHERITS (parent);
INSERT INTO parent VALUES (2, 1); INSERT INTO child VALUES (1, 1), (3, 0);
CREATE TABLE half (id int, n int, secret int);
INSERT INTO half VALUES (2, 1, 0), (1, 1, 0), (3, 0, 0);
CREATE TABLE odd ("q" int, "id" int, "tableoid_" int, "text" text, "n" numeric);
INSERT INTO odd VALUES (10, 1, 1, 'b', 9), (9, 2, 2, 'B', 10), (100, 3, 3, 'a', NULL);
CREATE VIEW slow AS SELECT id, pg_sleep(0.01 * n)::text AS nap, n FROM big;
CREATE TABLE wide AS
  SELECT g AS id, md5(g::text) AS text, repeat('x', 500) AS filler FROM generate_series(1, 20000) g;
GRANT SELECT ON ALL TABLES IN SCHEMA public TO {READER};
REVOKE SELECT ON half FROM {READER};
GRANT SELECT (id, n) ON half TO {READER};
ANALYZE;
"""

Datasets = dict[str, PostgresDataset]
COPY = Dialect()
PORTAL = Dialect(quote="all")
ROADS = pytest.mark.parametrize("dialect", [COPY, PORTAL, None], ids=["copy", "portal", "values"])


@pytest.fixture(scope="module")
def chosen(postgres_server: PostgresServer) -> Shop:
    return make_shop(postgres_server, "chosen", SQL)


async def found(dataset: PostgresDataset, dialect: Dialect | None, *columns: str, **options: Any) -> list[list[str]]:
    """The rows of an export as text."""
    async with dataset.open(Selection(columns, dialect=dialect, **options)) as cursor:
        batches = [batch async for batch in cursor]
    if batches and isinstance(batches[0], bytes):
        return list(csv.reader(io.StringIO(b"".join(batches).decode(), newline="")))  # type: ignore[arg-type]
    return [["" if value is None else str(value) for value in row] for batch in batches for row in batch]  # type: ignore[union-attr]


async def ids(dataset: PostgresDataset, dialect: Dialect | None = COPY, **options: Any) -> list[int]:
    return [int(row[0]) for row in await found(dataset, dialect, "id", "n", **options)]


CONDITIONS: Sequence[Filter] = [
    Filter("n", "exact", 7),
    Filter("n", "lt", Decimal("2.5")),
    Filter("n", "in", (1, 2, Decimal("3.0"), 10**30)),
    Filter("code", "exact", "c7"),
    Filter("code", "in", ("c7", "it's", "c8\\")),
    Filter("code", "startswith", "c49"),
    Filter("code", "lt", "c10"),
    Filter("vc", "exact", "v7"),
    Filter("vc", "startswith", "v49"),
    Filter("ch", "exact", "h7      "),
    Filter("ch", "in", ("h7      ", "h8")),
    Filter("uid", "exact", "8f14e45f-ceea-167a-5a36-dedd4bea2543"),
    Filter("uid", "lt", "01000000-0000-0000-0000-000000000000"),
    Filter("day", "lt", date(2026, 1, 3)),
    Filter("at", "lt", datetime(2026, 1, 1, 2, tzinfo=UTC)),
    Filter("price", "exact", Decimal("1.75")),
    Filter("price", "lt", Decimal("0.501")),
    Filter("f", "exact", Decimal("1.75")),
    Filter("raw", "lt", b"\x01"),
    Filter("n", "isnull", value=True),
]


async def plan_of(dataset: PostgresDataset, selection: Selection) -> str:
    """How the server runs an export, with the settings of one."""
    query = query_for(dataset.relation, selection)
    assert isinstance(query, (CopyQuery, RowsQuery))
    async with dataset.pool.acquire() as connection:
        await connection.execute(dataset.begin_for(selection))
        lines = [row[0] for row in await connection.fetch(f"EXPLAIN {query.sql}")]
        await connection.execute("ROLLBACK")
    return "\n".join(lines)


def test_filters_use_indexes_and_rows_keep_the_order_of_the_table(chosen: Shop) -> None:
    """A bitmap of an index gives rows as they are stored."""

    async def test(datasets: Datasets, _: Monitor) -> None:
        big = datasets["big"]
        whole = await ids(big)
        for condition in CONDITIONS:
            selection = Selection(("id", "n"), dialect=COPY, filters=(condition,))
            assert "Bitmap Index Scan" in await plan_of(big, selection), condition
            some = await ids(big, filters=(condition,))
            assert 0 < len(some) < ROWS / 10, condition
            assert some == [each for each in whole if each in set(some)], condition
            assert await ids(big, filters=(condition,), limit=3) == some[:3]
            assert await ids(big, PORTAL, filters=(condition,)) == some
            assert await ids(big, None, filters=(condition,)) == some

    run(chosen, test)


@ROADS
def test_filters_all_hold_and_may_name_columns_that_are_not_asked_for(chosen: Shop, dialect: Dialect | None) -> None:
    async def test(datasets: Datasets, _: Monitor) -> None:
        filters = (Filter("n", "lt", 3), Filter("code", "not", "c1"), Filter("filler", "contains", "xx"))
        rows = await found(datasets["big"], dialect, "code", filters=filters)
        assert sorted(rows) == [["c0"]] * 40 + [["c2"]] * 40
        assert await found(datasets["big"], dialect, "code", filters=filters, limit=0) == []

    run(chosen, test)


@ROADS
def test_a_sort_has_nulls_last_and_ties_as_they_are_stored(chosen: Shop, dialect: Dialect | None) -> None:
    async def test(datasets: Datasets, _: Monitor) -> None:
        big = datasets["big"]
        whole = await found(big, dialect, "id", "n")
        for descending in (False, True):
            expected = sorted([row for row in whole if row[1]], key=lambda row: int(row[1]), reverse=descending)
            expected += [row for row in whole if not row[1]]
            sort = (Sort("n", descending),)
            assert await found(big, dialect, "id", "n", sort=sort) == expected
            assert await found(big, dialect, "id", "n", sort=sort, limit=7) == expected[:7]

    run(chosen, test)


def test_a_sort_by_an_indexed_column_reads_its_first_rows_from_the_index(chosen: Shop) -> None:
    async def test(datasets: Datasets, _: Monitor) -> None:
        for name in ("n", "code", "vc", "uid", "day", "at", "price", "f", "raw"):
            selection = Selection(("id", "n"), 5, COPY, sort=(Sort(name),))
            assert "Index Scan" in await plan_of(datasets["big"], selection), name

    run(chosen, test)


@pytest.mark.parametrize("name", ["few", "kept", "parts", "imported", "mixed", "parent", "half"])
@ROADS
def test_every_kind_of_relation_is_filtered_and_sorted(chosen: Shop, name: str, dialect: Dialect | None) -> None:
    """A row of a view has no place, and that of a foreign table, or one that may be read in part, cannot be asked."""

    async def test(datasets: Datasets, _: Monitor) -> None:
        dataset = datasets[name]
        whole = await ids(dataset, dialect)
        found = await ids(dataset, dialect, sort=(Sort("n", descending=True), Sort("id")))
        assert sorted(found) == sorted(whole)
        some = await ids(dataset, dialect, filters=(Filter("n", "gte", 1), Filter("id", "not", whole[0])))
        assert set(some) < set(whole)

    run(chosen, test)


def test_ties_of_a_partitioned_table_are_ordered_by_partition_and_place(chosen: Shop) -> None:
    async def test(datasets: Datasets, _: Monitor) -> None:
        expected = [each for rest in (2, 1, 0) for each in range(200) if each % 3 == rest]
        assert await ids(datasets["parts"], sort=(Sort("n", descending=True),)) == expected

    run(chosen, test)


@ROADS
def test_a_column_is_sorted_by_its_values_though_the_output_has_its_text(
    chosen: Shop, dialect: Dialect | None
) -> None:
    """In ORDER BY, a bare name is that of a column of the output."""

    async def test(datasets: Datasets, _: Monitor) -> None:
        odd = datasets["odd"]
        assert [row[0] for row in await found(odd, dialect, "q", "n", sort=(Sort("q"),))] == ["9", "10", "100"]
        assert [row[1] for row in await found(odd, dialect, "q", "n", sort=(Sort("n"),))] == ["9", "10", ""]
        assert [row[0] for row in await found(odd, dialect, "text", "q", sort=(Sort("text"),))] == ["B", "a", "b"]

    run(chosen, test)


def test_an_export_without_filters_and_sort_has_the_statement_that_it_had(chosen: Shop) -> None:
    async def test(datasets: Datasets, _: Monitor) -> None:
        query = query_for(datasets["big"].relation, Selection(("id", "n"), 5, COPY))
        assert query == CopyQuery('SELECT "id", "n" FROM "public"."big" LIMIT 5', COPY)
        assert datasets["big"].begin_for(Selection(("id",))).endswith("; SET LOCAL enable_indexonlyscan TO off")

    run(chosen, test)


@ROADS
def test_a_sort_past_a_bound_of_the_server_is_unavailable(chosen: Shop, dialect: Dialect | None) -> None:
    """`temp_file_limit` is the superuser's: an export runs into it, and the client may try again."""
    chosen.execute(f"ALTER ROLE {READER} SET temp_file_limit = '1MB'; ALTER ROLE {READER} SET work_mem = '64kB'")

    async def test(datasets: Datasets, monitor: Monitor) -> None:
        with pytest.raises(Unavailable):
            await found(datasets["wide"], dialect, "id", "filler", sort=(Sort("filler"), Sort("text")))
        assert await monitor.states() == ["idle"]

    try:
        run(chosen, test)
    finally:
        chosen.execute(f"ALTER ROLE {READER} RESET ALL")


@ROADS
@pytest.mark.parametrize(
    "options",
    [{"sort": (Sort("nap"),)}, {"filters": (Filter("nap", "exact", "x"),)}],
    ids=["sort", "filter"],
)
def test_a_query_that_thinks_ends_in_the_server_when_its_client_leaves(
    chosen: Shop, dialect: Dialect | None, options: dict[str, Any]
) -> None:
    async def test(datasets: Datasets, monitor: Monitor) -> None:
        task = asyncio.create_task(found(datasets["slow"], dialect, "id", "n", **options))
        await monitor.until_waiting_for("PgSleep")
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await monitor.until_quiet()
        assert await ids(datasets["few"], dialect, limit=1)

    run(chosen, test, max_connections=1)


def test_a_statement_past_its_time_is_unavailable(chosen: Shop) -> None:
    async def test(datasets: Datasets, _: Monitor) -> None:
        with pytest.raises(Unavailable):
            await ids(datasets["slow"], filters=(Filter("nap", "exact", "x"),))

    run(chosen, test, statement_seconds=0.1)


def test_filters_and_sort_work_through_a_pooler_of_transactions(chosen: Shop) -> None:
    async def main() -> None:
        with pgbouncer(chosen.server, users=[READER], pool_mode="transaction") as pooler:
            source = PostgresSource(pooler.dsn(chosen.database, user=READER))
            try:
                big = {dataset.name: dataset for dataset in await source.start()}["big"]
                for dialect in (COPY, PORTAL, None):
                    wanted = (Filter("code", "exact", "it's"), Filter("n", "lt", 3))
                    assert await ids(big, dialect, filters=wanted) == []
                    assert len(await ids(big, dialect, filters=wanted[1:], sort=(Sort("id"),))) == 120
                    assert (await ids(big, dialect, sort=(Sort("id", descending=True),), limit=2)) == [ROWS, ROWS - 1]
            finally:
                await source.close()

    asyncio.run(main())


# Other encodings than UTF-8

WORDS = {
    "SQL_ASCII": ["naïve", "東京", "a", "Z", "~", "ü", "\ufffd", ""],
    "LATIN1": ["naïve", "ÿ", "a", "Z", "~", "ü", "½", ""],
    "WIN1252": ["naïve", "€", "a", "Z", "~", "ü", "„", "ÿ", ""],
    "EUC_JP": ["東京", "ミカン", "a", "Z", "~", "ｱ", "。", ""],
}
"""In Windows-1252 the euro comes before ÿ, and in half of the Japanese characters the order is another."""

ASKED = [
    "naïve",
    "東京",
    "ミ",
    "京",
    "€",
    "🙂",
    "a",
    "",
    "ï",
    "ü",
    "\0",
    "a\0",
    "z",
    "~",
    "\ud800",
    "\uffff",
    "'",
    "\\",
    "\xff",
]


@pytest.fixture(scope="module", params=WORDS)
def worded(request: pytest.FixtureRequest, postgres_server: PostgresServer) -> tuple[Shop, list[str]]:
    words = WORDS[request.param]
    values = ", ".join([f"({place}, '{word}', '{word}', '{word}')" for place, word in enumerate(words)])
    sql = f"""CREATE TABLE words (id int, w text, v varchar(20), c char(6));
    INSERT INTO words VALUES {values}; CREATE INDEX ON words(w);
    GRANT SELECT ON words TO {READER}"""
    return make(postgres_server, f"words in {request.param}", request.param, sql), words


HOLDS = {
    "exact": str.__eq__,
    "not": str.__ne__,
    "gt": str.__gt__,
    "gte": str.__ge__,
    "lt": str.__lt__,
    "lte": str.__le__,
    "contains": str.__contains__,
    "startswith": str.startswith,
    "endswith": str.endswith,
}


@ROADS
def test_text_compares_by_code_point_in_every_encoding(
    worded: tuple[Shop, list[str]], dialect: Dialect | None
) -> None:
    """What the encoding of the database lacks equals nothing, and is before or behind what it is."""
    shop, words = worded

    async def test(datasets: Datasets, _: Monitor) -> None:
        dataset = datasets["words"]
        measure = "utf-8" if dataset.relation.server.encoding == "SQL_ASCII" else "utf-32-le"
        for column, pad in (("w", 0), ("v", 0), ("c", 6 * len("a".encode(measure)))):
            texts = [word + " " * ((pad - len(word.encode(measure))) // len("a".encode(measure))) for word in words]
            for operator, holds in HOLDS.items():
                for value in ASKED:
                    filters = (Filter(column, operator, value),)  # type: ignore[arg-type]
                    expected = [[str(place), word] for place, word in enumerate(words) if holds(texts[place], value)]
                    assert await found(dataset, dialect, "id", "w", filters=filters) == expected, filters
            among = (Filter(column, "in", (*ASKED, texts[0])),)
            assert [row[1] for row in await found(dataset, dialect, "id", "w", filters=among)] == [
                word for word, text in zip(words, texts, strict=True) if text in {*ASKED, texts[0]}
            ]
            for descending in (False, True):
                ordered = [
                    row[1] for row in await found(dataset, dialect, "id", "w", sort=(Sort(column, descending),))
                ]
                keys = sorted(zip(texts, words, strict=True), reverse=descending)
                assert ordered == [word for _, word in keys]

    run(shop, test)


def test_text_that_is_not_utf_8_compares_by_its_bytes(postgres_server: PostgresServer) -> None:
    sql = f"""CREATE TABLE words AS SELECT 1 AS id, {raw("e9")} AS w, 0 AS n UNION ALL SELECT 2, 'z', 0;
    GRANT SELECT ON words TO {READER}"""
    shop = make(postgres_server, "bytes", "SQL_ASCII", sql)

    async def test(datasets: Datasets, _: Monitor) -> None:
        words = datasets["words"]
        assert await ids(words, filters=(Filter("w", "gt", "a"),)) == [1, 2]
        assert await ids(words, filters=(Filter("w", "exact", "é"),)) == []
        assert await ids(words, filters=(Filter("w", "not", "é"),)) == [1, 2]
        assert await ids(words, sort=(Sort("w"),)) == [2, 1]

    run(shop, test)


def test_a_filter_on_a_column_that_is_gone_is_planned_again(chosen: Shop) -> None:
    chosen.execute(
        f"CREATE TABLE moving (id int, old int); INSERT INTO moving VALUES (1, 5); GRANT SELECT ON moving TO {READER}"
    )

    async def main() -> None:
        app = ExportApp([chosen.source()], catalogue_seconds=86_400)
        first, gone, renamed = Client(), Client(), Client()
        await first.ask(app, "dataset=moving&old__exact=5&sort=old", path="/api/v1/exports/csv")
        assert (first.status, first.body) == (200, b"id,old\n1,5\n")
        chosen.execute("ALTER TABLE moving RENAME old TO fresh")
        await gone.ask(app, "dataset=moving&old__exact=5", path="/api/v1/exports/csv")
        assert (gone.status, json.loads(gone.body)["detail"]) == (
            400,
            "old__exact: unknown column; there are id, fresh",
        )
        await renamed.ask(app, "dataset=moving&fresh__exact=5&columns=id&sort=-fresh", path="/api/v1/exports/csv")
        assert (renamed.status, renamed.body) == (200, b"id\n1\n")
        await app.stop()

    asyncio.run(main())
