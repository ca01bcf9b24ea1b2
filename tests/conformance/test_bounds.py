"""Every bound met and exceeded, and every ending told once, by `asgi-export serve` on each server.

Exports at once have their test in `test_limits`, what silent and hostile sockets do in `test_hostile_sockets`.
"""

from __future__ import annotations

import contextlib
import re
import sqlite3
from collections import Counter
from collections.abc import Iterator
from contextlib import closing

import pytest

from asgi_export.threads import THREADS
from tests.conformance.servers import Server, ask, curl, eventually, get, readable, running

CSV = "/api/v1/exports/csv"
STALL_SECONDS, MAX_SECONDS = 1.0, 4.0
ROWS, BYTES = 100_000, 7_000_000
BOUNDS = {
    "ASGI_EXPORT_STALL_SECONDS": str(STALL_SECONDS),
    "ASGI_EXPORT_MAX_SECONDS": str(MAX_SECONDS),
    "ASGI_EXPORT_MAX_QUERY_BYTES": "300",
    "ASGI_EXPORT_MAX_HEADER_BYTES": "2000",
    "ASGI_EXPORT_MAX_COLUMNS": "4",
    "ASGI_EXPORT_MAX_ROWS": str(ROWS),
    "ASGI_EXPORT_MAX_BYTES": str(BYTES),
    "ASGI_EXPORT_LIMIT": "1000000/1s",
}
NUMBERS = "WITH RECURSIVE n(id) AS (SELECT 1 UNION ALL SELECT id + 1 FROM n)"
SHOP = f"""
CREATE TABLE wide (a INTEGER, b INTEGER, c INTEGER, d INTEGER, e INTEGER);
INSERT INTO wide VALUES (1, 2, 3, 4, 5);
CREATE VIEW failing AS {NUMBERS}
SELECT CASE WHEN id = 90000 THEN abs(-9223372036854775807 - 1) ELSE id END AS id FROM n;
CREATE VIEW forever AS {NUMBERS} SELECT id FROM n WHERE id <= 3 OR id = 4000000000000;
CREATE VIEW long AS {NUMBERS} SELECT id, printf('%0999d', id) AS text FROM n LIMIT 10000;
CREATE VIEW endless AS {NUMBERS} SELECT id FROM n;
"""
"""`failing` overflows in its row 90,000, `forever` never gives its fourth, a row of `long` is about 1 KB."""

ERROR_LINE = b'"__ERROR__","internal_server_error"\n'


@pytest.fixture(scope="module", params=["uvicorn", "hypercorn"])
def server(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Made-up rows and a SQLite file, with small bounds."""
    folder = tmp_path_factory.mktemp("bounds")
    with closing(sqlite3.connect(folder / "shop.db")) as connection:
        connection.executescript(SHOP)
    command = ["asgi_export", "serve", "simulated", str(folder / "shop.db"), "--port", "0", "--server", request.param]
    with running(command, folder / "output", environ=BOUNDS) as found:
        yield found
        assert found.stop() == 0
        assert "was not left within" not in found.log()


def query_of(length: int) -> str:
    start = f"{CSV}?total=1&null="
    return start + "x" * (length - len(start) + len(CSV) + 1)


def headers_of(size: int) -> str:
    """Fields that the service counts as `size` bytes: the names and values of these and of Host and Connection."""
    names = len("host" + "x" + "connection" + "close" + "a")
    return f"a: {'y' * (size - names)}\r\n"


@pytest.mark.parametrize(
    ("target", "headers", "status"),
    [
        (query_of(300), "", 200),
        (query_of(301), "", 414),
        (f"{CSV}?total=1", headers_of(2000), 200),
        (f"{CSV}?total=1", headers_of(2001), 431),
        (f"{CSV}?dataset=wide&columns=a,b,c,d", "", 200),
        (f"{CSV}?dataset=wide&columns=a,b,c,d,e", "", 400),
        (f"{CSV}?dataset=wide", "", 400),
        (f"{CSV}?total={ROWS + 1}", "", 403),
        ("/api/v1/exports/", "", 200),
    ],
)
def test_a_request_at_a_bound_is_served_and_one_past_it_is_refused(
    server: Server, target: str, headers: str, status: int
) -> None:
    assert get(server, target, headers=headers).status == status


@pytest.mark.parametrize(
    ("query", "complete"),
    [
        (f"total={ROWS}", True),
        ("dataset=endless", False),
        ("dataset=long&total=6800", True),
        ("dataset=long", False),
    ],
    ids=["rows met", "rows exceeded", "bytes met", "bytes exceeded"],
)
def test_an_export_up_to_a_bound_is_whole_and_one_past_it_visibly_broken(
    server: Server, query: str, complete: bool
) -> None:
    """Exit code 18: the transfer was not complete."""
    result = curl(f"{server.url}{CSV}?{query}")
    assert result.returncode == (0 if complete else 18)
    assert result.stdout.endswith(ERROR_LINE) is not complete
    assert result.stdout.count(b"\n") <= ROWS + 2
    assert len(result.stdout) <= BYTES + len(ERROR_LINE)


def endings(server: Server) -> Counter[str]:
    """How many exports have ended, by how, as `/metrics` tells."""
    found = re.findall(
        r'^asgi_export_exports_total\{.*ending="([^"]+)".*\} ([0-9.]+)$',
        get(server, "/metrics").body.decode(),
        re.MULTILINE,
    )
    count: Counter[str] = Counter()
    for ending, number in found:
        count[ending] += round(float(number))
    return count


def figure(server: Server, name: str) -> float:
    match = re.search(rf"^asgi_export_{name} ([0-9.]+)$", get(server, "/metrics").body.decode(), re.MULTILINE)
    assert match
    return float(match[1])


def seconds_of(line: str) -> float:
    match = re.search(r" seconds=([0-9.]+) ", line)
    assert match
    return float(match[1])


def left(server: Server, target: str, headers: str) -> None:
    with ask(server, target, headers=headers) as client:
        assert client.recv(1000)


def read_by_curl(server: Server, target: str, headers: str) -> None:
    curl(f"{server.url}{target}", "-H", headers.strip())


def stalled(server: Server, target: str, headers: str) -> None:
    with ask(server, target, headers=headers) as client:
        assert readable(client)
        assert eventually(lambda: 'ending="stalled"' in server.log(), 30)


CASES = {
    "complete": ("total=5", read_by_curl, 0.0),
    "client left": ("dataset=endless", left, 0.0),
    "stalled": ("total=99000", stalled, STALL_SECONDS),
    "failed": ("dataset=failing", read_by_curl, 0.0),
    "cut off": ("dataset=forever", read_by_curl, MAX_SECONDS),
}


@pytest.mark.parametrize("ending", CASES)
def test_every_ending_is_told_once_by_the_access_log_and_once_by_the_metrics(server: Server, ending: str) -> None:
    """And neither comes before its bound has gone by, nor much later."""
    query, act, seconds = CASES[ending]
    before, request_id = endings(server), f"ending-{ending.replace(' ', '-')}"
    act(server, f"{CSV}?{query}", f"X-Request-Id: {request_id}\r\n")
    assert eventually(lambda: server.access_lines(request_id))
    assert eventually(lambda: endings(server) != before)
    (line,) = server.access_lines(request_id)
    assert line.endswith(f'ending="{ending}"')
    assert endings(server) - before == Counter({ending: 1})
    assert seconds <= seconds_of(line) < seconds + 10


def test_past_the_rows_is_cut_off_too(server: Server) -> None:
    before = endings(server)
    curl(f"{server.url}{CSV}?dataset=endless", "-H", "X-Request-Id: rows-1")
    assert eventually(lambda: server.access_lines("rows-1"))
    (line,) = server.access_lines("rows-1")
    assert line.endswith('ending="cut off"')
    assert f"rows={ROWS + 1} " in line
    assert eventually(lambda: endings(server) - before == Counter({"cut off": 1}))


@pytest.mark.slow
def test_queries_that_never_end_are_interrupted_at_the_end_of_their_time(server: Server) -> None:
    """More of them than there are threads: nobody waits for their end, and each is free again."""
    number = 2 * THREADS + 2
    with contextlib.ExitStack() as stack:
        clients = [
            stack.enter_context(ask(server, f"{CSV}?dataset=forever", headers=f"X-Request-Id: forever-{index}\r\n"))
            for index in range(number)
        ]
        assert eventually(lambda: figure(server, "worker_jobs") == number)
        assert get(server, f"{CSV}?dataset=wide&columns=a").body == b"a\n1\n"
        assert "request_id=forever-" not in server.log(), "not one of them had to end for that"
        for client in clients:
            data = bytearray()
            while part := client.recv(65536):
                data += part
            assert not data.endswith(b"0\r\n\r\n")
            assert ERROR_LINE in data or data.startswith(b"HTTP/1.1 503")
    for index in range(number):
        assert eventually(lambda index=index: server.access_lines(f"forever-{index}"))  # type: ignore[misc]
    assert get(server, f"{CSV}?dataset=wide&columns=a").body == b"a\n1\n"
