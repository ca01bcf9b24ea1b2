"""From a location, as a user writes it, to its source; and one line for each that cannot be."""

from __future__ import annotations

import asyncio
import os
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from asgi_export import Query
from asgi_export.errors import StartupError
from asgi_export.export.queries import QuerySetting
from asgi_export.locations import Prefixed, open_location, open_locations
from asgi_export.sources.files.source import FileSource
from asgi_export.sources.postgres.source import PostgresSource
from asgi_export.sources.simulated import SimulatedDataset
from asgi_export.sources.sqlite.source import SqliteSource
from asgi_export.table import Selection


@pytest.fixture
def shop(tmp_path: Path) -> Path:
    path = tmp_path / "shop.db"
    with closing(sqlite3.connect(path)) as connection:
        connection.executescript("CREATE TABLE orders (id INTEGER); INSERT INTO orders VALUES (7);")
    return path


def test_no_location_is_made_up_rows() -> None:
    assert open_locations([]) == [SimulatedDataset()]


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("simulated", SimulatedDataset),
        ("shop.db", SqliteSource),
        ("SHOP.SQLITE3", SqliteSource),
        ("flights.parquet", FileSource),
        ("s3://bucket/year=2024/*.csv", FileSource),
        ("data/year=2024/x.csv", FileSource),
        ("postgresql://me@host/db", PostgresSource),
        ("postgresql:///db?application_name=x=y", PostgresSource),
        ("main=postgres://me@host/db", Prefixed),
        ("orders=orders.csv", FileSource),
        ("a=b.db", Prefixed),
    ],
)
def test_the_kind_is_told_by_the_location(text: str, kind: type) -> None:
    assert type(open_location(text)) is kind


def test_a_file_without_a_suffix_is_told_by_its_first_bytes(shop: Path) -> None:
    assert isinstance(open_location(str(shop.rename(shop.with_suffix("")))), SqliteSource)


def test_a_file_whose_name_has_an_equals_sign_is_itself(shop: Path) -> None:
    assert isinstance(open_location(str(shop.rename(shop.parent / "a=b.db"))), SqliteSource)


def test_a_name_goes_before_the_tables(shop: Path) -> None:
    async def exported() -> tuple[str, list[Any]]:
        source = open_location(f"mine={shop}")
        assert isinstance(source, Prefixed)
        (found,) = await source.start()
        await source.check()
        cursor: Any = found.open(Selection(("id",)))
        with cursor as batches:
            rows = [row for batch in batches for row in batch]
        await source.close()
        return found.name, rows

    assert asyncio.run(exported()) == ("mine.orders", [(7,)])


def test_made_up_rows_may_have_a_name() -> None:
    assert open_location("demo=simulated") == SimulatedDataset("demo")


@pytest.mark.parametrize(
    "text",
    [
        "nowhere",
        "~",
        "::",
        "n=",
        "=",
        "LICENSE",
        "/dev/null",
        "mysql://me:s3cret@host/db",
        "file:///etc/passwd",
        "x" * 5000,
        "a\0b",
        "a\0.csv",
        "n=a\0.db",
    ],
    ids=lambda text: ascii(text[:20]),
)
def test_what_nothing_serves_is_one_line(text: str) -> None:
    with pytest.raises(StartupError, match=r"expected|no such") as raised:
        open_location(text)
    assert len(str(raised.value).splitlines()) == 1
    assert "s3cret" not in str(raised.value)


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="only root can take rights away here")
@pytest.mark.parametrize("name", ["closed", "closed.db", "closed.parquet", "*.csv"])
def test_what_may_not_be_read_stops_the_start_in_one_line(tmp_path: Path, name: str) -> None:
    """A folder of somebody else's: looking whether the file is there is refused already."""
    folder = tmp_path / "closed"
    folder.mkdir(mode=0o700)
    (folder / name).write_bytes(b"SQLite format 3\0")

    async def start() -> None:
        await open_location(str(folder / name)).start()  # type: ignore[union-attr]

    os.seteuid(65534)
    try:
        with pytest.raises(StartupError) as raised:
            asyncio.run(start())
    finally:
        os.seteuid(0)
    assert len(str(raised.value).splitlines()) == 1


@pytest.mark.parametrize("location", ["simulated", "people.csv"])
def test_a_query_of_a_source_that_runs_none_stops_the_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, location: str
) -> None:
    """Served without it, the operator would look for the fault elsewhere."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "people.csv").write_text("id\n1\n")
    queries = [QuerySetting("", Query("totals", "SELECT 1"))]
    with pytest.raises(StartupError, match=r"queries\.totals: .* runs no queries; expected SQLite or PostgreSQL"):
        open_locations([location], queries=queries)
