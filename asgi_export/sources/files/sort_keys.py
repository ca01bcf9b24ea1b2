"""Columns that a database sorts as the values of a dataset's columns sort.

Numbers of up to 64 bits and decimals stay as they are, text and bytes are bytes, an instant is its seconds and
nanoseconds, whatever the unit of its batch. Everything else is bytes by `values.ordering`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pyarrow as pa
import pyarrow.compute as pc

from asgi_export.columns.exact_text import ExactText
from asgi_export.columns.matching import nanoseconds_of
from asgi_export.columns.plain import plain, portable_array
from asgi_export.columns.shared_values import shares
from asgi_export.declared import Kind
from asgi_export.values.ordering import number_key, text_key

Keys = Sequence[pa.Array]

MAX_DIGITS = 38
"""Of decimals that DuckDB has."""

_UNITS = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}


def keys_of(column: pa.Array, kind: Kind) -> Keys:
    """Return the columns to sort by for a column of a kind; their types depend on that and the column's type."""
    column = _unfolded(column)
    if kind == "timestamp" and not _is_text(column.type):
        return _moments(column) if pa.types.is_timestamp(column.type) or _is_exact(column) else _whole(column)
    return next(make for belongs, make in _MAKERS if belongs(column.type))(column, kind)


def _is_exact(column: pa.Array) -> bool:
    return isinstance(column.type, ExactText)


def _unfolded(column: pa.Array) -> pa.Array:
    """Return the values without a layout that shares them, or an extension type."""
    kind = column.type
    if isinstance(kind, pa.BaseExtensionType) and not isinstance(kind, ExactText):
        is_own = kind.extension_name in {"arrow.uuid", "arrow.bool8"}
        return plain(column) if is_own else _unfolded(column.storage)
    return portable_array(column) if shares(kind) else column


def _moments(column: pa.Array) -> Keys:
    if _is_exact(column):
        values = [None if text is None else nanoseconds_of(text) for text in column.storage.to_pylist()]
        whole = [None if value is None else divmod(int(value), 10**9) for value in values]
        seconds = pa.array([None if pair is None else pair[0] for pair in whole], pa.int64())
        return [seconds, pa.array([None if pair is None else pair[1] for pair in whole], pa.int64())]
    unit = _UNITS[column.type.unit]
    ticks = column.cast(pa.int64())
    seconds = pc.divide(ticks, unit)
    rest = pc.subtract(ticks, pc.multiply(seconds, unit))
    is_before = pc.less(rest, 0)  # the division rounds towards zero
    seconds = pc.subtract(seconds, is_before.cast(pa.int64()))
    rest = pc.if_else(is_before, pc.add(rest, unit), rest)
    return [seconds, pc.multiply(rest, 10**9 // unit)]


def _whole(column: pa.Array, _: Kind = "number") -> Keys:
    if pa.types.is_integer(column.type):
        return [column]
    return [column.cast(pa.int32() if column.type.bit_width == 32 else pa.int64())]


def _decimals(column: pa.Array, _: Kind) -> Keys:
    kind = column.type
    if kind.precision <= MAX_DIGITS and 0 <= kind.scale <= kind.precision:
        return [column.cast(pa.decimal128(kind.precision, kind.scale))]
    return [_bytes_of(column, number_key)]


def _texts(column: pa.Array, kind: Kind) -> Keys:
    if kind == "text":
        return [column.cast(pa.large_string()).cast(pa.large_binary())]
    return [_bytes_of(column, text_key(kind))]


def _bytes_of(column: pa.Array, key: Callable[..., bytes]) -> pa.Array:
    return pa.array([None if value is None else key(value) for value in column.to_pylist()], pa.large_binary())


def _any_of(*names: str) -> Callable[[pa.DataType], bool]:
    tests = [getattr(pa.types, f"is_{name}") for name in names]
    return lambda kind: any(test(kind) for test in tests)


_is_text = _any_of("string", "large_string")

_MAKERS: tuple[tuple[Callable[[pa.DataType], bool], Callable[[pa.Array, Kind], Keys]], ...] = (
    (_any_of("integer", "date", "time"), _whole),
    (_any_of("boolean"), lambda column, _: [column.cast(pa.int8())]),
    (_any_of("float16"), lambda column, _: [pc.add(column.cast(pa.float32()), 0.0)]),
    (_any_of("floating"), lambda column, _: [pc.add(column, 0.0)]),
    (_any_of("decimal"), _decimals),
    (_any_of("binary", "large_binary", "fixed_size_binary"), lambda column, _: [column.cast(pa.large_binary())]),
    (_is_text, _texts),
    (lambda _: True, lambda column, _: [plain(column).cast(pa.large_string()).cast(pa.large_binary())]),
)
