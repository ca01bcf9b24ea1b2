"""The key that a request carries."""

from __future__ import annotations

from asgi_export.asgi.request import Request
from asgi_export.errors import BadRequest


def key_of(request: Request) -> str:
    """`apiKey`, else `X-API-Key`, else the bearer token (RFC 6750 §2.1); empty where there is none.

    A query that cannot be read carries no key: the application answers it.
    """
    try:
        pairs = request.parameters()
    except BadRequest:
        pairs = ()
    given = next((value for name, value in pairs if name == "apiKey"), "")
    return given or request.header(b"x-api-key") or _bearer(request)


def _bearer(request: Request) -> str:
    scheme, _, token = (request.header(b"authorization") or "").partition(" ")
    return token.strip() if scheme.lower() == "bearer" else ""
