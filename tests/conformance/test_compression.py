"""Compressed exports on real servers, read back by those who will: libraries, commands and a browser.

A command or a browser that is not there is a skip: no command of the docs installs one.
"""

from __future__ import annotations

import csv
import gzip
import html
import io
import json
import re
import shutil
import subprocess
import zlib
from collections.abc import Callable, Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest
import zstandard

from tests.conformance.compressed import COLUMNS, rows
from tests.conformance.conftest import SERVERS, command
from tests.conformance.servers import Server, ask, curl, get, running
from tests.ports import free_port

EXPORTS = "/api/v1/exports/"
CODINGS = ["gzip", "zstd"]
ERROR_LINE = b'"__ERROR__","internal_server_error"\n'
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
BROWSER_SECONDS = 60


@pytest.fixture(scope="module", params=SERVERS)
def server(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    name, port = request.param, free_port()
    output = tmp_path_factory.mktemp(name) / "output"
    with running(command(name, "tests.conformance.compressed:app", port), output, port=port) as found:
        yield found


@cache
def text() -> bytes:
    """What the whole tables are as CSV."""
    found = io.StringIO()
    csv.writer(found, lineterminator="\n").writerows([COLUMNS, *rows()])
    return found.getvalue().encode()


def program(name: str) -> str:
    """A command of the PATH."""
    found = shutil.which(name)
    if found is None:
        pytest.skip(f"{name} is not in the PATH: apt-get install {name}, or brew install {name}")
    return str(found)


def body_of(server: Server, target: str, coding: str) -> tuple[int, bytes]:
    """The exit code of curl and the body as it was on the wire, in its coding."""
    result = curl(f"{server.url}{EXPORTS}{target}", "-H", f"Accept-Encoding: {coding}")
    return result.returncode, result.stdout


def piped(line: list[str], data: bytes) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run([program(line[0]), *line[1:]], input=data, capture_output=True, timeout=60, check=False)


def by_command(name: str) -> Callable[[bytes], bytes]:
    def read(data: bytes) -> bytes:
        assert piped([name, "-t"], data).returncode == 0
        return piped([name, "-dc"], data).stdout

    return read


def by_zlib(data: bytes) -> bytes:
    reader = zlib.decompressobj(31)
    found = reader.decompress(data)
    assert reader.eof
    assert not reader.unused_data
    return found


def by_zstandard(data: bytes) -> bytes:
    with zstandard.ZstdDecompressor().stream_reader(data) as reader:
        return bytes(reader.read())


READERS: list[tuple[str, str, Callable[[bytes], bytes]]] = [
    ("gzip", "zlib", by_zlib),
    ("gzip", "the module gzip", gzip.decompress),
    ("gzip", "the command gzip", by_command("gzip")),
    ("zstd", "zstandard", by_zstandard),
    ("zstd", "the command zstd", by_command("zstd")),
]


@pytest.mark.parametrize(
    ("coding", "read"), [(coding, read) for coding, _, read in READERS], ids=[r[1] for r in READERS]
)
@pytest.mark.parametrize("name", ["awaits", "blocks"])
def test_everybody_reads_what_was_written(
    server: Server, name: str, coding: str, read: Callable[[bytes], bytes]
) -> None:
    code, body = body_of(server, f"csv?dataset={name}", coding)
    assert code == 0
    assert read(body) == text()
    assert len(body) < len(text()) / 2


@pytest.mark.parametrize("name", ["awaits", "blocks"])
def test_curl_reads_what_it_asks_for(server: Server, name: str) -> None:
    result = curl(f"{server.url}{EXPORTS}csv?dataset={name}", "--compressed", "-D", "-")
    head, _, body = result.stdout.partition(b"\r\n\r\n")
    assert result.returncode == 0
    assert re.search(rb"(?i)content-encoding: (gzip|zstd)\r?\n", head + b"\n")
    assert body == text()


@pytest.mark.parametrize("coding", CODINGS)
def test_the_first_row_can_be_read_before_there_is_a_second(server: Server, coding: str) -> None:
    """The source never gives one."""
    reader = zlib.decompressobj(31) if coding == "gzip" else zstandard.ZstdDecompressor().decompressobj()
    with ask(server, f"{EXPORTS}ndjson?dataset=waits", headers=f"Accept-Encoding: {coding}\r\n") as client:
        wire = client.makefile("rb")
        while wire.readline().strip():
            pass
        size = int(wire.readline(), 16)
        assert reader.decompress(wire.read(size)) == b'{"id":0,"text":"first"}\n'
        wire.close()


@pytest.mark.parametrize("coding", CODINGS)
@pytest.mark.parametrize("form", ["csv", "ndjson"])
@pytest.mark.parametrize("name", ["breaks", "breaks_behind_a_flush"])
def test_a_stream_that_is_broken_off_is_a_broken_stream(server: Server, name: str, form: str, coding: str) -> None:
    """To those who see no connection, too. The error line of CSV can be read, and nothing that ends the stream."""
    code, body = body_of(server, f"{form}?dataset={name}", coding)
    assert code == 18
    reader = zlib.decompressobj(31) if coding == "gzip" else zstandard.ZstdDecompressor().decompressobj()
    found = reader.decompress(body)
    assert not reader.eof
    assert found.endswith(ERROR_LINE) is (form == "csv")
    if form == "csv":
        lines = text() if name == "breaks" else b"id,text\n0,first\n"
        assert lines.startswith(found.removesuffix(ERROR_LINE))
    assert b"first" in found or "Grüße 0".encode() in found
    assert piped([coding, "-t"], body).returncode != 0
    assert piped([coding, "-dc"], body).returncode != 0


@pytest.mark.parametrize("name", ["breaks", "breaks_behind_a_flush"])
def test_curl_that_decompresses_sees_the_break(server: Server, name: str) -> None:
    assert curl(f"{server.url}{EXPORTS}csv?dataset={name}", "--compressed").returncode == 18


@pytest.mark.parametrize(
    ("accept", "coding"),
    [
        ("gzip", "gzip"),
        ("gzip, deflate, br, zstd", "zstd"),
        ("gzip;q=1.0, zstd;q=0.5", "gzip"),
        ("*", "gzip"),
        ("identity;q=0, gzip;q=0.1", "gzip"),
        ("br", None),
        ("identity;q=0", None),
        ("identity;q=0, *;q=0", None),
        ("gzip;q=nan, zstd;q=1.0000, " + "x" * 8000, None),
        ("gzip;q=0, " + ", ".join(["br"] * 2000), None),
    ],
)
def test_head_and_get_name_the_same_coding(server: Server, accept: str, coding: str | None) -> None:
    """Where nothing that is taken can be given, it comes as it is. RFC 9110 §12.4.1, §12.5.3."""
    for method in ("GET", "HEAD"):
        headers = f"Accept-Encoding: {accept}\r\n"
        answer = get(server, f"{EXPORTS}csv?dataset=awaits&total=1", method=method, headers=headers)
        assert (answer.status, answer.headers.get("content-encoding")) == (200, coding)
        assert answer.headers["vary"] == "Accept-Encoding"
        assert "content-length" not in answer.headers or method == "HEAD"
        assert "etag" not in answer.headers


@pytest.mark.parametrize(
    ("method", "target", "status"),
    [
        ("OPTIONS", f"{EXPORTS}csv", 204),
        ("GET", EXPORTS, 200),
        ("GET", "/healthz", 200),
        ("GET", "/readyz", 200),
        ("GET", f"{EXPORTS}csv?total=-1", 400),
        ("GET", f"{EXPORTS}xlsx", 404),
        ("DELETE", f"{EXPORTS}csv", 405),
        ("GET", f"{EXPORTS}csv?null={'x' * 9000}", 414),
        ("GET", f"{EXPORTS}csv?dataset=breaks_at_once", 500),
    ],
)
def test_every_other_answer_varies_too_and_is_not_compressed(
    server: Server, method: str, target: str, status: int
) -> None:
    answer = get(server, target, method=method, headers="Accept-Encoding: gzip, zstd\r\n")
    assert (answer.status, answer.headers["vary"]) == (status, "Accept-Encoding")
    assert "content-encoding" not in answer.headers


def browser() -> str:
    for name in BROWSERS:
        if found := shutil.which(name):
            return found
    pytest.skip("no browser is in the PATH: apt-get install chromium")


def fetched(server: Server, host: str, targets: list[str], profile: Path) -> Mapping[str, Any]:
    """What `fetch` in a page of that host makes of exports. Every name is this machine's to the browser."""
    page = f"http://{host}:{server.port}/page?" + urlencode([("read", target) for target in targets])
    switches = [
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        "--no-first-run",
        "--disable-background-networking",
        "--disable-component-update",
        "--disable-sync",
        "--disable-dev-shm-usage",
        "--host-resolver-rules=MAP * 127.0.0.1",
        f"--user-data-dir={profile}",
        "--virtual-time-budget=30000",
        "--dump-dom",
    ]
    result = subprocess.run(
        [browser(), *switches, page], capture_output=True, text=True, timeout=BROWSER_SECONDS, check=True
    )
    match = re.search(r"<body>(\{.*\})</body>", result.stdout)
    assert match, result.stdout + result.stderr[-2000:]
    found: Mapping[str, Any] = json.loads(html.unescape(match[1]))
    return found


@pytest.mark.parametrize(("host", "coding"), [("127.0.0.1", "zstd"), ("exports.test", "gzip")])
def test_a_browser_s_fetch_reads_a_whole_export_and_rejects_a_broken_one(
    server: Server, host: str, coding: str, tmp_path: Path
) -> None:
    """Chromium asks for zstd where nobody can come between: over TLS, and of this machine."""
    whole, broken = ["csv?dataset=awaits", "csv?dataset=blocks"], ["csv?dataset=breaks", "ndjson?dataset=breaks"]
    flushed = ["csv?dataset=breaks_behind_a_flush", "ndjson?dataset=breaks_behind_a_flush"]
    found = fetched(server, host, [*whole, *broken, *flushed], tmp_path / "profile")
    for target in whole:
        assert found[target] == {"coding": coding, "bytes": len(text()), "crc32": zlib.crc32(text())}
    for target in [*broken, *flushed]:
        assert found[target] == {"coding": coding, "error": "TypeError"}
