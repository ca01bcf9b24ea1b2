"""One limit over many workers and two instances, on one Redis."""

from __future__ import annotations

import threading
from collections import Counter
from pathlib import Path

import pytest
import redis

from tests.conformance.servers import Server, get, running
from tests.redis_server import RedisServer, redis_server

__all__ = ["redis_server"]

LIMIT = 40


def ask_many(servers: list[Server], count: int) -> Counter[int]:
    """So many requests of one key from each of four clients, over all servers in turn."""
    statuses: Counter[int] = Counter()
    lock = threading.Lock()

    def client() -> None:
        for number in range(count):
            status = get(servers[number % len(servers)], "/api/v1/exports/csv?total=1&apiKey=shared").status
            with lock:
                statuses[status] += 1

    clients = [threading.Thread(target=client) for _ in range(4)]
    for one in clients:
        one.start()
    for one in clients:
        one.join()
    return statuses


@pytest.mark.parametrize("server_name", ["uvicorn", "hypercorn"])
def test_two_instances_of_two_workers_hold_one_limit(
    redis_server: RedisServer, tmp_path: Path, server_name: str
) -> None:
    """The window is longer than the test, so exactly the limit is admitted: not one more, not one less."""
    options = ["--server", server_name, "--workers", "2", "--limit", f"{LIMIT}/1h", "--limiter", redis_server.url]
    command = ["asgi_export", "serve", "--port", "0", *options]
    environ = {"ASGI_EXPORT_STORE_BOUND_SECONDS": "5"}
    with (
        running(command, tmp_path / "one", environ=environ) as one,
        running(command, tmp_path / "other", environ=environ) as other,
    ):
        statuses = ask_many([one, other], 30)
        assert one.stop() == 0
    assert statuses == {200: LIMIT, 429: 120 - LIMIT}
    assert "Traceback" not in (tmp_path / "one").read_text()
    with redis.Redis(port=redis_server.port) as client:
        client.flushall()
