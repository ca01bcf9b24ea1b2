"""The application in somebody else's service: FastAPI, which sends a mounted application no lifespan."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from typing import Any

from fastapi import FastAPI
from starlette.applications import Starlette
from starlette.routing import Mount

from asgi_export import ExportApp, MemoryStore, RateLimit, Selection, SqliteSource, dataset


@dataset(columns=["id", "name"])
async def people(selection: Selection) -> AsyncIterator[tuple[object, ...]]:
    for number in range(3):
        values = {"id": number, "name": f"n{number}"}
        yield tuple([values[name] for name in selection.columns])


def exports() -> Any:
    """Not typed: Starlette's own aliases of ASGI are not those of asgiref."""
    app = ExportApp([people, SqliteSource(os.environ["MOUNTED_DB"])])
    return RateLimit(app, store=MemoryStore(), limit=1000, window_seconds=60)


app = FastAPI()
app.mount("/api/v1/exports", exports())
app.mount("/data", exports())
app.mount("/deep", Starlette(routes=[Mount("/er", app=exports())]))


@app.get("/healthz")
def healthz() -> str:
    return "the host's own"
