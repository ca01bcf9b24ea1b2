"""The parameters of the pages: the rows that the parser goes by, narrowed to what a caller is offered."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from asgi_export.export.parameters import OF_DOCUMENT, PARAMETERS, SECRET, Parameter
from asgi_export.formats import Format
from asgi_export.openapi.responses import Described, named
from asgi_export.openapi.visibility import Offer

KEY_HEADER: Described = {
    "name": "X-API-Key",
    "in": "header",
    "description": f"who is asking, where {SECRET} does not say so",
    "schema": {"type": "string"},
}


IN_PATH = "datasetInPath"
"""The component of the dataset where the path names it, and the query may not."""

SCHEMA_IN_PATH: Described = {"$ref": "#/components/parameters/dataset/schema"}
"""There may be a thousand names in it."""


_IN_PATH: Described = {"in": "path", "required": True}

ANY_IN_PATH: Described = {"name": "dataset", **_IN_PATH, "schema": {"type": "string", "minLength": 1}}
"""What OPTIONS says is the same for every name, as it needs no key and tells nobody which there are."""


def _columns(offer: Offer) -> Described:
    fewest = {"minItems": 1} if offer.columns_required else {}
    items = {"type": "string", "enum": offer.columns}
    return {"items": items, "maxItems": offer.max_columns, "examples": [offer.columns[:2]], **fewest}


def _dataset(offer: Offer) -> Described:
    default = {} if offer.dataset_required else {"default": offer.datasets[0]}
    return {"enum": offer.datasets, "examples": [offer.datasets[0]], **default}


def _total(offer: Offer) -> Described:
    default = {} if offer.default_total is None else {"default": offer.default_total}
    return {"maximum": offer.max_total, "examples": [min(100, offer.max_total)], **default}


OF_OFFER: Mapping[str, Callable[[Offer], Described]] = {"columns": _columns, "dataset": _dataset, "total": _total}
"""What schemas have beside, or instead of, what their rows say."""


def _delimiter(found: Format) -> Described:
    return {"enum": ["tab", "\t"], "default": "tab"} if found.delimiter == "\t" else {"default": found.delimiter}


def _filename(found: Format) -> Described:
    return {"default": f"export.{found.name}"}


OF_FORMAT: Mapping[str, Callable[[Format], Described]] = {"delimiter": _delimiter, "filename": _filename}
"""The same; these differ from one format to the next."""


def shared_parameters(offer: Offer, *, keys: bool) -> Described:
    """Those that are the same for every format, by name. A key is a security scheme where there are `keys`."""
    rows = [row for row in PARAMETERS if row.name not in OF_FORMAT and not _is_left_out(row, offer, keys=keys)]
    described = {row.name: _described(row, _narrowed(row, offer), needed=_is_needed(row, offer)) for row in rows}
    described[IN_PATH] = {**described["dataset"], **_IN_PATH, "schema": SCHEMA_IN_PATH}
    return described if keys else {**described, KEY_HEADER["name"]: KEY_HEADER}


def parameters_of(found: Format, offer: Offer, *, keys: bool, in_path: bool = False) -> Sequence[Described]:
    """Those of one format's export, with the dataset in the query or `in_path`."""
    rows = [row for row in PARAMETERS if found.delimited or not row.of_text]
    there = [row for row in rows if not _is_left_out(row, offer, keys=keys)]
    described = [
        _described(row, OF_FORMAT[row.name](found)) if row.name in OF_FORMAT else named("parameters", row.name)
        for row in there
        if not (in_path and row.name == "dataset")
    ]
    if in_path:
        described.insert(0, named("parameters", IN_PATH))
    return [*described, *_key_header(keys=keys)]


def parameters_of_document(offer: Offer, *, keys: bool) -> Sequence[Described]:
    """Those of the document itself, whose dataset is never needed, and may be any."""
    there = {"enum": offer.listed} if offer.listed else {}
    return [*[_described(row, there) for row in OF_DOCUMENT if row.name != SECRET], *parameters_of_page(keys=keys)]


def parameters_of_page(*, keys: bool) -> Sequence[Described]:
    """Those of a page that takes none but who is asking."""
    return [] if keys else [named("parameters", SECRET), *_key_header(keys=keys)]


def _key_header(*, keys: bool) -> Iterable[Described]:
    return [] if keys else [named("parameters", KEY_HEADER["name"])]


def _is_left_out(row: Parameter, offer: Offer, *, keys: bool) -> bool:
    return (row.name == SECRET and keys) or (row.name == "columns" and not offer.columns)


def _is_needed(row: Parameter, offer: Offer) -> bool:
    return {"dataset": offer.dataset_required, "columns": offer.columns_required}.get(row.name, False)


def _narrowed(row: Parameter, offer: Offer) -> Described:
    return OF_OFFER[row.name](offer) if row.name in OF_OFFER else {}


def _described(row: Parameter, narrowed: Described | None = None, *, needed: bool = False) -> Described:
    schema = {**row.values.schema, **(narrowed or {})}
    described: dict[str, Any] = {
        "name": row.name,
        "in": "query",
        "description": row.meaning,
        "required": needed,
        "schema": schema,
    }
    if schema["type"] != "array":
        return described
    return {**described, "style": "form", "explode": False, "allowEmptyValue": not needed}
