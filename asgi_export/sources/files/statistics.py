"""The range of a Parquet column in a row group, as Arrow values of the dataset's type.

A column whose bounds are not in the order of its values has none: INT96, structures, UUIDs, floats of 16 bits.
"""

from __future__ import annotations

import json
import math
import struct
from collections.abc import Callable, Mapping
from decimal import Decimal
from typing import Any

import pyarrow as pa

from asgi_export.columns.ranges import Range
from asgi_export.sources.files.footer import Statistics
from asgi_export.values.fitting import EXACT

_UNITS = {"milliseconds": "ms", "microseconds": "us", "nanoseconds": "ns"}
_WIDTHS = {"BOOLEAN": 1, "INT32": 4, "INT64": 8, "FLOAT": 4, "DOUBLE": 8}


def range_of(column: Any, found: Statistics, kind: pa.DataType, rows: int) -> Range:
    """Return what the statistics of a row group say, for a column of the file's schema and its Arrow type."""
    nulls = found.nulls if found.nulls is not None and 0 <= found.nulls <= rows else None
    if found.least is None or found.most is None:
        return Range(rows, nulls)
    try:
        return Range(rows, nulls, _ends(column, found.least, found.most, kind))
    except (pa.ArrowException, ValueError, OverflowError, ArithmeticError):
        return Range(rows, nulls)


def _ends(column: Any, least: bytes, most: bytes, kind: pa.DataType) -> pa.Array | None:
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    width = _WIDTHS.get(column.physical_type)
    if width is not None and not len(least) == len(most) == width:
        return None
    read = next((read for belongs, read in _READERS if belongs(kind)), None)
    return read(column, least, most, kind) if read else None


def _logical(column: Any) -> Mapping[str, Any]:
    found: Mapping[str, Any] = json.loads(column.logical_type.to_json())
    return found


def _whole(column: Any, value: bytes) -> int:
    if column.physical_type not in ("INT32", "INT64"):
        raise ValueError(column.physical_type)
    return int.from_bytes(value, "little", signed=_logical(column).get("isSigned", True))


def _integers(column: Any, least: bytes, most: bytes, kind: pa.DataType) -> pa.Array:
    values = [_whole(column, least), _whole(column, most)]
    return pa.array(values, pa.uint64() if values[1] > 2**63 - 1 else pa.int64()).cast(kind)


def _floats(column: Any, least: bytes, most: bytes, kind: pa.DataType) -> pa.Array | None:
    code = {"FLOAT": "<f", "DOUBLE": "<d"}.get(column.physical_type)
    if code is None:
        return _integers(column, least, most, kind)
    values = [struct.unpack(code, least)[0], struct.unpack(code, most)[0]]
    return None if any(map(math.isnan, values)) else pa.array(values, kind)


def _decimals(column: Any, least: bytes, most: bytes, kind: pa.DataType) -> pa.Array:
    if _logical(column).get("Type") != "Decimal":
        return _integers(column, least, most, kind)
    order: Any = "little" if column.physical_type in ("INT32", "INT64") else "big"
    steps = [int.from_bytes(value, order, signed=True) for value in (least, most)]
    return pa.array([EXACT.scaleb(Decimal(step), -column.scale) for step in steps], kind)


def _moments(column: Any, least: bytes, most: bytes, kind: pa.DataType) -> pa.Array:
    logical = _logical(column)
    values = pa.array([_whole(column, least), _whole(column, most)], pa.int64())
    if logical.get("Type") == "Date":
        return values.cast(pa.int32()).cast(pa.date32()).cast(kind)
    return values.cast(pa.timestamp(_UNITS[logical["timeUnit"]], kind.tz)).cast(kind)


def _dates(column: Any, least: bytes, most: bytes, kind: pa.DataType) -> pa.Array | None:
    return _moments(column, least, most, kind) if _logical(column).get("Type") == "Date" else None


def _times(column: Any, least: bytes, most: bytes, kind: pa.DataType) -> pa.Array:
    unit = _UNITS[_logical(column)["timeUnit"]]
    stored = pa.time32(unit) if unit == "ms" else pa.time64(unit)
    values = pa.array([_whole(column, least), _whole(column, most)], pa.int64())
    return (values.cast(pa.int32()) if unit == "ms" else values).cast(stored).cast(kind)


def _texts(column: Any, least: bytes, most: bytes, _: pa.DataType) -> pa.Array | None:
    """A bound may be cut off within a character."""
    found = _bytes(column, least, most, _)
    return None if found is None else found.view(pa.string())


def _bytes(column: Any, least: bytes, most: bytes, _: pa.DataType) -> pa.Array | None:
    return pa.array([least, most], pa.binary()) if column.physical_type == "BYTE_ARRAY" else None


def _booleans(column: Any, least: bytes, most: bytes, _: pa.DataType) -> pa.Array | None:
    return pa.array([least != b"\0", most != b"\0"]) if column.physical_type == "BOOLEAN" else None


def _any_of(*names: str) -> Callable[[pa.DataType], bool]:
    tests = [getattr(pa.types, f"is_{name}") for name in names]
    return lambda kind: any(test(kind) for test in tests)


_READERS: tuple[tuple[Callable[[pa.DataType], bool], Callable[..., pa.Array | None]], ...] = (
    (_any_of("integer"), _integers),
    (_any_of("float32", "float64"), _floats),
    (_any_of("decimal"), _decimals),
    (_any_of("timestamp"), _moments),
    (_any_of("date"), _dates),
    (_any_of("time"), _times),
    (_any_of("string", "large_string", "string_view"), _texts),
    (_any_of("binary", "large_binary", "binary_view"), _bytes),
    (_any_of("boolean"), _booleans),
)
"""By the Arrow type of the dataset."""
