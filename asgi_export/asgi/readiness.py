"""Check whether everything that an export needs answers."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping

from asgi_export.asgi.context import Key

logger = logging.getLogger("asgi_export")

CHECK_SECONDS = 5.0

Check = Callable[[], Awaitable[None]]

CHECKS: Key[dict[str, Check]] = Key("checks")
"""The checks of the middleware around the application, by name."""


async def failing(checks: Mapping[str, Check], *, seconds: float = CHECK_SECONDS) -> list[str]:
    """Run the checks; return the names of those that raise or take longer than `seconds`, and log the reasons."""
    tasks = {name: asyncio.create_task(_run(check)) for name, check in checks.items()}
    if not tasks:
        return []
    late: list[asyncio.Task[None]] = []
    try:
        await asyncio.wait(tasks.values(), timeout=seconds)
    finally:
        late += [task for task in tasks.values() if not task.done()]
        for task in late:
            task.cancel()
    failed = []
    for name, task in tasks.items():
        error = TimeoutError(f"no answer within {seconds} s") if task in late else _error_of(task)
        if error is not None:
            logger.warning("%s is not ready: %s", name, error)
            failed.append(name)
    return failed


def _error_of(task: asyncio.Task[None]) -> BaseException | None:
    """Return what a check raised; a driver may raise a CancelledError of its own."""
    return ConnectionError("the check was cancelled") if task.cancelled() else task.exception()


async def _run(check: Check) -> None:
    await check()
