"""Rights by row: which values of claims and literals become which filters, and what cannot be applied."""

from __future__ import annotations

import enum
import logging
import math
from collections.abc import Iterator
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

import numpy as np
import pytest

from asgi_export import AccessPlan, Caller, Column, Selection, dataset
from asgi_export.access.plans import OPEN
from asgi_export.errors import Forbidden
from asgi_export.export.row_rights import MAX_VALUES, row_filters
from asgi_export.table import Filter

COLUMNS = [
    Column("n", "integer"),
    Column("t", "text"),
    Column("b", "boolean"),
    Column("d", "date"),
    Column("m", "timestamp"),
    Column("y", "bytea"),
    Column("j", "jsonb"),
]


@dataset(columns=COLUMNS)
def table(selection: Selection) -> Iterator[tuple[Any, ...]]:
    return iter(())


def filters(rights: dict[str, Any], claims: dict[str, Any] | None = None) -> tuple[Filter, ...]:
    caller = None if claims is None else Caller("alice", "basic", claims)
    return row_filters(table, AccessPlan("basic", rows={"table": rights}), caller)


class Tenant(enum.StrEnum):
    NORTH = "north"


U = UUID("c0ffee00-0000-4000-8000-000000000001")


@pytest.mark.parametrize(
    ("column", "claim", "value"),
    [
        ("n", 42, 42),
        ("n", "42", 42),
        ("n", 0, 0),
        ("n", 1.0, Decimal("1.0")),
        ("n", 0.1, Decimal("0.1")),
        ("n", Decimal("1.50"), Decimal("1.50")),
        ("n", 2**64, 2**64),
        ("n", np.int64(7), 7),
        ("n", [7], 7),
        ("t", "north", "north"),
        ("t", " ", " "),
        ("t", 42, "42"),
        ("t", 1.5, "1.5"),
        ("t", True, "true"),
        ("t", "$tenant", "$tenant"),
        ("t", Tenant.NORTH, "north"),
        ("t", U, str(U)),
        ("b", True, True),
        ("b", "false", False),
        ("d", "2026-01-31", date(2026, 1, 31)),
        ("d", date(2026, 1, 31), date(2026, 1, 31)),
        ("m", "2026-01-31T13:45+01:00", datetime(2026, 1, 31, 12, 45, tzinfo=UTC)),
        ("m", date(2026, 1, 31), datetime(2026, 1, 31, tzinfo=UTC)),
        ("y", "00ff", b"\x00\xff"),
    ],
)
def test_a_claim_becomes_a_value_of_the_column_s_kind(column: str, claim: object, value: object) -> None:
    (found,) = filters({column: "$x"}, {"x": claim})
    assert found == Filter(column, "exact", value)  # type: ignore[arg-type]
    assert type(found.value) is type(value)


@pytest.mark.parametrize(
    ("column", "claim", "values"),
    [
        ("n", [1, "2", 1], (1, 2)),
        ("n", (2, 1), (2, 1)),
        ("n", {2, 10}, (10, 2)),
        ("t", [1, "a", "", None, [2], {"b": 1}], ("1", "a")),
        ("n", [1, "abc", 2], (1, 2)),
        ("b", [True, False], (True, False)),
    ],
)
def test_a_list_means_one_of_its_values_that_the_column_can_have(
    column: str, claim: object, values: tuple[Any, ...]
) -> None:
    assert filters({column: "$x"}, {"x": claim}) == (Filter(column, "in", values),)


NONE: dict[str, list[Any]] = {
    "n": [None, "", [], [""], [None], {}, "abc", True, [[1]], b"1", object(), " 1", "1_0", "٣", "1e9999", "9" * 401],
    "t": [None, "", [], {"a": 1}, {}, "\ud800", ["\ud800"], object(), b"a"],
    "b": [1, 0, "1", "True"],
    "d": ["2026-02-30", "2026-01-31T00:00", 20260131, datetime(2026, 1, 31, tzinfo=UTC)],
    "m": ["0001-01-01T00:00+12:00", 1],
    "j": ["{}", {}, 1, "true", None],
}
"""Columns, and claims that are empty or of another kind."""


@pytest.mark.parametrize(
    ("column", "claims"),
    [
        *[(column, {"x": claim}) for column, claims in NONE.items() for claim in claims],
        ("n", None),
        ("n", {}),
        ("n", {"X": 42}),
    ],
)
def test_a_claim_that_is_missing_empty_or_of_another_kind_allows_no_row(
    column: str, claims: dict[str, Any] | None
) -> None:
    assert filters({column: "$x"}, claims) == (Filter(column, "in", ()),)


def test_literals_are_values_and_two_marks_are_one() -> None:
    rights = {"n": [1, 2.5], "t": "$$x", "b": True, "d": date(2026, 1, 31)}
    assert filters(rights, {"x": "y"}) == (
        Filter("n", "in", (1, Decimal("2.5"))),
        Filter("t", "exact", "$x"),
        Filter("b", "exact", value=True),
        Filter("d", "exact", date(2026, 1, 31)),
    )
    assert filters({"t": ["$$", ""]}) == (Filter("t", "in", ("$", "")),)
    assert filters({"t": ""}) == (Filter("t", "exact", ""),)
    assert filters({"n": "abc"}) == (Filter("n", "in", ()),)


def test_numbers_that_are_none_are_compared_as_such() -> None:
    (found,) = filters({"n": "$x"}, {"x": math.inf})
    assert found == Filter("n", "exact", math.inf)


def test_other_datasets_and_callers_without_a_plan_are_not_narrowed() -> None:
    assert row_filters(table, OPEN, None) == ()
    assert row_filters(table, AccessPlan("basic", rows={"other": {"n": 1}}), None) == ()


def test_a_column_that_is_not_there_is_refused_and_logged(caplog: pytest.LogCaptureFixture) -> None:
    """It may be gone since a migration: all rows would be the worst answer."""
    with pytest.raises(Forbidden) as caught:
        filters({"n": 1, "gone": "$x"}, {"x": 1})
    assert str(caught.value) == "dataset=table: this key may not read it now; the log has the reason"
    (record,) = caplog.records
    assert record.levelno == logging.ERROR
    assert record.getMessage() == (
        "plan basic: rows of table: there is no column 'gone'; nobody may read it by this plan"
    )


def test_more_values_than_a_statement_can_have_are_refused(caplog: pytest.LogCaptureFixture) -> None:
    half = list(range(MAX_VALUES // 2))
    assert filters({"n": "$x", "t": "$x"}, {"x": half})
    with pytest.raises(Forbidden):
        filters({"n": "$x", "t": "$x"}, {"x": [*half, "one more"]})
    assert "a caller has more than 10000 values" in caplog.text


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        ([], "rows=[]: expected a table of tables"),
        ({"orders": 3}, "rows.orders=3: expected a table such as"),
        ({"orders": {}}, "rows.orders={}: expected a table such as"),
        ({"order": {"n": 1}}, "rows.order: expected one of the plan's datasets"),
        ({"orders": {"n": "$"}}, "rows.orders.n='$': expected text, a number, a boolean, a list of them, or a claim"),
        ({"orders": {"n": None}}, "rows.orders.n=None: expected text"),
        ({"orders": {"n": {"a": 1}}}, "rows.orders.n={'a': 1}: expected text"),
        ({"orders": {"n": ["$tenant"]}}, "rows.orders.n=['$tenant']: expected text"),
        ({"orders": {"n": [[1]]}}, "rows.orders.n=[[1]]: expected text"),
    ],
)
def test_a_plan_with_a_right_that_cannot_be_read_is_an_error(rows: Any, said: str) -> None:
    with pytest.raises(ValueError, match="rows") as caught:
        AccessPlan("basic", datasets=frozenset({"orders"}), rows=rows)
    assert str(caught.value).startswith(said)
