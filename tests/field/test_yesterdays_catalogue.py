"""A service lives through migrations: tables and columns that come, go, and change their names or types."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import sqlite3
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from pyarrow import parquet

from asgi_export import ExportApp, SqliteSource, dataset
from asgi_export.access.identity import IDENTITY, Identity
from asgi_export.access.plans import AccessPlan
from asgi_export.asgi.context import context_of
from asgi_export.export.catalogue import Catalogue
from asgi_export.sources.files.source import FileSource
from asgi_export.table import Dataset
from tests.doubles import Client, run

EXPORTS = "/api/v1/exports"
DAYS = 86_400.0
"""Nothing is due within a test."""


def change(path: Path, *statements: str) -> Path:
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        for statement in statements:
            connection.execute(statement)
    return path


def shop(folder: Path) -> Path:
    return change(
        folder / "shop.db",
        "CREATE TABLE orders(id, item)",
        "INSERT INTO orders VALUES (1, 'tea')",
        "CREATE TABLE stock(id, amount)",
        "INSERT INTO stock VALUES (7, 70)",
    )


def app_of(*sources: Any, seconds: float = DAYS) -> ExportApp:
    return ExportApp(sources, catalogue_seconds=seconds)


class Reader(Client):
    """A client that reads text."""

    @property
    def text(self) -> str:
        return self.body.decode()


async def ask(app: Any, query: str = "", path: str = f"{EXPORTS}/csv", **scope: Any) -> Reader:
    client = Reader()
    await client.ask(app, query, path=path, **scope)
    return client


def detail(client: Reader) -> str:
    return str(json.loads(client.body)["detail"])


# A source that says that something is gone


@pytest.mark.parametrize(
    ("migration", "query", "status", "found"),
    [
        ("DROP TABLE orders", "dataset=orders", 404, "dataset=orders: no such dataset; there are stock"),
        ("DROP TABLE orders", "", 404, "orders, the default dataset, is gone; by dataset=NAME there are stock"),
        ("ALTER TABLE orders RENAME TO sales", "dataset=orders", 404, "there are sales, stock"),
        ("ALTER TABLE orders RENAME item TO thing", "", 200, "id,thing\n1,tea\n"),
        ("ALTER TABLE orders RENAME item TO thing", "columns=id,item", 400, "unknown column; there are id, thing"),
        ("ALTER TABLE orders RENAME item TO thing", "columns=id", 200, "id\n1\n"),
        ("ALTER TABLE orders DROP COLUMN item", "", 200, "id\n1\n"),
        ("ALTER TABLE orders DROP COLUMN item", "columns=item,id", 400, "columns=item: unknown column"),
    ],
)
def test_what_is_gone_is_answered_at_once(
    tmp_path: Path, migration: str, query: str, status: int, found: str
) -> None:
    async def scenario() -> None:
        path = shop(tmp_path)
        app = app_of(SqliteSource(path))
        assert (await ask(app)).status == 200
        change(path, migration)
        client = await ask(app, query)
        assert client.status == status
        assert found in (client.text if status == 200 else detail(client))
        assert b"retry-after" not in client.headers
        await app.stop()

    run(scenario())


def test_the_answer_to_what_is_gone_is_no_error_in_the_log(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    async def scenario() -> None:
        path = shop(tmp_path)
        app = app_of(SqliteSource(path))
        await ask(app)
        change(path, "ALTER TABLE orders RENAME item TO thing")
        await ask(app)
        await ask(app, "columns=item")
        await app.stop()

    run(scenario())
    assert [record for record in caplog.records if record.levelno >= logging.WARNING] == []


def test_another_table_never_becomes_the_default(tmp_path: Path) -> None:
    """Whoever names no dataset gets the first of the start, or none."""

    async def scenario() -> None:
        path = shop(tmp_path)
        app = app_of(SqliteSource(path))
        assert (await ask(app)).text.startswith("id,item")
        change(path, "ALTER TABLE orders RENAME TO old", "CREATE TABLE orders(id, item)", "DROP TABLE old")
        await app.refresh()
        assert [found.name for found in app.datasets] == ["stock", "orders"]
        assert (await ask(app)).text == "id,item\n"
        change(path, "DROP TABLE orders")
        await app.refresh()
        assert (await ask(app)).status == 404
        assert (await ask(app, path="/openapi.json")).status == 200
        await app.stop()

    run(scenario())


# What comes by itself


def test_new_tables_and_columns_are_seen_when_the_catalogue_is_due(tmp_path: Path) -> None:
    async def scenario() -> None:
        path, now = shop(tmp_path), [0.0]
        catalogue = Catalogue([SqliteSource(path)], seconds=60, clock=lambda: now[0])
        await catalogue.start()
        before = catalogue.now
        change(path, "CREATE TABLE news(a)", "ALTER TABLE orders ADD COLUMN price")
        now[0] = 60.0
        await catalogue.keep_fresh()
        assert list(catalogue.now.by_name) == ["orders", "stock", "news"]
        assert [column.name for column in catalogue.now.by_name["orders"].columns] == ["id", "item", "price"]
        assert catalogue.now.by_name["stock"] is before.by_name["stock"]
        assert list(before.by_name) == ["orders", "stock"], "an export that runs has the catalogue that it began with"
        change(path, "DROP TABLE news")
        now[0] = 119.0
        await catalogue.keep_fresh()
        assert "news" in catalogue.now.by_name
        now[0] = 120.0
        await catalogue.keep_fresh()
        assert "news" not in catalogue.now.by_name
        await catalogue.close()

    run(scenario())


def test_the_listing_and_the_description_follow(tmp_path: Path) -> None:
    async def scenario() -> None:
        path = shop(tmp_path)
        app = app_of(SqliteSource(path))
        assert "price" not in (await ask(app, path="/openapi.json")).text
        change(path, "ALTER TABLE orders ADD COLUMN price DECIMAL(10,2)")
        await app.refresh()
        listing = json.loads((await ask(app, path=f"{EXPORTS}/")).body)
        columns = listing["datasets"][0]["columns"]
        assert [(column["name"], column["type"]) for column in columns][2] == ("price", "DECIMAL(10,2)")
        assert "price" in (await ask(app, "dataset=orders", path="/openapi.json")).text
        await app.stop()

    run(scenario())


def test_all_tables_may_go_and_come_back(tmp_path: Path) -> None:
    async def scenario() -> None:
        path = shop(tmp_path)
        app = app_of(SqliteSource(path))
        await ask(app)
        change(path, "DROP TABLE orders", "DROP TABLE stock")
        assert (await ask(app)).status == 404
        assert (await ask(app, "dataset=stock")).status == 404
        assert (await ask(app, path=f"{EXPORTS}/")).status == 200
        assert (await ask(app, path="/openapi.json")).status == 404
        change(path, "CREATE TABLE orders(id)", "INSERT INTO orders VALUES (3)")
        await app.refresh()
        assert (await ask(app)).text == "id\n3\n"
        await app.stop()

    run(scenario())


def test_a_file_made_anew_with_as_many_changes_is_seen(tmp_path: Path) -> None:
    """SQLite's own number of the schema is the same then."""

    async def scenario() -> None:
        path = change(tmp_path / "nightly.db", "CREATE TABLE t(a)")
        app = app_of(SqliteSource(path))
        assert (await ask(app)).text == "a\n"
        path.write_bytes(change(tmp_path / "next.db", "CREATE TABLE t(a, b)").read_bytes())
        await app.refresh()
        assert (await ask(app)).text == "a,b\n"
        os.replace(change(tmp_path / "third.db", "CREATE TABLE t(a, b, c)"), path)
        await app.refresh()
        assert (await ask(app)).text == "a,b,c\n"
        await app.stop()

    run(scenario())


# What cannot be read


def test_a_catalogue_that_cannot_be_read_keeps_the_one_before(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async def scenario() -> None:
        caplog.set_level(logging.INFO, logger="asgi_export")
        path = shop(tmp_path)
        app = app_of(SqliteSource(path), seconds=1e-9)
        await ask(app)
        path.rename(tmp_path / "away.db")
        for _ in range(3):
            client = await ask(app)
            assert (client.status, client.headers[b"retry-after"]) == (503, b"5")
            ready = await ask(app, path="/readyz")
            assert (ready.status, json.loads(ready.body)["failing"]) == (503, ["shop.db"])
        assert json.loads((await ask(app, path=f"{EXPORTS}/")).body)["datasets"][0]["name"] == "orders"
        (tmp_path / "away.db").rename(path)
        assert (await ask(app, path="/readyz")).status == 200
        assert (await ask(app)).status == 200
        await app.stop()

    run(scenario())
    told = [record for record in caplog.records if "the catalogue cannot be read" in record.getMessage()]
    assert len([record for record in told if record.levelno == logging.ERROR]) == 1
    assert "the catalogue can be read again" in caplog.text


class Stubborn:
    """A source whose catalogue is read when the test lets it, and which counts the readings."""

    name = "stubborn"

    def __init__(self) -> None:
        self.readings = 0
        self.names = ["first"]
        self.reading = asyncio.Event()
        self.let = asyncio.Event()
        self.error: Exception | None = None
        self.closed = False

    async def start(self) -> Sequence[Dataset]:
        return self._datasets()

    async def refresh(self) -> Sequence[Dataset] | None:
        self.readings += 1
        self.reading.set()
        await self.let.wait()
        if self.error is not None:
            raise self.error
        return self._datasets()

    async def check(self) -> None: ...

    async def close(self) -> None:
        self.closed = True

    def _datasets(self) -> Sequence[Dataset]:
        return [dataset(lambda: [(1,)], columns=["a"], name=name) for name in self.names]


def test_a_reading_that_hangs_holds_up_one_request_for_a_second_and_no_other() -> None:
    async def scenario() -> None:
        source = Stubborn()
        app = app_of(source, seconds=1e-9)
        for _ in range(2):
            assert (await ask(app)).status == 200
        assert source.readings == 1
        source.names = ["first", "second"]
        source.let.set()
        assert (await ask(app, "dataset=second")).status == 200
        await app.stop()

    run(scenario())


def test_many_who_ask_at_once_share_a_reading_that_begins_after_they_asked() -> None:
    async def scenario() -> None:
        source = Stubborn()
        catalogue = Catalogue([source], seconds=DAYS)
        await catalogue.start()
        first = asyncio.create_task(catalogue.refresh())
        await source.reading.wait()
        assert source.readings == 1
        others = [asyncio.create_task(catalogue.refresh()) for _ in range(50)]
        await asyncio.sleep(0)
        source.let.set()
        await asyncio.gather(first, *others)
        assert source.readings == 2
        await catalogue.close()

    run(scenario())


def test_closing_ends_a_reading() -> None:
    async def scenario() -> None:
        source = Stubborn()
        catalogue = Catalogue([source], seconds=DAYS)
        await catalogue.start()
        waiting = asyncio.create_task(catalogue.refresh())
        await source.reading.wait()
        await catalogue.close()
        await waiting
        assert source.closed

    run(scenario())


def test_a_name_that_two_sources_come_to_have_stays_the_first_ones(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async def scenario() -> None:
        first = change(tmp_path / "a.db", "CREATE TABLE one(a)")
        second = change(tmp_path / "b.db", "CREATE TABLE two(b)")
        app = app_of(SqliteSource(first), SqliteSource(second))
        await app.start()
        change(second, "CREATE TABLE one(b)")
        await app.refresh()
        await app.refresh()
        assert (await ask(app, "dataset=one")).text == "a\n"
        await app.stop()

    run(scenario())
    assert caplog.text.count("a second dataset named 'one' is left out") == 1


# Rights


def test_what_a_plan_may_read_does_not_grow(tmp_path: Path) -> None:
    async def scenario() -> None:
        path = shop(tmp_path)
        app = app_of(SqliteSource(path))
        await app.start()
        plan = AccessPlan("few", datasets=frozenset({"orders"}), columns={"orders": frozenset({"id"})})

        async def with_plan(scope: Any, receive: Any, send: Any) -> None:
            context_of(scope).set(IDENTITY, Identity("alice", plan))
            await app(scope, receive, send)

        change(path, "ALTER TABLE orders ADD COLUMN secret")
        await app.refresh()
        assert (await ask(with_plan)).text == "id\n1\n"
        assert (await ask(with_plan, "columns=secret")).status == 403
        assert (await ask(with_plan, "dataset=stock")).status == 403
        change(path, "ALTER TABLE orders RENAME id TO key")
        assert (await ask(with_plan)).status == 403
        await app.stop()

    run(scenario())


# Files


def write(path: Path, **columns: list[Any]) -> Path:
    path.parent.mkdir(exist_ok=True)
    parquet.write_table(pa.table(columns), path)
    return path


def test_a_folder_takes_the_columns_of_new_files(tmp_path: Path) -> None:
    async def scenario() -> None:
        write(tmp_path / "days" / "1.parquet", id=[1])
        app = app_of(FileSource(tmp_path / "days"))
        await app.start()
        write(tmp_path / "days" / "2.parquet", id=[2], price=[0.5])
        assert (await ask(app)).text == "id\n1\n2\n"
        await app.refresh()
        assert (await ask(app)).text == "id,price\n1,\n2,0.5\n"
        (tmp_path / "days" / "2.parquet").unlink()
        client = await ask(app, "columns=price")
        assert (client.status, detail(client)) == (400, "columns=price: unknown column; there are id")
        await app.stop()

    run(scenario())


def test_a_file_that_was_replaced_by_one_with_other_columns_is_no_column_of_nulls(tmp_path: Path) -> None:
    async def scenario() -> None:
        path = write(tmp_path / "t.parquet", id=[1], name=["x"])
        app = app_of(FileSource(path))
        assert (await ask(app)).text == "id,name\n1,x\n"
        write(path, id=[2], title=["y"])
        client = await ask(app, "columns=name")
        assert (client.status, detail(client)) == (400, "columns=name: unknown column; there are id, title")
        assert (await ask(app)).text == "id,title\n2,y\n"
        await app.stop()

    run(scenario())


def test_a_file_whose_types_have_changed_is_exported_with_those_it_has(tmp_path: Path) -> None:
    async def scenario() -> None:
        path = write(tmp_path / "t.parquet", id=[1])
        app = app_of(FileSource(path))
        await ask(app)
        write(path, id=["one"])
        assert (await ask(app)).text == "id\none\n"
        assert app.datasets[0].columns[0].type == "string"
        await app.stop()

    run(scenario())


def test_an_empty_folder_keeps_its_columns_and_is_not_ready(tmp_path: Path) -> None:
    async def scenario() -> None:
        path = write(tmp_path / "days" / "1.parquet", id=[1])
        app = app_of(FileSource(tmp_path / "days"))
        await app.start()
        path.unlink()
        await app.refresh()
        assert (await ask(app)).status == 503
        assert (await ask(app, path="/readyz")).status == 503
        write(path, id=[2])
        assert (await ask(app, path="/readyz")).status == 200
        assert (await ask(app)).text == "id\n2\n"
        await app.stop()

    run(scenario())


def test_nothing_is_read_again_where_nothing_changed(tmp_path: Path) -> None:
    async def scenario() -> None:
        files, tables = FileSource(write(tmp_path / "t.parquet", id=[1])), SqliteSource(shop(tmp_path))
        for source in (files, tables):
            await source.start()
            await source.refresh()
            assert await source.refresh() is None
        change(tmp_path / "shop.db", "INSERT INTO orders VALUES (2, 'milk')", "VACUUM")
        assert await tables.refresh() is None
        change(tmp_path / "shop.db", "ALTER TABLE orders ADD COLUMN x TEXT")
        found = await tables.refresh()
        assert found is not None
        assert [column.name for column in found[0].columns] == ["id", "item", "x"]

    run(scenario())
