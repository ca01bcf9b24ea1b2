"""Whether everything answers that an export needs."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from typing import Any

logger = logging.getLogger("asgi_export")

CHECK_SECONDS = 5.0

Check = Callable[[], Awaitable[None]]


async def failing(checks: Mapping[str, Check], *, seconds: float = CHECK_SECONDS) -> list[str]:
    """The names of those checks that raise, or take longer than `seconds`; the log has the reasons."""
    tasks = {name: asyncio.create_task(_called(check)) for name, check in checks.items()}
    if not tasks:
        return []
    _, late = await asyncio.wait(tasks.values(), timeout=seconds)
    for task in late:
        task.cancel()
    failed = []
    for name, task in tasks.items():
        error = TimeoutError(f"no answer within {seconds} s") if task in late else task.exception()
        if error is not None:
            logger.warning("%s is not ready: %s", name, error)
            failed.append(name)
    return failed


def _called(check: Check) -> Coroutine[Any, Any, None]:
    async def call() -> None:
        await check()

    return call()
