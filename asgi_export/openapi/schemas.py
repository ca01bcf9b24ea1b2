"""What JSON bodies look like that are no problems."""

from __future__ import annotations

from typing import Any

from asgi_export.errors import Unavailable
from asgi_export.openapi.responses import Described

VERSION = "3.1.1"

TEXT: Described = {"type": "string"}
_POSITIVE: Described = {"type": "integer", "minimum": 1}


def _object(**properties: Any) -> Described:
    return {"type": "object", "properties": properties, "required": list(properties)}


def _list(items: Described) -> Described:
    return {"type": "array", "items": items}


CATALOGUE = _object(
    datasets=_list(
        _object(
            name=TEXT,
            columns=_list(_object(name=TEXT, type={**TEXT, "description": "in the source's own words"})),
            default_total={"type": ["integer", "null"], "description": "rows where total is not given; null is all"},
        )
    ),
    formats=_list(_object(name=TEXT, media_type=TEXT)),
    limits=_list(
        {
            **_object(name=TEXT, limit=_POSITIVE, window_seconds=_POSITIVE),
            "description": "requests in any window, or what the unit says",
        }
    ),
)

OK = _object(status={"const": "ok"})
NOT_READY = _object(
    status={"const": "unavailable"},
    error={"const": Unavailable.error},
    failing={**_list(TEXT), "description": "the sources and stores that do not answer"},
)
DOCUMENT = _object(openapi={"const": VERSION}, info={"type": "object"}, paths={"type": "object"})
