"""From scope to request: the path below the mount, the query string from its bytes, the header fields.

A scope may lack everything but type, method, path, query string and headers, and servers differ in what `path`
and `raw_path` hold; what is read here is what all of them give. ASGI HTTP 2.5, HTTP Connection Scope.
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
    """One HTTP request, read once; a tuple, as that is made in a fifth of the time of a frozen dataclass.

    `root` are the segments of the mount, none where it is not mounted: those of `root_path`, or what a framework cut
    off `path` and left in `raw_path` (Litestar). `below` are the path's decoded segments under it, `full` all of them
    (servers disagree on whether `path` holds `root_path`); a trailing slash is dropped.
    `headers` are by lower-case name, the first of each; `accept-encoding` is a list, all of whose lines count
    (RFC 9110 §5.3). `header_bytes` is the size of all of them as they came. `client` is the peer's address, empty if
    the server gives none. `request_id` is the client's `X-Request-Id` if it is safe in logs and heads, else 16 random
    hex digits.
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
        """One header field as text, blanks around it dropped; None where it is missing or empty."""
        value = self.headers.get(name, b"").decode("latin-1").strip()
        return value or None

    def at(self, scope: HTTPScope) -> Request:
        """The same request with the paths of another scope, which a framework made for what it mounts."""
        below, full, root = _read_paths(scope)
        return self._replace(below=below, full=full, root=root)


@dataclass(frozen=True, slots=True)
class RequestBounds:
    """Bytes that the query string and all header fields of a request may have."""

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
    """Read a scope: once a request, by `context_of`."""
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
    """The path without the mount: without the longest tail of `root_path` that it begins with.

    A server's own root path may be missing in the path (Hypercorn) while what a framework mounts below it is there.
    """
    for start in range(len(root)):
        tail = root[start:]
        if full[: len(tail)] == tail:
            return full[len(tail) :]
    return full


def probe_of(request: Request) -> str:
    """The probe that the path names, with or without the mount; empty where it names none."""
    for path in (request.below, request.full):
        if len(path) == 1 and path[0] in PROBES:
            return path[0]
    return ""


def _read_paths(scope: HTTPScope) -> tuple[Segments, Segments, Segments]:
    """The path below the mount, the whole of it, and the mount."""
    path, root = _origin_form(scope["path"]), _split(scope.get("root_path") or "")
    whole = _raw_segments(scope)
    start = None if whole is None else _start_of(path.removeprefix("/"), whole)
    if whole is None or start is None:  # `raw_path` is of another address, or says no more than the path
        given = _split(path)
        return _below(given, root), given, root
    if not start:
        return _below(whole, root), whole, root
    return whole[start:], whole, _join_mounts(root, whole[:start])


def _raw_segments(scope: HTTPScope) -> Segments | None:
    """Those of `raw_path`, decoded after the split, so that `%2F` is no separator. RFC 3986 §2.4, §3.3.

    None where it is missing, or the same as the path.
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
    """Where the tail of `whole` begins that is the path, with or without a slash at its end."""
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
    """The mount, of which `root_path` may say nothing, the server's part, or all that was cut off, too."""
    if root[-len(cut) :] == cut:
        return root
    return cut if cut[: len(root)] == root else root + cut


def _origin_form(path: str) -> str:
    """The path of an absolute-form target, which some servers hand over as it came. RFC 9112 §3.2.2."""
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
    """The fields by name, and the size of all of them."""
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
    """`application/x-www-form-urlencoded` bytes as text pairs, in order, blanks kept. WHATWG URL §5.1.

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
