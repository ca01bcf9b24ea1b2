"""Which page a path names."""

from __future__ import annotations

from urllib.parse import quote

from asgi_export.asgi.request import Request, Segments, probe_of
from asgi_export.errors import NotFound
from asgi_export.formats import FORMATS

CATALOGUE = "catalogue"
DOCUMENT = "openapi.json"


def find_route(request: Request, prefix: Segments) -> str:
    """The name of a probe, of a format, `CATALOGUE` or `DOCUMENT`. Raises `NotFound`.

    The prefix may stand below the mount or hold the mount, as servers and frameworks differ; a mount may also
    stand for the prefix, and so may the root. The document is found beside the probes as well: a framework's own is
    at its root, where a mount is not asked.
    """
    probe = probe_of(request)
    if probe:
        return probe
    if (DOCUMENT,) in (request.below, request.full):
        return DOCUMENT
    rest = _below(request.below, prefix)
    if rest is None:
        rest = _below(request.full, prefix)
    if rest is None and (request.mounted or not request.full):
        rest = request.below
    if rest == ():
        return CATALOGUE
    if rest is not None and len(rest) == 1 and (rest[0] in FORMATS or rest[0] == DOCUMENT):
        return rest[0]
    raise NotFound(f"no such path; expected {path_of(prefix)}/ and then {' or '.join(FORMATS)}")


def path_of(segments: Segments) -> str:
    """The segments as the path of a URL, without a slash at the end; empty for none. RFC 3986 §3.3."""
    return "".join([f"/{quote(segment, safe='')}" for segment in segments])


def _below(path: Segments, prefix: Segments) -> Segments | None:
    return path[len(prefix) :] if path[: len(prefix)] == prefix else None
