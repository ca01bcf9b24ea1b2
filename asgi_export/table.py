"""The contract between the floors: what a source hands over and what a format takes.

A *source* is a place (a SQLite file, a database, a function); it holds *datasets*. A dataset is one table
with a name and columns. Opening a dataset with a *selection* gives a cursor over *batches*, and a format's
*encoder* turns batches into bytes.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from datetime import date, datetime, time
from decimal import Decimal
from itertools import chain
from typing import Any, Literal, Protocol, TypeAlias, cast, runtime_checkable

from asgi_export.caller import Caller
from asgi_export.declared import Kind, kind_of
from asgi_export.errors import SourceFailed

_OF_ITS_TYPE = cast("Kind", "")


@runtime_checkable
class ArrowSchema(Protocol):
    """A data type or a field by the Arrow PyCapsule interface."""

    def __arrow_c_schema__(self) -> object: ...


@dataclass(frozen=True, slots=True)
class Column:
    """One column of a dataset: its name, its type in the source's own words (may be empty), its kind and Arrow type.

    `kind` is that of the declared type where the source does not know better. `arrow` is what the source says of the
    values that it really gives. A source of columns hands over the Arrow type or field: that is the type in Parquet
    and Arrow. A source of rows gives the name of one (`arrow_of`), which holds where the first rows have nothing but
    nulls. None means that nothing is known but the declared type.
    """

    name: str
    type: str = ""
    kind: Kind = _OF_ITS_TYPE
    arrow: ArrowSchema | str | None = field(default=None, compare=False, repr=False)

    def __post_init__(self) -> None:
        if not self.kind:
            object.__setattr__(self, "kind", kind_of(self.type))


@dataclass(frozen=True, slots=True)
class Dialect:
    """How delimited text is written: the parameters of a CSV export, RFC 4180 with its known variations.

    `delimiter` is one character; `newline` is LF or CRLF; `null` is the text of a missing value.
    """

    delimiter: str = ","
    header: bool = True
    quote: Literal["minimal", "all"] = "minimal"
    null: str = ""
    newline: Literal["\n", "\r\n"] = "\n"
    bom: bool = False
    escape_formulas: bool = False


Scalar: TypeAlias = str | bool | int | float | Decimal | date | datetime | time | bytes
"""A value of a filter. A `float` is NaN or an infinity, a `datetime` is in UTC, a `time` has no offset."""

Operator: TypeAlias = Literal[
    "exact", "not", "gt", "gte", "lt", "lte", "in", "notin", "isnull", "contains", "startswith", "endswith"
]


@dataclass(frozen=True, slots=True)
class Filter:
    """A condition on one column of the rows of an export.

    `value` is of the column's kind; a tuple of such values for `in` and `notin`, which may be empty; for `isnull` a
    boolean. A comparison with null holds for no operator but `isnull`, also not for `not` and `notin`. Text compares
    by code point and case-sensitively; numbers by value, a column of doubles with the nearest double; NaN equals NaN
    and is greater than every other number; timestamps by instant, and one without an offset counts as UTC. A value of
    another kind than the filter's equals nothing, and is neither less nor greater.
    """

    column: str
    operator: Operator
    value: Scalar | tuple[Scalar, ...]


@dataclass(frozen=True, slots=True)
class Sort:
    """Order rows by one column, nulls last in both directions."""

    column: str
    descending: bool = False


ParameterType: TypeAlias = Literal["integer", "number", "text", "boolean", "date", "time", "timestamp", "bytes"]


@dataclass(frozen=True, slots=True)
class QueryParameter:
    """A parameter of a query: `:name` in its SQL. Without a `default` each request must give it."""

    name: str
    type: ParameterType
    default: Scalar | None = None

    @property
    def kind(self) -> Kind:
        """The kind by which its text is read."""
        return "number" if self.type == "integer" else self.type


@dataclass(frozen=True, slots=True)
class Query:
    """A dataset that an operator wrote in SQL: one statement, which reads, with named parameters."""

    name: str
    sql: str
    parameters: tuple[QueryParameter, ...] = ()
    description: str = ""


@dataclass(frozen=True, slots=True)
class Selection:
    """What one export asks of a dataset.

    `columns` are names in the order of the output, each known to the dataset. `limit` is the number of rows
    at most, None for all. `dialect` is set where the format takes ready text (CSV, TSV): a source that can
    write that dialect itself may then hand over text batches; for every other format it is None.

    `filters` all hold for every row, and `sort` gives the order, by the first column first; rows that are equal in
    all of them keep the order that the source has without `sort`. Both may name columns that are not in `columns`. A
    dataset that does not apply them itself (`applied_by`) gets them too: to read less, if that costs nothing.
    `arguments` has a value for each parameter of a query, and nothing for other datasets. `caller` is who asks; None
    if requests are not authenticated.
    """

    columns: tuple[str, ...]
    limit: int | None = None
    dialect: Dialect | None = None
    filters: tuple[Filter, ...] = ()
    sort: tuple[Sort, ...] = ()
    arguments: Mapping[str, Scalar] = field(default_factory=dict)
    caller: Caller | None = None


class JsonText(str):
    """A value that is valid JSON already: a structure in NDJSON, where it is never parsed, and text elsewhere."""

    __slots__ = ()


Row: TypeAlias = tuple[Any, ...]
Rows: TypeAlias = Sequence[Row]


def flatten(rows: Rows, width: int) -> tuple[Any, ...]:
    """Return the values of all rows, one row after another. Raises `SourceFailed` if a row has not `width` values."""
    flat = tuple(chain.from_iterable(rows))
    if len(flat) != len(rows) * width:
        raise SourceFailed(f"a batch of {len(rows)} rows has {len(flat)} fields, not {width} a row")
    return flat


@runtime_checkable
class ArrowArray(Protocol):
    """A record batch by the Arrow PyCapsule interface."""

    def __arrow_c_array__(self, requested_schema: object | None = None) -> tuple[object, object]: ...


@runtime_checkable
class ArrowStream(Protocol):
    """A table or a reader by the Arrow PyCapsule interface."""

    def __arrow_c_stream__(self, requested_schema: object | None = None) -> object: ...


Batch: TypeAlias = Rows | bytes | ArrowArray | ArrowStream
"""What a cursor hands over, in the kind that costs the source least.

- *rows*: a list of tuples in the order of `Selection.columns`, a few hundred to a few thousand of them;
- *text*: bytes, whole lines already in `Selection.dialect`, without a header line;
- *columns*: anything that speaks the Arrow PyCapsule interface, columns in the order of the selection.
"""


class BlockingCursor(Protocol):
    """A cursor whose calls block: entered, iterated and left in worker threads, one call at a time.

    `interrupt` is called from another thread while a call runs, to make that call end soon; it may be called
    more than once, and after the end.
    """

    def __enter__(self) -> Iterator[Batch]: ...
    def __exit__(self, *exc_info: object) -> bool | None: ...
    def interrupt(self) -> None: ...


AsyncCursor: TypeAlias = AbstractAsyncContextManager[AsyncIterator[Batch]]
"""A cursor that awaits: entered, iterated and left in one task of the event loop."""

Cursor: TypeAlias = AsyncCursor | BlockingCursor


class Dataset(Protocol):
    """One table that can be exported.

    `default_limit` is the number of rows where the client names none; None means all. `open` does no work:
    the cursor acquires when it is entered and gives everything back when it is left, however it is left.
    One export is one snapshot. A dataset that looks at `Selection.caller` or may do so is not the same for all; one
    that never does says so by an attribute `same_for_all = True`.
    """

    @property
    def name(self) -> str: ...
    @property
    def columns(self) -> Sequence[Column]: ...
    @property
    def default_limit(self) -> int | None: ...

    def open(self, selection: Selection) -> Cursor: ...


Task: TypeAlias = Literal["filters", "sort"]


def applied_by(dataset: Dataset) -> frozenset[Task]:
    """Return what the dataset does with a selection itself: its attribute `applies`, by default nothing.

    What it does not apply is done to its rows: filters always can be, a sort cannot and is refused.
    """
    found: frozenset[Task] = getattr(dataset, "applies", frozenset())
    return found


def query_of(dataset: Dataset) -> Query | None:
    """Return the query of a dataset that is one: its attribute `query`."""
    found: Query | None = getattr(dataset, "query", None)
    return found


def depends_on_caller(dataset: Dataset) -> bool:
    """Return whether two callers may get other rows for the same question; yes, if the dataset does not say."""
    return not getattr(dataset, "same_for_all", False)


class Source(Protocol):
    """A place that holds datasets, whose catalogue can be read again at any time.

    `start` connects and returns what can be exported, or raises `StartupError`: one line for the operator.
    `refresh` returns what can be exported now, which may be nothing, or None where nothing has changed since the
    last answer of the two. It costs little then, and disturbs no export that runs. It is called after `start`, one
    call at a time; where it raises or is cancelled, the catalogue read before holds.
    `check` raises when the place does not answer. `close` gives everything back and may be called twice.
    """

    @property
    def name(self) -> str: ...

    async def start(self) -> Sequence[Dataset]: ...
    async def refresh(self) -> Sequence[Dataset] | None: ...
    async def check(self) -> None: ...
    async def close(self) -> None: ...


class Encoder(Protocol):
    """One export's encoder: no await, no clock, no I/O. `rows` counts what `feed` has taken.

    `head` comes first and once, `feed` and `flush` any number of times, `tail` last and once. `flush` gives what has
    been collected, as far as it can be written.
    """

    @property
    def rows(self) -> int: ...

    def head(self) -> bytes: ...
    def feed(self, batch: Batch) -> bytes: ...
    def flush(self) -> bytes: ...
    def tail(self) -> bytes: ...
