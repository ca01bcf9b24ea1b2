"""Convert Python values and Arrow arrays to a given type, exactly or not at all.

pyarrow alone converts 1.5 to 1 in `int64`, a datetime to a day in `date32`, a timestamp without a zone to UTC, and
text to bytes, and drops the offset of a time. So each type lists the Python types that it accepts, with a check if
those are not enough.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta, timezone
from decimal import Decimal
from functools import lru_cache
from operator import attrgetter, methodcaller
from types import NoneType
from typing import Any
from zoneinfo import ZoneInfo

import pyarrow as pa

from asgi_export.columns.plain import MAX_TYPES, plain
from asgi_export.values.python import OWN, is_foreign, to_python
from asgi_export.values.text import text_of

Values = Sequence[Any]
Check = Callable[[Values, set[type]], bool]
IsKind = Callable[[pa.DataType], bool]

_ERRORS = (pa.ArrowInvalid, pa.ArrowTypeError, pa.ArrowNotImplementedError, OverflowError, ValueError, TypeError)


class Inexact(ValueError):
    """A value that the type does not hold; the message does not quote it."""


@dataclass(frozen=True, slots=True)
class _Rule:
    """What a type accepts: these Python types (None: values that it returns unchanged), if `check` agrees."""

    is_text: bool
    taken: frozenset[type] | None
    check: Check | None
    wide: pa.DataType | None


def own_values(values: Values) -> Values:
    """Return the values with those of numpy and pandas as Python's own."""
    kinds = set(map(type, values))
    return values if kinds <= OWN or not is_foreign(kinds) else tuple(map(to_python, values))


def array_of(kind: pa.DataType, values: Values) -> pa.Array:
    """Make an array of the values; a text type takes every value, as its text in CSV. Raises `Inexact`."""
    rule = _rule(kind)
    kinds = set(map(type, values))
    if not kinds <= OWN and is_foreign(kinds):
        values = tuple(map(to_python, values))
        kinds = set(map(type, values))
    kinds.discard(NoneType)
    if rule.is_text:
        if not kinds <= {str}:
            values = [value if value is None or type(value) is str else str(text_of(value)) for value in values]
    elif kinds and rule.taken is not None:
        if not (kinds <= rule.taken and (rule.check is None or rule.check(values, kinds))):
            raise Inexact(f"a value is no {kind}")
        if int in kinds and float in rule.taken:
            values = [float(value) if type(value) is int else value for value in values]
    try:
        return _build(kind, values, rule)
    except _ERRORS:  # its words quote the value
        raise Inexact(f"a value is no {kind}") from None


def cast_exactly(array: pa.Array, kind: pa.DataType) -> pa.Array:
    """Return the array in another type of its family, or as text. Raises `Inexact` if a value would be another."""
    if array.type == kind:
        return array
    with suppress(*_ERRORS):  # a value that the type cannot hold: the answer below
        if pa.types.is_string(kind) or pa.types.is_large_string(kind):
            return plain(array).cast(kind)
        if pa.types.is_null(array.type) or array.null_count == len(array):
            return pa.nulls(len(array), kind)
        if _are_related(array.type, kind):
            found = array.cast(kind)
            if _are_equal(found, array):
                return found
    raise Inexact(f"values of {array.type} are no {kind}")


@lru_cache(MAX_TYPES)
def _rule(kind: pa.DataType) -> _Rule:
    taken, check = next(((taken, check) for belongs, taken, check in _TAKES if belongs(kind)), (None, None))
    wide = next((make(kind) for belongs, make in _WIDE if belongs(kind)), None)
    return _Rule(pa.types.is_string(kind), taken, check, None if wide == kind else wide)


def _build(kind: pa.DataType, values: Values, rule: _Rule) -> pa.Array:
    """Build the array through the finest type of the family that Python has; the cast from there is checked."""
    if rule.wide is not None:
        return cast_exactly(pa.array(values, rule.wide), kind)
    array = pa.array(values, kind)
    if rule.taken is None and not rule.is_text and array.to_pylist() != list(values):
        raise Inexact(f"a value is no {kind}")
    return array


def _are_related(one: pa.DataType, other: pa.DataType) -> bool:
    """Return whether values of one type may be values of the other: a moment with a zone is none without one."""
    if one == other or pa.types.is_null(one):
        return True
    if pa.types.is_timestamp(one) and pa.types.is_timestamp(other):
        return (one.tz is None) == (other.tz is None)
    if _lists(one) and _lists(other):
        return _are_related(one.value_type, other.value_type)
    if pa.types.is_struct(one) and pa.types.is_struct(other):
        pairs = list(zip(one, other, strict=False))
        same_names = one.num_fields == other.num_fields and all(a.name == b.name for a, b in pairs)
        return same_names and all(_are_related(a.type, b.type) for a, b in pairs)
    return any(belongs(one) and belongs(other) for belongs in _FAMILIES)


def _are_equal(found: pa.Array, array: pa.Array) -> bool:
    """Return whether a cast can be undone; NaN counts as equal to itself, and nulls have no values to lose."""
    try:
        back = found.cast(array.type)
    except pa.ArrowNotImplementedError:
        return bool(found.to_pylist() == array.to_pylist())
    if back.equals(array):
        return True
    pairs = zip(back.to_pylist(), array.to_pylist(), strict=True)
    return pa.types.is_floating(array.type) and all(a == b or (a != a and b != b) for a, b in pairs)


def _whole_in_double(values: Values, kinds: set[type]) -> bool:
    try:
        return int not in kinds or all(float(value) == value for value in values if type(value) is int)
    except OverflowError:
        return False


def _naive(values: Values, _: set[type]) -> bool:
    return not any(map(_zone, filter(None, values)))  # no moment and no time is false


def _aware(values: Values, _: set[type]) -> bool:
    """Return whether each has an offset, which those of Python's own zones have."""
    zones = set(map(type, map(_zone, filter(None, values))))
    return zones <= {timezone, ZoneInfo} or None not in map(_offset, filter(None, values))


def _any_of(*names: str) -> IsKind:
    tests = [getattr(pa.types, f"is_{name}") for name in names]
    return lambda kind: any(test(kind) for test in tests)


def _is_zoned(kind: pa.DataType) -> bool:
    return bool(pa.types.is_timestamp(kind) and kind.tz is not None)


_zone = attrgetter("tzinfo")
_offset = methodcaller("utcoffset")

_lists = _any_of("list", "large_list", "fixed_size_list")
_floats = _any_of("floating")
_binaries = _any_of("binary", "large_binary", "fixed_size_binary", "binary_view")

_TAKES: tuple[tuple[IsKind, frozenset[type], Check | None], ...] = (
    (_any_of("null"), frozenset(), None),
    (_any_of("boolean"), frozenset({bool}), None),
    (_any_of("integer"), frozenset({int}), None),
    (_floats, frozenset({int, float}), _whole_in_double),
    (_any_of("decimal"), frozenset({int, Decimal}), None),
    (_any_of("date"), frozenset({date}), None),
    (_any_of("time"), frozenset({time}), _naive),
    (_is_zoned, frozenset({datetime}), _aware),
    (_any_of("timestamp"), frozenset({datetime}), _naive),
    (_any_of("duration"), frozenset({timedelta}), None),
    (_any_of("large_string", "string_view"), frozenset({str}), None),
    (_binaries, frozenset({bytes, bytearray, memoryview}), None),
)
"""The first that fits counts; a type that is not here takes what pyarrow makes of it and gives back as it was."""

_WIDE: tuple[tuple[IsKind, Callable[[pa.DataType], pa.DataType]], ...] = (
    (_floats, lambda _: pa.float64()),
    (_any_of("date"), lambda _: pa.date32()),
    (_any_of("time"), lambda _: pa.time64("us")),
    (_any_of("timestamp"), lambda kind: pa.timestamp("us", kind.tz)),
    (_any_of("duration"), lambda _: pa.duration("us")),
)

_FAMILIES: tuple[IsKind, ...] = (
    _any_of("integer", "floating"),
    _any_of("integer", "decimal"),
    _any_of("date"),
    _any_of("time"),
    _any_of("duration"),
    _any_of("string", "large_string", "string_view"),
    _binaries,
)
"""Types of one family hold the same kind of value, so that a cast can be exact; 0.1 is another as a decimal."""
