"""A PostgreSQL database: every table and view that the role can read a dataset, by COPY where that can be.

Delimited text is written by the server itself, `COPY (SELECT …) TO STDOUT`, and passed through untouched. Where
COPY cannot write the dialect (`quote=all`, `escapeFormulas`, `newline=crlf`, a delimiter beyond one byte, a null
text with the delimiter, a quote or a line end in it, a single column with a null text) the server gives its text
value by value through a portal, and the format writes it; every other format takes values. One export is one
statement, so one snapshot.

Where text from here differs from text of other sources (the values read back are the same):

- a timestamp has a blank, not `T`, and its offset is short: `2024-02-29 12:00:00.5+00`; inside a nested value
  it is ISO 8601;
- an empty string is `""` and so differs from a null; a string that equals the null text is quoted too
  (only COPY, not the dialects that it cannot write);
- whole floats have no `.0`, and `NaN`, `Infinity`, `-Infinity` are written so; a date may be `infinity`, or BC;
- with `escapeFormulas` floats are Python's (`1.0`, `inf`), and text such as money `-$5.00` is escaped;
- the JSON of `jsonb` has blanks after colons and commas; intervals are `P1Y2M3DT4H5M6.7S`.

Where values differ from the text (NDJSON, Parquet, Arrow):

- dates and times that Python has are Python's; `infinity`, `-infinity`, BC, years past 9999 and `24:00` are the
  text that CSV has, which Parquet and Arrow refuse in a column of dates or times;
- `json`, `jsonb`, composite values and arrays are JSON as the server writes it (`JsonText`), never parsed here;
- intervals, ranges, network addresses, geometry, enums and all else that has no equal in Python are text.

An array whose lower bounds are not 1 is a JSON string of PostgreSQL's own text, `"[0:1]={1,2}"`; within a composite
value `to_json` drops the bounds.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import ClassVar

from asgi_export.errors import ExportError, StartupError, Unavailable
from asgi_export.measure import Metric
from asgi_export.sources.postgres.catalogue import (
    OWN_RIGHTS,
    RIGHTS_OF_ROLES,
    Relation,
    read_catalogue,
    read_stamp,
)
from asgi_export.sources.postgres.cursor import PoolUse, PostgresCursor
from asgi_export.sources.postgres.driver import (
    Blame,
    Connection,
    Pool,
    connect,
    create_pool,
    failure,
    refusal,
    startup_failure,
)
from asgi_export.sources.postgres.dsn import database_of, place_of, read_target
from asgi_export.sources.postgres.queries import PreparedQuery, prepare_query
from asgi_export.sources.postgres.roles import take_role
from asgi_export.sources.postgres.session import (
    END,
    IN_OWN_ORDER,
    IN_OWN_ORDER_FILTERED,
    begin,
    check_settings,
    client_check_settings,
    prepare,
    transaction_settings,
)
from asgi_export.sources.postgres.statement import query_for
from asgi_export.table import Column, Query, Selection, Task

log = logging.getLogger("asgi_export.sources.postgres")

CLOSE_SECONDS = 5.0
STATEMENT_SECONDS = 3600.0

REFRESH_SECONDS = 60.0
"""The bound on reading a catalogue again; no request waits for all of it."""


@dataclass(frozen=True, slots=True)
class PostgresDataset:
    """One table, view or query. `open` gives a cursor over text where COPY can write the dialect, else over rows."""

    relation: Relation
    begin: str
    wait_seconds: float
    pool: Pool = field(repr=False, compare=False)
    use: PoolUse = field(default_factory=PoolUse, repr=False, compare=False)
    prepared: PreparedQuery | None = None
    role_claim: str = ""
    applies: ClassVar[frozenset[Task]] = frozenset({"filters", "sort"})

    @property
    def name(self) -> str:
        """SCHEMA.TABLE, TABLE if the schema is `public`, or the name of the query."""
        return self.relation.name

    @property
    def same_for_all(self) -> bool:
        """Whether every caller gets the same rows: not if each has a role."""
        return not self.role_claim

    @property
    def query(self) -> Query | None:
        """The query, if it is one."""
        return self.prepared.query if self.prepared else None

    @property
    def columns(self) -> Sequence[Column]:
        """The columns that the role may read, with their types as `format_type` writes them."""
        return tuple(forms.column for forms in self.relation.columns)

    @property
    def default_limit(self) -> int | None:
        """All rows."""
        return None

    def open(self, selection: Selection) -> PostgresCursor:
        """Return a cursor over the selected columns, in the order of the selection; it takes a pooled connection.

        Raises `BadRequest` for an argument that no database holds, `Forbidden` for a caller without a role.
        """
        relation = self.prepared.relation(selection.arguments) if self.prepared else self.relation
        return PostgresCursor(
            self.pool,
            query_for(relation, selection),
            dataset=self.name,
            begin=self.begin_for(selection),
            wait_seconds=self.wait_seconds,
            blame=Blame(view=relation.view, arguments=bool(selection.arguments), role=bool(self.role_claim)),
            use=self.use,
        )

    def begin_for(self, selection: Selection) -> str:
        """Return the statements that open the transaction of an export. Raises `Forbidden`."""
        role = take_role(self.name, self.role_claim, selection.caller) if self.role_claim else ""
        if self.relation.view or selection.sort:
            return self.begin + role
        return self.begin + (IN_OWN_ORDER_FILTERED if selection.filters else IN_OWN_ORDER) + role


class PostgresSource:
    """A database whose tables and views are datasets; a `Source`.

    The DSN has the options of libpq. At most `max_connections` connections, each opened when it is wanted (within
    `connect_seconds`, unless the DSN has a `connect_timeout`) and closed after five idle minutes; an export that gets
    none within `wait_seconds` raises `Unavailable`. A statement runs `statement_seconds` at most and waits
    `wait_seconds` at most for a lock. Transactions are read-only.

    With `role_claim`, an export runs as the role that this claim of its caller names (`SET LOCAL ROLE`), and the
    claims are in `request.jwt.claims`, so that policies made for PostgREST hold; the datasets are what any role can
    read that the connection may take. A caller without such a role gets `Forbidden`.
    """

    def __init__(
        self,
        dsn: str,
        *,
        name: str | None = None,
        queries: Sequence[Query] = (),
        role_claim: str = "",
        max_connections: int = 10,
        wait_seconds: float = 5.0,
        statement_seconds: float = STATEMENT_SECONDS,
        connect_seconds: float = 5.0,
    ) -> None:
        self._queries = tuple(queries)
        self._role_claim = role_claim
        self._dsn = dsn
        self._place = place_of(dsn)
        self._name = database_of(dsn) if name is None else name
        self._max_connections = max_connections
        self._wait_seconds = wait_seconds
        self._statement_seconds = statement_seconds
        self._connect_seconds = connect_seconds
        self._pool: Pool | None = None
        self._begin = ""
        self._use = PoolUse()
        self._stamp = ""

    @property
    def name(self) -> str:
        """The name that was given, else that of the database."""
        return self._name

    async def start(self) -> Sequence[PostgresDataset]:
        """Return the datasets, those of `public` first, then by schema and name.

        Raises `StartupError` if asyncpg is missing, the server cannot be reached, refuses the role or
        does not know the database, if there is nothing to read, or if settings do not hold in a transaction.
        """
        try:
            found = await self._connect()
        except ExportError:
            raise
        except Exception as error:
            raise startup_failure(self._place, error) from error
        if not found.relations and not found.queries:
            raise StartupError(f"{self._place}: holds no table or view that the role may read")
        return self._datasets(found)

    async def refresh(self) -> Sequence[PostgresDataset] | None:
        """Return the datasets if the system catalogues have changed. Raises `Unavailable` or `SourceFailed`.

        A pool whose every connection serves an export for so long cannot be asked; no export could begin either.
        """
        pool = self._require_pool()
        try:
            async with asyncio.timeout(REFRESH_SECONDS), pool.acquire(timeout=self._wait_seconds) as connection:
                await connection.execute(self._begin)  # a pooler may give each statement outside to another server
                stamp = await read_stamp(connection)
                found = await self._read(connection, strict=False) if stamp != self._stamp else None
                await connection.execute(END)
        except Exception as error:
            if isinstance(error, TimeoutError) and self._all_busy(pool):
                return None
            raise failure(self._name, error) from error
        self._stamp = stamp
        return None if found is None else self._datasets(found)

    async def check(self) -> None:
        """Send `SELECT 1`. Raises `Unavailable` if the server does not answer within `wait_seconds`.

        If every connection of the pool serves an export, nothing is sent: those prove that the server answers.
        """
        pool = self._require_pool()
        if self._all_busy(pool):
            return
        try:
            async with asyncio.timeout(self._wait_seconds), pool.acquire() as connection:
                await connection.fetchval("SELECT 1")
        except Exception as error:
            raise failure(self._name, error) from error

    def metrics(self) -> Iterable[Metric]:
        """Yield open and busy connections of the pool, exports that wait for one, and those that timed out."""
        pool = self._pool
        size, idle = (pool.get_size(), pool.get_idle_size()) if pool is not None else (0, 0)
        yield Metric("pool_connections", size, self._name)
        yield Metric("pool_connections_busy", size - idle, self._name)
        yield Metric("pool_waiting", self._use.waiting, self._name)
        yield Metric("pool_timeouts", self._use.timeouts, self._name)

    async def close(self) -> None:
        """Close the connections, after `CLOSE_SECONDS` also those of running exports."""
        pool, self._pool = self._pool, None
        if pool is None:
            return
        try:
            async with asyncio.timeout(CLOSE_SECONDS):
                await pool.close()
        except Exception as error:  # asyncpg has dropped the connections then
            log.warning("%s: was not closed within %g seconds: %r", self._name, CLOSE_SECONDS, error)

    def _require_pool(self) -> Pool:
        if self._pool is None:
            raise Unavailable(f"{self._name}: is not open")
        return self._pool

    def _all_busy(self, pool: Pool) -> bool:
        return bool(pool.get_size() == self._max_connections and not pool.get_idle_size())

    def _datasets(self, found: _Found) -> Sequence[PostgresDataset]:
        relations = [(relation, None) for relation in found.relations]
        queries = [(query.result, query) for query in found.queries]
        return [
            PostgresDataset(relation, self._begin, self._wait_seconds, self._pool, self._use, query, self._role_claim)
            for relation, query in [*relations, *queries]
        ]

    async def _connect(self) -> _Found:
        """Connect, read the catalogue, and make the pool if there is anything to read."""
        target = read_target(self._dsn, connect_seconds=self._connect_seconds)
        connection = await connect(target)
        try:
            async with asyncio.timeout(target.connect_seconds):
                found = await self._read_first(connection)
        finally:
            connection.terminate()
        if found.relations or found.queries:
            self._pool = await create_pool(
                target, max_connections=self._max_connections, prepare=partial(prepare, target=target)
            )
        return found

    async def _read_first(self, connection: Connection) -> _Found:
        """Read the catalogue, in a transaction like that of an export."""
        settings = transaction_settings(statement_seconds=self._statement_seconds, lock_seconds=self._wait_seconds)
        await connection.execute(begin(settings))
        await check_settings(connection, self._place, settings)
        self._stamp = await read_stamp(connection)
        found = await self._read(connection, strict=True)
        await connection.execute(END)
        self._begin = begin(settings | await client_check_settings(connection))
        return found

    async def _read(self, connection: Connection, *, strict: bool) -> _Found:
        """Read the catalogue and prepare the queries. A query that fails raises `StartupError`, or is left out."""
        relations = await read_catalogue(connection, RIGHTS_OF_ROLES if self._role_claim else OWN_RIGHTS)
        taken = {relation.name for relation in relations}
        queries = []
        for query in self._queries:
            reason = "a table or view has this name; expected another" if query.name in taken else ""
            try:
                queries.append(await self._prepare(connection, query, reason))
            except StartupError as error:
                if strict:
                    raise
                log.warning("%s; it is left out", error)
        return _Found(relations, tuple(queries))

    async def _prepare(self, connection: Connection, query: Query, reason: str) -> PreparedQuery:
        try:
            if reason:
                raise ValueError(reason)
            return await prepare_query(connection, query)
        except (ValueError, refusal()) as error:
            words = str(error).partition("\n")[0]
            raise StartupError(f"{self._place}: queries.{query.name}: {words}") from error


@dataclass(frozen=True, slots=True)
class _Found:
    """What a database holds for us: its relations, and the operator's queries."""

    relations: tuple[Relation, ...]
    queries: tuple[PreparedQuery, ...]
