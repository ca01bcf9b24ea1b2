"""One export: a cursor and an encoder become chunks of bytes.

A cursor that awaits is encoded on the event loop, in slices of a millisecond; a cursor that blocks is read, encoded
and compressed in one thread hop a chunk. Both make chunks of 40 KiB and more, and hand over less only when
`FLUSH_SECONDS` have gone since the last one, so that progress shows. The first chunk comes with the first batch, and
is empty where a format has nothing to write of it yet: the source works, so the head may go.

A compressor is fed pieces of 40 KiB and more as well. It never runs on the event loop, except for the error marker:
64 KiB take 0.2 ms at the default levels, but 256 KiB of ready text take 10 ms at gzip's level 9, and in a thread
another core does it.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator, Sequence
from contextlib import AbstractAsyncContextManager, aclosing, asynccontextmanager
from functools import partial
from typing import cast

from asgi_export.asgi.coding import Compressor
from asgi_export.errors import DoesNotFit, ExportError
from asgi_export.table import Batch, BlockingCursor, Cursor, Encoder, Rows
from asgi_export.threads import Workers

CHUNK_BYTES = 40 * 1024
"""A client that reads nothing costs three of them and the server's 64 KiB; with less the price of a send shows."""

FLUSH_SECONDS = 0.1
FLUSH_COMPRESSED_SECONDS = 1.0
"""A flush costs a compressor some of its ratio, so it comes more rarely."""

QUIET_SECONDS = 20.0
"""A format that collects groups of rows writes what it has when nothing was sent for so long: proxies break off a
body that is silent, nginx after 60 seconds, and a group of ten rows a second takes hours."""

SLICE_CELLS = 4096
"""Cells encoded without giving the loop back: about a millisecond."""


class ChunkWriter:
    """Feeds an encoder, and the content coding of the response where it has one, and collects what comes out.

    Not for two threads at once. `feed` says when it is time to `take` a chunk; `resume` comes when that has been
    sent, so that the time in which the client took it does not count.
    """

    def __init__(self, encoder: Encoder, compressor: Compressor | None = None) -> None:
        self._encoder = encoder
        self._compressor = compressor
        self._flush_seconds = FLUSH_COMPRESSED_SECONDS if compressor else FLUSH_SECONDS
        self._encoded = _Parts()
        self._compressed = _Parts()
        self._unsent = False
        self._given = False
        self._flush_at = 0.0
        self._quiet_at = 0.0

    @property
    def compresses(self) -> bool:
        return self._compressor is not None

    def begin(self) -> None:
        """Write the encoder's head. The first batch is sent at once: the second may be long in coming."""
        self._quiet_at = time.monotonic() + QUIET_SECONDS
        self._write(_fitting(self._encoder.head))

    def resume(self) -> None:
        """Begin the next chunk: the last one was sent."""
        self._given = False
        now = time.monotonic()
        self._flush_at, self._quiet_at = now + self._flush_seconds, now + QUIET_SECONDS

    def write(self, batch: Batch) -> bytes:
        """Encode a batch: the chunk that is due, or nothing."""
        return self.take() if self.feed(batch) else b""

    def feed(self, batch: Batch) -> bool:
        """Encode a batch; True when it is time to take."""
        self._write(_fitting(lambda: self._encoder.feed(batch)))
        if not self._unsent and time.monotonic() >= self._quiet_at:
            self._write(_fitting(self._encoder.flush))
        return self._encoded.size >= CHUNK_BYTES or (self._unsent and self._late())

    def take(self) -> bytes:
        """What has been collected, as one chunk; nothing as long as the coding makes less than a chunk of it."""
        return self._chunk(flush=self._late())

    def end(self) -> bytes:
        """The last chunk, with what ends the encoder's output and the coding's; it may be empty."""
        self._write(_fitting(self._encoder.tail))
        text = self._encoded.joined()
        if self._compressor is None:
            return text
        self._compressed.add(self._compressor.feed(text))
        self._compressed.add(self._compressor.finish())
        self._given = True  # nothing can follow in this coding
        return self._compressed.joined()

    def error_marker(self, text: bytes) -> bytes:
        """Encode what was collected and `text` behind it, without the trailer of the coding; nothing for no text.

        The stream stays broken, and a client that reads it so far sees why. If a compressed chunk was taken and
        perhaps not sent, no client could read what follows, so the result is empty.
        """
        if not text or (self._given and self.compresses):
            return b""
        self._write(text)
        return self._chunk(flush=True)

    def _late(self) -> bool:
        return time.monotonic() >= self._flush_at

    def _chunk(self, *, flush: bool) -> bytes:
        chunk = self._encoded.joined()
        if self._compressor is not None:
            self._compressed.add(self._compressor.feed(chunk))
            if flush:
                self._compressed.add(self._compressor.flush())
            elif self._compressed.size < CHUNK_BYTES:
                return b""
            chunk = self._compressed.joined()
        self._unsent, self._given = False, True
        return chunk

    def _write(self, data: bytes) -> None:
        self._encoded.add(data)
        self._unsent = self._unsent or bool(data)


def _fitting(encode: Callable[[], bytes]) -> bytes:
    """What `encode` returns. Raises `DoesNotFit` for what the libraries below a format cannot write."""
    try:
        return encode()
    except (ExportError, MemoryError):
        raise
    except Exception as error:
        raise DoesNotFit(f"{type(error).__name__}: {error}") from error


class _Parts:
    """Bytes that are collected until they are joined."""

    def __init__(self) -> None:
        self._parts: list[bytes] = []
        self.size = 0

    def add(self, data: bytes) -> None:
        self._parts.append(data)
        self.size += len(data)

    def joined(self) -> bytes:
        data = b"".join(self._parts)
        self._parts, self.size = [], 0
        return data


@asynccontextmanager
async def open_chunks(
    cursor: Cursor, writer: ChunkWriter, workers: Workers, *, in_threads: bool = False
) -> AsyncIterator[AsyncIterator[bytes]]:
    """Enter the cursor and iterate its chunks; leaving it leaves the cursor, through any cancellation.

    `in_threads` has the batches of a cursor that awaits encoded in worker threads as well.
    """
    if not isinstance(cursor, AbstractAsyncContextManager):
        async with _blocking_chunks(cursor, writer, workers) as chunks:
            yield chunks
        return
    on_loop = _LoopWriter(writer, workers, in_threads=in_threads)
    async with cursor as batches, _closing(batches), aclosing(_chunks(batches, on_loop)) as chunks:
        yield chunks


@asynccontextmanager
async def _closing(batches: AsyncIterator[Batch]) -> AsyncIterator[None]:
    """Close a generator here and now, not whenever it is collected, in a task of its own."""
    try:
        yield
    finally:
        if isinstance(batches, AsyncGenerator):
            await batches.aclose()


class _LoopWriter:
    """A writer for cursors that await: rows and text are written on the loop, columns in a thread.

    A batch of columns takes several milliseconds, and so does any batch of a format that is written `in_threads`.
    Rows and text are compressed in a thread, columns in the same.
    """

    def __init__(self, writer: ChunkWriter, workers: Workers, *, in_threads: bool) -> None:
        self.writer = writer
        self._workers = workers
        self._in_threads = in_threads

    async def write(self, batch: Batch) -> bytes:
        """Encode a batch: the chunk that is due, or nothing."""
        if self._in_threads or not isinstance(batch, Sequence):
            return await self._workers.run(partial(self.writer.write, batch), interrupt=_uninterruptible)
        due = self.writer.feed(batch)
        del batch  # before anything is awaited: a thousand exports that take turns hold no rows meanwhile
        if not due:
            await asyncio.sleep(0)  # a chunk that is due gives the loop back when it is sent
            return b""
        return await self._workers.compute(self.writer.take) if self.writer.compresses else self.writer.take()

    async def end(self) -> bytes:
        if self._in_threads:
            return await self._workers.run(self.writer.end, interrupt=_uninterruptible)
        return await self._workers.compute(self.writer.end) if self.writer.compresses else self.writer.end()


def _uninterruptible() -> None:
    """An encoder ends by itself, within a batch."""


async def _chunks(batches: AsyncIterator[Batch], on_loop: _LoopWriter) -> AsyncGenerator[bytes, None]:
    """Chunks that are not empty, but for the first, which comes with the first batch whatever that has made."""
    writer = on_loop.writer
    writer.begin()
    begun = False
    async for batch in batches:
        pieces = slices(batch)
        del batch  # a client that reads nothing shall cost the text, not the rows as well
        while pieces:
            chunk = await on_loop.write(pieces.pop(0))
            if chunk or not begun:
                begun = True
                yield chunk
                writer.resume()
    if chunk := await on_loop.end():
        yield chunk


@asynccontextmanager
async def _blocking_chunks(
    cursor: BlockingCursor, writer: ChunkWriter, workers: Workers
) -> AsyncIterator[AsyncIterator[bytes]]:
    export = _BlockingExport(cursor, writer)
    try:
        begun = _hops(await workers.run(export.begin, interrupt=cursor.interrupt), export, workers)
        async with aclosing(begun) as chunks:
            yield chunks
    finally:
        if export.entered:
            await workers.finish(export.leave)


async def _hops(first: bytes, export: _BlockingExport, workers: Workers) -> AsyncGenerator[bytes, None]:
    """The first chunk, which may be empty, and then those that are not."""
    yield first
    while not export.exhausted:
        export.writer.resume()
        if chunk := await workers.run(export.next_chunk, interrupt=export.cursor.interrupt):
            yield chunk


class _BlockingExport:
    """What runs in worker threads, one call at a time."""

    def __init__(self, cursor: BlockingCursor, writer: ChunkWriter) -> None:
        self.cursor = cursor
        self.entered = False
        self.exhausted = False
        self.writer = writer
        self._batches: Iterator[Batch] = iter(())
        self._pieces: list[Batch] = []
        self._begun = False

    def begin(self) -> bytes:
        """Enter the cursor: the first chunk, with the first batch."""
        self._batches = self.cursor.__enter__()
        self.entered = True
        self.writer.begin()
        return self.next_chunk()

    def leave(self) -> None:
        self.entered = False
        self.cursor.__exit__(None, None, None)

    def next_chunk(self) -> bytes:
        """The next chunk; empty only as the first, and at the end, when the cursor has been left already."""
        while self._pieces or self._fetch():
            chunk = self.writer.write(self._pieces.pop(0))
            if chunk or not self._begun:
                self._begun = True
                return chunk
        self.exhausted = True
        self.leave()
        return self.writer.end()

    def _fetch(self) -> bool:
        for batch in self._batches:
            self._pieces = slices(batch)
            return True
        return False


def slices(batch: Batch) -> list[Batch]:
    """The batch itself, or rows in slices of at most `SLICE_CELLS` cells, in order."""
    if isinstance(batch, bytes) or not isinstance(batch, Sequence):
        return [batch]
    rows = cast("Rows", batch)
    step = max(1, SLICE_CELLS // max(1, len(rows[0]))) if rows else 1
    if len(rows) <= step:
        return [rows]
    return [rows[start : start + step] for start in range(0, len(rows), step)]
