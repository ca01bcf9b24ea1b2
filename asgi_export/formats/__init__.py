"""The table of formats: name, media type, and the encoder that writes it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec

from asgi_export.errors import StartupError, Unavailable
from asgi_export.extras import extra
from asgi_export.formats.delimited import DelimitedEncoder
from asgi_export.formats.json_lines import JsonLinesEncoder
from asgi_export.table import Column, Dialect, Encoder

ERROR_LINE = b'"__ERROR__","internal_server_error"'
"""The last line of a broken export for clients that cannot see a broken connection."""

CUT_MESSAGE = b"\xff\xff\xff\xff\x10\x00\x00\x00"
"""The beginning of an Arrow message without the rest: readers accept a stream that just stops as complete.

https://arrow.apache.org/docs/format/Columnar.html#ipc-streaming-format
"""


@dataclass(frozen=True, slots=True)
class Format:
    """One format: `encoder` makes the encoder of one export; a `delimited` format passes ready text through.

    `in_threads` marks an encoder that is slow for batches of any kind. `compressible` means that a content coding is
    worth its time. Parquet is compressed inside (gzip makes it 1.08 times smaller, CSV 4.2 times). Arrow is for
    readers that use it uncompressed; Parquet has a third of the size of gzipped Arrow.
    """

    name: str
    media_type: str
    encoder: Callable[[Sequence[Column], Dialect], Encoder]
    delimiter: str = ""
    in_threads: bool = False
    compressible: bool = True
    cut: bytes = b""
    library: str = ""

    @property
    def delimited(self) -> bool:
        return bool(self.delimiter)

    @property
    def available(self) -> bool:
        """Whether the library that the format needs, if any, is installed."""
        return not self.library or find_spec(self.library) is not None

    def error_marker(self, dialect: Dialect) -> bytes:
        """Return what a broken export ends with: a line in a format of lines, else `cut`, which ends nothing."""
        return ERROR_LINE + dialect.newline.encode() if self.delimited else self.cut


def _parquet(columns: Sequence[Column], dialect: Dialect) -> Encoder:
    with _require_pyarrow():
        from asgi_export.formats.columnar import ParquetEncoder
    return ParquetEncoder(columns, dialect)


def _arrow(columns: Sequence[Column], dialect: Dialect) -> Encoder:
    with _require_pyarrow():
        from asgi_export.formats.columnar import ArrowEncoder
    return ArrowEncoder(columns, dialect)


@contextmanager
def _require_pyarrow() -> Iterator[None]:
    """Answer 503 if pyarrow is missing."""
    try:
        with extra("files"):
            yield
    except StartupError as error:
        raise Unavailable(f"this format is not installed here: {error}", retry_after_seconds=3600) from None


FORMATS: dict[str, Format] = {
    found.name: found
    for found in (
        Format("csv", "text/csv; charset=utf-8", DelimitedEncoder, ","),
        Format("tsv", "text/tab-separated-values; charset=utf-8", DelimitedEncoder, "\t"),
        Format("ndjson", "application/x-ndjson", JsonLinesEncoder),
        Format(
            "parquet",
            "application/vnd.apache.parquet",
            _parquet,
            in_threads=True,
            compressible=False,
            library="pyarrow",
        ),
        Format(
            "arrow",
            "application/vnd.apache.arrow.stream",
            _arrow,
            in_threads=True,
            compressible=False,
            cut=CUT_MESSAGE,
            library="pyarrow",
        ),
    )
}
