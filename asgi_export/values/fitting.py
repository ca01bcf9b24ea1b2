"""Rewrite a comparison so that its value fits the column, without changing its result.

A column of whole numbers holds no 2.5: `gt 2.5` is `gt 2` there, `exact 2.5` holds for no row, and `lt` a number past
the largest holds for all that are not null. So each source compares values of the column's own type, which indexes
and statistics are made of, and which no rounding touches.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Iterable
from dataclasses import dataclass
from decimal import MAX_EMAX, MIN_EMIN, ROUND_FLOOR, Context, Decimal

from asgi_export.table import Operator

Number = int | Decimal | float

EXACT = Context(prec=2000, Emax=MAX_EMAX, Emin=MIN_EMIN)
"""More digits than a number of a filter and any column have together."""


@dataclass(frozen=True, slots=True)
class Steps:
    """The numbers from `least` to `most`, both multiplied by 10 to the power of `scale`, that are whole then.

    `Steps(-(2**31), 2**31 - 1)` is a column of 32-bit integers, `Steps(-99999, 99999, 2)` one of decimals of five
    digits, two of them behind the point.
    """

    least: int
    most: int
    scale: int = 0


def int_steps(bits: int, *, signed: bool = True) -> Steps:
    """Return the steps of integers of so many bits."""
    return Steps(-(1 << bits - 1), (1 << bits - 1) - 1) if signed else Steps(0, (1 << bits) - 1)


def decimal_steps(precision: int, scale: int) -> Steps:
    """Return the steps of a decimal of `precision` digits, `scale` of them behind the point."""
    return Steps(-(10**precision) + 1, 10**precision - 1, scale)


Fitted = tuple[Operator, int | tuple[int, ...]] | bool
"""A comparison with numbers of steps; True if it holds for every value that is not null, False if for none."""


def fit(operator: Operator, value: Number | tuple[Number, ...], steps: Steps) -> Fitted:
    """Fit a comparison of numbers to a column of steps.

    >>> fit("gte", Decimal("2.5"), int_steps(32)), fit("exact", Decimal("2.5"), int_steps(32))
    (('gt', 2), False)
    >>> fit("lt", 10**20, int_steps(64)), fit("in", (1, Decimal("1.50")), decimal_steps(5, 2))
    (True, ('in', (100, 150)))
    """
    if isinstance(value, tuple):
        return _fit_list(operator, value, steps)
    if isinstance(value, float) and not math.isfinite(value):
        return _fit_special(operator, value)
    floor, on_step = _floor(value, steps.scale)
    if operator in ("exact", "not"):
        there = on_step and steps.least <= floor <= steps.most
        return (operator, floor) if there else operator == "not"
    return _fit_order(operator, floor, steps, on_step=on_step)


def _fit_order(operator: Operator, floor: int, steps: Steps, *, on_step: bool) -> Fitted:
    upwards = operator in ("gt", "gte")
    if floor < steps.least:
        return upwards
    if floor > steps.most:
        return not upwards
    if on_step:
        return operator, floor
    return ("gt" if upwards else "lte"), floor


def _fit_special(operator: Operator, value: float) -> bool:
    """Fit a special value: infinities and NaN lie past all steps, and NaN is greater than every number."""
    if operator in ("exact", "not"):
        return operator == "not"
    return (operator in ("lt", "lte")) is (math.isnan(value) or value > 0)


def _fit_list(operator: Operator, values: Iterable[Number], steps: Steps) -> Fitted:
    fitted = [fit("exact", value, steps) for value in values]
    there = tuple([int(found[1]) for found in fitted if not isinstance(found, bool) and isinstance(found[1], int)])
    return (operator, there) if there else operator == "notin"


def _floor(value: Number, scale: int) -> tuple[int, bool]:
    """Return the step at or below a finite number, and whether it is the number."""
    exact = EXACT.scaleb(EXACT.create_decimal(value), scale)
    floor = exact.to_integral_value(ROUND_FLOOR)
    return int(floor), floor == exact


def nearest_double(value: Number) -> float:
    """Return the nearest double, an infinity past the largest. IEEE 754 §4.3.1.

    >>> nearest_double(10**400), nearest_double(Decimal("0.1"))
    (inf, 0.1)
    """
    try:
        return float(value)
    except OverflowError:
        return math.inf if value > 0 else -math.inf


def nearest_single(value: Number) -> float:
    """Return the nearest number of 32 bits, as a double: `Decimal("0.1")` becomes 0.10000000149011612."""
    return _nearest(value, "<f")


def nearest_half(value: Number) -> float:
    """Return the nearest number of 16 bits, as a double: `Decimal("0.1")` becomes 0.0999755859375."""
    return _nearest(value, "<e")


def _nearest(value: Number, code: str) -> float:
    """Round to the type that `struct` calls `code`.

    The nearest double may lie halfway between two of its numbers where the number does not, so the odd one of the two
    doubles around the number is rounded.
    """
    double = nearest_double(value)
    if math.isfinite(double) and double != value and not _bits(double) & 1:
        double = math.nextafter(double, math.inf if value > double else -math.inf)
    try:
        found: float = struct.unpack(code, struct.pack(code, double))[0]
    except OverflowError:
        return math.inf if value > 0 else -math.inf
    return found


def _bits(double: float) -> int:
    found: int = struct.unpack("<q", struct.pack("<d", double))[0]
    return found
