"""Filter rows of Python values: the meaning of filters for every source that does not apply them itself.

`table.Filter` has the rules. Values of other libraries are compared as the values of Python that equal them. In a
column of text a number is compared as a number if the filter's text is one, and any other value by its exported text:
columns of functions and views often have no declared type.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, date, datetime, time
from decimal import Decimal
from typing import Any, cast

from asgi_export.table import Filter, Operator, Row, Rows, Scalar
from asgi_export.values.fitting import nearest_double
from asgi_export.values.literals import parse_date, parse_number, parse_time, parse_timestamp
from asgi_export.values.python import to_python
from asgi_export.values.text import text_of

Test = Callable[[Any], bool]
Order = Callable[[Any], int | None]
"""-1, 0 or 1 for a value that is less than, equal to or greater than another; None for one of another kind."""


class RowFilter:
    """Filter rows of the given columns. Each filter's column must be one of them."""

    def __init__(self, filters: Sequence[Filter], columns: Sequence[str]) -> None:
        self._tests = [(columns.index(found.column), _test(found)) for found in filters]

    def rows(self, rows: Rows) -> list[Row]:
        """Return the rows for which all filters hold, in order."""
        kept: Rows = rows
        for place, test in self._tests:
            kept = [row for row in kept if test(row[place])]
        return list(kept)


def _test(found: Filter) -> Test:
    if found.operator == "isnull":
        wanted = found.value is True
        return lambda value: (to_python(value) is None) is wanted
    if found.operator in _ON_TEXT:
        return _text_test(found.operator, str(found.value))
    if found.operator in ("in", "notin"):
        values = found.value if isinstance(found.value, tuple) else (found.value,)
        return _list_test(values, among=found.operator == "in")
    return _comparison(found.operator, _order(cast("Scalar", found.value)))


def _comparison(operator: Operator, order: Order) -> Test:
    holds = _HOLDS[operator]

    def test(value: Any) -> bool:
        value = to_python(value)
        return value is not None and holds(order(value))

    return test


_HOLDS: Mapping[str, Callable[[int | None], bool]] = {
    "exact": lambda order: order == 0,
    "not": lambda order: order != 0,
    "gt": lambda order: order == 1,
    "gte": lambda order: order in (0, 1),
    "lt": lambda order: order == -1,
    "lte": lambda order: order in (0, -1),
}


def _list_test(values: Sequence[Scalar], *, among: bool) -> Test:
    """Look values up by their hash where that is the same question; a list may have a thousand."""
    orders = [_order(value) for value in values]
    sets = _sets(values)

    def test(value: Any) -> bool:
        value = to_python(value)
        if value is None:
            return False
        known = sets.get(type(value))
        found = value in known if known is not None else any(order(value) == 0 for order in orders)
        return found is among

    return test


def _sets(values: Sequence[Scalar]) -> Mapping[type, frozenset[Any]]:
    """Return the sets in which values of a type can be looked up: text in text, numbers in finite numbers."""
    if all(isinstance(value, str) for value in values):
        return {str: frozenset(values)}
    if all(isinstance(value, int | Decimal) and not isinstance(value, bool) for value in values):
        doubles = frozenset(map(nearest_double, cast("Sequence[int | Decimal]", values)))
        return {int: frozenset(values), float: doubles}
    return {}


_ON_TEXT: Mapping[str, Callable[[str, str], bool]] = {
    "contains": lambda text, part: part in text,
    "startswith": str.startswith,
    "endswith": str.endswith,
}


def _text_test(operator: Operator, part: str) -> Test:
    holds = _ON_TEXT[operator]

    def test(value: Any) -> bool:
        value = to_python(value)
        return value is not None and holds(str(text_of(value)), part)

    return test


def _order(wanted: Scalar) -> Order:
    """Return how values compare with the value of a filter."""
    for kind, make in _ORDERS:
        if isinstance(wanted, kind):
            return make(wanted)
    raise TypeError(f"a filter with {type(wanted).__name__}")


def _signed(value: Any, wanted: Any) -> int:
    return int(value > wanted) - int(value < wanted)


def _boolean_order(wanted: bool) -> Order:
    def order(value: Any) -> int | None:
        return _signed(value, wanted) if isinstance(value, bool) or value in (0, 1) else None

    return order


def _number_order(wanted: float | Decimal) -> Order:
    """Doubles compare with the nearest double, other numbers with the number itself."""
    double = nearest_double(wanted)

    def order(value: Any) -> int | None:
        if isinstance(value, str):
            value = _parsed(parse_number, value)
        if isinstance(value, bool) or not isinstance(value, int | float | Decimal):
            return None
        return _number_signed(value, double if isinstance(value, float) else wanted)

    return order


def _number_signed(value: Any, wanted: Any) -> int:
    """NaN equals NaN and is greater than every other number, as in PostgreSQL."""
    nans = _is_nan(value), _is_nan(wanted)
    return nans[0] - nans[1] if any(nans) else _signed(value, wanted)


def _is_nan(value: float | Decimal) -> bool:
    return value.is_nan() if isinstance(value, Decimal) else isinstance(value, float) and math.isnan(value)


def _text_order(wanted: str) -> Order:
    number = _parsed(parse_number, wanted)
    as_number = None if number is None else _number_order(number)

    def order(value: Any) -> int | None:
        if isinstance(value, str):
            return _signed(value, wanted)
        if isinstance(value, int | float | Decimal) and not isinstance(value, bool):
            return as_number(value) if as_number else None
        return None if isinstance(value, bytes | bytearray | memoryview) else _signed(str(text_of(value)), wanted)

    return order


def _date_order(wanted: date) -> Order:
    instant = datetime(wanted.year, wanted.month, wanted.day, tzinfo=UTC)

    def order(value: Any) -> int | None:
        if isinstance(value, datetime):
            return _signed(_instant(value), instant)
        found = _parsed(parse_date, value) if isinstance(value, str) else value
        return _signed(found, wanted) if isinstance(found, date) else None

    return order


def _timestamp_order(wanted: datetime) -> Order:
    def order(value: Any) -> int | None:
        found = _parsed(parse_timestamp, value) if isinstance(value, str) else value
        if isinstance(found, date) and not isinstance(found, datetime):
            found = datetime(found.year, found.month, found.day, tzinfo=UTC)
        return _signed(_instant(found), wanted) if isinstance(found, datetime) else None

    return order


def _instant(value: datetime) -> datetime:
    return value if value.tzinfo else value.replace(tzinfo=UTC)


def _time_order(wanted: time) -> Order:
    def order(value: Any) -> int | None:
        found = _parsed(parse_time, value) if isinstance(value, str) else value
        return _signed(found, wanted) if isinstance(found, time) and found.tzinfo is None else None

    return order


def _bytes_order(wanted: bytes) -> Order:
    def order(value: Any) -> int | None:
        return _signed(bytes(value), wanted) if isinstance(value, bytes | bytearray | memoryview) else None

    return order


def _parsed(parse: Callable[[str], Any], text: str) -> Any:
    try:
        return parse(text)
    except ValueError:
        return None


_ORDERS: tuple[tuple[type | tuple[type, ...], Callable[[Any], Order]], ...] = (
    (bool, _boolean_order),
    ((int, float, Decimal), _number_order),
    (str, _text_order),
    (datetime, _timestamp_order),
    (date, _date_order),
    (time, _time_order),
    (bytes, _bytes_order),
)
"""By the type of the filter's value; `bool` before `int`, `datetime` before `date`."""
