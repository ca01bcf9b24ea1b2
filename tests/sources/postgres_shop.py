"""A database with a table of each kind, and ways to read it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import asyncpg  # type: ignore[import-untyped, unused-ignore]

from asgi_export.formats.delimited import DelimitedEncoder
from asgi_export.sources.postgres.source import PostgresDataset, PostgresSource
from asgi_export.table import Batch, Dialect, Selection
from tests.postgres_server import PASSWORD, PostgresServer

READER = "reader"
DATABASE = "Shop für alle"
ORDERS = 1000
MANY = 200_000

NASTY_NAME = """Stück "6" %s {} $1 ';--"""
NASTY_COLUMNS = ("Größe (cm)", 'say "hi"', "select", "a,b", "{0} %s $1")

SQL = f"""
CREATE TABLE orders (id bigint, item text, price numeric(12,2), paid boolean, at timestamptz);
INSERT INTO orders
  SELECT g, 'item ' || g, g * 1.5, g % 2 = 0, timestamptz '2024-01-01 00:00+00' + g * interval '1 s'
  FROM generate_series(1, {ORDERS}) g;
CREATE VIEW dear AS SELECT id, price FROM orders WHERE price > 1490;
CREATE MATERIALIZED VIEW totals AS SELECT paid, sum(price) AS total FROM orders GROUP BY paid;
CREATE TABLE events (id int, day date) PARTITION BY RANGE (day);
CREATE TABLE events_2023 PARTITION OF events FOR VALUES FROM ('2023-01-01') TO ('2024-01-01');
CREATE TABLE events_2024 PARTITION OF events FOR VALUES FROM ('2024-01-01') TO ('2025-01-01');
INSERT INTO events VALUES (1, '2023-05-05'), (2, '2024-05-05');
CREATE EXTENSION file_fdw;
CREATE SERVER files FOREIGN DATA WRAPPER file_fdw;
CREATE FOREIGN TABLE imported (id int, name text) SERVER files
  OPTIONS (program $$printf '1,one\\n2,two\\n'$$, format 'csv');
CREATE SCHEMA "Lager Süd";
CREATE TABLE "Lager Süd"."{NASTY_NAME.replace('"', '""')}" (
  {", ".join('"' + name.replace('"', '""') + '" int' for name in NASTY_COLUMNS)});
INSERT INTO "Lager Süd"."{NASTY_NAME.replace('"', '""')}" VALUES (1, 2, 3, 4, 5);
CREATE TABLE empty (id int, name text);
CREATE TABLE notes (note text);
INSERT INTO notes VALUES ('x'), (NULL), (''), ('\\.'), ('"'), (E'a\\nb');
CREATE TABLE nasty (id int, text text);
INSERT INTO nasty VALUES (1, NULL), (2, ''), (3, 'a,b'), (4, 'say "hi"'), (5, E'two\\nlines'), (6, E'a\\r\\nb'),
  (7, '=1+1'), (8, '-5'), (9, E'\\ttab'), (10, 'NULL'), (11, '\\.'), (12, ' blank '),
  (13, 'naïve 東京 🙂'), (14, '''');
CREATE TABLE many AS SELECT g AS id, repeat('x', 90) AS text FROM generate_series(1, {MANY}) g;
CREATE VIEW asleep AS SELECT 1 AS id, pg_sleep(600)::text AS text;
CREATE VIEW dozing AS
  SELECT g AS id, CASE g WHEN 50000 THEN pg_sleep(600)::text ELSE repeat('x', 90) END AS text
  FROM generate_series(1, 100000) g;
CREATE VIEW broken AS SELECT id, 1 / (id - id) AS boom FROM orders;
CREATE VIEW breaking AS SELECT id, 1 / ({MANY} - id) AS text FROM many;

CREATE SCHEMA closed;
CREATE TABLE closed.door (id int);
CREATE SCHEMA "Open";
CREATE TABLE "Open".staff (id int, name text, salary int, gone int);
ALTER TABLE "Open".staff DROP COLUMN gone;
INSERT INTO "Open".staff VALUES (1, 'Ann', 9000);
GRANT USAGE ON SCHEMA "Open", "Lager Süd" TO {READER};
GRANT SELECT ON ALL TABLES IN SCHEMA public, "Lager Süd" TO {READER};
GRANT SELECT ON closed.door TO {READER};
GRANT SELECT (name, id) ON "Open".staff TO {READER};
CREATE TABLE "Open".secrets (id int);
CREATE TABLE public."Open.staff" (mine int);
GRANT SELECT ON public."Open.staff" TO {READER};
"""


@dataclass(frozen=True, slots=True)
class Shop:
    """A database; `dsn` is the reader's, `execute` the superuser's."""

    server: PostgresServer
    database: str

    @property
    def dsn(self) -> str:
        return self.server.dsn(self.database, user=READER)

    def execute(self, sql: str) -> str:
        return self.server.execute(sql, self.database)

    def source(self, **options: Any) -> PostgresSource:
        return PostgresSource(self.dsn, **options)

    @asynccontextmanager
    async def datasets(self, **options: Any) -> AsyncIterator[dict[str, PostgresDataset]]:
        """The datasets of a source that is closed in the end."""
        source = self.source(**options)
        try:
            yield {dataset.name: dataset for dataset in await source.start()}
        finally:
            await source.close()

    @asynccontextmanager
    async def monitor(self) -> AsyncIterator[Monitor]:
        """A look at the server as its superuser."""
        connection = await asyncpg.connect(self.server.dsn(self.database))
        try:
            yield Monitor(connection)
        finally:
            await connection.close()


OURS = "datname = current_database() AND application_name = 'asgi_export'"
"""The sessions of the database that is looked at; other tests may have some of theirs on the same server."""


@dataclass(frozen=True, slots=True)
class Monitor:
    """What the server says of our sessions."""

    connection: Any

    async def states(self) -> list[str]:
        """The state of each session of ours."""
        rows = await self.connection.fetch(f"SELECT state FROM pg_stat_activity WHERE {OURS} ORDER BY pid")
        return [row["state"] for row in rows]

    async def sessions(self) -> list[int]:
        """The process of each session of ours."""
        rows = await self.connection.fetch(f"SELECT pid FROM pg_stat_activity WHERE {OURS}")
        return [row["pid"] for row in rows]

    async def waiting_for(self) -> list[str]:
        """What each active session of ours waits for, such as `ClientWrite` or `PgSleep`."""
        rows = await self.connection.fetch(
            f"SELECT wait_event FROM pg_stat_activity WHERE {OURS} AND state = 'active'"
        )
        return [row["wait_event"] for row in rows]

    async def until_waiting_for(self, event: str) -> None:
        """Asks the server until it is so, ten seconds at most."""
        async with asyncio.timeout(10):
            while event not in await self.waiting_for():  # noqa: ASYNC110 - another process has no event
                await asyncio.sleep(0.01)

    async def until_quiet(self) -> None:
        """Asks the server until no session of ours is active, two seconds at most."""
        async with asyncio.timeout(2):
            while set(await self.states()) - {"idle"}:  # noqa: ASYNC110 - another process has no event
                await asyncio.sleep(0.01)

    async def terminate(self) -> None:
        """End every session of ours as an administrator does."""
        await self.connection.execute(f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE {OURS}")


def make_shop(server: PostgresServer, database: str = DATABASE, sql: str = SQL) -> Shop:
    """A new database with what the statements make in it."""
    server.execute(
        f"DO $$ BEGIN CREATE ROLE {READER} LOGIN PASSWORD '{PASSWORD}'; EXCEPTION WHEN duplicate_object THEN END $$"
    )
    server.make_database(database, sql)
    return Shop(server, database)


async def batches(
    dataset: PostgresDataset,
    *,
    columns: Sequence[str] = (),
    limit: int | None = None,
    dialect: Dialect | None = None,
) -> list[Batch]:
    """Every batch of one export, all columns unless some are named."""
    names = tuple(columns) or tuple(column.name for column in dataset.columns)
    async with dataset.open(Selection(names, limit, dialect)) as cursor:
        return [batch async for batch in cursor]


async def rows(dataset: PostgresDataset, **options: Any) -> list[tuple[Any, ...]]:
    """Every row of an export as values."""
    return [row for batch in await batches(dataset, **options) for row in _rows(batch)]


async def text(dataset: PostgresDataset, dialect: Dialect, **options: Any) -> bytes:
    """The body of a delimited export, without its header line."""
    names = tuple(options.get("columns") or (column.name for column in dataset.columns))
    encoder = DelimitedEncoder([column for column in dataset.columns if column.name in names], dialect)
    return b"".join([encoder.feed(batch) for batch in await batches(dataset, dialect=dialect, **options)])


def _rows(batch: Batch) -> Sequence[tuple[Any, ...]]:
    assert isinstance(batch, list)
    return batch


def run(shop: Shop, test: Callable[[dict[str, PostgresDataset], Monitor], Any], **options: Any) -> None:
    """A test that needs the datasets and a look at the server; no task of its loop may be left in the end."""

    async def main() -> None:
        async with shop.monitor() as monitor:
            async with shop.datasets(**options) as datasets:
                await test(datasets, monitor)
            assert asyncio.all_tasks() == {asyncio.current_task()}

    asyncio.run(main())
