"""What does a hit on the memory store cost, next to the moving window of `limits`?

Microseconds a hit: for one hot key (mostly refused at 60/60s, mostly admitted at 1,000,000/60s) and for 100,000 keys,
in one coroutine; and bytes a key with 60 hits. `limits` answers yes or no with `hit`, and needs a second look-up for
the heads, `get_window_stats`; ours has all figures in one decision. Medians of 5, the sides alternating.

Decided: stamps in an array with an offset, one binary search a hit, and the arithmetic of a single rule written out
(by way of the general one a refused hit cost 2.9 us).

    python -m bench.limiter
"""

from __future__ import annotations

import asyncio
import gc
import time
import tracemalloc
from collections.abc import Callable, Sequence
from statistics import median

from limits import parse
from limits.storage import MemoryStorage
from limits.strategies import MovingWindowRateLimiter

from asgi_export import MemoryStore, Rule

REPEATS = 5
HITS = 20_000
KEYS = 100_000
MINUTE_NS = 60 * 10**9

Side = Callable[[], float]


def ours(limit: int, keys: Sequence[str]) -> Side:
    """Microseconds a hit of ours."""
    store, rules = MemoryStore(max_keys=2 * KEYS), (Rule(limit, MINUTE_NS),)

    async def run() -> float:
        began = time.perf_counter()
        for key in keys:
            await store.hit(key, rules)
        return (time.perf_counter() - began) / len(keys) * 1e6

    return lambda: asyncio.run(run())


def theirs(limit: int, keys: Sequence[str], *, stats: bool) -> Side:
    """Microseconds a hit of `limits`, with or without the look-up for the heads."""
    limiter, item = MovingWindowRateLimiter(MemoryStorage()), parse(f"{limit}/minute")

    def run() -> float:
        began = time.perf_counter()
        for key in keys:
            limiter.hit(item, key)
            if stats:
                limiter.get_window_stats(item, key)
        return (time.perf_counter() - began) / len(keys) * 1e6

    return run


def compare(what: str, limit: int, keys: Sequence[str]) -> None:
    """One line: ours, `limits`, and the ratios, of which the first is to be 1 at most."""
    sides = [ours(limit, keys), theirs(limit, keys, stats=False), theirs(limit, keys, stats=True)]
    turns = [[side() for side in sides] for _ in range(REPEATS)]
    mine, hit, both = [median(times) for times in zip(*turns, strict=True)]
    verdict = "met" if mine <= hit else "MISSED"
    print(
        f"{what:34} ours {mine:6.2f} us   limits hit {hit:8.2f} us ({mine / hit:.2f}x, target 1x {verdict})"
        f"   with its stats {both:8.2f} us ({mine / both:.2f}x)",
        flush=True,
    )


def bytes_a_key(fill: Callable[[], object]) -> float:
    """Bytes of 1,000 keys with 60 hits each, a key."""
    tracemalloc.start()
    kept = fill()
    gc.collect()
    size = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    del kept
    return size / 1000


def fill_ours() -> object:
    """Our store with 1,000 full keys."""
    store, rules = MemoryStore(), (Rule(60, MINUTE_NS),)

    async def run() -> None:
        for number in range(60_000):
            await store.hit(f"key {number % 1000}", rules)

    asyncio.run(run())
    return store


def fill_theirs() -> object:
    """Their storage with 1,000 full keys."""
    storage = MemoryStorage()
    limiter, item = MovingWindowRateLimiter(storage), parse("60/minute")
    for number in range(60_000):
        limiter.hit(item, f"key {number % 1000}")
    return storage


def main() -> None:
    """All of it."""
    compare("one key, mostly refused", 60, ["hot"] * HITS)
    compare("one key, mostly admitted", 1_000_000, ["hot"] * (HITS // 4))
    compare("100,000 keys", 60, [f"key {number}" for number in range(KEYS)])
    print(f"bytes a key with 60 hits: ours {bytes_a_key(fill_ours):,.0f}, limits {bytes_a_key(fill_theirs):,.0f}")


if __name__ == "__main__":
    main()
