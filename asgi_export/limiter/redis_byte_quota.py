"""Byte quotas shared by any number of processes and machines in one Redis or Valkey."""

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
    """Share byte quotas among all processes that use the same Redis and prefix; see `ByteQuotas`.

    A key has a hash of at most 97 buckets, by the clock of the server, which expires a day after its last grant. A
    grant is one round trip. `redis` may serve other counters too; usually it is the `redis` of a `RedisStore`. Its
    `on_failure` decides while Redis does not answer: `local` counts what this process was granted in the last day,
    `allow` grants all, `deny` raises `Unavailable`. What was granted in an outage is reported when Redis is back, as
    if it had been granted then. Bytes that cannot be given back in an outage count as sent.
    """

    def __init__(self, redis: SharedRedis, *, clock_ns: Callable[[], int] = time.monotonic_ns) -> None:
        self._redis = redis
        self._reserve_script = Script(read_script("asgi_export.limiter", "reserve_bytes.lua"))
        self._give_back_script = Script(read_script("asgi_export.limiter", "give_back_bytes.lua"))
        self._local = MemoryByteQuotas(clock_ns=clock_ns)
        self._unreported: dict[str, int] = {}
        redis.attach(self)

    async def start(self) -> None:
        """Connect. Does not fail: without Redis `on_failure` decides."""
        await self._redis.start(self)

    async def check(self) -> None:
        """Raise `Unavailable` if Redis does not answer, or if the circuit is open because it did not."""
        await self._redis.check()

    async def close(self) -> None:
        """Close the connection, unless other counters use it. May be called twice."""
        await self._redis.close(self)

    async def reserve(self, key: str, limit: int, wanted_bytes: int) -> Grant:
        """Reserve bytes in Redis within the bound of `redis`, or else by `on_failure`."""
        words = (b"%d" % min(limit, NO_LIMIT), b"%d" % wanted_bytes, _WIDTH, _COUNTS)
        try:
            granted, bucket, wait_us = await self._redis.ask(self._reserve_script, self._redis_key(key), *words)
        except StoreDown:
            return await self._reserve_locally(key, limit, wanted_bytes)
        if not granted:
            return Grant(0, retry_after_seconds=-(-wait_us // 1_000_000))
        # The same bytes count here as well, without a limit, so that an outage begins with a warm local count.
        local = await self._local.reserve(key, maxsize, granted)
        return Grant(granted, bucket, shared=True, local=local)

    async def give_back(self, key: str, grant: Grant, unused_bytes: int) -> None:
        """Take bytes out of their bucket again."""
        if grant.local is not None:
            await self._local.give_back(key, grant.local, unused_bytes)
        # A grant of an outage may have been reported since: then there is less to take back, and the rest is lost.
        if not grant.shared:
            self._note_unreported(key, -min(unused_bytes, self._unreported.get(key, 0)))
            return
        with suppress(StoreDown):
            words = (b"%d" % grant.bucket, b"%d" % unused_bytes)
            await self._redis.ask(self._give_back_script, self._redis_key(key), *words)

    async def catch_up(self) -> int:
        """Report to Redis what was granted without it; return the number of keys."""
        count = 0
        while self._unreported:
            key, missed = next(iter(self._unreported.items()))
            words = (b"%d" % NO_LIMIT, b"%d" % missed, _WIDTH, _COUNTS)
            await self._redis.ask_anyway(self._reserve_script, self._redis_key(key), *words)
            self._note_unreported(key, -missed)
            count += 1
        return count

    async def _reserve_locally(self, key: str, limit: int, wanted_bytes: int) -> Grant:
        if self._redis.on_failure == "deny":
            raise Unavailable(
                "the limit store does not answer", retry_after_seconds=self._redis.retry_after_seconds
            ) from None
        limit = limit if self._redis.on_failure == "local" else maxsize
        grant = await self._local.reserve(key, limit, wanted_bytes)
        self._note_unreported(key, grant.granted_bytes)
        return replace(grant, local=grant)

    def _note_unreported(self, key: str, count: int) -> None:
        missed = self._unreported.pop(key, 0) + count
        if missed > 0:
            self._unreported[key] = missed

    def _redis_key(self, key: str) -> bytes:
        return self._redis.redis_key(key, "bytes")
