"""Charge the chunks of an export to the daily bytes of its key, before they are sent."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import AbstractAsyncContextManager, aclosing, asynccontextmanager

from asgi_export.errors import OverQuota, TooManyRequests, Unavailable
from asgi_export.limiter.byte_quota import ByteQuotas, Grant

GRANT_BYTES = 1024 * 1024
"""Bytes of one reservation, so that the store is asked once for several chunks."""

POLICY = "bytes-a-day"


class Meter:
    """Hold the bytes that one export has reserved of the `limit` of `key` and not yet spent.

    Close it at the end, also after a cancelled `spend`: the store may have granted bytes that nobody waits for.
    """

    def __init__(self, quotas: ByteQuotas, key: str, limit: int) -> None:
        self._quotas = quotas
        self._key = key
        self._limit = limit
        self._grants: list[tuple[Grant, int]] = []
        self._asking: asyncio.Task[Grant] | None = None
        self._sending = False

    async def spend(self, count: int) -> None:
        """Pay for a chunk.

        Raises, for the first chunk, errors that still become an answer: `TooManyRequests` if the key has not enough
        bytes left, `Unavailable` if the store does not answer. For a later chunk both are `OverQuota`.
        """
        left = sum(unspent for _, unspent in self._grants)
        wanted = count if self._sending else max(1, count)  # an empty first chunk asks too
        while left < wanted:
            left += await self._reserve_more(max(wanted - left, GRANT_BYTES))
        self._sending = True
        self._use(count)

    async def close(self) -> None:
        """Give back what was reserved and not spent."""
        if self._asking is not None:
            # A cancelled `spend` leaves this task running: wait until its grant, if any, is in the list below.
            await asyncio.gather(self._asking, return_exceptions=True)
        grants, self._grants = self._grants, []
        for grant, unspent in grants:
            await self._quotas.give_back(self._key, grant, unspent)

    async def _reserve_more(self, wanted_bytes: int) -> int:
        """Reserve bytes; return how many were granted."""
        # In a task, shielded: if `spend` is cancelled, the store's answer is still noted, and `close` gives it back.
        self._asking = asyncio.create_task(self._reserve(wanted_bytes))
        try:
            grant = await asyncio.shield(self._asking)
        except Unavailable as error:
            if self._sending:
                raise OverQuota(f"the bytes of this key cannot be counted: {error}") from error
            raise
        if not grant.granted_bytes:
            raise self._over_quota(grant.retry_after_seconds)
        return grant.granted_bytes

    async def _reserve(self, wanted_bytes: int) -> Grant:
        grant = await self._quotas.reserve(self._key, self._limit, wanted_bytes)
        if grant.granted_bytes:
            self._grants.append((grant, grant.granted_bytes))
        return grant

    def _use(self, count: int) -> None:
        while count:
            grant, unspent = self._grants.pop(0)
            if unspent > count:
                self._grants.insert(0, (grant, unspent - count))
            count -= min(count, unspent)

    def _over_quota(self, wait_seconds: int) -> TooManyRequests | OverQuota:
        message = f"this key may be sent {self._limit} bytes in any 24 hours, and they are used up"
        if self._sending:
            return OverQuota(message)
        return TooManyRequests(
            f"{message}; some are free in {wait_seconds} s",
            headers=((b"retry-after", str(wait_seconds).encode()),),
            members={"violated-policies": [POLICY]},
        )


@asynccontextmanager
async def meter_chunks(
    chunks: AbstractAsyncContextManager[AsyncIterator[bytes]], meter: Meter
) -> AsyncIterator[AsyncIterator[bytes]]:
    """Iterate the same chunks, each one when it is paid for; close the meter on exit.

    A chunk that was yielded counts as sent, even if its client has left. The error marker is free.
    """
    try:
        async with chunks as found, aclosing(_pay_for_chunks(found, meter)) as paid_chunks:
            yield paid_chunks
    finally:
        await asyncio.shield(meter.close())


async def _pay_for_chunks(chunks: AsyncIterator[bytes], meter: Meter) -> AsyncGenerator[bytes, None]:
    async for chunk in chunks:
        await meter.spend(len(chunk))
        yield chunk


def describe_quota(limit: int) -> dict[str, object]:
    """Describe the quota as the catalogue lists it, in the unit that the draft of RateLimit headers registers."""
    return {"name": POLICY, "limit": limit, "window_seconds": 86400, "unit": "content-bytes"}
