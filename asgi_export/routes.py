"""Which page a path names."""

from __future__ import annotations

from asgi_export.asgi.request import Request, Segments, probe_of
from asgi_export.errors import NotFound
from asgi_export.formats import FORMATS

CATALOGUE = "catalogue"


def find_route(request: Request, prefix: Segments) -> str:
    """The name of a probe, of a format, or `CATALOGUE`. Raises `NotFound`.

    The prefix may stand below the mount or hold the mount, as servers and frameworks differ; a mount may also
    stand for the prefix, and so may the root.
    """
    probe = probe_of(request)
    if probe:
        return probe
    rest = _below(request.below, prefix)
    if rest is None:
        rest = _below(request.full, prefix)
    if rest is None and (request.mounted or not request.full):
        rest = request.below
    if rest == ():
        return CATALOGUE
    if rest is not None and len(rest) == 1 and rest[0] in FORMATS:
        return rest[0]
    raise NotFound(f"no such path; expected /{'/'.join(prefix)}/ and then {' or '.join(FORMATS)}")


def _below(path: Segments, prefix: Segments) -> Segments | None:
    return path[len(prefix) :] if path[: len(prefix)] == prefix else None
