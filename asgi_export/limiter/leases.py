"""How many exports a key has running at once.

A lease is taken before the source is opened and given back when the body has ended, however it ended: not when a
handler returns, and not when the head is out.
"""

from __future__ import annotations

from collections import Counter
from typing import Protocol


class Leases(Protocol):
    """A place that counts running exports by key.

    `take` gives the lease's id, or None where the key has `limit` leases already; it may raise `Unavailable`. A
    `take` that is cancelled has taken nothing. `give_back` may come late and twice, and never fails. `start`, `check`
    and `close` are those of a `Store`.
    """

    async def start(self) -> None: ...
    async def check(self) -> None: ...
    async def close(self) -> None: ...
    async def take(self, key: str, limit: int) -> str | None: ...
    async def give_back(self, key: str, lease: str) -> None: ...


class MemoryLeases:
    """Leases of one process: exact, and gone with it. Holds running exports only."""

    def __init__(self) -> None:
        self._held: dict[str, str] = {}
        self._count: Counter[str] = Counter()
        self._taken = 0

    async def start(self) -> None:
        """Nothing to connect to."""

    async def check(self) -> None:
        """Memory always answers."""

    async def close(self) -> None:
        """Nothing to give back."""

    async def take(self, key: str, limit: int) -> str | None:
        """A lease, or None; without an await in between, so no two can take the last one."""
        if self._count[key] >= limit:
            return None
        self._taken += 1
        lease = str(self._taken)
        self._held[lease] = key
        self._count[key] += 1
        return lease

    async def give_back(self, key: str, lease: str) -> None:
        """End a lease; one that has ended already is left alone."""
        holder = self._held.pop(lease, None)
        if holder is None:
            return
        self._count[holder] -= 1
        if not self._count[holder]:
            del self._count[holder]
