"""Typed exports of sources that give ten rows a second: the head and what begins the file go early, groups follow."""

from __future__ import annotations

import asyncio
import io
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from asgi_export import Bounds, Column, ExportApp, dataset
from asgi_export.asgi.pump import BrokenOff
from asgi_export.errors import TooManyRequests
from asgi_export.export.meter import Meter
from asgi_export.limiter.byte_quota import MemoryByteQuotas
from tests.doubles import Client, run
from tests.field.typed_exports import TYPED, every_reader, export, exported, rows_of, table_of

BOTH = pytest.mark.parametrize("name", TYPED)
HOLD = "asgi_export.export.runner.HOLD_SECONDS"
QUIET = "asgi_export.export.chunks.QUIET_SECONDS"


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """The head waits for the second chunk for a moment only."""
    monkeypatch.setattr(HOLD, 0.01)


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """The head waits longer than any test."""
    monkeypatch.setattr(HOLD, 60.0)


class Slow:
    """Datasets of one row, and of a second one when they are told to go on."""

    def __init__(self) -> None:
        self.go_on = asyncio.Event()
        self.go_on_in_thread = threading.Event()
        self.closed = False
        self.failure: Exception | None = None

    def resume(self) -> None:
        self.go_on.set()
        self.go_on_in_thread.set()

    def awaiting(self) -> Any:
        @dataset(columns=[("a", "bigint")], name="slow")
        async def rows() -> AsyncIterator[Any]:
            try:
                yield (1,)
                await self.go_on.wait()
                yield self._second()
            finally:
                self.closed = True

        return rows

    def blocking(self) -> Any:
        @dataset(columns=[("a", "bigint")], name="slow")
        def rows() -> Iterator[Any]:
            try:
                yield (1,)
                self.go_on_in_thread.wait()
                yield self._second()
            finally:
                self.closed = True

        return rows

    def of_columns(self) -> Any:
        @dataset(columns=[Column("a", arrow=pa.int16())], name="slow")
        async def rows() -> AsyncIterator[Any]:
            yield pa.table({"a": pa.array([1], pa.int16())})
            await self.go_on.wait()
            yield pa.table({"a": pa.array([2], pa.int16())})

        return rows

    def _second(self) -> Any:
        if self.failure is not None:
            raise self.failure
        return (2,)


Make = Callable[[Slow], Any]
MAKES = pytest.mark.parametrize("make", [Slow.awaiting, Slow.blocking, Slow.of_columns])


async def until(found: Callable[[], Any]) -> None:
    async with asyncio.timeout(10):
        while not found():  # noqa: ASYNC110 - a thread sets it
            await asyncio.sleep(0.005)


@pytest.mark.usefixtures("impatient")
@MAKES
@pytest.mark.parametrize("coding", ["identity", "gzip", "zstd"])
@pytest.mark.parametrize("name", [*TYPED, "csv", "ndjson"])
def test_the_head_goes_when_the_first_batch_is_in_hand(name: str, make: Make, coding: str) -> None:
    """The second batch may be long in coming; servers like Hypercorn send the head with a message of the body."""

    async def scenario() -> None:
        slow, client = Slow(), Client()
        headers = [(b"accept-encoding", coding.encode())]
        app = ExportApp([make(slow)])
        task = asyncio.create_task(client.ask(app, path=f"/api/v1/exports/{name}", headers=headers))
        await until(lambda: client.chunks)
        assert client.status == 200
        if name == "parquet" and coding == "identity":
            assert client.body == b"PAR1"
        slow.resume()
        await task
        assert client.complete
        if name in TYPED and coding == "identity":
            assert table_of(client.body, name).column("a").to_pylist() == [1, 2]
        await app.stop()

    run(scenario())


@pytest.mark.usefixtures("impatient")
def test_the_schema_of_an_arrow_stream_goes_as_soon_as_it_is_known() -> None:
    async def scenario() -> None:
        slow, client = Slow(), Client()
        app = ExportApp([slow.of_columns()])
        task = asyncio.create_task(client.ask(app, path="/api/v1/exports/arrow"))
        await until(lambda: client.body)
        assert pa.ipc.open_stream(client.body).schema == pa.schema([("a", pa.int16())])
        slow.resume()
        await task
        await app.stop()

    run(scenario())


@pytest.mark.usefixtures("patient")
@BOTH
def test_what_fails_soon_is_an_error_without_a_file(name: str) -> None:
    """The first batch is a row, so the head must not be bound to it alone."""
    client = exported(rows_of([(1,), ("x",), *[(2,)] * 9000, (b"\xff",)], [Column("a", arrow=pa.int64())]), name)
    assert client.status == 500
    assert client.complete
    assert b"cannot be exported in this format" in client.body
    assert b"retry-after" not in client.headers


@pytest.mark.usefixtures("patient")
@BOTH
@pytest.mark.parametrize("count", [0, 1, 2, 10_000])
def test_an_export_that_is_quick_does_not_wait(name: str, count: int) -> None:
    assert table_of(export(rows_of([(number,) for number in range(count)]), name), name).num_rows == count


@pytest.mark.usefixtures("impatient")
@BOTH
@pytest.mark.parametrize("make", [Slow.awaiting, Slow.blocking])
def test_what_fails_behind_the_early_head_is_broken_off(name: str, make: Make) -> None:
    async def scenario() -> None:
        slow, client = Slow(), Client()
        slow.failure = RuntimeError("the disk is on fire")
        app = ExportApp([make(slow)])
        task = asyncio.create_task(client.ask(app, path=f"/api/v1/exports/{name}"))
        await until(lambda: client.chunks)
        slow.resume()
        with pytest.raises(BrokenOff):
            await task
        assert slow.closed
        assert not client.complete
        await app.stop()

    run(scenario())


@pytest.mark.usefixtures("impatient")
@BOTH
def test_a_client_that_leaves_behind_the_early_head_stops_the_source(name: str) -> None:
    async def scenario() -> None:
        slow, client = Slow(), Client()
        app = ExportApp([slow.awaiting()])
        task = asyncio.create_task(client.ask(app, path=f"/api/v1/exports/{name}"))
        await until(lambda: client.chunks)
        client.leave()
        await task
        assert slow.closed
        assert not client.complete
        await app.stop()

    run(scenario())


@pytest.mark.usefixtures("patient")
@BOTH
def test_a_client_that_leaves_before_the_head_stops_the_source(name: str) -> None:
    async def scenario() -> None:
        slow, client = Slow(), Client()
        app = ExportApp([slow.awaiting()])
        task = asyncio.create_task(client.ask(app, path=f"/api/v1/exports/{name}"))
        await asyncio.sleep(0)
        client.leave()
        await task
        assert client.sent == []
        await app.stop()

    run(scenario())


@pytest.mark.usefixtures("impatient")
@BOTH
@pytest.mark.parametrize("fails", [False, True])
def test_a_client_that_does_not_take_the_early_head_is_stalled(name: str, fails: bool) -> None:
    """The producer, which has its second chunk or its failure meanwhile, does not send beside it."""

    async def scenario() -> None:
        slow = Slow()
        slow.failure = RuntimeError("the disk is on fire") if fails else None

        async def stall(_: int) -> None:
            slow.resume()
            await asyncio.Event().wait()

        client = Client(stall)
        app = ExportApp([slow.awaiting()], bounds=Bounds(stall_seconds=0.05))
        with pytest.raises(BrokenOff):
            await client.ask(app, path=f"/api/v1/exports/{name}")
        assert slow.closed
        assert len(client.chunks) == 1
        await app.stop()

    run(scenario())


def test_an_empty_first_chunk_asks_the_quota_all_the_same() -> None:
    """The head goes behind it; later a key without bytes could only be broken off."""

    async def scenario() -> None:
        quotas = MemoryByteQuotas()
        spent = Meter(quotas, "key", 100)
        await spent.spend(100)
        await spent.close()
        with pytest.raises(TooManyRequests):
            await Meter(quotas, "key", 100).spend(0)

    run(scenario())


@BOTH
def test_groups_are_written_when_nothing_was_sent_for_long(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, name: str
) -> None:
    """A group is written as soon as the last bytes are sent; all readers read the groups as one table."""
    monkeypatch.setattr(QUIET, 0.0)
    rows = [(number, f"n{number}") for number in range(50_000)]
    data = export(rows_of(rows, ["a", "b"]), name)
    if name == "parquet":
        assert pq.ParquetFile(io.BytesIO(data)).num_row_groups > 1
    for reader, found in every_reader(data, name, tmp_path).items():
        assert [tuple(row.values()) for row in found] == rows, reader


@BOTH
def test_groups_are_whole_while_something_is_sent(name: str) -> None:
    data = export(rows_of([(number,) for number in range(50_000)]), name)
    if name == "parquet":
        assert pq.ParquetFile(io.BytesIO(data)).num_row_groups == 1
    assert table_of(data, name).num_rows == 50_000
