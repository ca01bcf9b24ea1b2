"""Filters and sort of a request: columns, operators, values, rights, and what their errors say."""

from __future__ import annotations

import math
from collections.abc import Iterator
from datetime import UTC, date, datetime, time
from decimal import Decimal
from typing import Any

import pytest

from asgi_export import AccessPlan, Column, Selection, dataset
from asgi_export.access.plans import OPEN
from asgi_export.errors import BadRequest, Forbidden
from asgi_export.export.filters import check_sort, read_filters
from asgi_export.table import Filter, Sort

COLUMNS = [
    Column("n", "integer"),
    Column("t", "text"),
    Column("b", "boolean"),
    Column("d", "date"),
    Column("c", "time"),
    Column("m", "timestamp"),
    Column("y", "bytea"),
    Column("j", "jsonb"),
    Column("z", "time with time zone"),
    Column("a__b", "integer"),
    Column("a,b", "integer"),
    Column("-n", "integer"),
]


@dataset(columns=COLUMNS)
def table(selection: Selection) -> Iterator[tuple[Any, ...]]:
    return iter(())


def read(name: str, text: str) -> Any:
    (found,) = read_filters(((name, text),), table, OPEN)
    return found.value


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        ("n__exact", "42", 42),
        ("n__gt", "-1.50", Decimal("-1.50")),
        ("n__lt", "1e400", Decimal("1e400")),
        ("n__in", "1,2.5", (1, Decimal("2.5"))),
        ("n__in", '[1, 2.5, "3"]', (1, Decimal("2.5"), 3)),
        ("n__in", "[]", ()),
        ("n__gte", "-inf", -math.inf),
        ("t__exact", "", ""),
        ("t__exact", "[1]", "[1]"),
        ("t__in", "", ("",)),
        ("t__in", 'a,"b,c"', ("a", "b,c")),
        ("t__notin", '["a,b", "c"]', ("a,b", "c")),
        ("t__contains", "50%_", "50%_"),
        ("b__exact", "true", True),
        ("b__in", "[true, false]", (True, False)),
        ("b__isnull", "false", False),
        ("j__isnull", "true", True),
        ("d__gte", "2026-01-31", date(2026, 1, 31)),
        ("c__lt", "13:45", time(13, 45)),
        ("c__lt", "13:45:00.250", time(13, 45, 0, 250_000)),
        ("m__gte", "2026-01-31", datetime(2026, 1, 31, tzinfo=UTC)),
        ("m__gte", "2026-01-31 13:45:00.123456000", datetime(2026, 1, 31, 13, 45, 0, 123_456, tzinfo=UTC)),
        ("m__gte", "2026-01-31T13:45:00+01:00", datetime(2026, 1, 31, 12, 45, tzinfo=UTC)),
        ("y__exact", "\\x00FF", b"\x00\xff"),
        ("y__exact", "00ff", b"\x00\xff"),
        ("a__b__exact", "1", 1),
    ],
)
def test_a_value_is_read_by_the_kind_of_its_column(name: str, text: str, value: object) -> None:
    found = read(name, text)
    assert (type(found), found) == (type(value), value)


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("x__exact", "1", "x__exact: unknown column; there are n, t"),
        ("__", "1", "__: unknown column"),
        ("__exact", "1", "__exact: unknown column"),
        ("a__b", "1", "a__b: unknown column"),
        ("n__like", "1", "n__like: unknown operator; a column of kind number has exact, not, gt"),
        ("n__", "1", "n__: unknown operator"),
        ("n__contains", "1", "n__contains: unknown operator"),
        ("j__exact", "{}", "j__exact: unknown operator; a column of kind nested has isnull"),
        ("z__gt", "13:45", "z__gt: unknown operator; a column of kind time has isnull"),
        ("n__exact", "abc", "n__exact=abc: expected a number, as the column is of kind number"),
        ("n__exact", "", "expected a number"),
        ("n__exact", "1_000", "expected a number"),
        ("n__exact", "٣", "expected a number"),
        ("n__exact", "0x10", "expected a number"),
        ("n__exact", "1e9999", "expected a number"),
        ("n__exact", "1e" + "9" * 100, "expected a number"),
        ("n__exact", "9" * 401, "expected a number"),
        ("n__in", "1,", "expected values with commas between"),
        ("n__in", "[1, null]", "expected values with commas between"),
        ("n__in", "[" * 5000, "expected values with commas between"),
        ("n__in", "{}", "expected values with commas between"),
        ("t__in", "[1", "expected values with commas between"),
        ("t__in", "[[1]]", "expected values with commas between"),
        ("n__in", ",".join(["1"] * 1001), "at most 1000"),
        ("b__exact", "1", "expected true or false"),
        ("b__isnull", "yes", "expected true or false"),
        ("d__exact", "2026-13-01", "expected a date (2026-01-31), as the column is of kind date"),
        ("d__exact", "2026-02-30", "expected a date"),
        ("d__exact", "2026-01-31T00:00", "expected a date"),
        ("c__exact", "24:00", "expected a time"),
        ("c__exact", "13:45+01:00", "expected a time"),
        ("m__exact", "2026-01-31T13:45:00 01:00", "write %2B"),
        ("m__exact", "2026-01-31T13:45:60Z", "expected a timestamp"),
        ("m__exact", "0001-01-01T00:00+12:00", "expected a timestamp"),
        ("m__exact", "2026-01-31T13:45:00.1234567", "expected a timestamp"),
        ("y__exact", "\\xabc", "expected hex digits"),
    ],
)
def test_what_cannot_be_read_is_a_bad_request_that_says_why(name: str, text: str, said: str) -> None:
    with pytest.raises(BadRequest) as caught:
        read(name, text)
    assert said in str(caught.value)
    assert len(str(caught.value)) < 600


def test_more_filters_than_the_bound_are_a_bad_request() -> None:
    pairs = (("n__gt", "1"),) * 51
    assert len(read_filters(pairs[:50], table, OPEN)) == 50
    with pytest.raises(BadRequest, match="51 filters: expected at most 50"):
        read_filters(pairs, table, OPEN)


def test_a_column_that_may_not_be_read_can_neither_be_filtered_nor_sorted_by() -> None:
    """A filter tells what a column holds."""
    access = AccessPlan("narrow", columns={"table": frozenset({"t"})})
    with pytest.raises(Forbidden, match="it may read t"):
        read_filters((("n__gt", "1"),), table, access)
    with pytest.raises(Forbidden, match="it may read t"):
        check_sort((Sort("n"),), sortable, access)
    with pytest.raises(BadRequest, match=r"there are t$"):
        read_filters((("x__gt", "1"),), table, access)


class Sortable:
    """A dataset that sorts."""

    name = "table"
    columns = COLUMNS
    default_limit = None
    applies = frozenset({"sort"})

    def open(self, selection: Selection) -> Any:
        raise NotImplementedError


sortable = Sortable()


def test_a_sort_names_columns_that_have_an_order_each_once() -> None:
    assert check_sort((Sort("-n"), Sort("n", descending=True)), sortable, OPEN)
    for sort, said in [
        ((Sort("x"),), "sort=x: unknown column"),
        ((Sort("j"),), "nested values have no order"),
        ((Sort("n"), Sort("n", descending=True)), "given twice"),
        ((Sort("n"),) * 51, "51 columns"),
    ]:
        with pytest.raises(BadRequest, match=said):
            check_sort(sort, sortable, OPEN)


def test_a_dataset_that_does_not_sort_refuses_to() -> None:
    with pytest.raises(BadRequest, match="dataset table cannot be sorted"):
        check_sort((Sort("n"),), table, OPEN)


def test_filters_keep_their_order_and_may_be_given_twice() -> None:
    pairs = (("n__gt", "1"), ("n__lt", "5"), ("n__gt", "1"))
    assert read_filters(pairs, table, OPEN) == (
        Filter("n", "gt", 1),
        Filter("n", "lt", 5),
        Filter("n", "gt", 1),
    )
