"""Filter Arrow record batches: the meaning of filters for every source of columns.

`table.Filter` has the rules; `values.matching` is the same for rows.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from datetime import date
from decimal import Decimal

import pyarrow as pa
import pyarrow.compute as pc

from asgi_export.columns.comparing import DAY_SECONDS, Compare, Mask, compare, microseconds, values_of, with_values
from asgi_export.columns.exact_text import ExactText
from asgi_export.columns.plain import plain, portable_array
from asgi_export.table import Filter


class ColumnFilter:
    """Filter record batches of the given columns. Each filter's column must be one of them."""

    def __init__(self, filters: Sequence[Filter], columns: Sequence[str]) -> None:
        self._filters = [(columns.index(found.column), found) for found in filters]

    def batch(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        """Return the rows for which all filters hold, in order."""
        return keep(batch, self.mask(batch))

    def mask(self, batch: pa.RecordBatch) -> Mask | None:
        """Return for which rows all filters hold, null being none; None if there are no filters."""
        mask: Mask | None = None
        for place, found in self._filters:
            holds = matches(batch.column(place), found)
            mask = holds if mask is None else pc.and_(mask, holds)
            if not mask.true_count:
                break
        return mask


def keep(batch: pa.RecordBatch, mask: Mask | None) -> pa.RecordBatch:
    """Return the rows for which a mask holds: a slice without a copy if they are neighbours."""
    if mask is None:
        return batch
    count = mask.true_count
    start = pc.index(mask, True).as_py() if count else 0
    if mask.slice(start, count).true_count == count:
        return batch.slice(start, count)
    columns = [_kept(column, mask) for column in batch.columns]
    fields = [field.with_type(column.type) for field, column in zip(batch.schema, columns, strict=True)]
    return pa.RecordBatch.from_arrays(columns, schema=pa.schema(fields))


def _kept(column: pa.Array, mask: Mask) -> pa.Array:
    try:
        return column.filter(mask)
    except pa.ArrowNotImplementedError:  # of views and runs, at any depth
        return portable_array(column).filter(mask)


def matches(column: pa.Array, found: Filter) -> Mask:
    """Return for which values of a column a filter holds."""
    unfold = next((unfold for belongs, unfold in _LAYOUTS if belongs(column.type)), compare)
    return unfold(column, found)


def _dictionary(column: pa.Array, found: Filter) -> Mask:
    """Compare each value once, and only those that the rows have."""
    values, indices = column.dictionary, column.indices
    if len(values) > len(indices):
        used = pc.dictionary_encode(indices)
        values, indices = _taken(values, used.dictionary), used.indices
    mask = matches(values, found).take(indices)
    return mask.fill_null(found.value is True) if found.operator == "isnull" else mask


def _taken(values: pa.Array, indices: pa.Array) -> pa.Array:
    try:
        return values.take(indices)
    except pa.ArrowNotImplementedError:  # of views and runs
        return portable_array(values).take(indices)


def _runs(column: pa.Array, found: Filter) -> Mask:
    mask = pa.RunEndEncodedArray.from_arrays(column.run_ends, matches(column.values, found))
    return pc.run_end_decode(mask).slice(column.offset, len(column))


def _extension(column: pa.Array, found: Filter) -> Mask:
    is_own = column.type.extension_name in {"arrow.uuid", "arrow.bool8"}
    return matches(plain(column) if is_own else column.storage, found)


_MOMENT = re.compile(
    r"(-?[0-9]+)-([0-9]{2})-([0-9]{2})T([0-9]{2}):([0-9]{2}):([0-9]{2})(?:\.([0-9]{6,9}))?", re.ASCII
)


def _exact_moments(column: pa.Array, found: Filter) -> Mask:
    """Compare instants that are text because no timestamp holds all of them."""
    wanted = values_of(found)
    if found.operator == "isnull" or not wanted or not isinstance(wanted[0], date):
        return matches(column.storage, found)
    moments = [None if text is None else nanoseconds_of(text) for text in column.storage.to_pylist()]
    numbers = pa.array(moments, pa.decimal128(38))
    return compare(numbers, with_values(found, [microseconds(value) * 1000 for value in wanted]))


def nanoseconds_of(text: str) -> Decimal | None:
    """Read the nanoseconds from 1970 of a text that `int96` writes; a text of anything else has none."""
    match = _MOMENT.fullmatch(text)
    if match is None:
        return None
    year, month, day, hour, minute, second = map(int, match.groups()[:6])
    seconds = _day_number(year, month, day) * DAY_SECONDS + (hour * 60 + minute) * 60 + second
    return Decimal(seconds * 10**9 + int((match[7] or "").ljust(9, "0")))


def _day_number(year: int, month: int, day: int) -> int:
    """Count the days from 1970 in the proleptic Gregorian calendar.

    https://howardhinnant.github.io/date_algorithms.html#days_from_civil

    >>> _day_number(1970, 1, 1), _day_number(-1, 12, 31), _day_number(9999, 12, 31)
    (0, -719529, 2932896)
    """
    year -= month <= 2
    era, year_of_era = divmod(year, 400)
    day_of_year = (153 * (month + (-3 if month > 2 else 9)) + 2) // 5 + day - 1
    return era * 146_097 + year_of_era * 365 + year_of_era // 4 - year_of_era // 100 + day_of_year - 719_468


def _as(kind: pa.DataType) -> Compare:
    return lambda column, found: compare(column.cast(kind), found)


def _is(*names: str) -> Callable[[pa.DataType], bool]:
    tests = [getattr(pa.types, f"is_{name}") for name in names]
    return lambda kind: any(test(kind) for test in tests)


_LAYOUTS: tuple[tuple[Callable[[pa.DataType], bool], Compare], ...] = (
    (lambda kind: isinstance(kind, ExactText), _exact_moments),
    (lambda kind: isinstance(kind, pa.BaseExtensionType), _extension),
    (_is("dictionary"), _dictionary),
    (_is("run_end_encoded"), _runs),
    (_is("string_view"), _as(pa.large_string())),
    (_is("binary_view"), _as(pa.large_binary())),
    (_is("union"), lambda column, found: compare(plain(column), found)),
)
"""The first that fits counts; arrays of other types are compared as they are."""
