"""What does the middleware add to a request?

Microseconds a raw ASGI call of an application that answers two bytes, with the middleware and without it, in one
coroutine: `RateLimit` with a memory store, for one key and for 10,000 keys, each of its requests admitted or nearly
all refused (then the 429 is made in place of the two bytes); and `Observe`, with its access log into /dev/null and
with metrics, alone and around `RateLimit`. Medians of 9, the sides alternating. The scope is what uvicorn gives for a
curl line through a proxy.

Decided: a path or a query without `%` is not decoded, the policies of a service are described once.

    python -m bench.middleware
"""

from __future__ import annotations

import asyncio
import logging
import os
import time
from collections.abc import Callable, Sequence
from contextlib import closing
from statistics import median
from typing import Any

from asgi_export import MemoryStore, Observe, RateLimit
from asgi_export.asgi.message import ASGIApp
from asgi_export.middleware.metrics import Metrics

REPEATS = 9
CALLS = 10_000
KEYS = 10_000
TARGET = 15.0
EXHAUSTED, ENDLESS = 1, 10**9
HEADERS = [
    (b"host", b"localhost:3000"),
    (b"user-agent", b"curl/8.5.0"),
    (b"accept", b"*/*"),
    (b"accept-encoding", b"deflate, gzip, zstd"),
    (b"x-forwarded-for", b"192.0.2.1"),
]

Scope = dict[str, Any]
Side = Callable[[], float]


async def two_bytes(_scope: Any, _receive: Any, send: Any) -> None:
    """The smallest application."""
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/plain")]})
    await send({"type": "http.response.body", "body": b"ok"})


async def receive() -> Any:
    """Nobody calls it."""
    raise AssertionError


async def send(_message: Any) -> None:
    """A server that drops what it is given."""


def scope_of(key: str) -> Scope:
    """A request on that key."""
    path = "/api/v1/exports/csv"
    return {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.3"},
        "http_version": "1.1",
        "method": "GET",
        "scheme": "http",
        "path": path,
        "raw_path": path.encode(),
        "query_string": f"total=10&columns=id,name&apiKey={key}".encode(),
        "root_path": "",
        "headers": HEADERS,
        "client": ("127.0.0.1", 52714),
        "server": ("127.0.0.1", 3000),
    }


def side(app: ASGIApp, scopes: Sequence[Scope]) -> Side:
    """Microseconds a call of an application; copying the scope is in it, on both sides."""

    async def run() -> float:
        began = time.perf_counter()
        for scope in scopes:
            await app(scope.copy(), receive, send)
        return (time.perf_counter() - began) / len(scopes) * 1e6

    return lambda: asyncio.run(run())


def compare(what: str, app: ASGIApp, scopes: Sequence[Scope], *, target: float | None = None) -> None:
    """One line: with, without, and what it adds."""
    with_it, without = side(app, scopes), side(two_bytes, scopes)
    with_it()  # keys come into the store
    turns = [(with_it(), without()) for _ in range(REPEATS)]
    ours, bare = [median(times) for times in zip(*turns, strict=True)]
    verdict = "" if target is None else f"   target {target:g} us {'met' if ours - bare <= target else 'MISSED'}"
    print(f"{what:46} {ours:6.2f} us   without {bare:5.2f} us   added {ours - bare:6.2f} us{verdict}", flush=True)


def limited(limit: int) -> RateLimit:
    """The limiter around two bytes."""
    return RateLimit(two_bytes, store=MemoryStore(), limit=limit)


def main() -> None:
    """All of it."""
    one, many = [scope_of("K")] * CALLS, [scope_of(f"key-{number}") for number in range(KEYS)]
    for where, scopes in (("one key", one), (f"{KEYS:,} keys", many)):
        compare(f"RateLimit, {where}, admitted", limited(ENDLESS), scopes, target=TARGET)
        compare(f"RateLimit, {where}, refused", limited(EXHAUSTED), scopes, target=TARGET)
    with closing(logging.FileHandler(os.devnull)) as handler:
        logger = logging.getLogger("asgi_export.access")
        logger.addHandler(handler)
        logger.setLevel(logging.INFO)
        compare("Observe with metrics and access log", Observe(two_bytes, metrics=Metrics()), one)
        compare("Observe around RateLimit", Observe(limited(ENDLESS), metrics=Metrics()), one)


if __name__ == "__main__":
    main()
