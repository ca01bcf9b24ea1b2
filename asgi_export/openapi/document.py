"""The document: every page that one caller has."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from asgi_export.errors import PreconditionRequired
from asgi_export.formats import FORMATS, Format
from asgi_export.openapi.parameters import (
    ANY_IN_PATH,
    parameters_of,
    parameters_of_document,
    parameters_of_page,
    shared_parameters,
)
from asgi_export.openapi.paths import ANY, ASKED, COUNTED, Page, path_item
from asgi_export.openapi.responses import (
    ALWAYS,
    HEADERS,
    PROBLEM,
    PROBLEM_TYPE,
    PROBLEMS,
    Described,
    heads,
    named,
    problem,
)
from asgi_export.openapi.schemas import CATALOGUE, DOCUMENT, NOT_READY, OK, TEXT, VERSION
from asgi_export.openapi.visibility import Offer

API_VERSION = "v1"

SECURITY: Mapping[str, Described] = {
    "X-API-Key": {"type": "apiKey", "in": "header", "name": "X-API-Key"},
    "apiKey": {"type": "apiKey", "in": "query", "name": "apiKey"},
    "bearer": {"type": "http", "scheme": "bearer"},
}


TO_CSV: Described = {"operationId": "get_csv", "parameters": {"dataset": "$response.body#/datasets/0/name"}}
"""How a dataset of the catalogue is asked for."""


@dataclass(frozen=True, slots=True)
class View:
    """The service as one caller sees it.

    `server` is the path that it is mounted at, empty at the root; `prefix` what the exports lie below from there;
    neither ends with a slash.
    `keys`: one is needed; `limited`: requests are counted; `metrics`: they are served.
    """

    server: str
    prefix: str
    keys: bool
    limited: bool
    metrics: bool
    max_query_bytes: int


def describe(view: View, offer: Offer) -> Described:
    """The document, as it is written to JSON. OpenAPI 3.1.1."""
    security: Described = {"security": [{name: []} for name in SECURITY]} if view.keys else {}
    schemes: Described = {"securitySchemes": SECURITY} if view.keys else {}
    return {
        "openapi": VERSION,
        "info": {"title": "asgi-export", "version": API_VERSION, "description": _introduction(view, offer)},
        "servers": [{"url": view.server or "/"}],
        **security,
        "paths": {
            path: path_item(page, keys=view.keys, limited=view.limited)
            for path, page in (*_exports(view, offer), *_pages(view, offer), *_probes(view))
        },
        "components": {
            "headers": HEADERS,
            "parameters": shared_parameters(offer, keys=view.keys),
            "responses": {error.__name__: problem(error, limited=view.limited) for error in PROBLEMS},
            "schemas": {"Problem": PROBLEM, "Catalogue": CATALOGUE},
            **schemes,
        },
    }


def _introduction(view: View, offer: Offer) -> str:
    several = (
        " There are several datasets, and the columns here are those that they share: with ?dataset=NAME this page"
        " describes one of them; the catalogue lists them all."
    )
    return (
        "Tables as streams. A parameter that is unknown or given twice is a 400, a query string of more than"
        f" {view.max_query_bytes} bytes a 414. An export that fails after its head is broken off without the end"
        f" that HTTP asks for: it is not the whole.{'' if offer.alone else several}"
    )


def _exports(view: View, offer: Offer) -> Iterator[tuple[str, Page]]:
    for found in FORMATS.values():
        if found.available:
            yield f"{view.prefix}/{found.name}", _export(found, view, offer)
            if offer.listed:
                yield f"{view.prefix}/{{dataset}}.{found.name}", _export(found, view, offer, in_path=True)


def _export(found: Format, view: View, offer: Offer, *, in_path: bool = False) -> Page:
    """Only delimited text has a schema: OpenAPI 3.1 has none for lines of JSON, and none for what is binary."""
    return Page(
        name=f"dataset_{found.name}" if in_path else found.name,
        summary=f"a dataset as {found.name}",
        content={found.media_type: {"schema": TEXT} if found.delimited else {}},
        errors=(*COUNTED, *ASKED, PreconditionRequired),
        headers=("Content-Disposition", "X-Accel-Buffering", "Content-Encoding"),
        parameters=parameters_of(found, offer, keys=view.keys, in_path=in_path),
        of_options=[ANY_IN_PATH] if in_path else (),
    )


def _pages(view: View, offer: Offer) -> Iterator[tuple[str, Page]]:
    catalogue = {"application/json": {"schema": named("schemas", "Catalogue")}}
    document = {"application/json": {"schema": DOCUMENT}}
    yield (
        f"{view.prefix}/",
        Page(
            "catalogue",
            "datasets, columns, formats, limits",
            catalogue,
            COUNTED,
            parameters=parameters_of_page(keys=view.keys),
            links={"csv": TO_CSV},
        ),
    )
    yield (
        f"{view.prefix}/openapi.json",
        Page(
            "openapi",
            "this document; with dataset, of that one alone",
            document,
            (*COUNTED, *ASKED),
            parameters=parameters_of_document(offer, keys=view.keys),
        ),
    )


def _probes(view: View) -> Iterator[tuple[str, Page]]:
    ok = {"application/json": {"schema": OK}}
    not_ready = {
        "description": "what does not answer, or that the service is not open",
        "headers": heads([*ALWAYS, "Retry-After"]),
        "content": {
            "application/json": {"schema": NOT_READY},
            PROBLEM_TYPE: {"schema": named("schemas", "Problem")},
        },
    }
    yield "/healthz", Page("healthz", "whether the process lives", ok, ANY, open=True)
    yield (
        "/readyz",
        Page("readyz", "whether every source and store answers", ok, ANY, failures={"503": not_ready}, open=True),
    )
    if view.metrics:
        text = {"text/plain": {"schema": TEXT}}
        yield "/metrics", Page("metrics", "metrics for Prometheus", text, ANY, open=True)
