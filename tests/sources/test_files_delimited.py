"""CSV files: cut where records end, and read as the text that they hold."""

from __future__ import annotations

import csv
import io
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from asgi_export.sources.files import delimited
from asgi_export.sources.files.delimited import Delimited as Csv


class CountingFile:
    """Counts the bytes that are read of it."""

    def __init__(self, data: bytes) -> None:
        self._file = io.BytesIO(data)
        self.count = 0

    def read(self, size: int) -> bytes:
        data = self._file.read(size)
        self.count += len(data)
        return data


def read(data: bytes, *columns: str) -> list[tuple[str | None, ...]]:
    names = columns or Csv().schema(io.BytesIO(data)).names
    batches = Csv().batches(io.BytesIO(data), names, None)
    return [tuple(row[name] for name in names) for batch in batches for row in batch.to_pylist()]


@pytest.fixture
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(delimited, "BLOCK_BYTES", 8)


@pytest.mark.parametrize(
    ("data", "rows"),
    [
        (b"a,b\n007,1e5\n", [("007", "1e5")]),
        (b'a,b\n,""\nNULL,NaN\n', [(None, ""), ("NULL", "NaN")]),
        (b"\xef\xbb\xbfa,b\r\n1,2\r\n", [("1", "2")]),
        (b"\r\n\na,b\n1,2", [("1", "2")]),
        (b'a,b\n"x\r\n\r\ny, ""z""",2\n\n\n3,4\n', [('x\r\n\r\ny, "z"', "2"), ("3", "4")]),
        (b'a,b\n5" disk,2" "x\n', [('5" disk', '2" "x')]),
        (b'"a","b"\n', []),
        (b"a,b", []),
        (b"a\n1\n\n2\n", [("1",), ("2",)]),
        ("é,名\nü,😀\n".encode(), [("ü", "😀")]),
    ],
)
@pytest.mark.parametrize("block", [1, 3, 10_000])
def test_fields_are_the_text_that_the_file_holds(
    data: bytes, rows: list[Any], block: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(delimited, "BLOCK_BYTES", block)
    assert read(data) == rows


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "Empty CSV"),
        (b"a,b\n1,2\n3\n", "Expected 2 columns"),
        (b"a,b\n\xff,2\n", "not UTF-8"),
        (b"a,b\r1,2\r", "carriage return"),
        (b'a,b\n"x,2\n', "ends inside quotes"),
        (b'a,b\n"x"y"z,2\n', "text follows a closing quote"),
    ],
)
def test_what_is_no_csv_is_a_failure(data: bytes, reason: str) -> None:
    with pytest.raises(pa.ArrowInvalid, match=reason):
        read(data)


FIELDS = st.text(st.sampled_from('ab",\n\r x'), max_size=6)


@given(st.lists(st.tuples(FIELDS, FIELDS), max_size=20), st.booleans(), st.integers(1, 40), st.booleans())
def test_what_csv_writer_wrote_is_read_whatever_the_blocks(
    rows: list[tuple[str, str]], everything: bool, block: int, crlf: bool
) -> None:
    file = io.StringIO(newline="")
    # csv.writer before Python 3.13 does not quote a carriage return where no line ends with one
    everything = everything or any("\r" in "".join(row) for row in rows)
    newline = "\r\n" if crlf else "\n"
    writer = csv.writer(file, quoting=csv.QUOTE_ALL if everything else csv.QUOTE_MINIMAL, lineterminator=newline)
    writer.writerows([("a", "b"), *rows])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(delimited, "BLOCK_BYTES", block)
        assert [(a or "", b or "") for a, b in read(file.getvalue().encode())] == rows


def test_a_record_may_be_larger_than_a_block(small_blocks: None) -> None:
    field = "x\ny" * 1000
    assert read(f'a,b\n1,"{field}"\n2,z\n'.encode()) == [("1", field), ("2", "z")]


def test_a_quote_that_is_never_closed_is_a_failure_and_not_the_whole_file_in_memory(
    small_blocks: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(delimited, "MAX_RECORD_BYTES", 100)
    file = CountingFile(b'a,b\n1,"' + b"x,y\n" * 1000)
    with pytest.raises(pa.ArrowInvalid, match="never closed"):
        list(Csv().batches(file, ["a"], None))
    assert file.count < 200


def test_no_more_is_read_than_is_asked_for() -> None:
    file = CountingFile(b"a,b\n" + b"1,2\n" * delimited.BLOCK_BYTES)
    batches = Csv().batches(file, ["b"], None)
    assert next(batches).column_names == ["b"]
    assert file.count == 2 * delimited.BLOCK_BYTES
