"""One service with and without its access log, ids and metrics, for `bench.observe`: the key `bare` gets it without.

Two processes of one program differ by 5 % in speed, which is more than what is to be found out.
"""

from __future__ import annotations

import os
from typing import Any

from asgi_export import service
from asgi_export.asgi.message import ASGIApp
from asgi_export.settings import load_settings

settings = load_settings({}, os.environ)
exports = service.make_export_app(settings)
observed = service.make_service(settings, exports)


def without_observe() -> ASGIApp:
    """What `make_service` makes where `Observe` puts nothing around an application."""
    names = vars(service)
    observe, names["Observe"] = names["Observe"], lambda app, **_options: app
    try:
        return service.make_service(settings, exports)
    finally:
        names["Observe"] = observe


bare = without_observe()


async def app(scope: Any, receive: Any, send: Any) -> None:
    """The lifespan is that of the whole service."""
    chosen = bare if b"apiKey=bare" in scope.get("query_string", b"") else observed
    await chosen(scope, receive, send)
