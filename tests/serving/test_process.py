"""One process and its end, where sources or clients do not do their part."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

from asgi_export.serving.process import CLOSE_SECONDS, MARGIN_SECONDS
from tests.conformance.servers import Server, ask, eventually, get, running

CSV = "/api/v1/exports/csv"
BUFFERED = f"{CSV}?total=3500"
"""An export of 180 KB: the system takes 128 KB for a client that does not read, and the server the rest."""

LONG_SECONDS = "600"
SERVERS = pytest.mark.parametrize("name", ["uvicorn", "hypercorn"])


@SERVERS
def test_a_thread_that_hangs_does_not_keep_the_process(name: str, tmp_path: Path) -> None:
    with running(["tests.serving.hanging", name, "0.1"], tmp_path / "output") as server:
        with ask(server, CSV) as client:
            assert client.recv(1000)
            assert server.stop() == 0
        assert "was not left within 0.5 s" in server.log()
        assert "Traceback" not in server.log()


@SERVERS
@pytest.mark.parametrize("second", [False, True])
def test_the_last_bytes_of_an_export_may_be_taken_until_a_second_signal(
    name: str, second: bool, tmp_path: Path
) -> None:
    """Nothing is running then, and yet a client has not got all."""
    command = ["asgi_export", "serve", "--port", "0", "--server", name, "--drain-seconds", LONG_SECONDS]
    with running(command, tmp_path / "output") as server:
        with ask(server, BUFFERED) as client:
            assert server.logged('ending="complete"')
            server.process.send_signal(signal.SIGTERM)
            assert eventually(lambda: is_closed(server))
            if second:
                assert hurried(server)
            else:
                assert not eventually(lambda: server.process.poll() is not None, CLOSE_SECONDS + MARGIN_SECONDS + 1)
            data = b"".join(iter(lambda: client.recv(65536), b""))
        assert server.process.wait(20) == 0
        assert data.endswith(b"\r\n0\r\n\r\n") is not second
        assert "Traceback" not in server.log()


def hurried(server: Server) -> bool:
    """Whether it ends when it is told again; at first that may be taken for the same signal."""

    def ended() -> bool:
        server.process.send_signal(signal.SIGTERM)
        return server.process.poll() is not None

    return eventually(ended, 20)


def is_closed(server: Server) -> bool:
    """Whether the port is closed: the exports have ended then."""
    try:
        get(server, "/healthz")
    except ConnectionError:
        return True
    return False
