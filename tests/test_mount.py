"""Mounted in a framework: FastAPI, as docs/python.md says, and Starlette's own mount below another path."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from fastapi import FastAPI
from starlette.applications import Starlette
from starlette.routing import Mount

from asgi_export import ExportApp, MemoryStore, RateLimit, Selection, SqliteSource, dataset
from tests.doubles import Client, http_scope


@dataset(columns=["id", "name"])
async def people(selection: Selection) -> AsyncIterator[Any]:
    yield {"id": 1, "name": "Ada"}


@pytest.fixture
def app(tmp_path: Path) -> RateLimit:
    """No lifespan reaches a mounted application: the SQLite file is opened by the first request."""
    connection = sqlite3.connect(tmp_path / "shop.db")
    connection.executescript("CREATE TABLE orders (id INTEGER); INSERT INTO orders VALUES (7);")
    connection.close()
    sources: list[Any] = [people, SqliteSource(tmp_path / "shop.db")]
    return RateLimit(ExportApp(sources), store=MemoryStore(), limit=60, window_seconds=60)


async def get(app: Any, path: str, query: str = "") -> Client:
    client = Client()
    scope = http_scope(path, query, http_version="1.1", scheme="http", server=("x", 80), root_path="")
    await app(scope, client.receive, client.send)
    return client


@pytest.mark.parametrize("path", ["/api/v1/exports/csv", "/api/v1/exports/csv/"])
def test_fastapi_serves_it_below_its_usual_path(app: Any, path: str) -> None:
    api = FastAPI()
    api.mount("/api/v1/exports", app)
    assert asyncio.run(get(api, path)).body == b"id,name\n1,Ada\n"
    assert asyncio.run(get(api, path, "dataset=orders")).body == b"id\n7\n"


def test_starlette_serves_it_below_any_path(app: Any) -> None:
    api = Starlette(routes=[Mount("/data", app=app)])
    assert asyncio.run(get(api, "/data/csv")).body == b"id,name\n1,Ada\n"
    assert asyncio.run(get(api, "/data/")).status == 200
    assert asyncio.run(get(api, "/data/readyz")).status == 200
    assert asyncio.run(get(api, "/data/nope")).status == 404
