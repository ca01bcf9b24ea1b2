"""What does a hit on Redis cost, next to a PING, and next to the moving window of `limits`?

Microseconds a call, one at a time and 64 in flight, of 200 keys under a limit that nobody reaches, on a Redis of this
machine. The PING is that of `redis.asyncio.Redis`, the client as it is used; below it, for the cost of the script
alone, a PING over our own link, which is cheaper than the client's. `limits` asks twice for what our heads need:
`hit` and `get_window_stats`, on the same redis-py. Medians of 7 turns, the sides alternating; the target is a hit for
1.25 PINGs at most, and less than `limits`. Last, a refused client that hammers: round trips counted by the server.

Decided: one connection that all callers share, of which replies come in order, instead of a pool: a quarter of
the cost at 64 in flight. The boundary of the window is looked for from the front of the list.

    python -m bench.redis_limiter
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from itertools import count
from statistics import median
from typing import Any

import redis.asyncio
from limits import parse
from limits.aio.storage import RedisStorage
from limits.aio.strategies import MovingWindowRateLimiter

from asgi_export import RedisStore, Rule
from asgi_export.redis_client.driver import Redis
from asgi_export.redis_client.link import RedisLink, pack
from tests.redis_server import RedisServer, running

TURNS = 7
CALLS = 1536
KEYS = 200
LIMIT = 1_000_000
MINUTE_NS = 60 * 10**9
PING_TARGET = 1.25

Call = Callable[[], Awaitable[Any]]


async def microseconds(call: Call, in_flight: int) -> float:
    """A call's share of the time that so many at once take."""

    async def one_after_another() -> None:
        for _ in range(CALLS // in_flight):
            await call()

    began = time.perf_counter()
    await asyncio.gather(*[one_after_another() for _ in range(in_flight)])
    return (time.perf_counter() - began) / CALLS * 1e6


def hits_of(store: RedisStore) -> Call:
    """A hit of the next key."""
    numbers, rules = count(), (Rule(LIMIT, MINUTE_NS),)
    return lambda: store.hit(f"key {next(numbers) % KEYS}", rules)


def hits_of_limits(url: str) -> Call:
    """A hit of the next key, and the look-up for the heads."""
    limiter = MovingWindowRateLimiter(RedisStorage(f"async+{url}", implementation="redispy"))
    numbers, item = count(), parse(f"{LIMIT}/minute")

    async def hit() -> None:
        key = f"key {next(numbers) % KEYS}"
        await limiter.hit(item, key)
        await limiter.get_window_stats(item, key)

    return hit


def verdict(ratio: float, target: float) -> str:
    return f"{ratio:.2f}x, target {target}x {'met' if ratio <= target else 'MISSED'}"


async def compare(server: RedisServer, in_flight: int) -> None:
    """One line for so many in flight."""
    store = RedisStore(server.url, bound_seconds=10.0)
    client = redis.asyncio.Redis.from_url(server.url)
    ping, link = pack(b"PING"), RedisLink(Redis(server.url).wire)
    sides = [hits_of(store), client.ping, lambda: link.call(ping, 10.0), hits_of_limits(server.url)]
    for side in sides:
        await microseconds(side, in_flight)
    server.call("FLUSHALL")
    turns = [[await microseconds(side, in_flight) for side in sides] for _ in range(TURNS)]
    hit, client_ping, link_ping, limits = [median(times) for times in zip(*turns, strict=True)]
    print(
        f"{in_flight:2} in flight: hit {hit:6.1f} us   PING {client_ping:6.1f} us"
        f" ({verdict(hit / client_ping, PING_TARGET)})   PING over the link {link_ping:6.1f} us"
        f" ({hit / link_ping:.2f}x)   limits {limits:6.1f} us ({verdict(hit / limits, 1)})",
        flush=True,
    )
    assert store.fallbacks == 0
    await client.aclose()
    await link.close()
    await store.close()


async def hammer(server: RedisServer) -> None:
    """Round trips of a client that goes on after it was refused."""
    store, rules = RedisStore(server.url, bound_seconds=10.0), (Rule(60, MINUTE_NS),)
    for _ in range(61):
        await store.hit("hot", rules)
    before = server.calls_of(["evalsha", "eval"])
    began = time.perf_counter()
    for _ in range(10_000):
        await store.hit("hot", rules)
    cost = (time.perf_counter() - began) / 10_000 * 1e6
    asked = server.calls_of(["evalsha", "eval"]) - before
    print(f"a refused client: {cost:.1f} us a hit, {asked} round trips of 10,000")
    await store.close()


def main() -> None:
    """All of it."""
    with running() as server:
        for in_flight in (1, 64):
            asyncio.run(compare(server, in_flight))
        asyncio.run(hammer(server))


if __name__ == "__main__":
    main()
