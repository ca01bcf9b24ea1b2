"""Choose the Arrow types of rows, by the first values of a column and the type that its source declares.

A type is chosen that holds the source's values exactly. Values without such a type (UUIDs, ranges, nested values,
decimals of unknown precision, values of several kinds) become their text in CSV. A column without a value yet has the
type that its source declares. The type is fixed for all later values: `values_for`.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from types import NoneType
from typing import Any

import pyarrow as pa

from asgi_export.columns.plain import portable
from asgi_export.declared import arrow_of, is_fractional
from asgi_export.errors import DoesNotFit
from asgi_export.formats.arrow.exact import Inexact, array_of, own_values
from asgi_export.table import ArrowSchema, Column, Rows

_DECIMAL = re.compile(r"decimal(128|256)\((\d+), (\d+)\)")


def schema_of_columns(columns: Sequence[Column]) -> pa.Schema | None:
    """Return the schema that the source declares, as it is written; None if a type depends on the rows."""
    if not columns or not all(isinstance(column.arrow, ArrowSchema) for column in columns):
        return None
    return pa.schema([pa.field(column.name, promised_type(column)) for column in columns])


def schema_of_rows(columns: Sequence[Column], rows: Rows) -> pa.Schema:
    """Choose the schema of these columns, by their values in `rows`; every field may be null."""
    values = zip(*rows, strict=True) if rows else [()] * len(columns)
    fields = [pa.field(column.name, _type(column, found)) for column, found in zip(columns, values, strict=True)]
    return pa.schema(fields)


def values_for(field: pa.Field, values: Sequence[Any]) -> pa.Array:
    """Convert values to an array of the field's type. Raises `DoesNotFit` for a value that it cannot hold."""
    try:
        return array_of(field.type, values)
    except Inexact:
        raise DoesNotFit(f"column {field.name!r} holds a value that is no {field.type}") from None


def promised_type(column: Column) -> pa.DataType:
    """Return the type of a column without a value yet: that of its source, else that of its declared type."""
    if isinstance(column.arrow, ArrowSchema):
        empty = pa.nulls(0, pa.field(column.arrow).type)
        return portable(pa.RecordBatch.from_arrays([empty], ["a"])).schema.field(0).type
    return _type_named(column.arrow or arrow_of(column.type))


def _type(column: Column, values: Sequence[Any]) -> pa.DataType:
    values = own_values(values)
    kinds = set(map(type, values)) - {NoneType}
    if not kinds or isinstance(column.arrow, ArrowSchema):
        return promised_type(column)
    found = _guess(column, kinds, next(value for value in values if value is not None))
    try:
        array_of(found, values)
    except Inexact:
        return pa.string()
    return found


def _guess(column: Column, kinds: set[type], first: Any) -> pa.DataType:
    """Guess the type of values of these kinds; it may not hold all of them."""
    if kinds <= {int, float}:
        return pa.float64() if float in kinds or is_fractional(column.type) else pa.int64()
    if kinds <= {int, Decimal}:
        promised = promised_type(column)
        return promised if pa.types.is_decimal(promised) else pa.string()
    if kinds <= {bytes, bytearray, memoryview}:
        return pa.binary()
    if kinds == {datetime}:
        return pa.timestamp("us", None if first.tzinfo is None else "UTC")
    return _BY_TYPE.get(next(iter(kinds)), pa.string()) if len(kinds) == 1 else pa.string()


_BY_TYPE: dict[type, pa.DataType] = {
    bool: pa.bool_(),
    date: pa.date32(),
    time: pa.time64("us"),
    timedelta: pa.duration("us"),
}


def _type_named(name: str) -> pa.DataType:
    """Return the type of a name that `arrow_of` gives. Raises `ValueError` for one that Arrow does not have."""
    match = _DECIMAL.fullmatch(name)
    if match:
        make = pa.decimal128 if match[1] == "128" else pa.decimal256
        return make(int(match[2]), int(match[3]))
    return pa.timestamp("us", "UTC") if name == "timestamp[us, tz=UTC]" else pa.type_for_alias(name)
