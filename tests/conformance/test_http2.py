"""HTTP/2 on Hypercorn, with prior knowledge: the same answers, and endings that nobody takes for whole."""

from __future__ import annotations

import json
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conformance.conftest import APPLICATION, command
from tests.conformance.http2 import Http2Client
from tests.conformance.servers import Server, curl, eventually, running
from tests.ports import free_port

CSV = "/api/v1/exports/csv"
H2 = "--http2-prior-knowledge"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, slow_db: Path, events: Path) -> Iterator[Server]:
    """An application of its own: streams that are given up here shall not disturb the other tests' connections."""
    port = free_port()
    environ = {"NASTY_EVENTS": str(events), "NASTY_DB": str(slow_db)}
    output = tmp_path_factory.mktemp("h2") / "output"
    with running(command("hypercorn", APPLICATION, port), output, port=port, environ=environ) as found:
        yield found


def test_the_head_is_the_same_as_over_http_1(server: Server) -> None:
    with Http2Client(server) as client:
        stream = client.ask(f"{CSV}?dataset=shop")
        assert client.wait(stream).decode() == 'id,name,price\n1,"a,b",1.5\n2,,2\n3,"say ""é""",\n'
        found = client.headers[stream]
        assert found[":status"] == "200"
        assert found["content-type"] == "text/csv; charset=utf-8"
        assert found["content-disposition"] == 'attachment; filename="export.csv"'
        assert found["cache-control"] == "no-store"
        assert found["vary"] == "Accept-Encoding"
        assert found["x-content-type-options"] == "nosniff"
        assert found["x-accel-buffering"] == "no"
        assert found["x-request-id"]
        assert found["ratelimit"].startswith('"default";r=')


@pytest.mark.parametrize(
    ("target", "method", "status"),
    [
        (f"{CSV}?total=-1", "GET", 400),
        (f"{CSV}?null=%ff", "GET", 400),
        (f"{CSV}?dataset=nope", "GET", 404),
        ("/api/v1/exports/xlsx", "GET", 404),
        (CSV, "DELETE", 405),
        (f"{CSV}?null={'x' * 9000}", "GET", 414),
        (f"{CSV}?dataset=failing_at_once", "GET", 500),
    ],
)
def test_errors_are_problems(server: Server, target: str, method: str, status: int) -> None:
    with Http2Client(server) as client:
        stream = client.ask(target, method=method)
        problem = json.loads(client.wait(stream))
        assert client.status(stream) == problem["status"] == status
        assert client.headers[stream]["content-type"] == "application/problem+json"
        assert ("allow" in client.headers[stream]) == (status == 405)
        assert ("retry-after" in client.headers[stream]) == (status == 503)


def test_head_has_no_body_and_the_connection_goes_on(server: Server) -> None:
    with Http2Client(server) as client:
        head = client.ask(f"{CSV}?dataset=shop", method="HEAD")
        body = client.ask(f"{CSV}?dataset=shop&columns=id&total=1")
        assert client.wait(head) == b""
        assert client.wait(body) == b"id\n1\n"
        assert client.headers[head]["content-type"] == client.headers[body]["content-type"]


def test_a_stream_that_is_reset_stops_its_source_and_not_its_neighbour(server: Server, events: Path) -> None:
    closed = events.read_text().count("endless closed")
    with Http2Client(server) as client:
        endless = client.ask(f"{CSV}?dataset=endless")
        while not client.bodies[endless]:
            client.pump()
        client.cancel(endless)
        assert eventually(lambda: events.read_text().count("endless closed") > closed, 2.0)
        assert client.wait(client.ask(f"{CSV}?dataset=shop&columns=id&total=1")) == b"id\n1\n"


@pytest.mark.parametrize("dataset", ["endless", "endless_sync", "slow"])
def test_a_client_that_leaves_stops_the_source(server: Server, events: Path, dataset: str) -> None:
    opened, closed = (events.read_text().count(f"{dataset} {what}\n") for what in ("opened", "closed"))
    with Http2Client(server) as client:
        client.ask(f"{CSV}?dataset={dataset}")
        assert eventually(lambda: events.read_text().count(f"{dataset} opened\n") > opened)
    assert eventually(lambda: events.read_text().count(f"{dataset} closed\n") > closed, 2.0)


def test_a_failure_in_the_middle_never_ends_the_stream(server: Server) -> None:
    """Hypercorn leaves the stream open and closes the connection when it has been idle for its five seconds."""
    with Http2Client(server) as client:
        stream = client.ask(f"{CSV}?dataset=failing")
        while not client.closed and stream not in client.reset:
            client.pump()
            assert stream not in client.ended
        assert client.bodies[stream].endswith(b'\n"__ERROR__","internal_server_error"\n')


def test_curl_sees_the_broken_stream(server: Server) -> None:
    result = curl(f"{server.url}{CSV}?dataset=failing", H2)
    assert result.returncode == 18
    assert b"fire" not in result.stdout


@pytest.mark.parametrize("options", [(), ("--limit-rate", "20k")], ids=["reads", "hardly reads"])
def test_a_server_that_is_told_to_end_does_so_in_bounded_time(tmp_path: Path, options: tuple[str, ...]) -> None:
    serve = ["asgi_export", "serve", "--port", "0", "--server", "hypercorn", "--drain-seconds", "1"]
    with running(serve, tmp_path / "output") as server:
        url = f"{server.url}{CSV}?total=10000000000"
        with (tmp_path / "download").open("wb") as download:
            client = subprocess.Popen(["curl", "-s", H2, *options, url], stdout=download)
        try:
            assert eventually(lambda: (tmp_path / "download").stat().st_size > 1000)
            assert server.stop(signal.SIGTERM, seconds=10) == 0
            assert "Traceback" not in server.log()
            if not options:
                assert client.wait(10) not in (0, None)
        finally:
            client.kill()
            client.wait()
