"""Compare the values of an Arrow array with the value of a filter.

A comparison is rewritten for the type of the array, so that pyarrow compares values of that type and rounds nothing.
Types without an order of their own compare by their exported text; the few comparisons that pyarrow lacks are left to
`values.matching`. Layouts that share values (dictionaries, runs, views) and extension types are taken apart before:
`columns.matching`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from typing import Any, TypeAlias, cast

import pyarrow as pa
import pyarrow.compute as pc

from asgi_export.columns.plain import plain, python_values
from asgi_export.table import Filter, Operator, Scalar
from asgi_export.values.fitting import (
    EXACT,
    Fitted,
    Number,
    Steps,
    decimal_steps,
    fit,
    int_steps,
    nearest_double,
    nearest_half,
    nearest_single,
)
from asgi_export.values.literals import parse_number
from asgi_export.values.matching import test_of

Mask: TypeAlias = pa.Array
"""Booleans, one a row; null where the value is."""

Compare: TypeAlias = Callable[[pa.Array, Filter], Mask]

MAX_DECIMAL_DIGITS = 76
DAY_SECONDS = 86_400
DIGITS = {"s": 0, "ms": 3, "us": 6, "ns": 9}
"""Of the fraction of a second, by unit."""

_INT64 = int_steps(64)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)


def compare(column: pa.Array, found: Filter) -> Mask:
    """Return for which values a filter holds."""
    if found.operator == "isnull":
        return pc.equal(pc.is_null(column), found.value is True)
    if found.operator in _PARTS:
        return _part_of_text(column, found)
    wanted = values_of(found)
    if not wanted:
        return _constant(column, holds=found.operator == "notin")
    return _comparison(column.type, wanted[0])(column, found)


def values_of(found: Filter) -> tuple[Scalar, ...]:
    """Return the values of a list, or the only one."""
    return found.value if isinstance(found.value, tuple) else (found.value,)


def with_values(found: Filter, values: Sequence[Scalar]) -> Filter:
    """Return the filter with other values, as many as `values_of` gives; of a list there may be fewer."""
    return Filter(found.column, found.operator, tuple(values) if isinstance(found.value, tuple) else values[0])


def _comparison(kind: pa.DataType, wanted: Scalar) -> Compare:
    family = next((name for name, belongs in _FAMILIES if belongs(kind)), "other")
    by_family = next(table for types, table in _COMPARISONS if isinstance(wanted, types))
    return by_family.get(family, _incomparable)


def _constant(column: pa.Array, *, holds: bool) -> Mask:
    """The same answer for every value that is not null."""
    return _null_where_null(column, pa.repeat(pa.scalar(holds), len(column)))


def _null_where_null(column: pa.Array, mask: Mask) -> Mask:
    return pc.if_else(pc.is_valid(column), mask, pa.scalar(None, pa.bool_())) if column.null_count else mask


def _incomparable(column: pa.Array, found: Filter) -> Mask:
    """Values of another kind than the filter's."""
    return _constant(column, holds=found.operator in ("not", "notin"))


def _one_by_one(column: pa.Array, found: Filter) -> Mask:
    """Compare values of Python."""
    test = test_of(found)
    values = column.to_pylist() if pa.types.is_decimal(column.type) else python_values(column)
    return pa.array([None if value is None else test(value) for value in values], pa.bool_())


_KERNELS: Mapping[str, Callable[[pa.Array, pa.Scalar], Mask]] = {
    "exact": pc.equal,
    "not": pc.not_equal,
    "gt": pc.greater,
    "gte": pc.greater_equal,
    "lt": pc.less,
    "lte": pc.less_equal,
}


def _directly(column: pa.Array, operator: Operator, value: Any) -> Mask:
    """Compare with a value of the column's type, or a list of them."""
    if not isinstance(value, list):
        return _KERNELS[operator](column, pa.scalar(value, column.type))
    among = pc.is_in(column, value_set=pa.array(value, column.type))
    return _null_where_null(column, among if operator == "in" else pc.invert(among))


def _steps(column: pa.Array, fitted: Fitted, value_of: Callable[[int], Any]) -> Mask:
    """Compare with what `fit` returned; `value_of` makes a value of the column of a number of steps."""
    if isinstance(fitted, bool):
        return _constant(column, holds=fitted)
    operator, value = fitted
    return _directly(column, operator, list(map(value_of, value)) if isinstance(value, tuple) else value_of(value))


def _numbers(found: Filter) -> Number | tuple[Number, ...]:
    return cast("Number | tuple[Number, ...]", found.value)


def _integers(column: pa.Array, found: Filter) -> Mask:
    steps = int_steps(column.type.bit_width, signed=pa.types.is_signed_integer(column.type))
    return _steps(column, fit(found.operator, _numbers(found), steps), int)


def _decimals(column: pa.Array, found: Filter) -> Mask:
    """In 128 or 256 bits and without a negative scale: pyarrow lacks comparisons of the others."""
    kind = column.type
    precision, scale = kind.precision - min(0, kind.scale), max(0, kind.scale)
    if precision > MAX_DECIMAL_DIGITS:
        return _one_by_one(column, found)
    wide = pa.decimal128(precision, scale) if precision <= 38 else pa.decimal256(precision, scale)
    fitted = fit(found.operator, _numbers(found), decimal_steps(precision, scale))
    return _steps(column if kind == wide else column.cast(wide), fitted, lambda step: EXACT.scaleb(step, -scale))


_NEAREST: Mapping[int, Callable[[Number], float]] = {16: nearest_half, 32: nearest_single, 64: nearest_double}
"""By the bits of a type."""


def _floats(column: pa.Array, found: Filter) -> Mask:
    """Compare with the nearest number of the type. NaN equals NaN and is greater than every other number."""
    nearest = _NEAREST[column.type.bit_width]
    values = [nearest(cast("Number", one)) for one in values_of(found)]
    if pa.types.is_float16(column.type):
        column = column.cast(pa.float32())
    if isinstance(found.value, tuple):
        return _among_floats(column, found.operator, values)
    if math.isnan(values[0]):
        return _with_nan(column, found.operator)
    mask = _directly(column, found.operator, values[0])
    return pc.or_(mask, pc.is_nan(column)) if found.operator in ("gt", "gte") else mask


def _among_floats(column: pa.Array, operator: Operator, values: Sequence[float]) -> Mask:
    """`is_in` goes by the bits, and NaN and zero have several representations."""
    found = _directly(column, "in", [*values, *([0.0, -0.0] if 0.0 in values else [])])
    if any(map(math.isnan, values)):
        found = pc.or_(found, pc.is_nan(column))
    return found if operator == "in" else pc.invert(found)


def _with_nan(column: pa.Array, operator: Operator) -> Mask:
    if operator in ("gt", "lte"):
        return _constant(column, holds=operator == "lte")
    found = pc.is_nan(column)
    return found if operator in ("exact", "gte") else pc.invert(found)


def _numbers_with_text(column: pa.Array, found: Filter) -> Mask:
    """Compare with the texts that are numbers: a column without a declared type may hold numbers."""
    numbers = [number for text in values_of(found) if (number := _parsed_number(str(text))) is not None]
    is_list = isinstance(found.value, tuple)
    return compare(column, with_values(found, numbers)) if numbers or is_list else _incomparable(column, found)


def _parsed_number(text: str) -> Number | None:
    try:
        return parse_number(text)
    except ValueError:
        return None


def _texts(column: pa.Array, found: Filter) -> Mask:
    """Compare by code point, which is the order of the bytes of UTF-8; a filter may hold a lone surrogate."""
    binary = column.cast(pa.large_binary() if pa.types.is_large_string(column.type) else pa.binary())
    texts = [_encoded(str(value)) for value in values_of(found)]
    return _directly(binary, found.operator, texts if isinstance(found.value, tuple) else texts[0])


def _encoded(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")


def _exported_texts(column: pa.Array, found: Filter) -> Mask:
    return _texts(plain(column).cast(pa.large_string()), found)


_PARTS: Mapping[str, Callable[[pa.Array, bytes], Mask]] = {
    "contains": pc.match_substring,
    "startswith": pc.starts_with,
    "endswith": pc.ends_with,
}


def _part_of_text(column: pa.Array, found: Filter) -> Mask:
    if pa.types.is_floating(column.type):
        return _one_by_one(column, found)
    if _is_bytes(column.type):
        return _constant(column, holds=False)
    text = column if _is_text(column.type) else plain(column).cast(pa.large_string())
    return _PARTS[found.operator](text.cast(pa.large_binary()), _encoded(str(found.value)))


def _bytes(column: pa.Array, found: Filter) -> Mask:
    value = list(found.value) if isinstance(found.value, tuple) else found.value
    return _directly(column.cast(pa.large_binary()), found.operator, value)


def _booleans(column: pa.Array, found: Filter) -> Mask:
    value = list(found.value) if isinstance(found.value, tuple) else found.value
    return _directly(column, found.operator, value)


def _moments(column: pa.Array, found: Filter) -> Mask:
    return _ticks(column.cast(pa.int64()), found, DIGITS[column.type.unit])


def _dates(column: pa.Array, found: Filter) -> Mask:
    """Compare the instants at which the days begin in UTC; a date of milliseconds may lie within a day."""
    if pa.types.is_date64(column.type):
        return _ticks(column.cast(pa.int64()), found, DIGITS["ms"])
    return _ticks(pc.multiply(column.cast(pa.int32()).cast(pa.int64()), DAY_SECONDS), found, DIGITS["s"])


def _times(column: pa.Array, found: Filter) -> Mask:
    whole = pa.int32() if column.type.bit_width == 32 else pa.int64()
    return _ticks(column.cast(whole).cast(pa.int64()), found, DIGITS[column.type.unit])


def _ticks(column: pa.Array, found: Filter, digits: int) -> Mask:
    """Compare whole numbers of a unit that has so many digits of a second."""
    seconds = tuple([EXACT.scaleb(Decimal(microseconds(value)), -6) for value in values_of(found)])
    steps = Steps(_INT64.least, _INT64.most, digits)
    return _steps(column, fit(found.operator, seconds if isinstance(found.value, tuple) else seconds[0], steps), int)


def microseconds(value: Any) -> int:
    """Return the microseconds from 1970 of an instant or a day in UTC, or those of a time of day from midnight."""
    if isinstance(value, time):
        return ((value.hour * 60 + value.minute) * 60 + value.second) * 10**6 + value.microsecond
    if not isinstance(value, datetime):
        value = datetime(value.year, value.month, value.day, tzinfo=UTC)
    found: int = (value - _EPOCH) // _MICROSECOND
    return found


def _any_of(*names: str) -> Callable[[pa.DataType], bool]:
    tests = [getattr(pa.types, f"is_{name}") for name in names]
    return lambda kind: any(test(kind) for test in tests)


_is_text = _any_of("string", "large_string")
_is_bytes = _any_of("binary", "large_binary", "fixed_size_binary")

_FAMILIES: tuple[tuple[str, Callable[[pa.DataType], bool]], ...] = (
    ("boolean", _any_of("boolean")),
    ("integer", _any_of("integer")),
    ("float", _any_of("floating")),
    ("decimal", _any_of("decimal")),
    ("text", _is_text),
    ("bytes", _is_bytes),
    ("date", _any_of("date")),
    ("time", _any_of("time")),
    ("timestamp", _any_of("timestamp")),
)

_ON_MOMENTS: Mapping[str, Compare] = {"timestamp": _moments, "date": _dates, "text": _one_by_one}
_ON_TEXT: Mapping[str, Compare] = dict.fromkeys(
    ("boolean", "date", "time", "timestamp", "other"), _exported_texts
) | {
    "text": _texts,
    **dict.fromkeys(("integer", "float", "decimal"), _numbers_with_text),
}

_COMPARISONS: tuple[tuple[type | tuple[type, ...], Mapping[str, Compare]], ...] = (
    (bool, {"boolean": _booleans, **dict.fromkeys(("integer", "float", "decimal", "text"), _one_by_one)}),
    ((int, float, Decimal), {"integer": _integers, "float": _floats, "decimal": _decimals, "text": _one_by_one}),
    (str, _ON_TEXT),
    (date, _ON_MOMENTS),
    (time, {"time": _times, "text": _one_by_one}),
    (bytes, {"bytes": _bytes}),
)
"""By the type of the filter's value, `bool` before `int`, and the family of the column's; others do not compare."""
