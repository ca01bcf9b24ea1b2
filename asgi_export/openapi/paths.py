"""Path items: what may be asked of a page, by which methods, and every answer that it has."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from asgi_export.errors import (
    BadRequest,
    ExportError,
    Forbidden,
    HeadersTooLarge,
    InternalError,
    MethodNotAllowed,
    NotFound,
    QueryTooLong,
    TooManyRequests,
    Unauthorized,
    Unavailable,
)
from asgi_export.openapi.responses import ALWAYS, LIMITS, Described, heads, problems

Errors = tuple[type[ExportError], ...]

ANY: Errors = (MethodNotAllowed, QueryTooLong, HeadersTooLarge, InternalError)
"""What every page may answer, also those that are neither limited nor need a key."""

COUNTED: Errors = (*ANY, Unauthorized, TooManyRequests, Unavailable)

ASKED: Errors = (BadRequest, Forbidden, NotFound)
"""What is wrong with parameters."""


@dataclass(frozen=True, slots=True)
class Page:
    """One page. `headers` are those of its 200, beside what every head has. `of_options` are the
    parameters of its OPTIONS, which everybody may ask.

    `failures` are answers by status that are not those of `errors`. A page that is `open` is for everybody: it needs
    no key, and asking for it counts nothing.
    """

    name: str
    summary: str
    content: Described
    errors: Errors
    headers: tuple[str, ...] = ()
    parameters: Sequence[Described] = ()
    of_options: Sequence[Described] = ()
    failures: Mapping[str, Described] = field(default_factory=dict)
    links: Mapping[str, Described] = field(default_factory=dict)
    open: bool = False


def path_item(page: Page, *, keys: bool, limited: bool) -> Described:
    """The page where a key is needed or not, and requests are counted or not."""
    counted = LIMITS if limited and not page.open else ()
    possible = [error for error in page.errors if _is_possible(error, keys=keys, limited=limited)]
    failures = {**problems(possible), **page.failures}
    whole = {
        "description": page.summary,
        "headers": heads([*ALWAYS, *counted, *page.headers]),
        "content": page.content,
        **({"links": page.links} if page.links else {}),
    }
    asked: Described = {
        "summary": page.summary,
        **({"security": []} if page.open else {}),
        **({"parameters": page.parameters} if page.parameters else {}),
        "responses": {"200": whole, **failures},
    }
    return {
        "get": {"operationId": f"get_{page.name}", **asked},
        "head": {"operationId": f"head_{page.name}", **asked},
        "options": {
            "operationId": f"options_{page.name}",
            "security": [],
            **({"parameters": page.of_options} if page.of_options else {}),
            "responses": {
                "204": {"description": "which methods there are", "headers": heads([*ALWAYS, "Allow"])},
                **problems(ANY),
            },
        },
    }


def _is_possible(error: type[ExportError], *, keys: bool, limited: bool) -> bool:
    """A key may run only so many exports at once, also where requests are not counted."""
    return {Unauthorized: keys, TooManyRequests: keys or limited}.get(error, True)
