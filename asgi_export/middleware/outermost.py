"""The outermost middleware of a service that reads no request bodies and has no websockets."""

from __future__ import annotations

import asyncio
from typing import Any

from asgi_export.asgi.context import context_of
from asgi_export.asgi.message import ASGIApp


class Outermost:
    """Wrap the whole service: make the context of each request, watch its disconnect, refuse websockets.

    Applications inside get an empty body, and then the disconnect. The watch may outlive the answer until the client
    has sent the rest of its body, which is dropped.

    A websocket is closed before it is accepted, which servers answer 403: the applications inside raise for every
    scope type that they do not know, and that would be a 500 with a traceback. ASGI WebSocket, Close.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        self._watches: set[asyncio.Task[None]] = set()

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "http":
            disconnect = context_of(scope).watch(receive)
            self._watches.add(disconnect.task)
            disconnect.task.add_done_callback(self._watches.discard)
            await self._app(scope, disconnect.receive, send)
        elif scope["type"] == "websocket":
            await receive()
            await send({"type": "websocket.close", "code": 1000, "reason": None})
        else:
            await self._app(scope, receive, send)
