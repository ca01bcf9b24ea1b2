"""Limit the bytes of bodies that a key is sent in any 24 hours.

Theory of operation. Bytes are counted in buckets of 15 minutes, by the time of their reservation. A bucket counts
until its last byte is a day old, so there are 97 of them. No 24 hours, wherever they begin, hold more than the limit,
and a byte is free again a day later, or at most one bucket after that. Bytes are reserved before they are sent, many
at a time; an export gives back what it has not sent when it ends.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

BUCKET_SECONDS = 900
DAY_BUCKETS = 96
"""Buckets of a day; a bucket counts for as many after its own."""

SWEEP_KEYS = 1000
"""Fewer keys are not swept."""


@dataclass(frozen=True, slots=True)
class Grant:
    """Bytes that were reserved, and their bucket; 0 bytes if the key has used up its limit.

    Then some are free after `retry_after_seconds`, rounded up. `shared` says whether Redis has granted it; `local` is
    the grant of this process that accompanies it.
    """

    granted_bytes: int
    bucket: int = 0
    retry_after_seconds: int = 0
    shared: bool = False
    local: Grant | None = None


class ByteQuotas(Protocol):
    """Count bytes by key.

    `reserve` grants `wanted_bytes`, or as many as `limit` leaves; it may raise `Unavailable`. `give_back` returns the
    unsent bytes of a grant, and never raises. `start`, `check` and `close` are those of a `Store`.
    """

    async def start(self) -> None: ...
    async def check(self) -> None: ...
    async def close(self) -> None: ...
    async def reserve(self, key: str, limit: int, wanted_bytes: int) -> Grant: ...
    async def give_back(self, key: str, grant: Grant, unused_bytes: int) -> None: ...


class MemoryByteQuotas:
    """Count the bytes of one process. Memory: 97 numbers at most for each key that was used in the last 24 hours.

    `clock_ns` is monotonic, in nanoseconds.
    """

    def __init__(self, *, clock_ns: Callable[[], int] = time.monotonic_ns) -> None:
        self._clock_ns = clock_ns
        self._used: dict[str, dict[int, int]] = {}
        self._sweep_at = SWEEP_KEYS

    async def start(self) -> None:
        """Do nothing: there is nothing to connect to."""

    async def check(self) -> None:
        """Do nothing: memory always answers."""

    async def close(self) -> None:
        """Do nothing: there is nothing to give back."""

    async def reserve(self, key: str, limit: int, wanted_bytes: int) -> Grant:
        """Reserve bytes. Never suspends, so two callers cannot get the same ones."""
        now_us = self._clock_ns() // 1000
        width_us = BUCKET_SECONDS * 1_000_000
        buckets = live(self._used.get(key, {}), now_us // width_us)
        # Never an older bucket than the newest: if the clock steps back, bytes must not be free too early.
        bucket = max(now_us // width_us, *buckets) if buckets else now_us // width_us
        used = sum(buckets.values())
        granted = min(wanted_bytes, limit - used)
        if granted <= 0:
            wait_us = (bucket_that_frees(buckets, used - limit + 1) + DAY_BUCKETS + 1) * width_us - now_us
            return Grant(0, retry_after_seconds=-(-wait_us // 1_000_000))
        buckets[bucket] = buckets.get(bucket, 0) + granted
        self._used[key] = buckets
        self._sweep(bucket)
        return Grant(granted, bucket)

    async def give_back(self, key: str, grant: Grant, unused_bytes: int) -> None:
        """Take bytes out of their bucket again, if it still counts."""
        buckets = self._used.get(key, {})
        if grant.bucket in buckets:
            buckets[grant.bucket] -= min(unused_bytes, buckets[grant.bucket])

    def _sweep(self, bucket: int) -> None:
        """Remove the keys without bytes that count, each time that the number of keys has doubled."""
        if len(self._used) < self._sweep_at:
            return
        self._used = {key: buckets for key, buckets in self._used.items() if live(buckets, bucket)}
        self._sweep_at = max(SWEEP_KEYS, 2 * len(self._used))


def live(buckets: dict[int, int], now: int) -> dict[int, int]:
    """Return the buckets that still count in bucket `now`, oldest first.

    >>> live({0: 5, 1: 7, 97: 9}, 97)
    {1: 7, 97: 9}
    """
    return {bucket: used for bucket, used in sorted(buckets.items()) if bucket + DAY_BUCKETS + 1 > now and used}


def bucket_that_frees(buckets: dict[int, int], needed_bytes: int) -> int:
    """Return the bucket whose expiry makes so many bytes free, oldest first.

    >>> bucket_that_frees({1: 7, 5: 9}, 8)
    5
    """
    for bucket, used in buckets.items():
        needed_bytes -= used
        if needed_bytes <= 0:
            return bucket
    raise ValueError("expected buckets with so many bytes")
