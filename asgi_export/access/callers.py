"""Who is asking, as it travels with the request from the middleware that knows to those that act on it."""

from __future__ import annotations

from dataclasses import dataclass

from asgi_export.access.plans import OPEN, AccessPlan
from asgi_export.asgi.context import Key
from asgi_export.errors import ExportError


@dataclass(frozen=True, slots=True)
class Caller:
    """One request's caller: the key of its limits, its plan, and the error that it gets once it was counted.

    `owner` is a name that is safe in logs. `refusal` is set for a caller without a valid key: guessing keys is
    limited like everything else, so the limiter comes first.
    """

    window_key: str
    plan: AccessPlan | None = None
    refusal: ExportError | None = None
    owner: str = ""


CALLER: Key[Caller] = Key("caller")
"""Set by the middleware that identifies callers; not set if no keys are configured, and everything is open."""


def access_of(caller: Caller | None) -> AccessPlan:
    """The plan that the caller has."""
    return (caller and caller.plan) or OPEN
