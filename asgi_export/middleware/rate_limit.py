"""The limiter as ASGI middleware: an exact sliding window a key, in front of any application.

Heads follow draft-ietf-httpapi-ratelimit-headers-11: `RateLimit-Policy: "default";q=60;w=60` and
`RateLimit: "default";r=59;t=60`. Every answer that passes gets them, with the numbers of the decision that admitted
or refused the request.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from asgi_export.access.credentials import key_of
from asgi_export.access.identity import IDENTITY, access_of
from asgi_export.asgi.context import Key, RequestContext, context_of
from asgi_export.asgi.lifespan import AroundLifespan
from asgi_export.asgi.message import ASGIApp, ASGISendEvent, HTTPScope, Receive, Send
from asgi_export.asgi.problem import send_problem
from asgi_export.asgi.readiness import CHECKS
from asgi_export.asgi.request import MAX_HEADER_BYTES, MAX_QUERY_BYTES, RequestBounds, probe_of
from asgi_export.errors import ExportError, Header, TooManyRequests
from asgi_export.limiter.memory_store import MemoryStore
from asgi_export.limiter.rules import RULES
from asgi_export.limiter.sliding_window import Decision, Rule, RuleState
from asgi_export.limiter.store import Store

ANONYMOUS = "anonymous"
MAX_KEY_CHARACTERS = 64


@dataclass(frozen=True, slots=True)
class Admission:
    """The limiter's decision on one request, and the seconds that it took.

    `decision` is `admitted`, `refused`, or `unavailable` if the store did not decide.
    """

    decision: str
    seconds: float


ADMISSION: Key[Admission] = Key("admission")


class RateLimit:
    """Admit at most `limit` requests of a key in any `window_seconds`; answer the others 429.

    The key is the query's `apiKey`, else `X-API-Key`, else the bearer token, else ``anonymous``; each string has a
    window of its own. With `ApiKeys` around it, the caller's own key and rules apply. `/healthz`, `/readyz`,
    `/metrics`, every `OPTIONS` (a preflight has no key) and everything but HTTP pass uncounted. Pass `rules` for
    several windows at once.
    The store is started and closed with the lifespan; the default is a `MemoryStore`, exact for one process.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        store: Store | None = None,
        limit: int = 60,
        window_seconds: float = 60,
        rules: Sequence[Rule] | None = None,
        max_query_bytes: int = MAX_QUERY_BYTES,
        max_header_bytes: int = MAX_HEADER_BYTES,
    ) -> None:
        self._app = app
        self._store = store if store is not None else MemoryStore()
        self._rules = tuple(rules or [Rule(limit, round(window_seconds * 1e9))])
        self._bounds = RequestBounds(max_query_bytes, max_header_bytes)

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "http":
            await self._limit(scope, receive, send)
        elif scope["type"] == "lifespan":
            around = AroundLifespan(receive, send, start=self._store.start, stop=self._store.close)
            await self._app(scope, around.receive, around.send)
        else:
            await self._app(scope, receive, send)

    async def _limit(self, scope: HTTPScope, receive: Receive, send: Send) -> None:
        context = context_of(scope)
        _add_check(context, self._store)
        try:
            self._bounds.check(context.request)
            if context.request.method == "OPTIONS" or probe_of(context.request):
                await self._app(scope, receive, send)
                return
            identity = context.get(IDENTITY)
            key = identity.window_key if identity else key_of(context) or ANONYMOUS
            rules = access_of(identity).rules or self._rules
            context.set(RULES, rules)
            decision = await self._decide(stored_key(key), rules, context)
        except ExportError as error:
            await send_problem(context, send, error)
            return
        heads = limit_headers(decision)

        async def with_limits(message: ASGISendEvent) -> None:
            if message["type"] == "http.response.start":
                message = {**message, "headers": [*message["headers"], *heads]}
            await send(message)

        if not decision.allowed:
            await send_problem(context, with_limits, refusal(decision))
        elif identity and identity.refusal:
            await send_problem(context, with_limits, identity.refusal)
        else:
            await self._app(scope, receive, with_limits)

    async def _decide(self, key: str, rules: tuple[Rule, ...], context: RequestContext) -> Decision:
        begun, word = time.monotonic(), "unavailable"
        try:
            decision = await self._store.hit(key, rules)
            word = "admitted" if decision.allowed else "refused"
        finally:
            context.set(ADMISSION, Admission(word, time.monotonic() - begun))
        return decision


def _add_check(context: RequestContext, store: Store) -> None:
    checks = context.get(CHECKS) or {}
    context.set(CHECKS, {**checks, "limiter": store.check})


def stored_key(key: str) -> str:
    """Return the key, or its digest if it is long, so that a megabyte of key takes no megabyte of memory."""
    if len(key) <= MAX_KEY_CHARACTERS:
        return key
    return "blake2b:" + hashlib.blake2b(key.encode("utf-8", "surrogatepass"), digest_size=24).hexdigest()


def limit_headers(decision: Decision) -> list[Header]:
    """Build `RateLimit-Policy` with every rule and `RateLimit` with the tightest one, by revision 11 of the draft."""
    states = decision.states
    tightest = states[0] if len(states) == 1 else min(states, key=_tightness)
    limit = f'"{tightest.rule.name}";r={tightest.remaining};t={tightest.reset_seconds}'
    return [_policy(tuple([state.rule for state in states])), (b"ratelimit", limit.encode())]


@lru_cache(maxsize=256)
def _policy(rules: tuple[Rule, ...]) -> Header:
    """Build the policy header, cached: rules are the operator's, so there are few."""
    items = ", ".join([f'"{rule.name}";q={rule.limit};w={rule.window_seconds}' for rule in rules])
    return (b"ratelimit-policy", items.encode())


def _tightness(state: RuleState) -> tuple[int, int]:
    return (state.remaining, -state.reset_seconds)


def refusal(decision: Decision) -> TooManyRequests:
    """Make the error of a refused request; `violated-policies` is the extension member that the draft defines."""
    violated = [state.rule for state in decision.states if state.remaining == 0]
    allowed = " and ".join([f"{rule.limit} requests in any {rule.window_seconds} s" for rule in violated])
    wait = decision.retry_after_seconds
    return TooManyRequests(
        f"more than {allowed}; try again in {wait} s",
        headers=((b"retry-after", str(wait).encode()),),
        members={"violated-policies": [rule.name for rule in violated]},
    )
