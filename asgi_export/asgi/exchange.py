"""What one request and its answer leave for the log: one record a request, carried in the scope.

The outermost middleware that needs it creates it, everybody further in finds it. A scope entry of our own is
what ASGI allows for this (ASGI, Extensions and Middleware); the record is never shared between requests.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any, cast

from asgi_export.asgi.message import HTTPScope

SCOPE_KEY = "asgi_export"

REQUEST_ID: ContextVar[str] = ContextVar("asgi_export_request_id", default="")
"""The id of the request that is being served here, for log lines: its tasks and threads inherit it."""

_SANE_REQUEST_ID = re.compile(rb"[A-Za-z0-9._:+/=@-]{1,128}", re.ASCII)


@dataclass(slots=True)
class Exchange:
    """The record of one request. `ending` is empty for an answer that is no export; times are in seconds.

    `limiter_decision` is `admitted`, `refused`, or `unavailable` where there was none; where no limiter was asked
    `limiter_seconds` is None.

    `limits`, `metrics` and `checks` go inward: what the middleware around the application enforce, and whether they
    serve metrics, for those who describe the service, and what must answer for the process to be ready, by name; so
    does `caller`, who is asking.
    """

    request_id: str
    owner: str = ""
    dataset: str = ""
    format: str = ""
    rows: int = 0
    bytes: int = 0
    ending: str = ""
    first_byte_seconds: float | None = None
    limiter_seconds: float | None = None
    limiter_decision: str = "unavailable"
    limits: tuple[Mapping[str, object], ...] = ()
    metrics: bool = False
    caller: object = None
    checks: dict[str, Callable[[], Awaitable[None]]] = field(default_factory=dict)


def exchange_of(scope: HTTPScope) -> Exchange:
    """The record of this request, made on the first call."""
    entries = cast("MutableMapping[str, Any]", scope)
    found = entries.get(SCOPE_KEY)
    if not isinstance(found, Exchange):
        found = entries[SCOPE_KEY] = Exchange(_request_id(scope))
        REQUEST_ID.set(found.request_id)  # never reset: servers log what failed after us, and serve in a task each
    return found


def _request_id(scope: HTTPScope) -> str:
    """The client's `X-Request-Id` where it is sane (it goes into logs and heads), else 16 random hex digits."""
    for name, value in scope.get("headers") or ():
        if name.lower() == b"x-request-id" and _SANE_REQUEST_ID.fullmatch(value):
            return value.decode("ascii")
    return secrets.token_hex(8)
