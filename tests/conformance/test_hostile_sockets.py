"""Sockets that do what no client should: half of them closed, full of garbage, silent, or never done with a body.

Whatever one of them does, the others are served, and when it has gone nothing of it is left.
"""

from __future__ import annotations

import contextlib
import os
import resource
import socket
import struct
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conformance.servers import Server, ask, connect, eventually, get, readable, running, unchunked

CSV = "/api/v1/exports/csv"
ENDLESS = f"{CSV}?total=100000000000"
ONE_ROW = f"{CSV}?total=1"
STALL_SECONDS = 2
IDLE, DRIBBLING = 2000, 200
DESCRIPTORS = 2 * (IDLE + DRIBBLING)
RESET = struct.pack("ii", 1, 0)


@pytest.fixture(scope="module", params=["uvicorn", "hypercorn"])
def server(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """`asgi-export serve` on each server, with room for every socket that a test opens."""
    if not Path("/proc/self/fd").is_dir():
        pytest.skip("no /proc to count descriptors in")
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < DESCRIPTORS:
        pytest.skip(f"{hard} descriptors at most; expected {DESCRIPTORS}")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, DESCRIPTORS), hard))
    output = tmp_path_factory.mktemp("hostile") / "output"
    bounds = ["--limit", "1000000/1s", "--stall-seconds", str(STALL_SECONDS), "--drain-seconds", "1"]
    command = ["asgi_export", "serve", "--port", "0", "--server", request.param, *bounds]
    try:
        with running(command, output) as found:
            found.name = request.param
            get(found, ONE_ROW)
            yield found
            assert found.stop() == 0
            assert "Traceback" not in found.log()
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.fixture(scope="module")
def idle(server: Server) -> int:
    """The descriptors of a server that nobody is connected to."""
    return descriptors(server)


@pytest.fixture
def nothing_left(server: Server, idle: int) -> Iterator[None]:
    """After the test the server has no more descriptors than when nobody was there, and no export is running."""
    yield
    assert eventually(lambda: descriptors(server) <= idle, 20), f"{descriptors(server)} descriptors, had {idle}"
    assert eventually(lambda: running_exports(server) == 0)


def descriptors(server: Server) -> int:
    return len(os.listdir(f"/proc/{server.process.pid}/fd"))


def resident_bytes(server: Server) -> int:
    pages = Path(f"/proc/{server.process.pid}/statm").read_text().split()[1]
    return int(pages) * resource.getpagesize()


def running_exports(server: Server) -> float:
    lines = get(server, "/metrics").body.decode().splitlines()
    return next(float(line.split()[1]) for line in lines if line.startswith("asgi_export_running_exports "))


def received(client: socket.socket) -> bytes:
    """All that comes until the server closes, also by a reset."""
    parts: list[bytes] = []
    with contextlib.suppress(ConnectionResetError):
        while part := client.recv(1 << 20):
            parts.append(part)
    return b"".join(parts)


def send_until_refused(client: socket.socket, data: bytes) -> None:
    """Send what the server takes: it may close, or stop reading."""
    client.settimeout(1)
    with contextlib.suppress(ConnectionError, TimeoutError):
        client.sendall(data)
    client.settimeout(20)


@pytest.mark.usefixtures("nothing_left")
def test_a_client_that_closes_its_half_in_mid_export_is_taken_for_gone(server: Server) -> None:
    """Both servers report a disconnect upon its FIN, and the download is visibly broken for it."""
    with ask(server, ENDLESS, headers="X-Request-Id: half-1\r\n") as client:
        assert client.recv(1000)
        client.shutdown(socket.SHUT_WR)
        data = received(client)
        assert eventually(lambda: server.access_lines("half-1"))
    assert 'ending="client left"' in server.access_lines("half-1")[0]
    assert not data.endswith(b"0\r\n\r\n")


@pytest.mark.usefixtures("nothing_left")
@pytest.mark.parametrize("total", [1, 100_000])
def test_a_client_that_closes_its_half_at_once_gets_all_or_visibly_not(server: Server, total: int) -> None:
    """To uvicorn it has gone, often before there is a head; Hypercorn answers as far as it is quick enough."""
    with contextlib.ExitStack() as stack:
        clients = [stack.enter_context(ask(server, f"{CSV}?total={total}")) for _ in range(5)]
        for client in clients:
            client.shutdown(socket.SHUT_WR)
        for client in clients:
            head, _, body = received(client).partition(b"\r\n\r\n")
            if body.endswith(b"0\r\n\r\n"):
                assert head.startswith(b"HTTP/1.1 200")
                assert unchunked(body).count(b"\n") == total + 1


@pytest.mark.usefixtures("nothing_left")
@pytest.mark.parametrize("garbage", [b"\0\xff garbage\r\n\r\n", b"x" * 3_000_000], ids=["short", "long"])
def test_garbage_behind_a_running_export_neither_ends_it_nor_harms_others(server: Server, garbage: bytes) -> None:
    """The bytes wait for the end of the answer; a client that leaves is still seen to have left."""
    request_id = f"garbage-{len(garbage)}"
    with ask(server, ENDLESS, headers=f"X-Request-Id: {request_id}\r\n") as client:
        assert client.recv(1000)
        send_until_refused(client, garbage)
        assert get(server, f"{CSV}?total=1000").body.count(b"\n") == 1001
        assert b",user-" in client.recv(1 << 20) + client.recv(1 << 20)
    assert eventually(lambda: server.access_lines(request_id))
    assert 'ending="client left"' in server.access_lines(request_id)[0]


@pytest.mark.usefixtures("nothing_left")
def test_garbage_behind_an_export_gets_its_400_after_the_whole_export(server: Server) -> None:
    with ask(server, f"{CSV}?total=50000") as client:
        client.sendall(b"\0\xff garbage\r\n\r\n")
        data = received(client)
    head, _, rest = data.partition(b"\r\n\r\n")
    body, _, second = rest.partition(b"HTTP/1.1 ")
    assert head.startswith(b"HTTP/1.1 200")
    assert unchunked(body).count(b"\n") == 50_001
    assert second.startswith(b"400")


@pytest.mark.usefixtures("nothing_left")
def test_requests_behind_a_running_export_are_answered_in_order(server: Server) -> None:
    """RFC 9112 §9.3.2: pipelining."""
    with ask(server, f"{CSV}?total=50000") as client:
        for target in ("/healthz", f"{CSV}?total=2"):
            client.sendall(f"GET {target} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        client.sendall(f"HEAD {CSV} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode())
        answers = received(client).split(b"HTTP/1.1 200")[1:]
    assert len(answers) == 4
    bodies = [answer.partition(b"\r\n\r\n")[2] for answer in answers]
    assert unchunked(bodies[0]).count(b"\n") == 50_001
    assert b'"ok"' in bodies[1]
    assert unchunked(bodies[2]).count(b"\n") == 3
    assert bodies[3] == b""


@pytest.mark.usefixtures("nothing_left")
@pytest.mark.parametrize("reset", [False, True])
def test_a_client_that_leaves_with_requests_behind_a_running_export_leaves_none_of_them(
    server: Server, reset: bool
) -> None:
    with ask(server, ENDLESS, headers=f"X-Request-Id: piped-{reset}\r\n") as client:
        client.sendall(f"GET {ENDLESS} HTTP/1.1\r\nHost: x\r\n\r\n".encode() * 100)
        assert client.recv(1000)
        if reset:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
    assert eventually(lambda: server.access_lines(f"piped-{reset}"))
    assert 'ending="client left"' in server.access_lines(f"piped-{reset}")[0]


@pytest.mark.slow
@pytest.mark.usefixtures("nothing_left")
def test_silent_and_dribbling_connections_by_the_thousand_do_not_stop_others(server: Server) -> None:
    with contextlib.ExitStack() as stack:
        silent = [stack.enter_context(connect(server)) for _ in range(IDLE)]
        dribbling = [stack.enter_context(connect(server)) for _ in range(DRIBBLING)]
        for number, byte in enumerate(b"GET /api/v1/exports/csv HTTP/1.1\r\nHost: x\r\nX-Slow: "):
            for client in dribbling:
                with contextlib.suppress(ConnectionError):  # a server may have lost its patience
                    client.sendall(bytes([byte]))
            if number % 10 == 0:
                assert get(server, f"{CSV}?total=1000").body.count(b"\n") == 1001
                assert get(server, "/healthz").status == 200
        assert len(silent) == IDLE


@pytest.mark.usefixtures("nothing_left")
def test_a_client_that_reads_nothing_costs_no_socket_once_it_is_cut_off(server: Server, idle: int) -> None:
    """Though it keeps its own end open: what waits for it in the server's socket would wait for ever."""
    with contextlib.ExitStack() as stack:
        for number in range(5):
            client = stack.enter_context(ask(server, ENDLESS, headers=f"X-Request-Id: stalled-{number}\r\n"))
            assert readable(client)
        assert running_exports(server) == 5
        for number in range(5):
            assert eventually(lambda number=number: server.access_lines(f"stalled-{number}"))  # type: ignore[misc]
            assert 'ending="stalled"' in server.access_lines(f"stalled-{number}")[0]
        assert eventually(lambda: descriptors(server) <= idle, STALL_SECONDS + 20)


def upload(size: int, total: int) -> bytes:
    """`total` bytes of a request body in chunks of `size`. RFC 9112 §7.1."""
    chunk = b"%x\r\n%s\r\n" % (size, b"x" * size)
    return chunk * (total // len(chunk))


BODIES = [
    ("POST", CSV, 405),
    ("PUT", "/api/v1/exports/", 405),
    ("GET", "/nowhere", 404),
    ("GET", f"{CSV}?total=x", 400),
    ("HEAD", ONE_ROW, 200),
    ("GET", ONE_ROW, 200),
    ("GET", "/healthz", 200),
    ("GET", "/metrics", 200),
]


@pytest.mark.usefixtures("nothing_left")
@pytest.mark.parametrize("size", [1, 10, 60_000])
@pytest.mark.parametrize(("method", "target", "status"), BODIES)
def test_a_body_that_nobody_wants_holds_no_answer_up(
    server: Server, method: str, target: str, status: int, size: int
) -> None:
    """Hypercorn waits for room in the queue of a request that has been answered, for ever if nobody takes it."""
    request_id = f"body-{BODIES.index((method, target, status))}-{size}"
    fields = f"Transfer-Encoding: chunked\r\nX-Request-Id: {request_id}\r\n"
    with ask(server, target, method=method, headers=fields) as client:
        send_until_refused(client, upload(size, 1_000_000))
        assert client.recv(12) == f"HTTP/1.1 {status}".encode()
    assert eventually(lambda: server.access_lines(request_id))


@pytest.mark.usefixtures("nothing_left")
@pytest.mark.parametrize("size", [100, 60_000])
def test_a_client_that_uploads_while_it_downloads_costs_no_memory(server: Server, size: int) -> None:
    """And when it is cut off, since it reads nothing, nothing of it stays."""
    before = resident_bytes(server)
    fields = f"Transfer-Encoding: chunked\r\nX-Request-Id: both-{size}\r\n"
    data = upload(size, 1_000_000)
    with ask(server, ENDLESS, headers=fields) as client:
        client.settimeout(1)
        with contextlib.suppress(ConnectionError, TimeoutError):
            for _ in range(64):
                client.sendall(data)
        assert eventually(lambda: server.access_lines(f"both-{size}"), 30)
        assert resident_bytes(server) - before < 32 << 20
    assert 'ending="stalled"' in server.access_lines(f"both-{size}")[0]


@pytest.mark.usefixtures("nothing_left")
def test_a_client_that_waits_for_100_continue_gets_an_answer(server: Server) -> None:
    """RFC 9110 §10.1.1: 100 or the final answer, and where it is 100 the final answer behind it."""
    fields = "Expect: 100-continue\r\nContent-Length: 1000000000\r\n"
    for method, target, status in (("GET", ONE_ROW, b"200"), ("POST", CSV, b"405"), ("GET", "/nowhere", b"404")):
        with ask(server, target, method=method, headers=fields) as client:
            answer = client.recv(12)
            while answer.endswith(b" 100"):
                while not answer.endswith(b"\r\n\r\n"):
                    answer += client.recv(1)
                answer = client.recv(12)
            assert answer.endswith(status)
    assert get(server, ONE_ROW).status == 200
