"""What filters and a sort mean, said once more and independently, by Python's exact arithmetic. INTERFACE.md 1.1.

Values are those of a typed table: None, or all of one kind in a column.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, date, datetime, time
from decimal import Decimal
from fractions import Fraction
from typing import Any

import numpy as np

from asgi_export.table import Filter, Sort

COMPARE: Mapping[str, Callable[[Any, Any], bool]] = {
    "exact": operator.eq,
    "not": operator.ne,
    "gt": operator.gt,
    "gte": operator.ge,
    "lt": operator.lt,
    "lte": operator.le,
    "contains": lambda text, part: any(text[at : at + len(part)] == part for at in range(len(text) + 1)),
    "startswith": lambda text, part: bool(text[: len(part)] == part),
    "endswith": lambda text, part: bool(part == () or text[-len(part) :] == part),
}


def holds(found: Filter, value: Any) -> bool:
    """Whether a filter holds for a value."""
    if found.operator == "isnull":
        return (value is None) is found.value
    if value is None:
        return False
    if isinstance(found.value, tuple):
        return any(holds(Filter("", "exact", one), value) for one in found.value) is (found.operator == "in")
    return COMPARE[found.operator](key(value), key(nearest(found.value, value)))


def nearest(wanted: Any, value: Any) -> Any:
    """Doubles, and numbers of 32 bits, compare with the nearest of theirs."""
    if not isinstance(value, float | np.float32):
        return wanted
    with np.errstate(over="ignore"):
        return float(np.float32(str(wanted))) if isinstance(value, np.float32) else float(str(wanted))


def key(value: Any) -> Any:
    """What values of one kind are ordered by."""
    if isinstance(value, np.float32):
        value = float(value)
    if isinstance(value, str):
        return tuple(map(ord, value))
    if isinstance(value, datetime):
        return value.astimezone(UTC) if value.tzinfo else value.replace(tzinfo=UTC)
    if isinstance(value, bool | date | time | bytes):
        return value
    if isinstance(value, float | Decimal) and not math.isfinite(value):
        return (1, 0) if math.isnan(value) else (0, float(value))
    return (0, Fraction(value))


Table = Sequence[Mapping[str, Any]]


def answer(rows: Table, filters: Iterable[Filter] = (), sort: Sequence[Sort] = (), limit: int | None = None) -> Table:
    """The rows that are asked for, in order."""
    found = [row for row in rows if all(holds(one, row[one.column]) for one in filters)]
    for by in reversed(sort):
        nulls = [row for row in found if row[by.column] is None]
        there = [row for row in found if row[by.column] is not None]
        found = sorted(there, key=lambda row: key(row[by.column]), reverse=by.descending) + nulls
    return found[:limit]
