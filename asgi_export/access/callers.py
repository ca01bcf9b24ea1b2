"""The caller of a request, set by the middleware that identifies it."""

from __future__ import annotations

from dataclasses import dataclass

from asgi_export.access.plans import OPEN, AccessPlan
from asgi_export.asgi.context import Key
from asgi_export.errors import ExportError


@dataclass(frozen=True, slots=True)
class Caller:
    """The caller of one request: the key of its limits, its plan, and its refusal.

    `owner` is a name that is safe in logs. `refusal` is set for a caller without a valid key: the limiter counts the
    request before it answers with it, so that guessing keys is limited too.
    """

    window_key: str
    plan: AccessPlan | None = None
    refusal: ExportError | None = None
    owner: str = ""


CALLER: Key[Caller] = Key("caller")
"""Set by the middleware that identifies callers; not set if no keys are configured, when everything is open."""


def access_of(caller: Caller | None) -> AccessPlan:
    """Return the plan of the caller."""
    return (caller and caller.plan) or OPEN
