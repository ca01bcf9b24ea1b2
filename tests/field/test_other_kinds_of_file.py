"""Folders and files that are not what they seem: table formats, partitions that begin with `_`, wrong suffixes."""

from __future__ import annotations

import gzip
import io
import json
import sqlite3
import zipfile
from contextlib import closing
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard

from asgi_export.errors import SourceFailed, StartupError
from asgi_export.locations import open_location
from asgi_export.sources.files.source import FileSource
from asgi_export.sources.sqlite.source import SqliteSource
from tests.sources.test_files import read, started, write

TABLE = pa.table({"id": [1, 2]})


def test_a_partition_that_begins_with_an_underscore_is_data(tmp_path: Path) -> None:
    write(tmp_path / "s/_loc=1/b=2/x.parquet", TABLE)
    write(tmp_path / "s/_loc=2/b=3/x.parquet", TABLE)
    for hidden in ("_temporary/_loc=3/b=2", ".x=1", "_loc=1/b=2/_tmp", "_loc=1/b=2/.part"):
        write(tmp_path / "s" / hidden / "x.parquet", TABLE)
    write(tmp_path / "s/_loc=1/b=2/_x.parquet", TABLE)
    dataset = started(tmp_path / "s")
    assert read(dataset) == [(1, 1, 2), (2, 1, 2), (1, 2, 3), (2, 2, 3)]
    assert [column.name for column in dataset.columns] == ["id", "_loc", "b"]


def test_folders_that_are_not_partitioned_alike_are_refused_not_left_out(tmp_path: Path) -> None:
    write(tmp_path / "s/_loc=1/x.parquet", TABLE)
    write(tmp_path / "s/b=2/x.parquet", TABLE)
    with pytest.raises(StartupError, match=r"b=2/x.parquet lies in folders \['b'\]; expected \['_loc'\]"):
        started(tmp_path / "s")


LOGS = {
    "_delta_log/00000000000000000000.json": "a Delta Lake table",
    ".hoodie/hoodie.properties": "an Apache Hudi table",
    "metadata/00001-a.metadata.json": "an Iceberg table",
    "metadata/00001-a.gz.metadata.json": "an Iceberg table",
}


@pytest.mark.parametrize(("log", "kind"), LOGS.items(), ids=LOGS)
@pytest.mark.parametrize(
    "location", ["t", "t/*.parquet", "t/**/*.parquet", "t/data", "t/day=1/hour=2", "t/day=*", ".", "**/*.parquet"]
)
def test_a_table_with_a_log_is_refused_with_one_line_that_names_it(
    tmp_path: Path, log: str, kind: str, location: str
) -> None:
    (tmp_path / "t" / log).parent.mkdir(parents=True)
    (tmp_path / "t" / log).write_text("{}")
    for name in ("x.parquet", "data/x.parquet", "day=1/hour=2/x.parquet"):
        write(tmp_path / "t" / name, TABLE)
    with pytest.raises(StartupError, match=f"t is {kind}") as raised:
        started(f"{tmp_path}/{location}")
    assert len(str(raised.value).splitlines()) == 1


def test_one_named_file_and_folders_beside_a_table_are_served(tmp_path: Path) -> None:
    write(tmp_path / "t/_delta_log/x.checkpoint.parquet", TABLE)
    write(tmp_path / "t/x.parquet", TABLE)
    write(tmp_path / "u/x.parquet", TABLE)
    write(tmp_path / "v/metadata/x.parquet", TABLE)
    (tmp_path / "v/metadata/notes.json").write_text("{}")
    for location in ("t/x.parquet", "u", "u/*", "*u*/*", "v"):
        assert len(read(started(f"{tmp_path}/{location}"))) == 2


def test_a_folder_that_becomes_a_table_is_not_exported_any_more(tmp_path: Path) -> None:
    write(tmp_path / "t/x.parquet", TABLE)
    dataset = started(tmp_path / "t")
    write(tmp_path / "t/_delta_log/x.json", TABLE)
    with pytest.raises(SourceFailed):
        read(dataset)


def _zip() -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("xl/workbook.xml", "<x/>")
    return file.getvalue()


def _parquet() -> bytes:
    file = io.BytesIO()
    pq.write_table(TABLE, file)
    return file.getvalue()


OTHERS = {
    "gzip": (gzip.compress(b"a,b\n1,2\n"), "it is gzip; call it .gz"),
    "zstd": (zstandard.compress(b"a,b\n1,2\n"), "it is Zstandard; call it .zst"),
    "pdf": (b"%PDF-1.7\n1 0 obj\n", "it is a PDF document"),
    "xlsx": (_zip(), "a workbook"),
    "parquet": (_parquet(), "it is Parquet; call it .parquet"),
    "html": (b"<!DOCTYPE html>\n<html>\n", "it is an HTML page"),
    "sqlite, by its first bytes": (b"%PDF-", "it is a PDF document"),
}


@pytest.mark.parametrize("suffix", ["csv", "tsv"])
@pytest.mark.parametrize(("data", "reason"), OTHERS.values(), ids=OTHERS)
def test_a_file_that_is_something_else_is_one_clear_line(
    tmp_path: Path, data: bytes, reason: str, suffix: str
) -> None:
    (tmp_path / f"t.{suffix}").write_bytes(data)
    with pytest.raises(StartupError, match=reason) as raised:
        started(tmp_path / f"t.{suffix}")
    assert len(str(raised.value).splitlines()) == 1


@pytest.mark.parametrize("name", ["PAR1", "BZh", "PK", "Obj", "ORC", "SQLite format 3", "{", "<b>"])
def test_a_header_that_begins_like_another_kind_is_a_header(tmp_path: Path, name: str) -> None:
    (tmp_path / "t.csv").write_text(f"{name},b\n1,2\n")
    assert read(started(tmp_path / "t.csv"), name) == [("1",)]


def test_a_byte_order_mark_before_a_quoted_name_with_a_line_break_is_no_part_of_it(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_bytes(b'\xef\xbb\xbf"first\nname","b"\r\n1,2\r\n')
    dataset = started(tmp_path / "t.csv")
    assert [column.name for column in dataset.columns] == ["first\nname", "b"]
    assert read(dataset) == [("1", "2")]


@pytest.fixture
def shop(tmp_path: Path) -> Path:
    path = tmp_path / "my shop?.db"
    with closing(sqlite3.connect(path)) as connection:
        connection.executescript("CREATE TABLE orders (id INTEGER)")
    return path


def test_urls_of_files_are_locations(tmp_path: Path, shop: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    encoded = "my%20shop%3F.db"
    monkeypatch.chdir(tmp_path)
    for url in (
        f"sqlite:///{encoded}",
        f"sqlite:///{tmp_path}/{encoded}",
        f"sqlite://{tmp_path}/{encoded}",
        f"file://{tmp_path}/{encoded}",
        f"file://localhost{tmp_path}/{encoded}",
        f"file:{tmp_path}/{encoded}",
    ):
        source = open_location(url)
        assert isinstance(source, SqliteSource)
        assert source.path == shop
    (tmp_path / "a b.csv").write_text("a;b\n1;2\n")
    for url in ("a%20b.csv", "a%20b.csv?delimiter=%3B", "*.csv", "a%20b.csv?null=9"):
        found = open_location(f"t=file://{tmp_path}/{url}")
        assert isinstance(found, FileSource)
        assert found.name == "t"


@pytest.mark.parametrize(
    "url",
    [
        "file://elsewhere/x.csv",
        "file:x.csv",
        "file://",
        "sqlite://",
        "sqlite:///",
        "sqlite:///:memory:",
        "sqlite:///nope.db?mode=ro",
        "sqlite:///nope.txt",
        "sqlite://host/x.db",
        "file:///nope.xyz",
        "file:///x%00.csv",
    ],
)
def test_urls_that_cannot_be_meant_are_one_line(url: str) -> None:
    with pytest.raises(StartupError, match=r"expected|no such") as raised:
        open_location(url)
    assert len(str(raised.value).splitlines()) == 1


def test_json_of_a_table_is_not_taken_for_its_data(tmp_path: Path) -> None:
    (tmp_path / "t").mkdir()
    (tmp_path / "t/x.csv").write_text("a,b\n1,2\n")
    (tmp_path / "t/schema.json").write_text(json.dumps({}))
    assert read(started(tmp_path / "t")) == [("1", "2")]
