"""A program of ten lines builds what `asgi-export serve` builds, out of public names alone."""

from __future__ import annotations

import asyncio
import json
import sqlite3
from pathlib import Path
from typing import Any

import asgi_export
from tests.doubles import Client

PROGRAM = """
from asgi_export import *

key = new_key()
basic = AccessPlan("basic", exports_at_once=2, datasets=frozenset({"orders"}))
keys = KeyRing([(digest_of(key), Owner("alice", basic))])
store = MemoryStore()
exports = ExportApp([SqliteSource(folder / "shop.db"), FileSource(folder / "people.csv")], leases=MemoryLeases())
limited = RateLimit(exports, store=store, limit=60, window_seconds=60)
service = Outermost(Observe(ApiKeys(limited, keys=keys), metrics=Metrics([exports, store])))
"""


def built(folder: Path) -> dict[str, Any]:
    connection = sqlite3.connect(folder / "shop.db")
    connection.executescript("CREATE TABLE orders (id INTEGER); INSERT INTO orders VALUES (1), (2)")
    connection.close()
    (folder / "people.csv").write_text("id,name\n1,a\n")
    names: dict[str, Any] = {"folder": folder}
    exec(compile(PROGRAM, "program", "exec"), names)
    return names


async def asked(service: Any, path: str, query: str, key: str = "") -> Client:
    client = Client()
    headers = [(b"x-api-key", key.encode())] if key else []
    await client.ask(service, query, path=path, headers=headers)
    return client


def test_ten_lines_build_the_whole_service(tmp_path: Path) -> None:
    names = built(tmp_path)
    assert len([line for line in PROGRAM.splitlines() if line]) < 11

    async def scenario() -> None:
        service, key = names["service"], names["key"]
        found = await asked(service, "/api/v1/exports/csv", "dataset=orders", key)
        assert (found.status, found.body) == (200, b"id\n1\n2\n")
        assert (await asked(service, "/api/v1/exports/csv", "dataset=people", key)).status == 403
        assert (await asked(service, "/api/v1/exports/csv", "dataset=orders")).status == 401
        assert json.loads((await asked(service, "/readyz", "")).body) == {"status": "ok"}
        assert b'dataset="orders"' in (await asked(service, "/metrics", "")).body
        await names["exports"].stop()

    asyncio.run(scenario())


def test_every_public_name_is_there_and_has_a_docstring() -> None:
    for name in asgi_export.__all__:
        assert getattr(asgi_export, name).__doc__, name
