"""Give memory back to the system that a crowd of exports has left behind."""

from __future__ import annotations

import asyncio
import ctypes
from collections.abc import Callable
from functools import cache


@cache
def _trim() -> Callable[[int], int] | None:
    """Return `malloc_trim` of the GNU C library; None elsewhere, where the allocator gives memory back by itself."""
    try:
        found: Callable[[int], int] | None = getattr(ctypes.CDLL(None), "malloc_trim", None)
    except (OSError, TypeError):  # no such library, or a system without a global one
        return None
    return found


def give_memory_back() -> None:
    """Return free pages to the system; some milliseconds, for a thread. Does nothing where there is no way to."""
    trim = _trim()
    if trim is not None:
        trim(0)


CROWD = 16
"""Exports at once that are worth it."""

QUIET_SECONDS = 3.0


class MemoryReturn:
    """Give memory back `QUIET_SECONDS` after at least half of a crowd has left; for one event loop."""

    def __init__(self) -> None:
        self._most = 0
        self._timer: asyncio.TimerHandle | None = None

    def changed(self, running: int) -> None:
        """Note how many exports are running now."""
        self._most = max(self._most, running)
        if self._most >= CROWD and 2 * running <= self._most and self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(QUIET_SECONDS, self._give_back)

    def close(self) -> None:
        """Forget it."""
        timer, self._timer = self._timer, None
        if timer is not None:
            timer.cancel()

    def _give_back(self) -> None:
        self._timer, self._most = None, 0
        asyncio.get_running_loop().run_in_executor(None, give_memory_back)
