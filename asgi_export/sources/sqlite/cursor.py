"""Export a table of a SQLite file: a connection, one statement, batches of rows.

One statement is one read transaction, so it is one snapshot. Each export has a connection of its own, because the
snapshot belongs to the connection and `interrupt` stops all statements of a connection; opening one takes 0.3 ms.

`sqlite3` itself decodes text, which is faster than any function of ours (1,000,000 rows of four columns: 0.36 s
against 0.50 s), and raises at text that is not UTF-8. It raises before it leaves the row. So a lossless text factory
is set and the same row is read again: no row is lost or read twice.
"""

from __future__ import annotations

import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from itertools import count, islice
from pathlib import Path
from sys import getsizeof
from typing import Any, TypeVar

from asgi_export.sources.batch_size import BatchSize
from asgi_export.sources.sql import text_or_bytes
from asgi_export.sources.sqlite.statement import Statement
from asgi_export.table import Row

MOST_ROWS = 500
MOST_BYTES = 256 * 1024
"""Bounds of a batch, as Python objects: past these a batch gets no faster, only larger."""

SLICE_ROWS = 127
"""One row in so many is measured (2 % of the time); a prime, so that a period in the data cannot hide large rows."""

LARGE_ROW_BYTES = MOST_BYTES // SLICE_ROWS
"""A row of this size would fill the batch within a slice: from there on every row is measured."""

STEPS_BETWEEN_LOOKS = 100_000
"""Instructions of SQLite's machine, about a millisecond."""

RETRY_SECONDS = 0.01
SMALL_CACHE_KIB = 32
"""The page cache of a scan, which reads every page once: as fast as the default of 2 MiB."""

T = TypeVar("T")


def open_read_only(path: Path) -> sqlite3.Connection:
    """Open a read-only connection, for calls from any thread, one at a time; the caller closes it.

    The schema is not trusted: functions and virtual tables with side effects are refused in views. The connection
    never waits for a lock. Raises `sqlite3.Error`. https://www.sqlite.org/uri.html,
    https://www.sqlite.org/pragma.html#pragma_trusted_schema
    """
    connection = sqlite3.connect(
        path.absolute().as_uri() + "?mode=ro",
        uri=True,
        timeout=0,
        isolation_level=None,
        check_same_thread=False,
    )
    try:
        connection.execute("PRAGMA query_only=ON").close()
        connection.execute("PRAGMA trusted_schema=OFF").close()
    except BaseException:
        connection.close()
        raise
    return connection


def patiently(act: Callable[[], T], seconds: float, interrupted: threading.Event) -> T:
    """Call `act`, and repeat it for so many seconds while another process locks the file.

    SQLite's own busy timeout cannot be interrupted; this one ends as soon as `interrupted` is set.
    Raises `sqlite3.OperationalError`: interrupted, or still locked.
    """
    deadline = time.monotonic() + seconds
    while True:
        if interrupted.is_set():
            raise sqlite3.OperationalError("interrupted")
        try:
            return act()
        except sqlite3.OperationalError as error:
            if primary_code(error) != sqlite3.SQLITE_BUSY or time.monotonic() >= deadline:
                raise
        interrupted.wait(RETRY_SECONDS)


class SqliteCursor:
    """The rows of one statement, one snapshot, as lists of tuples; a `BlockingCursor`.

    A batch is bounded in rows, cells and bytes: to `MOST_BYTES` and one row once a large row has been seen,
    and to one slice before that. Text that is not UTF-8 comes as bytes. Entering raises `sqlite3.Error` where
    the file cannot be read; iterating raises it where reading fails or after `interrupt`.
    Leaving ends the statement and closes the connection.
    """

    def __init__(
        self,
        path: Path,
        prepare: Callable[[sqlite3.Connection], Statement],
        *,
        width: int,
        small_cache: bool,
        busy_timeout_seconds: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._path = path
        self._prepare = prepare
        self._small_cache = small_cache
        self._busy_timeout_seconds = busy_timeout_seconds
        self._clock = clock
        self._batch_size = BatchSize(width, max_rows=MOST_ROWS)
        self._slice_rows = SLICE_ROWS
        self._connection: sqlite3.Connection | None = None
        self._rows: sqlite3.Cursor | None = None
        self._lock = threading.Lock()  # `interrupt` never meets a connection that is being closed
        self._interrupted = threading.Event()

    def __enter__(self) -> Iterator[list[Row]]:
        try:
            connection = open_read_only(self._path)
            with self._lock:
                self._connection = connection
            self._rows = patiently(lambda: self._execute(connection), self._busy_timeout_seconds, self._interrupted)
        except BaseException:
            self._release()
            raise
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._release()

    def __iter__(self) -> Iterator[list[Row]]:
        return self

    def __next__(self) -> list[Row]:
        """Return the next batch, and hold no reference to it: with a slow client only its text is in memory."""
        if self._connection is None or self._rows is None:
            raise StopIteration
        if self._interrupted.is_set():
            raise sqlite3.OperationalError("interrupted")
        started = self._clock()
        batch = self._batch(self._connection, self._rows)
        if not batch:
            raise StopIteration
        self._batch_size.took(self._clock() - started)
        return batch

    def interrupt(self) -> None:
        """End the running call, and every later one, within milliseconds; from any thread."""
        self._interrupted.set()
        with self._lock:
            if self._connection is not None:
                self._connection.interrupt()

    def _execute(self, connection: sqlite3.Connection) -> sqlite3.Cursor:
        """Execute the statement."""
        # `Connection.interrupt` does nothing to a statement that starts a moment later; this stops that one.
        connection.set_progress_handler(self._interrupted.is_set, STEPS_BETWEEN_LOOKS)
        if self._small_cache:
            connection.execute(f"PRAGMA cache_size=-{SMALL_CACHE_KIB}").close()
        connection.execute("PRAGMA temp_store=FILE").close()  # a sort is bounded in memory, however SQLite was built
        statement = self._prepare(connection)
        if statement.steps is None:
            return connection.execute(statement.sql, statement.values)
        return self._execute_within(statement.steps, statement, connection)

    def _execute_within(self, steps: int, statement: Statement, connection: sqlite3.Connection) -> sqlite3.Cursor:
        """Execute the statement, or the other one if it has no row after so many steps."""
        looks = count()
        connection.set_progress_handler(
            lambda: self._interrupted.is_set() or next(looks) * STEPS_BETWEEN_LOOKS >= steps, STEPS_BETWEEN_LOOKS
        )
        try:
            return connection.execute(statement.sql, statement.values)
        except sqlite3.OperationalError as error:
            if primary_code(error) != sqlite3.SQLITE_INTERRUPT or self._interrupted.is_set():
                raise
            return connection.execute(statement.instead, statement.values)
        finally:
            connection.set_progress_handler(self._interrupted.is_set, STEPS_BETWEEN_LOOKS)

    def _batch(self, connection: sqlite3.Connection, rows: sqlite3.Cursor) -> list[Row]:
        batch: list[Row] = []
        size, full = 0, self._batch_size.rows
        while len(batch) < full and size < MOST_BYTES:
            before = len(batch)
            wanted = min(self._slice_rows, full - before)
            _extend(batch, rows, wanted, connection)
            if len(batch) < before + wanted:
                break
            row_size = sum(map(getsizeof, batch[-1]), getsizeof(batch[-1]))
            self._slice_rows = 1 if row_size > LARGE_ROW_BYTES else self._slice_rows
            size += row_size * wanted
        return batch

    def _release(self) -> None:
        with self._lock:
            connection, self._connection = self._connection, None
        rows, self._rows = self._rows, None
        if rows is not None:
            rows.close()
        if connection is not None:
            connection.close()


def _extend(batch: list[Row], rows: sqlite3.Cursor, wanted: int, connection: sqlite3.Connection) -> None:
    """Move so many rows into the batch; if the iterator raises, the rows so far stay in it."""
    full = len(batch) + wanted
    try:
        batch.extend(islice(rows, wanted))
    except sqlite3.OperationalError as error:
        if not _is_bad_text(error):
            raise
        connection.text_factory = text_or_bytes
        batch.extend(islice(rows, full - len(batch)))


def _is_bad_text(error: sqlite3.OperationalError) -> bool:
    """Return whether the module `sqlite3` raised over a value: errors of the library have a result code."""
    return not hasattr(error, "sqlite_errorcode") and str(error).startswith("Could not decode to UTF-8")


def primary_code(error: sqlite3.Error) -> int:
    """Return the result code without its extension. https://www.sqlite.org/rescode.html#pve"""
    code: Any = getattr(error, "sqlite_errorcode", 0)
    return int(code) & 0xFF
