"""The lifespan protocol around a pair of callables. ASGI Lifespan 2.0."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable

from asgi_export.asgi.message import ASGIReceiveEvent, ASGISendEvent, Receive, Send
from asgi_export.errors import StartupError

logger = logging.getLogger("asgi_export")

Step = Callable[[], Awaitable[None]]


async def answer_lifespan(receive: Receive, send: Send, *, start: Step, stop: Step) -> None:
    """Run `start` and `stop` on the server's messages.

    If `start` raises, the server gets `lifespan.startup.failed` with the reason, and exits. If `stop` raises, it gets
    `lifespan.shutdown.failed`.
    """
    while True:
        message = await receive()
        if message["type"] == "lifespan.startup":
            try:
                await start()
            except Exception as error:
                await send({"type": "lifespan.startup.failed", "message": reason(error)})
                return
            await send({"type": "lifespan.startup.complete"})
        elif message["type"] == "lifespan.shutdown":
            try:
                await stop()
            except Exception as error:
                await send({"type": "lifespan.shutdown.failed", "message": reason(error)})
                return
            await send({"type": "lifespan.shutdown.complete"})
            return


class AroundLifespan:
    """Add a middleware's part to the lifespan: `start` after the application's start, `stop` after its end.

    Give `receive` and `send` of this object to the application. If `start` fails, the server gets
    `lifespan.startup.failed`, and the application, which has started, gets a shut-down.
    """

    def __init__(self, receive: Receive, send: Send, *, start: Step, stop: Step) -> None:
        self._receive = receive
        self._send = send
        self._start = start
        self._stop = stop
        self._failed = False

    async def receive(self) -> ASGIReceiveEvent:
        """Return the server's message, or a shut-down after a failed start."""
        if self._failed:
            return {"type": "lifespan.shutdown"}
        return await self._receive()

    async def send(self, message: ASGISendEvent) -> None:
        """Pass the application's message on, after this middleware's part."""
        if message["type"] == "lifespan.startup.complete":
            try:
                await self._start()
            except Exception as error:
                self._failed = True
                await self._send({"type": "lifespan.startup.failed", "message": reason(error)})
                return
        elif message["type"] in ("lifespan.shutdown.complete", "lifespan.shutdown.failed"):
            if self._failed:
                return
            try:
                await self._stop()
            except Exception as error:
                message = {"type": "lifespan.shutdown.failed", "message": reason(error)}
        await self._send(message)


def reason(error: Exception) -> str:
    """Return one line for the operator; an error other than `StartupError` is logged with its traceback."""
    if not isinstance(error, StartupError):
        logger.error("the start or the end failed", exc_info=error)
    return str(error) or type(error).__name__
