"""Limit how many exports a key runs at once.

A lease is taken before the source is opened. It is given back when the body has ended, however it ended: not when a
handler returns, and not when the head has been sent.
"""

from __future__ import annotations

from collections import Counter
from typing import Protocol


class Leases(Protocol):
    """Count running exports by key.

    `take` returns the id of the lease, or None if the key has `limit` leases already; it may raise `Unavailable`. A
    cancelled `take` has taken nothing. `give_back` may be called late and twice, and never raises. `start`, `check`
    and `close` are those of a `Store`.
    """

    async def start(self) -> None: ...
    async def check(self) -> None: ...
    async def close(self) -> None: ...
    async def take(self, key: str, limit: int) -> str | None: ...
    async def give_back(self, key: str, lease: str) -> None: ...


class MemoryLeases:
    """Leases of one process. Memory: one entry a running export."""

    def __init__(self) -> None:
        self._held: dict[str, str] = {}
        self._count: Counter[str] = Counter()
        self._taken = 0

    async def start(self) -> None:
        """Do nothing: there is nothing to connect to."""

    async def check(self) -> None:
        """Do nothing: memory always answers."""

    async def close(self) -> None:
        """Do nothing: there is nothing to give back."""

    async def take(self, key: str, limit: int) -> str | None:
        """Take a lease, or return None. Never suspends, so two callers cannot take the last one."""
        if self._count[key] >= limit:
            return None
        self._taken += 1
        lease = str(self._taken)
        self._held[lease] = key
        self._count[key] += 1
        return lease

    async def give_back(self, key: str, lease: str) -> None:
        """End a lease; ignore one that has ended."""
        holder = self._held.pop(lease, None)
        if holder is None:
            return
        self._count[holder] -= 1
        if not self._count[holder]:
            del self._count[holder]
