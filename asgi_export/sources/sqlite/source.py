"""A SQLite file: every table and view a dataset, read-only, one snapshot an export.

A file that others write to should be in WAL mode: there an export and a writer do not wait for each other,
though the WAL cannot be reset past the snapshot of the oldest export. In the other journal modes an export
holds a shared lock, so that writers wait until it has ended, and an export that meets a writer fails after
`busy_timeout_seconds`. https://www.sqlite.org/isolation.html
"""

from __future__ import annotations

import asyncio
import logging
import os
import sqlite3
import stat
import threading
from collections.abc import Callable, Container, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, TypeVar

from asgi_export.addresses import redacted
from asgi_export.errors import StartupError
from asgi_export.sources.sqlite.catalogue import Relation, read_catalogue, schema_stamp
from asgi_export.sources.sqlite.cursor import SqliteCursor, open_read_only, patiently
from asgi_export.sources.sqlite.failures import ExplainedCursor
from asgi_export.sources.sqlite.queries import PreparedQuery, prepare_query
from asgi_export.sources.sqlite.statement import Question
from asgi_export.table import Column, Query, Selection, Task

log = logging.getLogger("asgi_export.sources.sqlite")

T = TypeVar("T")

READ_ONLY_REASONS = {
    "SQLITE_READONLY_DIRECTORY": "it is in WAL mode, and its -shm file cannot be made in a folder that is"
    " read-only: make the folder writable, or the file `PRAGMA journal_mode=DELETE`",
    "SQLITE_READONLY_ROLLBACK": "a writer died and left a journal: open the file once for writing",
    "SQLITE_READONLY_RECOVERY": "a writer died and left a WAL: open the file once for writing",
}
READ_ONLY_REASONS["SQLITE_READONLY_CANTINIT"] = READ_ONLY_REASONS["SQLITE_READONLY_DIRECTORY"]
READ_ONLY_REASONS["SQLITE_CANTOPEN"] = READ_ONLY_REASONS["SQLITE_READONLY_DIRECTORY"]


@dataclass(frozen=True, slots=True)
class SqliteDataset:
    """One table or view of a SQLite file, or an operator's query.

    `open` gives a cursor over lists of tuples, values as stored.
    """

    path: Path
    relation: Relation
    busy_timeout_seconds: float
    prepared: PreparedQuery | None = None
    same_for_all: ClassVar[bool] = True
    applies: ClassVar[frozenset[Task]] = frozenset({"filters", "sort"})

    @property
    def name(self) -> str:
        """The name of the table, the view or the query."""
        return self.relation.name

    @property
    def query(self) -> Query | None:
        """The query, if it is one."""
        return self.prepared.query if self.prepared else None

    @property
    def columns(self) -> Sequence[Column]:
        """Columns with their declared types; SQLite does not hold values to them."""
        return self.relation.columns

    @property
    def default_limit(self) -> int | None:
        """All rows."""
        return None

    def open(self, selection: Selection) -> ExplainedCursor:
        """Return a cursor over the selected columns, in the order of the selection; it opens its own connection.

        Raises `BadRequest` for an argument of a query that SQLite cannot hold.
        """
        arguments = self.prepared.values(selection.arguments) if self.prepared else {}
        question = Question(self.relation, selection, arguments)
        cursor = SqliteCursor(
            self.path,
            question.prepare,
            width=len(selection.columns),
            small_cache=self.relation.stored and question.plain,
            busy_timeout_seconds=self.busy_timeout_seconds,
        )
        return ExplainedCursor(cursor, self.name, view=self.relation.view)


class SqliteSource:
    """A file whose tables and views are datasets, and queries on them; a `Source`.

    The file is only ever opened with `mode=ro`, once an export; nothing is held between exports.
    An export waits `busy_timeout_seconds` for a writer's lock before its first row, then it fails.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        name: str | None = None,
        queries: Sequence[Query] = (),
        busy_timeout_seconds: float = 5.0,
    ) -> None:
        self._queries = tuple(queries)
        self.path = Path(path).absolute()
        self._name = self.path.name if name is None else name
        self._busy_timeout_seconds = busy_timeout_seconds
        self._stamp = b""

    @property
    def name(self) -> str:
        """The name that was given, else that of the file."""
        return self._name

    async def start(self) -> Sequence[SqliteDataset]:
        """Return the datasets, in the order in which the tables and views were created, then the queries.

        Raises `StartupError` if the file is missing, unreadable, no SQLite file, or without tables, and if a query
        cannot be prepared.
        """
        relations, stamp = await asyncio.to_thread(self._read_all)
        datasets = await asyncio.to_thread(self._datasets, relations, strict=True)
        self._stamp = stamp
        return datasets

    async def refresh(self) -> Sequence[SqliteDataset] | None:
        """Return the datasets if the schema has changed: its whole text is compared, which takes 20 µs a table.

        The `schema_version` is not enough: a file that a script recreates has the same one with other columns.
        Raises `sqlite3.Error` if the file cannot be read.
        """
        found = await asyncio.to_thread(self._read, self._read_if_changed)
        if found is None:
            return None
        relations, stamp = found
        datasets = await asyncio.to_thread(self._datasets, relations, strict=False)
        self._stamp = stamp
        return datasets

    async def check(self) -> None:
        """Read the schema on a new connection. Raises `sqlite3.Error` if that fails."""
        await asyncio.to_thread(self._check_schema)

    async def close(self) -> None:
        """Do nothing: each export closes its own connection."""

    def _datasets(self, relations: Sequence[Relation], *, strict: bool) -> Sequence[SqliteDataset]:
        """Make the datasets. A query that cannot be prepared raises `StartupError`, or is left out."""
        datasets = [SqliteDataset(self.path, relation, self._busy_timeout_seconds) for relation in relations]
        taken = {relation.name for relation in relations}
        for query in self._queries:
            try:
                prepared = self._prepare(query, taken)
            except StartupError as error:
                if strict:
                    raise
                log.warning("%s; it is left out", error)
                continue
            datasets.append(SqliteDataset(self.path, prepared.relation, self._busy_timeout_seconds, prepared))
        return datasets

    def _prepare(self, query: Query, taken: Container[str]) -> PreparedQuery:
        try:
            if query.name in taken:
                raise ValueError("a table or view has this name; expected another")
            return self._read(lambda connection: prepare_query(_with_temporary_views(connection), query))
        except (ValueError, sqlite3.Error, sqlite3.Warning) as error:
            words = str(error).partition("\n")[0]
            raise StartupError(f"{self.path}: queries.{query.name}: {words}") from error

    def _read_if_changed(self, connection: sqlite3.Connection) -> tuple[tuple[Relation, ...], bytes] | None:
        stamp = schema_stamp(connection)
        return None if stamp == self._stamp else (read_catalogue(connection), stamp)

    def _read_all(self) -> tuple[tuple[Relation, ...], bytes]:
        self._expect_file()
        try:
            found = self._read(lambda connection: (read_catalogue(connection), schema_stamp(connection)))
        except (sqlite3.Error, UnicodeDecodeError) as error:  # messages of SQLite quote what the file holds
            raise StartupError(f"{self.path}: cannot be read: {_reason(error)}") from error
        if not found[0] and not self._queries:
            raise StartupError(f"{self.path}: holds no table or view that can be read")
        return found

    def _expect_file(self) -> None:
        """Raise the reason for what SQLite only calls "unable to open database file".

        It does not open the file: SQLite's locks belong to the process, and closing any other descriptor of
        the file would drop those of the exports that run. https://www.sqlite.org/howtocorrupt.html §2.2
        """
        try:
            mode = self.path.stat().st_mode
        except (OSError, ValueError) as error:
            place = redacted(str(self.path))  # it may be an address with a password
            raise StartupError(f"{place}: {getattr(error, 'strerror', error)}") from error
        if not stat.S_ISREG(mode):
            raise StartupError(f"{self.path}: expected a SQLite file, not a folder or a device")
        if not os.access(self.path, os.R_OK):
            raise StartupError(f"{self.path}: Permission denied")

    def _check_schema(self) -> None:
        self._read(lambda connection: connection.execute("SELECT count(*) FROM main.sqlite_master").fetchone())

    def _read(self, read: Callable[[sqlite3.Connection], T]) -> T:
        with closing(open_read_only(self.path)) as connection:
            return patiently(lambda: read(connection), self._busy_timeout_seconds, threading.Event())


def _with_temporary_views(connection: sqlite3.Connection) -> sqlite3.Connection:
    """Let a connection write what is temporary, in memory; the file stays read-only by `mode=ro`."""
    connection.execute("PRAGMA temp_store=MEMORY").close()
    connection.execute("PRAGMA query_only=OFF").close()
    return connection


def _reason(error: Exception) -> str:
    return READ_ONLY_REASONS.get(getattr(error, "sqlite_errorname", ""), str(error))
