"""Convert values of other libraries in rows, such as numpy and pandas, to equal values of Python.

No library is imported: the protocols of Python tell what a value is. An integer has `__index__`
(PEP 357), a scalar of numpy `item` and `dtype`, an array `__array__` and a length, a scalar of pyarrow `as_py`.
A missing value (`NaT`, `<NA>`) is None; NaN is a number and stays one. What no value of Python equals (nanoseconds,
long doubles) is its exact text.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from functools import partial
from types import NoneType
from typing import Any
from uuid import UUID

ToPython = Callable[[Any], Any]

OWN = frozenset({NoneType, bool, int, float, str, bytes, bytearray, memoryview, Decimal, UUID}) | frozenset(
    {date, datetime, time, timedelta, list, tuple, dict, set, frozenset}
)
"""Exact types that are Python's own: their values are not converted."""


def same(value: Any) -> Any:
    """Return the value itself."""
    return value


def to_python(value: Any) -> Any:
    """Convert a value to the equal value of Python.

    >>> import numpy
    >>> [to_python(found) for found in (numpy.int64(5), numpy.bool_(True), numpy.float32(0.1), 7)]
    [5, True, 0.1, 7]
    """
    return TO_PYTHON[type(value)](value)


def is_foreign(kinds: Iterable[type]) -> bool:
    """Return whether values of one of these types must be converted first."""
    return any(TO_PYTHON[kind] is not same for kind in kinds)


def _datetime(value: Any) -> Any:
    """Convert a timestamp; those of pandas have nanoseconds as well."""
    if getattr(value, "nanosecond", 0):
        return value.isoformat()
    clock = (value.hour, value.minute, value.second, value.microsecond)
    return datetime(value.year, value.month, value.day, *clock, tzinfo=value.tzinfo, fold=value.fold)


def _time(value: Any) -> time:
    return time(value.hour, value.minute, value.second, value.microsecond, tzinfo=value.tzinfo, fold=value.fold)


def _timedelta(value: Any) -> Any:
    whole = timedelta(value.days, value.seconds, value.microseconds)
    nanoseconds = getattr(value, "nanoseconds", 0)
    return _nanosecond_text(whole, nanoseconds) if nanoseconds else whole


def _nanosecond_text(whole: timedelta, nanoseconds: int) -> str:
    """Write ISO 8601 with nine digits, the sign in front."""
    total = (whole // timedelta(microseconds=1)) * 1000 + nanoseconds
    sign = "-" if total < 0 else ""
    seconds, fraction = divmod(abs(total), 10**9)
    days, seconds = divmod(seconds, 86400)
    minutes, seconds = divmod(seconds, 60)
    hours, minutes = divmod(minutes, 60)
    clock = "".join([f"{number}{unit}" for number, unit in ((hours, "H"), (minutes, "M")) if number])
    return f"{sign}P{f'{days}D' if days else ''}T{clock}{seconds}.{fraction:09d}".rstrip("0") + "S"


def _numpy_moment(value: Any, *, unit: str) -> Any:
    """Convert a moment of numpy: to what `item` gives, None for NaT, or text for what Python's types cannot hold."""
    found = value.item()
    nanoseconds = str(value.dtype).endswith("[ns]")
    if isinstance(found, int) and nanoseconds:
        coarse = value.astype(unit)
        found = coarse.item() if coarse == value else found
    if not isinstance(found, int):
        return found
    if unit.startswith("timedelta") and nanoseconds:
        return _nanosecond_text(timedelta(microseconds=found // 1000), found % 1000)
    return str(value)


def _scalar(value: Any) -> Any:
    """Convert a scalar of numpy by `item`, but a float by its shortest text, as float32(0.1) is no 0.1 in bits."""
    found = value.item()
    if type(found) is float:
        return float(str(value))
    return found if type(found) in OWN else str(value)


def _array(value: Any) -> Any:
    """Convert to a list; an array without dimensions to its scalar. A record of numpy stays a record."""
    if getattr(value, "ndim", 1):
        return list(value)
    found = value[()]
    return _scalar(value) if type(found) is type(value) else to_python(found)


_SUBCLASSES: tuple[tuple[type, ToPython], ...] = (
    (bool, bool),
    (int, int.__int__),
    (float, float),
    (str, str.__str__),
    (bytes, bytes),
    (datetime, _datetime),
    (date, lambda value: date(value.year, value.month, value.day)),
    (time, _time),
    (timedelta, _timedelta),
    (Decimal, Decimal),
)

_NAMED: dict[tuple[str, str], ToPython] = {
    ("pandas", "NaTType"): lambda _: None,
    ("pandas", "NAType"): lambda _: None,
    ("numpy", "datetime64"): partial(_numpy_moment, unit="datetime64[us]"),
    ("numpy", "timedelta64"): partial(_numpy_moment, unit="timedelta64[us]"),
}


class _ToPython(dict[type, ToPython]):
    """Type → conversion, filled as types are met; how many types a process has is bounded by its code."""

    def __missing__(self, kind: type) -> ToPython:
        found = _conversion(kind)
        self[kind] = found
        return found


def _conversion(kind: type) -> ToPython:
    named = _NAMED.get((kind.__module__.partition(".")[0], kind.__name__))
    if named is not None:
        return named
    for own, convert in _SUBCLASSES:
        if issubclass(kind, own):
            return convert
    if hasattr(kind, "as_py"):
        return lambda value: to_python(value.as_py())
    if hasattr(kind, "__array__") and hasattr(kind, "__len__"):
        return _array
    if hasattr(kind, "__index__"):
        return lambda value: value.__index__()
    return _scalar if hasattr(kind, "item") and hasattr(kind, "dtype") else same


TO_PYTHON = _ToPython(dict.fromkeys(OWN, same))
