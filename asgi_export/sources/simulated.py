"""A dataset without a database: id, name, value, created_at, generated on the fly.

Row N is the same in every export: `N,user-N,<two decimals>,<start of 2024 plus N milliseconds>`. Rows are made from
tables, a block at a time, in 0.09 µs each, so that a benchmark measures the export and not the source.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any, ClassVar

from asgi_export.table import Batch, Column, Cursor, Row, Selection, Task
from asgi_export.values.matching import RowFilter

DEFAULT_LIMIT = 10_000

BLOCK_ROWS = 500
"""Divides 1000, so that a block lies within one second and one thousand of ids."""

_EPOCH = datetime(2024, 1, 1, tzinfo=UTC)
_SECONDS_IN_REACH = 200_000_000_000
_DIGITS = tuple(f"{number:03d}" for number in range(1000))
_MILLISECONDS = tuple(f".{number:03d}Z" for number in range(1000))
_VALUES = tuple(f"{number * 7919 % 100_000 / 100:.2f}" for number in range(10_000))


def _ids(first: int, last: int) -> Sequence[int]:
    return range(first, last)


def _names(first: int, last: int) -> Sequence[str]:
    thousands, start = divmod(first, 1000)
    if not thousands:
        return [f"user-{number}" for number in range(first, last)]
    prefix = f"user-{thousands}"
    return [prefix + digits for digits in _DIGITS[start : start + last - first]]


def _values(first: int, last: int) -> Sequence[str]:
    start = first % 10_000
    return _VALUES[start : start + last - first]


def _created(first: int, last: int) -> Sequence[str]:
    seconds, start = divmod(first, 1000)
    moment = _EPOCH + timedelta(seconds=seconds % _SECONDS_IN_REACH)
    prefix = moment.strftime("%Y-%m-%dT%H:%M:%S")
    return [prefix + text for text in _MILLISECONDS[start : start + last - first]]


_MAKERS: dict[Column, Callable[[int, int], Sequence[Any]]] = {
    Column("id", "integer"): _ids,
    Column("name", "text"): _names,
    Column("value", "text", "number"): _values,
    Column("created_at", "text", "timestamp"): _created,
}


@dataclass(frozen=True, slots=True)
class SimulatedDataset:
    """`default_limit` rows of generated users; endless if a selection has no limit.

    The limit is the number of rows that there are, as the rows have no other end; filters choose from those.
    """

    name: str = "simulated"
    columns: tuple[Column, ...] = tuple(_MAKERS)
    default_limit: int | None = DEFAULT_LIMIT
    same_for_all: ClassVar[bool] = True
    applies: ClassVar[frozenset[Task]] = frozenset({"filters"})

    def open(self, selection: Selection) -> Cursor:
        """Return a cursor over blocks of at most `BLOCK_ROWS` rows; nothing to give back."""
        return _cursor(_filtered(selection) if selection.filters else blocks(selection))


@asynccontextmanager
async def _cursor(remaining: Iterator[list[Row]]) -> AsyncIterator[AsyncIterator[Batch]]:
    async def batches() -> AsyncIterator[Batch]:
        with suppress(StopIteration):
            while True:
                yield next(remaining)  # not bound to a name, so that a stalled export does not hold its last block

    yield batches()


def _filtered(selection: Selection) -> Iterator[list[Row]]:
    """Iterate the rows for which the filters hold; a block may have none of them."""
    others = dict.fromkeys([found.column for found in selection.filters if found.column not in selection.columns])
    columns = (*selection.columns, *others)
    row_filter = RowFilter(selection.filters, columns)
    for block in blocks(replace(selection, columns=columns)):
        yield [row[: len(selection.columns)] for row in row_filter.rows(block)]


def blocks(selection: Selection) -> Iterator[list[Row]]:
    """Iterate the rows of a selection, block by block; ids start at 1."""
    named = {column.name: make for column, make in _MAKERS.items()}
    makers = [named[name] for name in selection.columns]
    end = None if selection.limit is None else selection.limit + 1
    first = 1
    while end is None or first < end:
        last = first - first % BLOCK_ROWS + BLOCK_ROWS
        if end is not None:
            last = min(last, end)
        yield list(zip(*[make(first, last) for make in makers], strict=True))
        first = last
