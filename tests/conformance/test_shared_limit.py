"""The proof of one limit for many processes: real servers, real clients, and the stamps that Redis itself gave.

A last rule of an hour, which nobody reaches, has Redis keep the stamp of every admission until the test has read it.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

from tests.conformance.hammer import Asked, hammer
from tests.conformance.servers import running
from tests.redis_server import RedisServer

WORKERS = 3
SECONDS = 2.3
"""A little longer than the longer window of `RULES`."""
KEYS = ("a", "b", "c")
SECOND_US = 1_000_000
RULES = ((20, SECOND_US), (30, 2 * SECOND_US))
LIMIT = "20/1s,30/2s,100000/1h"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("server_name", "instances"), [("uvicorn", 1), ("hypercorn", 1), ("uvicorn", 2), ("hypercorn", 2)]
)
def test_all_workers_of_all_instances_hold_one_limit_and_reach_it(
    empty_redis: RedisServer, tmp_path: Path, server_name: str, instances: int
) -> None:
    """Three workers an instance, three client processes and keys, two rules: never over, and never refused below."""
    with ExitStack() as stack:
        options = ["--server", server_name, "--workers", str(WORKERS), "--limit", LIMIT, "--limiter", empty_redis.url]
        servers = [
            stack.enter_context(served(options, tmp_path / f"instance-{number}")) for number in range(instances)
        ]
        asked = hammer([server.port for server in servers], empty_redis.port, KEYS, SECONDS)
        deciding = [client for client in clients_of(empty_redis) if client["cmd"].startswith("eval")]
        logs = [server.log() for server in servers]
    assert len(deciding) == WORKERS * instances, "every worker has decided on requests"
    assert not any("limit store" in log or "Traceback" in log for log in logs)
    for key in KEYS:
        of_key = [one for one in asked if one.key == key]
        stamps = stamps_of(empty_redis, key)
        assert Counter(one.status for one in of_key)[200] == len(stamps)
        assert_spaced(stamps)
        assert_reached(stamps)
        for one in of_key:
            assert_justified(one, stamps)


def served(options: Sequence[str], output: Path) -> Any:
    """An instance that waits for Redis longer than this test takes, so that Redis alone decides."""
    environ = {"ASGI_EXPORT_STORE_BOUND_SECONDS": "20"}
    return running(["asgi_export", "serve", "--port", "0", *options], output, environ=environ)


def clients_of(server: RedisServer) -> list[dict[str, str]]:
    """Who is connected, and by which command each was heard last."""
    with server.client() as client:
        found: list[dict[str, str]] = client.client_list()
    return found


def stamps_of(server: RedisServer, key: str) -> list[int]:
    """When the hits of a key were admitted, in microseconds of the server's clock."""
    name = f"ax:{{{sha256(key.encode()).hexdigest()[:32]}}}:hits"
    return [int(stamp) for stamp in server.call("LRANGE", name, 0, -1)]


def assert_spaced(stamps: Sequence[int]) -> None:
    """Never over: of `limit` + 1 admissions in a row the last is a window after the first."""
    assert list(stamps) == sorted(stamps)
    for limit, window_us in RULES:
        for first, last in zip(stamps, stamps[limit:], strict=False):
            assert last - first >= window_us


def assert_reached(stamps: Sequence[int]) -> None:
    """The invariant is no matter of slow clients: each rule had a window that was full."""
    for limit, window_us in RULES:
        full = [last for first, last in zip(stamps, stamps[limit - 1 :], strict=False) if last - first < window_us]
        assert full, f"there are never {limit} admissions in {window_us} us"


def assert_justified(one: Asked, stamps: Sequence[int]) -> None:
    """Never refused below: while a request was on its way the key was admitted, or some window was full.

    And who waits as long as a refusal says finds a place, if nobody else takes it.
    """
    assert one.status in (200, 429), one
    if one.status == 200:
        assert bisect_right(stamps, one.answered_us) > bisect_left(stamps, one.sent_us), one
        return
    waits_us = list(waits_of(one, stamps))
    assert waits_us, f"refused, though no window was full: {one}"
    assert min(waits_us) <= one.retry_after_seconds * SECOND_US, one


def waits_of(one: Asked, stamps: Sequence[int]) -> Iterator[int]:
    """How long a hit had to wait at the moments of the request at which some window was full.

    Windows become full by admissions alone, and a wait is the shortest just before one: so the first moment, the last
    one, and those around each admission are all to look at.
    """
    during = stamps[bisect_right(stamps, one.sent_us) : bisect_right(stamps, one.answered_us)]
    around = [moment_us for stamp_us in during for moment_us in (stamp_us - 1, stamp_us)]
    for moment_us in (one.sent_us, *around, one.answered_us):
        count = bisect_right(stamps, moment_us)
        free_us = max([stamps[count - limit] + window_us for limit, window_us in RULES if count >= limit], default=0)
        if free_us > moment_us:
            yield free_us - moment_us
