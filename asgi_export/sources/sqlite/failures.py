"""Map errors of SQLite to errors for a client, by whether another try may help."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator

from asgi_export.errors import ExportError, SourceFailed, Unavailable, ViewFailed
from asgi_export.sources.sqlite.cursor import SqliteCursor, primary_code
from asgi_export.table import Row

PASSING = frozenset(
    {
        sqlite3.SQLITE_BUSY,
        sqlite3.SQLITE_LOCKED,
        sqlite3.SQLITE_NOMEM,
        sqlite3.SQLITE_INTERRUPT,
        sqlite3.SQLITE_READONLY,  # a journal or a WAL that its writer has yet to recover
        sqlite3.SQLITE_IOERR,
        sqlite3.SQLITE_CANTOPEN,
        sqlite3.SQLITE_FULL,
        sqlite3.SQLITE_PROTOCOL,
        sqlite3.SQLITE_SCHEMA,
    }
)
"""Result codes of what is so now: a lock, a disk, a file that is being replaced. https://www.sqlite.org/rescode.html

The others come again: SQLITE_ERROR, which is a table or a column that is gone, a function or a collation that is
not there, JSON that cannot be read; a damaged file; a value that is too large.
"""


def failure(dataset: str, error: sqlite3.Error, *, view: bool) -> ExportError:
    """Make the error that an export of the dataset raises, with the original one as its cause, for the log."""
    code = primary_code(error)
    if code in PASSING or (not code and str(error) == "interrupted"):
        return Unavailable(f"dataset {dataset} cannot be read now", retry_after_seconds=5)
    return (ViewFailed if view else SourceFailed)(f"{dataset}: {error}")


class ExplainedCursor:
    """Wrap a `SqliteCursor`; map its errors to `Unavailable` and `SourceFailed`."""

    def __init__(self, cursor: SqliteCursor, dataset: str, *, view: bool) -> None:
        self._cursor = cursor
        self._dataset = dataset
        self._view = view
        self._batches: Iterator[list[Row]] = iter(())

    def __enter__(self) -> Iterator[list[Row]]:
        try:
            self._batches = self._cursor.__enter__()
        except sqlite3.Error as error:
            raise failure(self._dataset, error, view=self._view) from error
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._cursor.__exit__(*exc_info)

    def __iter__(self) -> Iterator[list[Row]]:
        return self

    def __next__(self) -> list[Row]:
        try:
            return next(self._batches)
        except sqlite3.Error as error:
            raise failure(self._dataset, error, view=self._view) from error

    def interrupt(self) -> None:
        """Interrupt the cursor within."""
        self._cursor.interrupt()
