"""The proof: processes that share nothing but one Redis hold one limit, and reach it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from multiprocessing import get_context
from multiprocessing.queues import Queue
from multiprocessing.synchronize import Barrier

import pytest

from asgi_export.limiter.redis_store import RedisStore
from asgi_export.limiter.sliding_window import Decision, Rule
from asgi_export.redis_client.driver import Reply
from tests.redis_server import RedisServer

PROCESSES = 4
SECONDS = 2.5
START_SECONDS = 30.0
WINDOW_US = 400_000
RULES = (Rule(20, WINDOW_US * 1000), Rule(70, 4 * WINDOW_US * 1000, "long"))
KEYS = ("a", "b", "c")

Stamps = dict[str, list[int]]


class RecordingStore(RedisStore):
    """Notes by which stamp of its own the server admitted a hit."""

    def __init__(self, url: str) -> None:
        super().__init__(url, bound_seconds=5.0)
        self.stamps: Stamps = {}

    def _read_decision(self, key: str, rules: tuple[Rule, ...], reply: Reply, asked_ns: int) -> Decision:
        decision = super()._read_decision(key, rules, reply, asked_ns)
        if decision.allowed:
            self.stamps.setdefault(key, []).append(reply[0])
        return decision


def hammer(url: str, ready: Barrier, results: Queue[tuple[Stamps, int]]) -> None:
    """One process: four clients a key as fast as they can; the stamps of what was admitted."""

    async def client(store: RedisStore, key: str, end: float) -> None:
        while time.monotonic() < end:
            await store.hit(key, RULES)
            await asyncio.sleep(0)

    async def run() -> tuple[Stamps, int]:
        store = RecordingStore(url)
        await store.start()
        await asyncio.to_thread(ready.wait, START_SECONDS)
        end = time.monotonic() + SECONDS
        await asyncio.gather(*[client(store, key, end) for key in KEYS for _ in range(4)])
        await store.close()
        return store.stamps, store.fallbacks

    results.put(asyncio.run(run()))


@pytest.mark.slow
def test_no_window_holds_more_than_the_limit_and_the_limit_is_reached(empty_redis: RedisServer) -> None:
    """By the stamps of the script itself, under two rules at once, for several keys."""
    spawning = get_context("spawn")
    ready, queue = spawning.Barrier(PROCESSES), spawning.Queue()
    processes = [spawning.Process(target=hammer, args=(empty_redis.url, ready, queue)) for _ in range(PROCESSES)]
    for process in processes:
        process.start()
    results = [queue.get(timeout=START_SECONDS) for _ in processes]
    for process in processes:
        process.join()
    assert [fallbacks for _, fallbacks in results] == [0] * PROCESSES
    for key in KEYS:
        stamps = sorted(stamp for found, _ in results for stamp in found.get(key, []))
        assert_exact(stamps)
        assert_reached(stamps)


def assert_exact(stamps: Sequence[int]) -> None:
    """Of `limit` + 1 admitted hits in a row the last is a window after the first."""
    for rule in RULES:
        for first, last in zip(stamps, stamps[rule.limit :], strict=False):
            assert last - first >= rule.window_ns // 1000


def assert_reached(stamps: Sequence[int]) -> None:
    """A place that becomes free is taken at once: by the first rule until the second is used up, then by that.

    Twenty at 0, at 1 and at 2 windows, ten at 3 windows; the eleventh has to wait for the end of the fourth.
    """
    slack_us = WINDOW_US // 2  # for a machine that has more to do
    for number, windows in ((19, 0), (20, 1), (39, 1), (59, 2), (69, 3), (70, 4), (89, 4)):
        late_us = stamps[number] - stamps[0] - windows * WINDOW_US
        assert 0 <= late_us < slack_us, f"hit {number} was admitted {late_us} us late"
