"""What breaks a response off, sent by hand: through queues, compression, and Starlette's own classes."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from starlette.middleware.base import BaseHTTPMiddleware
from starlette.middleware.gzip import GZipMiddleware

from asgi_export.asgi.break_off import BrokenOff, break_off, is_break
from asgi_export.asgi.message import body, head
from tests.doubles import http_scope


class Wire:
    """A server that joins what it is sent, as all of them do."""

    def __init__(self) -> None:
        self.data = b""
        self.complete = False

    async def send(self, message: Any) -> None:
        if message["type"] == "http.response.body":
            self.data += b"".join([b"%x" % len(message["body"]), message["body"]])
            self.complete = not message.get("more_body", False)
        elif self.data:
            raise RuntimeError("a second head")

    async def receive(self) -> Any:
        await asyncio.Event().wait()


async def breaking(scope: Any, receive: Any, send: Any) -> None:
    await send(head(200, [(b"content-type", b"text/csv")]))
    await send(body(b"half", more=True))
    await break_off(send)
    raise BrokenOff("the log has the reason")


class Passing(BaseHTTPMiddleware):
    async def dispatch(self, request: Any, call_next: Any) -> Any:
        return await call_next(request)


GZIP = [(b"accept-encoding", b"gzip")]


@pytest.mark.parametrize(
    ("stack", "headers"),
    [
        ([], []),
        ([Passing], []),
        ([Passing, Passing, Passing], []),
        ([GZipMiddleware, Passing], GZIP),
        ([Passing, GZipMiddleware], GZIP),
    ],
)
def test_no_response_is_completed(stack: list[Any], headers: Any) -> None:
    """The middleware are named from the inside to the outside.

    Older versions of Starlette raise what their task groups or gzip files make of it.
    """
    app: Any = breaking
    for middleware in stack:
        app = middleware(app)
    wire = Wire()
    with pytest.raises((BrokenOff, AssertionError, TypeError, ExceptionGroup)):
        asyncio.run(app(http_scope(headers=headers, scheme="http", server=None), wire.receive, wire.send))
    assert wire.data
    assert not wire.complete


def test_a_refusal_ends_nothing() -> None:
    """What a server or a middleware says to it is its own affair: the caller raises next."""
    kinds: list[str] = []

    async def refuse(message: Any) -> None:
        assert is_break(message)
        kinds.append(message["type"])
        raise ValueError("never heard of it")

    asyncio.run(break_off(refuse))
    assert kinds == ["http.response.body", "http.response.start", "http.response.body"]


def test_a_body_that_is_taken_is_followed_by_nothing() -> None:
    taken: list[Any] = []

    async def take(message: Any) -> None:
        taken.append(message)

    asyncio.run(break_off(take))
    assert [message["type"] for message in taken] == ["http.response.body"]
    for look in len, bytes, list, lambda found: found.encode("utf-8"):
        with pytest.raises(BrokenOff):
            look(taken[0]["body"])
    assert taken[0]["body"]
