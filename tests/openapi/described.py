"""A service in raw ASGI that describes itself, and how its description is read."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from datetime import UTC, date, datetime, time
from importlib.resources import files
from typing import Any

from asgi_export import Column, Observe, Query, QueryParameter, RateLimit, Selection, dataset
from asgi_export.access.key_file import KeyFile
from asgi_export.access.plans import digest_of
from asgi_export.middleware.callers import ApiKeys
from tests.doubles import Client

FULLEST: dict[str, Any] = json.loads(files("asgi_export.openapi").joinpath("document.json").read_text("utf-8"))
"""The document in the package, before anything is taken away."""

KEY = "alice's"
KEYS = f"""
[plans.few]
exports_at_once = 1
datasets = ["people"]
columns = {{ people = ["id", "name"] }}
[keys.alice]
sha256 = "{digest_of(KEY).hex()}"
plan = "few"
"""

ALICE: dict[str, Any] = {"headers": [(b"x-api-key", KEY.encode())]}
"""What a scope has that carries the key."""

PEOPLE = dataset(lambda: [(1, "a@x", "Ada")], columns=["id", "email", "name"], name="people")
ORDERS = dataset(lambda: [(7, 9.5)], columns=["id", "price"], name="orders", default_limit=5)


class Everything:
    """A query that sorts, with a column and a parameter of every kind; its rows are in one order already."""

    name = "everything"
    default_limit = None
    applies = frozenset({"sort"})
    columns = (
        Column("n", "integer"),
        Column("b", "boolean"),
        Column("d", "date"),
        Column("c", "time"),
        Column("m", "timestamp"),
        Column("y", "bytea"),
        Column("j", "jsonb"),
        Column('-"a,b"__x é', "text"),
    )
    query = Query(
        "everything",
        "SELECT 1",
        (
            QueryParameter("since", "date"),
            QueryParameter("low", "integer", 0),
            QueryParameter("word", "text", ""),
            *[QueryParameter(f"at_{kind}", kind) for kind in ("number", "boolean", "time", "timestamp", "bytes")],
        ),
    )

    def open(self, selection: Selection) -> Any:
        row = (1, True, date(2026, 1, 31), time(13, 45), datetime(2026, 1, 31, tzinfo=UTC), b"\0", [1], "x")
        names = [column.name for column in self.columns]
        rows = [tuple([row[names.index(name)] for name in selection.columns])]
        return dataset(lambda _selection: rows, columns=self.columns, name=self.name).open(selection)


EVERYTHING = Everything()
ARGUMENTS = "since=2026-01-31&at_number=1&at_boolean=true&at_time=13:45&at_timestamp=2026-01-31T13:45:00Z&at_bytes=00"
"""What a request for it needs."""


def with_keys(app: Any, keys: Any, **limits: Any) -> Any:
    """The application with everything around it that a service has; `keys` is a folder."""
    (keys / "keys.toml").write_text(KEYS)
    return Observe(ApiKeys(RateLimit(app, **limits), keys=KeyFile(keys / "keys.toml")))


async def ask(app: Any, path: str = "/openapi.json", query: str = "", **scope: Any) -> Client:
    client = Client()
    await client.ask(app, query, path=path, **scope)
    return client


def document_of(app: Any, query: str = "", **scope: Any) -> dict[str, Any]:
    """What the application says of itself."""
    client = asyncio.run(ask(app, query=query, **{"path": "/openapi.json", **scope}))
    assert client.status == 200, client.body
    assert client.headers[b"content-type"] == b"application/json"
    found: dict[str, Any] = json.loads(client.body)
    return found


def resolved(document: Mapping[str, Any], node: Mapping[str, Any]) -> Mapping[str, Any]:
    """A node, or what it refers to."""
    found: Any = node
    while "$ref" in found:
        reference, found = found["$ref"], document
        for step in reference.removeprefix("#/").split("/"):
            found = found[step]
    return dict(found)


def parameters_at(document: Mapping[str, Any], path: str, method: str = "get") -> dict[str, Mapping[str, Any]]:
    """The parameters of an operation by name."""
    operation = document["paths"][path][method]
    found = [resolved(document, parameter) for parameter in operation.get("parameters", ())]
    return {parameter["name"]: parameter for parameter in found}
