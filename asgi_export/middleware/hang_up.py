"""Reload on SIGHUP."""

from __future__ import annotations

import asyncio
import inspect
import logging
import os
import signal
import sys
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from asgi_export.asgi.lifespan import AroundLifespan
from asgi_export.asgi.message import ASGIApp

logger = logging.getLogger("asgi_export")

Action = Callable[[], Awaitable[None] | None]


class OnHangUp:
    """Call `actions`, one after the other, when the process gets SIGHUP between start-up and shut-down.

    Does nothing if the signal cannot be handled (not the main thread, a system without it). A process whose terminal
    was closed ends, as it would without this middleware.
    """

    def __init__(self, app: ASGIApp, actions: Sequence[Action]) -> None:
        self._app = app
        self._actions = tuple(actions)
        self._running: asyncio.Task[None] | None = None
        self._in_terminal = False

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            around = AroundLifespan(receive, send, start=self._start, stop=self._stop)
            receive, send = around.receive, around.send
        await self._app(scope, receive, send)

    async def _start(self) -> None:
        self._in_terminal = _has_terminal()
        try:
            asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, self._hang_up)
        except (NotImplementedError, RuntimeError, ValueError, AttributeError):
            logger.debug("SIGHUP cannot be handled here")

    async def _stop(self) -> None:
        try:
            asyncio.get_running_loop().remove_signal_handler(signal.SIGHUP)
        except (NotImplementedError, RuntimeError, ValueError, AttributeError):
            logger.debug("SIGHUP was not handled here")
        if self._running is not None:
            await asyncio.wait([self._running])

    def _hang_up(self) -> None:
        if self._in_terminal and not _has_terminal():
            os.kill(os.getpid(), signal.SIGTERM)
        elif self._running is None or self._running.done():
            self._running = asyncio.get_running_loop().create_task(self._act(), name="asgi-export SIGHUP")

    async def _act(self) -> None:
        logger.info("SIGHUP: the catalogue is read again")
        for action in self._actions:
            done = action()
            if inspect.isawaitable(done):
                await done


def _has_terminal() -> bool:
    """Return whether the standard input is a terminal that is still open."""
    try:
        return os.isatty(sys.__stdin__.fileno()) if sys.__stdin__ is not None else False
    except (OSError, ValueError):
        return False
