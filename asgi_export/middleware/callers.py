"""Authenticate requests. Put it around `RateLimit`, which counts a request before it refuses it."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from asgi_export.access.credentials import key_of
from asgi_export.access.identity import CHALLENGE, IDENTITY, Identity, known, stranger
from asgi_export.access.plans import AccessPlan, KeyRing, Keys
from asgi_export.access.tokens import Tokens, looks_like_token
from asgi_export.asgi.context import RequestContext, context_of
from asgi_export.asgi.lifespan import AroundLifespan
from asgi_export.asgi.message import ASGIApp
from asgi_export.asgi.request import probe_of
from asgi_export.caller import Caller
from asgi_export.errors import InternalError, Unauthorized, Unavailable

logger = logging.getLogger("asgi_export")

Identify = Callable[[Any], Awaitable[Caller | None]]


class ApiKeys:
    """Give every request an `Identity`: that of its key or token, or a refusal if there is none that is known.

    Callers are limited by their ids, all other requests by the client's address (see `one_client`). A `KeyFile` is
    read again when it changes; a `KeyRing` is fixed. With `tokens`, a key that looks like a JSON Web Token is one;
    its plan is one of `keys`. The keys of tokens are fetched with the lifespan, or by the first request without one.
    """

    def __init__(self, app: ASGIApp, *, keys: Keys | None = None, tokens: Tokens | None = None) -> None:
        if keys is None and tokens is None:
            raise ValueError("expected keys, tokens, or both")
        self._app = app
        self._keys: Keys = keys if keys is not None else KeyRing()
        self._tokens = tokens

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "http":
            context = context_of(scope)
            context.set(IDENTITY, await self._identify(context))
        elif scope["type"] == "lifespan" and self._tokens is not None:
            around = AroundLifespan(receive, send, start=self._tokens.start, stop=self._tokens.close)
            receive, send = around.receive, around.send
        await self._app(scope, receive, send)

    async def _identify(self, context: RequestContext) -> Identity:
        key = key_of(context)
        if self._tokens is not None and looks_like_token(key):
            return await self._identify_by_token(context, self._tokens, key)
        owner = self._keys.find(key) if key else None
        if owner is not None:
            return Identity(f"owner:{owner.name}", owner.plan, caller=owner.caller)
        reason = "unknown or expired API key" if key else "no API key"
        refusal = Unauthorized(f"{reason}; expected one as apiKey, X-API-Key or Bearer", headers=(CHALLENGE,))
        return stranger(context.request.client, refusal)

    async def _identify_by_token(self, context: RequestContext, tokens: Tokens, token: str) -> Identity:
        """Probes and `OPTIONS` are answered anyway, and cost no signature."""
        request = context.request
        try:
            if request.method == "OPTIONS" or probe_of(request):
                raise Unauthorized("a token was not read; expected a request that needs one", headers=(CHALLENGE,))
            return known(await tokens.find(token), self._keys.plans)
        except (Unauthorized, Unavailable) as refusal:
            return stranger(request.client, refusal)


class Callers:
    """Let the login of a framework decide who asks: `identify` gets the scope and returns a `Caller`, or None.

    It sees what outer middleware has left in the scope (a session, a user), and is called once a request, but not for
    `OPTIONS` and probes, which need no caller. None is a 401, after `RateLimit` has counted the request by its client
    address; callers are limited by their ids. If `identify` raises or returns something else, the answer is a 500 and
    the log has the reason.

    `plans` are the `AccessPlan`s by name. If there are some, a caller must name one of them, else the answer is 403.
    """

    def __init__(self, app: ASGIApp, identify: Identify, plans: Mapping[str, AccessPlan] | None = None) -> None:
        self._app = app
        self._identify = identify
        self._plans = dict(plans or {})

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "http":
            context = context_of(scope)
            context.set(IDENTITY, await self._identity(scope, context))
        await self._app(scope, receive, send)

    async def _identity(self, scope: Any, context: RequestContext) -> Identity:
        client, request = context.request.client, context.request
        refusal = Unauthorized("no caller; expected a request that is logged in", headers=(CHALLENGE,))
        if request.method == "OPTIONS" or probe_of(request):  # nothing is refused there; what is must have a caller
            return stranger(client, refusal, by_key=False)
        try:
            caller = await self._identify(scope)
            if isinstance(caller, Caller):
                return known(caller, self._plans, by_key=False)
            if caller is not None:
                raise TypeError(f"identify returned {type(caller).__name__}; expected a Caller or None")
        except Exception:
            logger.exception("request %s: its caller cannot be identified", context.request_id)
            failure = InternalError("the caller cannot be identified; the log has the reason")
            return stranger(client, failure, by_key=False)
        return stranger(client, refusal, by_key=False)
