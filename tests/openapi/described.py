"""A service in raw ASGI that describes itself, and how its description is read."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from importlib.resources import files
from typing import Any

from asgi_export import Observe, RateLimit, dataset
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
