"""Read the tables and views of a SQLite file and their columns from its schema.

The schema is untrusted input: names contain any character, views may name missing tables, virtual tables may need a
missing module. What cannot be read is skipped with a warning.
"""

from __future__ import annotations

import logging
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from typing import Literal, TypeAlias

from asgi_export.declared import ARROW_TEXT, BYTES, FLOATS, INTEGERS, arrow_of, kind_of, parse
from asgi_export.sources.sql import quoted, text_or_bytes
from asgi_export.table import Column

log = logging.getLogger("asgi_export.sources.sqlite")

Kind: TypeAlias = Literal["table", "view"]

SCHEMA = r"""
SELECT type, name, sql LIKE 'CREATE VIRTUAL%' FROM main.sqlite_master
WHERE type IN ('table', 'view') AND name NOT LIKE 'sqlite\_%' ESCAPE '\' ORDER BY rowid
"""
"""`sqlite_master` is the name that every version of SQLite knows; the order is that of creation."""

HIDDEN = 1
"""`hidden` of `PRAGMA table_xinfo`: a virtual table's hidden column. 2 and 3 are generated columns: data."""


ROW_ID = ("rowid", "_rowid_", "oid")
COLLATIONS = frozenset({"BINARY", "NOCASE", "RTRIM"})

_STORED = {name: arrow_of(name) for name in INTEGERS | FLOATS | BYTES}
"""The declared types that say what is stored; of every other type a value may be of any storage class."""


@dataclass(frozen=True, slots=True)
class Relation:
    """One table or view. `stored` is true for an ordinary table, whose rows lie in the file as they are.

    `view` is true for a view, and `by_rowid` for a stored table that is known to have rowids: their order is the
    table's own. `order` are terms of SQL that sort by the table's own order, the rowid or the primary key; empty if
    there is none that can be named. `row_id` is the name of the rowid, empty if it has none. `subquery` is the SQL of
    an operator's query in parentheses, for which the rest is as for a view.
    """

    name: str
    columns: tuple[Column, ...]
    stored: bool
    by_rowid: bool
    view: bool
    order: tuple[str, ...] = ()
    row_id: str = ""
    subquery: str = ""


def read_catalogue(connection: sqlite3.Connection) -> tuple[Relation, ...]:
    """Read every table and view that can be exported, in the order of creation.

    Skips SQLite's own tables, the shadow tables of virtual tables, and, with a warning, what cannot be read. This is
    one transaction, so that a writer cannot make a table look broken. Raises `sqlite3.Error` if the schema itself
    cannot be read.
    """
    _begin(connection)
    entries = connection.execute(SCHEMA).fetchall()
    listed = _listed(connection)
    shadows = {name for name, kind, _ in listed if kind == "shadow"}
    without_rowid = {name: bool(without) for name, kind, without in listed if kind == "table"}
    return tuple(_relations(connection, [entry for entry in entries if entry[1] not in shadows], without_rowid))


def schema_stamp(connection: sqlite3.Connection) -> bytes:
    """Return a stamp that changes whenever the result of `read_catalogue`, in the same transaction, would."""
    _begin(connection)
    digest = blake2b(digest_size=16)
    for entry in connection.execute("SELECT type, name, sql FROM main.sqlite_master ORDER BY rowid"):
        digest.update(repr(entry).encode())
    return digest.digest()


def _begin(connection: sqlite3.Connection) -> None:
    connection.text_factory = text_or_bytes
    if not connection.in_transaction:
        connection.execute("BEGIN").close()


def _relations(
    connection: sqlite3.Connection,
    entries: list[tuple[Kind, str | bytes, int]],
    without_rowid: Mapping[str | bytes, bool],
) -> Iterator[Relation]:
    for kind, name, virtual in entries:
        try:
            columns = read_columns(connection, name)
        except (sqlite3.Error, ValueError) as error:
            log.warning("%s %r is left out: %s", kind, name, error)
            continue
        if isinstance(name, str) and columns:
            stored, by_rowid = kind == "table" and not virtual, without_rowid.get(name) is False
            row_id = _row_id(name, columns) if by_rowid else ""
            order = (row_id,) if row_id else _key_order(connection, name) if without_rowid.get(name) else ()
            yield Relation(name, columns, stored, by_rowid, kind == "view", order, row_id)


def _row_id(table: str, columns: Sequence[Column]) -> str:
    """Return a name of the rowid; columns may have all three. https://www.sqlite.org/lang_createtable.html#rowid"""
    taken = {column.name.lower() for column in columns}
    return next((f"{quoted(table)}.{name}" for name in ROW_ID if name not in taken), "")


def _key_order(connection: sqlite3.Connection, table: str) -> tuple[str, ...]:
    """Return the primary key of a table without rowids as terms of ORDER BY, if its collations are SQLite's own."""
    indexes = connection.execute(f"PRAGMA main.index_list({quoted(table)})").fetchall()
    names = [name for _, name, _, origin, _ in indexes if origin == "pk"]
    entries = connection.execute(f"PRAGMA main.index_xinfo({quoted(names[0])})").fetchall() if names else []
    key = [(column, descending, collation) for _, _, column, descending, collation, in_key in entries if in_key]
    if not all(collation in COLLATIONS for *_, collation in key):
        return ()
    return tuple(
        [f"{quoted(table)}.{quoted(name)} COLLATE {collation}{' DESC' * bool(desc)}" for name, desc, collation in key]
    )


def read_columns(connection: sqlite3.Connection, name: str | bytes, schema: str = "main") -> tuple[Column, ...]:
    """Read the columns of a table or view. Raises `sqlite3.Error`, and `ValueError` for names that are not UTF-8."""
    if isinstance(name, bytes):
        raise ValueError("its name is not UTF-8")
    entries = connection.execute(f"PRAGMA {schema}.table_xinfo({quoted(name)})").fetchall()
    visible = [(column, declared) for _, column, declared, _, _, _, hidden in entries if hidden != HIDDEN]
    if not all(isinstance(text, str) for entry in visible for text in entry):
        raise ValueError("the name or the type of a column is not UTF-8")
    return tuple(_column(column, declared) for column, declared in visible)


def _column(name: str, declared: str) -> Column:
    """Make a column; SQLite holds no value to its declared type, but converts numbers if that has their affinity.

    So a DATE is the text or the number that was stored. https://www.sqlite.org/datatype3.html §3
    """
    arrow = _STORED.get(parse(declared).name, ARROW_TEXT)
    kind = kind_of(declared)
    return Column(name, declared, "text" if kind == "nested" else kind, arrow)


def _listed(connection: sqlite3.Connection) -> list[tuple[str | bytes, str, int]]:
    """Return names with their kinds (`shadow` only serves a virtual table) and whether they lack rowids.

    Nothing where SQLite is older than 3.37.
    """
    entries = connection.execute("PRAGMA main.table_list").fetchall()
    return [(name, kind, without_rowid) for _, name, kind, _, without_rowid, _ in entries]
