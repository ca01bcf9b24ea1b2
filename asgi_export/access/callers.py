"""Who is asking, as it travels with the request from the middleware that knows to those that act on it."""

from __future__ import annotations

from dataclasses import dataclass

from asgi_export.access.plans import OPEN, AccessPlan
from asgi_export.asgi.exchange import exchange_of
from asgi_export.asgi.message import HTTPScope
from asgi_export.errors import ExportError


@dataclass(frozen=True, slots=True)
class Caller:
    """One request's caller: the key of its limits, its plan, and the error that it gets once it was counted.

    `refusal` is set for a caller without a valid key: guessing keys is limited like everything else, so the
    limiter comes first.
    """

    window_key: str
    plan: AccessPlan | None = None
    refusal: ExportError | None = None


def caller_of(scope: HTTPScope) -> Caller | None:
    """The caller; None where no keys are configured, and everything is open."""
    found = exchange_of(scope).caller
    return found if isinstance(found, Caller) else None


def access_of(scope: HTTPScope) -> AccessPlan:
    """The plan that the caller has."""
    caller = caller_of(scope)
    return caller.plan if caller and caller.plan else OPEN


def set_caller(scope: HTTPScope, caller: Caller) -> None:
    """Note who is asking; for the middleware that finds out."""
    exchange_of(scope).caller = caller
