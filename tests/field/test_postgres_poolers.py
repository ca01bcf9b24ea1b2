"""PostgreSQL behind PgBouncer: what a pooler refuses, ignores or gives to somebody else never changes an export."""

from __future__ import annotations

import asyncio
import multiprocessing
from collections.abc import Iterator
from typing import Any

import asyncpg  # type: ignore[import-untyped, unused-ignore]
import pytest

from asgi_export.errors import ExportError, StartupError
from asgi_export.sources.postgres.session import check_settings
from asgi_export.sources.postgres.source import PostgresDataset, PostgresSource
from asgi_export.table import Dialect, Selection
from tests.pgbouncer import PgBouncer, pgbouncer
from tests.postgres_server import PASSWORD, PostgresServer
from tests.sources.postgres_shop import Monitor, Shop, batches, make_shop, rows, text

ROLE = "unlike_us"
"""A role whose settings would change the text of every type."""

SQL = f"""
CREATE VIEW settings AS SELECT name, setting FROM pg_settings;
CREATE TABLE forms AS SELECT 1 AS id, 0.1::float8 + 0.2::float8 AS ratio, '\\x00ff'::bytea AS raw,
  interval '1 year 2 days' AS span, timestamptz '2024-02-29 12:00+00' AS at, date '2024-02-01' AS day,
  'infinity'::timestamp AS never;
CREATE TABLE many AS SELECT g AS id, repeat('x', 90) AS text FROM generate_series(1, 200000) g;
CREATE SEQUENCE counter;
CREATE VIEW writing AS SELECT 1 AS id, nextval('counter') AS next;
CREATE VIEW asleep AS SELECT 1 AS id, pg_sleep(600)::text AS text;
GRANT SELECT ON ALL TABLES IN SCHEMA public TO {ROLE};
GRANT USAGE ON SEQUENCE counter TO {ROLE};
"""

ROLE_SETTINGS = {
    "extra_float_digits": "-5",
    "bytea_output": "escape",
    "intervalstyle": "sql_standard",
    "datestyle": "German",
    "timezone": "Asia/Tokyo",
    "statement_timeout": "0",
    "default_transaction_read_only": "off",
}

FORMS = b"1,0.30000000000000004,\\x00ff,P1Y2D,2024-02-29 12:00:00+00,2024-02-01,infinity\n"

IGNORED = "extra_float_digits,statement_timeout,intervalstyle,bytea_output,default_transaction_read_only"


@pytest.fixture(scope="module")
def pooled(postgres_server: PostgresServer) -> Shop:
    alter = "".join(f"ALTER ROLE {ROLE} SET {name} = '{value}';" for name, value in ROLE_SETTINGS.items())
    create = f"CREATE ROLE {ROLE} LOGIN PASSWORD '{PASSWORD}'"
    postgres_server.execute(f"DO $$ BEGIN {create}; EXCEPTION WHEN duplicate_object THEN END $$; {alter}")
    return make_shop(postgres_server, "pooled", SQL)


POOLERS = [
    {"pool_mode": "session", "default_pool_size": "20"},
    {"pool_mode": "transaction"},
    {"pool_mode": "transaction", "ignore_startup_parameters": IGNORED},
]


@pytest.fixture(scope="module", params=POOLERS, ids=["session", "transaction", "ignoring"])
def pooler(pooled: Shop, request: pytest.FixtureRequest) -> Iterator[PgBouncer]:
    with pgbouncer(pooled.server, users=[ROLE], **request.param) as running:
        yield running


def source_of(pooler: PgBouncer, **options: Any) -> PostgresSource:
    return PostgresSource(pooler.dsn("pooled", user=ROLE), **options)


def run(pooled: Shop, pooler: PgBouncer, test: Any, **options: Any) -> None:
    async def main() -> None:
        source = source_of(pooler, **options)
        try:
            datasets = {dataset.name: dataset for dataset in await source.start()}
            async with pooled.monitor() as monitor:
                await test(datasets, monitor)
            await source.check()
        finally:
            await source.close()

    asyncio.run(main())


Datasets = dict[str, PostgresDataset]


def test_text_and_values_are_those_of_a_direct_connection(pooled: Shop, pooler: PgBouncer) -> None:
    """Neither the role's settings nor what the pooler ignores has a say."""

    async def direct() -> tuple[bytes, list[tuple[Any, ...]]]:
        async with pooled.datasets() as datasets:
            return await text(datasets["forms"], Dialect()), await rows(datasets["forms"])

    pooled.execute("GRANT SELECT ON forms TO reader")
    expected = asyncio.run(direct())
    assert expected[0] == FORMS

    async def test(datasets: Datasets, _: Monitor) -> None:
        for _again in range(3):
            assert await text(datasets["forms"], Dialect()) == expected[0]
            assert await text(datasets["forms"], Dialect(newline="\r\n")) == expected[0].replace(b"\n", b"\r\n")
            assert await rows(datasets["forms"]) == expected[1]

    run(pooled, pooler, test)


@pytest.mark.parametrize("dialect", [Dialect(), None], ids=["copy", "values"])
def test_a_transaction_is_read_only_and_bounded(pooled: Shop, pooler: PgBouncer, dialect: Dialect | None) -> None:
    async def test(datasets: Datasets, _: Monitor) -> None:
        found = await batches(datasets["settings"], dialect=dialect)
        if dialect is None:
            settings = dict(row for batch in found for row in batch)  # type: ignore[misc, union-attr]
        else:
            lines = b"".join(found).decode().splitlines()  # type: ignore[arg-type]
            settings = dict(line.split(",", 1) for line in lines)
        names = ("transaction_read_only", "statement_timeout", "lock_timeout", "client_connection_check_interval")
        assert [settings[name] for name in names] == ["on", "7000", "500", "1000"]
        with pytest.raises(ExportError, match="ReadOnlySQLTransactionError"):
            await batches(datasets["writing"], dialect=dialect)

    run(pooled, pooler, test, statement_seconds=7, wait_seconds=0.5)


def test_nothing_is_left_for_the_next_client_of_the_pooler(pooled: Shop, pooler: PgBouncer) -> None:
    async def test(datasets: Datasets, _: Monitor) -> None:
        for dialect in (Dialect(), None):
            await batches(datasets["forms"], dialect=dialect)
        other = await asyncpg.connect(pooler.dsn("pooled", user=ROLE), statement_cache_size=0)
        try:
            found = {name: await other.fetchval(f"SHOW {name}") for name in ROLE_SETTINGS}
            left = await other.fetch("SELECT name FROM pg_prepared_statements WHERE name <> ''")
            locks = await other.fetchval("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'")
        finally:
            await other.close()
        assert found == {**ROLE_SETTINGS, "datestyle": "German, DMY"}
        assert (left, locks) == ([], 0)

    run(pooled, pooler, test)


async def _read_much(dsn: str) -> int:
    """Exports of rows one after another and side by side; how many rows came."""
    source = PostgresSource(dsn, wait_seconds=30, max_connections=4)
    try:
        datasets = {dataset.name: dataset for dataset in await source.start()}
        exports = [rows(datasets["many"], limit=5000) for _ in range(8)]
        return sum(map(len, await asyncio.gather(*exports)))
    finally:
        await source.close()


def _process(dsn: str) -> int:
    return asyncio.run(_read_much(dsn))


def test_processes_that_share_two_sessions_do_not_meet_each_other_s_statements(pooler: PgBouncer) -> None:
    """Each names its statements by a count of its own."""
    with multiprocessing.get_context("spawn").Pool(2) as processes:
        assert processes.map(_process, [pooler.dsn("pooled", user=ROLE)] * 2) == [40_000] * 2


@pytest.mark.parametrize("dialect", [Dialect(), None], ids=["copy", "values"])
@pytest.mark.parametrize("name", ["many", "asleep"])
def test_leaving_cancels_the_query_through_the_pooler(
    pooled: Shop, pooler: PgBouncer, name: str, dialect: Dialect | None
) -> None:
    async def test(datasets: Datasets, monitor: Monitor) -> None:
        async def read() -> None:
            async with datasets[name].open(Selection(("id", "text"), None, dialect)) as cursor:
                async for _ in cursor:
                    started.set()

        started = asyncio.Event()
        task = asyncio.create_task(read())
        if name == "many":
            await started.wait()
        else:
            await monitor.until_waiting_for("PgSleep")
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await monitor.until_quiet()
        assert await rows(datasets["forms"], columns=["id"]) == [(1,)]

    run(pooled, pooler, test, max_connections=1)


def test_a_pooler_that_goes_away_breaks_the_export_off(pooled: Shop) -> None:
    with pgbouncer(pooled.server, users=[ROLE], pool_mode="transaction") as running:

        async def test(datasets: Datasets, _: Monitor) -> None:
            async with datasets["many"].open(Selection(("id", "text"), None, Dialect())) as cursor:
                await anext(cursor)
                running.process.kill()
                with pytest.raises(ExportError, match="does not answer"):
                    async for _batch in cursor:
                        pass

        with pytest.raises(ExportError, match="does not answer"):  # of `check`
            run(pooled, running, test)


def test_a_pooler_that_splits_transactions_stops_the_start(pooled: Shop) -> None:
    with (
        pgbouncer(pooled.server, users=[ROLE], pool_mode="statement") as running,
        pytest.raises(StartupError) as refused,
    ):
        asyncio.run(source_of(running).start())
    assert "transaction" in refused.value.detail
    assert "\n" not in refused.value.detail


def test_settings_that_do_not_hold_stop_the_start(pooled: Shop) -> None:
    async def main() -> None:
        connection = await asyncpg.connect(pooled.dsn)
        try:
            with pytest.raises(
                StartupError, match=r"^here: timezone is '.*' in a transaction that has set it to 'Mars'"
            ):
                await check_settings(connection, "here", {"timezone": "Mars"})
        finally:
            await connection.close()

    asyncio.run(main())
