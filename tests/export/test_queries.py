"""Queries of the settings file, and their arguments in a request."""

from __future__ import annotations

import tomllib
from datetime import date
from typing import Any

import pytest

from asgi_export import Query, QueryParameter
from asgi_export.errors import BadRequest
from asgi_export.export.queries import read_arguments, read_queries

ORDERS = """
[queries.orders_by_day]
source = "shop"
sql = "SELECT id FROM orders WHERE day >= :since AND day < :until AND id > :low"
description = "Orders of a span of days"
[queries.orders_by_day.parameters]
since = "date"
until = { type = "date", default = 2100-01-01 }
low = { type = "integer", default = 0 }
"""


class Orders:
    """A dataset that is a query."""

    name = "orders_by_day"
    columns = ()
    default_limit = None
    query = Query(
        "orders_by_day",
        "SELECT 1",
        (QueryParameter("since", "date"), QueryParameter("low", "integer", 0), QueryParameter("t", "text", "")),
    )

    def open(self, selection: Any) -> Any:
        raise NotImplementedError


class Table(Orders):
    """A dataset that is none."""

    query = None  # type: ignore[assignment]


def read(text: str) -> Any:
    return read_queries(tomllib.loads(text)["queries"])


def test_a_query_is_read_with_typed_parameters_and_defaults() -> None:
    (found,) = read(ORDERS)
    assert found.source == "shop"
    assert found.query.description == "Orders of a span of days"
    assert found.query.parameters == (
        QueryParameter("since", "date"),
        QueryParameter("until", "date", date(2100, 1, 1)),
        QueryParameter("low", "integer", 0),
    )


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("queries = 1", "expected tables"),
        ("[queries]\na = 1", "expected tables"),
        ("[queries.a]\nsql = 1", "queries.a.sql=1: expected text"),
        ("[queries.a]\nsource = 'b'", "queries.a.sql: expected a SELECT"),
        ("[queries.a]\nsql = 'SELECT 1'\nsql_ = ''", "queries.a.sql_: unknown"),
        ("[queries.a]\nsql = 'SELECT 1'\nparameters = []", "queries.a.parameters: expected a table"),
        (
            "[queries.a]\nsql = 'SELECT 1'\nparameters = { p = 'dat' }",
            "queries.a.parameters.p: expected one of integer",
        ),
        (
            "[queries.a]\nsql = 'SELECT 1'\nparameters = { p = { type = 'date', x = 1 } }",
            "parameters.p: expected one of",
        ),
        ("[queries.a]\nsql = 'SELECT 1'\nparameters = { total = 'date' }", "no parameter of every export"),
        ("[queries.a]\nsql = 'SELECT 1'\nparameters = { a__b = 'date' }", "no parameter of every export"),
        (
            "[queries.a]\nsql = 'SELECT 1'\nparameters = { p = { type = 'date', default = 1 } }",
            "p.default: expected a date",
        ),
        ("[queries.a]\nsql = 'SELECT 1'\nparameters = { p = { type = 'integer', default = 1.5 } }", "whole number"),
    ],
)
def test_a_query_that_cannot_be_read_says_where_and_why(text: str, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        read(text)


def test_arguments_are_typed_and_defaults_fill_in() -> None:
    found = read_arguments((("since", "2026-01-31"), ("t", "a'b")), Orders())
    assert found == {"since": date(2026, 1, 31), "low": 0, "t": "a'b"}


@pytest.mark.parametrize(
    ("pairs", "said"),
    [
        ((), "since: missing; orders_by_day needs since, a date"),
        ((("since", "x"),), "since=x: expected a date"),
        ((("since", "2026-01-31"), ("since", "2026-01-31")), "given twice"),
        ((("since", "2026-01-31"), ("low", "1.5")), "low=1.5: expected a whole number of 64 bits"),
        ((("since", "2026-01-31"), ("low", str(2**63))), "expected a whole number of 64 bits"),
        (
            (("since", "2026-01-31"), ("x", "1")),
            "x: unknown parameter; expected one of columns, .*, since, low, t, or",
        ),
    ],
)
def test_arguments_that_do_not_fit_are_bad_requests(pairs: tuple[tuple[str, str], ...], said: str) -> None:
    with pytest.raises(BadRequest, match=said):
        read_arguments(pairs, Orders())


def test_a_table_has_no_arguments() -> None:
    with pytest.raises(BadRequest, match="since: unknown parameter"):
        read_arguments((("since", "1"),), Table())
    assert read_arguments((), Table()) == {}
