"""Bytes a day of a key, over two instances of two workers on one Redis."""

from __future__ import annotations

import json
import threading
from collections import Counter
from pathlib import Path

import pytest

from asgi_export.access.plans import digest_of
from tests.conformance.servers import Server, curl, eventually, get, running
from tests.redis_server import RedisServer

CSV = "/api/v1/exports/csv"
MEGABYTE = 1_000_000
KEY = "X-API-Key: alice-s3cret\r\n"
KEYS = f"""
[plans.basic]
limits = ["100000/1h"]
bytes_a_day = {5 * MEGABYTE}

[keys.alice]
sha256 = "{digest_of("alice-s3cret").hex()}"
plan = "basic"
"""


@pytest.mark.parametrize("server_name", ["uvicorn", pytest.param("hypercorn", marks=pytest.mark.slow)])
def test_two_instances_send_a_key_no_more_than_its_bytes(
    empty_redis: RedisServer, tmp_path: Path, server_name: str
) -> None:
    """Exports of 400 KB by eight clients at once until none is admitted; each is whole, visibly broken, or a 429."""
    (tmp_path / "keys.toml").write_text(KEYS)
    options = ["--server", server_name, "--workers", "2", "--limiter", empty_redis.url]
    command = ["asgi_export", "serve", "--port", "0", "--api-keys", str(tmp_path / "keys.toml"), *options]
    environ = {"ASGI_EXPORT_STORE_BOUND_SECONDS": "5"}
    with (
        running(command, tmp_path / "one", environ=environ) as one,
        running(command, tmp_path / "other", environ=environ) as other,
    ):
        endings, sent = hammer([one, other])
        assert endings[0] > 5
        assert sent <= 5 * MEGABYTE
        assert eventually(lambda: reserved(empty_redis) <= 5 * MEGABYTE)
        assert reserved(empty_redis) > 4 * MEGABYTE
        hammer([one, other])  # what was given back at the end
        refused = get(one, f"{CSV}?total=100000", headers=KEY)
        assert refused.status == 429
        assert 86_000 < int(refused.headers["retry-after"]) <= 87_300
        assert json.loads(refused.body)["violated-policies"] == ["bytes-a-day"]
    assert "Traceback" not in (tmp_path / "one").read_text() + (tmp_path / "other").read_text()


def hammer(servers: list[Server]) -> tuple[Counter[int], int]:
    """The exit codes of curl, 22 for an answer that is no 200, and the bytes of all bodies."""
    endings: Counter[int] = Counter()
    sent: list[int] = []
    lock = threading.Lock()

    def client(number: int) -> None:
        url = f"{servers[number % 2].url}{CSV}?total=10000"
        code = 0
        while code in (0, 18):
            result = curl(url, "-f", "-H", KEY.strip())
            code = result.returncode
            with lock:
                endings[code] += 1
                sent.append(len(result.stdout.partition(b'"__ERROR__"')[0]))

    clients = [threading.Thread(target=client, args=(number,)) for number in range(8)]
    for one in clients:
        one.start()
    for one in clients:
        one.join()
    assert set(endings) <= {0, 18, 22}
    return endings, sum(sent)


def reserved(redis: RedisServer) -> int:
    """Bytes in the buckets of all keys."""
    with redis.client() as client:
        return sum(int(count) for name in client.keys("ax:*:bytes") for count in client.hvals(name))
