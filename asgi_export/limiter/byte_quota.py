"""How many bytes of bodies a key is sent in a day.

Theory of operation. Bytes are counted in buckets of 15 minutes, by the time at which they were reserved. A bucket
counts until the last of its bytes is a day old, so there are 97 of them: no day of 24 hours, wherever it begins,
holds more than the limit, and a byte is free again a day later, or at most one bucket after that. Bytes are reserved
before they are sent, many at a time, and what an export has not sent of them is given back when it ends.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

BUCKET_SECONDS = 900
DAY_BUCKETS = 96
"""Of a day; a bucket counts for so many more after its own."""


@dataclass(frozen=True, slots=True)
class Grant:
    """Bytes that were reserved, and in which bucket; none where the key has used its limit up.

    Then some are free after `retry_after_seconds`, rounded up. `here` is the grant of this process alone that goes
    with one of Redis; `shared` says whether there is one of Redis.
    """

    granted_bytes: int
    bucket: int = 0
    retry_after_seconds: int = 0
    shared: bool = False
    here: Grant | None = None


class ByteQuotas(Protocol):
    """A place that counts bytes by key.

    `reserve` grants `wanted_bytes`, or as many of them as are left of `limit`; it may raise `Unavailable`.
    `give_back` takes what was not sent of a grant, and never fails. `start`, `check` and `close` are those of a
    `Store`.
    """

    async def start(self) -> None: ...
    async def check(self) -> None: ...
    async def close(self) -> None: ...
    async def reserve(self, key: str, limit: int, wanted_bytes: int) -> Grant: ...
    async def give_back(self, key: str, grant: Grant, unused_bytes: int) -> None: ...


class MemoryByteQuotas:
    """Bytes of one process: exact, and forgotten with it. Holds 97 numbers a key, and forgets none that counts.

    `clock_ns` is monotonic, in nanoseconds. Keys are those of a key file, so nobody can fill the memory with others.
    """

    def __init__(self, *, clock_ns: Callable[[], int] = time.monotonic_ns) -> None:
        self._clock_ns = clock_ns
        self._used: dict[str, dict[int, int]] = {}

    async def start(self) -> None:
        """Nothing to connect to."""

    async def check(self) -> None:
        """Memory always answers."""

    async def close(self) -> None:
        """Nothing to give back."""

    async def reserve(self, key: str, limit: int, wanted_bytes: int) -> Grant:
        """A grant; without an await in between, so no two can have the same bytes."""
        now_us = self._clock_ns() // 1000
        width_us = BUCKET_SECONDS * 1_000_000
        buckets = live(self._used.get(key, {}), now_us // width_us)
        bucket = max(now_us // width_us, *buckets) if buckets else now_us // width_us
        used = sum(buckets.values())
        granted = min(wanted_bytes, limit - used)
        if granted <= 0:
            wait_us = (leaving(buckets, used - limit + 1) + DAY_BUCKETS + 1) * width_us - now_us
            return Grant(0, retry_after_seconds=-(-wait_us // 1_000_000))
        buckets[bucket] = buckets.get(bucket, 0) + granted
        self._used[key] = buckets
        return Grant(granted, bucket)

    async def give_back(self, key: str, grant: Grant, unused_bytes: int) -> None:
        """Take bytes out of their bucket again, where it still counts."""
        buckets = self._used.get(key, {})
        if grant.bucket in buckets:
            buckets[grant.bucket] -= min(unused_bytes, buckets[grant.bucket])


def live(buckets: dict[int, int], now: int) -> dict[int, int]:
    """The buckets that still count in bucket `now`, by age.

    >>> live({0: 5, 1: 7, 97: 9}, 97)
    {1: 7, 97: 9}
    """
    return {bucket: used for bucket, used in sorted(buckets.items()) if bucket + DAY_BUCKETS + 1 > now and used}


def leaving(buckets: dict[int, int], needed_bytes: int) -> int:
    """The bucket with which, by age, so many bytes are free.

    >>> leaving({1: 7, 5: 9}, 8)
    5
    """
    for bucket, used in buckets.items():
        needed_bytes -= used
        if needed_bytes <= 0:
            return bucket
    raise ValueError("expected buckets with so many bytes")
