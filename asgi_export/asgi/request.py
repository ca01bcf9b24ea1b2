"""Read a request from a scope: the path below the mount, the query string as bytes, the header fields.

A scope may have no more than type, method, path, query string and headers, and servers differ in what `path` and
`raw_path` hold. Only what all of them give is read here. ASGI HTTP 2.5, HTTP Connection Scope.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple
from urllib.parse import unquote_to_bytes

from asgi_export.asgi.message import HTTPScope
from asgi_export.errors import BadRequest, HeadersTooLarge, QueryTooLong

MAX_QUERY_BYTES = 8192
"""Servers fail past 15 KB, each in its own way."""

MAX_HEADER_BYTES = 32 * 1024

ACCEPT_ENCODING = b"accept-encoding"
REQUEST_ID_HEADER = b"x-request-id"

_SANE_REQUEST_ID = re.compile(rb"[A-Za-z0-9._:+/=@-]{1,128}", re.ASCII)

PROBES = ("healthz", "readyz", "metrics")
"""Paths beside the exports that are neither limited nor need a key."""

Segments = tuple[str, ...]
Pairs = tuple[tuple[str, str], ...]


class Request(NamedTuple):
    """One HTTP request. A tuple takes a fifth of the time that a frozen dataclass takes to make.

    `root` has the segments of the mount, none without a mount: those of `root_path`, or what a framework removed from
    `path` and left in `raw_path` (Litestar). `below` has the decoded segments of the path under the mount, `full` all
    of them (servers disagree on whether `path` includes `root_path`). A trailing slash is dropped.
    `headers` has the first field of each lower-case name; `accept-encoding` is a list, and all its lines are joined
    (RFC 9110 §5.3). `header_bytes` is the size of all fields as received. `client` is the address of the peer, empty
    if the server gives none. `request_id` is the client's `X-Request-Id` if it is safe in logs and heads, else 16
    random hex digits.
    """

    request_id: str
    method: str
    http_version: str
    below: Segments
    full: Segments
    root: Segments
    query: bytes
    headers: Mapping[bytes, bytes]
    header_bytes: int
    client: str

    @property
    def mounted(self) -> bool:
        return bool(self.root)

    def header(self, name: bytes) -> str | None:
        """Return a header field as text without surrounding blanks; None if it is missing or empty."""
        value = self.headers.get(name, b"").decode("latin-1").strip()
        return value or None

    def at(self, scope: HTTPScope) -> Request:
        """Return the same request with the paths of another scope, which a framework made for a mount."""
        below, full, root = _read_paths(scope)
        return self._replace(below=below, full=full, root=root)


@dataclass(frozen=True, slots=True)
class RequestBounds:
    """Bound the bytes of the query string and of all header fields."""

    max_query_bytes: int = MAX_QUERY_BYTES
    max_header_bytes: int = MAX_HEADER_BYTES

    def check(self, request: Request) -> None:
        """Raise `QueryTooLong` or `HeadersTooLarge` for a request past the bounds."""
        size, most = len(request.query), self.max_query_bytes
        if size > most:
            raise QueryTooLong(f"the query string has {size} bytes; expected at most {most}")
        size, most = request.header_bytes, self.max_header_bytes
        if size > most:
            raise HeadersTooLarge(f"the header fields have {size} bytes; expected at most {most}")


def read_request(scope: HTTPScope) -> Request:
    """Read a scope; `context_of` calls this once a request."""
    below, full, root = _read_paths(scope)
    headers, header_bytes = _read_headers(scope)
    client = scope.get("client")
    return Request(
        request_id=_request_id(headers),
        method=scope["method"].upper(),
        http_version=scope.get("http_version") or "1.1",
        below=below,
        full=full,
        root=root,
        query=scope.get("query_string") or b"",
        headers=headers,
        header_bytes=header_bytes,
        client=str(client[0]) if client else "",
    )


def _request_id(headers: Mapping[bytes, bytes]) -> str:
    given = headers.get(REQUEST_ID_HEADER, b"")
    return given.decode("ascii") if _SANE_REQUEST_ID.fullmatch(given) else secrets.token_hex(8)


def _below(full: Segments, root: Segments) -> Segments:
    """Remove the mount from the path: the longest tail of `root_path` that the path begins with.

    The path may lack the server's own root path (Hypercorn) and still have what a framework mounts below it.
    """
    for start in range(len(root)):
        tail = root[start:]
        if full[: len(tail)] == tail:
            return full[len(tail) :]
    return full


def probe_of(request: Request) -> str:
    """Return the probe that the path names, with or without the mount; empty for another path."""
    for path in (request.below, request.full):
        if len(path) == 1 and path[0] in PROBES:
            return path[0]
    return ""


def _read_paths(scope: HTTPScope) -> tuple[Segments, Segments, Segments]:
    """Return the path below the mount, the whole path, and the mount."""
    path, root = _origin_form(scope["path"]), _split(scope.get("root_path") or "")
    whole = _raw_segments(scope)
    start = None if whole is None else _start_of(path.removeprefix("/"), whole)
    if whole is None or start is None:  # `raw_path` is that of another address, or adds nothing to the path
        given = _split(path)
        return _below(given, root), given, root
    if not start:
        return _below(whole, root), whole, root
    return whole[start:], whole, _join_mounts(root, whole[:start])


def _raw_segments(scope: HTTPScope) -> Segments | None:
    """Split `raw_path`, then decode its segments, so that `%2F` is no separator. RFC 3986 §2.4, §3.3.

    None if it is missing, or the same as the path.
    """
    raw: Any = scope.get("raw_path")
    if not isinstance(raw, bytes):
        return None
    text = raw.partition(b"?")[0].decode("latin-1")
    if text == scope["path"] and "%" not in text:
        return None
    pieces = _split(_origin_form(text))
    return tuple([unquote_to_bytes(piece.encode("latin-1")).decode("utf-8", "replace") for piece in pieces])


def _start_of(path: str, whole: Segments) -> int | None:
    """Return where the tail of `whole` begins that equals the path, with or without a trailing slash."""
    if not path:
        return len(whole)
    for wanted in (path, path.removesuffix("/")):
        length, start = -1, len(whole)
        while start and length < len(wanted):  # an encoded slash has become a character of its segment
            start -= 1
            length += 1 + len(whole[start])
        if "/".join(whole[start:]) == wanted:
            return start
    return None


def _join_mounts(root: Segments, cut: Segments) -> Segments:
    """Return the mount: `root_path` may have nothing of it, the server's part only, or all that was cut off."""
    if root[-len(cut) :] == cut:
        return root
    return cut if cut[: len(root)] == root else root + cut


def _origin_form(path: str) -> str:
    """Return the path of an absolute-form target, which some servers pass on unchanged. RFC 9112 §3.2.2."""
    scheme, found, rest = path.partition("://")
    if not found or "/" in scheme:
        return path
    return "/" + rest.partition("/")[2]


def _split(path: str) -> Segments:
    segments = path.removeprefix("/").split("/")
    if segments[-1] == "":
        segments.pop()
    return tuple(segments)


def _read_headers(scope: HTTPScope) -> tuple[Mapping[bytes, bytes], int]:
    """Return the fields by name, and the size of all of them."""
    headers: dict[bytes, bytes] = {}
    size = 0
    for name, value in scope.get("headers") or ():
        size += len(name) + len(value)
        found = headers.setdefault(name.lower(), value)
        if found is value:
            continue
        if name.lower() == ACCEPT_ENCODING:
            headers[ACCEPT_ENCODING] = found + b", " + value
        elif name.lower() == REQUEST_ID_HEADER and not _SANE_REQUEST_ID.fullmatch(found):
            headers[REQUEST_ID_HEADER] = value
    return headers, size


def parse_query(query: bytes) -> Pairs:
    """Parse `application/x-www-form-urlencoded` into pairs of text, in order, with their blanks. WHATWG URL §5.1.

    >>> parse_query(b"columns=id%2Cname&total=1+0&flag")
    (('columns', 'id,name'), ('total', '1 0'), ('flag', ''))
    """
    query = query.replace(b"+", b" ")
    if b"%" not in query:  # decoded at once, in half the time
        plain = [piece.partition("=") for piece in _decode(query).split("&") if piece]
        return tuple([(name, value) for name, _, value in plain])
    pieces = [piece.partition(b"=") for piece in query.split(b"&") if piece]
    return tuple([(_decode(unquote_to_bytes(name)), _decode(unquote_to_bytes(value))) for name, _, value in pieces])


def _decode(text: bytes) -> str:
    try:
        return text.decode("utf-8")
    except UnicodeDecodeError:
        raise BadRequest("the query string is not UTF-8; expected percent-encoded UTF-8") from None
