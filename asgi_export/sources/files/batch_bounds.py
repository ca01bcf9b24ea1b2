"""Bound the rows of a record batch of a file, by rows, cells, bytes and the limit."""

from __future__ import annotations

BATCH_ROWS = 16 * 1024
BATCH_CELLS = 128 * 1024
"""About a megabyte of text: below this polars' price of a call shows (half as many cells: 15 % slower), above it
only memory grows."""

BATCH_BYTES = 1024 * 1024
"""Fewer rows if values are large."""


def batch_rows(width: int, bytes_a_row: float, limit: int | None) -> int:
    """Return the number of rows of a batch of `width` columns, at least one."""
    rows = min(BATCH_ROWS, BATCH_CELLS // max(1, width), int(BATCH_BYTES // max(1, bytes_a_row)))
    return max(1, rows if limit is None else min(rows, limit))
