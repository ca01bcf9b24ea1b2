"""Read the tables and columns of a database that the role may read, and how to select each column.

A column has three forms in SQL. *copied* is for COPY: the column itself, which the server writes fastest, except for
booleans (`t` and `f`) and nested values (`{1,2}`). *text* is the same text as a value of type text. *value* is for
asyncpg to decode (`session.CODECS`): types with an equal in Python unchanged, nested values as JSON, every other type
as text, so that no object of the driver gets into a row.

A database whose encoding is SQL_ASCII holds any bytes as text, and gives none that is not UTF-8 to a client that
expects UTF-8: COPY and values alike end with an error there. So its text is asked for as bytes, and decoded here
where it can be. Every other encoding is converted by the server.
https://www.postgresql.org/docs/current/multibyte.html
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from operator import itemgetter
from typing import Any

from asgi_export.declared import ARROW_TEXT, arrow_of, kind_of
from asgi_export.sources.postgres.driver import Connection
from asgi_export.sources.sql import quoted, text_or_bytes
from asgi_export.table import Column, JsonText

log = logging.getLogger("asgi_export.sources.postgres")

CATALOGUE = """
WITH RECURSIVE resolved(type, base, modifier) AS (
  SELECT oid, oid, NULL::int4 FROM pg_catalog.pg_type
  UNION ALL
  SELECT r.type, t.typbasetype, t.typtypmod
  FROM resolved r JOIN pg_catalog.pg_type t ON t.oid = r.base WHERE t.typtype = 'd'
), with_foreign(relation) AS (
  SELECT i.inhparent FROM pg_catalog.pg_inherits i
  JOIN pg_catalog.pg_class f ON f.oid = i.inhrelid AND f.relkind = 'f'
  UNION
  SELECT i.inhparent FROM pg_catalog.pg_inherits i JOIN with_foreign w ON w.relation = i.inhrelid
)
SELECT n.nspname AS schema, c.relname AS table, c.relkind = 'v' AS view, a.attname AS column,
  CASE WHEN c.relkind NOT IN ('r', 'p', 'm') OR NOT {whole}
      OR c.oid IN (SELECT relation FROM with_foreign) THEN ''
    WHEN c.relhassubclass THEN 'tableoid ctid' ELSE 'ctid' END AS place,
  pg_catalog.format_type(a.atttypid, a.atttypmod) AS type,
  pg_catalog.format_type(b.oid, coalesce(r.modifier, a.atttypmod)) AS resolved,
  CASE WHEN b.typnamespace = 'pg_catalog'::pg_catalog.regnamespace THEN b.typname ELSE '' END AS base,
  b.typtype = 'c' AS composite,
  b.typcategory = 'A' AND b.typelem <> 0 AND b.typlen = -1
    AND b.typname NOT IN ('int2vector', 'oidvector') AS array,
  CASE WHEN l.collprovider = 'b' OR l.collprovider = 'c' AND l.collcollate IN ('C', 'POSIX') THEN 'bytewise'
    WHEN l.collprovider = 'd' AND (d.provider = 'b' OR d.provider = 'c' AND d.datcollate IN ('C', 'POSIX'))
    THEN 'bytewise' WHEN l.collisdeterministic THEN 'deterministic' ELSE '' END AS collation
FROM pg_catalog.pg_class c
JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
JOIN pg_catalog.pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
JOIN resolved r ON r.type = a.atttypid
JOIN pg_catalog.pg_type b ON b.oid = r.base AND b.typtype <> 'd'
JOIN (SELECT datcollate, {provider} AS provider FROM pg_catalog.pg_database
  WHERE datname OPERATOR(pg_catalog.=) pg_catalog.current_database()) d ON true
LEFT JOIN pg_catalog.pg_collation l ON l.oid = a.attcollation
WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f')
  AND n.nspname !~ '^pg_' AND n.nspname <> 'information_schema'
  AND {readable}
ORDER BY n.nspname <> 'public', n.nspname COLLATE "C", c.relname COLLATE "C", a.attnum
"""
"""Tables, partitioned tables, views, materialised views and foreign tables, `public` first; domains are
resolved to what they rest on. `place` names the system columns that a row is found by, for a sort: views and foreign
tables have none, and they need the right to read the whole table. `collation` says what can be compared without
`COLLATE "C"`: everything, equality, or nothing. https://www.postgresql.org/docs/current/catalogs.html"""

OWN_RIGHTS = {
    "{readable}": "pg_catalog.has_schema_privilege(n.oid, 'USAGE')"
    " AND pg_catalog.has_column_privilege(c.oid, a.attnum, 'SELECT')",
    "{whole}": "pg_catalog.has_table_privilege(c.oid, 'SELECT')",
}
"""What the role that has connected may read."""

_MEMBERS = "pg_catalog.pg_roles m WHERE pg_catalog.pg_has_role(m.oid, 'MEMBER')"

RIGHTS_OF_ROLES = {
    "{readable}": f"EXISTS (SELECT FROM {_MEMBERS} AND pg_catalog.has_schema_privilege(m.oid, n.oid, 'USAGE')"
    " AND pg_catalog.has_column_privilege(m.oid, c.oid, a.attnum, 'SELECT'))",
    "{whole}": f"NOT EXISTS (SELECT FROM {_MEMBERS} AND NOT pg_catalog.has_table_privilege(m.oid, c.oid, 'SELECT')"
    " AND pg_catalog.has_any_column_privilege(m.oid, c.oid, 'SELECT'))",
}
"""What any of the roles that it may take can read; the server refuses the others."""

PROVIDERS_FROM = 150000
"""The version from which a database says who provides its collation; before, it was the system."""

SERVER = "SELECT pg_catalog.getdatabaseencoding(), pg_catalog.current_setting('server_version_num')::pg_catalog.int4"

SQL_ASCII = "SQL_ASCII"

AS_BYTES = "pg_catalog.convert_to({0}, 'SQL_ASCII')"
"""The bytes of a text in a database of this encoding, where it converts nothing and refuses nothing."""

_NAMES = ("schema", "table", "column")
_TYPES = ("type", "resolved")

_AS_BYTES = [f"{AS_BYTES.format(f'{quoted(name)}::pg_catalog.text')} AS {quoted(name)}" for name in _NAMES + _TYPES]
CATALOGUE_AS_BYTES = (
    f'SELECT {", ".join(_AS_BYTES)}, view, base, composite, "array", place, "collation" FROM ({CATALOGUE}) catalogue'
)

STAMP = """
SELECT pg_catalog.concat_ws(' ', r.rows, r.digest, m.rows, m.digest) FROM
(SELECT pg_catalog.count(*) AS rows, pg_catalog.sum(pg_catalog.hashtextextended(
    pg_catalog.concat_ws(' ', n.oid, n.xmin, c.oid, c.xmin, a.attnum, a.xmin, t.xmin), 0)) AS digest
  FROM pg_catalog.pg_class c
  JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
  JOIN pg_catalog.pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
  JOIN pg_catalog.pg_type t ON t.oid = a.atttypid
  WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f') AND n.nspname !~ '^pg_' AND n.nspname <> 'information_schema') r,
(SELECT pg_catalog.count(*) AS rows, pg_catalog.sum(pg_catalog.hashtextextended(
    pg_catalog.concat_ws(' ', roleid, member, xmin), 0)) AS digest
  FROM pg_catalog.pg_auth_members) m
"""
"""One text that differs after each change that `CATALOGUE` could show, rights too: every one writes a new version of
a row, under the number of its transaction. A quarter of the work of `CATALOGUE`, 3 µs a column, and no lock but
that of any SELECT. https://www.postgresql.org/docs/current/ddl-system-columns.html"""

NUMBERS = frozenset({"int2", "int4", "int8", "oid", "float4", "float8", "numeric"})

DOCUMENTS = frozenset({"json", "jsonb"})

WITHOUT_TEXT = NUMBERS | {"bool", "bytea", "uuid", "date", "time", "timestamp", "timestamptz"}
"""Base types whose values have no text in the encoding of the database."""

NATIVE = WITHOUT_TEXT | DOCUMENTS | {"text", "varchar", "bpchar", "name"}
"""Base types that asyncpg, with the codecs of `session`, gives as the value that is equal."""

TEXTUAL = frozenset({"money"})
"""Base types that are another in other databases, or have another name there."""

COMPOSITE_JSON = "pg_catalog.to_json({0})"

ARRAY_JSON = (
    "CASE WHEN pg_catalog.array_ndims({0}) OPERATOR(pg_catalog.=) 1"
    " AND pg_catalog.array_lower({0}, 1) OPERATOR(pg_catalog.=) 1 THEN pg_catalog.to_json({0})"
    " WHEN pg_catalog.array_dims({0}) OPERATOR(pg_catalog.!~) '^([[]1:[0-9]+[]])+$'"
    " THEN pg_catalog.to_json({0}::pg_catalog.text) ELSE pg_catalog.to_json({0}) END"
)
"""JSON has no lower bounds, so an array whose bounds are not 1 is the text of PostgreSQL: `[0:1]={1,2}`."""

AS_TEXT = "{0}::pg_catalog.text"

TEXT_FORMS = {
    # the casts of these to text differ from their output
    "inet": "pg_catalog.textin(pg_catalog.inet_out({0}))",
    "bpchar": "pg_catalog.textin(pg_catalog.bpcharout({0}))",
}


@dataclass(frozen=True, slots=True)
class Form:
    """An expression in SQL; `decode` makes the value of what asyncpg gives for it, unless that is a null."""

    sql: str
    decode: Callable[[bytes], Any] | None = None


@dataclass(frozen=True, slots=True)
class Comparison:
    """How a column compares: its name in SQL, its base type in pg_catalog (else empty), and its exported text.

    `collation` is that of the column: as `bytewise`, as no more than `deterministic`, or neither, which is empty.
    """

    name: str
    base: str
    text: str
    collation: str
    composite: bool


@dataclass(frozen=True, slots=True)
class ColumnForms:
    """One column and its forms in SQL."""

    column: Column
    copied: str
    text: Form
    value: Form
    number: bool
    comparison: Comparison


@dataclass(frozen=True, slots=True)
class Server:
    """The encoding of the database, and the version of the server as a number: 170002."""

    encoding: str
    version: int


@dataclass(frozen=True, slots=True)
class Relation:
    """One table, view or query; `sql` is its quoted, qualified name or a query in brackets.

    `server` says what the database is; `place` are the system columns that order rows as they are stored, none for a
    view and a query.
    """

    name: str
    sql: str
    view: bool
    columns: tuple[ColumnForms, ...]
    server: Server
    place: tuple[str, ...] = ()
    is_query: bool = False


async def read_catalogue(connection: Connection, rights: Mapping[str, str] = OWN_RIGHTS) -> tuple[Relation, ...]:
    """Read every relation outside the system schemas with a column that may be read, `public` first.

    A relation is named SCHEMA.TABLE, in `public` TABLE. If two get the same name, by a dot in one of them, the later
    is skipped with a warning; so is a name that is not UTF-8. Raises errors of asyncpg.
    """
    server = await read_server(connection)
    provider = "datlocprovider" if server.version >= PROVIDERS_FROM else "'c'"
    sql = CATALOGUE_AS_BYTES if server.encoding == SQL_ASCII else CATALOGUE
    for mark, condition in {**rights, "{provider}": provider}.items():
        sql = sql.replace(mark, condition)
    rows = await connection.fetch(sql)
    return await asyncio.to_thread(_relations, rows, server)


async def read_server(connection: Connection) -> Server:
    """Read what the database is. Raises errors of asyncpg."""
    return Server(*await connection.fetchrow(SERVER))


async def read_stamp(connection: Connection) -> str:
    """Read a stamp that changes whenever the result of a later `read_catalogue` may. Raises errors of asyncpg."""
    stamp: str = await connection.fetchval(STAMP)
    return stamp


def _relations(rows: Sequence[Any], server: Server) -> tuple[Relation, ...]:
    relations: dict[str, Relation] = {}
    as_bytes = server.encoding == SQL_ASCII
    by_relation = groupby(_named(rows) if as_bytes else rows, itemgetter("schema", "table", "view", "place"))
    for (schema, table, view, place), columns in by_relation:
        name = table if schema == "public" else f"{schema}.{table}"
        sql = f"{quoted(schema)}.{quoted(table)}"
        if name in relations:
            log.warning("%s is left out: %s is already called %r", sql, relations[name].sql, name)
            continue
        forms = tuple(column_forms(row, as_bytes=as_bytes) for row in columns)
        relations[name] = Relation(name, sql, view, forms, server, tuple(place.split()))
    return tuple(relations.values())


def _named(rows: Iterable[Any]) -> Iterator[dict[str, Any]]:
    """Convert rows of `CATALOGUE_AS_BYTES` to those of `CATALOGUE`, without the columns that no statement can name.

    asyncpg sends statements as UTF-8.
    """
    left_out = []
    for row in rows:
        names = {name: text_or_bytes(row[name]) for name in _NAMES}
        if all(isinstance(name, str) for name in names.values()):
            yield {**row, **names, **{name: row[name].decode(errors="backslashreplace") for name in _TYPES}}
        else:
            left_out.append(".".join([row[name].decode(errors="backslashreplace") for name in _NAMES]))
    if left_out:
        reason = "its name, or that of its table or schema, is not UTF-8"
        log.warning("%d columns are left out: of the first, %s, %s", len(left_out), left_out[0], reason)


def column_forms(row: Any, *, as_bytes: bool) -> ColumnForms:
    """Make the forms of a column from a row of `CATALOGUE`; `as_bytes` if the database's encoding is SQL_ASCII."""
    name, base = quoted(row["column"]), row["base"]
    as_json = _json(row, name)
    as_text = f"({as_json})::pg_catalog.text" if as_json else TEXT_FORMS.get(base, AS_TEXT).format(name)
    text, value = Form(as_text), Form(as_json or (name if base in NATIVE else as_text))
    if as_bytes:
        text = Form(AS_BYTES.format(as_text), text_or_bytes)
    if as_bytes and base not in WITHOUT_TEXT:
        value = Form(text.sql, _json_or_bytes if as_json or base in DOCUMENTS else text_or_bytes)
    return ColumnForms(
        _column(row),
        copied=as_text if base == "bool" else as_json or name,
        text=text,
        value=value,
        number=base in NUMBERS,
        comparison=Comparison(name, base, as_text, row["collation"], row["composite"]),
    )


def _json_or_bytes(value: bytes) -> JsonText | bytes:
    found = text_or_bytes(value)
    return JsonText(found) if isinstance(found, str) else found


def _column(row: Any) -> Column:
    """Make a column with the kind of its base type: for a domain over numeric(10,2) that is numeric(10,2)."""
    resolved = "" if row["base"] in TEXTUAL else row["resolved"] if row["base"] else ""
    if row["array"] or row["composite"]:
        return Column(row["column"], row["type"], "nested", ARROW_TEXT)
    return Column(row["column"], row["type"], kind_of(resolved), arrow_of(resolved))


def _json(row: Any, name: str) -> str:
    """Return the SQL of a nested value as JSON; empty for every other type."""
    form = ARRAY_JSON if row["array"] else COMPOSITE_JSON if row["composite"] else ""
    return form.format(name)
