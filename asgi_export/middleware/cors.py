"""Let pages of other origins read the answers: Cross-Origin Resource Sharing. WHATWG Fetch §3.2."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

from asgi_export.asgi.context import RequestContext, context_of
from asgi_export.asgi.message import ASGIApp, ASGISendEvent, send_whole
from asgi_export.asgi.problem import common_headers
from asgi_export.errors import Header

ANY = "*"
EXPECTED = "origins such as https://app.example, as browsers send them, with commas between, or * alone"
METHODS = b"GET, HEAD"
REQUEST_HEADERS = (
    b"Accept, Accept-Language, Authorization, Content-Type, If-Match, If-Modified-Since, If-None-Match, If-Range,"
    b" Range, X-API-Key, X-Request-Id"
)
EXPOSED = (
    b"Accept-Ranges, Content-Disposition, Content-Encoding, Content-Location, Content-Range, ETag, Link, RateLimit,"
    b" RateLimit-Policy, Retry-After, WWW-Authenticate, X-Request-Id"
)
MAX_AGE_SECONDS = 7200
"""How long a browser remembers a preflight; Chromium takes no longer one."""

_ORIGIN = re.compile(r"[a-z][a-z0-9+.-]*://([a-z0-9_.-]+|\[[0-9a-f:.]+\])(:[1-9][0-9]{0,4})?", re.ASCII)
_DEFAULT_PORT = re.compile(r"http://.*:80|https://.*:443")
_PREFLIGHT = (
    (b"allow", b"GET, HEAD, OPTIONS"),
    (b"access-control-allow-methods", METHODS),
    (b"access-control-allow-headers", REQUEST_HEADERS),
    (b"access-control-max-age", str(MAX_AGE_SECONDS).encode()),
)
_OURS = (b"access-control-allow-origin", b"access-control-allow-credentials", b"access-control-expose-headers")


class Cors:
    """Share the answers of an application with pages of `origins`, errors included, and answer preflights.

    A preflight needs no key and counts no hit, as it never reaches the application; put this around `RateLimit`,
    `ApiKeys` and `Callers`, and inside `Observe`. An origin is compared as a whole with the header field `Origin`,
    which is never sent back: what is sent is the configured text. Pages of listed origins may send cookies; with
    ``"*"``, which stands alone, every page may read what it gets without them.

    Raises `ValueError` for an origin that no browser sends: a path, a default port, a pattern, ``null``.
    """

    def __init__(self, app: ASGIApp, *, origins: Iterable[str]) -> None:
        self._app = app
        found = checked_origins(origins)
        self._any = found == (ANY,)
        self._origins = {origin: origin.encode() for origin in found}

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        context = context_of(scope)
        shared = self._share(context)
        if _is_preflight(context):
            heads = self._added([*common_headers(context.request_id), *_PREFLIGHT], shared)
            await send_whole(send, 204, heads, b"", method="OPTIONS")
            return

        async def with_cors(message: ASGISendEvent) -> None:
            if message["type"] == "http.response.start":
                message = {**message, "headers": self._added(message["headers"], shared)}
            await send(message)

        await self._app(scope, receive, with_cors)

    def _share(self, context: RequestContext) -> list[Header]:
        """Return the fields that let the page which asks read the answer; none for a page of another origin."""
        if self._any:
            return [(_OURS[0], b"*"), (_OURS[2], EXPOSED)]
        origin = self._origins.get(context.request.header(b"origin") or "")
        if origin is None:
            return []
        return [(_OURS[0], origin), (_OURS[1], b"true"), (_OURS[2], EXPOSED)]

    def _added(self, headers: Iterable[Header], shared: list[Header]) -> list[Header]:
        """Return the headers with those of this middleware in place of any that the application has set itself."""
        kept = [(name, value) for name, value in headers if name.lower() not in _OURS]
        return [*(kept if self._any else vary_by_origin(kept)), *shared]


def _is_preflight(context: RequestContext) -> bool:
    request = context.request
    asks = b"origin" in request.headers and b"access-control-request-method" in request.headers
    return asks and request.method == "OPTIONS"


def vary_by_origin(headers: Iterable[Header]) -> list[Header]:
    """Return the headers with `Origin` in one `Vary`, which also holds all that was there. RFC 9110 §12.5.5.

    >>> vary_by_origin([(b"vary", b"Accept-Encoding"), (b"etag", b'"1"')])
    [(b'etag', b'"1"'), (b'vary', b'Accept-Encoding, Origin')]
    """
    kept: list[Header] = []
    names: list[bytes] = []
    for name, value in headers:
        if name.lower() == b"vary":
            names += [found.strip() for found in value.split(b",") if found.strip()]
        else:
            kept.append((name, value))
    if not {b"*", b"origin"} & {found.lower() for found in names}:
        names.append(b"Origin")
    return [*kept, (b"vary", b", ".join(names))]


def parse_origins(text: str) -> tuple[str, ...]:
    """Parse origins with commas between, as a setting has them. Raises `ValueError`."""
    return checked_origins(found.strip() for found in text.split(","))


def checked_origins(origins: Iterable[str]) -> tuple[str, ...]:
    """Check origins, and return them. Raises `ValueError` for one that no browser can send. RFC 6454 §6.2."""
    found = tuple(dict.fromkeys(origins))
    for origin in found:
        if found != (ANY,) and (not _ORIGIN.fullmatch(origin) or _DEFAULT_PORT.fullmatch(origin)):
            raise ValueError(f"origin {origin!r}: expected {EXPECTED}")
    if not found:
        raise ValueError(f"no origins: expected {EXPECTED}")
    return found
