"""Apply filters to the batches of datasets that do not apply them themselves.

The dataset is asked for the columns of the filters as well, and for all rows: the limit counts rows for which the
filters hold. A batch is filtered where it is made, in a thread or on the event loop; batches without such a row are
not passed on.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import replace
from typing import Any, cast

from asgi_export.errors import SourceFailed
from asgi_export.extras import extra
from asgi_export.table import AsyncCursor, Batch, BlockingCursor, Cursor, Dataset, Row, Rows, Selection, applied_by
from asgi_export.values.matching import RowFilter

SLICE_ROWS = 500
"""Rows filtered without yielding to the event loop: a millisecond."""

SLICE_COLUMN_ROWS = 4096
"""The same of a batch of columns."""


def open_selection(dataset: Dataset, selection: Selection) -> Cursor:
    """Open a dataset, and filter its batches if it does not do so itself."""
    if not selection.filters or "filters" in applied_by(dataset):
        return dataset.open(selection)
    others = dict.fromkeys([found.column for found in selection.filters if found.column not in selection.columns])
    columns = (*selection.columns, *others)
    cursor = dataset.open(replace(selection, columns=columns, limit=None, dialect=None))
    narrow = _Narrow(selection, columns)
    if isinstance(cursor, AbstractAsyncContextManager):
        return _awaiting(cursor, narrow)
    return _BlockingNarrow(cursor, narrow)


class _Narrow:
    """Filter batches of `columns`, cut them to the columns of the selection, and count to its limit."""

    def __init__(self, selection: Selection, columns: Sequence[str]) -> None:
        self._columns = columns
        self._width = len(selection.columns)
        self._cuts = len(columns) > self._width
        self._filters = selection.filters
        self._rows = RowFilter(selection.filters, columns)
        self._left = selection.limit

    @property
    def done(self) -> bool:
        return self._left == 0

    def apply(self, batch: Batch) -> Iterator[Any]:
        """Iterate what is left of a batch of rows or of its record batches, with the columns of the selection."""
        return map(self._of_rows, [cast("Rows", batch)]) if isinstance(batch, Sequence) else self._of_columns(batch)

    def pieces(self, batch: Batch) -> Iterator[Any]:
        """Iterate the same in pieces that take about a millisecond."""
        if isinstance(batch, Sequence):
            rows = cast("Rows", batch)
            return map(self._of_rows, [rows[start : start + SLICE_ROWS] for start in range(0, len(rows), SLICE_ROWS)])
        return self._of_columns(batch, SLICE_COLUMN_ROWS)

    def _of_rows(self, batch: Rows) -> list[Row]:
        rows = self._rows.rows(batch)[: self._left]
        self._count(len(rows))
        return [row[: self._width] for row in rows] if self._cuts else rows

    def _of_columns(self, batch: Batch, rows: int | None = None) -> Iterator[Any]:
        with extra("files"):
            from asgi_export.columns.matching import ColumnFilter, keep
            from asgi_export.formats.arrow.batches import record_batches
        column_filter = ColumnFilter(self._filters, self._columns)
        for piece in record_batches(batch, len(self._columns), rows):
            selected = piece.select(range(self._width)) if self._cuts else piece
            found = keep(selected, column_filter.mask(piece))[: self._left]
            self._count(len(found))
            yield found
            if self.done:
                return

    def _count(self, rows: int) -> None:
        if self._left is not None:
            self._left -= rows


@asynccontextmanager
async def _awaiting(cursor: AsyncCursor, narrow: _Narrow) -> AsyncIterator[AsyncIterator[Batch]]:
    async with cursor as batches:
        yield _narrowed(batches, narrow)


async def _narrowed(batches: AsyncIterator[Batch], narrow: _Narrow) -> AsyncIterator[Batch]:
    while not narrow.done:
        batch = await anext(batches, None)
        if batch is None:
            return
        for found in narrow.pieces(batch):
            if len(found):
                yield found
            else:
                await asyncio.sleep(0)  # a source may have its batches ready, and none with such a row


class _BlockingNarrow:
    """A `BlockingCursor` around another."""

    def __init__(self, cursor: BlockingCursor, narrow: _Narrow) -> None:
        self._cursor = cursor
        self._narrow = narrow
        self._batches: Iterator[Batch] = iter(())
        self._found: Iterator[Any] = iter(())
        self._interrupted = False

    def __enter__(self) -> Iterator[Batch]:
        self._batches = self._cursor.__enter__()
        return self

    def __exit__(self, *exc_info: object) -> bool | None:
        self._found = iter(())
        return self._cursor.__exit__(*exc_info)

    def __iter__(self) -> Iterator[Batch]:
        return self

    def __next__(self) -> Batch:
        """Return the next batch that has a row left, and hold no reference to it."""
        while not self._interrupted:
            found = next(self._found, None)
            if found is not None:
                if len(found):
                    return cast("Batch", found)
            elif self._narrow.done:
                raise StopIteration
            else:
                self._found = self._narrow.apply(next(self._batches))
        raise SourceFailed("interrupted")

    def interrupt(self) -> None:
        """End the running call of the cursor within, and make the next one fail."""
        self._interrupted = True
        self._cursor.interrupt()
