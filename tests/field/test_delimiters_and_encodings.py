"""CSV files as people have them: semicolons, tabs, other encodings, compressed, and a location that says so."""

from __future__ import annotations

import gzip
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import zstandard

from asgi_export.errors import SourceFailed, StartupError
from asgi_export.locations import open_location
from asgi_export.sources.files import delimited
from tests.conformance.servers import get, running
from tests.sources.test_files import read, started

ROWS = [("Zoë", "1,5"), ("名", None)]
"""What each of these files holds; its second name is `b`."""


def names(dataset: Any) -> list[str]:
    return [column.name for column in dataset.columns]


@pytest.mark.parametrize(
    ("data", "remark"),
    [
        ("a;b\nZoë;1,5\n名;\n", "the delimiter is ';', by its header"),
        ("a\tb\nZoë\t1,5\n名\t\n", "the delimiter is a tab, by its header"),
        ("a|b\nZoë|1,5\n名|\n", "the delimiter is '|', by its header"),
        ('"a";"b"\r\nZoë;"1,5"\r\n名;\r\n', "the delimiter is ';', by its header"),
        ("sep=;\r\na;b\r\nZoë;1,5\r\n名;\r\n", "the delimiter is ';', by its header"),
        ('\n\na,b\nZoë,"1,5"\n名,\n', None),
        ('sep=,\na,b\nZoë,"1,5"\n名,\n', None),
    ],
)
@pytest.mark.parametrize("block", [1, 7, delimited.BLOCK_BYTES])
def test_the_delimiter_is_taken_from_the_header_and_the_start_says_so_in_one_line(
    tmp_path: Path,
    data: str,
    remark: str | None,
    block: int,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(delimited, "BLOCK_BYTES", block)
    (tmp_path / "t.csv").write_text(data, newline="")
    with caplog.at_level(logging.INFO):
        dataset = started(tmp_path / "t.csv")
    assert names(dataset) == ["a", "b"]
    assert read(dataset) == ROWS
    assert caplog.messages == ([f"{tmp_path}/t.csv: {remark}"] if remark else [])


def test_a_comma_in_a_quoted_name_is_no_delimiter_and_one_outside_is(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text('"a,x";b\n1;2\n')
    assert names(started(tmp_path / "t.csv")) == ["a,x", "b"]
    (tmp_path / "t.csv").write_text('a;x,"b;y;z"\n1,2\n')
    assert names(started(tmp_path / "t.csv")) == ["a;x", "b;y;z"]
    (tmp_path / "t.csv").write_text("a\n1\n")
    assert names(started(tmp_path / "t.csv")) == ["a"]


def test_each_file_of_a_folder_has_a_delimiter_of_its_own(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    for place, delimiter in enumerate(",;\t"):
        (tmp_path / f"{place}.csv").write_text(f"a{delimiter}b\n{place}{delimiter}x\n")
    with caplog.at_level(logging.INFO):
        assert read(started(tmp_path)) == [("0", "x"), ("1", "x"), ("2", "x")]
    assert caplog.messages == [f"{tmp_path}: 1.csv: the delimiter is ';', by its header (and the like for 1 more)"]


def test_a_header_with_two_delimiters_as_often_is_refused(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("a;b\tc\n1;2\t3\n")
    with pytest.raises(StartupError, match=r"put \?delimiter="):
        started(tmp_path / "t.csv")
    assert names(started(f"{tmp_path}/t.csv?delimiter=tab")) == ["a;b", "c"]
    assert names(started(f"{tmp_path}/t.csv?delimiter=,")) == ["a;b\tc"]


TSV = "a\tb\nZoë\t1,5\n名\t\n".encode()


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("t.tsv", TSV),
        ("t.TSV", b"\xef\xbb\xbf" + TSV),
        ("t.tsv.gz", gzip.compress(TSV)),
        ("t.csv.gz", gzip.compress(TSV[:9]) + gzip.compress(TSV[9:])),
        ("t.csv.zst", zstandard.compress(TSV)),
        ("t.csv", TSV.decode().encode("utf-16")),
        ("t.csv", b"\xfe\xff" + TSV.decode().encode("utf-16-be")),
        ("t.csv", TSV.decode().encode("utf-32")),
        ("t.csv.gz", gzip.compress(TSV.decode().encode("utf-16"))),
        ("t.csv?encoding=utf-16-le", TSV.decode().encode("utf-16-le")),
        ("t.csv?encoding=gb18030", TSV.decode().encode("gb18030")),
        ("t.csv?encoding=utf-8-sig", b"\xef\xbb\xbf" + TSV),
    ],
)
@pytest.mark.parametrize("block", [1, delimited.BLOCK_BYTES])
def test_files_are_read_by_their_suffix_and_byte_order_mark(
    tmp_path: Path, name: str, data: bytes, block: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(delimited, "BLOCK_BYTES", block)
    (tmp_path / name.partition("?")[0]).write_bytes(data)
    dataset = started(tmp_path / name)
    assert (dataset.name, names(dataset), read(dataset)) == ("t", ["a", "b"], ROWS)


def test_latin_1_is_refused_with_what_to_do_and_read_where_the_location_says_so(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_bytes("prénom;b\nZoë;x\n".encode("latin-1"))
    with pytest.raises(StartupError, match=r"not UTF-8; put \?encoding=latin-1"):
        started(tmp_path / "t.csv")
    dataset = started(f"{tmp_path}/t.csv?encoding=latin-1")
    assert names(dataset) == ["prénom", "b"]
    assert read(dataset) == [("Zoë", "x")]


def test_text_that_is_cut_inside_a_character_is_broken(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_bytes("a,b\n1,2\n3,4".encode("utf-16")[:-1])
    with pytest.raises(StartupError, match="not utf-16"):
        started(tmp_path / "t.csv")
    (tmp_path / "u.csv").write_bytes(("a,b\n" + "1,2\n" * 1_000_000).encode("utf-16")[:-1])
    with pytest.raises(SourceFailed):
        read(started(tmp_path / "u.csv"))


def test_utf_16_without_a_mark_is_refused_with_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_bytes("a,b\n1,2\n".encode("utf-16-le"))
    with pytest.raises(StartupError, match=r"\?encoding=utf-16-le"):
        started(tmp_path / "t.csv")


def test_null_is_the_text_that_the_location_names_where_it_is_not_quoted(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text('a;b\nNA;"NA"\n;NaN\n')
    assert read(started(f"{tmp_path}/t.csv?delimiter=;&null=NA")) == [(None, "NA"), ("", "NaN")]
    assert read(started(f"{tmp_path}/*.csv?delimiter=%3B&null=%4E%41")) == [(None, "NA"), ("", "NaN")]
    assert read(started(f"{tmp_path}?null=NA")) == [(None, "NA"), ("", "NaN")]


WRONG = [
    ("t.csv?delimter=;", "unknown option 'delimter'; expected delimiter, encoding, null"),
    ("t.csv?delimiter=", "delimiter='': expected one ASCII character"),
    ("t.csv?delimiter=;;", "delimiter=';;': expected one ASCII character"),
    ('t.csv?delimiter="', "expected one ASCII character"),
    ("t.csv?delimiter=§", "expected one ASCII character"),
    ("t.csv?delimiter=%0A", "expected one ASCII character"),
    ("t.csv?delimiter=;&delimiter=,", "delimiter is given twice"),
    ("t.csv?encoding=klingon", "encoding='klingon': expected a text encoding"),
    ("t.csv?encoding=zlib", "expected a text encoding"),
    ("t.csv?encoding=undefined", "expected a text encoding"),
    ("t.csv?encoding=%00", "expected a text encoding"),
    ("t.csv?encoding=", "expected a text encoding"),
    ("t.csv?delimiter=;&x", "unknown option 'x'"),
    ("nope.csv?delimiter=;", "no such file"),
    ("t.parquet?delimiter=;", "parquet files have no options"),
]


@pytest.mark.parametrize(("location", "reason"), WRONG)
def test_wrong_options_stop_the_start_with_one_line(tmp_path: Path, location: str, reason: str) -> None:
    (tmp_path / "t.csv").write_text("a;b\n1;2\n")
    (tmp_path / "t.parquet").write_text("a;b\n1;2\n")
    with pytest.raises(StartupError) as raised:
        started(f"{tmp_path}/{location}")
    message = str(raised.value)
    assert reason in message
    assert message.startswith(f"{tmp_path}/{location.partition('?')[0]}: ")
    assert message.count(str(tmp_path)) == 1
    assert len(message.splitlines()) == 1


@pytest.mark.parametrize("name", ["a?b.csv", "a?delimiter=;.csv", "a?b=c.csv", "?.csv"])
def test_a_file_whose_name_holds_a_question_mark_is_that_file(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text("a;b\n1;2\n")
    (tmp_path / "axb.csv").write_text("other\n1\n")
    dataset = started(tmp_path / name)
    assert (dataset.name, read(dataset)) == (name.removesuffix(".csv"), [("1", "2")])
    assert read(started(f"{tmp_path}/{name}?null=1")) == [(None, "2")]
    assert read(started(f"{tmp_path}/a?b.csv") if name != "a?b.csv" else dataset)


def test_a_named_location_may_have_options(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("a|b\n1|2\n")
    source = open_location(f"orders={tmp_path}/t.csv?delimiter=|")
    assert source.name == "orders"
    assert open_location(f"{tmp_path}/t.csv?delimiter=|").name == "t"


def test_serve_says_the_delimiter_once_and_serves_the_columns(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("a;b\n1;2\n")
    with running(["asgi_export", "serve", str(tmp_path / "t.csv"), "--port", "0"], tmp_path / "output") as server:
        assert get(server, "/api/v1/exports/csv").body == b"a,b\n1,2\n"
        assert server.log().count("the delimiter is ';', by its header") == 1


BOMBS: dict[str, Callable[[int], bytes]] = {
    "record": lambda bound: b"a\n" + b"x" * (4 * bound),
    "quoted record": lambda bound: b'a\n"' + b"x\n" * (2 * bound),
    "header": lambda bound: b"a" * (2 * bound),
    "empty lines": lambda bound: b"\n" * (4 * bound),
    "quotes": lambda bound: b'"' * (2 * bound + 1),
    "columns": lambda _: b",".join([b"c%d" % place for place in range(150_000)]) + b"\n",
}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "bound"),
    [("record", delimited.MAX_RECORD_BYTES), *[(name, 4 * delimited.BLOCK_BYTES) for name in BOMBS]],
)
def test_a_bomb_is_refused_in_bounded_memory(
    tmp_path: Path, name: str, bound: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One at the real bound, and each where the bound is four blocks."""
    monkeypatch.setattr(delimited, "MAX_RECORD_BYTES", bound)
    (tmp_path / "t.csv.gz").write_bytes(gzip.compress(BOMBS[name](bound), 1))
    with pytest.raises((StartupError, SourceFailed)) as raised:
        read(started(tmp_path / "t.csv.gz"))
    assert len(str(raised.value)) < 300
