"""Convert Arrow batches to delimited text or to rows, for CSV and TSV.

pyarrow and polars are imported with the first batch of columns.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from asgi_export.extras import extra
from asgi_export.table import Batch, Column, Dialect, Row


class ArrowText:
    """Encodes batches of columns to one dialect of RFC 4180; no header.

    The bytes are those that `csv.writer` makes of the texts that docs/http.md lists, but for the exponent of
    small floats (`1e-7`, and `0.000015` in full). `rows` counts what has been encoded. Memory: the text of a
    batch, of `MAX_CELLS` cells at most, twice. Raises `StartupError` if pyarrow or polars is missing and
    `SourceFailed` for a batch with another number of columns.
    """

    def __init__(self, columns: Sequence[Column], dialect: Dialect) -> None:
        self.rows = 0
        self._width = len(columns)
        with extra("files"):
            from asgi_export.formats.arrow.batches import record_batches
            from asgi_export.formats.arrow.lines import ArrowLines
        self._record_batches = record_batches
        self._lines = ArrowLines(dialect, self._width)

    @staticmethod
    def takes(dialect: Dialect) -> bool:
        """Return whether this dialect can be written here; if not, write `arrow_rows` with `csv.writer`."""
        return dialect.delimiter.isascii()

    def encode(self, batch: Batch) -> bytes:
        """Return the text of all of a batch: whole lines."""
        return b"".join(self.pieces(batch))

    def pieces(self, batch: Batch) -> Iterator[bytes]:
        """Return the text of a batch in pieces of `MAX_CELLS` cells at most, for one that may be large."""
        for found in self._record_batches(batch, self._width):
            self.rows += found.num_rows
            yield self._lines.lines(found)


def arrow_rows(batch: Batch, width: int) -> list[Row]:
    """Convert a batch of columns to rows: None, bool, int, float and str; every other value becomes its text.

    Raises as `ArrowText` does. For dialects that only rows can be written in: ten times slower, and all in memory.
    """
    with extra("files"):
        from asgi_export.columns.plain import python_values
        from asgi_export.formats.arrow.batches import record_batches
    rows: list[Row] = []
    for found in record_batches(batch, width):
        rows.extend(zip(*map(python_values, found.columns), strict=True))
    return rows
