"""An operator's query as a relation: its columns are found by preparing it, and it runs as a subquery.

Arguments are literals of their parameter's type, as values of filters are.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from asgi_export.errors import BadRequest
from asgi_export.sources.postgres.catalogue import SQL_ASCII, Relation, column_forms, read_server
from asgi_export.sources.postgres.driver import Connection, refusal
from asgi_export.sources.postgres.literals import is_text, typed
from asgi_export.sources.query_text import POSTGRES, QueryText, parse_query
from asgi_export.table import ParameterType, Query, Scalar

_TYPES: Mapping[ParameterType, str] = {
    "integer": "int8",
    "number": "numeric",
    "text": "text",
    "boolean": "bool",
    "date": "date",
    "time": "time",
    "timestamp": "timestamptz",
    "bytes": "bytea",
}

TYPES = """
SELECT t.oid, pg_catalog.format_type(t.oid, NULL) AS type,
  CASE WHEN t.typnamespace = 'pg_catalog'::pg_catalog.regnamespace THEN t.typname ELSE '' END AS base,
  t.typtype = 'c' AS composite,
  t.typcategory = 'A' AND t.typelem <> 0 AND t.typlen = -1
    AND t.typname NOT IN ('int2vector', 'oidvector') AS array
FROM pg_catalog.pg_type t WHERE t.oid = ANY ($1::pg_catalog.oid[])
"""
"""What `catalogue.CATALOGUE` says of types; a server describes a result by the types that domains rest on."""


@dataclass(frozen=True, slots=True)
class PreparedQuery:
    """A query, its SQL cut at its parameters, and its result as a relation that has no SQL yet."""

    query: Query
    text: QueryText
    result: Relation

    def relation(self, arguments: Mapping[str, Scalar]) -> Relation:
        """Return the relation for arguments. Raises `BadRequest` for text that no database holds."""
        literals = {
            found.name: _literal(found.name, _TYPES[found.type], arguments[found.name])
            for found in self.query.parameters
        }
        return replace(self.result, sql=_subquery(self.text.sql(literals.__getitem__)))


async def prepare_query(connection: Connection, query: Query) -> PreparedQuery:
    """Prepare a query, alone and as a subquery, in the open transaction, which goes on if this fails.

    Raises `ValueError` if it is no single SELECT whose columns have names, and what asyncpg raises.
    """
    await connection.execute("SAVEPOINT query")
    try:
        found = await _prepare(connection, query)
    except refusal():
        await connection.execute("ROLLBACK TO SAVEPOINT query")
        raise
    await connection.execute("RELEASE SAVEPOINT query")
    return found


async def _prepare(connection: Connection, query: Query) -> PreparedQuery:
    server = await read_server(connection)
    text = parse_query(query.sql, [found.name for found in query.parameters], POSTGRES)
    places = {
        found.name: f"(${place}::pg_catalog.{_TYPES[found.type]})" for place, found in enumerate(query.parameters, 1)
    }
    sql = text.sql(places.__getitem__)
    await connection.prepare(sql)
    statement = await connection.prepare(f"SELECT * FROM {_subquery(sql)} AS result")
    attributes = statement.get_attributes()
    names = [found.name for found in attributes]
    for name in names:
        if names.count(name) > 1:
            raise ValueError(f"two columns are called {name!r}; expected another name by AS")
    if not names:
        raise ValueError("it has no columns; expected one")
    rows = await connection.fetch(TYPES, list({found.type.oid for found in attributes}))
    types = {row["oid"]: {**row, "resolved": row["type"], "collation": ""} for row in rows}
    as_bytes = server.encoding == SQL_ASCII
    forms = [column_forms({**types[found.type.oid], "column": found.name}, as_bytes=as_bytes) for found in attributes]
    return PreparedQuery(query, text, Relation(query.name, "", True, tuple(forms), server, is_query=True))


def _subquery(sql: str) -> str:
    return f"(\n{sql}\n)"  # the SQL may end with a comment


def _literal(name: str, base: str, value: Scalar) -> str:
    if isinstance(value, str) and not is_text(value):
        raise BadRequest(f"{name}: expected text without NUL and surrogates")
    return f"({typed(value, base)})"
