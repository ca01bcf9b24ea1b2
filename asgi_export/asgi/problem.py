"""Answer with an `ExportError` as `application/problem+json`. RFC 9457."""

from __future__ import annotations

import json

from asgi_export.asgi.context import RequestContext
from asgi_export.asgi.message import Send, send_whole
from asgi_export.errors import ExportError, Header

MAX_DETAIL_CHARACTERS = 4000
"""A list of two thousand columns helps nobody, and an error must not repeat a megabyte of the client's own text."""


def common_headers(request_id: str) -> list[Header]:
    """Return the header fields of every answer, error or not."""
    return [
        (b"cache-control", b"no-store"),
        (b"vary", b"Accept-Encoding"),
        (b"x-content-type-options", b"nosniff"),
        (b"x-request-id", request_id.encode()),
    ]


def problem_body(error: ExportError, request_id: str) -> bytes:
    """Build the JSON document: the members of RFC 9457 §3.1, `error` for simple clients, the request's id.

    The text is ASCII with JSON escapes, so it holds no lone surrogates or control characters.
    """
    detail = error.detail
    if len(detail) > MAX_DETAIL_CHARACTERS:
        detail = detail[:MAX_DETAIL_CHARACTERS] + " …"
    document = {
        "type": error.type,
        "title": error.title,
        "status": error.status,
        "detail": detail,
        "error": error.error,
        "request_id": request_id,
        **error.members,
    }
    return json.dumps(document).encode() + b"\n"


async def send_problem(context: RequestContext, send: Send, error: ExportError) -> None:
    """Answer a request with `error`; its head must not have been sent."""
    request_id = context.request_id
    headers = [
        (b"content-type", b"application/problem+json"),
        *common_headers(request_id),
        *error.headers,
    ]
    await send_whole(send, error.status, headers, problem_body(error, request_id), method=context.request.method)
