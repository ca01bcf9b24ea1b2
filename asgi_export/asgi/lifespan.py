"""The lifespan protocol around a pair of callables. ASGI Lifespan 2.0."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable

from asgi_export.asgi.message import Receive, Send
from asgi_export.errors import StartupError

logger = logging.getLogger("asgi_export")

Step = Callable[[], Awaitable[None]]


async def answer_lifespan(receive: Receive, send: Send, *, start: Step, stop: Step) -> None:
    """Run `start` and `stop` when the server says so.

    A failing start is sent as `lifespan.startup.failed` with its reason, upon which servers exit; so is a
    failing stop, which is logged too.
    """
    while True:
        message = await receive()
        if message["type"] == "lifespan.startup":
            try:
                await start()
            except Exception as error:
                if not isinstance(error, StartupError):
                    logger.exception("the start failed")
                await send({"type": "lifespan.startup.failed", "message": str(error) or type(error).__name__})
                return
            await send({"type": "lifespan.startup.complete"})
        elif message["type"] == "lifespan.shutdown":
            try:
                await stop()
            except Exception as error:
                logger.exception("the shut-down failed")
                await send({"type": "lifespan.shutdown.failed", "message": str(error)})
                return
            await send({"type": "lifespan.shutdown.complete"})
            return
