"""ASGI messages: the types of asgiref, and the two messages of a response.

ASGI HTTP & WebSocket 2.5, Response Start and Response Body.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from typing import Any, TypeAlias

from asgiref.typing import (
    ASGIReceiveCallable,
    ASGIReceiveEvent,
    ASGISendCallable,
    ASGISendEvent,
    HTTPResponseBodyEvent,
    HTTPResponseStartEvent,
    HTTPScope,
    LifespanScope,
    Scope,
)

from asgi_export.errors import Header

ASGIApp: TypeAlias = Callable[[Any, Any, Any], Awaitable[None]]
"""Any ASGI 3 application: the types of asgiref, Starlette and uvicorn exclude each other."""

Receive = ASGIReceiveCallable
Send = ASGISendCallable

__all__ = [
    "ASGIApp",
    "ASGIReceiveEvent",
    "ASGISendEvent",
    "HTTPResponseStartEvent",
    "HTTPScope",
    "LifespanScope",
    "Receive",
    "Scope",
    "Send",
    "body",
    "head",
    "send_head",
    "send_whole",
]


def head(status: int, headers: Iterable[Header]) -> HTTPResponseStartEvent:
    """Build the `http.response.start` message; header names are lower-case bytes."""
    return {"type": "http.response.start", "status": status, "headers": list(headers), "trailers": False}


def body(data: bytes, *, more: bool) -> HTTPResponseBodyEvent:
    """Build one `http.response.body` message; `more` is False on the last one."""
    return {"type": "http.response.body", "body": data, "more_body": more}


async def send_whole(send: Send, status: int, headers: Iterable[Header], data: bytes, *, method: str) -> None:
    """Send a small response at once; without its body if the method is HEAD (RFC 9110 §9.3.2).

    An `OSError` from `send` means that the client has left, and is ignored. ASGI HTTP 2.4.
    """
    length = (b"content-length", str(len(data)).encode())
    unframed = status == 204  # RFC 9110 §8.6: no content-length there
    try:
        await send(head(status, [*headers] if unframed else [*headers, length]))
        await send(body(b"" if method == "HEAD" else data, more=False))
    except OSError:
        return


async def send_head(send: Send, start: HTTPResponseStartEvent) -> None:
    """Send the head of a body of unknown length, and no body: the answer to HEAD of a stream."""
    try:
        await send(start)
        await send(body(b"", more=False))
    except OSError:
        return
