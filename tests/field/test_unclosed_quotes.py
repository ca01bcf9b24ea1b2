"""A file that was cut off, or whose quotes cannot be meant, is a broken file: never a table that looks whole."""

from __future__ import annotations

import gzip
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
import zstandard

from asgi_export.errors import SourceFailed, StartupError
from asgi_export.sources.files.delimited import BLOCK_BYTES
from tests.conformance.servers import running
from tests.sources.test_files import read, started

ROWS = b"1,2\n" * (BLOCK_BYTES // 2)
"""More than what is read at the start."""

ZEROS = b"\0" * 4096

BROKEN = {
    "inside quotes": (b'1,"abc\n2,b\n', "inside quotes"),
    "behind an opening quote": (b'1,"', "inside quotes"),
    "behind the first of two quotes of a quoted field": (b'1,"a""', "inside quotes"),
    "a quote that swallows two rows": (b'1,"abc\n2,b\n3,"x"\n', "follows a closing quote"),
    "text behind a quoted field": (b'1,"a"b\n', "follows a closing quote"),
    "a blank behind a quoted field": (b'1,"a" \n', "follows a closing quote"),
    "a record with too few fields": (b"1\n", "Expected 2 columns, got 1"),
    "a record with too many fields": (b"1,2,3\n", "Expected 2 columns, got 3"),
    "a record cut in front of its delimiter": (b"17", "Expected 2 columns, got 1"),
    "zeros of a disk that was not written": (b"1,a" + ZEROS, "NUL bytes"),
    "bytes that are not UTF-8": (b"1,\xe9\n", "not UTF-8"),
}


@pytest.mark.parametrize(("end", "reason"), BROKEN.values(), ids=BROKEN)
def test_a_small_file_that_ends_so_stops_the_start_in_one_line(tmp_path: Path, end: bytes, reason: str) -> None:
    path = tmp_path / "t.csv"
    path.write_bytes(b"a,b\n7,8\n" + end)
    with pytest.raises(StartupError, match=reason) as raised:
        started(path)
    assert str(raised.value).startswith(f"{path}: cannot be read as csv: ")
    assert str(raised.value).count(str(tmp_path)) == 1
    assert len(str(raised.value).splitlines()) == 1


@pytest.mark.parametrize(("end", "reason"), BROKEN.values(), ids=BROKEN)
def test_a_large_file_that_ends_so_is_a_broken_export(tmp_path: Path, end: bytes, reason: str) -> None:
    (tmp_path / "t.csv").write_bytes(b"a,b\n" + ROWS + end)
    dataset = started(tmp_path / "t.csv")
    with pytest.raises(SourceFailed) as raised:
        read(dataset)
    cause: BaseException | None = raised.value.__cause__
    assert reason in str(cause)


@pytest.mark.parametrize(
    ("end", "row"),
    [
        (b'1,"abc"', ("1", "abc")),
        (b'1,"a\nb"\n', ("1", "a\nb")),
        (b'1,"a ""b"""\r\n', ("1", 'a "b"')),
        (b'1,5" disk\n', ("1", '5" disk')),
        (b'"1",""\n', ("1", "")),
        (b'1,"a"\n\n\r\n', ("1", "a")),
        (b"1,a\0b\n", ("1", "a\0b")),
    ],
)
def test_a_file_that_ends_well_is_whole(tmp_path: Path, end: bytes, row: tuple[str, str]) -> None:
    """With a last line feed or without: RFC 4180 §2.2. A file cut exactly there cannot be told from a whole one."""
    for start in (b"a,b\n", b"a,b\n" + ROWS):
        (tmp_path / "t.csv").write_bytes(start + end)
        assert read(started(tmp_path / "t.csv"))[-1] == row


COMPRESSED: dict[str, Callable[[bytes], bytes]] = {
    "t.csv.gz": gzip.compress,
    "t.csv.zst": zstandard.ZstdCompressor(write_checksum=True).compress,
}


@pytest.mark.parametrize("name", COMPRESSED)
@pytest.mark.parametrize("cut", [1, 4, 9])
def test_a_compressed_file_that_was_cut_is_broken(tmp_path: Path, name: str, cut: int) -> None:
    path = tmp_path / name
    path.write_bytes(COMPRESSED[name](b"a,b\n" + b"1,2\n" * 1000)[:-cut])
    with pytest.raises(StartupError, match="Truncated"):
        started(path)
    path.write_bytes(COMPRESSED[name](b"a,b\n" + ROWS)[:-cut])
    with pytest.raises((SourceFailed, StartupError)):
        read(started(path))


@pytest.mark.parametrize("name", COMPRESSED)
def test_a_compressed_file_that_was_damaged_is_broken(tmp_path: Path, name: str) -> None:
    data = bytearray(COMPRESSED[name](b"a,b\n" + b"1,2\n" * 1000))
    data[-8 if name.endswith("gz") else -2] ^= 0xFF  # in the checksum
    (tmp_path / name).write_bytes(data)
    with pytest.raises(StartupError, match="cannot be read as csv"):
        started(tmp_path / name)


def test_curl_sees_that_a_file_ended_inside_quotes(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_bytes(b"a,b\n" + ROWS + b'1,"abc\n2,b\n')
    with running(["asgi_export", "serve", str(path), "--port", "0"], tmp_path / "output") as server:
        url = f"http://127.0.0.1:{server.port}/api/v1/exports/t.csv"
        url = url.replace("t.csv", "csv?dataset=t")
        result = subprocess.run(["curl", "-sSf", url], capture_output=True, check=False, timeout=60)
    assert result.returncode == 18
    assert b"abc" not in result.stdout
    assert "ends inside quotes" in server.log()
