"""One export of a PostgreSQL table: a connection of the pool for as long as it runs, and one statement.

However a cursor is left, the query is cancelled in the server and the connection goes back clean. If that fails or
takes longer than `LEAVE_SECONDS`, the connection is dropped, which the server sees when it next writes a row or looks
for its client. A cancellation of the task that leaves does not shorten this.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Protocol

from asgi_export.errors import Unavailable
from asgi_export.sources.batch_size import BatchSize
from asgi_export.sources.postgres.copy import CopyText
from asgi_export.sources.postgres.driver import NO_BLAME, Blame, Connection, Pool, cause_of, failure, is_lost
from asgi_export.sources.postgres.session import END
from asgi_export.table import Batch, Dialect, Row
from asgi_export.tasks import finish

log = logging.getLogger("asgi_export.sources.postgres")

LEAVE_SECONDS = 2.0
"""For the server to acknowledge the cancel request and to reset the session."""


@dataclass(slots=True)
class PoolUse:
    """How many exports wait for a connection of a pool, and how many have timed out."""

    waiting: int = 0
    timeouts: int = 0


class Statement(Protocol):
    """A statement being run: `next` is a batch or None, `stop` makes a running one end."""

    async def next(self) -> Batch | None: ...
    async def stop(self) -> None: ...


class Query(Protocol):
    """What is to be run on a connection."""

    def begin(self, connection: Connection) -> Statement: ...


@dataclass(frozen=True, slots=True)
class CopyQuery:
    """A SELECT whose text is wanted, in a dialect that COPY writes."""

    sql: str
    dialect: Dialect

    def begin(self, connection: Connection) -> CopyText:
        return CopyText(connection, self.sql, self.dialect)


@dataclass(frozen=True, slots=True)
class RowsQuery:
    """A SELECT whose rows are wanted, and what decodes each column where asyncpg does not."""

    sql: str
    decoders: tuple[Callable[[bytes], Any] | None, ...]

    def begin(self, connection: Connection) -> _Rows:
        return _Rows(connection, self)


class PostgresCursor:
    """One export; an `AsyncCursor`, and itself the iterator of its batches.

    Entering takes a connection, waiting `wait_seconds` at most; with the first batch its transaction begins by the
    statements `begin`, and the query. `use` is the account of the pool.
    Raises `Unavailable` if there is none or the server does not answer, `SourceFailed` for every other
    error of the server; both have asyncpg's error as their cause, but where that quotes values. `aclose` may be
    called twice.
    """

    def __init__(
        self,
        pool: Pool,
        query: Query,
        *,
        dataset: str,
        begin: str,
        wait_seconds: float,
        blame: Blame = NO_BLAME,
        use: PoolUse | None = None,
    ) -> None:
        self._pool = pool
        self._begin = begin
        self._begun = False
        self._use = use or PoolUse()
        self._query = query
        self._dataset = dataset
        self._blame = blame
        self._wait_seconds = wait_seconds
        self._connection: Connection | None = None
        self._statement: Statement | None = None

    async def __aenter__(self) -> AsyncIterator[Batch]:
        self._use.waiting += 1
        try:
            async with asyncio.timeout(self._wait_seconds) as bound:
                self._connection = await self._pool.acquire()
        except Exception as error:
            if isinstance(error, TimeoutError) and bound.expired():
                self._use.timeouts += 1
                busy = f"no connection to PostgreSQL within {self._wait_seconds:g} seconds"
                raise Unavailable(f"{self._dataset}: {busy}; try again") from error
            raise failure(self._dataset, error) from error
        finally:
            self._use.waiting -= 1
        self._statement = self._query.begin(self._connection)
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.aclose()

    def __aiter__(self) -> AsyncIterator[Batch]:
        return self

    async def __anext__(self) -> Batch:
        if self._statement is None or self._connection is None:
            raise StopAsyncIteration
        begins = not self._begun
        try:
            if begins:
                self._begun = True
                await self._connection.execute(self._begin)
                begins = False
            batch = await self._statement.next()
        except Exception as error:
            lost = is_lost(self._connection)
            raise failure(self._dataset, error, lost=lost, blame=self._blame, begins=begins) from cause_of(error)
        if batch is None:
            raise StopAsyncIteration
        return batch

    async def aclose(self) -> None:
        """End the query in the server and give the connection back; takes `LEAVE_SECONDS` at most."""
        statement, self._statement = self._statement, None
        connection, self._connection = self._connection, None
        if statement is not None:
            await finish(self._given_back(statement, connection))

    async def _given_back(self, statement: Statement, connection: Connection) -> None:
        await statement.stop()
        try:
            async with asyncio.timeout(LEAVE_SECONDS):
                if self._begun:
                    await connection.execute(END)
                # A little less, so that asyncpg ends its own waiting before it is ended from outside.
                await self._pool.release(connection, timeout=LEAVE_SECONDS * 0.9)
        except Exception as error:
            log.debug("%s: a connection is dropped: %r", self._dataset, error)
            with contextlib.suppress(Exception):  # it may have been dropped by asyncpg already
                connection.terminate()


class _Rows:
    """Lists of tuples from a portal, so many at a time as `BatchSize` says."""

    def __init__(self, connection: Connection, query: RowsQuery) -> None:
        self._connection = connection
        self._query = query
        self._portal: Any = None
        self._size = BatchSize(len(query.decoders))

    async def next(self) -> list[Row] | None:
        if self._portal is None:
            # Connection.cursor would give its statement a name, which outlives the transaction in a pooler
            statement = await self._connection.prepare(self._query.sql)
            self._portal = await statement.cursor()
        rows = list(map(tuple, await self._portal.fetch(self._size.rows)))
        self._size.came(rows)
        return _decoded(rows, self._query.decoders) or None

    async def stop(self) -> None:
        """Do nothing: between two batches nothing runs, and a cancelled fetch has cancelled the query."""
        self._portal = None


def _decoded(rows: list[Row], decoders: Sequence[Callable[[bytes], Any] | None]) -> list[Row]:
    if not any(decoders):
        return rows
    columns = list(zip(*rows, strict=True))
    for place, decode in enumerate(decoders[: len(columns)]):
        if decode is not None:
            columns[place] = tuple([None if value is None else decode(value) for value in columns[place]])
    return list(zip(*columns, strict=True))
