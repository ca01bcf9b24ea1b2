"""Answers: the classes of `errors` as response objects, and the header fields that go with them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from asgi_export.asgi.coding import CODINGS
from asgi_export.errors import (
    BadRequest,
    ExportError,
    Forbidden,
    HeadersTooLarge,
    InternalError,
    MethodNotAllowed,
    NotFound,
    PreconditionRequired,
    QueryTooLong,
    TooManyRequests,
    Unauthorized,
    Unavailable,
)

Described = Mapping[str, Any]
"""One object of OpenAPI."""

PROBLEM_TYPE = "application/problem+json"

PROBLEMS: tuple[type[ExportError], ...] = (
    BadRequest,
    Unauthorized,
    Forbidden,
    NotFound,
    MethodNotAllowed,
    QueryTooLong,
    PreconditionRequired,
    TooManyRequests,
    HeadersTooLarge,
    InternalError,
    Unavailable,
)
"""One class for each status."""

ALWAYS = ("Cache-Control", "Vary", "X-Content-Type-Options", "X-Request-Id")
LIMITS = ("RateLimit-Policy", "RateLimit")

OF_PROBLEM = {
    Unauthorized.status: ("WWW-Authenticate",),
    MethodNotAllowed.status: ("Allow",),
    TooManyRequests.status: ("Retry-After", *LIMITS),
    Unavailable.status: ("Retry-After",),
}
"""What a problem's head has beside what every head has."""

_ITEM = r'"[ !#-\[\]-~]*"'


def _text(description: str, **schema: Any) -> Described:
    return {"description": description, "required": True, "schema": {"type": "string", **schema}}


HEADERS: Mapping[str, Described] = {
    "Allow": _text("the methods that there are"),
    "Cache-Control": _text("an answer is of its moment", const="no-store"),
    "Content-Disposition": _text("the file name, by RFC 6266", pattern="^attachment; filename="),
    "Content-Encoding": {
        "description": "what was chosen out of Accept-Encoding; missing for identity",
        "schema": {"type": "string", "enum": list(CODINGS)},
    },
    "RateLimit": _text(
        "what is left of the tightest limit, and for how many seconds", pattern=rf"^{_ITEM};r=\d+;t=\d+$"
    ),
    "RateLimit-Policy": _text(
        "the limits: so many requests (q) in any so many seconds (w)",
        pattern=rf"^{_ITEM};q=\d+;w=\d+(, {_ITEM};q=\d+;w=\d+)*$",
    ),
    "Retry-After": {
        "description": "seconds until it is worth another try",
        "required": True,
        "schema": {"type": "integer", "minimum": 1},
    },
    "Vary": _text("caches, beware", const="Accept-Encoding"),
    "WWW-Authenticate": _text("how to say who is asking", pattern="^Bearer "),
    "X-Accel-Buffering": _text("for nginx: pass it on as it comes", const="no"),
    "X-Content-Type-Options": _text("the media type is what it says", const="nosniff"),
    "X-Request-Id": _text("the request's name in the log", pattern="^[A-Za-z0-9._:+/=@-]{1,128}$"),
}

PROBLEM: Described = {
    "type": "object",
    "description": "RFC 9457, with a short text for simple clients and the request's name in the log",
    "properties": {
        "type": {"type": "string", "format": "uri-reference"},
        "title": {"type": "string"},
        "status": {"type": "integer"},
        "detail": {"type": "string", "description": "what came, what was expected, what to do"},
        "error": {"type": "string"},
        "request_id": {"type": "string"},
        "violated-policies": {"type": "array", "items": {"type": "string"}},
    },
    "required": ["type", "title", "status", "detail", "error", "request_id"],
}


def named(kind: str, name: str) -> Described:
    """A reference to a component."""
    return {"$ref": f"#/components/{kind}/{name}"}


def heads(names: Iterable[str]) -> Described:
    """Header fields by reference."""
    return {name: named("headers", name) for name in names}


def problem(error: type[ExportError], *, limited: bool) -> Described:
    """The answer to one class of failures."""
    members = {member: {"const": getattr(error, member)} for member in ("type", "title", "status", "error")}
    schema = {"allOf": [named("schemas", "Problem"), {"type": "object", "properties": members}]}
    names = [name for name in OF_PROBLEM.get(error.status, ()) if limited or name not in LIMITS]
    return {
        "description": (error.__doc__ or error.title).partition("\n")[0].partition(" RFC ")[0],
        "headers": heads([*ALWAYS, *names]),
        "content": {PROBLEM_TYPE: {"schema": schema}},
    }


def problems(errors: Iterable[type[ExportError]]) -> dict[str, Described]:
    """Responses by status, each a reference to the component of its class."""
    return {str(error.status): named("responses", error.__name__) for error in errors}
