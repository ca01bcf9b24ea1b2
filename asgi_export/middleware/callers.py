"""Says who is asking, by the key ring; to be put around `RateLimit`, which counts before it refuses."""

from __future__ import annotations

import asyncio
import signal
from typing import Any

from asgi_export.access.address import one_client
from asgi_export.access.callers import Caller, set_caller
from asgi_export.access.credentials import key_of
from asgi_export.access.key_file import KeyFile
from asgi_export.asgi.exchange import exchange_of
from asgi_export.asgi.lifespan import AroundLifespan
from asgi_export.asgi.message import ASGIApp, HTTPScope
from asgi_export.asgi.request import MAX_HEADER_BYTES, MAX_QUERY_BYTES, read_request
from asgi_export.errors import ExportError, Unauthorized

CHALLENGE = (b"www-authenticate", b'Bearer realm="exports"')


class ApiKeys:
    """Every request gets a `Caller`: the owner of its key, or a refusal for one whose key is missing or unknown.

    A known key is limited as its owner's key, the others by client address (see `one_client`). The file is read
    again when it changes, and on SIGHUP where the server leaves that signal free.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        keys: KeyFile,
        max_query_bytes: int = MAX_QUERY_BYTES,
        max_header_bytes: int = MAX_HEADER_BYTES,
    ) -> None:
        self._app = app
        self._keys = keys
        self._max_query_bytes = max_query_bytes
        self._max_header_bytes = max_header_bytes

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            around = AroundLifespan(receive, send, start=self._start, stop=self._stop)
            await self._app(scope, around.receive, around.send)
            return
        if scope["type"] == "http":
            self._identify(scope)
        await self._app(scope, receive, send)

    def _identify(self, scope: HTTPScope) -> None:
        try:
            request = read_request(
                scope, max_query_bytes=self._max_query_bytes, max_header_bytes=self._max_header_bytes
            )
        except ExportError as error:  # too large to be looked at, and so nobody's
            set_caller(scope, Caller("address:", refusal=error))
            return
        key = key_of(request)
        owner = self._keys.ring().find(key) if key else None
        if owner is not None:
            set_caller(scope, Caller(f"owner:{owner.name}", owner.plan))
            exchange_of(scope).owner = owner.name
            return
        reason = "unknown or expired API key" if key else "no API key"
        refusal = Unauthorized(f"{reason}; expected one as apiKey, X-API-Key or Bearer", headers=(CHALLENGE,))
        set_caller(scope, Caller(f"address:{one_client(request.client)}", refusal=refusal))

    async def _start(self) -> None:
        try:
            asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, self._keys.reload)
        except (NotImplementedError, RuntimeError, ValueError, AttributeError):
            return  # not the main thread, or a system without it: the file's time is looked at all the same

    async def _stop(self) -> None:
        try:
            asyncio.get_running_loop().remove_signal_handler(signal.SIGHUP)
        except (NotImplementedError, RuntimeError, ValueError, AttributeError):
            return  # as above
