"""The pump: from a source of chunks to `send`, until the end or until the client leaves.

Theory of operation
-------------------
One response is three parties.

*The producer*, a task, owns the source and alone calls `send`. It opens the source, takes the first chunk, and
only then sends the head, so that a broken source still gets a clean error answer. With `hold_seconds` it takes two
chunks before the head, so that a source that fails on its second batch gets one as well. If a chunk is late,
another task, *the late head*, sends the head and what there is, and the producer sends nothing meanwhile: after
`head_after_seconds` for the first chunk, as a sort or a view may take minutes and proxies give up on an answer
without a head (nginx after 60 seconds), and after `hold_seconds` for the second. After that it sends chunk after
chunk. Each `send` is bounded by `stall_seconds`, and the producer yields to the loop
after each, because `await send()` often does not suspend and the disconnect must get its turn. It leaves the source
*before* it sends the empty last message, and is *finishing* from then on: servers report a disconnect after a
complete response, which is ignored.

*The disconnect*, a task of the request (`asgi/context.py`), alone calls `receive`. It calls the pump back when the
client has left; the pump ignores that while it is finishing.

*The supervisor*, the caller's own task, waits for either, for `max_seconds`, or for `stop`. The first of them
cancels the producer, once, unless the producer is leaving the source: an interrupted close may leak what the source
holds. Leaving may take `close_seconds`, through any number of cancellations of the caller; then the producer is
cancelled again and abandoned. If a source swallows its cancellation, nothing more is sent. An `OSError` out of
`send` (ASGI HTTP 2.4) counts as a disconnect. `TimeoutError` is an `OSError` too, so a stall is recognised by the
state of the time-out, not by the exception.

The pump reports an `Ending`. If the head is out and the export is incomplete, it sends the error marker (the error
line of CSV), unless a chunk was interrupted half-way, and the caller must raise `BrokenOff`: both servers then
close an HTTP/1.1 connection without the final chunk, which no client takes for the end (RFC 9112 §8).
After a disconnect the caller returns.

*Behind a middleware* raising is not enough. Starlette's `BaseHTTPMiddleware` (FastAPI's `@app.middleware("http")`)
runs the application in a task and passes its messages through a queue to a response of its own. An exception of
the application ends the queue. The middleware takes that for the end of the body, sends the final chunk, and raises
afterwards, too late. Only its own `send` can make it fail, so `break_off` sends a body that has no bytes:

- Each middleware with a queue passes it on, however many there are, and the server's `send` raises in the outermost
  one, before anything is written: uvicorn (`len`), Hypercorn of every HTTP version (`bytes`). The middleware's
  response fails, and the server closes the connection as it does for us. The error that comes out of the body is a
  `BrokenOff`, so that the servers' tracebacks can be told and dropped (`logs`).
- A message of an unknown type is not used. It fails the `assert` of the middleware, but under `python -O` it is taken
  for the last body; and with two middlewares the outer one sees an exception of its application, and completes.
- Without a middleware the server refuses the body; that is ignored, and the caller raises.
- `GZipMiddleware` between the application and such a middleware may compress, and refuses the body itself. A second
  head with a content coding passes through it and fails the `assert` of the middleware, or, without asserts, its
  body does. Older versions take the head for their own, and then let the body through. If it compresses between two
  such middlewares, the inner one fails and the outer one completes: no message of the application gets that far.
- If the client reads nothing the queue stays full, and raising drops the messages in it. So `break_off` waits until
  the client reads or leaves; the source has been left by then. Without a queue uvicorn's `send` would wait for the
  client too, but uvicorn closes the connection when the caller raises: there the wait is bounded. The head shows
  which case it is: sending through a queue yields to the loop, sending to uvicorn does not; Hypercorn refuses
  without waiting.

ASGI HTTP 2.5, Disconnected Client and Response Body.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from asgi_export.asgi.break_off import BrokenOff, break_off
from asgi_export.asgi.context import Disconnect
from asgi_export.asgi.message import ASGISendEvent, HTTPResponseStartEvent, Send, body
from asgi_export.tasks import wait_through

__all__ = ["MAX_CHUNK_BYTES", "PRODUCER", "Bounds", "BrokenOff", "Ending", "OpenChunks", "Outcome", "Pump"]

logger = logging.getLogger("asgi_export.stream")

MAX_CHUNK_BYTES = 256 * 1024
"""A larger chunk is sent in pieces, so that `stall_seconds` bounds progress: 60 seconds mean at least 4 KB/s."""

PRODUCER = "asgi-export producer"
"""The name of the tasks that own a source."""

STALL_SECONDS = 60.0
MAX_SECONDS = 3600.0
HEAD_AFTER_SECONDS = 10.0

BREAK_SECONDS = 1.0
"""Time that a server gets to refuse the body that breaks off: uvicorn waits for its client before it reads it."""

OpenChunks = Callable[[], AbstractAsyncContextManager[AsyncIterator[bytes]]]


class Ending(StrEnum):
    """How an export ended."""

    COMPLETE = "complete"
    CLIENT_LEFT = "client left"
    STALLED = "stalled"
    FAILED = "failed"
    CUT_OFF = "cut off"


@dataclass(frozen=True, slots=True)
class Bounds:
    """Seconds that one send, the whole export, leaving the source, and the error marker may take.

    After `head_after_seconds` the head is sent without a first chunk, and a failure from then on breaks the response
    off.
    """

    stall_seconds: float = STALL_SECONDS
    max_seconds: float = MAX_SECONDS
    close_seconds: float = 10.0
    last_words_seconds: float = 5.0
    head_after_seconds: float = HEAD_AFTER_SECONDS


@dataclass(frozen=True, slots=True)
class Outcome:
    """The result of `Pump.run`; `error` is what the source raised."""

    ending: Ending
    head_sent: bool
    first_byte_seconds: float | None
    error: BaseException | None


class _Stalled(Exception):
    """The client took nothing for `stall_seconds`."""


class _ClientLeft(Exception):
    """`send` raised OSError."""


class Pump:
    """Stream one response. Call `run` once; `stop` ends it early, at any time, from the same loop.

    `bytes` counts the bytes of the body that `send` has taken. `ended` is set when the source has been left. A caller
    that raises after `run` calls `break_off` first.
    """

    def __init__(
        self,
        disconnect: Disconnect,
        send: Send,
        *,
        head: HTTPResponseStartEvent,
        open_chunks: OpenChunks,
        error_marker: Callable[[], bytes],
        bounds: Bounds,
        hold_seconds: float = 0.0,
    ) -> None:
        self._disconnect = disconnect
        self._send = send
        self._head = head
        self._open_chunks = open_chunks
        self._error_marker = error_marker
        self._bounds = bounds
        self._hold_seconds = hold_seconds
        self._head_sent = False
        self._sending = False
        self._leaving = False
        self._finishing = False
        self.bytes = 0
        self._started = 0.0
        self._first_byte_seconds: float | None = None
        self._stopped: asyncio.Future[Ending] = asyncio.get_running_loop().create_future()
        self._queued = False
        self._to_break_off = False
        self.ended = asyncio.Event()

    def stop(self, ending: Ending) -> None:
        """End the export soon; of several calls the first counts."""
        if not self._stopped.done():
            self._stopped.set_result(ending)

    async def run(self) -> Outcome:
        """Stream until the end; return how it ended, after the source has been left.

        Raises `CancelledError` if the caller was cancelled meanwhile, and only after the source has been left.
        """
        self._started = time.monotonic()
        producer = asyncio.create_task(self._produce(), name=PRODUCER)
        # After the producer exists: a client that has left already calls back at once.
        self._disconnect.call_back(self._note_disconnect)
        try:
            cancelled = await self._supervise(producer)
            outcome = self._outcome(producer)
            # Here nobody else sends: the producer is done, or abandoned, and then there is no marker.
            if not cancelled:
                cancelled = await self._send_error_marker(producer, outcome)
            self._to_break_off = outcome.head_sent and outcome.ending not in (Ending.COMPLETE, Ending.CLIENT_LEFT)
        finally:
            self.ended.set()  # before a cancellation goes on: `RunningExports.stop` waits for this
        if cancelled:
            raise asyncio.CancelledError
        return outcome

    async def break_off(self, *, cancelled: bool = False) -> None:
        """Make a middleware fail that would complete the response; do nothing for a complete response.

        Wait for a queue as long as the client takes, unless the caller was `cancelled` before.
        """
        if not self._to_break_off:
            return
        breaking = asyncio.create_task(break_off(self._send), name="asgi-export break")
        try:
            if self._queued and not cancelled:
                await asyncio.wait([breaking])  # a middleware that fails by it may cancel this task here
            else:
                await wait_through(breaking, seconds=BREAK_SECONDS)
        finally:
            breaking.cancel()

    async def _produce(self) -> None:
        async with AsyncExitStack() as source:
            try:
                async with self._head_after(self._bounds.head_after_seconds):
                    chunks = await source.enter_async_context(self._open_chunks())
                    first = await anext(chunks, b"")
                await self._send_all(first, chunks)
            finally:
                self._leaving = True  # from here to the end of the block the supervisor does not cancel
        self._leaving = False
        # A stop that came while the source was being left did not cancel this task, so look for it now.
        self._check_stopped()
        # No await between: a disconnect that comes after the last message is not the client's.
        self._finishing = self._sending = True
        await self._send_bounded(body(b"", more=False))

    async def _send_all(self, chunk: bytes, chunks: AsyncIterator[bytes]) -> None:
        self._check_stopped()  # before the head: a source may have swallowed the cancellation
        if self._hold_seconds and not self._head_sent:
            chunk = await self._hold_first(chunk, chunks)
            self._check_stopped()
        if not self._head_sent:  # a late head may have been sent meanwhile
            await self._send_head()
        await self._send_chunk(chunk)
        self._first_byte_seconds = self._first_byte_seconds or time.monotonic() - self._started
        async for chunk in chunks:
            await self._send_chunk(chunk)

    async def _send_head(self) -> None:
        """Send the head, and note whether it goes through a queue: uvicorn itself never yields at the head."""
        self._head_sent = self._sending = True  # before the await: a head that fails half-way counts as sent
        turn = asyncio.get_running_loop().create_future()
        asyncio.get_running_loop().call_soon(turn.set_result, None)
        await self._send_bounded(self._head)
        self._queued = turn.done()

    async def _hold_first(self, first: bytes, chunks: AsyncIterator[bytes]) -> bytes:
        """Wait for the second chunk; return both in one, or the second if a late head has sent the first."""
        async with self._head_after(self._hold_seconds, first):
            second = await anext(chunks, b"")
        return second if self._head_sent else first + second

    @asynccontextmanager
    async def _head_after(self, seconds: float, first: bytes = b"") -> AsyncIterator[None]:
        """Send the head and `first` after so many seconds, unless the block, which waits for the source, has ended.

        Only one task sends at a time: the producer waits for the late head if that has begun.
        """
        late: list[asyncio.Task[None]] = []
        timer = asyncio.get_running_loop().call_later(seconds, lambda: late.append(self._start_late(first)))
        try:
            yield
        except BaseException as error:
            # A late head that has begun is sent whole, as the error marker comes after it; a stop ends it at once.
            # The failure of the source counts, and not that of the late head.
            with suppress(asyncio.CancelledError, _Stalled, _ClientLeft):
                await self._end_late(late, cancel=isinstance(error, asyncio.CancelledError))
            raise
        finally:
            timer.cancel()
        await self._end_late(late)

    def _start_late(self, first: bytes) -> asyncio.Task[None]:
        return asyncio.create_task(self._send_late(first), name="asgi-export late head")

    async def _end_late(self, late: Sequence[asyncio.Task[None]], *, cancel: bool = False) -> None:
        """Wait for a late head; cancel one that has sent nothing yet, which cannot begin before it is cancelled."""
        for task in late:
            if cancel or not self._head_sent:
                task.cancel()
                with suppress(asyncio.CancelledError):  # `_check_stopped` sees a cancellation of this task
                    await task
            else:
                await task

    async def _send_late(self, first: bytes) -> None:
        await self._send_head()
        if not first:  # some servers wait for a body message before they send the head
            await self._send_bounded(body(b"", more=True))
        await self._send_chunk(first)
        if first:
            self._first_byte_seconds = time.monotonic() - self._started

    def _check_stopped(self) -> None:
        """End a producer that was told to stop: its source swallowed the cancellation, or was being left."""
        if self._stopped.done():
            raise asyncio.CancelledError

    async def _send_chunk(self, chunk: bytes) -> None:
        self._check_stopped()
        self._sending = True  # cleared only after the whole chunk: a marker must not land in the middle of a line
        for start in range(0, len(chunk), MAX_CHUNK_BYTES):
            if start:
                await asyncio.sleep(0)  # the disconnect and `stop` get their turn between pieces
            piece = chunk if len(chunk) <= MAX_CHUNK_BYTES else chunk[start : start + MAX_CHUNK_BYTES]
            await self._send_bounded(body(piece, more=True))
            self.bytes += len(piece)
        self._sending = False
        await asyncio.sleep(0)

    async def _send_bounded(self, message: ASGISendEvent) -> None:
        bound = asyncio.timeout(self._bounds.stall_seconds)
        try:
            async with bound:
                await self._send(message)
        except OSError:
            raise (_Stalled if bound.expired() else _ClientLeft) from None

    def _note_disconnect(self) -> None:
        if not self._finishing:
            self.stop(Ending.CLIENT_LEFT)

    async def _supervise(self, producer: asyncio.Task[None]) -> bool:
        """Wait for the producer to end; return whether the caller was cancelled meanwhile."""
        cancelled = False
        parties: set[asyncio.Future[Any]] = {producer, self._stopped}
        try:
            await asyncio.wait(parties, timeout=self._bounds.max_seconds, return_when=asyncio.FIRST_COMPLETED)
        except asyncio.CancelledError:
            cancelled = True
        # Several may have come in one turn. A producer that is done has the better reason: see `_verdict`.
        if producer.done():
            self.stop(Ending.FAILED)
            return cancelled
        # The time is over, or the caller was cancelled; a reason that `stop` was given before stays.
        self.stop(Ending.CUT_OFF)
        # The producer runs only while this task awaits, so `_leaving` cannot change before the cancel arrives. A
        # producer that is leaving ends by itself: `_check_stopped` comes after the source has been left.
        if not self._leaving:
            producer.cancel()
        cancelled = await wait_through(producer, seconds=self._bounds.close_seconds) or cancelled
        producer.cancel()  # if the source has not been left: abandon it
        return cancelled

    def _outcome(self, producer: asyncio.Task[None]) -> Outcome:
        ending, error = self._verdict(producer)
        return Outcome(ending, self._head_sent, self._first_byte_seconds, error)

    def _verdict(self, producer: asyncio.Task[None]) -> tuple[Ending, BaseException | None]:
        stopped = self._stopped.result()
        if not producer.done():
            logger.error("a source was not left within %s s; it is abandoned", self._bounds.close_seconds)
            return stopped, None
        if producer.cancelled():
            return stopped, None
        match producer.exception():
            case None:
                return Ending.COMPLETE, None
            case _Stalled():
                return Ending.STALLED, None
            case _ClientLeft():
                return Ending.CLIENT_LEFT, None
            case error:
                return stopped, error

    async def _send_error_marker(self, producer: asyncio.Task[None], outcome: Outcome) -> bool:
        """Send the marker if it can be a line of its own; return whether the caller was cancelled meanwhile."""
        broken = outcome.ending in (Ending.FAILED, Ending.CUT_OFF)
        # An abandoned producer may still call `send`; after an interrupted chunk the marker would end a half line.
        if not (broken and self._head_sent and producer.done()) or self._sending:
            return False
        sending = asyncio.create_task(self._write_error_marker(), name="asgi-export error marker")
        return await wait_through(sending, seconds=self._bounds.last_words_seconds + 1.0)

    async def _write_error_marker(self) -> None:
        try:
            marker = self._error_marker()
            if marker:
                async with asyncio.timeout(self._bounds.last_words_seconds):
                    await self._send(body(marker, more=True))
        except Exception as error:  # the connection is broken off next in any case
            logger.debug("the error marker was not sent: %r", error)
