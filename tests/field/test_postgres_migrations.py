"""A PostgreSQL database that is migrated, and errors of the server that pass or come again."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from typing import Any

import pytest

from asgi_export import ExportApp
from asgi_export.sources.postgres.source import PostgresSource
from asgi_export.table import Selection
from tests.doubles import Client, run
from tests.postgres_server import PASSWORD, PostgresServer

EXPORTS = "/api/v1/exports"
READER = "migrations_reader"
DATABASE = "migrations"
SQL = f"""
CREATE TABLE orders (id int, item text, tags int[]);
INSERT INTO orders VALUES (1, 'tea', '{{1,2}}');
CREATE TABLE stock (id int);
INSERT INTO stock VALUES (7);
CREATE VIEW failing AS SELECT id, 1 / (id - 1) AS boom FROM orders;
CREATE SCHEMA elsewhere;
CREATE TABLE elsewhere.hidden (id int);
GRANT SELECT ON ALL TABLES IN SCHEMA public TO {READER};
"""


@pytest.fixture
def server(postgres_server: PostgresServer) -> Iterator[PostgresServer]:
    """A database of its own for each test."""
    postgres_server.execute(f"CREATE DATABASE {DATABASE}")
    postgres_server.execute(f"CREATE ROLE {READER} LOGIN PASSWORD '{PASSWORD}'")
    postgres_server.execute(SQL, DATABASE)
    yield postgres_server
    postgres_server.execute(f"DROP DATABASE {DATABASE} WITH (FORCE)")
    postgres_server.execute(f"DROP ROLE {READER}")


def app_of(server: PostgresServer, **options: Any) -> ExportApp:
    source = PostgresSource(server.dsn(DATABASE, user=READER), **options)
    return ExportApp([source], catalogue_seconds=86_400)


async def ask(app: Any, query: str = "", path: str = f"{EXPORTS}/csv") -> tuple[int, str]:
    client = Client()
    await client.ask(app, query, path=path)
    text = client.body.decode()
    return client.status, text if client.status == 200 else str(json.loads(text).get("detail"))


@pytest.mark.parametrize(
    ("migration", "query", "status", "found"),
    [
        ("DROP TABLE orders CASCADE", "dataset=orders", 404, "dataset=orders: no such dataset; there are stock"),
        ("ALTER TABLE orders RENAME TO sales", "dataset=orders", 404, "sales"),
        ("ALTER TABLE orders RENAME item TO thing", "dataset=orders", 200, 'id,thing,tags\n1,tea,"[1,2]"\n'),
        (
            "ALTER TABLE orders RENAME item TO thing",
            "dataset=orders&columns=item",
            400,
            "columns=item: unknown column",
        ),
        ("ALTER TABLE orders DROP item", "dataset=orders", 200, 'id,tags\n1,"[1,2]"\n'),
        ("ALTER SCHEMA public RENAME TO private", "dataset=orders", 404, "private.orders"),
        (f"REVOKE SELECT ON orders FROM {READER}", "dataset=orders", 404, "no such dataset"),
        (
            f"REVOKE ALL ON orders FROM {READER}; GRANT SELECT (id) ON orders TO {READER}",
            "dataset=orders",
            200,
            "id\n1",
        ),
    ],
)
def test_what_is_gone_is_answered_at_once(
    server: PostgresServer, migration: str, query: str, status: int, found: str
) -> None:
    async def scenario() -> None:
        app = app_of(server)
        assert (await ask(app, "dataset=orders"))[0] == 200
        server.execute(migration, DATABASE)
        answer = await ask(app, query)
        assert answer[0] == status
        assert found in answer[1]
        await app.stop()

    run(scenario())


@pytest.mark.parametrize(
    ("migration", "query", "found"),
    [
        ("ALTER TABLE orders ADD price numeric", "dataset=orders", "id,item,tags,price"),
        ("ALTER TABLE orders ALTER tags TYPE text USING 'none'", "dataset=orders", "1,tea,none\n"),
        ("ALTER TABLE orders ALTER item TYPE int[] USING '{3}'", "dataset=orders", '1,[3],"[1,2]"'),
        (f"GRANT USAGE ON SCHEMA elsewhere TO {READER}; GRANT SELECT ON elsewhere.hidden TO {READER}",
         "dataset=elsewhere.hidden", "id\n"),
        (f"CREATE TABLE fresh (a int); GRANT SELECT ON fresh TO {READER}", "dataset=fresh", "a\n"),
    ],
)  # fmt: skip
def test_what_is_new_is_seen_at_the_next_reading(
    server: PostgresServer, migration: str, query: str, found: str
) -> None:
    async def scenario() -> None:
        app = app_of(server)
        await ask(app, "dataset=orders")
        server.execute(migration, DATABASE)
        await app.refresh()
        status, text = await ask(app, query)
        assert (status, found in text) == (200, True), text
        await app.stop()

    run(scenario())


def test_rights_by_a_role_are_seen(server: PostgresServer) -> None:
    """They change no row of the table's own."""

    async def scenario() -> None:
        server.execute("CREATE ROLE migrations_clerks")
        server.execute("CREATE TABLE papers (a int); GRANT SELECT ON papers TO migrations_clerks", DATABASE)
        app = app_of(server)
        assert (await ask(app, "dataset=papers"))[0] == 404
        server.execute(f"GRANT migrations_clerks TO {READER}")
        await app.refresh()
        assert (await ask(app, "dataset=papers"))[0] == 200
        await app.stop()
        server.execute("DROP OWNED BY migrations_clerks", DATABASE)
        server.execute("DROP ROLE migrations_clerks")

    run(scenario())


def test_nothing_is_read_again_where_nothing_changed(server: PostgresServer) -> None:
    async def scenario() -> None:
        source = PostgresSource(server.dsn(DATABASE, user=READER))
        await source.start()
        assert await source.refresh() is None
        server.execute("INSERT INTO orders VALUES (2); VACUUM ANALYZE; CREATE INDEX ON orders(id)", DATABASE)
        assert await source.refresh() is None
        server.execute("ALTER TABLE orders ALTER item TYPE varchar", DATABASE)
        found = await source.refresh()
        assert found is not None
        assert found[1].columns[1].type == "character varying"
        await source.close()

    run(scenario())


def test_an_export_that_runs_holds_up_no_reading(server: PostgresServer) -> None:
    async def scenario() -> None:
        source = PostgresSource(server.dsn(DATABASE, user=READER), max_connections=1, wait_seconds=0.1)
        datasets = {found.name: found for found in await source.start()}
        async with datasets["orders"].open(Selection(("id",))) as batches:
            await anext(batches)
            assert await source.refresh() is None
        await source.close()

    run(scenario())


def test_a_view_that_fails_is_a_500_with_its_reason_in_the_log(
    server: PostgresServer, caplog: pytest.LogCaptureFixture
) -> None:
    async def scenario() -> None:
        app = app_of(server)
        client = Client()
        await client.ask(app, "dataset=failing", path=f"{EXPORTS}/csv", headers=[(b"x-request-id", b"find-me")])
        assert client.status == 500
        assert b"retry-after" not in client.headers
        assert "dataset failing: the view fails" in json.loads(client.body)["detail"]
        await app.stop()

    run(scenario())
    (record,) = [found for found in caplog.records if found.levelno == logging.ERROR]
    assert "find-me" in record.getMessage()


@pytest.mark.parametrize(
    ("sqlstate", "status"),
    [
        ("08006", 503),
        ("40001", 503),
        ("53300", 503),
        ("57P03", 503),
        ("58030", 503),
        ("55P03", 503),
        ("HV00N", 503),
        ("22012", 500),
        ("25006", 500),
        ("42883", 500),
        ("P0001", 500),
        ("XX001", 500),
    ],
)
def test_a_class_of_sqlstates_passes_or_does_not(server: PostgresServer, sqlstate: str, status: int) -> None:
    """A function in a view raises it."""

    async def scenario() -> None:
        server.execute(
            f"""CREATE FUNCTION fail() RETURNS int LANGUAGE plpgsql AS
            $$BEGIN RAISE EXCEPTION 'no' USING ERRCODE = '{sqlstate}'; END$$;
            CREATE VIEW raising AS SELECT fail() AS a, 1 AS b;
            GRANT SELECT ON raising TO {READER}""",
            DATABASE,
        )
        app = app_of(server)
        for form in ("csv", "ndjson"):
            client = Client()
            await client.ask(app, "dataset=raising", path=f"{EXPORTS}/{form}")
            assert (client.status, b"retry-after" in client.headers) == (status, status == 503)
        await app.stop()

    run(scenario())
