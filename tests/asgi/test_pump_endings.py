"""The pump by itself, and at every turn of the loop: whenever it ends, its source has been left."""

from __future__ import annotations

import asyncio
import logging
import weakref
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterable
from contextlib import aclosing, asynccontextmanager, suppress
from typing import Any

import pytest

from asgi_export import Bounds, ExportApp, dataset
from asgi_export.asgi.context import Disconnect
from asgi_export.asgi.message import head
from asgi_export.asgi.pump import MAX_CHUNK_BYTES, BrokenOff, Ending, Outcome, Pump
from tests.doubles import Client, Recorded, Stubborn, Turns, communicator, http_scope, run

TURNS = range(60)
"""More than an export of two chunks takes, from the first call to the last message."""


class Chunks:
    """A place of chunks that notes when it is entered and left, and fails or waits where it is told to."""

    def __init__(self, chunks: Iterable[Any], *, left: BaseException | None = None) -> None:
        self.events: list[str] = []
        self._chunks = chunks
        self._left = left

    @asynccontextmanager
    async def open(self) -> AsyncIterator[AsyncIterator[bytes]]:
        self.events.append("entered")
        try:
            async with aclosing(self._iterate()) as chunks:
                yield chunks
        finally:
            await asyncio.sleep(0)
            self.events.append("left")
            if self._left is not None:
                raise self._left

    async def _iterate(self) -> AsyncGenerator[bytes, None]:
        for chunk in self._chunks:
            if isinstance(chunk, BaseException):
                raise chunk
            if isinstance(chunk, asyncio.Event):
                chunk.set()
                await asyncio.Event().wait()
            yield chunk


class WatchedPump(Pump):
    """A pump whose disconnect is no longer watched when it has ended."""

    async def run(self) -> Outcome:
        try:
            return await super().run()
        finally:
            await self._disconnect.close()


def pump(client: Client, source: Chunks, *, words: Callable[[], bytes] = lambda: b"ERROR", **bounds: float) -> Pump:
    return WatchedPump(
        Disconnect(client.receive),
        client.send,
        head=head(200, []),
        open_chunks=source.open,
        error_marker=words,
        bounds=Bounds(**bounds),
    )


async def streamed(client: Client, source: Chunks, **options: Any) -> Outcome:
    outcome = await pump(client, source, **options).run()
    assert source.events == ["entered", "left"]
    assert client.violations == []
    return outcome


async def turns(count: int) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


def test_a_source_without_a_byte_is_a_head_and_an_end() -> None:
    async def scenario() -> None:
        client = Client()
        outcome = await streamed(client, Chunks([]))
        assert (outcome.ending, outcome.head_sent) == (Ending.COMPLETE, True)
        assert [message["type"] for message in client.sent] == ["http.response.start", "http.response.body"]

    run(scenario())


def test_no_message_but_the_last_is_empty() -> None:
    """An empty body message is the end to some servers' clients, whatever `more_body` says."""

    async def scenario() -> None:
        client = Client()
        await streamed(client, Chunks([b"a", b"", b"b"]))
        assert client.chunks == [b"a", b"b", b""]

    run(scenario())


def test_bytes_and_the_time_of_the_first_are_counted() -> None:
    async def scenario() -> None:
        client, source = Client(), Chunks([b"abc", b"de"])
        running = pump(client, source)
        outcome = await running.run()
        assert running.bytes == 5
        assert outcome.first_byte_seconds is not None
        assert 0 < outcome.first_byte_seconds < 5
        assert running.ended.is_set()

    run(scenario())


def test_a_disconnect_with_the_last_message_is_the_server_s_way_to_say_it_is_over() -> None:
    async def scenario() -> None:
        async def over(_: int) -> None:
            if client.complete:
                client.leave()
                await turns(5)

        client = Client(over)
        assert (await streamed(client, Chunks([b"a"]))).ending is Ending.COMPLETE

    run(scenario())


@pytest.mark.parametrize("error", [BrokenPipeError(), ConnectionResetError(), OSError(), TimeoutError()], ids=repr)
@pytest.mark.parametrize("message", ["head", "first chunk", "last message"])
def test_an_oserror_of_any_send_is_a_disconnect(error: OSError, message: str) -> None:
    async def scenario() -> None:
        fail_at = {"head": 1, "first chunk": 2, "last message": 4}[message]

        class Broken(Client):
            async def send(self, message: Any) -> None:
                await super().send(message)
                if len(self.sent) == fail_at:
                    raise error

        client = Broken()
        outcome = await streamed(client, Chunks([b"a", b"b"]))
        assert (outcome.ending, outcome.error) == (Ending.CLIENT_LEFT, None)
        assert len(client.sent) == fail_at

    run(scenario())


@pytest.mark.parametrize("error", [BrokenPipeError(), TimeoutError(), RuntimeError()], ids=repr)
@pytest.mark.parametrize("place", [0, 1])
def test_an_error_of_the_source_is_a_failure_whatever_its_class(error: Exception, place: int) -> None:
    async def scenario() -> None:
        client = Client()
        outcome = await streamed(client, Chunks([*([b"a"] * place), error]))
        assert (outcome.ending, outcome.error, outcome.head_sent) == (Ending.FAILED, error, bool(place))
        assert client.chunks == [b"a", b"ERROR"][: 2 * place]

    run(scenario())


def test_a_source_that_cancels_itself_has_failed() -> None:
    """A driver may raise CancelledError of its own; nobody cancelled the request."""

    async def scenario() -> None:
        outcome = await streamed(Client(), Chunks([b"a", asyncio.CancelledError()]))
        assert outcome.ending is Ending.FAILED

    run(scenario())


def test_a_source_that_cannot_be_left_cleanly_has_failed() -> None:
    """A snapshot that is lost at the end may have been lost before: the export is not whole for sure."""

    async def scenario() -> None:
        client, error = Client(), RuntimeError("lost")
        outcome = await streamed(client, Chunks([b"a"], left=error))
        assert (outcome.ending, outcome.error) == (Ending.FAILED, error)
        assert client.chunks == [b"a", b"ERROR"]

    run(scenario())


@pytest.mark.parametrize(("stall_at", "whole"), [(1, 0), (2, 0), (4, 2)])
def test_any_send_that_stalls_is_cut_off_without_an_error_marker(stall_at: int, whole: int) -> None:
    async def scenario() -> None:
        class Stalling(Client):
            async def send(self, message: Any) -> None:
                await super().send(message)
                if len(self.sent) == stall_at:
                    await asyncio.Event().wait()

        client = Stalling()
        outcome = await streamed(client, Chunks([b"a", b"b"]), stall_seconds=0.01)
        assert (outcome.ending, outcome.error) == (Ending.STALLED, None)
        assert len(client.sent) == stall_at

    run(scenario())


@pytest.mark.parametrize("hang_at", [1, 2, 3])
def test_a_message_that_was_interrupted_half_way_is_followed_by_nothing(hang_at: int) -> None:
    """`stop` comes while a send hangs: an error line could land inside a row, or behind the last message."""

    async def scenario() -> None:
        async def hang(chunks: int) -> None:
            if chunks == hang_at:
                running.stop(Ending.CUT_OFF)
                await asyncio.Event().wait()

        client, source = Client(hang), Chunks([b"a", b"b"])
        running = pump(client, source)
        async with asyncio.timeout(5):  # less than `close_seconds`: the source is not waited for
            outcome = await running.run()
        assert outcome.ending is Ending.CUT_OFF
        assert client.chunks == [b"a", b"b", b""][:hang_at]

    run(scenario())


def test_between_the_pieces_of_a_large_chunk_nothing_is_said_either() -> None:
    async def scenario() -> None:
        async def stop(_: int) -> None:
            running.stop(Ending.CUT_OFF)

        client, source = Client(stop), Chunks([b"a" * (3 * MAX_CHUNK_BYTES)])
        running = pump(client, source)
        assert (await running.run()).ending is Ending.CUT_OFF
        assert b"ERROR" not in client.body
        assert len(client.chunks) < 3

    run(scenario())


def test_the_pieces_of_a_large_chunk_are_the_chunk() -> None:
    async def scenario() -> None:
        data = bytes(range(256)) * (MAX_CHUNK_BYTES // 256 * 2) + b"end"
        client = Client()
        await streamed(client, Chunks([data]))
        assert client.body == data
        assert [len(chunk) for chunk in client.chunks] == [MAX_CHUNK_BYTES, MAX_CHUNK_BYTES, 3, 0]

    run(scenario())


@pytest.mark.parametrize("words", ["hanging", "failing", "none"])
def test_an_error_marker_that_cannot_be_sent_holds_nobody_up(words: str) -> None:
    async def scenario() -> None:
        async def hang(chunks: int) -> None:
            if chunks == 2:
                await asyncio.Event().wait()

        def say() -> bytes:
            if words == "failing":
                raise RuntimeError("no words")
            return b"" if words == "none" else b"ERROR"

        client = Client(hang)
        outcome = await streamed(client, Chunks([b"a", RuntimeError()]), words=say, last_words_seconds=0.01)
        assert outcome.ending is Ending.FAILED
        assert client.chunks == ([b"a", b"ERROR"] if words == "hanging" else [b"a"])

    run(scenario())


def test_a_cancellation_during_the_error_marker_is_not_lost() -> None:
    async def scenario() -> None:
        speaking = asyncio.Event()

        async def speak(chunks: int) -> None:
            if chunks == 2:
                speaking.set()
                await turns(5)

        client, source = Client(speak), Chunks([b"a", RuntimeError()])
        task = asyncio.create_task(pump(client, source).run())
        await speaking.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert source.events == ["entered", "left"]

    run(scenario())


def test_a_receive_that_fails_is_a_disconnect(caplog: pytest.LogCaptureFixture) -> None:
    async def scenario() -> None:
        class Broken(Client):
            async def receive(self) -> Any:
                await waiting.wait()
                raise RuntimeError("transport is gone")

        waiting = asyncio.Event()
        outcome = await streamed(Broken(), Chunks([b"a", waiting]))
        assert outcome.ending is Ending.CLIENT_LEFT

    run(scenario())
    assert "transport is gone" in caplog.text


def test_the_first_reason_to_stop_is_the_one_that_counts() -> None:
    async def scenario() -> None:
        waiting = asyncio.Event()
        client, source = Client(), Chunks([b"a", waiting])
        running = pump(client, source)
        task = asyncio.create_task(running.run())
        await waiting.wait()
        running.stop(Ending.CUT_OFF)
        client.leave()
        assert (await task).ending is Ending.CUT_OFF
        assert client.chunks == [b"a", b"ERROR"]

    run(scenario())


def test_parts_of_a_request_body_are_dropped_as_they_come() -> None:
    async def scenario() -> None:
        class Message(dict[str, Any]):
            """A dictionary that can be referred to weakly."""

        class Uploading(Client):
            async def receive(self) -> Any:
                message = Message(await super().receive())
                given.append(weakref.ref(message))
                most.append(sum(reference() is not None for reference in given))
                return message

        given: list[weakref.ref[Message]] = []
        most: list[int] = []
        await streamed(Uploading(requests=50), Chunks([b"a"] * 100))
        assert len(most) == 50
        assert max(most) <= 2

    run(scenario())


async def cancel(task: asyncio.Task[None], client: Client, app: ExportApp) -> None:
    task.cancel()


async def cancel_again_and_again(task: asyncio.Task[None], client: Client, app: ExportApp) -> None:
    for _ in range(4):
        task.cancel()
        await asyncio.sleep(0)


async def leave(task: asyncio.Task[None], client: Client, app: ExportApp) -> None:
    client.leave()


async def leave_and_cancel(task: asyncio.Task[None], client: Client, app: ExportApp) -> None:
    client.leave()
    await turns(3)
    task.cancel()


async def shut_down(task: asyncio.Task[None], client: Client, app: ExportApp) -> None:
    await app.stop()


async def shut_down_and_cancel(task: asyncio.Task[None], client: Client, app: ExportApp) -> None:
    stopping = asyncio.create_task(app.stop())
    await turns(3)
    task.cancel()
    await stopping


@dataset(columns=["id"])
def threaded() -> Any:
    """Runs in worker threads."""
    for number in range(20_000):
        yield (number,)


Act = Callable[[asyncio.Task[None], Client, ExportApp], Awaitable[None]]


@pytest.mark.parametrize(
    "act", [cancel, cancel_again_and_again, leave, leave_and_cancel, shut_down, shut_down_and_cancel]
)
def test_whenever_it_ends_the_source_is_left_and_no_half_looks_whole(act: Act) -> None:
    """After any number of turns: while opening, before the head, between chunks, while closing, at the end."""

    async def scenario(count: int) -> None:
        source, client = Recorded(3000, slow_open=5, slow_close=5), Client()
        app = ExportApp([source])
        await app.start()
        task = asyncio.create_task(client.ask(app))
        await turns(count)
        await act(task, client, app)
        with suppress(asyncio.CancelledError, BrokenOff):
            await task
        assert source.events in ([], ["opened", "closed"])
        if client.complete and client.status == 200:
            assert client.body.count(b"\n") == 3001
        if b"__ERROR__" in client.body:
            assert client.body.endswith(b'\n"__ERROR__","internal_server_error"\n')
        if act in (cancel, cancel_again_and_again):
            assert task.cancelled() or client.complete
        if act is leave:
            assert not task.cancelled()
            assert client.complete or b"__ERROR__" not in client.body

    for count in TURNS:
        run(scenario(count))


@pytest.mark.parametrize("act", [cancel, cancel_again_and_again, leave, shut_down])
def test_whenever_it_ends_no_thread_works_on(act: Act) -> None:
    async def scenario(count: int) -> None:
        client = Client()
        app = ExportApp([threaded])
        await app.start()
        task = asyncio.create_task(client.ask(app))
        await turns(count)
        await act(task, client, app)
        with suppress(asyncio.CancelledError, BrokenOff):
            await task

    for count in range(0, 60, 4):
        run(scenario(count))


def test_a_source_that_goes_on_after_a_cancellation_is_left_all_the_same() -> None:
    """It swallowed the only cancellation that it gets, as a careless `except` does."""

    async def scenario() -> None:
        source, client = Stubborn(hang_at=2), Client()
        task = asyncio.create_task(client.ask(ExportApp([source])))
        await source.hanging.wait()
        before = len(client.sent)
        client.leave()
        await task
        assert source.events == ["opened", "closed"]
        assert len(client.sent) == before

    run(scenario())


def test_a_source_that_goes_on_before_its_first_batch_gets_no_head_sent() -> None:
    async def scenario() -> None:
        source, client = Stubborn(hang_at=0), Client()
        task = asyncio.create_task(client.ask(ExportApp([source])))
        await source.hanging.wait()
        client.leave()
        await task
        assert source.events == ["opened", "closed"]
        assert client.sent == []

    run(scenario())


def test_an_export_that_is_stopped_while_its_source_is_being_left_is_not_ended_politely() -> None:
    """And the source is left undisturbed."""

    async def scenario() -> None:
        class Leaving(Chunks):
            @asynccontextmanager
            async def open(self) -> AsyncIterator[AsyncIterator[bytes]]:
                async with super().open() as chunks:
                    yield chunks
                running.stop(Ending.CUT_OFF)
                await turns(10)
                self.events.append("given back")

        client, source = Client(), Leaving([b"a"])
        running = pump(client, source)
        assert (await running.run()).ending is Ending.CUT_OFF
        assert source.events == ["entered", "left", "given back"]
        assert client.chunks == [b"a", b"ERROR"]

    run(scenario())


def test_a_source_that_will_not_be_left_is_abandoned_in_time_and_cancelled(caplog: pytest.LogCaptureFixture) -> None:
    async def scenario() -> None:
        source, client = Recorded(hang_at=3, slow_close=10**9), Client()
        task = asyncio.create_task(client.ask(ExportApp([source], bounds=Bounds(close_seconds=0.05))))
        await source.hanging.wait()
        client.leave()
        await task
        await turns(5)

    run(scenario())
    assert "abandoned" in caplog.text


def test_the_loop_turns_after_every_chunk_though_send_never_suspends() -> None:
    """Or the watcher would not get its turn before the end."""

    async def scenario() -> None:
        client = Client()
        async with Turns() as counted:
            await streamed(client, Chunks([b"a"] * 500))
        assert counted.count >= 500

    run(scenario())


def test_a_shut_down_by_the_lifespan_ends_running_exports() -> None:
    async def scenario() -> None:
        source = Recorded(hang_at=3, slow_close=20)
        app = ExportApp([source])
        lifespan = communicator(app, {"type": "lifespan"})
        await lifespan.send_input({"type": "lifespan.startup"})
        assert await lifespan.receive_output() == {"type": "lifespan.startup.complete"}
        request = communicator(app, http_scope())
        await request.send_input({"type": "http.request"})
        assert (await request.receive_output())["status"] == 200
        await source.hanging.wait()
        await lifespan.send_input({"type": "lifespan.shutdown"})
        assert await lifespan.receive_output() == {"type": "lifespan.shutdown.complete"}
        assert source.events == ["opened", "closed"]
        await lifespan.wait()
        with pytest.raises(BrokenOff):
            await request.wait()

    run(scenario())


def test_many_exports_shut_down_together_each_close_their_source(caplog: pytest.LogCaptureFixture) -> None:
    async def scenario() -> None:
        source = Recorded(hang_at=0, slow_close=20)
        app = ExportApp([source])
        clients = [Client() for _ in range(20)]
        tasks = [asyncio.create_task(client.ask(app)) for client in clients]
        await turns(20)
        await app.stop()
        await asyncio.gather(*tasks)
        assert {client.status for client in clients} == {503}
        assert sorted(source.events) == ["closed"] * 20 + ["opened"] * 20

    caplog.set_level(logging.CRITICAL)
    run(scenario())
