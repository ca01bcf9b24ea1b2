"""A source that takes long before its first row: the head goes out alone, and what comes then still counts."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from typing import Any

import pytest

from asgi_export import Bounds, ExportApp, dataset
from asgi_export.asgi.pump import BrokenOff
from tests.doubles import Client, run

SOON = Bounds(head_after_seconds=0.001)


def slow(end: Callable[[], Awaitable[Any]]) -> Any:
    """A dataset that awaits `end` before its only row."""

    @dataset(columns=["a"])
    async def rows() -> AsyncIterator[tuple[int]]:
        await end()
        yield (1,)

    return rows


class Listening(Client):
    """A client that knows when a body message has come, which is when it has the head as well."""

    def __init__(self) -> None:
        self.has_head = asyncio.Event()
        super().__init__(self._note)

    async def _note(self, _: int) -> None:
        self.has_head.set()


@pytest.mark.parametrize("query", ["", "newline=crlf"])
def test_the_head_is_sent_without_a_first_row_and_the_export_is_whole(query: str) -> None:
    async def scenario() -> None:
        client = Listening()
        await client.ask(ExportApp([slow(client.has_head.wait)], bounds=SOON), query)
        assert client.status == 200
        assert client.body.split() == [b"a", b"1"]
        assert client.complete

    run(scenario())


@pytest.mark.parametrize("path", ["csv", "parquet", "ndjson"])
def test_a_failure_after_the_late_head_is_broken_off(path: str) -> None:
    """There is no other answer any more, and an empty file would look like an empty table."""

    async def scenario() -> None:
        client = Listening()

        async def fail() -> None:
            await client.has_head.wait()
            raise RuntimeError("the disk is full")

        with pytest.raises(BrokenOff):
            await client.ask(ExportApp([slow(fail)], bounds=SOON), path=f"/api/v1/exports/{path}")
        assert client.status == 200
        assert client.body == (b'a\n"__ERROR__","internal_server_error"\n' if path == "csv" else b"")
        assert not client.complete

    run(scenario())


def test_a_failure_before_the_late_head_is_a_clean_error() -> None:
    async def scenario() -> None:
        async def fail() -> None:
            raise RuntimeError("the disk is full")

        client = Client()
        await client.ask(ExportApp([slow(fail)]))
        assert client.status == 500
        assert client.complete

    run(scenario())


def test_a_client_that_leaves_after_the_late_head_ends_the_source() -> None:
    async def scenario() -> None:
        client, events = Listening(), []

        async def leave() -> None:
            await client.has_head.wait()
            client.leave()
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                events.append("cancelled")
                raise

        await client.ask(ExportApp([slow(leave)], bounds=SOON))
        assert events == ["cancelled"]
        assert not client.complete

    run(scenario())


def test_a_source_in_a_thread_gets_a_late_head_too() -> None:
    async def scenario() -> None:
        client, loop = Listening(), asyncio.get_running_loop()

        @dataset(columns=["a"])
        def rows() -> Iterator[tuple[int]]:
            asyncio.run_coroutine_threadsafe(client.has_head.wait(), loop).result(20)
            yield (1,)

        app = ExportApp([rows], bounds=SOON)
        await client.ask(app)
        assert client.body == b"a\n1\n"
        assert client.complete
        await app.stop()

    run(scenario())


def test_a_head_that_no_client_takes_ends_the_export() -> None:
    """The late head is bounded by `stall_seconds`, as every message is."""

    class Full(Client):
        async def send(self, message: Any) -> None:
            await asyncio.Event().wait()

    async def scenario() -> None:
        ready = asyncio.Event()
        asyncio.get_running_loop().call_later(0.05, ready.set)
        with pytest.raises(BrokenOff):
            await Full().ask(
                ExportApp([slow(ready.wait)], bounds=Bounds(head_after_seconds=0.001, stall_seconds=0.1))
            )

    run(scenario())
