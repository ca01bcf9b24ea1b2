"""One export: a cursor and an encoder become chunks of bytes.

A cursor that awaits is encoded on the event loop, in slices of a millisecond; a cursor that blocks is read and
encoded in one thread hop a chunk. Both make chunks of 64 KiB and more, and hand over less only when
`FLUSH_SECONDS` have gone since the last one, so that progress shows.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, AsyncIterator, Iterator, Sequence
from contextlib import AbstractAsyncContextManager, aclosing, asynccontextmanager
from typing import cast

from asgi_export.dataset import Batch, BlockingCursor, Cursor, Encoder, Rows
from asgi_export.workers import Workers

CHUNK_BYTES = 64 * 1024
"""A client that reads nothing costs about two chunks; below this, the price of a send shows."""

FLUSH_SECONDS = 0.1
FIRST_FLUSH_SECONDS = 0.005
"""The first chunk, and with it the head, waits for no more than this once there is a row."""

SLICE_CELLS = 4096
"""Cells encoded without giving the loop back: about a millisecond."""


@asynccontextmanager
async def open_chunks(cursor: Cursor, encoder: Encoder, workers: Workers) -> AsyncIterator[AsyncIterator[bytes]]:
    """Enter the cursor and iterate its chunks; leaving it leaves the cursor, through any cancellation."""
    if not isinstance(cursor, AbstractAsyncContextManager):
        async with _blocking_chunks(cursor, encoder, workers) as chunks:
            yield chunks
        return
    async with cursor as batches, aclosing(_chunks(batches, encoder)) as chunks:
        yield chunks


async def _chunks(batches: AsyncIterator[Batch], encoder: Encoder) -> AsyncGenerator[bytes, None]:
    chunk = _Chunk(encoder.head(), flush_seconds=0)  # a generator may wait for long after its first row
    async for batch in batches:
        pieces = slices(batch)
        del batch  # a client that reads nothing shall cost the text, not the rows as well
        while pieces:
            if chunk.add(encoder.feed(pieces.pop(0))):
                yield chunk.take()
            else:
                await asyncio.sleep(0)
    chunk.add(encoder.tail())
    if chunk.size:
        yield chunk.take()


@asynccontextmanager
async def _blocking_chunks(
    cursor: BlockingCursor, encoder: Encoder, workers: Workers
) -> AsyncIterator[AsyncIterator[bytes]]:
    export = _BlockingExport(cursor, encoder)
    try:
        await workers.run(export.enter, interrupt=cursor.interrupt)
        async with aclosing(_hops(export, workers)) as chunks:
            yield chunks
    finally:
        if export.entered:
            await workers.finish(export.leave)


async def _hops(export: _BlockingExport, workers: Workers) -> AsyncGenerator[bytes, None]:
    while not export.exhausted:
        chunk = await workers.run(export.next_chunk, interrupt=export.cursor.interrupt)
        if chunk:
            yield chunk


class _BlockingExport:
    """What runs in worker threads, one call at a time."""

    def __init__(self, cursor: BlockingCursor, encoder: Encoder) -> None:
        self.cursor = cursor
        self.entered = False
        self.exhausted = False
        self._encoder = encoder
        self._batches: Iterator[Batch] = iter(())
        self._pieces: list[Batch] = []
        self._head_due = True

    def enter(self) -> None:
        self._batches = self.cursor.__enter__()
        self.entered = True

    def leave(self) -> None:
        self.cursor.__exit__(None, None, None)

    def next_chunk(self) -> bytes:
        chunk = self._begin()
        while self._pieces or self._fetch():
            if chunk.add(self._encoder.feed(self._pieces.pop(0))):
                return chunk.take()
        self.exhausted = True
        chunk.add(self._encoder.tail())
        return chunk.take()

    def _begin(self) -> _Chunk:
        if not self._head_due:
            return _Chunk(b"", flush_seconds=FLUSH_SECONDS)
        self._head_due = False
        return _Chunk(self._encoder.head(), flush_seconds=FIRST_FLUSH_SECONDS)

    def _fetch(self) -> bool:
        for batch in self._batches:
            self._pieces = slices(batch)
            return True
        return False


class _Chunk:
    """Text that is being collected."""

    def __init__(self, start: bytes, *, flush_seconds: float) -> None:
        self._parts = [start]
        self._flush_at = time.monotonic() + flush_seconds
        self.size = len(start)

    def add(self, text: bytes) -> bool:
        """Collect; True when it is time to send."""
        self._parts.append(text)
        self.size += len(text)
        return self.size >= CHUNK_BYTES or (self.size > 0 and time.monotonic() >= self._flush_at)

    def take(self) -> bytes:
        """What has been collected, as one; begin again."""
        chunk = b"".join(self._parts)
        self._parts = []
        self._flush_at = time.monotonic() + FLUSH_SECONDS
        self.size = 0
        return chunk


def slices(batch: Batch) -> list[Batch]:
    """The batch itself, or rows in slices of at most `SLICE_CELLS` cells, in order."""
    if isinstance(batch, bytes) or not isinstance(batch, Sequence):
        return [batch]
    rows = cast("Rows", batch)
    step = max(1, SLICE_CELLS // max(1, len(rows[0]))) if rows else 1
    if len(rows) <= step:
        return [rows]
    return [rows[start : start + step] for start in range(0, len(rows), step)]
