"""Adapt the size of batches: few rows at first, then many, and fewer when rows are large or slow.

The first batch is one row, so that the first byte does not wait for the thousandth row of a slow query. Rows, cells
(the time to encode a batch), the bytes of values (the memory of an export) and the time to read it bound a batch.
"""

from __future__ import annotations

from asgi_export.table import Rows

MAX_ROWS = 1000
MAX_CELLS = 4096
MAX_BYTES = 128 * 1024
GROWTH = 8
SLOW_SECONDS = 0.25
"""The longest time of a batch, so that a slow view sends a little at a time."""


class BatchSize:
    """Choose the size of the next batch, `rows`; call `came` or `took` after each one.

    `columns` is the width of a row, `max_rows` the bound of narrow ones.
    """

    def __init__(self, columns: int, *, max_rows: int = MAX_ROWS) -> None:
        self.rows = 1
        self._most = max(1, min(max_rows, MAX_CELLS // max(1, columns)))

    def came(self, batch: Rows) -> None:
        """Choose the next size by the largest of three rows of this batch."""
        if not batch:
            return
        largest = max(_row_bytes(batch[0]), _row_bytes(batch[len(batch) // 2]), _row_bytes(batch[-1]))
        self.rows = max(1, min(self.rows * GROWTH, self._most, MAX_BYTES // largest))

    def took(self, seconds: float) -> None:
        """Choose the next size by the time of this batch, for a reader that bounds its bytes itself."""
        if seconds > SLOW_SECONDS:
            self.rows = max(1, self.rows // GROWTH)
        elif seconds * GROWTH <= SLOW_SECONDS:
            self.rows = min(self.rows * GROWTH, self._most)


def _row_bytes(row: tuple[object, ...]) -> int:
    return sum([len(value) if isinstance(value, str | bytes) else 8 for value in row]) + 1
