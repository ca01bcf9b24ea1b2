"""Running exports of any number of processes and machines, counted in one Redis or Valkey.

Theory of operation. A key has a sorted set of leases, each with its end by the clock of the server. `take` is one
script: leases that have ended do not count, and below the limit one more is added. While its export runs, its process
renews it every third of its life, all of a process in one write by one task; when the process is killed nobody does,
and the key has its places back a life later. A set expires with its last lease, so that a key that is not seen again
leaves nothing behind.

A lease is not taken by the script that counts the request: the request comes first, and has been one even if its
export is refused. The limiter's middleware answers for requests, and this for bodies, which begin later and end much
later.

While Redis is slow or gone an export is counted here alone, by what this process runs for the key, and every export
goes on whatever becomes of its lease. A name that Redis may have, since an answer got lost, is given back until Redis
says so or would have let it end. What runs and is not counted there, since it was taken alone or its lease has ended
in an outage, is taken anew within the limit, under a fresh name, as if it began then.
"""

from __future__ import annotations

import asyncio
import logging
from collections import defaultdict
from collections.abc import Coroutine, Sequence
from contextlib import suppress
from contextvars import Context
from dataclasses import dataclass
from sys import maxsize
from typing import Any

from asgi_export.errors import Unavailable
from asgi_export.limiter.lease_sets import Lease, LeaseSets
from asgi_export.limiter.leases import MemoryLeases
from asgi_export.redis_client.driver import StoreDown
from asgi_export.redis_client.shared import SharedRedis, expect

logger = logging.getLogger("asgi_export.limiter")

LEASE_SECONDS = 30.0

_RENEWALS = 3
"""In the life of a lease, so that two in a row may fail."""

_RETRIES = 12
"""In the life of a lease, while renewals fail."""


@dataclass(frozen=True, slots=True)
class _Return:
    """A name that Redis may have until `ends_at`, by the clock of the loop, in the set of its key."""

    stored: bytes
    ends_at: float


class RedisLeases:
    """Leases shared by all who use the same Redis and prefix; see `Leases`.

    A place that was not given back, since its process was killed, is free `lease_seconds` later. `redis` may serve
    other counters too, such as a `RedisStore` whose `redis` it is. Its `on_failure` decides while Redis does not
    answer: `local` lets each process run as many exports of a key as its limit says, `allow` any number, `deny` none.

        store = RedisStore("redis://cache:6379/0")
        app = RateLimit(ExportApp(sources, leases=RedisLeases(store.redis)), store=store)

    One round trip for a lease taken and one for a lease given back, each within the bound of `redis`.

    Raises:
        ValueError: an argument out of its range.
    """

    def __init__(self, redis: SharedRedis, *, lease_seconds: float = LEASE_SECONDS) -> None:
        expect(lease_seconds > 0, f"lease_seconds={lease_seconds}: expected seconds above 0")
        self._redis = redis
        self._life_seconds = lease_seconds
        self._sets = LeaseSets(redis, lease_seconds=lease_seconds)
        self._here = MemoryLeases()
        self._held: dict[str, Lease] = {}
        self._returns: dict[bytes, _Return] = {}
        self._keeper: asyncio.Task[None] | None = None
        self._wake = asyncio.Event()
        self._due_at = 0.0
        redis.attach(self)

    async def start(self) -> None:
        """Connect. Does not fail: without Redis `on_failure` decides."""
        await self._redis.start(self)

    async def check(self) -> None:
        """Raises `Unavailable` when Redis does not answer, or the circuit is open since it did not."""
        await self._redis.check()

    async def close(self) -> None:
        """Stop renewing, and give back what is still to be given back. May be called twice."""
        keeper, self._keeper = self._keeper, None
        if keeper is not None:
            keeper.cancel()
            await asyncio.gather(keeper, return_exceptions=True)
        await self._give_back_all()
        await self._redis.close(self)

    async def take(self, key: str, limit: int) -> str | None:
        """A lease, or None where the key has `limit` of them in all processes.

        Raises `Unavailable` where Redis does not answer and the policy is `deny`.
        """
        lease = Lease(self._redis.stored(key, "leases"), limit)
        try:
            counted = await self._sets.take(lease)
        except StoreDown:
            return await self._take_alone(key, lease)
        except asyncio.CancelledError:
            self._end(lease)
            self._wake.set()
            raise
        return await self._hold(key, lease, maxsize) if counted else None

    async def give_back(self, key: str, lease: str) -> None:
        """End a lease; one that has ended already is left alone. What Redis is not told now, it is told later."""
        await self._here.give_back(key, lease)
        found = self._held.pop(lease, None)
        if found is not None and self._end(found):
            with suppress(StoreDown):
                await self._remove(found.stored, [found.name])

    async def catch_up(self) -> int:
        """Redis answers again: have it told what it has missed as soon as it is asked again."""
        self._due_at = 0.0
        self._wake.set()
        return 0

    async def _take_alone(self, key: str, lease: Lease) -> str | None:
        policy = self._redis.on_failure
        if policy == "deny":
            self._end(lease)
            wait_seconds = self._redis.retry_after_seconds
            raise Unavailable("the limit store does not answer", retry_after_seconds=wait_seconds)
        return await self._hold(key, lease, lease.limit if policy == "local" else maxsize)

    async def _hold(self, key: str, lease: Lease, limit: int) -> str | None:
        """Note a running export, where this process runs fewer than `limit` of the key; waits for nothing."""
        held = await self._here.take(key, limit)
        if held is None:
            self._end(lease)
        else:
            self._held[held] = lease
            self._keep()
        return held

    def _end(self, lease: Lease) -> bool:
        """It is over; whether Redis may have it, and is to be told."""
        lease.over = True
        if lease.sent:
            ends_at = asyncio.get_running_loop().time() + self._life_seconds
            self._returns[lease.name] = _Return(lease.stored, ends_at)
            self._keep()
        return lease.sent

    def _keep(self) -> None:
        """Have a task that renews what is held, and gives back what could not be given back at once."""
        if self._keeper is None or self._keeper.done():
            self._due_at = asyncio.get_running_loop().time() + self._life_seconds / _RENEWALS
            self._wake = asyncio.Event()
            self._keeper = asyncio.create_task(self._run(), context=Context())  # no request's, though one began it

    async def _run(self) -> None:
        while self._held or self._returns:
            with suppress(TimeoutError):
                async with asyncio.timeout_at(self._due_at):
                    await self._wake.wait()
            self._wake.clear()
            answered = await self._give_back_all()
            if self._due_at <= asyncio.get_running_loop().time():
                answered = await self._renew_all() and answered
                pause_seconds = self._life_seconds / (_RENEWALS if answered else _RETRIES)
                self._due_at = asyncio.get_running_loop().time() + pause_seconds

    async def _give_back_all(self) -> bool:
        """Whether Redis has been told of all that is over and that it may have."""
        now = asyncio.get_running_loop().time()
        self._returns = {name: found for name, found in self._returns.items() if found.ends_at > now}
        names = defaultdict(list)
        for name, found in self._returns.items():
            names[found.stored].append(name)
        return await _all([self._remove(stored, found) for stored, found in names.items()])

    async def _remove(self, stored: bytes, names: Sequence[bytes]) -> None:
        await self._sets.remove(stored, names)
        for name in names:
            self._returns.pop(name, None)

    async def _renew_all(self) -> bool:
        """Whether all that runs is renewed; what Redis does not count is counted, where its key has a place."""
        counted = defaultdict(list)
        for lease in self._held.values():
            if lease.counted:
                counted[lease.stored].append(lease)
        lost: list[Lease] = []
        renewed = await _all([self._renew(stored, leases, lost) for stored, leases in counted.items()])
        if lost:
            logger.warning("limit store %s has lost the leases of %d running exports", self._redis.place, len(lost))
        missing = [lease for lease in self._held.values() if not lease.counted]
        return await _all([self._count(lease) for lease in missing]) and renewed

    async def _renew(self, stored: bytes, leases: Sequence[Lease], lost: list[Lease]) -> None:
        for lease in await self._sets.renew(stored, leases, seconds=self._patience_seconds()):
            if not lease.over:
                lease.begin_anew()
                lost.append(lease)

    async def _count(self, lease: Lease) -> None:
        if lease.over:
            return
        await self._sets.take(lease, seconds=self._patience_seconds())
        if lease.over:  # meanwhile, and it may have been given back before it was taken
            self._end(lease)
            await self._remove(lease.stored, [lease.name])

    def _patience_seconds(self) -> float:
        """No request waits for a renewal."""
        return min(self._redis.patient_seconds, self._life_seconds / _RENEWALS)


async def _all(calls: Sequence[Coroutine[Any, Any, object]]) -> bool:
    """Whether Redis has answered all of them, asked in one write."""
    results = await asyncio.gather(*calls, return_exceptions=True)
    for result in results:
        if isinstance(result, BaseException) and not isinstance(result, StoreDown):
            raise result
    return not any(isinstance(result, StoreDown) for result in results)
