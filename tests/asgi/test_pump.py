"""The pump, in raw ASGI: how each export ends, that its source is left whatever happens, and what a server sees."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import suppress
from typing import Any

import pytest

from asgi_export import Bounds, ExportApp, dataset
from asgi_export.asgi.pump import MAX_CHUNK_BYTES, BrokenOff
from asgi_export.export.chunks import CHUNK_BYTES
from tests.doubles import Blocking, Client, Recorded, run

ERROR_LINE = b'"__ERROR__","internal_server_error"\n'


async def export(app: ExportApp, client: Client, query: str = "", **scope: Any) -> None:
    await client.ask(app, query, **scope)


def test_an_export_is_one_head_its_chunks_and_one_empty_last_message() -> None:
    async def scenario() -> None:
        source, client = Recorded(2000), Client()
        await export(ExportApp([source]), client)
        assert [message["type"] for message in client.sent[:2]] == ["http.response.start", "http.response.body"]
        assert [message["more_body"] for message in client.sent[1:]] == [True] * (len(client.sent) - 2) + [False]
        assert client.chunks[-1] == b""
        assert client.body.count(b"\n") == 2001
        assert source.events == ["opened", "closed"]

    run(scenario())


def test_the_source_is_left_before_the_last_message() -> None:
    """After it the response is over, and some servers cancel or disconnect."""

    async def scenario() -> None:
        source = Recorded(10)
        seen: list[list[str]] = []

        async def note(_: int) -> None:
            seen.append(list(source.events))

        client = Client(note)
        await export(ExportApp([source]), client)
        assert seen[-1] == ["opened", "closed"]
        assert seen[-2] == ["opened"]

    run(scenario())


class Stopped:
    """Stands for the module `time`: a chunk that takes long, as on a busy machine, is sent before it is full."""

    def monotonic(self) -> float:
        return 1.0


def test_chunks_are_neither_small_nor_large(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("asgi_export.export.chunks.time", Stopped())

    async def scenario() -> None:
        client = Client()
        await export(ExportApp([Recorded(100_000)]), client)
        assert all(CHUNK_BYTES <= len(chunk) <= MAX_CHUNK_BYTES for chunk in client.chunks[1:-2])

    run(scenario())


def test_one_large_value_is_sent_in_pieces() -> None:
    @dataset(columns=["a"])
    def large() -> Any:
        yield ("y" * (3 * MAX_CHUNK_BYTES),)

    async def scenario() -> None:
        client = Client()
        await export(ExportApp([large]), client, "header=false")
        assert client.body == b"y" * (3 * MAX_CHUNK_BYTES) + b"\n"
        assert max(map(len, client.chunks)) == MAX_CHUNK_BYTES

    run(scenario())


def test_a_source_that_fails_before_its_first_batch_is_a_clean_500(caplog: pytest.LogCaptureFixture) -> None:
    async def scenario() -> None:
        source, client = Recorded(fail_at=0), Client()
        await export(ExportApp([source]), client)
        assert client.status == 500
        assert client.headers[b"content-type"] == b"application/problem+json"
        assert b"retry-after" not in client.headers
        assert b"fire" not in client.body
        assert client.complete
        assert source.events == ["opened", "closed"]

    run(scenario())
    assert "the disk is on fire" in caplog.text


@pytest.mark.parametrize("newline", ["lf", "crlf"])
@pytest.mark.parametrize("error", [RuntimeError("x"), OSError("disk"), TimeoutError("slow"), ConnectionResetError()])
def test_a_failure_after_the_head_is_told_and_broken_off(error: Exception, newline: str) -> None:
    """An OSError of the *source* is no disconnect: the client is there, and must not take half a file."""

    async def scenario() -> None:
        source, client = Recorded(fail_at=4, error=error), Client()
        with pytest.raises(BrokenOff):
            await export(ExportApp([source]), client, f"newline={newline}")
        assert client.body.endswith(ERROR_LINE.replace(b"\n", b"\r\n") if newline == "crlf" else ERROR_LINE)
        assert client.body.count(b"\n") == 1 + 4 * 500 + 1
        assert not client.complete
        assert source.events == ["opened", "closed"]

    run(scenario())


@pytest.mark.parametrize("format_name", ["ndjson", "arrow", "parquet"])
def test_other_formats_have_no_error_line(format_name: str) -> None:
    async def scenario() -> None:
        source, client = Recorded(fail_at=400, error=RuntimeError("x")), Client()
        with pytest.raises(BrokenOff):
            await export(ExportApp([source]), client, path=f"/api/v1/exports/{format_name}")
        assert b"__ERROR__" not in client.body
        assert not client.complete

    run(scenario())


def test_a_client_that_leaves_while_chunks_are_sent_stops_the_source_within_a_batch() -> None:
    async def scenario() -> None:
        source = Recorded()

        async def leave(chunks: int) -> None:
            if chunks == 5:
                client.leave()

        client = Client(leave)
        await export(ExportApp([source]), client)
        given = source.given
        assert len(client.chunks) <= 6
        assert given <= 20
        assert source.events == ["opened", "closed"]

    run(scenario())


def test_a_client_that_leaves_before_the_first_batch_gets_nothing() -> None:
    async def scenario() -> None:
        source, client = Recorded(hang_at=0), Client()
        task = asyncio.create_task(export(ExportApp([source]), client))
        await source.hanging.wait()
        client.leave()
        await task
        assert client.sent == []
        assert source.events == ["opened", "closed"]

    run(scenario())


@pytest.mark.parametrize("kind", [Recorded, Blocking])
def test_the_first_batch_is_sent_though_the_second_hangs(kind: Any) -> None:
    async def scenario() -> None:
        source = Recorded(hang_at=1) if kind is Recorded else Blocking(asyncio.get_running_loop(), hang_at=1)
        client = Client()
        task = asyncio.create_task(export(ExportApp([source]), client))
        await source.hanging.wait()
        assert client.status == 200
        assert client.body
        client.leave()
        await task

    run(scenario())


def test_a_client_that_leaves_while_the_source_is_being_opened_ends_that() -> None:
    async def scenario() -> None:
        source, client = Recorded(hang_on_open=True), Client()
        task = asyncio.create_task(export(ExportApp([source]), client))
        await source.hanging.wait()
        client.leave()
        await task
        assert client.sent == []

    run(scenario())


@pytest.mark.parametrize("hang_at", [0, 3])
def test_a_client_that_leaves_in_a_slow_blocking_query_interrupts_it(hang_at: int) -> None:
    async def scenario() -> None:
        source = Blocking(asyncio.get_running_loop(), hang_at=hang_at)
        client = Client()
        task = asyncio.create_task(export(ExportApp([source]), client))
        await source.hanging.wait()
        client.leave()
        await task
        assert source.events == ["opened", "closed"]

    run(scenario())


def test_an_oserror_out_of_send_is_a_disconnect() -> None:
    async def scenario() -> None:
        source = Recorded()

        async def broken_pipe(chunks: int) -> None:
            if chunks == 3:
                raise BrokenPipeError

        client = Client(broken_pipe)
        await export(ExportApp([source]), client)
        assert len(client.chunks) == 3
        assert source.events == ["opened", "closed"]

    run(scenario())


def test_a_client_that_takes_nothing_is_cut_off_without_an_error_line() -> None:
    """The stalled send was interrupted half-way: whatever came behind it could land inside a row."""

    async def scenario() -> None:
        source = Recorded()

        async def stall(chunks: int) -> None:
            if chunks == 3:
                await asyncio.Event().wait()

        client = Client(stall)
        with pytest.raises(BrokenOff, match="stalled"):
            await export(ExportApp([source], bounds=Bounds(stall_seconds=0.02)), client)
        assert len(client.chunks) == 3
        assert source.events == ["opened", "closed"]

    run(scenario())


def test_a_timeout_error_of_the_server_is_a_disconnect_and_no_stall() -> None:
    async def scenario() -> None:
        async def timed_out(chunks: int) -> None:
            if chunks == 3:
                raise TimeoutError

        client = Client(timed_out)
        await export(ExportApp([Recorded()]), client)
        assert len(client.chunks) == 3

    run(scenario())


def test_an_export_that_takes_too_long_is_cut_off_with_an_error_line() -> None:
    async def scenario() -> None:
        source, client = Recorded(hang_at=3), Client()
        with pytest.raises(BrokenOff, match="cut off"):
            await export(ExportApp([source], bounds=Bounds(max_seconds=0.02)), client)
        assert client.body.endswith(ERROR_LINE)
        assert source.events == ["opened", "closed"]

    run(scenario())


def test_an_export_without_a_first_batch_in_time_is_a_503() -> None:
    async def scenario() -> None:
        source, client = Recorded(hang_at=0), Client()
        await export(ExportApp([source], bounds=Bounds(max_seconds=0.02)), client)
        assert client.status == 503
        assert source.events == ["opened", "closed"]

    run(scenario())


@pytest.mark.parametrize("turns", range(40))
@pytest.mark.parametrize("again", [False, True])
def test_a_cancelled_export_leaves_its_source_first(turns: int, again: bool) -> None:
    """Cancelled after any number of turns of the loop, once and then again while the source is being closed."""

    async def scenario() -> None:
        source, client = Recorded(20_000, slow_close=5), Client()
        task = asyncio.create_task(export(ExportApp([source]), client))
        for _ in range(turns):
            await asyncio.sleep(0)
        task.cancel()
        if again:
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            task.cancel()
        with suppress(asyncio.CancelledError):
            await task
        assert source.events in ([], ["opened", "closed"])
        assert task.cancelled() or client.complete

    run(scenario())


def test_a_cancelled_export_of_a_blocking_source_waits_for_its_thread() -> None:
    async def scenario() -> None:
        source = Blocking(asyncio.get_running_loop(), hang_at=2)
        task = asyncio.create_task(export(ExportApp([source]), Client()))
        await source.hanging.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert source.events == ["opened", "closed"]

    run(scenario())


def test_a_disconnect_after_the_last_message_does_not_count() -> None:
    async def scenario() -> None:
        source = Recorded(10)

        async def finish(_: int) -> None:
            if client.complete:
                client.leave()
                for _ in range(5):
                    await asyncio.sleep(0)

        client = Client(finish)
        await export(ExportApp([source]), client)
        assert client.complete

    run(scenario())


def test_shutting_down_breaks_running_exports_off_and_waits_for_their_sources() -> None:
    async def scenario() -> None:
        source, client = Recorded(hang_at=3, slow_close=20), Client()
        app = ExportApp([source])
        await app.start()
        task = asyncio.create_task(export(app, client))
        await source.hanging.wait()
        await app.stop()
        assert source.events == ["opened", "closed"]
        with pytest.raises(BrokenOff, match="cut off"):
            await task
        assert client.body.endswith(ERROR_LINE)

    run(scenario())


def test_after_the_shut_down_requests_are_answered_503() -> None:
    async def scenario() -> None:
        app, client = ExportApp([Recorded(1)]), Client()
        await app.stop()
        await export(app, client)
        assert client.status == 503
        assert b"shutting down" in client.body

    run(scenario())


def test_a_request_body_without_end_does_not_hold_the_loop() -> None:
    """`receive` may never suspend while it hands a body over: the export goes on beside it."""

    async def scenario() -> None:
        client = Client(requests=10**6)
        await export(ExportApp([Recorded(2000)]), client)
        assert client.complete
        assert client.requests > 10**6 - 100

    run(scenario())


def test_more_exports_than_the_bound_are_503_and_a_place_is_free_afterwards() -> None:
    async def scenario() -> None:
        source = Recorded(hang_at=2)
        app = ExportApp([source], max_exports=1)
        first, second, third = Client(), Client(), Client()
        task = asyncio.create_task(export(app, first))
        await source.hanging.wait()
        await export(app, second)
        assert second.status == 503
        assert b"retry-after" in second.headers
        first.leave()
        await task
        third.leave()
        await export(app, third)
        assert third.sent == [] or third.status == 200

    run(scenario())


def test_head_opens_no_source() -> None:
    async def scenario() -> None:
        source, client = Recorded(10), Client()
        await export(ExportApp([source]), client, method="HEAD")
        assert client.status == 200
        assert client.body == b""
        assert source.events == []

    run(scenario())


def test_a_user_s_generator_is_closed_in_the_task_that_ran_it() -> None:
    async def scenario() -> None:
        tasks: list[Any] = []

        @dataset(columns=["a"])
        async def endless() -> AsyncIterator[tuple[int]]:
            tasks.append(asyncio.current_task())
            try:
                while True:
                    yield (1,)
            finally:
                tasks.append(asyncio.current_task())

        async def leave(chunks: int) -> None:
            if chunks == 3:
                client.leave()

        client = Client(leave)
        await export(ExportApp([endless]), client)
        assert len(tasks) == 2
        assert tasks[0] is tasks[1]

    run(scenario())


def test_every_ending_is_in_the_log_with_its_request_id(caplog: pytest.LogCaptureFixture) -> None:
    async def scenario() -> None:
        client = Client()
        with pytest.raises(BrokenOff):
            await export(ExportApp([Recorded(fail_at=2)]), client, headers=[(b"x-request-id", b"abc-1")])
        assert client.headers[b"x-request-id"] == b"abc-1"

    caplog.set_level(logging.INFO, "asgi_export")
    run(scenario())
    assert "abc-1" in caplog.text
