"""Request bodies that nobody wants: taken from the server and dropped, as long as the server has some.

Hypercorn keeps ten messages of a request, and waits for room in that queue before it says that the client has gone,
also to an application that has answered and is not listening any more. A client that uploads small chunks would so
keep its connection, and the answer's last `send`, for ever. ASGI HTTP 2.5, Request.
"""

from __future__ import annotations

import asyncio
import logging
from typing import Any

from asgi_export.asgi.exchange import exchange_of
from asgi_export.asgi.message import ASGIApp, ASGIReceiveEvent, Receive

logger = logging.getLogger("asgi_export")


class WithoutRequestBodies:
    """Around any application that reads no body: it sees an empty one, and then the disconnect.

    A task a request alone calls the server's `receive`, and goes on until the server reports the disconnect, which
    comes after every answer as well; it may outlive the answer by as long as the client takes.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        self._dropping: set[asyncio.Task[None]] = set()

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        exchange_of(scope)  # so that the task below inherits the request's id
        body = _DroppedBody(receive)
        dropping = asyncio.create_task(body.drop(), name="asgi-export request body")
        self._dropping.add(dropping)
        dropping.add_done_callback(self._dropping.discard)
        await self._app(scope, body.receive, send)


class _DroppedBody:
    def __init__(self, receive: Receive) -> None:
        self._receive = receive
        self._begun = False
        self._disconnected = asyncio.Event()

    async def drop(self) -> None:
        try:
            while True:
                message = await self._receive()
                if message["type"] == "http.disconnect":
                    break
                await asyncio.sleep(0)  # a long body may come without a suspension
        except Exception:
            logger.warning("receive() failed; taken as a disconnect", exc_info=True)
        self._disconnected.set()

    async def receive(self) -> ASGIReceiveEvent:
        if not self._begun:
            self._begun = True
            return {"type": "http.request", "body": b"", "more_body": False}
        await self._disconnected.wait()
        return {"type": "http.disconnect"}
