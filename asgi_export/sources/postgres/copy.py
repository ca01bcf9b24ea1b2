"""The text of one `COPY … TO STDOUT`, pulled a chunk at a time.

Theory of operation
-------------------
asyncpg's `copy_from_query` pushes: it awaits a callback for each block, and reads no further from the socket until
the callback returns. It runs in a task here; the callback gathers blocks to a chunk, and does not return before that
chunk has been taken and the next one is wanted. So a client that stalls costs one chunk (64 KiB and a block of at
most 256 KiB) and what asyncpg has read last, and TCP makes the server wait.

`stop` cancels the task. In the callback, or while the server is waited for, that makes asyncpg send a cancel request
and discard what still arrives. If a block has come in the very same turn of the loop, asyncpg loses the block and the
query runs on: its connection then refuses the next statement and closes, by which the server ends the query.

The server sends a message a row and a buffer of 8 KiB at a time; chunks of 64 KiB make it an eighth of the
messages to HTTP. PostgreSQL, Frontend/Backend Protocol, COPY Operations: messages end at row ends.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from functools import partial

from asgi_export.sources.postgres.driver import Connection
from asgi_export.table import Dialect

CHUNK_BYTES = 64 * 1024

PATIENCE_SECONDS = 0.02
"""A block is not kept for more to come when the one before it is as long ago: a slow query trickles."""


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
        self._copy = partial(
            connection.copy_from_query,
            sql,
            output=self._collect,
            format="csv",
            delimiter=dialect.delimiter,
            null=dialect.null,
            quote='"',
            encoding="UTF8",
        )
        self._clock = clock
        self._task: asyncio.Task[str] | None = None
        self._wanted, self._ready = asyncio.Event(), asyncio.Event()
        self._blocks: list[bytearray] = []
        self._size = 0
        self._last_chunk_at = float("-inf")

    async def next(self) -> bytes | None:
        """The next chunk, 64 KiB or a little more where the server is fast enough."""
        self._wanted.set()
        if self._task is None:
            self._task = asyncio.create_task(self._copy())
            self._task.add_done_callback(self._end)
        await self._ready.wait()
        if self._task.done():
            self._task.result()
            return self._taken() or None
        self._ready.clear()
        return self._taken()

    async def stop(self) -> None:
        """Make asyncpg cancel the query where it is still running; may be called again."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])  # at once: asyncpg awaits nothing when it is cancelled

    def _end(self, task: asyncio.Task[str]) -> None:
        """Wake `next` for good; one that has been stopped does not come for the error."""
        if not task.cancelled():
            task.exception()
        self._ready.set()

    async def _collect(self, block: bytearray) -> None:
        """The callback of asyncpg: returns at once until a chunk is full or late, then when the next is wanted."""
        self._blocks.append(block)
        self._size += len(block)
        if self._size >= CHUNK_BYTES or self._clock() - self._last_chunk_at >= PATIENCE_SECONDS:
            self._wanted.clear()
            self._ready.set()
            await self._wanted.wait()
            self._last_chunk_at = self._clock()

    def _taken(self) -> bytes:
        """What has come, as one; asyncpg holds on to its last block, so that is emptied."""
        text = b"".join(self._blocks)
        for block in self._blocks:
            block.clear()
        self._blocks.clear()
        self._size = 0
        return text
