"""Streaming content codings: gzip by isal or zlib, zstd by zstandard.

A stream that is broken off never gets its trailer, so no client takes it for a complete one: RFC 1952 §2.3.1 (gzip),
RFC 8878 §3.1.1 (zstd, here with its checksum).

`bench/compression.py` chose the levels. On 336,776 flights as CSV, compared with zlib at 6: isal at 3 takes a ninth
of the time and gives 1.15 times the size, zstd at 1 takes a thirteenth and gives 0.94; on generated rows a sixth and
1.03, an eleventh and 0.50. isal at 2 is nearly twice as fast as at 3, and then faster than zstd, for 3 % more bytes.
On random tokens, which do not compress, zstd is faster than isal and 1 % larger.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

try:
    from isal import isal_zlib
except ImportError:  # the stdlib writes the same format, slower; the extra `compression` has isal
    isal_zlib = None  # type: ignore[assignment]

try:
    import zstandard
except ImportError:  # zstd is then not available
    zstandard = None  # type: ignore[assignment]

GZIP_WINDOW_BITS = 31
"""The largest window, with a gzip header and trailer. zlib manual, deflateInit2."""

GZIP_LEVEL = 3
ZSTD_LEVEL = 1
"""The defaults; the measurements are above."""

LEVELS = range(1, 10)
"""Both codings have more levels. Lower ones are larger and no faster; higher ones of zstd take up to 700 MB."""

ISAL_LEVELS = range(1, 4)
"""At these levels isal writes about as much as zlib does, in a quarter of the time; it has no higher ones."""


@dataclass(frozen=True, slots=True)
class CompressionLevels:
    """How hard each coding tries, from 1 (fast) to 9 (small).

    If isal is installed, it writes gzip at 1 to 3; zlib writes it otherwise. A stream of gzip holds 0.5 MB of memory,
    one of zstd 1.2 MB at 1 and 13 MB at 9. Raises `ValueError` for a level out of that range.
    """

    gzip: int = GZIP_LEVEL
    zstd: int = ZSTD_LEVEL

    def __post_init__(self) -> None:
        for name, level in (("gzip", self.gzip), ("zstd", self.zstd)):
            if level not in LEVELS:
                raise ValueError(f"{name}={level!r}: expected a whole number from {LEVELS[0]} to {LEVELS[-1]}")


class Compressor(Protocol):
    """One stream. `feed` may hold bytes back, `flush` returns them, `finish` ends the stream with its trailer."""

    def feed(self, data: bytes) -> bytes: ...
    def flush(self) -> bytes: ...
    def finish(self) -> bytes: ...


class Gzip:
    """A gzip stream, RFC 1952."""

    def __init__(self, level: int) -> None:
        library: Any = isal_zlib if isal_zlib is not None and level in ISAL_LEVELS else zlib
        self._stream = library.compressobj(level, zlib.DEFLATED, GZIP_WINDOW_BITS)

    def feed(self, data: bytes) -> bytes:
        return bytes(self._stream.compress(data))

    def flush(self) -> bytes:
        return bytes(self._stream.flush(zlib.Z_SYNC_FLUSH))

    def finish(self) -> bytes:
        return bytes(self._stream.flush(zlib.Z_FINISH))


class Zstd:
    """A zstd frame with a checksum, RFC 8878."""

    def __init__(self, level: int) -> None:
        self._stream = zstandard.ZstdCompressor(level=level, write_checksum=True).compressobj()

    def feed(self, data: bytes) -> bytes:
        return self._stream.compress(data)

    def flush(self) -> bytes:
        return self._stream.flush(zstandard.COMPRESSOBJ_FLUSH_BLOCK)

    def finish(self) -> bytes:
        return self._stream.flush(zstandard.COMPRESSOBJ_FLUSH_FINISH)


CODINGS: Mapping[str, Callable[[CompressionLevels], Compressor]] = {
    **({"zstd": lambda levels: Zstd(levels.zstd)} if zstandard is not None else {}),
    "gzip": lambda levels: Gzip(levels.gzip),
}
"""The codings that are installed, best first."""
