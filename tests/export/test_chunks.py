"""A cursor and an encoder become chunks: their sizes, their times, and that the cursor is left."""

from __future__ import annotations

import asyncio
import gzip
import threading
import zlib
from collections.abc import AsyncGenerator, AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from secrets import token_hex
from typing import Any

import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from asgi_export.asgi.coding import CODINGS, CompressionLevels
from asgi_export.export.chunks import CHUNK_BYTES, FLUSH_SECONDS, SLICE_CELLS, ChunkWriter, open_chunks, slices
from asgi_export.table import Batch, Row
from asgi_export.threads import Workers
from tests.doubles import Turns, run

LINE = b"x" * 99 + b"\n"


class Clock:
    """Stands for the module `time`, and moves when the test says so."""

    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    found = Clock()
    monkeypatch.setattr("asgi_export.export.chunks.time", found)
    return found


class Lines:
    """An encoder whose rows are a hundred bytes each, or the bytes themselves."""

    rows = 0

    def __init__(self) -> None:
        self.threads: list[threading.Thread] = []

    def head(self) -> bytes:
        return b"head\n"

    def feed(self, batch: Batch) -> bytes:
        self.threads.append(threading.current_thread())
        return batch if isinstance(batch, bytes) else LINE * len(batch) if isinstance(batch, Sequence) else b"columns"

    def flush(self) -> bytes:
        return b""

    def tail(self) -> bytes:
        return b"tail\n"


class Coding:
    """A content coding that changes nothing, and notes what it is fed, when it is flushed, and who does it."""

    def __init__(self) -> None:
        self.fed: list[int] = []
        self.flushed = 0
        self.threads: set[threading.Thread] = set()

    def feed(self, data: bytes) -> bytes:
        self.fed.append(len(data))
        self.threads.add(threading.current_thread())
        return data

    def flush(self) -> bytes:
        self.flushed += 1
        return b""

    def finish(self) -> bytes:
        self.threads.add(threading.current_thread())
        return b""


class Columns:
    """A batch of columns, as far as the road looks at one."""

    def __arrow_c_array__(self, requested_schema: object | None = None) -> tuple[object, object]:
        raise AssertionError("nobody reads it here")


def rows(count: int) -> list[Row]:
    return [(number,) for number in range(count)]


def begun(coding: str = "") -> ChunkWriter:
    writer = ChunkWriter(Lines(), CODINGS[coding](CompressionLevels()) if coding else None)
    writer.begin()
    return writer


def test_the_first_batch_is_sent_at_once_and_with_it_the_head(clock: Clock) -> None:
    writer = begun()
    assert writer.feed(rows(1))
    assert writer.take() == b"head\n" + LINE


def test_a_chunk_is_sent_when_it_is_full(clock: Clock) -> None:
    writer = begun()
    writer.resume()
    writer.take()
    assert not writer.feed(b"x" * (CHUNK_BYTES - 1))
    assert writer.feed(b"x")
    assert len(writer.take()) == CHUNK_BYTES


def test_a_chunk_that_is_not_full_is_sent_when_its_time_is_up(clock: Clock) -> None:
    writer = begun()
    writer.take()
    writer.resume()
    clock.now += FLUSH_SECONDS - 0.01
    assert not writer.feed(rows(1))
    clock.now += 0.02
    assert writer.feed(rows(1))
    assert writer.take() == LINE * 2


def test_the_time_in_which_a_client_takes_a_chunk_does_not_count(clock: Clock) -> None:
    writer = begun()
    writer.take()
    writer.resume()
    clock.now += 100
    writer.resume()
    assert not writer.feed(rows(1))


def test_nothing_is_not_sent(clock: Clock) -> None:
    writer = begun()
    writer.take()
    assert not writer.feed(b"")
    assert writer.take() == b""


def test_what_is_flushed_out_of_a_compressor_can_be_read_at_once(clock: Clock) -> None:
    """A slow export makes progress on the client's side, too."""
    writer = begun("gzip")
    assert writer.feed(rows(2))
    assert zlib.decompressobj(31).decompress(writer.take()) == b"head\n" + LINE * 2


def test_the_end_has_the_tail_and_the_trailer(clock: Clock) -> None:
    writer = begun("gzip")
    writer.feed(rows(1))
    assert gzip.decompress(writer.take() + writer.end()) == b"head\n" + LINE + b"tail\n"


def test_a_slow_export_is_flushed_when_nothing_was_sent_for_a_second(clock: Clock) -> None:
    """Not before, for a flush costs some of the ratio; and with it comes what the coding made too little of."""
    writer, reader = begun("gzip"), zlib.decompressobj(31)
    writer.feed(rows(1))
    reader.decompress(writer.take())
    writer.resume()
    assert writer.feed(LINE * 1000)
    assert writer.take() == b""
    clock.now += 0.9
    assert not writer.feed(rows(1))
    clock.now += 0.1
    assert writer.feed(rows(1))
    assert reader.decompress(writer.take()) == LINE * 1002


BLOCK_BYTES = 64 * 1024
"""What a compressor may hold before it gives any of it out."""


@pytest.mark.parametrize("coding", CODINGS)
def test_a_compressed_chunk_is_sent_when_it_is_full(clock: Clock, coding: str) -> None:
    writer = begun(coding)
    writer.resume()
    sizes = [len(writer.write(token_hex(CHUNK_BYTES // 2).encode())) for _ in range(8)]
    assert sizes[0] == 0
    assert all(not size or CHUNK_BYTES <= size < CHUNK_BYTES + BLOCK_BYTES for size in sizes)
    assert any(sizes)


@given(
    st.lists(st.tuples(st.integers(0, 3 * CHUNK_BYTES // len(LINE)), st.sampled_from([0.0, 0.4, 1.0])), max_size=12)
)
@pytest.mark.parametrize("coding", CODINGS)
def test_whatever_comes_when_the_chunks_are_the_text(coding: str, batches: list[tuple[int, float]]) -> None:
    found = Clock()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("asgi_export.export.chunks.time", found)
        writer, chunks = begun(coding), []
        for count, seconds in batches:
            found.now += seconds
            if chunk := writer.write(rows(count)):
                chunks.append(chunk)
                writer.resume()
        chunks.append(writer.end())
    reader = zlib.decompressobj(31) if coding == "gzip" else zstandard.ZstdDecompressor().decompressobj()
    text = b"head\n" + LINE * sum(count for count, _ in batches) + b"tail\n"
    assert b"".join(map(reader.decompress, chunks)) == text
    assert reader.eof


@pytest.mark.parametrize("coding", ["", "gzip"])
def test_the_error_marker_comes_behind_what_was_collected_and_before_no_trailer(clock: Clock, coding: str) -> None:
    writer = begun(coding)
    writer.resume()
    writer.feed(rows(1))
    words = writer.error_marker(b"ERROR\n")
    reader = zlib.decompressobj(31)
    text = reader.decompress(words) if coding else words
    assert text == b"head\n" + LINE + b"ERROR\n"
    assert not reader.eof


@pytest.mark.parametrize("coding", ["", "gzip"])
def test_without_words_nothing_is_said(clock: Clock, coding: str) -> None:
    writer = begun(coding)
    writer.resume()
    writer.feed(rows(1))
    assert writer.error_marker(b"") == b""


@pytest.mark.parametrize(("coding", "said"), [("", b"ERROR\n"), ("gzip", b""), ("zstd", b"")])
def test_behind_a_chunk_that_may_be_lost_a_coding_has_no_error_marker(clock: Clock, coding: str, said: bytes) -> None:
    """They would be read with the wrong state, or not at all; lines need none."""
    writer = begun(coding)
    writer.feed(rows(1))
    writer.take()
    assert writer.error_marker(b"ERROR\n") == said
    writer.resume()
    assert writer.error_marker(b"ERROR\n") != b""


@given(st.integers(0, 3 * SLICE_CELLS), st.integers(1, 3) | st.just(SLICE_CELLS * 2))
def test_slices_are_the_batch_and_none_holds_the_loop_for_long(count: int, width: int) -> None:
    batch = [(number,) * width for number in range(min(count, 3 * SLICE_CELLS // width + 1))]
    found: Any = slices(batch)
    assert [row for part in found for row in part] == batch
    assert all(len(part) * width <= SLICE_CELLS or len(part) == 1 for part in found)


def test_text_and_columns_are_not_cut() -> None:
    columns = Columns()
    assert slices(b"x" * 10**6) == [b"x" * 10**6]
    assert slices(columns) == [columns]


class Cursor:
    """A blocking cursor that notes its threads, and fails where it is told to."""

    def __init__(self, batches: list[Any], *, fails: str = "") -> None:
        self.events: list[str] = []
        self.threads: list[threading.Thread] = []
        self.busy = 0
        self._batches = batches
        self._fails = fails

    def __enter__(self) -> Iterator[Batch]:
        self._note("enter")
        return self._iterate()

    def __exit__(self, *exc_info: object) -> None:
        self._note("leave")

    def interrupt(self) -> None:
        self.events.append("interrupt")

    def _iterate(self) -> Iterator[Batch]:
        for batch in self._batches:
            self._note("batch")
            yield batch

    def _note(self, event: str) -> None:
        self.threads.append(threading.current_thread())
        self.events.append(event)
        if event == self._fails:
            raise RuntimeError(event)


async def chunks_of(cursor: Any, writer: ChunkWriter, **options: bool) -> list[bytes]:
    workers = Workers()
    try:
        async with open_chunks(cursor, writer, workers, **options) as chunks:
            return [chunk async for chunk in chunks]
    finally:
        workers.close()


def test_a_blocking_cursor_is_read_encoded_and_left_in_threads() -> None:
    async def scenario() -> None:
        encoder, cursor = Lines(), Cursor([rows(2), rows(3)])
        assert b"".join(await chunks_of(cursor, ChunkWriter(encoder))) == b"head\n" + LINE * 5 + b"tail\n"
        assert cursor.events == ["enter", "batch", "batch", "leave"]
        assert threading.main_thread() not in {*cursor.threads, *encoder.threads}

    run(scenario())


@pytest.mark.parametrize(
    ("fails", "events"),
    [("enter", ["enter"]), ("batch", ["enter", "batch", "leave"]), ("leave", ["enter", "batch", "leave"])],
)
def test_a_blocking_cursor_is_left_when_it_was_entered(fails: str, events: list[str]) -> None:
    async def scenario() -> None:
        cursor = Cursor([rows(1)], fails=fails)
        with pytest.raises(RuntimeError, match=fails):
            await chunks_of(cursor, ChunkWriter(Lines()))
        assert cursor.events == events

    run(scenario())


def test_a_blocking_cursor_is_left_though_slow_queries_hold_every_thread() -> None:
    async def scenario() -> None:
        workers, cursor = Workers(threads=1), Cursor([rows(1)] * 5)
        begun, release = asyncio.Event(), threading.Event()
        loop = asyncio.get_running_loop()

        def slow() -> None:
            loop.call_soon_threadsafe(begun.set)
            release.wait()

        async with open_chunks(cursor, ChunkWriter(Lines()), workers) as chunks:
            await anext(chunks)
            query = asyncio.create_task(workers.run(slow, interrupt=release.set))
            await begun.wait()
        assert cursor.events[-1] == "leave"
        release.set()
        await query
        workers.close()

    run(scenario())


def test_large_chunks_need_one_hop_each_and_small_batches_share_one() -> None:
    async def scenario() -> None:
        cursor = Cursor([rows(100)] * 100)
        chunks = await chunks_of(cursor, ChunkWriter(Lines()))
        assert len(chunks) <= 2 + 100 * 100 * len(LINE) // CHUNK_BYTES
        assert all(CHUNK_BYTES <= len(chunk) < CHUNK_BYTES + 100 * len(LINE) for chunk in chunks[1:-1])

    run(scenario())


class Batches:
    """A cursor that awaits, whose generator notes when it is closed."""

    def __init__(self, batches: list[Any]) -> None:
        self.events: list[str] = []
        self._batches = batches

    @asynccontextmanager
    async def open(self) -> AsyncIterator[AsyncIterator[Batch]]:
        yield self._iterate()
        self.events.append("left")

    async def _iterate(self) -> AsyncGenerator[Batch, None]:
        try:
            for batch in self._batches:
                yield batch
        finally:
            self.events.append("closed")


def test_a_generator_of_batches_is_closed_before_its_cursor_is_left() -> None:
    """Not whenever it is collected, in a task of its own."""

    async def scenario() -> None:
        source = Batches([rows(1)] * 10)
        async with open_chunks(source.open(), ChunkWriter(Lines()), Workers()) as chunks:
            await anext(chunks)
            held = chunks
        assert source.events == ["closed", "left"]
        del held

    run(scenario())


@pytest.mark.parametrize("in_threads", [False, True])
def test_rows_are_encoded_on_the_loop_unless_the_format_is_slow(in_threads: bool) -> None:
    async def scenario() -> None:
        encoder = Lines()
        source = Batches([rows(1), b"text\n", rows(1)])
        chunks = await chunks_of(source.open(), ChunkWriter(encoder), in_threads=in_threads)
        assert b"".join(chunks) == b"head\n" + LINE + b"text\n" + LINE + b"tail\n"
        assert len(encoder.threads) == 3
        assert (threading.main_thread() in encoder.threads) is not in_threads

    run(scenario())


def test_columns_are_encoded_in_a_thread() -> None:
    async def scenario() -> None:
        encoder = Lines()
        await chunks_of(Batches([Columns(), rows(1)]).open(), ChunkWriter(encoder))
        assert [thread is threading.main_thread() for thread in encoder.threads] == [False, True]

    run(scenario())


def test_a_batch_without_a_chunk_gives_the_loop_back() -> None:
    """A source that has everything at hand, in batches too small to send."""

    async def scenario() -> None:
        async with Turns() as turns:
            await chunks_of(Batches([rows(1)] * 300).open(), ChunkWriter(Lines()))
        assert turns.count >= 299

    run(scenario())


@pytest.mark.parametrize("kind", ["awaits", "blocks"])
def test_a_compressor_is_fed_large_pieces_and_not_flushed_between_them(kind: str, clock: Clock) -> None:
    async def scenario() -> None:
        coding, batches = Coding(), [rows(100)] * 100
        cursor = Cursor(batches) if kind == "blocks" else Batches(batches).open()
        chunks = await chunks_of(cursor, ChunkWriter(Lines(), coding))
        assert b"".join(chunks) == b"head\n" + LINE * 10_000 + b"tail\n"
        assert len(coding.fed) > 10
        assert min(coding.fed[1:-1]) >= CHUNK_BYTES
        assert coding.flushed == 1, "the first batch alone is sent at once"

    run(scenario())


@pytest.mark.parametrize("batch", [rows(2000), b"x" * 10**6], ids=["rows", "text"])
def test_nothing_is_compressed_on_the_loop(batch: Batch) -> None:
    async def scenario() -> None:
        encoder, coding = Lines(), Coding()
        await chunks_of(Batches([batch] * 3).open(), ChunkWriter(encoder, coding))
        assert set(encoder.threads) == {threading.main_thread()}
        assert coding.threads
        assert threading.main_thread() not in coding.threads

    run(scenario())


def test_a_blocking_cursor_is_compressed_in_the_hop_that_encodes() -> None:
    """And not in one of its own, in the threads that only compute."""

    async def scenario() -> None:
        encoder, coding = Lines(), Coding()
        await chunks_of(Cursor([rows(2000)] * 3), ChunkWriter(encoder, coding))
        pools = {thread.name.rpartition("_")[0] for thread in (*encoder.threads, *coding.threads)}
        assert pools == {"asgi-export"}

    run(scenario())


def test_compressing_does_not_wait_for_slow_queries() -> None:
    async def scenario() -> None:
        workers, release = Workers(threads=1), threading.Event()
        query = asyncio.create_task(workers.run(release.wait, interrupt=release.set))
        async with open_chunks(Batches([rows(1000)] * 5).open(), ChunkWriter(Lines(), Coding()), workers) as chunks:
            text = b"".join([chunk async for chunk in chunks])
        assert text.count(b"\n") == 5002
        assert not query.done()
        release.set()
        await query
        workers.close()

    run(scenario())


@pytest.mark.parametrize("kind", ["awaits", "blocks"])
def test_a_client_that_takes_its_time_gets_full_chunks(kind: str, clock: Clock) -> None:
    async def scenario() -> None:
        batches = [rows(100)] * 100
        cursor: Any = Cursor(batches) if kind == "blocks" else Batches(batches).open()
        sizes: list[int] = []
        async with open_chunks(cursor, ChunkWriter(Lines()), Workers()) as chunks:
            async for chunk in chunks:
                sizes.append(len(chunk))
                clock.now += 100
        assert min(sizes[1:-1]) >= CHUNK_BYTES

    run(scenario())
