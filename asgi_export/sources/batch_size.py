"""Adapt the size of batches: few rows at first, then many, and fewer when rows are large.

The first batch is one row, so that the first byte does not wait for the thousandth row of a slow query. Rows, cells
(the time to encode a batch) and the bytes of values (the memory of an export) bound a batch.
"""

from __future__ import annotations

from asgi_export.table import Rows

MAX_ROWS = 1000
MAX_CELLS = 4096
MAX_BYTES = 128 * 1024
GROWTH = 8


class BatchSize:
    """Choose the size of the next batch, `rows`; call `came` with each batch. `columns` is the width of a row."""

    def __init__(self, columns: int) -> None:
        self.rows = 1
        self._most = max(1, min(MAX_ROWS, MAX_CELLS // max(1, columns)))

    def came(self, batch: Rows) -> None:
        """Choose the next size by the largest of three rows of this batch."""
        if not batch:
            return
        largest = max(_row_bytes(batch[0]), _row_bytes(batch[len(batch) // 2]), _row_bytes(batch[-1]))
        self.rows = max(1, min(self.rows * GROWTH, self._most, MAX_BYTES // largest))


def _row_bytes(row: tuple[object, ...]) -> int:
    return sum([len(value) if isinstance(value, str | bytes) else 8 for value in row]) + 1
