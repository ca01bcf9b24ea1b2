"""Bytes a day of any number of processes and machines, kept in one Redis or Valkey."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from sys import maxsize

from asgi_export.errors import Unavailable
from asgi_export.limiter.byte_quota import BUCKET_SECONDS, DAY_BUCKETS, Grant, MemoryByteQuotas
from asgi_export.redis_client.driver import StoreDown
from asgi_export.redis_client.script import Script, read_script
from asgi_export.redis_client.shared import SharedRedis

_WIDTH = b"%d" % (BUCKET_SECONDS * 1_000_000)
_COUNTS = b"%d" % (DAY_BUCKETS + 1)

NO_LIMIT = 2**53
"""The largest number that a script counts exactly."""


class RedisByteQuotas:
    """Bytes a day shared by all who use the same Redis and prefix; see `ByteQuotas`.

    A hash of at most 97 buckets a key, by the clock of the server, which expires a day after its last grant; one
    round trip a grant. `redis` may serve other counters too, such as a `RedisStore` whose `redis` it is. Its
    `on_failure` decides while Redis does not answer: `local` counts what this process was granted in the last day,
    `allow` grants all, `deny` raises `Unavailable`. What was granted meanwhile is reported when Redis is back, as
    if it had been granted then. What cannot be given back then counts as sent.
    """

    def __init__(self, redis: SharedRedis, *, clock_ns: Callable[[], int] = time.monotonic_ns) -> None:
        self._redis = redis
        self._reserve_script = Script(read_script("asgi_export.limiter", "reserve_bytes.lua"))
        self._give_back_script = Script(read_script("asgi_export.limiter", "give_back_bytes.lua"))
        self._here = MemoryByteQuotas(clock_ns=clock_ns)
        self._missed: dict[str, int] = {}
        redis.attach(self)

    async def start(self) -> None:
        """Connect. Does not fail: without Redis `on_failure` decides."""
        await self._redis.start(self)

    async def check(self) -> None:
        """Raises `Unavailable` when Redis does not answer, or the circuit is open since it did not."""
        await self._redis.check()

    async def close(self) -> None:
        """Leave the connection to the others, or close it. May be called twice."""
        await self._redis.close(self)

    async def reserve(self, key: str, limit: int, wanted_bytes: int) -> Grant:
        """A grant of Redis, or of `on_failure`, within the bound of `redis`."""
        words = (b"%d" % min(limit, NO_LIMIT), b"%d" % wanted_bytes, _WIDTH, _COUNTS)
        try:
            granted, bucket, wait_us = await self._redis.ask(self._reserve_script, self._stored(key), *words)
        except StoreDown:
            return await self._reserve_alone(key, limit, wanted_bytes)
        if not granted:
            return Grant(0, retry_after_seconds=-(-wait_us // 1_000_000))
        here = await self._here.reserve(key, maxsize, granted)
        return Grant(granted, bucket, shared=True, here=here)

    async def give_back(self, key: str, grant: Grant, unused_bytes: int) -> None:
        """Take bytes out of their bucket again."""
        if grant.here is not None:
            await self._here.give_back(key, grant.here, unused_bytes)
        if not grant.shared:
            self._miss(key, -min(unused_bytes, self._missed.get(key, 0)))
            return
        with suppress(StoreDown):
            words = (b"%d" % grant.bucket, b"%d" % unused_bytes)
            await self._redis.ask(self._give_back_script, self._stored(key), *words)

    async def catch_up(self) -> int:
        """Tell Redis what was granted without it: how many keys."""
        told = 0
        while self._missed:
            key, missed = next(iter(self._missed.items()))
            words = (b"%d" % NO_LIMIT, b"%d" % missed, _WIDTH, _COUNTS)
            await self._redis.ask_anyway(self._reserve_script, self._stored(key), *words)
            self._miss(key, -missed)
            told += 1
        return told

    async def _reserve_alone(self, key: str, limit: int, wanted_bytes: int) -> Grant:
        if self._redis.on_failure == "deny":
            raise Unavailable(
                "the limit store does not answer", retry_after_seconds=self._redis.retry_after_seconds
            ) from None
        limit = limit if self._redis.on_failure == "local" else maxsize
        grant = await self._here.reserve(key, limit, wanted_bytes)
        self._miss(key, grant.granted_bytes)
        return replace(grant, here=grant)

    def _miss(self, key: str, count: int) -> None:
        missed = self._missed.pop(key, 0) + count
        if missed > 0:
            self._missed[key] = missed

    def _stored(self, key: str) -> bytes:
        return self._redis.stored(key, "bytes")
