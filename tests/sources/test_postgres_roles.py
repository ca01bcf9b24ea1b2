"""Exports that run as the role of their caller: row level security, and never more rights than that role has."""

from __future__ import annotations

import asyncio
import csv
import io
import json
from datetime import date
from decimal import Decimal
from typing import Any

import pytest

from asgi_export import Caller, Callers, ExportApp
from asgi_export.errors import Forbidden, SourceFailed, StartupError
from asgi_export.sources.postgres.source import PostgresDataset, PostgresSource
from asgi_export.table import Dialect, Filter, Query, Selection, Sort, depends_on_caller
from tests.doubles import Client
from tests.field.test_postgres_encodings import make
from tests.pgbouncer import pgbouncer
from tests.postgres_server import PASSWORD, PostgresServer
from tests.sources.postgres_shop import Shop, make_shop

LOGIN = "authenticator"
ODD = 'o"dd; RESET ROLE --'

ROLES = f"""
DO $$ DECLARE name text; BEGIN
  FOREACH name IN ARRAY ARRAY['tenant', 'clerk', 'elsewhere', '{ODD}', 'no', '{"x" * 63}'] LOOP
    IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = name) THEN EXECUTE format('CREATE ROLE %I', name); END IF;
  END LOOP;
  IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = '{LOGIN}') THEN
    CREATE ROLE {LOGIN} LOGIN NOINHERIT PASSWORD '{PASSWORD}';
  END IF;
END $$;
GRANT tenant, clerk, "{ODD.replace('"', '""')}", "{"x" * 63}" TO {LOGIN};
"""

SQL = """
CREATE TABLE orders (id int, tenant text, total numeric);
INSERT INTO orders SELECT g, 't' || g % 3, g * 1.5 FROM generate_series(1, 3000) g;
ALTER TABLE orders ENABLE ROW LEVEL SECURITY;
CREATE POLICY own ON orders USING (tenant = current_setting('request.jwt.claims', true)::json ->> 'tenant');
GRANT SELECT ON orders TO tenant, "o""dd; RESET ROLE --";
CREATE TABLE staff (id int, name text, salary int);
INSERT INTO staff VALUES (2, 'Ann', 9000), (1, 'Bob', 8000);
GRANT SELECT (id, name) ON staff TO clerk;
CREATE TABLE secrets (id int);
GRANT SELECT ON secrets TO elsewhere;
CREATE VIEW asleep AS SELECT id, pg_sleep(id)::text AS nap FROM orders;
GRANT SELECT ON asleep TO tenant;
CREATE VIEW failing AS SELECT id, 1 / (id - 2000) AS part FROM generate_series(1, 3000) id;
GRANT SELECT ON failing TO tenant;
"""

WHO = Query("who", "SELECT current_user::text AS name, current_setting('request.jwt.claims', true) AS claims")

COPY = Dialect()
PORTAL = Dialect(quote="all")
ROADS = pytest.mark.parametrize("dialect", [COPY, PORTAL, None], ids=["copy", "portal", "values"])
Datasets = dict[str, PostgresDataset]


@pytest.fixture(scope="module")
def guarded(postgres_server: PostgresServer) -> Shop:
    postgres_server.execute(ROLES)
    return make_shop(postgres_server, "guarded", SQL)


def caller(role: object = "tenant", **claims: object) -> Caller:
    return Caller("ann", claims={"role": role, **claims})


async def found(
    dataset: PostgresDataset, dialect: Dialect | None, who: Caller | None, **options: Any
) -> list[list[str]]:
    columns = options.pop("columns", tuple(column.name for column in dataset.columns))
    async with dataset.open(Selection(columns, dialect=dialect, caller=who, **options)) as cursor:
        batches = [batch async for batch in cursor]
    if batches and isinstance(batches[0], bytes):
        return list(csv.reader(io.StringIO(b"".join(batches).decode(), newline="")))  # type: ignore[arg-type]
    return [["" if value is None else str(value) for value in row] for batch in batches for row in batch]  # type: ignore[union-attr]


def run(shop: Shop, test: Any, *, dsn: str = "", **options: Any) -> None:
    """A test with the datasets of one connection, which is clean in the end."""

    async def main() -> None:
        place = dsn or shop.server.dsn(shop.database, user=LOGIN)
        source = PostgresSource(place, role_claim="role", queries=[WHO], max_connections=1, **options)
        try:
            datasets = {dataset.name: dataset for dataset in await source.start()}
            await test(datasets)
            await expect_clean(datasets["orders"])
        finally:
            await source.close()

    asyncio.run(main())


async def expect_clean(dataset: PostgresDataset) -> None:
    """The connection that goes back to the pool has neither a role nor claims."""
    async with dataset.pool.acquire() as connection:
        row = await connection.fetchrow("SELECT current_user::text, current_setting('request.jwt.claims', true)")
        assert (row[0], row[1] or "") == (LOGIN, "")


@ROADS
def test_each_caller_gets_the_rows_that_the_policies_give_its_role(guarded: Shop, dialect: Dialect | None) -> None:
    async def test(datasets: Datasets) -> None:
        orders = datasets["orders"]
        for tenant in ("t0", "t1", "t2"):
            rows = await found(orders, dialect, caller(tenant=tenant))
            assert {row[1] for row in rows} == {tenant}
            assert len(rows) == 1000
            filters = (Filter("tenant", "in", ("t0", "t1")), Filter("total", "lte", 9))
            some = await found(
                orders, dialect, caller(tenant=tenant), filters=filters, sort=(Sort("id", True),), limit=1
            )
            assert [row[1] for row in some] == [tenant] * (tenant != "t2")
        assert await found(orders, dialect, caller()) == []

    run(guarded, test)


@pytest.mark.parametrize(
    "who",
    [
        None,
        Caller("ann"),
        *[
            caller(role)
            for role in ("", "none", "NONE", "nobody", "postgres", LOGIN.upper(), "elsewhere", "no", '"tenant"')
        ],
        *[
            caller(role)
            for role in ("tenant\0", "\ud800", "x" * 64, "x" * 70, "tenant ", "é" * 32, "tenant; RESET ROLE")
        ],
        *[caller(role) for role in (None, 1, True, ["tenant"], {"role": "tenant"}, b"tenant")],
    ],
    ids=repr,
)
def test_a_caller_without_a_role_that_may_be_taken_is_forbidden(guarded: Shop, who: Caller | None) -> None:
    """`none` would give back the role that has connected, and a name of 64 bytes is cut off to that of another."""

    async def test(datasets: Datasets) -> None:
        for name in ("orders", "who", "failing"):
            for dialect in (COPY, PORTAL, None):
                with pytest.raises(Forbidden, match=f"^{name}: "):
                    await found(datasets[name], dialect, who)
        await expect_clean(datasets["orders"])
        assert len(await found(datasets["orders"], COPY, caller(tenant="t1"))) == 1000

    run(guarded, test)


@ROADS
def test_a_role_is_an_identifier_and_claims_are_json_whatever_they_hold(
    guarded: Shop, dialect: Dialect | None
) -> None:
    claims = {
        "tenant": "t1",
        "it's": "\\' \" $$ %s é 🙂",
        "day": date(2026, 1, 31),
        "n": Decimal("1.5"),
        "list": [1, "a"],
    }

    async def test(datasets: Datasets) -> None:
        for role in (ODD, "x" * 63):
            ((name, text),) = await found(datasets["who"], dialect, caller(role, **claims))
            assert name == role
            expected = {"role": role, **claims, "day": "2026-01-31", "n": "1.5"}
            assert json.loads(text) == expected
        assert len(await found(datasets["orders"], dialect, caller(ODD, tenant="t1"))) == 1000
        with pytest.raises(Forbidden):
            await found(datasets["orders"], dialect, caller("x" * 63, tenant="t1"))

    run(guarded, test)


@ROADS
def test_the_catalogue_has_what_any_role_can_read_and_the_server_refuses_the_rest(
    guarded: Shop, dialect: Dialect | None
) -> None:
    async def test(datasets: Datasets) -> None:
        assert set(datasets) == {"orders", "staff", "asleep", "failing", "who"}
        assert [column.name for column in datasets["staff"].columns] == ["id", "name"]
        assert sorted(await found(datasets["staff"], dialect, caller("clerk"), sort=(Sort("id"),)))[0] == ["1", "Bob"]
        with pytest.raises(Forbidden, match=r"^staff: the role of this caller may not read it"):
            await found(datasets["staff"], dialect, caller())
        with pytest.raises(Forbidden):
            await found(datasets["orders"], dialect, caller("clerk"))

    run(guarded, test)


@ROADS
def test_a_connection_is_clean_after_every_ending(guarded: Shop, dialect: Dialect | None) -> None:
    async def test(datasets: Datasets) -> None:
        me = caller(tenant="t1")
        names = ("id", "tenant")
        async with datasets["orders"].open(Selection(names, dialect=dialect, caller=me)) as cursor:
            await anext(cursor)
        await expect_clean(datasets["orders"])
        async with datasets["orders"].open(Selection(names, dialect=dialect, caller=me)):
            pass
        await expect_clean(datasets["orders"])
        with pytest.raises(SourceFailed):
            await found(datasets["failing"], dialect, me)
        await expect_clean(datasets["orders"])
        async with guarded.monitor() as monitor:
            task = asyncio.create_task(found(datasets["asleep"], dialect, me))
            await monitor.until_waiting_for("PgSleep")
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            await monitor.until_quiet()

    run(guarded, test)


def test_a_pooler_gives_no_role_to_the_next_transaction(guarded: Shop) -> None:
    async def test(datasets: Datasets) -> None:
        for dialect in (COPY, PORTAL, None):
            for tenant in ("t1", "t2"):
                rows = await found(datasets["orders"], dialect, caller(tenant=tenant))
                assert {row[1] for row in rows} == {tenant}
            with pytest.raises(Forbidden):
                await found(datasets["orders"], dialect, caller("nobody"))
            async with datasets["orders"].open(
                Selection(("id", "tenant"), dialect=dialect, caller=caller(tenant="t1"))
            ) as cursor:
                await anext(cursor)
            await expect_clean(datasets["orders"])

    with pgbouncer(guarded.server, users=[LOGIN], pool_mode="transaction", default_pool_size="1") as pooler:
        run(guarded, test, dsn=pooler.dsn(guarded.database, user=LOGIN))


def test_the_datasets_differ_by_caller_only_with_the_claim(guarded: Shop) -> None:
    async def main() -> None:
        for claim, differs in (("role", True), ("", False)):
            dsn = guarded.server.dsn(guarded.database)
            source = PostgresSource(dsn, role_claim=claim)
            assert {depends_on_caller(dataset) for dataset in await source.start()} == {differs}
            await source.close()
        with pytest.raises(StartupError, match="holds no table or view that the role may read"):
            await PostgresSource(guarded.server.dsn(guarded.database, user=LOGIN)).start()

    asyncio.run(main())


def test_a_role_that_the_encoding_lacks_is_forbidden_and_claims_are_taken(postgres_server: PostgresServer) -> None:
    postgres_server.execute(ROLES)
    shop = make(postgres_server, "latin roles", "LATIN1", SQL)

    async def test(datasets: Datasets) -> None:
        with pytest.raises(Forbidden):
            await found(datasets["orders"], COPY, caller("東京"))
        ((_, text),) = await found(datasets["who"], COPY, caller(city="東京"))
        assert json.loads(text)["city"] == "東京"

    run(shop, test)


def test_over_http_each_caller_gets_its_rows_or_a_403(guarded: Shop) -> None:
    async def identify(scope: Any) -> Caller | None:
        name = dict(scope["headers"]).get(b"x-user", b"").decode()
        return Caller(name, claims={"role": name, "tenant": "t1"}) if name else None

    async def main() -> None:
        source = PostgresSource(guarded.server.dsn(guarded.database, user=LOGIN), role_claim="role")
        app = ExportApp([source])
        answers = {}
        for name in ("tenant", "clerk", "none", "postgres", "nobody"):
            client = Client()
            headers = [(b"x-user", name.encode())]
            query = "dataset=orders&total__lt=7"
            await client.ask(Callers(app, identify), query, path="/api/v1/exports/csv", headers=headers)
            answers[name] = (client.status, client.body)
        await app.stop()
        assert answers["tenant"] == (200, b"id,tenant,total\n1,t1,1.5\n4,t1,6.0\n")
        assert [status for status, _ in answers.values()] == [200, 403, 403, 403, 403]
        assert json.loads(answers["postgres"][1])["error"] == "forbidden"
        assert b"permission denied" not in answers["postgres"][1]

    asyncio.run(main())
