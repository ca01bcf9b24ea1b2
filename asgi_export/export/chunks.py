"""Turn a cursor and an encoder into chunks of bytes.

The batches of an async cursor are encoded on the event loop, in slices of a millisecond. A blocking cursor is read,
encoded and compressed in one thread hop a chunk. Both make chunks of 40 KiB and more; a smaller one is due when
`FLUSH_SECONDS` have passed since the last, so that progress shows. The first chunk comes with the first batch. It is
empty if the format has nothing to write yet: the source works, so the head may be sent.

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
"""A client that reads nothing costs three of them and the server's 64 KiB; below that the cost of a send shows."""

FLUSH_SECONDS = 0.1
FLUSH_COMPRESSED_SECONDS = 1.0
"""A flush worsens the ratio of a compressor, so it comes less often."""

QUIET_SECONDS = 20.0
"""After so long without a chunk a format that collects groups of rows writes what it has: proxies break off a silent
body, nginx after 60 seconds, and at ten rows a second a group takes hours."""

SLICE_CELLS = 4096
"""Cells encoded without yielding to the loop: about a millisecond."""


class ChunkWriter:
    """Feed an encoder, and the content coding of the response if there is one, and collect the output.

    Not for two threads at once. `feed` says when to `take` a chunk. Call `resume` when the chunk has been sent, so
    that the time of the client does not count.
    """

    def __init__(self, encoder: Encoder, compressor: Compressor | None = None) -> None:
        self._encoder = encoder
        self._compressor = compressor
        self._flush_seconds = FLUSH_COMPRESSED_SECONDS if compressor else FLUSH_SECONDS
        self._encoded = _Parts()
        self._compressed = _Parts()
        self._unsent = False
        self._in_flight = False
        self._flush_at = 0.0
        self._quiet_at = 0.0

    @property
    def compresses(self) -> bool:
        return self._compressor is not None

    def begin(self) -> None:
        """Write the encoder's head. A chunk is due with the first batch, as the second may take long."""
        self._quiet_at = time.monotonic() + QUIET_SECONDS
        self._write(_run_encoder(self._encoder.head))

    def resume(self) -> None:
        """Begin the next chunk: the last one was sent."""
        self._in_flight = False
        now = time.monotonic()
        self._flush_at, self._quiet_at = now + self._flush_seconds, now + QUIET_SECONDS

    def write(self, batch: Batch) -> bytes:
        """Encode a batch; return the chunk that is due, or nothing."""
        return self.take() if self.feed(batch) else b""

    def feed(self, batch: Batch) -> bool:
        """Encode a batch; return whether a chunk is due."""
        self._write(_run_encoder(lambda: self._encoder.feed(batch)))
        if not self._unsent and time.monotonic() >= self._quiet_at:
            self._write(_run_encoder(self._encoder.flush))
        return self._encoded.size >= CHUNK_BYTES or (self._unsent and self._is_due())

    def take(self) -> bytes:
        """Return what has been collected, as one chunk; nothing until the coding has made enough for one."""
        return self._chunk(flush=self._is_due())

    def end(self) -> bytes:
        """Return the last chunk, with the tail of the encoder and the trailer of the coding; it may be empty."""
        self._write(_run_encoder(self._encoder.tail))
        text = self._encoded.take()
        if self._compressor is None:
            return text
        self._compressed.add(self._compressor.feed(text))
        self._compressed.add(self._compressor.finish())
        self._in_flight = True  # nothing can follow in this coding
        return self._compressed.take()

    def error_marker(self, text: bytes) -> bytes:
        """Encode what was collected and `text` behind it, without the trailer of the coding; nothing for no text.

        The stream stays broken, and a client that reads it so far sees why. If a compressed chunk was taken and
        perhaps not sent, no client could read what follows, so the result is empty.
        """
        if not text or (self._in_flight and self.compresses):
            return b""
        self._write(text)
        return self._chunk(flush=True)

    def _is_due(self) -> bool:
        return time.monotonic() >= self._flush_at

    def _chunk(self, *, flush: bool) -> bytes:
        chunk = self._encoded.take()
        if self._compressor is not None:
            self._compressed.add(self._compressor.feed(chunk))
            if flush:
                self._compressed.add(self._compressor.flush())
            elif self._compressed.size < CHUNK_BYTES:
                return b""
            chunk = self._compressed.take()
        self._unsent, self._in_flight = False, True
        return chunk

    def _write(self, data: bytes) -> None:
        self._encoded.add(data)
        self._unsent = self._unsent or bool(data)


def _run_encoder(encode: Callable[[], bytes]) -> bytes:
    """Call `encode`. Raises `DoesNotFit` for any error of the libraries below a format."""
    try:
        return encode()
    except (ExportError, MemoryError):
        raise
    except Exception as error:
        raise DoesNotFit(f"{type(error).__name__}: {error}") from error


class _Parts:
    """Collect bytes, and join them once."""

    def __init__(self) -> None:
        self._parts: list[bytes] = []
        self.size = 0

    def add(self, data: bytes) -> None:
        self._parts.append(data)
        self.size += len(data)

    def take(self) -> bytes:
        data = b"".join(self._parts)
        self._parts, self.size = [], 0
        return data


@asynccontextmanager
async def open_chunks(
    cursor: Cursor, writer: ChunkWriter, workers: Workers, *, in_threads: bool = False
) -> AsyncIterator[AsyncIterator[bytes]]:
    """Enter the cursor and iterate its chunks; on exit leave the cursor, through any cancellation.

    With `in_threads` the batches of an async cursor are encoded in worker threads as well.
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
    """Close a generator on exit, in this task, and not when it is collected, in another one."""
    try:
        yield
    finally:
        if isinstance(batches, AsyncGenerator):
            await batches.aclose()


class _LoopWriter:
    """Write for async cursors: rows and text on the loop, columns in a thread.

    A batch of columns takes several milliseconds, and so does any batch of a format that is written `in_threads`.
    Rows and text are compressed in a thread; columns are encoded and compressed in one thread hop.
    """

    def __init__(self, writer: ChunkWriter, workers: Workers, *, in_threads: bool) -> None:
        self.writer = writer
        self._workers = workers
        self._in_threads = in_threads

    async def write(self, batch: Batch) -> bytes:
        """Encode a batch; return the chunk that is due, or nothing."""
        if self._in_threads or not isinstance(batch, Sequence):
            return await self._workers.run(partial(self.writer.write, batch), interrupt=_uninterruptible)
        due = self.writer.feed(batch)
        del batch  # before anything is awaited: a thousand exports that take turns hold no rows meanwhile
        if not due:
            await asyncio.sleep(0)  # a chunk that is due yields to the loop when it is sent
            return b""
        return await self._workers.compute(self.writer.take) if self.writer.compresses else self.writer.take()

    async def end(self) -> bytes:
        if self._in_threads:
            return await self._workers.run(self.writer.end, interrupt=_uninterruptible)
        return await self._workers.compute(self.writer.end) if self.writer.compresses else self.writer.end()


def _uninterruptible() -> None:
    """Do nothing: an encoder ends by itself, within a batch."""


async def _chunks(batches: AsyncIterator[Batch], on_loop: _LoopWriter) -> AsyncGenerator[bytes, None]:
    """Iterate the chunks. Only the first, which comes with the first batch, may be empty."""
    writer = on_loop.writer
    writer.begin()
    begun = False
    async for batch in batches:
        pieces = slices(batch)
        del batch  # a client that reads nothing must cost the text, not the rows as well
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
        begun = _next_chunks(await workers.run(export.begin, interrupt=cursor.interrupt), export, workers)
        async with aclosing(begun) as chunks:
            yield chunks
    finally:
        if export.entered:
            await workers.finish(export.leave)


async def _next_chunks(first: bytes, export: _BlockingExport, workers: Workers) -> AsyncGenerator[bytes, None]:
    """Yield the first chunk, which may be empty, and then the others, one thread hop each."""
    yield first
    while not export.exhausted:
        export.writer.resume()
        if chunk := await workers.run(export.next_chunk, interrupt=export.cursor.interrupt):
            yield chunk


class _BlockingExport:
    """The part of an export that runs in worker threads, one call at a time."""

    def __init__(self, cursor: BlockingCursor, writer: ChunkWriter) -> None:
        self.cursor = cursor
        self.entered = False
        self.exhausted = False
        self.writer = writer
        self._batches: Iterator[Batch] = iter(())
        self._pieces: list[Batch] = []
        self._begun = False

    def begin(self) -> bytes:
        """Enter the cursor; return the first chunk, which comes with the first batch."""
        self._batches = self.cursor.__enter__()
        self.entered = True
        self.writer.begin()
        return self.next_chunk()

    def leave(self) -> None:
        self.entered = False
        self.cursor.__exit__(None, None, None)

    def next_chunk(self) -> bytes:
        """Return the next chunk; only the first and the last may be empty. Leaves the cursor before the last."""
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
    """Cut rows into slices of at most `SLICE_CELLS` cells, in order; other batches stay whole."""
    if isinstance(batch, bytes) or not isinstance(batch, Sequence):
        return [batch]
    rows = cast("Rows", batch)
    step = max(1, SLICE_CELLS // max(1, len(rows[0]))) if rows else 1
    if len(rows) <= step:
        return [rows]
    return [rows[start : start + step] for start in range(0, len(rows), step)]
