"""Exports that break off in every way, below `/STACK/`: behind the middleware that the letters name, outermost first.

B is a `BaseHTTPMiddleware`, D FastAPI's decorator, G GZip, C CORS. `/stop` stops the exports below `/STACK/stopping`.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from typing import Any

from fastapi import FastAPI
from starlette.middleware.base import BaseHTTPMiddleware
from starlette.middleware.cors import CORSMiddleware
from starlette.middleware.gzip import GZipMiddleware

from asgi_export import Bounds, ExportApp, Observe, RateLimit, dataset
from asgi_export.asgi.message import send_whole
from asgi_export.logs import set_up_logs
from tests.conformance.nasty import COLUMNS, endless, failing, slow


@dataset(columns=COLUMNS)
async def failing_late() -> AsyncIterator[list[tuple[int, str]]]:
    """Fails when typed formats have sent their first group, of 16 MiB."""
    for first in range(0, 4400, 100):
        yield [(number, f"{number:04000}") for number in range(first, first + 100)]
    raise RuntimeError("the disk is on fire")


@dataset(columns=COLUMNS)
async def thinking() -> AsyncIterator[tuple[int, str]]:
    """Fails when the head has been sent without a first row."""
    await asyncio.sleep(0.5)
    raise RuntimeError("the disk is full")
    yield (1, "")


class Passing(BaseHTTPMiddleware):
    async def dispatch(self, request: Any, call_next: Any) -> Any:
        return await call_next(request)


async def passing(request: Any, call_next: Any) -> Any:
    return await call_next(request)


def add(api: FastAPI, letter: str) -> None:
    match letter:
        case "B":
            api.add_middleware(Passing)
        case "D":
            api.middleware("http")(passing)
        case "G":
            api.add_middleware(GZipMiddleware)
        case "C":
            api.add_middleware(CORSMiddleware, allow_origins=["*"])


def exports(**bounds: float) -> tuple[ExportApp, Any]:
    app = ExportApp([failing, failing_late, thinking, endless, slow], bounds=Bounds(close_seconds=5.0, **bounds))
    return app, Observe(RateLimit(app, limit=1_000_000))


stopping: list[ExportApp] = []


def host(stack: str) -> FastAPI:
    api = FastAPI()
    to_stop, wrapped = exports()
    stopping.append(to_stop)
    api.mount(f"/{stack}/stopping", wrapped)
    api.mount(f"/{stack}/late", exports(head_after_seconds=0.1)[1])
    api.mount(f"/{stack}/hasty", exports(max_seconds=1.0)[1])
    api.mount(f"/{stack}", exports(stall_seconds=1.0)[1])
    for letter in reversed(stack if stack != "none" else ""):
        add(api, letter)
    return api


hosts = {stack: host(stack) for stack in os.environ["STACKS"].split()}
set_up_logs()


async def app(scope: Any, receive: Any, send: Any) -> None:
    if scope["type"] != "http":
        return
    name = scope["path"].split("/")[1]
    if name in hosts:
        await hosts[name](scope, receive, send)
        return
    if name == "stop":
        for found in stopping:
            await found.stop()
    optimized = b"-O" if os.environ.get("PYTHONOPTIMIZE") and not __debug__ else b"asserts"
    await send_whole(send, 200, [], optimized, method="GET")
