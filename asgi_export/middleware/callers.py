"""Identify callers by their API keys. Put it around `RateLimit`, which counts a request before it refuses it."""

from __future__ import annotations

from typing import Any

from asgi_export.access.address import one_client
from asgi_export.access.credentials import key_of
from asgi_export.access.identity import IDENTITY, Identity
from asgi_export.access.plans import Keys
from asgi_export.asgi.context import RequestContext, context_of
from asgi_export.asgi.message import ASGIApp
from asgi_export.errors import Unauthorized

CHALLENGE = (b"www-authenticate", b'Bearer realm="exports"')


class ApiKeys:
    """Give every request an `Identity`: that of its key's owner, or a refusal if the key is missing or unknown.

    A request with a known key is limited by its owner, any other by its address (see `one_client`). A `KeyFile` is
    read again when it changes; a `KeyRing` is fixed.
    """

    def __init__(self, app: ASGIApp, *, keys: Keys) -> None:
        self._app = app
        self._keys = keys

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "http":
            context = context_of(scope)
            context.set(IDENTITY, self._identify(context))
        await self._app(scope, receive, send)

    def _identify(self, context: RequestContext) -> Identity:
        key = key_of(context)
        owner = self._keys.find(key) if key else None
        if owner is not None:
            return Identity(f"owner:{owner.name}", owner.plan, caller=owner.caller)
        reason = "unknown or expired API key" if key else "no API key"
        refusal = Unauthorized(f"{reason}; expected one as apiKey, X-API-Key or Bearer", headers=(CHALLENGE,))
        return Identity(f"address:{one_client(context.request.client)}", refusal=refusal)
