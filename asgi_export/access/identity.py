"""The identity of a request, set by the middleware that authenticates it."""

from __future__ import annotations

from dataclasses import dataclass

from asgi_export.access.plans import OPEN, AccessPlan
from asgi_export.asgi.context import Key
from asgi_export.caller import Caller
from asgi_export.errors import ExportError


@dataclass(frozen=True, slots=True)
class Identity:
    """What authentication has found out about one request: the key of its limits, its rights, and its caller.

    `access` is the plan of the caller; None stands for `OPEN`. `refusal` is set for a request without valid
    credentials, which has no `caller`: the limiter counts the request before it answers with it, so that guessing is
    limited too.
    """

    window_key: str
    access: AccessPlan | None = None
    refusal: ExportError | None = None
    caller: Caller | None = None


IDENTITY: Key[Identity] = Key("identity")
"""Set by the middleware that authenticates requests; not set without one, when everything is open."""


def access_of(identity: Identity | None) -> AccessPlan:
    """Return the rights of a request."""
    return (identity and identity.access) or OPEN
