"""Chunks of an export, paid for out of its key's bytes a day before they are sent."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import AbstractAsyncContextManager, aclosing, asynccontextmanager

from asgi_export.errors import OverQuota, TooManyRequests, Unavailable
from asgi_export.limiter.byte_quota import ByteQuotas, Grant

GRANT_BYTES = 1024 * 1024
"""Reserved at once, so that the store is asked once for several chunks."""

POLICY = "bytes-a-day"


class Meter:
    """What one export has reserved of the `limit` of `key` and not yet spent.

    Close it in the end, also where `spend` was cancelled: the store may have granted what nobody waits for any more.
    """

    def __init__(self, quotas: ByteQuotas, key: str, limit: int) -> None:
        self._quotas = quotas
        self._key = key
        self._limit = limit
        self._grants: list[tuple[Grant, int]] = []
        self._asking: asyncio.Task[Grant] | None = None
        self._begun = False

    async def spend(self, count: int) -> None:
        """Pay for a chunk.

        For the first one raises what can still be said in an answer: `TooManyRequests` where the key has not enough
        left, `Unavailable` where the store does not answer. For a later one both are `OverQuota`.
        """
        left = sum(unspent for _, unspent in self._grants)
        wanted = count if self._begun else max(1, count)  # an empty first chunk asks too
        while left < wanted:
            left += await self._reserved(max(wanted - left, GRANT_BYTES))
        self._begun = True
        self._take(count)

    async def close(self) -> None:
        """Give back what was reserved and not spent."""
        if self._asking is not None:
            await asyncio.gather(self._asking, return_exceptions=True)  # who still waits for it is told its error
        grants, self._grants = self._grants, []
        for grant, unspent in grants:
            await self._quotas.give_back(self._key, grant, unspent)

    async def _reserved(self, wanted_bytes: int) -> int:
        """How many more there are to spend. In a task, which goes on though `spend` is cancelled."""
        self._asking = asyncio.create_task(self._reserve(wanted_bytes))
        try:
            grant = await asyncio.shield(self._asking)
        except Unavailable as error:
            if self._begun:
                raise OverQuota(f"the bytes of this key cannot be counted: {error}") from error
            raise
        if not grant.granted_bytes:
            raise self._over(grant.retry_after_seconds)
        return grant.granted_bytes

    async def _reserve(self, wanted_bytes: int) -> Grant:
        grant = await self._quotas.reserve(self._key, self._limit, wanted_bytes)
        if grant.granted_bytes:
            self._grants.append((grant, grant.granted_bytes))
        return grant

    def _take(self, count: int) -> None:
        while count:
            grant, unspent = self._grants.pop(0)
            if unspent > count:
                self._grants.insert(0, (grant, unspent - count))
            count -= min(count, unspent)

    def _over(self, wait_seconds: int) -> TooManyRequests | OverQuota:
        message = f"this key may be sent {self._limit} bytes in any 24 hours, and they are used up"
        if self._begun:
            return OverQuota(message)
        return TooManyRequests(
            f"{message}; some are free in {wait_seconds} s",
            headers=((b"retry-after", str(wait_seconds).encode()),),
            members={"violated-policies": [POLICY]},
        )


@asynccontextmanager
async def metered(
    chunks: AbstractAsyncContextManager[AsyncIterator[bytes]], meter: Meter
) -> AsyncIterator[AsyncIterator[bytes]]:
    """The same chunks, each given out when it is paid for; the meter is closed with them.

    A chunk that was given out counts as sent, though its client may have left before it took it. The line with
    which a broken export ends is not paid for.
    """
    try:
        async with chunks as found, aclosing(_paid(found, meter)) as paid:
            yield paid
    finally:
        await asyncio.shield(meter.close())


async def _paid(chunks: AsyncIterator[bytes], meter: Meter) -> AsyncGenerator[bytes, None]:
    async for chunk in chunks:
        await meter.spend(len(chunk))
        yield chunk


def describe_quota(limit: int) -> dict[str, object]:
    """The quota as the catalogue lists it, in the unit that the draft of RateLimit headers registers."""
    return {"name": POLICY, "limit": limit, "window_seconds": 86400, "unit": "content-bytes"}
