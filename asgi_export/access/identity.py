"""The identity of a request, set by the middleware that authenticates it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from asgi_export.access.address import one_client
from asgi_export.access.plans import OPEN, AccessPlan
from asgi_export.asgi.context import Key
from asgi_export.caller import Caller
from asgi_export.errors import ExportError, Forbidden, Header

CHALLENGE: Header = (b"www-authenticate", b'Bearer realm="exports"')


@dataclass(frozen=True, slots=True)
class Identity:
    """What authentication has found out about one request: the key of its limits, its rights, and its caller.

    `access` is the plan of the caller; None stands for `OPEN`. `refusal` is the error to answer with, for a request
    without valid credentials or a caller without a plan: the limiter counts the request first, so that guessing is
    limited too. `by_key` is False if requests are authenticated by something else than keys and tokens, which is
    nothing that the OpenAPI document could describe.
    """

    window_key: str
    access: AccessPlan | None = None
    refusal: ExportError | None = None
    caller: Caller | None = None
    by_key: bool = True


IDENTITY: Key[Identity] = Key("identity")
"""Set by the middleware that authenticates requests; not set without one, when everything is open."""


def stranger(address: str, refusal: ExportError, *, by_key: bool = True) -> Identity:
    """Return the identity of a request without valid credentials, limited by the client's address."""
    return Identity(f"address:{one_client(address)}", refusal=refusal, by_key=by_key)


def known(caller: Caller, plans: Mapping[str, AccessPlan], *, by_key: bool = True) -> Identity:
    """Return the identity of a caller, limited by its id, with the rights of its plan.

    If there are plans, a caller must have one of them: nobody gets all rights because a name is missing or misspelt.
    """
    key = f"owner:{caller.id}"
    access = plans.get(caller.plan) if caller.plan is not None else None
    if access is None and (plans or caller.plan is not None):
        found = "no plan" if caller.plan is None else f"plan={caller.plan}"
        refusal = Forbidden(f"{found}: expected a plan of this service")
        return Identity(key, refusal=refusal, caller=caller, by_key=by_key)
    return Identity(key, access, caller=caller, by_key=by_key)


def access_of(identity: Identity | None) -> AccessPlan:
    """Return the rights of a request."""
    return (identity and identity.access) or OPEN
