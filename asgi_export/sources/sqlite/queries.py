"""An operator's query as a relation: its columns are found by a temporary view, and it runs as a subquery.

A view is one SELECT, WITH or VALUES that reads, and SQLite knows the declared types of its columns if they come
straight from a table. A view has no parameters, so they are NULL in it.
"""

from __future__ import annotations

import math
import sqlite3
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, datetime, time
from decimal import Decimal
from typing import Any

from asgi_export.errors import BadRequest
from asgi_export.sources.query_text import SQLITE, QueryText, parse_query
from asgi_export.sources.sql import quoted
from asgi_export.sources.sqlite.catalogue import Relation, read_columns
from asgi_export.table import Query, Scalar
from asgi_export.values.fitting import nearest_double

VIEW = "asgi_export_query"


@dataclass(frozen=True, slots=True)
class PreparedQuery:
    """A query, and its result as a relation."""

    query: Query
    relation: Relation

    def values(self, arguments: Mapping[str, Scalar]) -> Mapping[str, Any]:
        """Return the values to bind, by the names of their parameters. Raises `BadRequest` for one SQLite has not."""
        return {_bound(found.name): _value(found.name, arguments[found.name]) for found in self.query.parameters}


def prepare_query(connection: sqlite3.Connection, query: Query) -> PreparedQuery:
    """Prepare a query on a connection of its own, on which a temporary view may be made.

    Raises `ValueError` and `sqlite3.Error` if it is no single SELECT whose columns have names.
    """
    text = parse_query(query.sql, [found.name for found in query.parameters], SQLITE)
    connection.execute(f"CREATE TEMP VIEW {VIEW} AS\n{text.sql(lambda _: 'NULL')}\n").close()
    try:
        columns = read_columns(connection, VIEW, schema="temp")
    finally:
        connection.execute(f"DROP VIEW temp.{VIEW}").close()
    names = [column.name for column in columns]
    for name in names:
        first, colon, number = name.rpartition(":")
        if colon and number.isdigit() and first in names:  # as SQLite calls the second of two
            raise ValueError(f"two columns are called {first!r}; expected another name by AS")
    relation = Relation(query.name, columns, stored=False, by_rowid=False, view=True, subquery=_subquery(text))
    _expect_result(connection, query, relation)
    return PreparedQuery(query, relation)


def _expect_result(connection: sqlite3.Connection, query: Query, relation: Relation) -> None:
    """Raise the error that an export would: the names of columns without AS are SQLite's own affair."""
    table = quoted(relation.name)
    names = ", ".join([f"{table}.{quoted(column.name)}" for column in relation.columns])
    nulls = {_bound(found.name): None for found in query.parameters}
    connection.execute(f"SELECT {names} FROM {relation.subquery} AS {table} LIMIT 0", nulls).close()


def _subquery(text: QueryText) -> str:
    return f"(\n{text.sql(lambda name: ':' + _bound(name))}\n)"  # the SQL may end with a comment


def _bound(name: str) -> str:
    return f"argument_{name}"


def _value(name: str, value: Scalar) -> Any:
    """Return what SQLite holds of a value: dates and times as text, as its own functions write them."""
    if isinstance(value, str):
        return _text(name, value)
    if isinstance(value, datetime):
        return value.replace(tzinfo=None).isoformat(" ")
    if isinstance(value, date | time):
        return value.isoformat()
    if isinstance(value, int | float | Decimal):
        return _number(name, value)
    return value


def _text(name: str, text: str) -> str:
    if any("\ud800" <= character <= "\udfff" for character in text):
        raise BadRequest(f"{name}: expected text without surrogates")
    return text


def _number(name: str, number: float | Decimal) -> float:
    if isinstance(number, int) and -(2**63) <= number < 2**63:
        return int(number)
    double = nearest_double(number)
    if math.isnan(double):
        raise BadRequest(f"{name}: expected a number, as SQLite has no NaN")
    return double
