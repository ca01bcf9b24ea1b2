"""`asgi_export.service:app` as a plain server runs it, with settings out of the environment."""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from tests.conformance.servers import Server, connect, eventually, get, running
from tests.ports import free_port

CSV = "/api/v1/exports/csv"
APPLICATION = "asgi_export.service:app"
SOCKET = (
    "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
    "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n"
)
ACCESS = re.compile(
    r"asgi_export\.access request_id=(?P<id>\S+) method=(?P<method>\S+) path=(?P<path>\S+) status=(?P<status>\d+)"
    r" bytes=(?P<bytes>\d+) seconds=(?P<seconds>\d+\.\d{3})( owner=\S+)?"
    r"( dataset=(?P<dataset>\S+) format=(?P<format>\S+))?( rows=(?P<rows>\d+) ending=\"(?P<ending>[a-z ]+)\")?"
)


@pytest.fixture(scope="module", params=["uvicorn", "hypercorn"])
def server(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Each with its own access log switched on, as talkative as it gets."""
    folder = tmp_path_factory.mktemp("plain")
    with closing(sqlite3.connect(folder / "my shop.db")) as connection:
        connection.executescript("CREATE TABLE orders (id INTEGER); INSERT INTO orders VALUES (7);")
    port = free_port()
    options = {
        "uvicorn": ["--port", str(port), "--log-level", "trace"],
        "hypercorn": ["--bind", f"127.0.0.1:{port}", "--access-logfile", "-", "--log-level", "debug"],
    }[request.param]
    environ = {"ASGI_EXPORT_SOURCES": f"'{folder}/my shop.db' simulated", "ASGI_EXPORT_LIMIT": "1000/1h"}
    with running([request.param, APPLICATION, *options], folder / "output", port=port, environ=environ) as found:
        found.name = request.param
        yield found
        assert found.stop() in (0, -15)
        assert "Traceback" not in found.log()


def access_of(server: Server, request_id: str) -> dict[str, str | None]:
    """The one access line of a request."""

    def lines() -> list[dict[str, str | None]]:
        found = [ACCESS.search(line) for line in server.log().splitlines() if f"request_id={request_id} " in line]
        return [match.groupdict() for match in found if match]

    assert eventually(lines)
    assert len(lines()) == 1
    return lines()[0]


def test_the_environment_says_what_is_served_and_how_often(server: Server) -> None:
    answer = get(server, CSV)
    assert (answer.status, answer.body) == (200, b"id\n7\n")
    assert answer.headers["ratelimit-policy"] == '"default";q=1000;w=3600'
    assert get(server, f"{CSV}?dataset=simulated&total=1").status == 200


@pytest.mark.parametrize(
    ("target", "method", "expected"),
    [
        (CSV, "GET", {"status": "200", "bytes": "5", "rows": "1", "ending": "complete", "dataset": "orders"}),
        (f"{CSV}?dataset=simulated", "GET", {"status": "200", "rows": "10000", "format": "csv"}),
        (CSV, "HEAD", {"status": "200", "bytes": "0", "rows": None, "method": "HEAD"}),
        (f"{CSV}?total=x", "GET", {"status": "400", "path": CSV, "dataset": None}),
        ("/a%20b%0Ac?x", "GET", {"status": "404", "path": "/a%20b%0Ac"}),
    ],
)
def test_each_request_is_one_access_line(
    server: Server, target: str, method: str, expected: dict[str, str | None], request: pytest.FixtureRequest
) -> None:
    request_id = f"line-{abs(hash(request.node.name))}"
    assert get(server, target, method=method, headers=f"X-Request-Id: {request_id}\r\n").status
    found = access_of(server, request_id)
    assert {name: found[name] for name in expected} == expected


def test_a_client_that_leaves_is_in_the_access_line(server: Server) -> None:
    with connect(server) as client:
        request = f"GET {CSV}?dataset=simulated&total=1000000000 HTTP/1.1\r\nHost: x\r\nX-Request-Id: left-1\r\n\r\n"
        client.sendall(request.encode())
        assert client.recv(100)
    found = access_of(server, "left-1")
    assert found["ending"] == "client left"
    assert int(found["rows"] or 0) > 0
    assert int(found["bytes"] or 0) > 0


def test_no_key_is_in_any_log_whichever_way_it_comes(server: Server) -> None:
    get(server, f"{CSV}?apiKey=s3cret-1")
    get(server, f"{CSV}?api%4Bey=s3cret-2&total=1")
    get(server, f"{CSV}?total=s3cret-3&apiKey=s3cret-3&apiKey=s3cret-3")
    get(server, f"http://x{CSV}?apiKey=s3cret-4")
    get(server, f"{CSV}%3FapiKey=s3cret-5")
    get(server, f"{CSV}&apiKey=s3cret-5")
    get(server, f"/nowhere?apiKey=s3cret-6&x={'y' * 9000}")
    for name in ("X-API-Key: ", "Authorization: Bearer ", "Referer: http://x/?apiKey="):
        get(server, CSV, headers=f"{name}s3cret-7\r\n")
    get(server, f"{CSV}?apiKey=s3cret-8", headers=SOCKET)
    get(server, f"{CSV}?dataset=simulated", headers="X-API-Key: s3cret-9\r\nX-Request-Id: last-1\r\n")
    access_of(server, "last-1")
    assert "s3cret" not in server.log()


def test_a_websocket_is_refused_without_a_traceback(server: Server) -> None:
    before = len(server.log())
    assert (
        get(server, CSV, headers=SOCKET.replace("Connection: Upgrade\r\n", "Connection: Upgrade\r\n")).status == 403
    )
    assert get(server, "/healthz").status == 200
    assert "Traceback" not in server.log()[before:]


def test_wrong_settings_are_a_start_that_fails_with_the_reason(tmp_path: Path) -> None:
    for name, options in (("uvicorn", ["--port", "0"]), ("hypercorn", ["--bind", "127.0.0.1:0"])):
        with (
            pytest.raises(AssertionError) as raised,
            running([name, APPLICATION, *options], tmp_path / name, port=1, environ={"ASGI_EXPORT_LIMIT": "often"}),
        ):
            pass
        assert "ASGI_EXPORT_LIMIT=often: expected HITS/WINDOW" in str(raised.value)
