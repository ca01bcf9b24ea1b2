"""The text of one `COPY … TO STDOUT`, pulled a chunk at a time.

Theory of operation
-------------------
asyncpg's `copy_from_query` pushes: it awaits a callback for each block, and reads no further from the socket until
the callback returns. It runs in a task here; the callback gathers blocks to a chunk, and does not return before that
chunk has been taken and the next one is wanted. So a client that stalls costs one chunk (64 KiB and a block of at
most 256 KiB) and what asyncpg has read last, and TCP makes the server wait.

`stop` cancels the task. In the callback, or while the server is waited for, that makes asyncpg send a cancel request
and discard what still arrives. But if a block has come and the task has not had its turn yet, asyncpg would lose the
block and let the query run on, which costs the connection. So `stop` first pauses the reading, so that no other block
comes, and gives the loop one turn: a block that has come reaches the callback, which raises, and that makes asyncpg
send a cancel request, too. A task that waits after that turn waits for the server.

The server sends a message a row and a buffer of 8 KiB at a time; chunks of 64 KiB make it an eighth of the
messages to HTTP. PostgreSQL, Frontend/Backend Protocol, COPY Operations: messages end at row ends.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

from asgi_export.sources.postgres.driver import Connection, reading_paused
from asgi_export.table import Dialect

CHUNK_BYTES = 64 * 1024

PATIENCE_SECONDS = 0.02
"""A block is not kept for more to come when the one before it is as long ago: a slow query trickles."""


class CopyText:
    """Chunks of whole lines from `COPY (sql) TO STDOUT` in a dialect, without a header line.

    `next` gives one, or None at the end, and raises what asyncpg raises. `stop` ends it early and for good; the
    connection then still has to hear of the end from the server before it can be used again.
    """

    def __init__(
        self,
        connection: Connection,
        sql: str,
        dialect: Dialect,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._connection = connection
        self._sql = sql
        self._dialect = dialect
        self._clock = clock
        self._task: asyncio.Task[None] | None = None
        self._wanted, self._ready = asyncio.Event(), asyncio.Event()
        self._stopped = False
        self._blocks: list[bytearray] = []
        self._size = 0
        self._last_chunk_at = float("-inf")

    async def next(self) -> bytes | None:
        """Return the next chunk, 64 KiB or a little more if the server is fast enough."""
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
        """Make asyncpg cancel the query if it is still running; may be called again."""
        self._stopped = True
        if self._task is None:
            return
        with reading_paused(self._connection):
            await asyncio.sleep(0)
            self._task.cancel()
            await asyncio.wait([self._task])  # two turns: asyncpg awaits nothing after a cancellation

    async def _copy(self) -> None:
        await self._connection.copy_from_query(
            self._sql,
            output=self._collect,
            format="csv",
            delimiter=self._dialect.delimiter,
            null=self._dialect.null,
            quote='"',
            encoding="UTF8",
        )

    def _end(self, task: asyncio.Task[None]) -> None:
        """Wake `next` for good; nobody asks for the error of one that has been stopped."""
        if not task.cancelled():
            task.exception()
        self._ready.set()

    async def _collect(self, block: bytearray) -> None:
        """Keep a block, for asyncpg; return at once until a chunk is full or late, then when the next is wanted."""
        if self._stopped:
            raise asyncio.CancelledError
        self._blocks.append(block)
        self._size += len(block)
        if self._size >= CHUNK_BYTES or self._clock() - self._last_chunk_at >= PATIENCE_SECONDS:
            self._wanted.clear()
            self._ready.set()
            await self._wanted.wait()
            self._last_chunk_at = self._clock()

    def _taken(self) -> bytes:
        """Return what has come, as one; asyncpg holds on to its last block, so that is emptied."""
        text = b"".join(self._blocks)
        for block in self._blocks:
            block.clear()
        self._blocks.clear()
        self._size = 0
        return text
