"""One service with and without its outermost floor, for `bench.observe`: the key `bare` gets it without.

Two processes of one program differ by 5 % in speed, which is more than what is to be found out.
"""

from __future__ import annotations

import os
from typing import Any

from asgi_export import RateLimit
from asgi_export.service import WithoutWebSockets, make_export_app, make_service, make_store
from asgi_export.settings import load_settings

settings = load_settings({}, os.environ)
exports = make_export_app(settings)
observed = make_service(settings, exports)
bare = WithoutWebSockets(RateLimit(exports, store=make_store(settings), rules=settings.limit))


async def app(scope: Any, receive: Any, send: Any) -> None:
    """The lifespan is the whole service's."""
    chosen = bare if b"apiKey=bare" in scope.get("query_string", b"") else observed
    await chosen(scope, receive, send)
