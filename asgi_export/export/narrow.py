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
from typing import cast

from asgi_export.table import AsyncCursor, Batch, BlockingCursor, Cursor, Dataset, Row, Rows, Selection, applied_by
from asgi_export.values.matching import RowFilter

SLICE_ROWS = 500
"""Rows filtered without yielding to the event loop: a millisecond."""


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
        self._width = len(selection.columns)
        self._cuts = len(columns) > self._width
        self._filter = RowFilter(selection.filters, columns)
        self._left = selection.limit

    @property
    def done(self) -> bool:
        return self._left == 0

    def apply(self, batch: Batch) -> list[Row]:
        """Return the rows that are left of a batch, with the columns of the selection."""
        rows = self._filter.rows(cast("Rows", batch))
        if self._left is not None:
            rows = rows[: self._left]
            self._left -= len(rows)
        return [row[: self._width] for row in rows] if self._cuts else rows


@asynccontextmanager
async def _awaiting(cursor: AsyncCursor, narrow: _Narrow) -> AsyncIterator[AsyncIterator[Batch]]:
    async with cursor as batches:
        yield _narrowed(batches, narrow)


async def _narrowed(batches: AsyncIterator[Batch], narrow: _Narrow) -> AsyncIterator[Batch]:
    while not narrow.done:
        batch = await anext(batches, None)
        if batch is None:
            return
        for piece in _pieces(batch):
            if found := narrow.apply(piece):
                yield found
            else:
                await asyncio.sleep(0)  # a source may have its batches ready, and none with such a row


def _pieces(batch: Batch) -> Iterator[Batch]:
    rows = cast("Rows", batch)
    for start in range(0, len(rows), SLICE_ROWS):
        yield rows[start : start + SLICE_ROWS]


class _BlockingNarrow:
    """A `BlockingCursor` around another."""

    def __init__(self, cursor: BlockingCursor, narrow: _Narrow) -> None:
        self._cursor = cursor
        self._narrow = narrow
        self._batches: Iterator[Batch] = iter(())

    def __enter__(self) -> Iterator[Batch]:
        self._batches = self._cursor.__enter__()
        return self

    def __exit__(self, *exc_info: object) -> bool | None:
        return self._cursor.__exit__(*exc_info)

    def __iter__(self) -> Iterator[Batch]:
        return self

    def __next__(self) -> Batch:
        """Return the next batch that has a row left, and hold no reference to it."""
        while not self._narrow.done:
            if found := self._narrow.apply(next(self._batches)):
                return found
        raise StopIteration

    def interrupt(self) -> None:
        """End the running call of the cursor within; while none has a row left, its next one fails."""
        self._cursor.interrupt()
