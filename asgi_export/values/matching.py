"""Filter rows of Python values: the meaning of filters for every source that does not apply them itself.

`table.Filter` has the rules. A filter has one test for each type of values, made when the first value of that type is
met. Values of other libraries are compared as the values of Python that equal them. In a column of text a number is
compared as a number if the filter's text is one, and any other value by its exported text: columns of functions and
views often have no declared type.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from types import NoneType
from typing import Any, cast

from asgi_export.table import Filter, Operator, Row, Rows, Scalar
from asgi_export.values.fitting import nearest_double, nearest_single
from asgi_export.values.literals import parse_boolean, parse_date, parse_number, parse_time, parse_timestamp
from asgi_export.values.python import TO_PYTHON, same
from asgi_export.values.text import text_of

Test = Callable[[Any], bool]
Key = Callable[[Any], Any]


class RowFilter:
    """Filter rows of the given columns. Each filter's column must be one of them."""

    def __init__(self, filters: Sequence[Filter], columns: Sequence[str]) -> None:
        self._tests = [(columns.index(found.column), _Tests(found)) for found in filters]

    def rows(self, rows: Rows) -> list[Row]:
        """Return the rows for which all filters hold, in order."""
        kept: Rows = rows
        for place, tests in self._tests:
            kept = [row for row in kept if tests[type(value := row[place])](value)]
        return kept if isinstance(kept, list) else list(kept)


def test_of(found: Filter) -> Test:
    """Return whether a filter holds, as a function of a value."""
    tests = _Tests(found)
    return lambda value: tests[type(value)](value)


class _Tests(dict[type, Test]):
    """Type → test of its values, filled as types are met; how many types a process has is bounded by its code."""

    def __init__(self, found: Filter) -> None:
        super().__init__({NoneType: _constant(found.operator == "isnull" and found.value is True)})
        self._found = found

    def __missing__(self, kind: type) -> Test:
        convert = TO_PYTHON[kind]
        if convert is same or _is_single(kind):
            test = _test(self._found, kind)
        else:

            def test(value: Any) -> bool:
                found = convert(value)
                return self[type(found)](found)

        self[kind] = test
        return test


def _is_single(kind: type) -> bool:
    """Return whether values are numpy's floats of 32 bits; as a double, one is not what it equals."""
    return kind.__name__ == "float32" and kind.__module__ == "numpy"


def _test(found: Filter, kind: type) -> Test:
    """Make the test for values of one type of Python, which are not null."""
    if found.operator == "isnull":
        return _constant(found.value is False)
    if found.operator in _PARTS:
        return _part_test(found, kind)
    values = found.value if isinstance(found.value, tuple) else (found.value,)
    if not values:
        return _constant(found.operator == "notin")
    compared = _compared(kind, values)
    wanted = [key for key in map(compared.wanted, values) if key is not None]
    if not wanted:
        return _constant(found.operator in ("not", "notin"))
    direct = _DIRECT[found.operator](frozenset(wanted) if found.operator in ("in", "notin") else wanted[0])
    return direct if compared.key is same else _by_key(compared.key, direct, other=found.operator in ("not", "notin"))


def _constant(holds: bool) -> Test:
    return lambda _: holds


def _by_key(key: Key, test: Test, *, other: bool) -> Test:
    """Test the key of a value; a value without one is of another kind, for which a filter holds if `other`."""

    def by_key(value: Any) -> bool:
        found = key(value)
        return other if found is None else test(found)

    return by_key


_DIRECT: Mapping[Operator, Callable[[Any], Test]] = {
    "exact": lambda wanted: cast("Test", wanted.__eq__),
    "not": lambda wanted: cast("Test", wanted.__ne__),
    "gt": lambda wanted: lambda value: not wanted >= value,
    "gte": lambda wanted: lambda value: not wanted > value,
    "lt": lambda wanted: cast("Test", wanted.__gt__),
    "lte": lambda wanted: cast("Test", wanted.__ge__),
    "in": lambda wanted: cast("Test", wanted.__contains__),
    "notin": lambda wanted: lambda value: value not in wanted,
}
"""Tests of keys of one type. NaN is greater than every number: it is not less, and not equal."""

_PARTS: Mapping[Operator, Callable[[str], Callable[[str], bool]]] = {
    "contains": lambda part: lambda text: part in text,
    "startswith": lambda part: lambda text: text.startswith(part),
    "endswith": lambda part: lambda text: text.endswith(part),
}


def _part_test(found: Filter, kind: type) -> Test:
    if kind in _BYTES:
        return _constant(holds=False)
    test = _PARTS[found.operator](str(found.value))
    return test if kind is str else lambda value: test(_exported(value))


@dataclass(frozen=True, slots=True)
class _Compared:
    """How values of one type are compared with those of a filter: by their keys, None for one of another kind."""

    key: Key
    wanted: Key


def _compared(kind: type, values: Sequence[Scalar]) -> _Compared:
    by_type, other = next((table, other) for kinds, table, other in _BY_WANTED if isinstance(values[0], kinds))
    found = by_type.get(_SINGLE if _is_single(kind) else kind, other)
    if any(_is_nan(found.wanted(value)) for value in values):
        return _Compared(lambda value: _rank(found.key(value)), lambda value: _rank(found.wanted(value)))
    return found


def _is_nan(value: Any) -> bool:
    return value.is_nan() if isinstance(value, Decimal) else isinstance(value, float) and math.isnan(value)


def _rank(number: Any) -> tuple[bool, Any] | None:
    """Order NaN behind all numbers, and equal to itself."""
    return None if number is None else (True, 0) if _is_nan(number) else (False, number)


def _parsed(parse: Key, text: str) -> Any:
    """Read a text; one that cannot be read is a value of another kind."""
    try:
        return parse(text)
    except ValueError:
        return None


def _number(text: str) -> Any:
    return _parsed(parse_number, text)


def _boolean(text: str) -> Any:
    return _parsed(parse_boolean, text)


def _exported(value: Any) -> str:
    return str(text_of(value))


def _with_text(numbers: _Compared) -> _Compared:
    """Compare numbers with the text of a filter, if that is a number."""

    def wanted(text: str) -> Any:
        number = _number(text)
        return None if number is None else numbers.wanted(number)

    return _Compared(numbers.key, wanted)


def _flag(value: Any) -> bool | None:
    """Read a boolean: 0 and 1 are those of databases that have none."""
    return None if _is_nan(value) or value not in (0, 1) else bool(value)


_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
_FAR = 10**24
"""More nanoseconds than there are from 1970 to the years 1 and 9999."""

_FAR_YEAR = re.compile(r"(-[0-9]{3,}|0000|[0-9]{5,})-[0-9]{2}-[0-9]{2}(?:[T ][0-9:.+-]+Z?)?", re.ASCII)
_NANOSECONDS = re.compile(r"(?<=\.[0-9]{6})[0-9]{1,3}", re.ASCII)


def _moment(value: date) -> int:
    """Return the nanoseconds from 1970 to an instant, or to the begin of a day in UTC."""
    if not isinstance(value, datetime):
        return (value.toordinal() - _EPOCH.toordinal()) * 86_400 * 10**9
    return ((value if value.tzinfo else value.replace(tzinfo=UTC)) - _EPOCH) // _MICROSECOND * 1000


def _clock(value: time) -> int | None:
    """Return the nanoseconds from midnight; a time with an offset is of another kind."""
    if value.tzinfo is not None:
        return None
    return (((value.hour * 60 + value.minute) * 60 + value.second) * 10**6 + value.microsecond) * 1000


def _of_text(parse: Key, key: Key) -> Key:
    """Return the key of dates and times as text, which may have nanoseconds, as no value of Python has."""

    def of_text(text: str) -> int | None:
        rest = _NANOSECONDS.search(text)
        found = _parsed(parse, text if rest is None else text[: rest.start()] + text[rest.end() :])
        if found is None:
            return _far(text) if key is _moment else None
        whole: int = key(found)
        return whole if rest is None else whole + int(rest[0].ljust(3, "0"))

    return of_text


def _far(text: str) -> int | None:
    """Return a moment past the years of Python's dates, which are those of a filter's value too."""
    found = _FAR_YEAR.fullmatch(text)
    if found is None:
        return None
    return -_FAR if found[1].startswith(("-", "0")) else _FAR


_SINGLE = "float32"
_SAME = _Compared(same, same)
_OTHER = _Compared(same, lambda _: None)
_BYTES = (bytes, bytearray, memoryview)

_ByType = Mapping[object, _Compared]

_NUMBERS: _ByType = {
    int: _Compared(same, lambda wanted: math.inf if _is_nan(wanted) else wanted),
    float: _Compared(same, nearest_double),
    Decimal: _Compared(_rank, _rank),
    _SINGLE: _Compared(float, nearest_single),
}
_MOMENTS: _ByType = dict.fromkeys((date, datetime), _Compared(_moment, _moment))

_BY_WANTED: tuple[tuple[type | tuple[type, ...], _ByType, _Compared], ...] = (
    (bool, {bool: _SAME, **dict.fromkeys(_NUMBERS, _Compared(_flag, same)), str: _Compared(_boolean, same)}, _OTHER),
    ((int, float, Decimal), {**_NUMBERS, str: _Compared(lambda text: _rank(_number(text)), _rank)}, _OTHER),
    (
        str,
        {
            str: _SAME,
            **{kind: _with_text(found) for kind, found in _NUMBERS.items()},
            **dict.fromkeys(_BYTES, _OTHER),
        },
        _Compared(_exported, same),
    ),
    (datetime, {**_MOMENTS, str: _Compared(_of_text(parse_timestamp, _moment), _moment)}, _OTHER),
    (date, {**_MOMENTS, str: _Compared(_of_text(parse_date, _moment), _moment)}, _OTHER),
    (time, {time: _Compared(_clock, _clock), str: _Compared(_of_text(parse_time, _clock), _clock)}, _OTHER),
    (bytes, {bytes: _SAME, **dict.fromkeys(_BYTES[1:], _Compared(bytes, same))}, _OTHER),
)
"""By the type of the filter's value, `bool` before `int`, `datetime` before `date`: how values of each type compare,
and how those of all others do."""
