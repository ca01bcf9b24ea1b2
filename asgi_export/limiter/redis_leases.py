"""Leases of running exports, shared by any number of processes and machines in one Redis or Valkey.

Theory of operation. A key has a sorted set of leases, each with its expiry by the clock of the server. `take` is one
script: it ignores expired leases, and adds one if the limit allows. While an export runs, its process renews the
lease every third of its lifetime; one task renews all leases of a process in one write. If the process is killed the
renewals stop, and the leases expire. A set expires with its last lease, so a key that never comes back leaves
nothing behind.

The script that counts the request does not take the lease: the request comes first, and counts even if its export is
refused. The middleware limits requests; leases limit bodies, which begin later and end much later.

While Redis is slow or down, the process counts its own exports of the key, and every export goes on whatever becomes
of its lease. If an answer gets lost, Redis may hold the name of a lease; its return is repeated until Redis confirms
it or the lease must have expired. An export that runs without a lease in Redis, taken locally or expired in an
outage, gets a new one within the limit, under a new name.
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
"""Renewals in the lifetime of a lease, so that two in a row may fail."""

_RETRIES = 12
"""Attempts in the lifetime of a lease, while renewals fail."""


@dataclass(frozen=True, slots=True)
class _Return:
    """A name to remove from the set of its key; Redis may have it until `ends_at`, by the clock of the loop."""

    redis_key: bytes
    ends_at: float


class RedisLeases:
    """Share leases among all processes that use the same Redis and prefix; see `Leases`.

    The lease of a killed process expires after `lease_seconds`. `redis` may serve other counters too; usually it is
    the `redis` of a `RedisStore`. Its `on_failure` decides while Redis does not answer: `local` lets each process run
    as many exports of a key as its limit says, `allow` any number, `deny` none.

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
        self._local = MemoryLeases()
        self._running: dict[str, Lease] = {}
        self._returns: dict[bytes, _Return] = {}
        self._renewer: asyncio.Task[None] | None = None
        self._wake = asyncio.Event()
        self._due_at = 0.0
        redis.attach(self)

    async def start(self) -> None:
        """Connect. Does not fail: without Redis `on_failure` decides."""
        await self._redis.start(self)

    async def check(self) -> None:
        """Raise `Unavailable` if Redis does not answer, or if the circuit is open because it did not."""
        await self._redis.check()

    async def close(self) -> None:
        """Stop the renewals, and return the leases that are still to be returned. May be called twice."""
        # The renewer ends first, or it could take a lease again that is returned below.
        renewer, self._renewer = self._renewer, None
        if renewer is not None:
            renewer.cancel()
            await asyncio.gather(renewer, return_exceptions=True)
        await self._give_back_all()
        await self._redis.close(self)

    async def take(self, key: str, limit: int) -> str | None:
        """Take a lease; None if the key has `limit` of them in all processes.

        Raises `Unavailable` if Redis does not answer and the policy is `deny`.
        """
        lease = Lease(self._redis.redis_key(key, "leases"), limit)
        try:
            counted = await self._sets.take(lease)
        except StoreDown:
            return await self._take_locally(key, lease)
        except asyncio.CancelledError:
            # The script may have run: nobody awaits the answer, so the renewer removes the name, and does so now.
            self._mark_over(lease)
            self._wake.set()
            raise
        return await self._note_running(key, lease, maxsize) if counted else None

    async def give_back(self, key: str, lease: str) -> None:
        """End a lease; ignore one that has ended. If Redis does not answer now, the renewer returns it later."""
        await self._local.give_back(key, lease)
        # Out of `_running` before Redis is asked: a renewal that comes meanwhile must not take it again.
        found = self._running.pop(lease, None)
        if found is not None and self._mark_over(found):
            with suppress(StoreDown):
                await self._remove(found.redis_key, [found.name])

    async def catch_up(self) -> int:
        """Wake the renewer: it renews when the circuit is closed. Reports nothing by itself."""
        self._due_at = 0.0
        self._wake.set()
        return 0

    async def _take_locally(self, key: str, lease: Lease) -> str | None:
        policy = self._redis.on_failure
        if policy == "deny":
            self._mark_over(lease)
            wait_seconds = self._redis.retry_after_seconds
            raise Unavailable("the limit store does not answer", retry_after_seconds=wait_seconds)
        return await self._note_running(key, lease, lease.limit if policy == "local" else maxsize)

    async def _note_running(self, key: str, lease: Lease, limit: int) -> str | None:
        """Note a running export if this process runs fewer than `limit` of the key, without suspending."""
        held = await self._local.take(key, limit)
        if held is None:
            self._mark_over(lease)
        else:
            self._running[held] = lease
            self._ensure_renewer()
        return held

    def _mark_over(self, lease: Lease) -> bool:
        """Mark a lease as over; return whether Redis may have it, and is to remove it."""
        lease.over = True
        if lease.sent:
            ends_at = asyncio.get_running_loop().time() + self._life_seconds
            self._returns[lease.name] = _Return(lease.redis_key, ends_at)
            self._ensure_renewer()
        return lease.sent

    def _ensure_renewer(self) -> None:
        """Run the task that renews running leases and repeats failed returns, if it does not run yet."""
        if self._renewer is None or self._renewer.done():
            self._due_at = asyncio.get_running_loop().time() + self._life_seconds / _RENEWALS
            self._wake = asyncio.Event()
            # A context of its own: its log lines must not carry the id of the request that started it.
            self._renewer = asyncio.create_task(self._run(), context=Context())

    async def _run(self) -> None:
        while self._running or self._returns:
            with suppress(TimeoutError):
                async with asyncio.timeout_at(self._due_at):
                    await self._wake.wait()
            self._wake.clear()  # before the calls: a wake-up during one of them gets another turn
            # Returns go first, so that a lease which is over frees its place before a missing one is taken.
            answered = await self._give_back_all()
            if self._due_at <= asyncio.get_running_loop().time():
                answered = await self._renew_all() and answered
                pause_seconds = self._life_seconds / (_RENEWALS if answered else _RETRIES)
                self._due_at = asyncio.get_running_loop().time() + pause_seconds

    async def _give_back_all(self) -> bool:
        """Return all leases that are over; True if Redis has answered every call."""
        now = asyncio.get_running_loop().time()
        self._returns = {name: found for name, found in self._returns.items() if found.ends_at > now}
        names = defaultdict(list)
        for name, found in self._returns.items():
            names[found.redis_key].append(name)
        return await _all_answered([self._remove(redis_key, found) for redis_key, found in names.items()])

    async def _remove(self, redis_key: bytes, names: Sequence[bytes]) -> None:
        await self._sets.remove(redis_key, names)
        for name in names:
            self._returns.pop(name, None)

    async def _renew_all(self) -> bool:
        """Renew what Redis counts, then take what it does not count; True if Redis has answered every call."""
        counted = defaultdict(list)
        for lease in self._running.values():
            if lease.counted:
                counted[lease.redis_key].append(lease)
        lost: list[Lease] = []
        renewed = await _all_answered([self._renew(redis_key, leases, lost) for redis_key, leases in counted.items()])
        if lost:
            logger.warning("limit store %s has lost the leases of %d running exports", self._redis.place, len(lost))
        # Read again: exports have begun and ended while the renewals were awaited.
        missing = [lease for lease in self._running.values() if not lease.counted]
        return await _all_answered([self._count(lease) for lease in missing]) and renewed

    async def _renew(self, redis_key: bytes, leases: Sequence[Lease], lost: list[Lease]) -> None:
        for lease in await self._sets.renew(redis_key, leases, seconds=self._patience_seconds()):
            if not lease.over:  # else it was returned meanwhile, which is why Redis did not have it
                lease.replace_name()
                lost.append(lease)

    async def _count(self, lease: Lease) -> None:
        if lease.over:
            return
        await self._sets.take(lease, seconds=self._patience_seconds())
        # The export may have ended meanwhile, and Redis may have run the removal before the take: remove it again.
        if lease.over:
            self._mark_over(lease)
            await self._remove(lease.redis_key, [lease.name])

    def _patience_seconds(self) -> float:
        """Return the bound of a call that no request waits for."""
        return min(self._redis.patient_seconds, self._life_seconds / _RENEWALS)


async def _all_answered(calls: Sequence[Coroutine[Any, Any, object]]) -> bool:
    """Run calls to Redis in one write; return whether it has answered all of them."""
    results = await asyncio.gather(*calls, return_exceptions=True)
    for result in results:
        if isinstance(result, BaseException) and not isinstance(result, StoreDown):
            raise result
    return not any(isinstance(result, StoreDown) for result in results)
