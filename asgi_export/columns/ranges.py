"""Decide by the least and the greatest value of a column whether a filter can hold for one of its values."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import date, time
from decimal import Decimal
from typing import Any

import pyarrow as pa

from asgi_export.columns.matching import matches
from asgi_export.table import Filter, Scalar

MAX_VALUES = 16
"""Of a longer list only the least and the greatest are looked at."""


@dataclass(frozen=True, slots=True)
class Range:
    """What is known of the values of a column: an array of a least and a greatest bound, the nulls, and the rows.

    The bounds may lie further out than the values. Bounds of floats say nothing of NaN, which is greater.
    """

    rows: int
    nulls: int | None = None
    ends: pa.Array | None = None


def may_hold(found: Filter, known: Range) -> bool:
    """Return whether a filter may hold for a value; True if that is not known."""
    if found.operator == "isnull":
        return known.nulls is None or (known.nulls > 0 if found.value is True else known.nulls < known.rows)
    if known.nulls is not None and known.nulls >= known.rows:
        return False
    decide = _DECISIONS.get(found.operator)
    values = found.value if isinstance(found.value, tuple) else (found.value,)
    if decide is None or known.ends is None or not all(_is_ordered(value, known.ends.type) for value in values):
        return True
    return decide(found, known.ends)


def _is_ordered(value: Scalar, kind: pa.DataType) -> bool:
    """Return whether values of a type compare with the value in the order of the bounds."""
    if isinstance(value, float) and math.isnan(value):
        return False
    return next((belongs(kind) for types, belongs in _ORDERED if isinstance(value, types)), False)


def _least(found: Filter, ends: pa.Array) -> bool:
    return _holds(found, ends.slice(0, 1))


def _greatest(found: Filter, ends: pa.Array) -> bool:
    return pa.types.is_floating(ends.type) or _holds(found, ends.slice(1, 1))


def _holds(found: Filter, end: pa.Array) -> bool:
    return bool(matches(end, found)[0].as_py())


def _between(found: Filter, ends: pa.Array) -> bool:
    below, above = replace(found, operator="lte"), replace(found, operator="gte")
    return _holds(below, ends.slice(0, 1)) and _holds(above, ends.slice(1, 1))


def _one_between(found: Filter, ends: pa.Array) -> bool:
    values: Any = found.value
    if len(values) <= MAX_VALUES:
        return any(_between(replace(found, value=value), ends) for value in values)
    below, above = Filter(found.column, "lte", max(values)), Filter(found.column, "gte", min(values))
    return _holds(below, ends.slice(0, 1)) and _holds(above, ends.slice(1, 1))


def _prefix(found: Filter, ends: pa.Array) -> bool:
    least, most = ends.slice(0, 1), ends.slice(1, 1)
    starts = _holds(replace(found, operator="lte"), least) or _holds(found, least)
    return starts and _holds(replace(found, operator="gte"), most)


_DECISIONS: Mapping[str, Callable[[Filter, pa.Array], bool]] = {
    "lt": _least,
    "lte": _least,
    "gt": _greatest,
    "gte": _greatest,
    "exact": _between,
    "in": _one_between,
    "startswith": _prefix,
}


def _any_of(*names: str) -> Callable[[pa.DataType], bool]:
    tests = [getattr(pa.types, f"is_{name}") for name in names]
    return lambda kind: any(test(kind) for test in tests)


_ORDERED: tuple[tuple[type | tuple[type, ...], Callable[[pa.DataType], bool]], ...] = (
    (bool, _any_of("boolean")),
    ((int, float, Decimal), _any_of("integer", "floating", "decimal")),
    (str, _any_of("string", "large_string")),
    (date, _any_of("date", "timestamp")),
    (time, _any_of("time")),
    (bytes, _any_of("binary", "large_binary")),
)
"""By the type of the filter's value, `bool` before `int`."""
