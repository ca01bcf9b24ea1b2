"""Find the page that a path names."""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import quote

from asgi_export.asgi.request import Request, Segments, probe_of
from asgi_export.errors import NotFound
from asgi_export.formats import FORMATS

CATALOGUE = "catalogue"
DOCUMENT = "openapi.json"


@dataclass(frozen=True, slots=True)
class Route:
    """A page: a probe, a format, `CATALOGUE` or `DOCUMENT`; with the dataset if the path names one."""

    page: str
    dataset: str = ""


def find_route(request: Request, prefix: Segments) -> Route:
    """Find the page that the path names. Raises `NotFound`.

    `DATASET.FORMAT` is split at its last dot, so a dataset may contain dots, and may be named like a format.
    The prefix may be below the mount or include it, as servers and frameworks differ; a mount or the root may also
    replace the prefix. The document is found beside the probes as well: a framework has its own at the root, which
    never reaches a mount.
    """
    probe = probe_of(request)
    if probe:
        return Route(probe)
    if (DOCUMENT,) in (request.below, request.full):
        return Route(DOCUMENT)
    rest = _below(request.below, prefix)
    if rest is None:
        rest = _below(request.full, prefix)
    if rest is None and (request.mounted or not request.full):
        rest = request.below
    if rest == ():
        return Route(CATALOGUE)
    found = _export_of(rest[0]) if rest is not None and len(rest) == 1 else None
    if found is None:
        raise NotFound(
            f"no such path; expected {path_of(prefix)}/ and then {' or '.join(FORMATS)}, or DATASET.csv and the like"
        )
    return found


def _export_of(name: str) -> Route | None:
    if name in FORMATS or name == DOCUMENT:
        return Route(name)
    dataset, _, extension = name.rpartition(".")
    return Route(extension, dataset) if dataset and extension in FORMATS else None


def is_in_place_of(prefix: Segments, request: Request) -> bool:
    """Return whether the mount stands for the prefix, as the request has come without one."""
    return request.mounted and _below(request.below, prefix) is None


def path_of(segments: Segments) -> str:
    """Join segments to the path of a URL, without a trailing slash; empty for none. RFC 3986 §3.3."""
    return "".join([f"/{quote(segment, safe='')}" for segment in segments])


def _below(path: Segments, prefix: Segments) -> Segments | None:
    return path[len(prefix) :] if path[: len(prefix)] == prefix else None
