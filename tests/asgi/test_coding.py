"""Content codings: what goes in comes out, however it is cut, and a cut stream is no whole one."""

from __future__ import annotations

import gzip
import zlib

import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from asgi_export.asgi import coding as coding_room
from asgi_export.asgi.coding import CODINGS, LEVELS, CompressionLevels, Compressor
from asgi_export.settings import Settings

LINES = b"id,name,price\n" * 5000
PIECES = st.lists(st.binary(max_size=300) | st.sampled_from([b"", LINES]), max_size=8)


def begun(coding: str, level: int | None = None) -> Compressor:
    levels = CompressionLevels() if level is None else CompressionLevels(gzip=level, zstd=level)
    return CODINGS[coding](levels)


def expand(coding: str, data: bytes) -> bytes:
    if coding == "gzip":
        return gzip.decompress(data)
    return zstandard.ZstdDecompressor().decompressobj(read_across_frames=False).decompress(data)


def whole(stream: Compressor, pieces: list[bytes], *, flush: bool = False) -> bytes:
    out = [stream.feed(piece) + (stream.flush() if flush else b"") for piece in pieces]
    return b"".join(out) + stream.finish()


@pytest.mark.parametrize("coding", CODINGS)
@given(pieces=PIECES)
def test_what_goes_in_comes_out(coding: str, pieces: list[bytes]) -> None:
    assert expand(coding, whole(begun(coding), pieces)) == b"".join(pieces)


@pytest.mark.parametrize("coding", CODINGS)
@given(pieces=PIECES)
def test_flushes_do_not_change_what_comes_out(coding: str, pieces: list[bytes]) -> None:
    assert expand(coding, whole(begun(coding), pieces, flush=True)) == b"".join(pieces)


@pytest.mark.parametrize("coding", CODINGS)
@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("isal", [True, False])
def test_every_level_is_one(monkeypatch: pytest.MonkeyPatch, coding: str, level: int, isal: bool) -> None:
    """Whatever is installed: a configuration moves from machine to machine."""
    if not isal:
        monkeypatch.setattr(coding_room, "isal_zlib", None)
    sent = whole(begun(coding, level), [LINES])
    assert expand(coding, sent) == LINES
    assert len(sent) < len(LINES) / 20


@pytest.mark.parametrize(
    ("installed", "level", "writer"), [(True, 3, "isal"), (True, 4, "zlib"), (False, 1, "zlib"), (False, 9, "zlib")]
)
def test_isal_writes_the_fast_levels_and_zlib_the_others(
    monkeypatch: pytest.MonkeyPatch, installed: bool, level: int, writer: str
) -> None:
    class Library:
        def __init__(self, name: str) -> None:
            self.name = name

        def compressobj(self, *arguments: int) -> object:
            made.append((self.name, arguments[0]))
            return None

    made: list[tuple[str, int]] = []
    monkeypatch.setattr(coding_room, "isal_zlib", Library("isal") if installed else None)
    monkeypatch.setattr(zlib, "compressobj", Library("zlib").compressobj)
    begun("gzip", level)
    assert made == [(writer, level)]


@pytest.mark.parametrize("coding", CODINGS)
@pytest.mark.parametrize("level", [0, 10, -1])
def test_a_level_out_of_range_says_what_was_expected(coding: str, level: int) -> None:
    with pytest.raises(ValueError, match=f"{coding}={level}: expected a whole number from 1 to 9"):
        CompressionLevels(**{coding: level})


def test_the_default_levels_are_those_of_the_settings() -> None:
    settings = Settings()
    assert CompressionLevels() == CompressionLevels(gzip=settings.gzip_level, zstd=settings.zstd_level)


@pytest.mark.parametrize("coding", CODINGS)
def test_a_flush_gives_all_that_was_fed(coding: str) -> None:
    """So that progress shows: a reader that has got this far has every byte so far."""
    stream = begun(coding)
    sent = stream.feed(b"id,name\n") + stream.flush()
    reader = zlib.decompressobj(31) if coding == "gzip" else zstandard.ZstdDecompressor().decompressobj()
    assert reader.decompress(sent) == b"id,name\n"


@pytest.mark.parametrize("coding", CODINGS)
@given(pieces=PIECES, flushed=st.booleans(), kept=st.floats(0, 1, exclude_max=True))
def test_a_stream_cut_anywhere_is_no_valid_shorter_one(
    coding: str, pieces: list[bytes], flushed: bool, kept: float
) -> None:
    """Nowhere before its very last byte, also where a flush has ended a block."""
    sent = whole(begun(coding), pieces, flush=flushed)
    cut = sent[: int(len(sent) * kept)]
    reader = zlib.decompressobj(31) if coding == "gzip" else zstandard.ZstdDecompressor().decompressobj()
    reader.decompress(cut)
    assert not reader.eof


@pytest.mark.parametrize("coding", CODINGS)
def test_a_stream_without_its_trailer_is_no_valid_shorter_one(coding: str) -> None:
    stream = begun(coding)
    cut = stream.feed(LINES) + stream.flush()
    reader = zlib.decompressobj(31) if coding == "gzip" else zstandard.ZstdDecompressor().decompressobj()
    assert reader.decompress(cut) == LINES
    assert not reader.eof
