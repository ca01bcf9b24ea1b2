"""How exports end on real servers: what the client sees, and that the source is left."""

from __future__ import annotations

import signal
import socket
import struct
import sys
import time
from pathlib import Path

import pytest

from tests.conformance.conftest import APPLICATION, SERVERS, command
from tests.conformance.servers import Server, ask, connect, curl, eventually, get, readable, running
from tests.ports import free_port

CSV = "/api/v1/exports/csv"
RESET = struct.pack("ii", 1, 0)


def test_a_source_that_fails_at_once_is_a_500(nasty: Server) -> None:
    """Without `Retry-After`: it would fail again."""
    answer = get(nasty, f"{CSV}?dataset=failing_at_once")
    assert answer.status == 500
    assert "retry-after" not in answer.headers
    assert b"fire" not in answer.body


@pytest.mark.parametrize("options", [(), ("--compressed",)])
def test_a_failure_in_the_middle_is_seen_by_curl(nasty: Server, options: tuple[str, ...]) -> None:
    """Exit code 18: the transfer was not complete."""
    result = curl(f"{nasty.url}{CSV}?dataset=failing", *options)
    assert result.returncode == 18
    assert result.stdout.endswith(b'\n"__ERROR__","internal_server_error"\n')
    assert b"fire" not in result.stdout


def test_a_failure_is_logged_with_its_reason_and_without_the_server_s_traceback(nasty: Server) -> None:
    curl(f"{nasty.url}{CSV}?dataset=failing", "-H", "X-Request-Id: failing-1")
    assert nasty.logged("export failing-1 of failing: failed")
    assert nasty.logged("the disk is on fire")
    assert "BrokenOff" not in nasty.log()
    assert "Exception in ASGI" not in nasty.log()


@pytest.mark.parametrize("dataset", ["endless", "endless_sync", "slow"])
@pytest.mark.parametrize("reset", [False, True])
def test_a_client_that_leaves_stops_the_source(nasty: Server, events: Path, dataset: str, reset: bool) -> None:
    opened, closed = (events.read_text().count(f"{dataset} {what}") for what in ("opened", "closed"))
    client = ask(nasty, f"{CSV}?dataset={dataset}")
    if dataset == "slow":
        assert eventually(lambda: events.read_text().count("slow opened") > opened)
    else:
        assert client.recv(1000)
    if reset:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
    client.close()
    assert eventually(lambda: events.read_text().count(f"{dataset} closed") > closed, 2.0)


def test_a_client_that_leaves_interrupts_a_slow_sqlite_query(nasty: Server) -> None:
    """Without the interrupt the query would run for minutes, and this process would not end within its grace."""
    client = ask(nasty, f"{CSV}?dataset=forever", headers="X-Request-Id: forever-1\r\n")
    assert client.recv(1000)
    client.close()
    assert eventually(lambda: any("forever-1" in line and "client left" in line for line in nasty.log().splitlines()))


def test_a_client_that_reads_nothing_is_cut_off(nasty: Server, events: Path) -> None:
    closed = events.read_text().count("endless closed")
    with ask(nasty, f"{CSV}?dataset=endless", headers="X-Request-Id: stalled-1\r\n") as client:
        assert readable(client)
        assert eventually(lambda: events.read_text().count("endless closed") > closed)
        assert eventually(lambda: 'ending="stalled"' in nasty.log())


def test_a_half_closed_client_is_left(nasty: Server, events: Path) -> None:
    """A FIN is a disconnect to each server, though the client could still read."""
    opened = events.read_text().count("endless opened")
    client = ask(nasty, f"{CSV}?dataset=endless")
    assert client.recv(100)
    client.shutdown(socket.SHUT_WR)
    assert eventually(lambda: events.read_text().count("endless closed") >= opened + 1)
    client.close()


def test_garbage_behind_a_request_harms_nobody(nasty: Server) -> None:
    with connect(nasty) as client:
        client.sendall(f"GET {CSV}?dataset=shop HTTP/1.1\r\nHost: x\r\n\r\n".encode() + b"\0\xff garbage\r\n\r\n")
        assert client.recv(12).startswith(b"HTTP/1.1 ")
    assert get(nasty, f"{CSV}?dataset=shop").status == 200


def test_many_connections_that_say_nothing_do_not_stop_others(nasty: Server) -> None:
    silent = [connect(nasty) for _ in range(500)]
    try:
        assert get(nasty, f"{CSV}?dataset=shop").status == 200
    finally:
        for client in silent:
            client.close()


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(
            name,
            marks=pytest.mark.skipif(
                name == "hypercorn" and sys.version_info >= (3, 12),
                reason="plain Hypercorn waits for running responses for ever there; see test_cli for ours",
            ),
        )
        for name in SERVERS
    ],
)
def test_a_server_that_is_told_to_end_breaks_running_exports_off(name: str, tmp_path: Path, slow_db: Path) -> None:
    """Each download is visibly broken, every source is closed, and the process ends by itself."""
    port, events = free_port(), tmp_path / "events"
    events.touch()
    environ = {"NASTY_EVENTS": str(events), "NASTY_DB": str(slow_db)}
    with running(command(name, APPLICATION, port), tmp_path / "output", port=port, environ=environ) as server:
        clients = [ask(server, f"{CSV}?dataset={dataset}") for dataset in ("endless", "endless_sync")]
        received = [bytearray(client.recv(1000)) for client in clients]
        server.process.send_signal(signal.SIGTERM)
        deadline = time.monotonic() + 15
        for client, data in zip(clients, received, strict=True):
            try:
                while part := client.recv(1 << 20):
                    assert time.monotonic() < deadline, "the download goes on"
                    data[:] = part[-100:]
            except ConnectionResetError:
                data[:] = b"reset"
            client.close()
        server.process.wait(15)
    assert all(not data.endswith(b"0\r\n\r\n") for data in received)
    assert sorted(events.read_text().split("\n"))[1:] == [
        "endless closed",
        "endless opened",
        "endless_sync closed",
        "endless_sync opened",
    ]
