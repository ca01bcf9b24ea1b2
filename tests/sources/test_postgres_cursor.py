"""How an export of PostgreSQL ends: at its end, early, or with the server."""

from __future__ import annotations

import asyncio
import logging
import tracemalloc
from collections.abc import Callable
from typing import Any

import asyncpg  # type: ignore[import-untyped, unused-ignore]
import pytest

from asgi_export.errors import ExportError, SourceFailed, Unavailable
from asgi_export.sources.postgres.copy import CopyText
from asgi_export.sources.postgres.cursor import PostgresCursor, Query
from asgi_export.sources.postgres.driver import cause_of
from asgi_export.sources.postgres.source import PostgresDataset
from asgi_export.sources.postgres.statement import query_for
from asgi_export.table import Dialect, Selection
from tests.postgres_server import PASSWORD
from tests.sources.postgres_shop import MANY, Monitor, Shop, batches, rows, run

Datasets = dict[str, PostgresDataset]

COPY = Dialect()
TEXT = Dialect(quote="all")
WAYS = pytest.mark.parametrize("dialect", [COPY, TEXT, None], ids=["copy", "text", "values"])


def selection(dialect: Dialect | None) -> Selection:
    return Selection(("id", "text"), None, dialect)


class Reader:
    """A task that reads an export batch by batch, as far as it is told to."""

    def __init__(self, dataset: PostgresDataset, dialect: Dialect | None) -> None:
        self.wanted = asyncio.Semaphore(0)
        self.came: asyncio.Queue[Any] = asyncio.Queue()
        self.task = asyncio.create_task(self._read(dataset, dialect))

    async def next(self) -> Any:
        self.wanted.release()
        async with asyncio.timeout(10):
            return await self.came.get()

    def want_all(self) -> None:
        for _ in range(MANY):
            self.wanted.release()

    async def _read(self, dataset: PostgresDataset, dialect: Dialect | None) -> None:
        async with dataset.open(selection(dialect)) as cursor:
            while True:
                await self.wanted.acquire()
                self.came.put_nowait(await anext(cursor))


async def cancelled(task: asyncio.Task[None], *, times: int = 1) -> None:
    """Cancel a task so many times, one turn of the loop apart, and wait two seconds for its end."""
    for _ in range(times):
        task.cancel()
        await asyncio.sleep(0)
    async with asyncio.timeout(2.2):
        with pytest.raises(asyncio.CancelledError):
            await task


@WAYS
def test_leaving_before_the_first_batch_gives_the_connection_back(shop: Shop, dialect: Dialect | None) -> None:
    async def test(datasets: Datasets, monitor: Monitor) -> None:
        async with datasets["many"].open(selection(dialect)):
            assert await monitor.states() == ["idle"]
        assert await monitor.states() == ["idle"]
        assert await rows(datasets["many"], limit=1, columns=["id"]) == [(1,)]

    run(shop, test, max_connections=1)


@WAYS
def test_leaving_in_mid_stream_ends_the_query_in_the_server(shop: Shop, dialect: Dialect | None) -> None:
    async def test(datasets: Datasets, monitor: Monitor) -> None:
        async with datasets["many"].open(selection(dialect)) as cursor:
            await anext(cursor)
            await anext(cursor)
            assert await monitor.states() != ["idle"]
        assert await monitor.states() == ["idle"]
        assert await rows(datasets["many"], limit=1, columns=["id"]) == [(1,)]

    run(shop, test, max_connections=1)


@WAYS
def test_closing_twice_and_reading_after_the_end_is_no_error(shop: Shop, dialect: Dialect | None) -> None:
    async def test(datasets: Datasets, monitor: Monitor) -> None:
        cursor = datasets["many"].open(selection(dialect))
        async with cursor as chunks:
            await anext(chunks)
            await cursor.aclose()
            await cursor.aclose()
            assert await monitor.states() == ["idle"]
            with pytest.raises(StopAsyncIteration):
                await anext(chunks)

    run(shop, test)


def test_a_client_that_stalls_blocks_the_server_and_leaving_still_ends_the_query(shop: Shop) -> None:
    async def test(datasets: Datasets, monitor: Monitor) -> None:
        async with datasets["many"].open(selection(COPY)) as cursor:
            await anext(cursor)
            await monitor.until_waiting_for("ClientWrite")
        assert await monitor.states() == ["idle"]

    run(shop, test)


def test_a_client_that_stalls_costs_less_than_a_megabyte(shop: Shop) -> None:
    async def test(datasets: Datasets, monitor: Monitor) -> None:
        await batches(datasets["many"], dialect=COPY)
        tracemalloc.start()
        try:
            async with datasets["many"].open(selection(COPY)) as cursor:
                for _ in range(20):
                    assert len(await anext(cursor)) < 512 * 1024  # type: ignore[arg-type]
                await monitor.until_waiting_for("ClientWrite")
                assert tracemalloc.get_traced_memory()[0] < 1024 * 1024
                assert tracemalloc.get_traced_memory()[1] < 2 * 1024 * 1024
        finally:
            tracemalloc.stop()

    run(shop, test)


@WAYS
@pytest.mark.parametrize("times", [1, 2])
@pytest.mark.parametrize("name", ["asleep", "dozing"])
def test_cancelling_ends_a_slow_query_in_the_server(
    shop: Shop, name: str, times: int, dialect: Dialect | None, caplog: pytest.LogCaptureFixture
) -> None:
    """`asleep` has not come to its first row, `dozing` is in the middle."""
    caplog.set_level(logging.DEBUG, "asgi_export.sources.postgres")

    async def test(datasets: Datasets, monitor: Monitor) -> None:
        reader = Reader(datasets[name], dialect)
        reader.want_all()
        await monitor.until_waiting_for("PgSleep")
        await cancelled(reader.task, times=times)
        await monitor.until_quiet()
        dropped = "a connection is dropped" in caplog.text  # a busy server may not answer within LEAVE_SECONDS
        assert await monitor.states() == ([] if dropped else ["idle"])
        assert await rows(datasets["many"], limit=1, columns=["id"]) == [(1,)]

    run(shop, test, max_connections=1)


@WAYS
@pytest.mark.parametrize("times", [1, 2])
def test_cancelling_between_two_batches_ends_the_query_in_the_server(
    shop: Shop, times: int, dialect: Dialect | None
) -> None:
    async def test(datasets: Datasets, monitor: Monitor) -> None:
        reader = Reader(datasets["many"], dialect)
        await reader.next()
        await cancelled(reader.task, times=times)
        assert await monitor.states() == ["idle"]
        assert await rows(datasets["many"], limit=1, columns=["id"]) == [(1,)]

    run(shop, test, max_connections=1)


@WAYS
def test_cancelling_at_any_turn_of_the_loop_loses_no_connection(shop: Shop, dialect: Dialect | None) -> None:
    async def test(datasets: Datasets, monitor: Monitor) -> None:
        for turns in range(60):
            reader = Reader(datasets["many"], dialect)
            reader.want_all()
            for _ in range(turns):
                await asyncio.sleep(0)
            await cancelled(reader.task)
            await monitor.until_quiet()
        assert await rows(datasets["many"], limit=1, columns=["id"]) == [(1,)]

    run(shop, test, max_connections=1)


class MetByBlock(asyncio.Protocol):
    """A query that is stopped in the turn of the loop in which its next block comes, just before asyncpg wakes up."""

    def __init__(self, query: Query) -> None:
        self._query = query
        self.stopped: asyncio.Task[None] | None = None

    def begin(self, connection: Any) -> CopyText:
        self._statement = self._query.begin(connection)
        self._transport = connection._transport
        self.session = connection.get_server_pid()
        assert isinstance(self._statement, CopyText)
        return self._statement

    def arm(self) -> None:
        self._driver = self._transport.get_protocol()
        self._transport.set_protocol(self)

    def data_received(self, data: bytes) -> None:
        self._transport.set_protocol(self._driver)
        self.stopped = asyncio.ensure_future(self._statement.stop())
        self._driver.data_received(data)


async def read_all(cursor: PostgresCursor) -> None:
    async for _ in cursor:
        pass


def test_a_query_whose_end_meets_a_block_ends_in_the_server_and_keeps_its_connection(shop: Shop) -> None:
    async def test(datasets: Datasets, monitor: Monitor) -> None:
        many = datasets["many"]
        query = MetByBlock(query_for(many.relation, selection(COPY)))
        cursor = PostgresCursor(many.pool, query, dataset="many", begin=many.begin, wait_seconds=1)
        async with cursor:
            await anext(cursor)
            query.arm()
            with pytest.raises(asyncio.CancelledError):
                await read_all(cursor)
            assert query.stopped is not None
            await query.stopped
        assert await monitor.states() == ["idle"]
        assert await monitor.sessions() == [query.session]
        assert await rows(many, limit=1, columns=["id"]) == [(1,)]

    run(shop, test, max_connections=1)


def test_a_query_whose_connection_had_to_be_dropped_ends_in_the_server(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The query sleeps and writes nothing; the bound is too short for it to acknowledge."""
    monkeypatch.setattr("asgi_export.sources.postgres.cursor.LEAVE_SECONDS", 0.0)

    async def test(datasets: Datasets, monitor: Monitor) -> None:
        reader = Reader(datasets["asleep"], COPY)
        reader.want_all()
        await monitor.until_waiting_for("PgSleep")
        await cancelled(reader.task)
        await monitor.until_quiet()

    run(shop, test, max_connections=1)


def test_a_pool_that_is_exhausted_is_unavailable_after_the_bound(shop: Shop) -> None:
    async def test(datasets: Datasets, _: Monitor) -> None:
        async with datasets["many"].open(selection(COPY)) as cursor:
            await anext(cursor)
            with pytest.raises(Unavailable, match=r"^orders: no connection to PostgreSQL within 0\.1 seconds"):
                await batches(datasets["orders"], dialect=COPY)
        assert await rows(datasets["orders"], limit=1, columns=["id"]) == [(1,)]

    run(shop, test, max_connections=1, wait_seconds=0.1)


def test_a_source_tells_how_full_its_pool_is(shop: Shop) -> None:
    source = shop.source(name="shop", max_connections=1, wait_seconds=0.1)

    def told() -> dict[str, float]:
        assert {figure.source for figure in source.metrics()} == {"shop"}
        return {figure.name.removeprefix("pool_"): figure.value for figure in source.metrics()}

    async def scenario() -> None:
        datasets = {dataset.name: dataset for dataset in await source.start()}
        assert told() == {"connections": 0, "connections_busy": 0, "waiting": 0, "timeouts": 0}
        async with datasets["many"].open(selection(COPY)) as cursor:
            await anext(cursor)
            late = asyncio.create_task(batches(datasets["orders"], dialect=COPY))
            await asyncio.sleep(0)
            assert told() == {"connections": 1, "connections_busy": 1, "waiting": 1, "timeouts": 0}
            with pytest.raises(Unavailable):
                await late
            assert told() == {"connections": 1, "connections_busy": 1, "waiting": 0, "timeouts": 1}
        assert told() == {"connections": 1, "connections_busy": 0, "waiting": 0, "timeouts": 1}
        await source.close()
        assert told() == {"connections": 0, "connections_busy": 0, "waiting": 0, "timeouts": 1}

    asyncio.run(scenario())


def test_one_who_gives_up_waiting_for_a_connection_takes_none(shop: Shop) -> None:
    async def test(datasets: Datasets, monitor: Monitor) -> None:
        async with datasets["many"].open(selection(COPY)) as cursor:
            await anext(cursor)
            reader = Reader(datasets["many"], COPY)
            await asyncio.sleep(0)
            await cancelled(reader.task)
        assert await rows(datasets["orders"], limit=1, columns=["id"]) == [(1,)]

    run(shop, test, max_connections=1)


@WAYS
def test_an_export_is_one_snapshot_while_others_write(shop: Shop, dialect: Dialect | None) -> None:
    async def test(datasets: Datasets, monitor: Monitor) -> None:
        count = 0
        try:
            async with datasets["many"].open(selection(dialect)) as cursor:
                async for batch in cursor:
                    if not count:
                        await monitor.connection.execute(
                            "INSERT INTO many SELECT 0, 'new' FROM generate_series(1, 9)"
                        )
                        await monitor.connection.execute("DELETE FROM many WHERE id > 100000")
                    count += batch.count(b"\n") if isinstance(batch, bytes) else len(batch)  # type: ignore[arg-type]
        finally:
            sql = "DELETE FROM many; INSERT INTO many SELECT g, repeat('x', 90) FROM generate_series(1, $$) g"
            await monitor.connection.execute(sql.replace("$$", str(MANY)))
        assert count == MANY

    run(shop, test)


@WAYS
def test_a_failure_in_mid_stream_comes_through_and_the_connection_is_good_again(
    shop: Shop, dialect: Dialect | None
) -> None:
    async def test(datasets: Datasets, monitor: Monitor) -> None:
        async with datasets["breaking"].open(selection(dialect)) as cursor:
            await anext(cursor)
            with pytest.raises(SourceFailed, match=r"\(DivisionByZeroError\)$"):
                async for _ in cursor:
                    pass
        assert await monitor.states() == ["idle"]
        assert await rows(datasets["orders"], limit=1, columns=["id"]) == [(1,)]

    run(shop, test, max_connections=1)


def test_an_error_that_quotes_a_value_is_not_kept_for_the_log() -> None:
    quoting = asyncpg.InvalidTextRepresentationError('invalid input syntax for type integer: "s3cret"')
    told = asyncpg.QueryCanceledError("canceling statement due to statement timeout")
    assert cause_of(quoting) is None
    assert cause_of(told) is told


async def read_to_the_failure(datasets: Datasets, dialect: Dialect | None, kill: Callable[[], Any]) -> None:
    """Read `many`, kill its connection after the first batch, and expect a clear end; then read again."""
    async with datasets["many"].open(selection(dialect)) as cursor:
        await anext(cursor)
        await kill()
        with pytest.raises(ExportError) as failed:
            async for _ in cursor:
                pass
    assert isinstance(failed.value, Unavailable)
    assert failed.value.__cause__ is not None
    assert PASSWORD not in f"{failed.value} {failed.value.__cause__!r}"
    assert await rows(datasets["orders"], limit=1, columns=["id"]) == [(1,)]


@WAYS
def test_a_session_that_is_terminated_in_mid_stream_fails_and_the_next_export_reconnects(
    shop: Shop, dialect: Dialect | None
) -> None:
    async def test(datasets: Datasets, monitor: Monitor) -> None:
        await read_to_the_failure(datasets, dialect, monitor.terminate)

    run(shop, test, max_connections=1)


@WAYS
@pytest.mark.parametrize("mode", ["fast", "immediate"])
def test_a_restart_in_mid_stream_fails_the_export_and_the_next_one_reconnects(
    shop: Shop, mode: str, dialect: Dialect | None
) -> None:
    async def main() -> None:
        async def restart() -> None:
            shop.server.stop(mode)
            shop.server.start()

        async with shop.datasets(max_connections=1) as datasets:
            await read_to_the_failure(datasets, dialect, restart)

    asyncio.run(main())


def test_a_server_that_is_down_is_unavailable_until_it_is_back(shop: Shop) -> None:
    async def main() -> None:
        source = shop.source()
        datasets = {dataset.name: dataset for dataset in await source.start()}
        shop.server.stop()
        try:
            with pytest.raises(Unavailable, match=r"^orders: PostgreSQL does not answer \(\w+\); try again$"):
                await batches(datasets["orders"], dialect=COPY)
            with pytest.raises(Unavailable):
                await source.check()
        finally:
            shop.server.start()
        await source.check()
        assert await rows(datasets["orders"], limit=1, columns=["id"]) == [(1,)]
        await source.close()

    asyncio.run(main())


def test_a_table_that_is_dropped_or_altered_after_the_start_is_a_clear_failure(shop: Shop) -> None:
    async def main() -> None:
        shop.execute("CREATE TABLE passing (id int, text text); GRANT SELECT ON passing TO reader")
        try:
            async with shop.datasets() as datasets:
                shop.execute("ALTER TABLE passing DROP COLUMN text")
                with pytest.raises(SourceFailed, match="UndefinedColumnError"):
                    await batches(datasets["passing"], dialect=COPY)
                assert await rows(datasets["passing"], columns=["id"]) == []
                shop.execute("DROP TABLE passing")
                with pytest.raises(SourceFailed, match="UndefinedTableError"):
                    await rows(datasets["passing"], columns=["id"])
        finally:
            shop.execute("DROP TABLE IF EXISTS passing")

    asyncio.run(main())


@WAYS
def test_closing_the_source_ends_exports_that_still_run(
    shop: Shop, dialect: Dialect | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("asgi_export.sources.postgres.source.CLOSE_SECONDS", 0.1)

    async def main() -> None:
        source = shop.source()
        datasets = {dataset.name: dataset for dataset in await source.start()}
        reader, stalled = Reader(datasets["asleep"], dialect), Reader(datasets["many"], dialect)
        await stalled.next()
        async with shop.monitor() as monitor:
            reader.wanted.release()
            await monitor.until_waiting_for("PgSleep")
        async with asyncio.timeout(2):
            await source.close()
            stalled.want_all()
            for task in (reader.task, stalled.task):
                with pytest.raises(ExportError):
                    await task
        async with shop.monitor() as monitor:
            await monitor.until_quiet()
        assert asyncio.all_tasks() == {asyncio.current_task()}

    asyncio.run(main())


def test_small_messages_of_the_server_are_gathered_into_chunks(shop: Shop) -> None:
    async def test(datasets: Datasets, _: Monitor) -> None:
        sizes = [len(batch) for batch in await batches(datasets["many"], dialect=COPY)]  # type: ignore[arg-type]
        assert sum(sizes) / len(sizes) > 32 * 1024

    run(shop, test)
