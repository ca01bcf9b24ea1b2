"""Write the SELECT of an export: columns, filters, sort, and the table's own order.

Without filters and sort the statement is fixed. With filters an index may find the rows, but it finds them in its own
order. If the plan says so, their rowids are collected first, and the rows are read in the order of these:
`WHERE rowid IN (SELECT rowid …)`. Collecting costs more than reading the table where most rows match, so it is given
up after a number of steps that is small beside those of a scan, and the table is scanned.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from asgi_export.sources.sql import quoted
from asgi_export.sources.sqlite.bindings import Bindings
from asgi_export.sources.sqlite.catalogue import Relation
from asgi_export.sources.sqlite.conditions import Place, condition
from asgi_export.sources.sqlite.keys import code_point_key, time_key, timestamp_key
from asgi_export.table import Column, Selection, Sort

ALL_ROWS = -1
"""A negative LIMIT is none. https://www.sqlite.org/lang_select.html#limitoffset"""

MOST_ROWS_IN_SQL = 2**63 - 1

STEPS_A_ROW = 1
"""How far an index is followed before the table is scanned instead: so many steps of SQLite's machine for each row of
the table. A row that an index finds takes six steps or more, so this is a sixth of the table at most."""

LEAST_STEPS = 1_000_000


@dataclass(frozen=True, slots=True)
class Statement:
    """A statement and its values. If `steps` is not None, it is replaced by `instead` if it takes more than these
    before its first row.
    """

    sql: str
    values: Sequence[Any] | Mapping[str, Any]
    steps: int | None = None
    instead: str = ""


@dataclass(frozen=True, slots=True)
class Question:
    """What is selected of a relation; `prepare` writes the statement for a connection.

    `arguments` are those of a query, by the names of their parameters.
    """

    relation: Relation
    selection: Selection
    arguments: Mapping[str, Any] = field(default_factory=dict)

    @property
    def plain(self) -> bool:
        """Whether there is neither a filter nor a sort."""
        return not self.selection.filters and not self.selection.sort

    @property
    def limit(self) -> int:
        """The limit in SQL."""
        wanted = self.selection.limit
        return ALL_ROWS if wanted is None else min(wanted, MOST_ROWS_IN_SQL)

    def prepare(self, connection: sqlite3.Connection) -> Statement:
        """Return the statement; functions that it needs are registered on the connection. Raises `sqlite3.Error`."""
        select = _select(self.relation, self.selection.columns)
        if self.plain and not self.relation.subquery:
            return Statement(
                f"{select}{_in_own_order(self.relation, self.selection.columns)} LIMIT ?1", (self.limit,)
            )
        bindings = Bindings(connection, self.arguments)
        limit = bindings.bind(self.limit)
        where = _where(self.relation, self.selection, limit, bindings)
        limit = f"LIMIT {limit}"
        if self.selection.sort or not self.relation.row_id:
            order = _order_by(self.relation, self.selection.sort, bindings)
            return Statement(f"{select}{where}{order} {limit}", bindings.values)
        return _in_order_of_rowids(self.relation, select, where, limit, bindings, connection)


def _select(relation: Relation, columns: Sequence[str]) -> str:
    """Return the statement, every column qualified by its table.

    SQLite reads an unknown name in double quotes as a text literal; a qualified one is an error. So a column
    that was dropped after the start cannot turn into its own name, a million times.
    """
    table = quoted(relation.name)
    names = ", ".join(f"{table}.{quoted(column)}" for column in columns)
    return f"SELECT {names} FROM {f'{relation.subquery} AS ' if relation.subquery else 'main.'}{table}"


def _in_own_order(relation: Relation, columns: Sequence[str]) -> str:
    """Return a clause that keeps SQLite from reading an index with all selected columns, in the order of that index.

    A table with rowids is scanned as it lies; a WITHOUT ROWID table ignores NOT INDEXED, and in a view it says
    nothing of the tables below: there a condition names the other columns.
    https://www.sqlite.org/lang_indexedby.html
    """
    if relation.by_rowid:
        return " NOT INDEXED"
    condition = _of_all_columns(relation, columns, "?1")
    return f" WHERE {condition}" if condition else ""


def _of_all_columns(relation: Relation, columns: Sequence[str], limit: str) -> str:
    """Return a condition that names the other columns, and is decided before any of them is read.

    The limit is not 0 where there is a row to decide on.
    """
    asked = set(columns)
    unasked = [column.name for column in relation.columns if column.name not in asked]
    others = [f"{quoted(relation.name)}.{quoted(name)}" for name in unasked]
    return f"{limit} OR {limit} IN ({', '.join(others)})" if others else ""


def _where(relation: Relation, selection: Selection, limit: str, bindings: Bindings) -> str:
    """Return the filters; where the order of the rows is not known, also what keeps it.

    A query without filters keeps the order that it has with all columns, as a view does.
    """
    known = relation.view or bool(relation.order)
    keeps_order = not known or (bool(relation.subquery) and not selection.filters and not selection.sort)
    conditions = [
        condition(found, _place(relation, found.column, indexed=known), bindings) for found in selection.filters
    ]
    if keeps_order and not relation.by_rowid and (own := _of_all_columns(relation, selection.columns, limit)):
        conditions.insert(0, f"({own})")
    hint = "" if known or not relation.by_rowid else " NOT INDEXED"
    return f"{hint} WHERE {' AND '.join(conditions)}" if conditions else hint


def _place(relation: Relation, name: str, *, indexed: bool) -> Place:
    column = next(column for column in relation.columns if column.name == name)
    full_name = f"{quoted(relation.name)}.{quoted(name)}"
    return Place(column, full_name, relation.stored, _has_text_affinity(column.type), indexed)


def _has_text_affinity(declared: str) -> bool:
    """https://www.sqlite.org/datatype3.html §3.1"""
    upper = declared.upper()
    return "INT" not in upper and any(word in upper for word in ("CHAR", "CLOB", "TEXT"))


# Order


def _order_by(relation: Relation, sort: Sequence[Sort], bindings: Bindings) -> str:
    columns = {column.name: column for column in relation.columns}
    terms = [term for found in sort for term in _sort_terms(relation, columns[found.column], found, bindings)]
    terms += relation.order
    return f" ORDER BY {', '.join(terms)}" if terms else ""


def _sort_terms(relation: Relation, column: Column, sort: Sort, bindings: Bindings) -> Iterator[str]:
    """Numbers come before text, text before bytes, the other way round if descending; nulls last.

    Values that are no timestamp or time come after those that are, in both directions.
    """
    name = f"{quoted(relation.name)}.{quoted(column.name)}"
    if column.kind in ("timestamp", "time"):
        make = timestamp_key if column.kind == "timestamp" else time_key
        yield _sort_term(make(name, bindings), sort)
        yield f"{name} IS NULL"
        return
    if bindings.utf_16:
        yield f"{name} IS NULL"
        yield _sort_term(f"CASE typeof({name}) WHEN 'text' THEN 1 WHEN 'blob' THEN 2 ELSE 0 END", sort)
        yield _sort_term(f"coalesce({code_point_key(name, bindings)}, {name})", sort)
        return
    yield _sort_term(f"{name} COLLATE BINARY", sort)


def _sort_term(expression: str, sort: Sort) -> str:
    """Nulls are less than all values in SQLite, so descending they are last."""
    if sort.descending:
        return f"{expression} DESC"
    if sqlite3.sqlite_version_info >= (3, 30):
        return f"{expression} ASC NULLS LAST"
    return f"({expression}) IS NULL, {expression}"


# The table's own order


def _in_order_of_rowids(
    relation: Relation, select: str, where: str, limit: str, bindings: Bindings, connection: sqlite3.Connection
) -> Statement:
    order = f" ORDER BY {relation.order[0]}"
    scan = f"{select} NOT INDEXED{where}{order} {limit}"
    rowids = f"SELECT {relation.row_id} FROM main.{quoted(relation.name)}{where}"
    if not _searches_an_index(_plan(connection, rowids, bindings.values)):
        return Statement(scan, bindings.values)
    streamed = f"{select}{where}{order} {limit}"
    plan = _plan(connection, streamed, bindings.values)
    if _searches_an_index(plan) and not any(step.startswith("USE TEMP B-TREE") for step in plan):
        return Statement(streamed, bindings.values)
    collected = f"{select} WHERE {relation.order[0]} IN ({rowids}){order} {limit}"
    return Statement(collected, bindings.values, _steps(relation, connection), scan)


def _plan(connection: sqlite3.Connection, sql: str, values: Mapping[str, Any]) -> list[str]:
    """Return the steps of the plan. https://www.sqlite.org/eqp.html"""
    with _raw_text(connection):
        return [step.decode(errors="replace") for *_, step in connection.execute(f"EXPLAIN QUERY PLAN {sql}", values)]


@contextmanager
def _raw_text(connection: sqlite3.Connection) -> Iterator[None]:
    """Names of indexes may be any bytes."""
    before, connection.text_factory = connection.text_factory, bytes
    try:
        yield
    finally:
        connection.text_factory = before


def _searches_an_index(plan: Sequence[str]) -> bool:
    return any(step.startswith("SEARCH ") and "INTEGER PRIMARY KEY" not in step for step in plan)


def _steps(relation: Relation, connection: sqlite3.Connection) -> int:
    """The largest rowid says how many rows there are at most, and costs nothing."""
    (most,) = connection.execute(f"SELECT max({relation.row_id}) FROM main.{quoted(relation.name)}").fetchone()
    return max(LEAST_STEPS, STEPS_A_ROW * (most or 0))
