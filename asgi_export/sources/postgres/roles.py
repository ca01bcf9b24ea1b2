"""Run an export as the role that its caller's claims name, so that row level security made for PostgREST holds.

https://docs.postgrest.org/en/stable/references/auth.html: `SET LOCAL ROLE`, and the claims as JSON in
`request.jwt.claims`. Both end with the transaction. The server decides whether the role may be taken.
"""

from __future__ import annotations

import json

from asgi_export.caller import Caller
from asgi_export.errors import Forbidden
from asgi_export.sources.postgres.literals import is_text, literal
from asgi_export.sources.sql import quoted
from asgi_export.values.text import json_text

CLAIMS = "request.jwt.claims"

MAX_NAME_BYTES = 63
"""The server cuts a longer identifier off, and then it may be another role. PostgreSQL, Identifiers and Key Words."""

NONE = "none"
"""Also in quotes it resets the role, to one with more rights; no role can be called so."""


def take_role(dataset: str, claim: str, caller: Caller | None) -> str:
    """Return the statements that take the role in a claim, for the end of those that open a transaction.

    Raises `Forbidden` if there is no caller, no such claim, or if it cannot be the name of a role.
    """
    role = caller.claims.get(claim) if caller else None
    if caller is None or not isinstance(role, str) or not _is_name(role):
        raise Forbidden(f"{dataset}: this caller has no role that may read it; expected a claim {claim!r}")
    claims = json.dumps(json.loads(json_text(dict(caller.claims))))  # as ASCII, for databases of every encoding
    set_claims = f"SELECT pg_catalog.set_config('{CLAIMS}', {literal(claims)}, true)"
    return f"; {set_claims}; SET LOCAL ROLE {quoted(role)}"


def _is_name(role: str) -> bool:
    return is_text(role) and role != NONE and 0 < len(role.encode()) <= MAX_NAME_BYTES
