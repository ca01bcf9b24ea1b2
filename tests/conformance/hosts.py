"""One service of each framework that people mount exports in, below its own name.

Each one's middleware says `x-host` in every answer; `/HOST/own` is a page of the host itself.
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import django
from channels.middleware import BaseMiddleware
from channels.routing import ProtocolTypeRouter, URLRouter
from django.conf import settings
from django.core.asgi import get_asgi_application
from django.http import HttpResponse
from django.urls import path, re_path
from fastapi import FastAPI
from litestar import Litestar, asgi
from litestar import get as litestar_get
from litestar.middleware import ASGIMiddleware
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.base import BaseHTTPMiddleware
from starlette.responses import PlainTextResponse
from starlette.routing import Mount, Route

from asgi_export import ExportApp, Observe, RateLimit, Selection, SqliteSource, dataset
from asgi_export.asgi.message import send_whole
from asgi_export.logs import set_up_logs

set_up_logs()


@dataset(columns=["id", "name"], name="my people")
async def people(selection: Selection) -> AsyncIterator[tuple[object, ...]]:
    for number in range(3):
        values = {"id": number, "name": f"n{number}"}
        yield tuple([values[name] for name in selection.columns])


@dataset(columns=["id", "text"])
async def failing() -> AsyncIterator[list[tuple[int, str]]]:
    for first in range(0, 50_000, 1000):
        yield [(number, "x" * 100) for number in range(first, first + 1000)]
    raise RuntimeError("the disk is on fire")


def note(event: str) -> None:
    with Path(os.environ["HOST_EVENTS"]).open("a") as file:
        file.write(event + "\n")


@dataset(columns=["id", "text"])
async def endless() -> AsyncIterator[list[tuple[int, str]]]:
    try:
        while True:
            yield [(number, "x" * 100) for number in range(1000)]
    finally:
        note("closed")


def exports(prefix: str = "/api/v1/exports") -> Any:
    app = ExportApp([people, failing, endless, SqliteSource(os.environ["MOUNTED_DB"])], prefix=prefix)
    return Observe(RateLimit(app, limit=1_000_000))


def saying(send: Any, name: str) -> Any:
    """A `send` that puts the host's name into the head."""

    async def send_named(message: Any) -> None:
        if message["type"] == "http.response.start":
            message = {**message, "headers": [*message["headers"], (b"x-host", name.encode())]}
        await send(message)

    return send_named


fastapi = FastAPI()
fastapi.mount("/fastapi/api/v1/exports", exports())
fastapi.mount("/fastapi/data", exports())


@fastapi.get("/fastapi/own")
def fastapi_own() -> str:
    return "own"


@fastapi.middleware("http")
async def say_fastapi(request: Any, call_next: Any) -> Any:
    response = await call_next(request)
    response.headers["x-host"] = "fastapi"
    return response


class SayStarlette(BaseHTTPMiddleware):
    async def dispatch(self, request: Any, call_next: Any) -> Any:
        response = await call_next(request)
        response.headers["x-host"] = "starlette"
        return response


async def starlette_own(request: Any) -> PlainTextResponse:
    return PlainTextResponse("own")


starlette = Starlette(
    routes=[
        Mount("/starlette/api/v1/exports", app=exports()),
        Mount("/starlette/data", app=exports()),
        Route("/starlette/own", starlette_own),
    ],
    middleware=[Middleware(SayStarlette)],
)


class SayLitestar(ASGIMiddleware):
    async def handle(self, scope: Any, receive: Any, send: Any, next_app: Any) -> None:
        await next_app(scope, receive, saying(send, "litestar"))


def litestar_mount(address: str) -> Any:
    app = exports()

    @asgi(address, is_mount=True, copy_scope=True)
    async def mounted(scope: Any, receive: Any, send: Any) -> None:
        await app(scope, receive, send)

    return mounted


@litestar_get("/litestar/own", sync_to_thread=False)
def litestar_own() -> str:
    return "own"


litestar = Litestar(
    [litestar_mount("/litestar/api/v1/exports"), litestar_mount("/litestar/data"), litestar_own],
    middleware=[SayLitestar()],
)


class SayDjango(BaseMiddleware):  # type: ignore[misc]
    async def __call__(self, scope: Any, receive: Any, send: Any) -> Any:
        return await super().__call__(scope, receive, saying(send, "django"))


def django_own(request: Any) -> HttpResponse:
    return HttpResponse("own")


urlpatterns = [path("django/own", django_own)]
settings.configure(ROOT_URLCONF=__name__, ALLOWED_HOSTS=["*"], SECRET_KEY="of tests")
django.setup()
routes = [
    re_path("^django/api/v1/exports", exports("/django/api/v1/exports")),
    re_path("^django/data", exports("/django/data")),  # the router cuts nothing off, so the prefix is said
    re_path("", get_asgi_application()),
]
hosts: dict[str, Any] = {
    "fastapi": fastapi,
    "starlette": starlette,
    "litestar": litestar,
    "django": ProtocolTypeRouter({"http": SayDjango(URLRouter(routes))}),
}


async def app(scope: Any, receive: Any, send: Any) -> None:
    """The first segment of the path, below the server's own root path, names the host."""
    if scope["type"] != "http":
        return
    first = scope["path"].removeprefix("/proxy").split("/")[1]
    if first in hosts:
        await hosts[first](scope, receive, send)
    else:
        await send_whole(send, 200, [], b"", method="GET")
