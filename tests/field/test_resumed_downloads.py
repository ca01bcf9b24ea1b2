"""Clients that go on where a download broke: one file never holds two exports, and their exit code says so.

No command line tool sends a validator with its `Range`. wget does not even wait to be asked.
"""

from __future__ import annotations

import asyncio
import subprocess
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from asgi_export import ExportApp
from asgi_export.formats import FORMATS
from tests.conformance.conftest import command
from tests.conformance.servers import Server, curl, get, running
from tests.doubles import Client, Recorded
from tests.field.programs import program
from tests.ports import free_port

APPLICATION = "tests.field.snapshots:app"
HALF = b"id,snapshot\n0,snapshot-0-"
totals = count(100_000)


@pytest.fixture(scope="module", params=["uvicorn-h11", "hypercorn"])
def server(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    port, output = free_port(), tmp_path_factory.mktemp(request.param) / "output"
    with running(command(request.param, APPLICATION, port), output, port=port) as server:
        yield server


@pytest.fixture
def url(server: Server) -> str:
    """An address whose first export breaks off."""
    return f"{server.url}/api/v1/exports/csv?total={next(totals)}"


LATER: dict[str, Any] = {"headers": [(b"range", b"bytes=1000-")]}


def run(line: list[str], folder: Path) -> int:
    command, environ = [program(line[0]), *line[1:]], {"HOME": str(folder)}  # no settings of whoever runs the tests
    result = subprocess.run(command, cwd=folder, env=environ, timeout=60, check=False, capture_output=True)
    return result.returncode


def expect_half_of_the_first(file: Path) -> None:
    """Nothing but the beginning of the first export."""
    data = file.read_bytes()
    assert data.startswith(b"id,snapshot\n0,snapshot-1-xx")
    assert b"snapshot-2" not in data
    assert data.count(b"id,snapshot") == 1


def test_wget_with_its_defaults_does_not_end_well_with_two_halves(url: str, tmp_path: Path) -> None:
    assert run(["wget", url], tmp_path) == 8
    [file] = tmp_path.iterdir()
    expect_half_of_the_first(file)


@pytest.mark.parametrize(
    ("line", "exit_code"),
    [
        (["wget", "-c", "-O", "half", "URL"], 8),
        (["wget", "--start-pos=5", "URL"], 8),
        (["curl", "-sf", "-C", "-", "-o", "half", "URL"], 22),
        (["curl", "-s", "-C", "-", "-o", "half", "URL"], 33),
        (["curl", "-sf", "-r", "7-", "-o", "other", "URL"], 22),
        (["aria2c", "-q", "--no-conf", "--header=Range: bytes=25-", "-o", "other", "URL"], 22),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_a_file_that_is_to_be_continued_is_left_as_it_is(
    url: str, tmp_path: Path, line: list[str], exit_code: int
) -> None:
    (tmp_path / "half").write_bytes(HALF)
    found = run([url if word == "URL" else word for word in line], tmp_path)
    assert found == exit_code
    assert [(file.name, file.read_bytes()) for file in tmp_path.iterdir()] == [("half", HALF)]


@pytest.mark.parametrize("options", [["-c", "-o", "half"], ["-s4", "-x4", "-k1M", "-o", "other"]], ids=" ".join)
def test_aria2_which_asks_again_by_itself_makes_no_file_of_two(url: str, tmp_path: Path, options: list[str]) -> None:
    """Without a length it asks for no part: it begins anew, in a file of its own."""
    (tmp_path / "half").write_bytes(HALF)
    assert run(["aria2c", "-q", "--no-conf", *options, url], tmp_path) == 0
    assert (tmp_path / "half").read_bytes() == HALF
    [whole] = [file.read_bytes() for file in tmp_path.iterdir() if file.name != "half"]
    assert b"snapshot-1" not in whole
    assert whole.endswith(b"x" * 40 + b"\n")
    assert whole.count(b"\n") == int(url.rpartition("=")[2]) + 1


def test_the_refusal_is_a_whole_answer_that_no_client_takes_for_a_part(url: str, server: Server) -> None:
    target = url.removeprefix(server.url)
    answer = get(server, target, headers="Range: bytes=1000-\r\n")
    assert answer.status == 428
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.headers["cache-control"] == "no-store"
    assert b'"error": "precondition_required"' in answer.body
    assert "content-range" not in answer.headers
    head = get(server, target, method="HEAD", headers="Range: bytes=1000-\r\n")
    assert (head.status, head.body) == (428, b"")


def test_a_range_from_0_gets_the_whole(server: Server) -> None:
    """What `curl -r 0-` and browsers send."""
    url = f"{server.url}/api/v1/exports/csv?total=10"
    assert curl(url, "-f", "-r", "0-").stdout.count(b"\n") == 11


@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_nothing_is_opened_for_a_range_that_is_refused(name: str, method: str) -> None:
    source, client = Recorded(rows=10), Client()
    asyncio.run(client.ask(ExportApp([source]), path=f"/api/v1/exports/{name}", method=method, **LATER))
    assert client.status == 428
    assert bool(client.body) == (method == "GET")
    assert source.events == []


@pytest.mark.parametrize(("query", "status"), [("total=x", 400), ("dataset=nope", 404)])
def test_a_request_that_is_wrong_in_itself_is_told_that_first(query: str, status: int) -> None:
    """RFC 9110 §13.2.1."""
    client = Client()
    asyncio.run(client.ask(ExportApp([Recorded(rows=10)]), query, **LATER))
    assert client.status == status


@pytest.mark.parametrize("path", ["/api/v1/exports/", "/openapi.json", "/healthz", "/readyz"])
def test_pages_that_are_no_exports_ignore_ranges(path: str) -> None:
    client = Client()
    asyncio.run(client.ask(ExportApp([Recorded(rows=10)]), path=path, **LATER))
    assert client.status == 200
