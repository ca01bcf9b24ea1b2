"""Content codings: what goes in comes out, however it is cut, and a cut stream is no whole one."""

from __future__ import annotations

import gzip
import subprocess
import zlib
from collections.abc import Callable

import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from asgi_export.asgi import compress
from asgi_export.asgi.compress import CODINGS, Compressor

PIECES = st.lists(st.binary(max_size=300) | st.sampled_from([b"", b"a,b\n" * 5000]), max_size=8)


def expand(coding: str, data: bytes) -> bytes:
    if coding == "gzip":
        return gzip.decompress(data)
    return zstandard.ZstdDecompressor().decompressobj(read_across_frames=False).decompress(data)


def whole(make: Callable[[], Compressor], pieces: list[bytes], *, flush: bool = False) -> bytes:
    stream = make()
    out = [stream.feed(piece) + (stream.flush() if flush else b"") for piece in pieces]
    return b"".join(out) + stream.finish()


@pytest.mark.parametrize("coding", CODINGS)
@given(pieces=PIECES)
def test_what_goes_in_comes_out(coding: str, pieces: list[bytes]) -> None:
    assert expand(coding, whole(CODINGS[coding], pieces)) == b"".join(pieces)


@pytest.mark.parametrize("coding", CODINGS)
@given(pieces=PIECES)
def test_flushes_do_not_change_what_comes_out(coding: str, pieces: list[bytes]) -> None:
    assert expand(coding, whole(CODINGS[coding], pieces, flush=True)) == b"".join(pieces)


def test_gzip_without_isal_is_the_stdlib_s(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compress, "isal_zlib", None)
    assert gzip.decompress(whole(compress.Gzip, [b"id,name\n", b"1,x\n"])) == b"id,name\n1,x\n"


@pytest.mark.parametrize("coding", CODINGS)
def test_a_flush_gives_all_that_was_fed(coding: str) -> None:
    """So that progress shows: a reader that has got this far has every byte so far."""
    stream = CODINGS[coding]()
    sent = stream.feed(b"id,name\n") + stream.flush()
    reader = zlib.decompressobj(31) if coding == "gzip" else zstandard.ZstdDecompressor().decompressobj()
    assert reader.decompress(sent) == b"id,name\n"


def test_a_cut_gzip_stream_is_no_valid_shorter_one() -> None:
    stream = CODINGS["gzip"]()
    sent = stream.feed(b"id,name\n" * 1000) + stream.flush()
    with pytest.raises(EOFError):
        gzip.decompress(sent)
    result = subprocess.run(["gzip", "-dc"], input=sent, capture_output=True, check=False)
    assert result.returncode != 0


def test_a_cut_zstd_frame_is_no_valid_shorter_one() -> None:
    stream = CODINGS["zstd"]()
    sent = stream.feed(b"id,name\n" * 1000) + stream.flush()
    reader = zstandard.ZstdDecompressor().decompressobj()
    reader.decompress(sent)
    assert not reader.eof
