"""Content codings as something to feed and to finish: gzip by isal or zlib, zstd by zstandard.

A stream that is broken off never gets its trailer, so it is no valid shorter one: RFC 1952 §2.3.1 (gzip), RFC 8878
§3.1.1 (zstd, here with its checksum). Levels are those of `bench/compression.py`: isal at 2 is about ten times
as fast as zlib at 6 and hardly larger, zstd at 1 is smaller than either.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Mapping
from typing import Any, Protocol

try:
    from isal import isal_zlib
except ImportError:  # the stdlib writes the same format, slower; the extra `compression` has isal
    isal_zlib = None  # type: ignore[assignment]

try:
    import zstandard
except ImportError:  # zstd is then not offered
    zstandard = None  # type: ignore[assignment]

GZIP_WINDOW_BITS = 31
"""The largest window, with a gzip header and trailer. zlib manual, deflateInit2."""

ISAL_LEVEL = 2
ZLIB_LEVEL = 1
ZSTD_LEVEL = 1


class Compressor(Protocol):
    """One stream. `feed` may hold bytes back, `flush` gives what is held, `finish` ends it with the trailer."""

    def feed(self, data: bytes) -> bytes: ...
    def flush(self) -> bytes: ...
    def finish(self) -> bytes: ...


class Gzip:
    """A gzip stream, RFC 1952."""

    def __init__(self) -> None:
        made: Any = zlib.compressobj(ZLIB_LEVEL, zlib.DEFLATED, GZIP_WINDOW_BITS)
        if isal_zlib is not None:
            made = isal_zlib.compressobj(ISAL_LEVEL, zlib.DEFLATED, GZIP_WINDOW_BITS)
        self._stream = made

    def feed(self, data: bytes) -> bytes:
        return bytes(self._stream.compress(data))

    def flush(self) -> bytes:
        return bytes(self._stream.flush(zlib.Z_SYNC_FLUSH))

    def finish(self) -> bytes:
        return bytes(self._stream.flush(zlib.Z_FINISH))


class Zstd:
    """A zstd frame with a checksum, RFC 8878."""

    def __init__(self) -> None:
        self._stream = zstandard.ZstdCompressor(level=ZSTD_LEVEL, write_checksum=True).compressobj()

    def feed(self, data: bytes) -> bytes:
        return self._stream.compress(data)

    def flush(self) -> bytes:
        return self._stream.flush(zstandard.COMPRESSOBJ_FLUSH_BLOCK)

    def finish(self) -> bytes:
        return self._stream.flush(zstandard.COMPRESSOBJ_FLUSH_FINISH)


CODINGS: Mapping[str, Callable[[], Compressor]] = {
    **({"zstd": Zstd} if zstandard is not None else {}),
    "gzip": Gzip,
}
"""What can be offered here, best first."""
