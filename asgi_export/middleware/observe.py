"""The outermost middleware: a request id for every answer, and one access log line for every request.

    request_id=… method=GET path=/api/v1/exports/csv status=200 bytes=50667 seconds=0.351 dataset=flights
    format=csv rows=1000 ending="complete"

The query string is never in it, so keys are not, and the path is percent-encoded, so nobody can forge a line.
"""

from __future__ import annotations

import logging
import time
from urllib.parse import quote

from asgi_export.asgi.exchange import Exchange, exchange_of
from asgi_export.asgi.message import ASGIApp, ASGISendEvent, HTTPScope, Receive, Scope, Send

logger = logging.getLogger("asgi_export.access")

MAX_PATH_CHARACTERS = 500


class Observe:
    """Around any ASGI application: makes the record of each request, and logs it when the answer has ended."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        exchange = exchange_of(scope)
        begun = time.monotonic()
        status = sent = 0

        async def count(message: ASGISendEvent) -> None:
            nonlocal status, sent
            await send(message)
            if message["type"] == "http.response.start":
                status = message["status"]
            elif message["type"] == "http.response.body":
                sent += len(message.get("body", b""))

        try:
            await self._app(scope, receive, count)
        finally:
            logger.info("%s", access_line(scope, exchange, status, sent, time.monotonic() - begun))


def access_line(scope: HTTPScope, exchange: Exchange, status: int, sent: int, seconds: float) -> str:
    """The line of one request; `status` is 0 where the client left before there was an answer."""
    fields = [
        f"request_id={exchange.request_id}",
        f"method={quote(scope['method'][:20])}",
        f"path={logged_path(scope['path'])}",
        f"status={status}",
        f"bytes={sent}",
        f"seconds={seconds:.3f}",
    ]
    if exchange.owner:
        fields.append(f"owner={exchange.owner}")
    if exchange.dataset:
        fields += [f"dataset={quote(exchange.dataset, errors='replace')}", f"format={exchange.format}"]
    if exchange.ending:
        fields += [f"rows={exchange.rows}", f'ending="{exchange.ending}"']
    return " ".join(fields)


def logged_path(path: str) -> str:
    """A path as a log holds it: one word, and without what a careless client put after a `?` or `;`."""
    bare = path.partition("?")[0]
    return quote(bare[:MAX_PATH_CHARACTERS], safe="/", errors="replace")
