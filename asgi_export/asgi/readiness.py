"""Whether everything answers that an export needs."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from typing import Any

from asgi_export.asgi.context import Key

logger = logging.getLogger("asgi_export")

CHECK_SECONDS = 5.0

Check = Callable[[], Awaitable[None]]

CHECKS: Key[dict[str, Check]] = Key("checks")
"""What middleware around the application adds, by name, to what must answer."""


async def failing(checks: Mapping[str, Check], *, seconds: float = CHECK_SECONDS) -> list[str]:
    """The names of those checks that raise, or take longer than `seconds`; the log has the reasons."""
    tasks = {name: asyncio.create_task(_called(check)) for name, check in checks.items()}
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
    """What a check raised; a driver may raise CancelledError of its own."""
    return ConnectionError("the check was cancelled") if task.cancelled() else task.exception()


def _called(check: Check) -> Coroutine[Any, Any, None]:
    async def call() -> None:
        await check()

    return call()
