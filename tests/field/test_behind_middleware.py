"""A broken export is seen as broken also through middleware that completes what its application leaves unfinished."""

from __future__ import annotations

import signal
import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack

import pytest

from tests.conformance.conftest import command
from tests.conformance.servers import Server, ask, curl, eventually, get, readable, running
from tests.ports import free_port

STACKS = ("none", "B", "D", "BB", "DBB", "GB", "BC", "BG", "GCDB")
FORMATS = ("csv", "tsv", "ndjson", "parquet", "arrow")
CODINGS = ("identity", "gzip", "zstd")
FINAL_CHUNK = b"0\r\n\r\n"
CUT = 18
HTTP_ERROR = 22
"""curl: the transfer was not complete; with -f, the status is 400 or more."""


SLOW = pytest.mark.slow


@pytest.fixture(
    scope="module",
    params=[
        "uvicorn-httptools",
        "hypercorn",
        *[pytest.param(name, marks=SLOW) for name in ("uvicorn-h11", "uvicorn-httptools -O", "hypercorn -O")],
    ],
)
def server(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """With -O nobody asserts anything."""
    name, _, optimized = request.param.partition(" ")
    folder, port = tmp_path_factory.mktemp("behind"), free_port()
    (folder / "events").touch()
    environ = {"NASTY_EVENTS": str(folder / "events"), "NASTY_DB": "unused", "STACKS": " ".join(STACKS)}
    environ |= {"PYTHONOPTIMIZE": "1"} if optimized else {}
    asked = command(name, "tests.field.behind_middleware:app", port)
    with running(asked, folder / "output", port=port, environ=environ) as found:
        found.name = request.param
        assert get(found, "/").body == (b"-O" if optimized else b"asserts")
        yield found
        assert found.stop() in (0, -signal.SIGTERM)


def events(server: Server, event: str) -> int:
    return (server.output.parent / "events").read_text().count(event)


def download(server: Server, target: str, coding: str = "identity", *options: str) -> int:
    headers = ("-H", f"Accept-Encoding: {coding}")
    return curl(f"{server.url}{target}", "-o", "/dev/null", *headers, *options).returncode


@pytest.mark.parametrize("stack", STACKS)
@pytest.mark.parametrize("coding", CODINGS)
def test_a_failure_in_the_middle_is_seen(server: Server, stack: str, coding: str) -> None:
    assert download(server, f"/{stack}/csv?dataset=failing", coding) == CUT


@SLOW
@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize("stack", ["B", "BB"])
def test_every_format_is_seen_to_fail(server: Server, stack: str, name: str) -> None:
    for coding in CODINGS:
        assert download(server, f"/{stack}/{name}?dataset=failing_late", coding) == CUT


def test_a_failure_is_seen_where_the_framework_compresses(server: Server) -> None:
    """What we leave uncompressed GZipMiddleware compresses, inside the other middleware here and outside there."""
    for stack in "BG", "GB", "GCDB":
        assert download(server, f"/{stack}/csv?dataset=failing", "identity, gzip;q=0.5") == CUT


@pytest.mark.parametrize("name", ["csv", "ndjson", "parquet"])
def test_a_failure_before_the_first_row_is_seen_after_a_late_head(server: Server, name: str) -> None:
    """An empty file must not look like an empty table. GZipMiddleware may hold the head: then it is a 500."""

    def code(stack: str) -> int:
        return download(server, f"/{stack}/late/{name}?dataset=thinking", "identity", "-f")

    with ThreadPoolExecutor(len(STACKS)) as clients:
        codes = dict(zip(STACKS, clients.map(code, STACKS), strict=True))
    seen = {stack: {CUT, HTTP_ERROR} if stack.startswith("G") else {CUT} for stack in STACKS}
    assert {stack: found for stack, found in codes.items() if found not in seen[stack]} == {}


def test_the_error_line_still_comes(server: Server) -> None:
    for stack in STACKS:
        result = curl(f"{server.url}/{stack}/csv?dataset=failing")
        assert result.stdout.endswith(b'\n"__ERROR__","internal_server_error"\n')


def test_an_export_that_takes_too_long_is_seen_as_cut(server: Server) -> None:
    """One behind each stack at once, by clients that are no faster than a good network."""

    def hasty(stack: str) -> int:
        return download(server, f"/{stack}/hasty/csv?dataset=endless", "identity", "--limit-rate", "2M")

    closed = events(server, "endless closed")
    with ThreadPoolExecutor(len(STACKS)) as clients:
        codes = dict(zip(STACKS, clients.map(hasty, STACKS), strict=True))
    assert codes == dict.fromkeys(STACKS, CUT)
    assert events(server, "endless closed") == closed + len(STACKS)


def test_a_client_that_took_nothing_and_reads_on_later_sees_a_cut(server: Server) -> None:
    closed = events(server, "endless closed")
    with ExitStack() as several:
        clients = {}
        for stack in STACKS:
            target, headers = f"/{stack}/csv?dataset=endless", f"X-Request-Id: stalled-{stack}\r\n"
            clients[stack] = several.enter_context(ask(server, target, headers=headers))
        assert all(readable(client) for client in clients.values())
        assert eventually(lambda: events(server, "endless closed") == closed + len(STACKS), 30)
        assert [stack for stack, client in clients.items() if rest(client).endswith(FINAL_CHUNK)] == []
    for stack in STACKS:
        assert server.logged(f"request_id=stalled-{stack} ")
        (line,) = server.access_lines(f"stalled-{stack}")
        assert 'ending="stalled"' in line


def test_exports_that_are_stopped_are_seen_as_cut(server: Server) -> None:
    clients = [ask(server, f"/{stack}/stopping/csv?dataset=endless") for stack in STACKS]
    assert all(client.recv(100) for client in clients)
    assert get(server, "/stop").status == 200
    ends = [rest(client) for client in clients]
    for client in clients:
        client.close()
    assert not any(end.endswith(FINAL_CHUNK) for end in ends)


@pytest.mark.parametrize("stack", STACKS)
@pytest.mark.parametrize("dataset", ["endless", "slow"])
def test_a_client_that_leaves_stops_the_source(server: Server, stack: str, dataset: str) -> None:
    opened, closed = (events(server, f"{dataset} {what}") for what in ("opened", "closed"))
    client = ask(server, f"/{stack}/csv?dataset={dataset}")
    assert eventually(lambda: events(server, f"{dataset} opened") > opened)
    client.close()
    assert eventually(lambda: events(server, f"{dataset} closed") > closed)


@pytest.mark.parametrize("stack", STACKS)
def test_a_broken_download_is_one_line_of_the_log(server: Server, stack: str) -> None:
    """Its reason, with the traceback of the source; nothing of the framework's or the server's."""
    before = len(server.log())
    name = f"one-{stack}"
    curl(f"{server.url}/{stack}/csv?dataset=failing", "-H", f"X-Request-Id: {name}")
    assert eventually(lambda: server.access_lines(name))
    # From its own line on: BaseHTTPMiddleware says late that a client of the test before had left before the head.
    _, failed, said = server.log()[before:].partition(f"export {name} of failing: failed")
    assert failed
    assert said.count("Traceback") == 1
    assert len(server.access_lines(name)) == 1
    assert "takes no answer" not in said
    assert "Exception in ASGI" not in said
    assert "Error in ASGI" not in said


@pytest.mark.parametrize("stack", STACKS)
def test_a_whole_export_is_whole(server: Server, stack: str) -> None:
    result = curl(f"{server.url}/{stack}/csv?dataset=failing&total=5")
    assert (result.returncode, result.stdout.count(b"\n")) == (0, 6)


def rest(client: socket.socket) -> bytes:
    """The last of what comes until the server closes."""
    last = b""
    try:
        while part := client.recv(1 << 20):
            last = (last + part)[-100:]
    except ConnectionResetError:
        return b"reset"
    return last
