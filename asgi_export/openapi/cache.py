"""Documents as they are sent, made once for all callers that have the same rights."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Hashable

from asgi_export.access.plans import AccessPlan

MAX_KEPT = 32
"""Documents in memory; one of a thousand datasets has 100 to 200 KB."""


class Documents:
    """The documents that were asked for last.

    To make one takes a second of a thread's time if there are half a million columns: so it is made once, and never
    two at the same time, however many requests wait for it.
    """

    def __init__(self) -> None:
        self._kept: dict[Hashable, bytes] = {}
        self._making = asyncio.Lock()

    async def get(self, key: Hashable, make: Callable[[], bytes]) -> bytes:
        """Return the document of that key; `make` runs in a thread, and what it raises is raised and not cached."""
        if key not in self._kept:
            async with self._making:
                if key not in self._kept:  # another thread may have made it meanwhile
                    made = await asyncio.to_thread(make)
                    self._keep(key, made)
                    return made
        found = self._kept.pop(key)
        self._kept[key] = found
        return found

    def _keep(self, key: Hashable, document: bytes) -> None:
        self._kept[key] = document
        if len(self._kept) > MAX_KEPT:
            del self._kept[next(iter(self._kept))]


def rights_of(access: AccessPlan) -> Hashable:
    """Return what a document shows of a plan. Two plans, or one that was read twice, may have the same rights."""
    return access.datasets, frozenset(access.columns.items()), access.max_rows
