"""The OpenAPI document that one caller is served.

`document.json` describes the fullest service at the default address: every format, keys, limits and metrics.
`describe` takes away what a caller does not have, and fills in what differs from one service or caller to the next.
"""

from __future__ import annotations

import json
from collections.abc import Container
from dataclasses import dataclass
from importlib.resources import files
from itertools import chain
from typing import Any

from asgi_export.asgi.request import MAX_QUERY_BYTES
from asgi_export.export.column_list import sort_text
from asgi_export.formats import FORMATS
from asgi_export.openapi.values import SCHEMAS, schema_of
from asgi_export.openapi.visibility import Visible
from asgi_export.table import QueryParameter
from asgi_export.values.text import text_of

FULLEST = files("asgi_export.openapi").joinpath("document.json").read_text("utf-8")
PREFIX = "/api/v1/exports"
"""Of the paths of exports in `FULLEST`."""

SEVERAL = " There are several datasets"
"""Where the introduction goes on to what is true of several datasets only."""


@dataclass(frozen=True, slots=True)
class View:
    """The service as one caller sees it.

    `server` is the path that it is mounted at, empty at the root; `prefix` is the path of the exports from there.
    Neither ends with a slash.
    `keys`: requests are authenticated; `by_key`: by keys or tokens, not by the login of a framework around it;
    `limited`: requests are counted; `metrics`: they are served.
    """

    server: str
    prefix: str
    keys: bool
    limited: bool
    metrics: bool
    max_query_bytes: int
    by_key: bool = True


def describe(view: View, visible: Visible) -> dict[str, Any]:
    """Return the document, as it is written to JSON. OpenAPI 3.1.1."""
    document: dict[str, Any] = json.loads(FULLEST)
    document["info"]["description"] = _introduction(document["info"]["description"], view, visible)
    document["servers"] = [{"url": view.server or "/"}]
    document["paths"] = {
        path.replace(PREFIX, view.prefix, 1): item
        for path, item in document["paths"].items()
        if _is_served(path, view, visible)
    }
    if not (view.keys and view.by_key):
        del document["security"], document["components"]["securitySchemes"]
    document = _without(document, _absent(view, visible))
    _narrow(document["components"]["parameters"], visible)
    (link,) = document["components"]["responses"]["catalogue"]["links"].values()
    link["parameters"]["dataset"] = f"$response.body#/datasets/{visible.place}/name"
    _add_values(document, visible)
    return document


def _introduction(text: str, view: View, visible: Visible) -> str:
    there = text.partition(SEVERAL)[0] if visible.alone else text
    return there.replace(f"{MAX_QUERY_BYTES} bytes", f"{view.max_query_bytes} bytes")


def _is_served(path: str, view: View, visible: Visible) -> bool:
    if path == "/metrics":
        return view.metrics
    if "{dataset}" in path and not visible.listed:
        return False
    found = FORMATS.get(path.rpartition("/")[2].removeprefix("{dataset}."))
    return found is None or found.available


def _absent(view: View, visible: Visible) -> set[str]:
    """Return the pointers of the components that this service has no use for.

    A key is a parameter only where it is not a security scheme. It may run only so many exports at once, so there is
    a 429 also where requests are not counted.
    """
    absent = {
        "headers/RateLimit": not view.limited,
        "headers/RateLimit-Policy": not view.limited,
        "parameters/X-API-Key": view.keys,
        "parameters/apiKey": view.keys,
        "parameters/columns": not visible.columns,
        "parameters/filters": not visible.filters,
        "parameters/sort": not visible.sort,
        "responses/TooManyRequests": not (view.keys or view.limited),
        "responses/Unauthorized": not view.keys,
        "responses/metrics": not view.metrics,
    }
    for name, found in FORMATS.items():
        absent[f"parameters/filename.{name}"] = absent[f"responses/export.{name}"] = not found.available
    return {f"#/components/{component}" for component, is_absent in absent.items() if is_absent}


def _without(node: Any, absent: Container[str], pointer: str = "#") -> Any:
    """Return the node without what lies at the pointers, and without the references to it."""
    if isinstance(node, list):
        return [_without(child, absent) for child in node if not _refers(child, absent)]
    if not isinstance(node, dict):
        return node
    there = {name: (child, f"{pointer}/{name}") for name, child in node.items() if not _refers(child, absent)}
    return {name: _without(child, absent, here) for name, (child, here) in there.items() if here not in absent}


def _refers(node: Any, absent: Container[str]) -> bool:
    return isinstance(node, dict) and node.get("$ref") in absent


def _narrow(parameters: dict[str, Any], visible: Visible) -> None:
    """Say what the caller may ask for: datasets, columns, rows."""
    dataset, total = parameters["dataset"], parameters["total"]
    dataset["required"] = visible.dataset_required
    dataset["schema"] |= {"enum": visible.datasets, "examples": visible.datasets[:1]}
    if not visible.dataset_required:
        dataset["schema"]["default"] = visible.datasets[0]
    if visible.listed:
        parameters["datasetOfDocument"]["schema"]["enum"] = visible.listed
    total["schema"] |= {"maximum": visible.max_total, "examples": [min(100, visible.max_total)]}
    if visible.default_total is not None:
        total["schema"]["default"] = visible.default_total
    if visible.columns:
        _narrow_columns(parameters["columns"], visible)
    if visible.filters:
        parameters["filters"]["schema"] = _filters(visible)
    if visible.sort:
        parameters["sort"]["schema"] |= _sort(visible)


def _narrow_columns(columns: dict[str, Any], visible: Visible) -> None:
    columns["required"] = visible.columns_required
    columns["allowEmptyValue"] = not visible.columns_required
    columns["schema"]["items"]["enum"] = visible.columns
    columns["schema"] |= {"maxItems": visible.max_columns, "examples": [visible.columns[:2]]}
    if visible.columns_required:
        columns["schema"]["minItems"] = 1


def _filters(visible: Visible) -> dict[str, Any]:
    """Return an object whose members are query parameters, as it is exploded. OpenAPI 3.1.1 §4.8.12.3, `form`."""
    return {
        "type": "object",
        "properties": {name: _value(schema_of(*found)) for name, found in visible.filters.items()},
        "additionalProperties": False,
        "maxProperties": visible.max_filters,
    }


def _value(name: str) -> dict[str, Any]:
    return {"$ref": f"#/components/schemas/{name}"}


def _sort(visible: Visible) -> dict[str, Any]:
    """Return the names in both directions, and that a list has only one of them."""
    both = [[sort_text(name, descending=found) for found in (False, True)] for name in visible.sort]
    once = [{"contains": {"enum": names}, "minContains": 0, "maxContains": 1} for names in both]
    return {"items": {"type": "string", "enum": [*chain(*both)]}, "allOf": once, "examples": [both[0][1:]]}


def _add_values(document: dict[str, Any], visible: Visible) -> None:
    """Add the schemas of values that filters and arguments refer to, and the arguments to each export."""
    parameters = document["components"]["parameters"]
    for found in visible.arguments:
        parameters[f"argument.{found.name}"] = _argument(found)
    references = [{"$ref": f"#/components/parameters/argument.{found.name}"} for found in visible.arguments]
    for path, item in document["paths"].items():
        if path.rpartition(".")[2].rpartition("/")[2] in FORMATS:
            for method in "get", "head":
                item[method]["parameters"] += references
    names = {schema_of(*found) for found in visible.filters.values()} | {found.type for found in visible.arguments}
    document["components"]["schemas"] |= {name: SCHEMAS[name] for name in sorted(names)}


def _argument(found: QueryParameter) -> dict[str, Any]:
    argument = {"name": found.name, "in": "query", "required": found.default is None, "schema": _value(found.type)}
    if found.default is not None:
        argument["description"] = f"by default {text_of(found.default)}"
    return argument
