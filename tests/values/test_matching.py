"""Filters hold for Python values as the oracle says, also for those of other libraries and of other kinds."""

from __future__ import annotations

import math
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from enum import Enum
from typing import Any, cast, get_args
from uuid import UUID
from zoneinfo import ZoneInfo

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from asgi_export.table import Filter, Operator
from asgi_export.values import matching
from asgi_export.values.matching import RowFilter
from tests.questions.filter_oracle import holds as expected

PARTS = ("contains", "startswith", "endswith")
COMPARED = ("exact", "not", "gt", "gte", "lt", "lte")
NOT_FINITE = st.sampled_from([math.nan, math.inf, -math.inf])
NEAR = st.sampled_from(["0", "-0.0", "0.1", "1", "1.0", "9007199254740993", "9223372036854775808", "1e308", "1e400"])
NUMBERS = st.integers() | st.decimals(allow_nan=False, allow_infinity=False) | NEAR.map(Decimal)
WANTED = NUMBERS | NOT_FINITE
OFFSETS = st.sampled_from([None, UTC, timezone(timedelta(hours=14)), timezone(timedelta(hours=-12))])
UNICODE = st.text(st.sampled_from("aA é\u00e9e\u0301ﬁ\uffff\U0001f600\0%_'\\"), max_size=4)
KINDS: dict[str, tuple[st.SearchStrategy[Any], st.SearchStrategy[Any]]] = {
    "doubles": (st.floats() | NEAR.map(float), WANTED),
    "decimals": (st.decimals(allow_nan=False) | NEAR.map(Decimal) | st.just(Decimal("NaN")), WANTED),
    "integers": (st.integers(-(2**70), 2**70), WANTED),
    "text": (UNICODE, UNICODE),
    "booleans": (st.booleans(), st.booleans()),
    "dates": (st.dates(), st.dates()),
    "times": (st.times(), st.times()),
    "timestamps": (st.datetimes(timezones=OFFSETS), st.datetimes(timezones=st.just(UTC))),
    "bytes": (st.binary(max_size=3), st.binary(max_size=3)),
}
"""Values of a column, and of a filter on it."""


def holds(operator: str, wanted: Any, value: Any) -> bool:
    return matching.test_of(Filter("c", cast("Operator", operator), wanted))(value)


@pytest.mark.parametrize("kind", KINDS)
@given(data=st.data())
def test_a_filter_holds_where_the_oracle_says_so(kind: str, data: st.DataObject) -> None:
    values, wanted = KINDS[kind]
    operator = data.draw(st.sampled_from(COMPARED + (PARTS if kind == "text" else ())))
    found = Filter("c", cast("Operator", operator), data.draw(wanted))
    for value in [*data.draw(st.lists(values, max_size=3)), found.value, None]:
        if kind == "doubles" and isinstance(value, int | Decimal):
            value = float(str(value))  # noqa: PLW2901
        assert matching.test_of(found)(value) is expected(found, value)


@pytest.mark.parametrize("kind", KINDS)
@given(data=st.data())
def test_a_list_holds_where_the_oracle_says_so(kind: str, data: st.DataObject) -> None:
    values, wanted = KINDS[kind]
    found = Filter("c", data.draw(st.sampled_from(["in", "notin"])), tuple(data.draw(st.lists(wanted, max_size=4))))
    for value in [*data.draw(st.lists(values, max_size=3)), None]:
        assert matching.test_of(found)(value) is expected(found, value)


NAIVE = datetime(2024, 1, 1)  # noqa: DTZ001 - counts as UTC
OTHERS = [
    *[5, 0.5, Decimal("0.5"), Decimal("sNaN"), True, "a", b"a", bytearray(b"a"), memoryview(b"a"), date(2024, 1, 1)],
    *[NAIVE, time(1), time(1, tzinfo=UTC), timedelta(1), [1], {"a": 1}, UUID(int=1), 1j, object()],
    *[np.float32(1), np.datetime64("2024-01-01"), np.array([1, 2]), pd.Timestamp("2024-01-01"), pd.Timedelta(1)],
]
VALUES = [5, Decimal("0.5"), math.nan, "a", True, date(2024, 1, 1), datetime(2024, 1, 1, tzinfo=UTC), time(1), b"a"]


@pytest.mark.parametrize("wanted", VALUES, ids=repr)
@pytest.mark.parametrize("value", OTHERS, ids=lambda value: type(value).__name__)
def test_every_value_is_equal_or_another_and_less_or_not_less(value: Any, wanted: Any) -> None:
    """Of whatever kind the two are; then `not` is what `exact` is not, and nothing raises."""
    found = {operator: holds(operator, wanted, value) for operator in COMPARED}
    assert found["not"] is not found["exact"]
    assert found["gte"] is (found["gt"] or found["exact"])
    assert found["lte"] is (found["lt"] or found["exact"])
    assert found["gt"] + found["lt"] + found["exact"] <= 1
    for list_value in ((wanted,), (wanted, wanted)):
        assert holds("in", list_value, value) is found["exact"]
        assert holds("notin", list_value, value) is found["not"]
    for part in PARTS:
        assert isinstance(holds(part, "a", value), bool)


class Colour(Enum):
    RED = 1


EQUAL: list[tuple[Any, Any]] = [
    (np.int64(5), 5),
    (np.uint64(2**64 - 1), 2**64 - 1),
    (np.bool_(True), True),
    (np.float64(0.1), Decimal("0.1")),
    (np.float32(0.1), Decimal("0.1")),
    (np.float32(0.1), Decimal("0.100000001")),
    (np.float32("nan"), math.nan),
    (np.longdouble("0.5"), Decimal("0.5")),
    (np.str_("a"), "a"),
    (np.bytes_(b"a"), b"a"),
    (np.datetime64("2024-01-01T00:00:00"), datetime(2024, 1, 1, tzinfo=UTC)),
    (np.datetime64("2024-01-01"), date(2024, 1, 1)),
    (np.array(5), 5),
    (pd.Timestamp("2024-01-01T01:00+01:00"), datetime(2024, 1, 1, tzinfo=UTC)),
    (pd.Timestamp("2024-01-01"), date(2024, 1, 1)),
    (pa.scalar(5), 5),
    (pa.scalar("a"), "a"),
    (Decimal("NaN"), math.nan),
    (Decimal("-Infinity"), -math.inf),
    (Decimal("5.0"), 5),
    (5, Decimal("5.00")),
    (-0.0, 0),
    ("5.0", 5),
    ("NaN", math.nan),
    (1, True),
    (0.0, False),
    ("true", True),
    ("false", False),
    (5, "5.0"),
    (0.1, "0.1"),
    (math.nan, "NaN"),
    (np.float32(0.1), "0.1"),
    (True, "true"),
    (UUID(int=1), "00000000-0000-0000-0000-000000000001"),
    (timedelta(days=1), "P1D"),
    (date(2024, 1, 1), "2024-01-01"),
    (Colour.RED, "Colour.RED"),
    ([1], "[1]"),
    ("2024-01-01T00:00:00Z", datetime(2024, 1, 1, tzinfo=UTC)),
    ("2024-01-01", datetime(2024, 1, 1, tzinfo=UTC)),
    (date(2024, 1, 1), datetime(2024, 1, 1, tzinfo=UTC)),
    (datetime(2024, 10, 27, 2, 30, tzinfo=ZoneInfo("Europe/Berlin")), datetime(2024, 10, 27, 0, 30, tzinfo=UTC)),
    (datetime(1, 1, 1, tzinfo=timezone(timedelta(hours=-1))), datetime(1, 1, 1, 1, tzinfo=UTC)),
    ("2024-01-01", date(2024, 1, 1)),
    (NAIVE, date(2024, 1, 1)),
    ("13:45", time(13, 45)),
    (bytearray(b"a"), b"a"),
    (memoryview(b"a"), b"a"),
]


@pytest.mark.parametrize(("value", "wanted"), EQUAL)
def test_values_of_other_libraries_and_of_other_types_may_be_equal(value: Any, wanted: Any) -> None:
    assert holds("exact", wanted, value)
    assert holds("in", (wanted,), value)
    assert not holds("gt", wanted, value)


GREATER: list[tuple[Any, Any]] = [
    (np.float32(0.1), Decimal("0.09999999")),
    (math.nan, math.inf),
    (Decimal("NaN"), 10**30),
    (np.datetime64("2024-01-01T00:00:00.000000001"), datetime(2024, 1, 1, tzinfo=UTC)),
    (pd.Timestamp("2024-01-01T00:00:00.000000001+00:00"), datetime(2024, 1, 1, tzinfo=UTC)),
    ("2024-01-01T00:00:00.000001001Z", datetime(2024, 1, 1, 0, 0, 0, 1, tzinfo=UTC)),
    ("13:45:00.000000001", time(13, 45)),
    (np.datetime64("12000-01-01"), date(9999, 12, 31)),
    (np.datetime64("12000-01-01T00:00:00"), datetime(9999, 12, 31, tzinfo=UTC)),
    (datetime(9999, 12, 31, 23, tzinfo=timezone(timedelta(hours=-2))), datetime(9999, 12, 31, 23, 59, tzinfo=UTC)),
    ("e\u0301", "e"),
    ("\U0001f600", "\uffff"),
    (10, "9"),
]
LESS: list[tuple[Any, Any]] = [
    (np.datetime64("-0044-03-15"), date(1, 1, 1)),
    (np.datetime64("0000-01-01T00:00:00"), datetime(1, 1, 1, tzinfo=UTC)),
    (datetime(1, 1, 1, tzinfo=timezone(timedelta(hours=2))), datetime(1, 1, 1, tzinfo=UTC)),
    ("\uffff", "\U0001f600"),
    ("10", "9"),
    (b"", b"\0"),
    (False, True),
]


@pytest.mark.parametrize(
    ("operator", "value", "wanted"), [*[("gt", *_) for _ in GREATER], *[("lt", *_) for _ in LESS]]
)
def test_values_that_no_filter_can_name_have_their_place_too(operator: str, value: Any, wanted: Any) -> None:
    assert holds(operator, wanted, value)
    assert holds("not", wanted, value)
    assert not holds("exact", wanted, value)


INCOMPARABLE: list[tuple[Any, Any]] = [
    ("a", 5),
    (True, 5),
    (b"5", 5),
    (5, "a"),
    (b"a", "a"),
    (2, True),
    ("TRUE", True),
    (5, date(2024, 1, 1)),
    ("2024-13-01", date(2024, 1, 1)),
    ("soon", datetime(2024, 1, 1, tzinfo=UTC)),
    (time(1, tzinfo=UTC), time(1)),
    ("12000-01-01", time(1)),
    ("a", b"a"),
]


@pytest.mark.parametrize(("value", "wanted"), INCOMPARABLE, ids=repr)
def test_a_value_of_another_kind_equals_nothing_and_is_neither_less_nor_greater(value: Any, wanted: Any) -> None:
    assert [operator for operator in COMPARED if holds(operator, wanted, value)] == ["not"]
    assert holds("notin", (wanted,), value)
    assert not holds("in", (wanted,), value)


@pytest.mark.parametrize(
    "missing", [None, pd.NA, pd.NaT, np.datetime64("NaT"), np.timedelta64("NaT"), pa.scalar(None)]
)
def test_for_a_missing_value_nothing_holds_but_that_it_is_missing(missing: Any) -> None:
    for operator in set(get_args(Operator)) - {"isnull", "in", "notin"}:
        assert not holds(operator, "a", missing)
    for operator in ("in", "notin"):
        assert not holds(operator, ("a",), missing)
        assert not holds(operator, (), missing)
    assert holds("isnull", True, missing)
    assert not holds("isnull", False, missing)


@pytest.mark.parametrize("value", [0, "", b"", math.nan, [], np.float64("nan")])
def test_nan_and_what_is_empty_are_not_missing(value: Any) -> None:
    assert holds("isnull", False, value)
    assert not holds("isnull", True, value)


def test_rows_for_which_all_filters_hold_are_kept_in_order() -> None:
    rows = [(n, "ab"[n % 2], None if n % 3 else n) for n in range(12)]
    filters = [Filter("b", "exact", "a"), Filter("a", "gte", 2), Filter("c", "isnull", value=True)]
    assert RowFilter(filters, ["a", "b", "c"]).rows(rows) == [rows[2], rows[4], rows[8], rows[10]]
    assert RowFilter([], ["a", "b", "c"]).rows(tuple(rows)) == rows


def test_a_list_of_a_thousand_is_looked_up() -> None:
    """Not compared one by one: the comparisons with values that cannot be counted are none."""
    compared = []

    class Counted(str):
        def __eq__(self, other: object) -> bool:
            compared.append(other)
            return super().__eq__(other)

        __hash__ = str.__hash__

    found = Filter("a", "in", tuple([Counted(n) for n in range(1000)]))
    rows = [(str(n),) for n in range(0, 100_000, 1000)]
    assert RowFilter([found], ["a"]).rows(rows) == [("0",)]
    assert len(compared) < 1000 + 2 * len(rows)
