"""The Arrow types of rows: what a column of Python values is, by the values that came first and its declared type.

A type is chosen so that the source's values survive. What has no type of its own (UUIDs, ranges, nested values,
decimals whose precision nobody declared, values of several kinds) is the text that CSV has for it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from types import NoneType
from typing import Any

import pyarrow as pa

from asgi_export.errors import SourceFailed
from asgi_export.formats.value_text import text_of
from asgi_export.table import Column, Rows

INT64 = range(-(2**63), 2**63)
EXACT_IN_DOUBLE = 2**53
MAX_DECIMAL_DIGITS = 76

_DECIMAL = re.compile(r"\s*(?:numeric|decimal|number)\s*\(\s*([0-9]{1,4})\s*(?:,\s*([0-9]{1,4})\s*)?\)", re.I)
_FRACTIONAL = re.compile(r"numeric|decimal|number|real|float|doub", re.I)

_DECLARED: tuple[tuple[re.Pattern[str], pa.DataType], ...] = (
    (re.compile(r"\btimestamp with time zone|timestamptz", re.I), pa.timestamp("us", "UTC")),
    (re.compile(r"\btimestamp|datetime", re.I), pa.timestamp("us")),
    (re.compile(r"\bdate\b", re.I), pa.date32()),
    (re.compile(r"\bbool", re.I), pa.bool_()),
    (re.compile(r"\b(real|float|double)", re.I), pa.float64()),
    (re.compile(r"\bbytea|blob|binary", re.I), pa.binary()),
    (re.compile(r"\b(big|small|tiny|medium)?int(eger)?[248]?\b", re.I), pa.int64()),
)
"""What a column without any value is called; nothing depends on it but its name in the file."""


def schema_of_rows(columns: Sequence[Column], rows: Rows) -> pa.Schema:
    """The schema of these columns, by their values in `rows`; every field may be null."""
    values = zip(*rows, strict=True) if rows else [()] * len(columns)
    fields = [pa.field(column.name, _kind(column.type, found)) for column, found in zip(columns, values, strict=True)]
    return pa.schema(fields)


def values_for(field: pa.Field, values: Sequence[Any]) -> pa.Array:
    """The values as an array of the field's type. Raises `SourceFailed` where one does not fit."""
    if pa.types.is_string(field.type):
        values = [value if value is None or type(value) is str else str(text_of(value)) for value in values]
    elif pa.types.is_float64(field.type):
        values = [float(value) if type(value) is int else value for value in values]
    try:
        return pa.array(values, field.type)
    except (pa.ArrowInvalid, pa.ArrowTypeError, OverflowError, ValueError):  # its words quote the value
        raise SourceFailed(f"column {field.name!r} holds a value that is no {field.type}") from None


def _kind(declared: str, values: Iterable[Any]) -> pa.DataType:
    present = [value for value in values if value is not None]
    kinds = {type(value) for value in present} - {NoneType}
    if not kinds:
        return _declared_kind(declared)
    if kinds <= {int, float}:
        return _number_kind(declared, present, kinds)
    if kinds == {Decimal}:
        return _decimal_kind(declared, present)
    if kinds == {datetime}:
        return _moment_kind(present)
    return _BY_TYPE.get(next(iter(kinds)), pa.string()) if len(kinds) == 1 else pa.string()


_BY_TYPE: dict[type, pa.DataType] = {
    bool: pa.bool_(),
    bytes: pa.binary(),
    date: pa.date32(),
    time: pa.time64("us"),
    timedelta: pa.duration("us"),
}


def _declared_kind(declared: str) -> pa.DataType:
    match = _DECIMAL.search(declared)
    if match:
        return _decimal(int(match[1]), int(match[2] or 0))
    return next((kind for pattern, kind in _DECLARED if pattern.search(declared)), pa.string())


def _number_kind(declared: str, values: Sequence[int | float], kinds: set[type]) -> pa.DataType:
    """Doubles where there is a fraction or may come one, unless a whole number would be rounded; then text."""
    if float not in kinds and not _FRACTIONAL.search(declared):
        return pa.int64() if all(value in INT64 for value in values) else pa.string()
    exact = all(type(value) is float or abs(value) <= EXACT_IN_DOUBLE for value in values)
    return pa.float64() if exact else pa.string()


def _decimal_kind(declared: str, values: Sequence[Decimal]) -> pa.DataType:
    match = _DECIMAL.search(declared)
    if match is None or not all(value.is_finite() for value in values):
        return pa.string()
    return _decimal(int(match[1]), int(match[2] or 0))


def _decimal(precision: int, scale: int) -> pa.DataType:
    if not 1 <= precision <= MAX_DECIMAL_DIGITS or scale > precision:
        return pa.string()
    make: Callable[[int, int], pa.DataType] = pa.decimal128 if precision <= 38 else pa.decimal256
    return make(precision, scale)


def _moment_kind(values: Sequence[datetime]) -> pa.DataType:
    aware = {value.tzinfo is not None for value in values}
    if len(aware) == 2:
        return pa.string()
    return pa.timestamp("us", "UTC") if aware.pop() else pa.timestamp("us")
