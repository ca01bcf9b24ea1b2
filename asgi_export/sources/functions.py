"""Datasets made of a user's functions: async or sync generators of tuples, mappings, or lists of them.

An async generator runs on the event loop and is closed in the task that iterates it. A sync generator runs in
a worker thread, a batch at a time, and is closed there.
"""

from __future__ import annotations

import inspect
import time
from collections.abc import (
    AsyncGenerator,
    AsyncIterable,
    AsyncIterator,
    Callable,
    Collection,
    Generator,
    Iterable,
    Iterator,
    Mapping,
    Sequence,
)
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, ClassVar, TypeVar, get_args, overload

from asgi_export.errors import SourceFailed
from asgi_export.sources.arrow_items import column_slices, is_columns
from asgi_export.sources.batch_size import BatchSize
from asgi_export.table import Batch, Column, Cursor, Row, Selection, Task

FLUSH_SECONDS = 0.5
"""After this time a batch is passed on even if it is not full, so that progress shows."""

ColumnLike = str | tuple[str, str] | Column
F = TypeVar("F", bound=Callable[..., Any])


@dataclass(frozen=True, slots=True)
class FunctionDataset:
    """A dataset made by a function: see `dataset`."""

    name: str
    columns: tuple[Column, ...]
    function: Callable[..., Any]
    default_limit: int | None = None
    applies: frozenset[Task] = frozenset()
    sort_needs: ClassVar[str] = "its function does not sort"

    @property
    def same_for_all(self) -> bool:
        """Whether the function takes no selection, and so does not know who asks."""
        return not inspect.signature(self.function).parameters

    def open(self, selection: Selection) -> Cursor:
        """Call the function; what it returns decides whether the cursor awaits or blocks."""
        takes_selection = not self.same_for_all
        found = self.function(selection) if takes_selection else self.function()
        shape = _Shape(self, selection, projects=not takes_selection)
        if isinstance(found, AsyncIterable):
            return _awaiting(found, shape)
        if isinstance(found, Iterable):
            return _BlockingRows(found, shape)
        raise SourceFailed(f"dataset {self.name!r} gave {type(found).__name__}; expected an iterable of rows")


@overload
def dataset(
    function: None = None,
    *,
    columns: Sequence[ColumnLike],
    name: str = "",
    default_limit: int | None = None,
    applies: Collection[Task] = (),
) -> Callable[[Callable[..., Any]], FunctionDataset]: ...
@overload
def dataset(
    function: Callable[..., Any],
    *,
    columns: Sequence[ColumnLike],
    name: str = "",
    default_limit: int | None = None,
    applies: Collection[Task] = (),
) -> FunctionDataset: ...
def dataset(
    function: Callable[..., Any] | None = None,
    *,
    columns: Sequence[ColumnLike],
    name: str = "",
    default_limit: int | None = None,
    applies: Collection[Task] = (),
) -> Any:
    """Make a dataset of a function that returns rows.

    The function takes the `Selection` and returns rows of exactly `selection.columns`, in that order; or it takes no
    argument and returns full rows, from which the selected columns are picked. It may be an async generator, a sync
    generator (run in a thread), or any function that returns an iterable. Each item is a row (a tuple, or a mapping
    by column name), a list of rows, or a batch of columns: any object with the Arrow PyCapsule interface (pyarrow,
    polars, DuckDB), from which columns are picked by name. Iteration stops at `selection.limit` rows, and the
    generator is closed as soon as the client leaves.

    `columns` are names, ``(name, type)`` pairs or `Column`s; `name` is the function's own by default.

    `applies` names what the function does with the selection itself: ``{"filters"}`` (`selection.filters`),
    ``{"sort"}`` (`selection.sort`) or both, as `Filter` and `Sort` describe them. Filters that it does not apply are
    applied to what it gives: it is then asked for the columns of the filters too, and without a limit, which counts
    the rows that are left. A sort that it does not apply is refused.

    >>> @dataset(columns=["id", ("name", "text")])
    ... async def people(selection):
    ...     yield {"id": 1, "name": "Ada"}
    >>> people.name, people.columns[1]
    ('people', Column(name='name', type='text', kind='text'))
    """
    if function is None:
        return lambda function: dataset(
            function, columns=columns, name=name, default_limit=default_limit, applies=applies
        )
    made = tuple(_column(column) for column in columns)
    names = [column.name for column in made]
    if not made or len(set(names)) != len(names):
        raise ValueError(f"columns={names!r}: expected one name at least, none of them twice")
    found = FunctionDataset(name or function.__name__, made, function, default_limit, _tasks(applies))
    if found.applies and found.same_for_all:
        raise ValueError(f"applies={set(found.applies)!r}: expected a function that takes the selection")
    return found


def _tasks(applies: Collection[Task]) -> frozenset[Task]:
    unknown = [applies] if isinstance(applies, str) else sorted(set(applies) - set(get_args(Task)))
    if unknown:
        raise ValueError(f"applies={unknown!r}: expected a set of {' and '.join(map(repr, get_args(Task)))}")
    return frozenset(applies)


def _column(column: ColumnLike) -> Column:
    if isinstance(column, Column):
        return column
    return Column(column) if isinstance(column, str) else Column(*column)


class _Shape:
    """Convert the items of one export to rows in the order of the selection; check and limit them."""

    def __init__(self, source: FunctionDataset, selection: Selection, *, projects: bool) -> None:
        self._name = source.name
        self._columns = selection.columns
        self._left = selection.limit
        names = [column.name for column in source.columns]
        self._width = len(names) if projects else len(selection.columns)
        self._picks = [names.index(name) for name in selection.columns] if projects else None
        self.size = BatchSize(len(selection.columns))

    @property
    def done(self) -> bool:
        return self._left == 0

    def columns(self, item: Any) -> Iterator[Batch]:
        """Return the batches of an item of columns, cut to the rest of the limit."""
        for batch in column_slices(item, self._columns, self._left):
            if self._left is not None:
                self._left -= batch.num_rows
            yield batch

    def rows(self, item: Any) -> list[Row]:
        """Return the rows of one item, cut to the rest of the limit."""
        rows = [self._row(row) for row in item] if type(item) is list else [self._row(item)]
        if self._left is not None:
            rows = rows[: self._left]
            self._left -= len(rows)
        return rows

    def _row(self, item: Any) -> Row:
        if isinstance(item, tuple):
            if len(item) != self._width:
                raise SourceFailed(f"{self._name}: a row has {len(item)} fields; expected {self._width}")
            return item if self._picks is None else tuple([item[place] for place in self._picks])
        if isinstance(item, Mapping) or hasattr(item, "keys"):
            return self._row_of_mapping(item)
        raise SourceFailed(f"{self._name}: a row is {type(item).__name__}; expected a tuple or a mapping")

    def _row_of_mapping(self, item: Any) -> Row:
        try:
            return tuple([item[name] for name in self._columns])
        except (KeyError, IndexError):
            raise SourceFailed(f"{self._name}: a row lacks a column; it has {list(item.keys())!r}") from None


class _Batcher:
    """Collect the rows of items until a batch is full, or `FLUSH_SECONDS` after the last one.

    So each row of a function that yields one a second is passed on at once, and not with the next one.
    """

    def __init__(self, shape: _Shape) -> None:
        self._shape = shape
        self._rows: list[Row] = []
        self._flush_at = 0.0

    def add(self, item: Any) -> bool:
        """Add one item; return whether it is time to flush."""
        now = time.monotonic()
        self._rows += self._shape.rows(item)
        late = bool(self._rows) and now >= self._flush_at
        return late or len(self._rows) >= self._shape.size.rows or self._shape.done

    def columns(self, item: Any) -> Iterator[Batch]:
        """Yield the rows collected so far, and then the batches of an item of columns."""
        if self._rows:
            yield self.flush()
        yield from self._shape.columns(item)

    def flush(self) -> Batch:
        """Return the collected rows, which may be none."""
        rows, self._rows = self._rows, []
        self._flush_at = time.monotonic() + FLUSH_SECONDS
        self._shape.size.came(rows)
        return rows


@asynccontextmanager
async def _awaiting(items: AsyncIterable[Any], shape: _Shape) -> AsyncIterator[AsyncIterator[Batch]]:
    iterator = aiter(items)
    batches = _async_batches(iterator, shape)
    try:
        yield batches
    finally:
        await batches.aclose()
        if isinstance(iterator, AsyncGenerator):
            await iterator.aclose()


async def _async_batches(iterator: AsyncIterator[Any], shape: _Shape) -> AsyncGenerator[Batch, None]:
    batcher = _Batcher(shape)
    while not shape.done:
        try:
            item = await anext(iterator)
        except StopAsyncIteration:
            break
        if is_columns(item):
            for batch in batcher.columns(item):
                yield batch
        elif batcher.add(item):
            yield batcher.flush()
    yield batcher.flush()


class _BlockingRows:
    """A `BlockingCursor` over a sync iterable; an interrupt takes effect before the next item."""

    def __init__(self, items: Iterable[Any], shape: _Shape) -> None:
        self._items = items
        self._shape = shape
        self._iterator: Iterator[Any] | None = None
        self._interrupted = False

    def __enter__(self) -> Iterator[Batch]:
        self._iterator = iter(self._items)
        return self._batches(self._iterator)

    def __exit__(self, *exc_info: object) -> None:
        if isinstance(self._iterator, Generator):
            self._iterator.close()

    def interrupt(self) -> None:
        self._interrupted = True

    def _batches(self, iterator: Iterator[Any]) -> Iterator[Batch]:
        batcher = _Batcher(self._shape)
        while not self._shape.done and not self._interrupted:
            try:
                item = next(iterator)
            except StopIteration:
                break
            if is_columns(item):
                yield from batcher.columns(item)
            elif batcher.add(item):
                yield batcher.flush()
        yield batcher.flush()
