"""The pump: from a source of chunks to `send`, until the end or until the client leaves.

Theory of operation
-------------------
One response is three parties.

*The producer*, a task, owns the source and alone calls `send`. It opens the source, takes the first chunk, and
only then sends the head: a broken source is still a clean error answer. (With `hold_seconds` it takes two, so that
what fails soon is one as well, and a task of its own, *the late head*, sends head and first chunk when the second is
longer in coming; the producer sends nothing while that runs.) After that it sends chunk after chunk,
each `send` bounded by `stall_seconds`, and gives the loop back after each, because `await send()` often does
not suspend and the disconnect must get its turn. It leaves the source *before* it sends the empty last message, and
is *finishing* from then on: servers report a disconnect after a complete response, which means nothing.

*The disconnect*, a task of the request's own (`asgi/context.py`), alone calls `receive`. It calls the pump back when
the client has left; while the pump is finishing, that means nothing.

*The supervisor*, the caller's own task, waits for either, for `max_seconds`, or for `stop`. Whatever comes first
cancels the producer, once, and not while it is leaving the source: a close that is interrupted may give nothing
back. For that it has `close_seconds`, through any number of cancellations of the caller; then it is cancelled
again and abandoned. A source that swallows its cancellation finds that nothing more is sent. An `OSError` out of
`send` (ASGI HTTP 2.4) counts as a disconnect. `TimeoutError` is an `OSError` too, so a stall is told by the
time-out's own state, not by the exception.

How it ends is an `Ending`. Where the head is out and the export is not whole, the last words (the error line of
CSV) are sent, if no chunk was interrupted half-way, and the caller must raise `BrokenOff`: both servers then
close an HTTP/1.1 connection without the final chunk, which no client takes for the end (RFC 9112 §8).
After a disconnect the caller returns.

*Behind a middleware* raising is not enough. Starlette's `BaseHTTPMiddleware` (FastAPI's `@app.middleware("http")`)
runs the application in a task and hands its messages through a queue to a response of its own. Whatever the
application raises ends the queue, the middleware takes that for the end of the body, sends the final chunk, and
raises afterwards, too late. Only its own `send` can fail it, so `break_off` sends a body that has no bytes:

- Each middleware with a queue passes it on, however many there are, and the server's `send` raises in the outermost
  one, before anything is written: uvicorn (`len`), Hypercorn of every HTTP version (`bytes`). The middleware's
  response fails, and the server closes the connection as it does for us. The error that comes out of the body is a
  `BrokenOff`, so that the servers' tracebacks can be told and dropped (`logs`).
- A message of an unknown type fails the middleware by its `assert`: not under `python -O`, where it is taken for the
  last body, and not where there are two, as the outer one sees an exception of its application, and completes. So
  it is not used.
- Where nothing is around the application, the server refuses the body, we ignore that, and raise.
- Between the application and such a middleware `GZipMiddleware` may compress, and refuses the body itself. A second
  head with a content coding passes through it, and fails the middleware by its `assert`, or without it by the body
  that it carries. Older versions take the head for their own, and let the body through then. Where it compresses
  between two such middlewares, the inner one fails and the outer one completes: nothing of ours gets that far.
- A client that takes nothing keeps the queue full, and raising drops what waits in it. So `break_off` waits until the
  client takes something, or leaves; the source has been left by then. A server that is asked itself would wait for
  the client too (uvicorn), but closes the connection when we raise: there the wait is bounded. Which of the two it
  is shows at the head: a queue gives the loop a turn, uvicorn does not; Hypercorn refuses without waiting.

ASGI HTTP 2.5, Disconnected Client and Response Body.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, suppress
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
"""A larger chunk is sent in pieces, so that the stall bound is one on progress: of 4 KB/s in 60 seconds."""

PRODUCER = "asgi-export producer"
"""The name of the tasks that own a source."""

BREAK_SECONDS = 1.0
"""How long a server may take to refuse what breaks off: uvicorn waits for its client before it looks at it."""

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
    """Seconds that one send, the whole export, leaving the source, and the last words may take."""

    stall_seconds: float = 60.0
    max_seconds: float = 3600.0
    close_seconds: float = 10.0
    last_words_seconds: float = 5.0


@dataclass(frozen=True, slots=True)
class Outcome:
    """How it went: `error` is what the source raised."""

    ending: Ending
    head_sent: bool
    first_byte_seconds: float | None
    error: BaseException | None


class _Stalled(Exception):
    """The client took nothing for `stall_seconds`."""


class _ClientLeft(Exception):
    """`send` raised OSError."""


class Pump:
    """One response being streamed. `run` once; `stop` from the same loop, any time, ends it early.

    `bytes` counts what `send` has taken of the body; `ended` is set when the source has been left. Whoever raises
    after `run` calls `break_off` first.
    """

    def __init__(
        self,
        disconnect: Disconnect,
        send: Send,
        *,
        head: HTTPResponseStartEvent,
        open_chunks: OpenChunks,
        last_words: Callable[[], bytes],
        bounds: Bounds,
        hold_seconds: float = 0.0,
    ) -> None:
        self._disconnect = disconnect
        self._send = send
        self._head = head
        self._open_chunks = open_chunks
        self._last_words = last_words
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
        """Make the export end soon; the first reason given is the one that counts."""
        if not self._stopped.done():
            self._stopped.set_result(ending)

    async def run(self) -> Outcome:
        """Stream until the end, and return how it ended when the source has been left.

        Raises `CancelledError`, also after that, when the caller was cancelled meanwhile.
        """
        self._started = time.monotonic()
        producer = asyncio.create_task(self._produce(), name=PRODUCER)
        self._disconnect.call_back(self._note_disconnect)
        try:
            cancelled = await self._supervise(producer)
            outcome = self._outcome(producer)
            if not cancelled:
                cancelled = await self._say_last_words(producer, outcome)
            self._to_break_off = outcome.head_sent and outcome.ending not in (Ending.COMPLETE, Ending.CLIENT_LEFT)
        finally:
            self.ended.set()
        if cancelled:
            raise asyncio.CancelledError
        return outcome

    async def break_off(self, *, cancelled: bool = False) -> None:
        """Make a middleware that would complete the response fail; for a response that is whole it does nothing.

        A queue is given all the time that the client takes, unless the caller was `cancelled` before.
        """
        if not self._to_break_off:
            return
        breaking = asyncio.create_task(break_off(self._send), name="asgi-export break")
        try:
            if self._queued and not cancelled:
                await asyncio.wait([breaking])  # a middleware that fails by it may cancel us here
            else:
                await wait_through(breaking, seconds=BREAK_SECONDS)
        finally:
            breaking.cancel()

    async def _produce(self) -> None:
        async with self._open_chunks() as chunks:
            try:
                await self._send_all(chunks)
            finally:
                self._leaving = True
        self._leaving = False
        self._check_stopped()
        self._finishing = self._sending = True
        await self._send_bounded(body(b"", more=False))

    async def _send_all(self, chunks: AsyncIterator[bytes]) -> None:
        chunk = await anext(chunks, b"")
        self._check_stopped()
        if self._hold_seconds:
            chunk = await self._held(chunk, chunks)
            self._check_stopped()
        if not self._head_sent:
            await self._send_head()
        await self._send_chunk(chunk)
        self._first_byte_seconds = self._first_byte_seconds or time.monotonic() - self._started
        async for chunk in chunks:
            await self._send_chunk(chunk)

    async def _send_head(self) -> None:
        """Send the head, and note whether another task sends it: where nothing is before it, uvicorn never waits."""
        self._head_sent = self._sending = True
        turn = asyncio.get_running_loop().create_future()
        asyncio.get_running_loop().call_soon(turn.set_result, None)
        await self._send_bounded(self._head)
        self._queued = turn.done()

    async def _held(self, first: bytes, chunks: AsyncIterator[bytes]) -> bytes:
        """The chunk to send next: `first` and the second in one, or the second if `first` was sent meanwhile.

        Only one of the two tasks sends at a time: this one waits for the source, and then for the other if that
        has begun; also when the source failed, as the error marker comes after what was sent.
        """
        late = asyncio.create_task(self._send_late(first), name="asgi-export late head")
        try:
            second = await anext(chunks, b"")
        except BaseException as error:
            if isinstance(error, asyncio.CancelledError) or not self._head_sent:
                late.cancel()
            with suppress(asyncio.CancelledError, _Stalled, _ClientLeft):  # the source's failure counts
                await late
            raise
        if self._head_sent:
            await late
            return second
        late.cancel()
        with suppress(asyncio.CancelledError):  # a cancellation of this task is seen by _check_stopped
            await late
        return first + second

    async def _send_late(self, first: bytes) -> None:
        """Send the head and the first chunk, which may be empty, when the second is too long in coming."""
        await asyncio.sleep(self._hold_seconds)
        await self._send_head()
        if not first:  # servers that wait for a body message before they send the head
            await self._send_bounded(body(b"", more=True))
        await self._send_chunk(first)
        self._first_byte_seconds = time.monotonic() - self._started

    def _check_stopped(self) -> None:
        """End a producer that was told to stop, and whose source swallowed the cancellation or was being left."""
        if self._stopped.done():
            raise asyncio.CancelledError

    async def _send_chunk(self, chunk: bytes) -> None:
        self._check_stopped()
        self._sending = True
        for start in range(0, len(chunk), MAX_CHUNK_BYTES):
            if start:
                await asyncio.sleep(0)
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
        """Wait for the producer to end; True when the caller was cancelled meanwhile."""
        cancelled = False
        parties: set[asyncio.Future[Any]] = {producer, self._stopped}
        try:
            await asyncio.wait(parties, timeout=self._bounds.max_seconds, return_when=asyncio.FIRST_COMPLETED)
        except asyncio.CancelledError:
            cancelled = True
        if producer.done():
            self.stop(Ending.FAILED)  # unless the producer's own verdict is better; see _verdict
            return cancelled
        self.stop(Ending.CUT_OFF)
        if not self._leaving:
            producer.cancel()
        cancelled = await wait_through(producer, seconds=self._bounds.close_seconds) or cancelled
        producer.cancel()  # where it is still there
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

    async def _say_last_words(self, producer: asyncio.Task[None], outcome: Outcome) -> bool:
        """Send the error line where it can still be a line of its own; True when cancelled meanwhile."""
        broken = outcome.ending in (Ending.FAILED, Ending.CUT_OFF)
        if not (broken and self._head_sent and producer.done()) or self._sending:
            return False
        farewell = asyncio.create_task(self._farewell(), name="asgi-export last words")
        return await wait_through(farewell, seconds=self._bounds.last_words_seconds + 1.0)

    async def _farewell(self) -> None:
        try:
            words = self._last_words()
            if words:
                async with asyncio.timeout(self._bounds.last_words_seconds):
                    await self._send(body(words, more=True))
        except Exception as error:  # the connection is broken off next in any case
            logger.debug("the last words were not sent: %r", error)
