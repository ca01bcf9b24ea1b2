"""Content codings as something to feed and to finish: gzip by isal or zlib, zstd by zstandard.

A stream that is broken off never gets its trailer, so it is no valid shorter one: RFC 1952 §2.3.1 (gzip), RFC 8878
§3.1.1 (zstd, here with its checksum).

`bench/compression.py` chose the levels. On 336,776 flights as CSV, next to zlib at 6: isal at 3 takes a ninth of the
time and gives 1.15 times the size, zstd at 1 takes a thirteenth and gives 0.94; on made-up rows a sixth and 1.03,
an eleventh and 0.50. isal at 2 is nearly twice as fast as at 3, and then faster than zstd, for 3 % more bytes. On
random tokens, which nothing makes small, zstd is faster than isal and 1 % larger.
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
except ImportError:  # zstd is then not offered
    zstandard = None  # type: ignore[assignment]

GZIP_WINDOW_BITS = 31
"""The largest window, with a gzip header and trailer. zlib manual, deflateInit2."""

LEVELS = range(1, 10)
"""Both codings have more. Below lies what is larger and no faster; above, a zstd stream takes up to 700 MB."""

ISAL_LEVELS = range(1, 4)
"""isal at one of these writes about what zlib writes at the same one, in a quarter of the time; it has no higher."""


@dataclass(frozen=True, slots=True)
class CompressionLevels:
    """How hard each coding tries, from 1 (fast) to 9 (small).

    gzip is written by isal at 1 to 3, where it is installed, and by zlib otherwise. A stream of gzip holds 0.5 MB
    of memory, one of zstd 1.2 MB at 1 and 13 MB at 9. Raises `ValueError` for a level that there is not.
    """

    gzip: int = 3
    zstd: int = 1

    def __post_init__(self) -> None:
        for name, level in (("gzip", self.gzip), ("zstd", self.zstd)):
            if level not in LEVELS:
                raise ValueError(f"{name}={level!r}: expected a whole number from {LEVELS[0]} to {LEVELS[-1]}")


class Compressor(Protocol):
    """One stream. `feed` may hold bytes back, `flush` gives what is held, `finish` ends it with the trailer."""

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
"""What can be offered here, best first."""
