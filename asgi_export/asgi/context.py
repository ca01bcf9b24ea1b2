"""One request, as everything that handles it shares it: read once, named once, its disconnect watched once.

The outermost wrapper that asks makes the context, everything further in finds it in the scope. A scope entry of our
own is what ASGI allows for this (ASGI, Extensions and Middleware); it is never shared between requests.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, MutableMapping
from contextvars import ContextVar
from typing import Any, Generic, TypeVar, cast

from asgi_export.asgi.message import ASGIReceiveEvent, HTTPScope, Receive
from asgi_export.asgi.request import Pairs, Request, parse_query, read_request
from asgi_export.tasks import wait_through

logger = logging.getLogger("asgi_export")

SCOPE_KEY = "asgi_export"

CLOSE_SECONDS = 1.0
"""For a `receive` that swallows its cancellation."""

REQUEST_ID: ContextVar[str] = ContextVar("asgi_export_request_id", default="")
"""The id of the request that is being served here, for log lines: its tasks and threads inherit it."""

T = TypeVar("T")


class Key(Generic[T]):
    """Name a value of type `T` that one room leaves in the context for another."""

    def __init__(self, name: str) -> None:
        self.name = name


METRICS_SERVED: Key[bool] = Key("metrics served")
"""Whether `/metrics` is answered by a middleware around the application."""


class RequestContext:
    """One request: as it was read, and what its handlers leave for each other under typed keys.

    `request.below` is relative to the innermost mount that has been reached. `disconnect` is None until something
    watches for it.
    """

    __slots__ = ("_left", "_parameters", "_paths", "disconnect", "request")

    def __init__(self, scope: HTTPScope) -> None:
        self.request: Request = read_request(scope)
        self.disconnect: Disconnect | None = None
        self._paths = _paths_of(scope)
        self._parameters: Pairs | None = None
        self._left: dict[Key[Any], Any] = {}

    @property
    def request_id(self) -> str:
        return self.request.request_id

    def parameters(self) -> Pairs:
        """The query's names and values in order. Raises `BadRequest` if they are not UTF-8."""
        if self._parameters is None:
            self._parameters = parse_query(self.request.query)
        return self._parameters

    def get(self, key: Key[T]) -> T | None:
        """The value that was set, or None."""
        return cast("T | None", self._left.get(key))

    def set(self, key: Key[T], value: T) -> None:
        """Leave a value for whoever reads that key."""
        self._left[key] = value

    def drop(self, key: Key[T]) -> T | None:
        """Take a value back, for whoever reads that key: what was set, or None."""
        return cast("T | None", self._left.pop(key, None))

    def watch(self, receive: Receive) -> Disconnect:
        """The disconnect, watched from now on if it was not already; `receive` is used only in that case."""
        if self.disconnect is None:
            self.disconnect = Disconnect(receive)
        return self.disconnect

    def follow(self, scope: HTTPScope) -> None:
        """Take the paths of a scope that a framework has copied for what it mounts."""
        paths = _paths_of(scope)
        if paths != self._paths:
            self._paths = paths
            self.request = self.request.at(scope)


def context_of(scope: HTTPScope) -> RequestContext:
    """The context of this request, made on the first call."""
    entries = cast("MutableMapping[str, Any]", scope)
    found = entries.get(SCOPE_KEY)
    if isinstance(found, RequestContext):
        found.follow(scope)
        return found
    context = entries[SCOPE_KEY] = RequestContext(scope)
    REQUEST_ID.set(context.request_id)  # never reset: servers log what failed after us, and serve in a task each
    return context


def _paths_of(scope: HTTPScope) -> tuple[object, object, object]:
    return scope["path"], scope.get("raw_path"), scope.get("root_path")


class Disconnect:
    """Watch for the client to leave, in one task that alone calls the server's `receive`.

    The request's body is dropped on the way. Hypercorn keeps ten messages of a request and waits for room in that
    queue before it reports a disconnect, also to an application that has answered; a client that uploads small
    chunks would so keep its connection for ever. After the disconnect `receive` is never called again, as some
    servers then block. `close` ends the watch early. ASGI HTTP 2.5, Request and Disconnected Client.
    """

    def __init__(self, receive: Receive) -> None:
        self._receive = receive
        self._left = asyncio.Event()
        self._callbacks: list[Callable[[], None]] = []
        self._body_read = False
        self.task = asyncio.create_task(self._watch(), name="asgi-export disconnect")

    def call_back(self, callback: Callable[[], None]) -> None:
        """Call once when the client leaves; at once if it has left already."""
        if self._left.is_set():
            callback()
        else:
            self._callbacks.append(callback)

    async def receive(self) -> ASGIReceiveEvent:
        """What an application inside may call instead of the server's: an empty body, then the disconnect."""
        if not self._body_read:
            self._body_read = True
            return {"type": "http.request", "body": b"", "more_body": False}
        await self._left.wait()
        return {"type": "http.disconnect"}

    async def close(self) -> None:
        """End the watch."""
        self.task.cancel()
        if await wait_through(self.task, seconds=CLOSE_SECONDS):
            raise asyncio.CancelledError

    async def _watch(self) -> None:
        try:
            message = await self._receive()
            while message["type"] != "http.disconnect":
                await asyncio.sleep(0)  # a long body may come without a suspension
                message = await self._receive()
        except Exception:
            logger.warning("receive() failed; taken as a disconnect", exc_info=True)
        self._left.set()
        for callback in self._callbacks:
            callback()
