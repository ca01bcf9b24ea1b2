"""`/metrics` of several workers: what dies with one of them, and what stays."""

from __future__ import annotations

import os
import re
import signal
from collections.abc import Sequence
from pathlib import Path

from tests.conformance.servers import Server, ask, eventually, get, running
from tests.redis_server import RedisServer

CSV = "/api/v1/exports/csv"


def test_exports_of_killed_workers_vanish_from_metrics(empty_redis: RedisServer, tmp_path: Path) -> None:
    """The supervisor starts others, who answer for all; what was counted stays."""
    options = ["--workers", "2", "--limiter", empty_redis.url]

    def told(name: str) -> float:
        text = get(server, "/metrics").body.decode()
        return sum(map(float, re.findall(rf"^asgi_export_{name}(?:{{.*}})? (\S+)$", text, re.MULTILINE)))

    with running(["asgi_export", "serve", "--port", "0", *options], tmp_path / "output") as server:
        for _ in range(10):
            get(server, f"{CSV}?total=100")
        assert eventually(lambda: told("rows_total") == 1000)
        clients = [ask(server, f"{CSV}?total=1000000000") for _ in range(4)]
        assert eventually(lambda: told("running_exports") == 4)
        for pid in worker_pids(server):
            os.kill(pid, signal.SIGKILL)
        for client in clients:
            client.close()
        assert eventually(lambda: _answered(server), 30.0)
        assert eventually(lambda: told("running_exports") == 0)
        assert eventually(lambda: told("rows_total") == 1000)  # a worker may be making its files just now


def worker_pids(server: Server) -> Sequence[int]:
    """Processes of the supervisor that serve. Linux."""
    children = Path(f"/proc/{server.process.pid}/task/{server.process.pid}/children").read_text().split()
    return [int(pid) for pid in children if _serves(pid)]


def _serves(pid: str) -> bool:
    try:
        return "resource_tracker" not in Path(f"/proc/{pid}/cmdline").read_text()
    except (FileNotFoundError, ProcessLookupError):  # it has just ended
        return False


def _answered(server: Server) -> bool:
    """False where the connection was a dead worker's."""
    try:
        return get(server, "/healthz").status == 200
    except (OSError, IndexError):
        return False
