"""Find the API key of a request."""

from __future__ import annotations

import re

from asgi_export.asgi.context import RequestContext
from asgi_export.errors import BadRequest

_KEY_AHEAD = re.compile(r"\?|%3f|api-?key", re.IGNORECASE)


def without_key(target: str) -> str:
    """Cut the query off a path or a target for a log, also one whose `?` a careless client has encoded.

    >>> without_key("/api/v1/exports/csv%3FapiKey=K")
    '/api/v1/exports/csv'
    """
    return _KEY_AHEAD.split(target, maxsplit=1)[0]


def key_of(context: RequestContext) -> str:
    """Return `apiKey`, else `X-API-Key`, else the bearer token (RFC 6750 §2.1), else an empty text.

    A query that cannot be parsed has no key; the application answers it with 400.
    """
    try:
        pairs = context.parameters()
    except BadRequest:
        pairs = ()
    given = next((value for name, value in pairs if name == "apiKey"), "")
    return given or context.request.header(b"x-api-key") or _bearer(context)


def _bearer(context: RequestContext) -> str:
    scheme, _, token = (context.request.header(b"authorization") or "").partition(" ")
    return token.strip() if scheme.lower() == "bearer" else ""
