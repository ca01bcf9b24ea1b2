"""A comparison that was fitted to a column holds for the same values as the one that was asked."""

from __future__ import annotations

import math
import operator
import struct
from collections.abc import Callable
from decimal import Decimal
from fractions import Fraction
from typing import Any, cast

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from asgi_export.table import Operator
from asgi_export.values.fitting import Number, Steps, decimal_steps, fit, int_steps, nearest_double, nearest_single

COMPARE: dict[str, Callable[[Any, Any], bool]] = {
    "exact": operator.eq,
    "not": operator.ne,
    "gt": operator.gt,
    "gte": operator.ge,
    "lt": operator.lt,
    "lte": operator.le,
}
ONE = st.sampled_from(sorted(COMPARE))
WHOLE = [int_steps(8), int_steps(32), int_steps(64), int_steps(8, signed=False), int_steps(64, signed=False)]
DECIMALS = [decimal_steps(*found) for found in ((5, 2), (38, 10), (76, 38), (3, -2), (2, 5))]
STEPS = st.sampled_from(WHOLE + DECIMALS)
FINITE = st.integers() | st.decimals(allow_nan=False, allow_infinity=False, min_value=-(10**80), max_value=10**80)


def holds(name: str, left: Fraction, right: Number) -> bool:
    """Python's exact comparison, in which NaN is greater than every number and equals itself."""
    if isinstance(right, float) and not math.isfinite(right):
        above = math.isnan(right) or right > 0
        return COMPARE[name](0, 1 if above else -1)
    return COMPARE[name](left, Fraction(right))


def fitted_holds(found: Any, step: int) -> bool:
    if isinstance(found, bool):
        return found
    name, value = found
    if isinstance(value, tuple):
        return (step in value) is (name == "in")
    return COMPARE[name](step, value)


@st.composite
def near(draw: st.DrawFn, steps: Steps) -> tuple[int, Number]:
    """A step of the column, and a number that is likely to be at it, beside it, or past the bounds."""
    step = draw(st.sampled_from([steps.least, steps.most, 0]) | st.integers(steps.least, steps.most))
    off = draw(st.sampled_from(["0", "1", "-1", "0.5", "-0.5", "1e-30", "-1e-30"]))
    exact = Fraction(draw(st.sampled_from([step, steps.least, steps.most]))) + Fraction(off)
    number = exact / Fraction(10) ** steps.scale
    return step, draw(FINITE | st.just(_decimal(number)))


def _decimal(number: Fraction) -> Decimal:
    """The denominator is a product of twos and fives."""
    places = 200
    return Decimal(f"{int(number * 10**places)}e-{places}")


@given(data=st.data(), steps=STEPS, name=ONE)
def test_a_fitted_comparison_holds_for_the_same_steps(data: st.DataObject, steps: Steps, name: str) -> None:
    step, value = data.draw(near(steps))
    left = Fraction(step) / Fraction(10) ** steps.scale
    assert fitted_holds(fit(cast("Operator", name), value, steps), step) is holds(name, left, value)


@given(steps=STEPS, name=ONE, value=st.sampled_from([math.nan, math.inf, -math.inf]), data=st.data())
def test_infinities_and_nan_lie_past_all_steps(steps: Steps, name: str, value: float, data: st.DataObject) -> None:
    step = data.draw(st.integers(steps.least, steps.most))
    assert fit(cast("Operator", name), value, steps) is holds(name, Fraction(step), value)


@given(data=st.data(), steps=STEPS, name=st.sampled_from(["in", "notin"]))
def test_a_fitted_list_has_the_same_steps(data: st.DataObject, steps: Steps, name: str) -> None:
    pairs = data.draw(st.lists(near(steps), min_size=1, max_size=5))
    values = tuple([value for _, value in pairs]) + (math.nan,) * data.draw(st.integers(0, 1))
    step = pairs[0][0]
    left = Fraction(step) / Fraction(10) ** steps.scale
    expected = any(holds("exact", left, value) for value in values)
    assert fitted_holds(fit(cast("Operator", name), values, steps), step) is (expected is (name == "in"))


@given(data=st.data(), steps=STEPS, name=ONE)
def test_a_fitted_value_is_one_of_the_column(data: st.DataObject, steps: Steps, name: str) -> None:
    """So that it can be written as a literal of the column's type."""
    found = fit(cast("Operator", name), data.draw(near(steps))[1], steps)
    if not isinstance(found, bool):
        assert isinstance(found[1], int)
        assert steps.least <= found[1] <= steps.most


@pytest.mark.parametrize("name", ["in", "notin"])
def test_a_list_without_values_needs_no_column(name: Operator) -> None:
    assert fit(name, (), int_steps(32)) is (name == "notin")


@given(value=FINITE)
@example(value=2**1024)
@example(value=-(2**1024))
@example(value=2**1024 - 2**970)
@example(value=2**1024 - 2**970 - 1)
@example(value=2**53 + 1)
@example(value=Decimal("1e-400"))
@example(value=Decimal("2.4703282292062327208299439634110764e-324"))
def test_no_double_is_nearer(value: Number) -> None:
    found = nearest_double(value)
    if math.isinf(found):
        assert abs(Fraction(value)) >= 2**1024 - 2**970
        return
    for other in (math.nextafter(found, -math.inf), math.nextafter(found, math.inf)):
        if math.isfinite(other):
            assert abs(Fraction(found) - Fraction(value)) <= abs(Fraction(other) - Fraction(value))


def neighbours(single: float) -> list[float]:
    (bits,) = struct.unpack("<i", struct.pack("<f", single))
    around = [bits - 1, bits + 1] if bits & 0x7FFFFFFF else [1, -(2**31) + 1]
    return [struct.unpack("<f", struct.pack("<i", found))[0] for found in around]


HALFWAY = Fraction(1) + Fraction(1, 2**24)
"""Between two singles; the lower one is even."""


@given(value=FINITE | st.floats(allow_nan=False, allow_infinity=False, width=64))
@example(value=_decimal(HALFWAY + Fraction(1, 10**40)))
@example(value=_decimal(HALFWAY - Fraction(1, 10**40)))
@example(value=_decimal(HALFWAY))
@example(value=_decimal(HALFWAY * 3 + Fraction(1, 10**40)))
@example(value=Decimal("1e-46"))
@example(value=2**128 - 2**103 - 1)
@example(value=2**128 - 2**103)
@example(value=16777217)
def test_no_single_is_nearer(value: Number) -> None:
    """Also where the nearest double lies halfway between two singles, and the number beside it."""
    found = nearest_single(value)
    if math.isinf(found):
        assert abs(Fraction(value)) >= 2**128 - 2**103
        return
    assert struct.unpack("<f", struct.pack("<f", found))[0] == found
    for other in neighbours(found):
        if math.isfinite(other):
            assert abs(Fraction(found) - Fraction(value)) <= abs(Fraction(other) - Fraction(value))


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_what_is_not_finite_stays_so(value: float) -> None:
    assert str(nearest_double(value)) == str(nearest_single(value)) == str(value)
