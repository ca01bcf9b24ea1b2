"""The end of `asgi-export serve`, under load: every export is whole or visibly broken, and nothing is left behind."""

from __future__ import annotations

import contextlib
import gzip
import os
import signal
import socket
import sqlite3
import subprocess
import time
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from threading import Thread
from typing import NamedTuple, Protocol

import pytest

from asgi_export.serving.process import CLOSE_SECONDS, MARGIN_SECONDS
from tests.conformance.servers import Answer, Server, ask, connect, eventually, get, running
from tests.conformance.test_worker_metrics import worker_pids
from tests.postgres_server import PostgresServer
from tests.redis_server import RedisServer
from tests.sources.postgres_shop import OURS

CSV = "/api/v1/exports/csv"
ENDLESS = f"{CSV}?total=100000000000"
ROWS = 30_000
"""A megabyte and a half: a reader of the first bytes is in the middle, whatever waits in sockets for the client."""

BUFFERED = f"{CSV}?total=3500"
"""180 KB: of a client that does not read the system takes 128 KB, and the server the rest, and it is over."""

DRAIN_SECONDS = 3
LONG_SECONDS = 600
"""Longer than any test waits."""

FEW_SECONDS = 20
"""For what takes two, on a busy machine."""


class Kind(NamedTuple):
    """How the service runs."""

    server: str
    workers: int


KINDS = [
    Kind("uvicorn", 2),
    Kind("hypercorn", 1),
    pytest.param(Kind("uvicorn", 1), marks=pytest.mark.slow),
    pytest.param(Kind("hypercorn", 2), marks=pytest.mark.slow),
]
"""At the desk each server and each number of workers, and one signal; else each with each of the others."""


@pytest.fixture(params=KINDS, ids=lambda kind: f"{kind.server}-{kind.workers}")
def kind(request: pytest.FixtureRequest) -> Kind:
    found: Kind = request.param
    return found


@contextlib.contextmanager
def serving(
    kind: Kind, redis: RedisServer, folder: Path, *sources: str, drain_seconds: float = LONG_SECONDS
) -> Iterator[Server]:
    """The service; where the test has ended it, it has ended cleanly."""
    (folder / "tmp").mkdir()
    options = ["--server", kind.server, "--workers", str(kind.workers), "--drain-seconds", str(drain_seconds)]
    limiter = ["--limit", "100000/1s", *(["--limiter", redis.url] if kind.workers > 1 else [])]
    environ = {"TMPDIR": str(folder / "tmp"), "ASGI_EXPORT_STORE_BOUND_SECONDS": "5"}
    command = ["asgi_export", "serve", *sources, "--port", "0", *options, *limiter]
    with running(command, folder / "output", environ=environ) as server:
        yield server
        if server.process.poll() is not None:
            assert list((folder / "tmp").iterdir()) == []
            for word in ("Traceback", "never retrieved", "never awaited", "was not left within"):
                assert word not in server.log()


def pids(server: Server) -> Sequence[int]:
    """Every process of the service: the workers, and who started them."""
    return [server.process.pid, *worker_pids(server)]


def refusals(server: Server) -> bool:
    """Whether new exports are refused: three times, as there are two workers.

    One of them may have nothing to do, and so be ending just now: who came just before gets no answer.
    """
    try:
        return all(get(server, f"{CSV}?total=1").status == 503 for _ in range(3))
    except (ConnectionError, IndexError):
        return False


def hurry(server: Server, number: int = signal.SIGTERM) -> int:
    """Signal until the service has ended, as signals close together are one: the exit code."""

    def ended() -> bool:
        server.process.send_signal(number)
        return server.process.poll() is not None

    assert eventually(ended, FEW_SECONDS)
    return server.process.wait()


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a client made of a download: whether it saw a regular end, and what it got."""

    whole: bool
    content: bytes


def outcome_of(data: bytes) -> Outcome:
    """By the chunks of the body alone. RFC 9112 §7.1 and §8."""
    parts: list[bytes] = []
    at = data.index(b"\r\n\r\n") + 4
    while (line_end := data.find(b"\r\n", at)) >= 0:
        begin, size = line_end + 2, int(data[at:line_end], 16)
        parts.append(data[begin : begin + size])
        at = begin + size + 2
        if at > len(data) or not size:
            return Outcome(at == len(data) and not size, b"".join(parts))
    return Outcome(False, b"".join(parts))


class Download(Thread):
    """A client that has read the first bytes of an export when it is made, and reads on when it is started."""

    def __init__(self, server: Server, target: str, headers: str = "", *, pause_seconds: float = 0.0) -> None:
        super().__init__(daemon=True)
        self._socket = connect(server, receive_buffer=65536)
        self._socket.settimeout(60)
        self._socket.sendall(f"GET {target} HTTP/1.1\r\nHost: x\r\n{headers}\r\n".encode())
        self._pause_seconds = pause_seconds
        self.data = bytearray(self._socket.recv(1000))

    def run(self) -> None:
        with self._socket, contextlib.suppress(ConnectionResetError):
            while part := self._socket.recv(65536):
                self.data += part
                time.sleep(self._pause_seconds)

    def last_bytes(self) -> bytes:
        """Read on as fast as can be, to the end, which is all that is kept."""
        last = b""
        with self._socket, contextlib.suppress(ConnectionResetError):
            while part := self._socket.recv(1 << 20):
                last = (last + part)[-100:]
        return last

    def close(self) -> None:
        """Leave, where that has not happened."""
        self._socket.close()

    def outcome(self) -> Outcome:
        self.join(60)
        assert not self.is_alive(), "the download does not end"
        return outcome_of(bytes(self.data))


class Begin(Protocol):
    def __call__(self, server: Server, target: str, headers: str = "", *, pause_seconds: float = 0.0) -> Download: ...


@pytest.fixture
def begin() -> Iterator[Begin]:
    """Makes downloads, and closes them after the test."""
    with contextlib.ExitStack() as stack:

        def make(server: Server, target: str, headers: str = "", *, pause_seconds: float = 0.0) -> Download:
            return stack.enter_context(
                contextlib.closing(Download(server, target, headers, pause_seconds=pause_seconds))
            )

        yield make


GZIP = "Accept-Encoding: gzip\r\n"
FINITE = {
    "csv": (f"{CSV}?total={ROWS}", ""),
    "ndjson": (f"/api/v1/exports/ndjson?total={ROWS}", ""),
    "quoted": (f"{CSV}?total={ROWS}&quote=all", ""),
    "gzip": (f"{CSV}?total={2 * ROWS}", GZIP),
}
LINES = {"csv": ROWS + 1, "ndjson": ROWS, "quoted": ROWS + 1, "gzip": 2 * ROWS + 1}
UNENDING = {
    "endless": (ENDLESS, ""),
    "endless again": (ENDLESS, ""),
    "endless ndjson": ("/api/v1/exports/ndjson?total=100000000000", ""),
    "endless gzip": (ENDLESS, GZIP),
}


def test_under_load_every_export_is_whole_or_visibly_broken(
    kind: Kind, empty_redis: RedisServer, tmp_path: Path, begin: Begin
) -> None:
    """Twelve clients: some finish in the time that they are left, some never do, and two read nothing at all."""
    with serving(kind, empty_redis, tmp_path, drain_seconds=DRAIN_SECONDS) as server:
        finite = {name: begin(server, *asked) for name, asked in FINITE.items()}
        unending = {name: begin(server, *asked, pause_seconds=0.01) for name, asked in UNENDING.items()}
        asleep = [begin(server, ENDLESS), begin(server, ENDLESS, GZIP)]
        fast = begin(server, ENDLESS)
        curl = curling(server, "total=100000000000", "2M", tmp_path / "curled.csv")
        begun = time.monotonic()
        server.process.send_signal(signal.SIGTERM)
        assert eventually(lambda: refusals(server))
        for download in (*finite.values(), *unending.values()):
            download.start()
        whole = {name: download.outcome() for name, download in finite.items()}
        last_bytes = fast.last_bytes()
        exit_code = server.process.wait(DRAIN_SECONDS + FEW_SECONDS)
        seconds = time.monotonic() - begun
        for download in asleep:
            download.start()
        curl_code = curl.wait(60)
    assert (exit_code, seconds >= DRAIN_SECONDS) == (0, True)
    assert_whole(whole)
    assert_broken({name: download.outcome() for name, download in unending.items()})
    assert_broken({f"asleep {number}": download.outcome() for number, download in enumerate(asleep)})
    assert curl_code == 18
    assert not last_bytes.endswith(b"\r\n0\r\n\r\n")


def curling(server: Server, query: str, rate: str, path: Path) -> subprocess.Popen[bytes]:
    """A curl that has begun to download at a rate of so many bytes a second."""
    command = ["curl", "-sN", "--limit-rate", rate, "-o", str(path), f"{server.url}{CSV}?{query}"]
    process = subprocess.Popen(command)
    assert eventually(lambda: path.exists() and path.stat().st_size)
    return process


def assert_whole(outcomes: Mapping[str, Outcome]) -> None:
    """Each with exactly the rows that were asked for."""
    for name, outcome in outcomes.items():
        assert outcome.whole, name
        text = gzip.decompress(outcome.content) if name == "gzip" else outcome.content
        assert text.count(b"\n") == LINES[name], name


def assert_broken(outcomes: Mapping[str, Outcome]) -> None:
    """By the missing final chunk, and what is compressed by its missing trailer too."""
    for name, outcome in outcomes.items():
        assert not outcome.whole, name
        if outcome.content.startswith(b"\x1f\x8b"):
            reader = zlib.decompressobj(wbits=31)
            assert reader.decompress(outcome.content)
            assert not reader.eof, name


def test_what_is_new_is_refused_in_the_meantime(
    kind: Kind, empty_redis: RedisServer, tmp_path: Path, begin: Begin
) -> None:
    with serving(kind, empty_redis, tmp_path) as server:
        running_exports = [begin(server, ENDLESS) for _ in range(4 * kind.workers)]
        server.process.send_signal(signal.SIGTERM)
        assert eventually(lambda: refusals(server))
        for path in (f"{CSV}?total=1", "/api/v1/exports/", "/readyz"):
            assert_refusal(get(server, path))
        assert get(server, "/healthz").status == 200
        assert running_exports
        assert hurry(server) == 0


def assert_refusal(answer: Answer) -> None:
    assert answer.status == 503
    assert int(answer.headers["retry-after"]) > 0
    assert answer.headers["connection"] == "close"
    assert b'"unavailable"' in answer.body


@pytest.mark.parametrize("name", ["uvicorn", "hypercorn"])
def test_a_connection_that_is_kept_alive_gets_its_refusal_and_is_closed(
    name: str, empty_redis: RedisServer, tmp_path: Path, begin: Begin
) -> None:
    with serving(Kind(name, 1), empty_redis, tmp_path) as server, connect(server) as client:
        request = f"GET {CSV}?total=1 HTTP/1.1\r\nHost: x\r\n\r\n".encode()
        client.sendall(request)
        received = b""
        while not received.endswith(b"\r\n0\r\n\r\n"):
            received += client.recv(65536)
        held = begin(server, ENDLESS)
        server.process.send_signal(signal.SIGTERM)
        assert eventually(lambda: refusals(server))
        client.sendall(request)
        answer = b"".join(iter(lambda: client.recv(65536), b""))
        assert answer.startswith(b"HTTP/1.1 503 ")
        assert b"connection: close" in answer.lower()
        assert held.data
        assert hurry(server) == 0


@pytest.mark.parametrize("number", [signal.SIGTERM, pytest.param(signal.SIGINT, marks=pytest.mark.slow)])
def test_where_nothing_runs_it_ends_at_once(
    kind: Kind, empty_redis: RedisServer, tmp_path: Path, begin: Begin, number: signal.Signals
) -> None:
    """Connections that say nothing, half of something, or nothing any more, hold it up as little."""
    with serving(kind, empty_redis, tmp_path) as server, contextlib.ExitStack() as stack:
        for text in ("", "GET /healthz HT", "GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n"):
            client = stack.enter_context(connect(server))
            client.sendall(text.encode())
        assert client.recv(12) == b"HTTP/1.1 200"
        assert server.stop(number) == 0


def test_it_ends_when_the_last_export_does(
    kind: Kind, empty_redis: RedisServer, tmp_path: Path, begin: Begin
) -> None:
    with serving(kind, empty_redis, tmp_path) as server:
        downloads = [begin(server, f"{CSV}?total={ROWS}") for _ in range(4)]
        server.process.send_signal(signal.SIGTERM)
        assert eventually(lambda: refusals(server))
        assert server.process.poll() is None
        for download in downloads:
            download.start()
        for download in downloads:
            assert_whole({"csv": download.outcome()})
        assert server.process.wait(FEW_SECONDS) == 0


def test_a_second_signal_breaks_off_at_once(
    kind: Kind, empty_redis: RedisServer, tmp_path: Path, begin: Begin
) -> None:
    with serving(kind, empty_redis, tmp_path) as server:
        downloads = {str(number): begin(server, ENDLESS, pause_seconds=0.01) for number in range(4)}
        for download in downloads.values():
            download.start()
        server.process.send_signal(signal.SIGTERM)
        assert eventually(lambda: refusals(server))
        assert hurry(server, signal.SIGINT) == 0
    assert_broken({name: download.outcome() for name, download in downloads.items()})


@pytest.mark.parametrize("second", [pytest.param(False, marks=pytest.mark.slow), True])
def test_the_last_bytes_of_an_export_may_be_taken_until_a_second_signal(
    kind: Kind, empty_redis: RedisServer, tmp_path: Path, second: bool
) -> None:
    """Nothing is running then, and the port is closed, and yet a client has not got all."""
    with serving(kind, empty_redis, tmp_path) as server:
        with ask(server, BUFFERED) as client:
            assert server.logged('ending="complete"')
            server.process.send_signal(signal.SIGTERM)
            assert eventually(lambda: is_closed(server))
            if second:
                assert hurry(server) == 0
            else:
                assert not eventually(lambda: server.process.poll() is not None, CLOSE_SECONDS + MARGIN_SECONDS + 1)
            data = b"".join(iter(lambda: client.recv(65536), b""))
        assert server.process.wait(FEW_SECONDS) == 0
    assert outcome_of(data).whole is not second


def is_closed(server: Server) -> bool:
    """Whether the port is closed: no worker accepts, and the supervisor does not keep clients waiting for one.

    Who came just before gets no answer either.
    """
    try:
        get(server, "/healthz")
    except (ConnectionError, IndexError):
        return True
    return False


@pytest.mark.parametrize("number", [signal.SIGTERM, pytest.param(signal.SIGINT, marks=pytest.mark.slow)])
def test_a_signal_to_all_its_processes_is_one(
    kind: Kind, empty_redis: RedisServer, tmp_path: Path, begin: Begin, number: signal.Signals
) -> None:
    """As a terminal and systemd send it."""
    with serving(kind, empty_redis, tmp_path) as server:
        downloads = [begin(server, f"{CSV}?total={ROWS}") for _ in range(4)]
        for pid in pids(server):
            os.kill(pid, number)
        assert eventually(lambda: refusals(server))
        for download in downloads:
            download.start()
        for download in downloads:
            assert_whole({"csv": download.outcome()})
        assert server.process.wait(FEW_SECONDS) == 0


@pytest.mark.parametrize("name", ["uvicorn", "hypercorn"])
def test_a_worker_that_dies_is_replaced_and_one_that_is_told_to_end_ends_cleanly(
    name: str, empty_redis: RedisServer, tmp_path: Path, begin: Begin
) -> None:
    with serving(Kind(name, 2), empty_redis, tmp_path) as server:
        killed, told = worker_pids(server)
        os.kill(killed, signal.SIGKILL)
        os.kill(told, signal.SIGTERM)
        assert eventually(lambda: not {killed, told} & set(worker_pids(server)), 30)
        assert eventually(lambda: len(worker_pids(server)) == 2, 30)
        assert eventually(lambda: answers(server), 30)
        assert server.stop() == 0


def answers(server: Server) -> bool:
    """False where a dead worker had taken the connection."""
    with contextlib.suppress(OSError, IndexError):
        return get(server, f"{CSV}?total=1").status == 200
    return False


@pytest.mark.parametrize("name", ["uvicorn", "hypercorn"])
def test_workers_whose_supervisor_is_killed_drain_and_end(
    name: str, empty_redis: RedisServer, tmp_path: Path, begin: Begin
) -> None:
    """They would go on for ever, and nobody could start the service anew on that port."""
    with serving(Kind(name, 2), empty_redis, tmp_path) as server:
        workers = worker_pids(server)
        download = begin(server, f"{CSV}?total={ROWS}")
        server.process.kill()
        server.process.wait(FEW_SECONDS)
        download.start()
        assert_whole({"csv": download.outcome()})
        assert eventually(lambda: not any(Path(f"/proc/{pid}").exists() for pid in workers), FEW_SECONDS)
        for left in (tmp_path / "tmp").iterdir():  # nobody was there to take it away
            for file in left.iterdir():
                file.unlink()
            left.rmdir()


@pytest.fixture(scope="module")
def database(postgres_server: PostgresServer) -> PostgresServer:
    postgres_server.make_database(
        "clean_end",
        # Not in FROM, where the series is stored before its first row comes.
        "CREATE VIEW big AS SELECT generate_series(1, 100000000) AS id, repeat('x', 50) AS text;"
        "CREATE VIEW slow AS SELECT 1 AS id FROM pg_sleep(1000);",
    )
    return postgres_server


def sessions(database: PostgresServer) -> int:
    """What the service has open there, idle connections of its pools too."""
    query = f"SELECT count(*) FROM pg_stat_activity WHERE {OURS}"
    return int(database.text(f"COPY ({query}) TO STDOUT", "clean_end"))


def test_databases_have_nothing_left_of_it(
    kind: Kind, empty_redis: RedisServer, database: PostgresServer, tmp_path: Path, begin: Begin
) -> None:
    """Neither sessions, when they are looked at next, nor files or locks of SQLite."""
    path = tmp_path / "shop.db"
    with contextlib.closing(sqlite3.connect(path)) as connection:
        connection.executescript(
            "PRAGMA journal_mode=WAL; CREATE TABLE one (id INTEGER);"
            "INSERT INTO one WITH RECURSIVE n(id) AS (SELECT 1 UNION ALL SELECT id + 1 FROM n LIMIT 3000)"
            "SELECT id FROM n;"
            "CREATE VIEW large AS SELECT a.id FROM one a, one b;"
        )
    names = ("pg.big", "pg.slow", "shop.large")
    with serving(
        kind, empty_redis, tmp_path, f"pg={database.dsn('clean_end')}", f"shop={path}", drain_seconds=1
    ) as server:
        clients: Sequence[socket.socket] = [ask(server, f"{CSV}?dataset={name}") for name in names for _ in range(2)]
        for client in (*clients[:2], *clients[4:]):
            assert client.recv(100)
        assert eventually(lambda: sessions(database) >= 4)
        assert server.stop() == 0
        assert eventually(lambda: sessions(database) == 0)
        for client in clients:
            client.close()
    with contextlib.closing(sqlite3.connect(path, timeout=0)) as connection:
        connection.execute("BEGIN EXCLUSIVE")
        connection.rollback()
