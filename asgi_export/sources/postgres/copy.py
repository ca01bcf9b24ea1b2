"""The text of one `COPY … TO STDOUT`, pulled a chunk at a time without a task or a queue.

Theory of operation
-------------------
asyncpg's `copy_from_query` pushes: it awaits a callback for each block, and reads no further from the socket
until the callback is done. To pull instead takes a task and a meeting point, or this: the
coroutine is not awaited but *stepped*. Futures that it yields are passed on to the event loop, as `await` does;
what the callback yields is a chunk, and there the stepping ends until the next chunk is wanted. Between two
steps the coroutine lies still inside the callback. Reading is paused then, so a client that stalls costs one
chunk (64 KiB and a block of at most 256 KiB) and what asyncpg has read last, and TCP makes the server wait.

A cancellation while the server is waited for goes through to asyncpg like any exception, and one is thrown in
by `stop` when the coroutine lies still: in both cases asyncpg sends the server a cancel request, and throws
away what still arrives. So there is nothing that could be left running. One case asyncpg misses: a cancellation
in the very turn in which a block has come. It would lose the block and let the query run on; so it is given the
block, and the cancellation is raised in the callback, from where it asks the server.

The server sends a message a row and a buffer of 8 KiB at a time; chunks of 64 KiB make it an eighth of the
messages to HTTP. PostgreSQL, Frontend/Backend Protocol, COPY Operations: messages end at row ends.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
import types
from collections.abc import Callable, Coroutine, Generator
from dataclasses import dataclass
from typing import Any

from asgi_export.sources.postgres.driver import Connection
from asgi_export.table import Dialect

CHUNK_BYTES = 64 * 1024

PATIENCE_SECONDS = 0.02
"""A block is not kept for more to come when the one before it is as long ago: a slow query trickles."""


@dataclass(frozen=True, slots=True)
class _Chunk:
    text: bytes


class CopyText:
    """Chunks of whole lines from `COPY (sql) TO STDOUT` in a dialect, without a header line.

    `next` gives one, or None at the end, and raises what asyncpg raises. `stop` ends it early, at once and for
    good; the connection then still has to hear of the end from the server before it can be used again.
    """

    def __init__(
        self,
        connection: Connection,
        sql: str,
        dialect: Dialect,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._copy: Coroutine[Any, Any, str] | None = connection.copy_from_query(
            sql,
            output=self._collect,
            format="csv",
            delimiter=dialect.delimiter,
            null=dialect.null,
            quote='"',
            encoding="UTF8",
        )
        self._clock = clock
        self._blocks: list[bytearray] = []
        self._size = 0
        self._last_chunk_at = float("-inf")
        self._cancelled: asyncio.CancelledError | None = None

    async def next(self) -> bytes | None:
        """The next chunk, 64 KiB or a little more where the server is fast enough."""
        return await self._stepped() if self._copy is not None else None

    def stop(self) -> None:
        """Make asyncpg cancel the query where it is still running; may be called again."""
        copy, self._copy = self._copy, None
        if copy is None:
            return
        # The end was asked for, so how it comes is of no use; a lost connection raises here, too.
        with contextlib.suppress(asyncio.CancelledError, Exception):
            copy.throw(asyncio.CancelledError())
        copy.close()

    @types.coroutine
    def _stepped(self) -> Generator[Any, Any, bytes | None]:
        """Run the coroutine to its next chunk; the caller awaits the futures that it yields."""
        copy = self._copy
        assert copy is not None  # noqa: S101 - `next` has looked
        step: Callable[[Any], Any] = copy.send
        value: Any = None
        while True:
            try:
                yielded = step(value)
            except BaseException as error:
                self._copy = None
                if isinstance(error, StopIteration) and self._cancelled is None:
                    return self._taken() or None
                raise self._cancelled or error from None
            if isinstance(yielded, _Chunk):
                return yielded.text
            step, value = copy.send, None
            try:
                yield yielded
            except BaseException as error:  # to be raised where the coroutine waits
                if isinstance(error, asyncio.CancelledError) and _has_come(yielded):
                    self._cancelled = error
                else:
                    step, value = copy.throw, error

    async def _collect(self, block: bytearray) -> None:
        """The callback of asyncpg: comes back at once until a chunk is full or late, then when that is taken."""
        if self._cancelled is not None:
            raise self._cancelled
        self._blocks.append(block)
        self._size += len(block)
        if self._size >= CHUNK_BYTES or self._clock() - self._last_chunk_at >= PATIENCE_SECONDS:
            await _until_taken(_Chunk(self._taken()))
            self._last_chunk_at = self._clock()

    def _taken(self) -> bytes:
        """What has come, as one; asyncpg holds on to its last block, so that is emptied."""
        text = b"".join(self._blocks)
        for block in self._blocks:
            block.clear()
        self._blocks.clear()
        self._size = 0
        return text


@types.coroutine
def _until_taken(chunk: _Chunk) -> Generator[_Chunk, None, None]:
    yield chunk


def _has_come(awaited: Any) -> bool:
    """Return whether a future has its result, although the task that awaits it is cancelled in the same turn."""
    return asyncio.isfuture(awaited) and awaited.done() and not awaited.cancelled()
