"""Wait for work that must not be left half-done, through cancellations of the waiting task."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from math import inf
from typing import Any, TypeVar

T = TypeVar("T")


async def wait_through(
    work: asyncio.Future[Any],
    *,
    seconds: float = inf,
    nudge: Callable[[], None] | None = None,
    nudge_seconds: float = inf,
) -> bool:
    """Wait for `work` to be done, `seconds` at most, through any number of cancellations.

    Returns whether the wait was cancelled; that neither ends the wait nor cancels the work. `nudge` is called before
    the wait and every `nudge_seconds` until the work is done.
    """
    loop = asyncio.get_running_loop()
    deadline, cancelled = loop.time() + seconds, False
    while not work.done() and (left := min(deadline - loop.time(), nudge_seconds)) > 0:
        if nudge:
            nudge()
        try:
            await asyncio.wait([work], timeout=None if left == inf else left)
        except asyncio.CancelledError:
            cancelled = True
    return cancelled


async def finish(work: Coroutine[Any, Any, T]) -> T:
    """Await `work` to its end, through any number of cancellations; one that came meanwhile is raised afterwards."""
    task = asyncio.get_running_loop().create_task(work)
    cancelled = await wait_through(task)
    result = task.result()
    if cancelled:
        raise asyncio.CancelledError
    return result
