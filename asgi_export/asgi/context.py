"""The context of one request: its parsed scope, its id, its disconnect, and values that handlers leave for others.

The outermost wrapper that asks for the context makes it; everything further in finds it in the scope, under a key of
this package (ASGI, Extensions and Middleware). It is never shared between requests.
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
"""Time that `close` waits for a `receive` that swallows its cancellation."""

REQUEST_ID: ContextVar[str] = ContextVar("asgi_export_request_id", default="")
"""The id of the current request, for log lines; its tasks and threads inherit it."""

T = TypeVar("T")


class Key(Generic[T]):
    """Name a value of type `T` that one room leaves in the context for another."""

    def __init__(self, name: str) -> None:
        self.name = name


METRICS_SERVED: Key[bool] = Key("metrics served")
"""Whether `/metrics` is answered by a middleware around the application."""


class RequestContext:
    """Hold one parsed request and the values that its handlers leave for each other under typed keys.

    `request.below` is relative to the innermost mount that has been reached. `disconnect` is None until `watch` is
    called.
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
        """Parse the query, once: names and values in order. Raises `BadRequest` if they are not UTF-8."""
        if self._parameters is None:
            self._parameters = parse_query(self.request.query)
        return self._parameters

    def get(self, key: Key[T]) -> T | None:
        """Return the value of the key, or None."""
        return cast("T | None", self._left.get(key))

    def set(self, key: Key[T], value: T) -> None:
        """Set the value of the key."""
        self._left[key] = value

    def drop(self, key: Key[T]) -> T | None:
        """Remove the value of the key and return it, or None."""
        return cast("T | None", self._left.pop(key, None))

    def watch(self, receive: Receive) -> Disconnect:
        """Start to watch for the disconnect, or return the watch that runs already and leave `receive` alone."""
        if self.disconnect is None:
            self.disconnect = Disconnect(receive)
        return self.disconnect

    def follow(self, scope: HTTPScope) -> None:
        """Read the paths again from a scope that a framework has copied for a mount."""
        paths = _paths_of(scope)
        if paths != self._paths:
            self._paths = paths
            self.request = self.request.at(scope)


def context_of(scope: HTTPScope) -> RequestContext:
    """Return the context of this request; make it on the first call."""
    entries = cast("MutableMapping[str, Any]", scope)
    found = entries.get(SCOPE_KEY)
    if isinstance(found, RequestContext):
        found.follow(scope)
        return found
    context = entries[SCOPE_KEY] = RequestContext(scope)
    # Never reset: servers log failures after the application has returned, and serve each request in its own task.
    REQUEST_ID.set(context.request_id)
    return context


def _paths_of(scope: HTTPScope) -> tuple[object, object, object]:
    return scope["path"], scope.get("raw_path"), scope.get("root_path")


class Disconnect:
    """Watch for the client to leave, in one task that alone calls the server's `receive`.

    The request's body is read and dropped. Hypercorn queues ten messages of a request and waits for room in that
    queue before it reports a disconnect, even after the answer: a client that uploads small chunks would keep its
    connection for ever. After the disconnect `receive` is never called again, as some servers then block. `close`
    ends the watch early. ASGI HTTP 2.5, Request and Disconnected Client.
    """

    def __init__(self, receive: Receive) -> None:
        self._receive = receive
        self._left = asyncio.Event()
        self._callbacks: list[Callable[[], None]] = []
        self._body_read = False
        self.task = asyncio.create_task(self._watch(), name="asgi-export disconnect")

    def call_back(self, callback: Callable[[], None]) -> None:
        """Call `callback` once when the client leaves, or now if it has left already."""
        if self._left.is_set():
            callback()
        else:
            self._callbacks.append(callback)

    async def receive(self) -> ASGIReceiveEvent:
        """Stand in for the server's `receive`, for an application inside: an empty body, then the disconnect."""
        if not self._body_read:
            self._body_read = True
            return {"type": "http.request", "body": b"", "more_body": False}
        await self._left.wait()
        return {"type": "http.disconnect"}

    async def close(self) -> None:
        """End the watch."""
        self.task.cancel()
        # A cancellation that arrives here must not leave a task that still calls `receive`; it is raised afterwards.
        if await wait_through(self.task, seconds=CLOSE_SECONDS):
            raise asyncio.CancelledError

    async def _watch(self) -> None:
        try:
            message = await self._receive()
            while message["type"] != "http.disconnect":
                await asyncio.sleep(0)  # `receive` may return the whole of a long body without suspending
                message = await self._receive()
        except Exception:
            logger.warning("receive() failed; taken as a disconnect", exc_info=True)
        # No await from here on: `call_back` sees the flag, or its callback is in the list; never both, never neither.
        self._left.set()
        for callback in self._callbacks:
            callback()
