"""The description cannot drift from what it describes: its schemas against the parser, its answers against errors."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from openapi_schema_validator import OAS31Validator

from asgi_export import ExportApp, MemoryStore, errors
from asgi_export.app import PREFIX
from asgi_export.errors import BadRequest, ExportError, SourceFailed, StartupError
from asgi_export.export.parameters import PARAMETERS, Parameter, Parameters, parse_parameters
from asgi_export.formats import FORMATS
from asgi_export.openapi.responses import PROBLEMS
from tests.doubles import Client
from tests.openapi.described import ALICE, ORDERS, PEOPLE, ask, document_of, parameters_at, resolved, with_keys

SCALARS = {row.name: row for row in PARAMETERS if row.values.schema["type"] != "array"}
UTF8 = st.characters(exclude_categories=["Cs"])
EDGES = [
    *["", "tab", "true", "false", "True", "minimal", "all", "lf", "crlf", "\n", '"', ",", "\0", "\t", "é", "a\n"],
    *["0", "-1", "1.0", "9" * 18, "1" + "0" * 18, "x" * 200, "x" * 201, "😀" * 200, "😀" * 201],
]


def meant(schema: Mapping[str, Any], text: str) -> object:
    """The value that a text in a query string stands for."""
    if schema["type"] == "integer" and re.fullmatch("[0-9]+", text, re.ASCII):
        return int(text)
    if schema["type"] == "boolean":
        return {"true": True, "false": False}.get(text, text)
    return text


def takes(row: Parameter, text: str) -> bool:
    try:
        parse_parameters(((row.name, text),))
    except BadRequest:
        return False
    return True


@pytest.mark.parametrize("name", SCALARS)
@given(text=st.sampled_from(EDGES) | st.text(UTF8, max_size=210) | st.integers(-5, 10**18 + 5).map(str))
def test_the_parser_takes_what_the_schema_allows_and_nothing_else(name: str, text: str) -> None:
    row = SCALARS[name]
    assume(not text.startswith("0") or text == "0")  # leading zeros are taken, and no other spelling of a number
    assert takes(row, text) == OAS31Validator(row.values.schema).is_valid(meant(row.values.schema, text))


@pytest.mark.parametrize("name", [name for name, row in SCALARS.items() if "default" in row.values.schema])
def test_a_default_is_what_is_taken_where_nothing_is_said(name: str) -> None:
    row = SCALARS[name]
    default = row.values.schema["default"]
    assert parse_parameters(((name, written(default)),)) == Parameters()


def asked(app: Any, path: str, query: str = "", **scope: Any) -> Client:
    return asyncio.run(ask(app, path=path, query=query, **scope))


@given(st.data())
def test_columns_that_the_document_allows_come_in_their_order(data: st.DataObject) -> None:
    app = ExportApp([PEOPLE, ORDERS])
    query = data.draw(st.sampled_from(["", "dataset=people", "dataset=orders"]))
    parameters = parameters_at(document_of(app, query), f"{PREFIX}/csv")
    schema = parameters["columns"]["schema"]
    names = data.draw(st.lists(st.sampled_from(schema["items"]["enum"] + ["nope"]), max_size=4))
    dataset = data.draw(st.sampled_from(parameters["dataset"]["schema"]["enum"]))
    answer = asked(app, f"{PREFIX}/csv", f"columns={','.join(names)}&dataset={dataset}")
    assert (answer.status == 200) == OAS31Validator(schema).is_valid(names)
    if answer.status == 200 and names:
        assert answer.body.splitlines()[0] == ",".join(names).encode()


def written(value: object) -> str:
    """A value as the text that stands for it in a query string."""
    if isinstance(value, list):
        return ",".join(value)
    return value if isinstance(value, str) else json.dumps(value)


@pytest.mark.parametrize("name", FORMATS)
def test_every_example_and_default_is_answered(name: str) -> None:
    for query in "", "dataset=people", "dataset=orders":
        app = ExportApp([PEOPLE, ORDERS])
        for parameter in parameters_at(document_of(app, query), f"{PREFIX}/{name}").values():
            schema = parameter["schema"]
            needed = f"&{query}" if query and parameter["name"] != "dataset" else ""
            for value in [*schema.get("examples", ()), *[schema[word] for word in ("default",) if word in schema]]:
                found = asked(app, f"{PREFIX}/{name}", f"{parameter['name']}={quote(written(value))}{needed}")
                assert found.status == 200, (parameter, value)


def leaves(error: type[ExportError]) -> Iterator[type[ExportError]]:
    yield error
    for child in error.__subclasses__():
        yield from leaves(child)


def test_every_class_of_failures_has_an_answer() -> None:
    """The operator's own, which no client sees, are those of the service."""
    found = {error for error in leaves(ExportError) if error.__module__ == errors.__name__}
    answered = {(error.status, error.error) for error in PROBLEMS}
    assert len({error.status for error in PROBLEMS}) == len(PROBLEMS)
    assert {(error.status, error.error) for error in found - {StartupError, SourceFailed}} == answered


class Broken:
    """A dataset whose columns cannot be looked at."""

    name = "broken"
    default_limit = None

    @property
    def columns(self) -> Any:
        raise RuntimeError("the catalogue is on fire")

    def open(self, selection: object) -> Any:
        raise NotImplementedError


def closing() -> Any:
    app = ExportApp([PEOPLE])
    app.drain()
    return app


def full(folder: Path) -> Any:
    app = with_keys(ExportApp([PEOPLE]), folder, store=MemoryStore(), limit=1)
    assert asked(app, f"{PREFIX}/", **ALICE).status == 200
    return app


FAILURES: dict[str, tuple[Any, dict[str, Any]]] = {
    "400": (lambda folder: ExportApp([PEOPLE]), {"query": "nope=1"}),
    "401": (lambda folder: with_keys(ExportApp([PEOPLE]), folder), {}),
    "403": (lambda folder: with_keys(ExportApp([PEOPLE, ORDERS]), folder), {"query": "dataset=orders", **ALICE}),
    "404": (lambda folder: ExportApp([PEOPLE]), {"query": "dataset=nope"}),
    "405": (lambda folder: ExportApp([PEOPLE]), {"method": "PUT"}),
    "414": (lambda folder: ExportApp([PEOPLE]), {"query": "a" * 9000}),
    "428": (lambda folder: ExportApp([PEOPLE]), {"headers": [(b"range", b"bytes=1-")]}),
    "429": (full, ALICE),
    "431": (lambda folder: ExportApp([PEOPLE]), {"headers": [(b"a", b"b" * 40_000)]}),
    "500": (lambda folder: ExportApp([Broken()]), {}),
    "503": (lambda folder: closing(), {}),
}
"""How each failure comes about: an application, and what is asked of it."""


ANY = {"405", "414", "431"}
COUNTED = ANY | {"401", "429", "500", "503"}
PAGES = {
    **{f"{PREFIX}/{name}": COUNTED | {"400", "403", "404", "428"} for name in FORMATS},
    f"{PREFIX}/": COUNTED,
    f"{PREFIX}/openapi.json": COUNTED | {"400", "403", "404"},
    "/healthz": ANY,
    "/readyz": ANY | {"503"},
}


@pytest.mark.parametrize(("path", "status"), [(path, status) for path in PAGES for status in sorted(PAGES[path])])
def test_every_failure_of_a_page_is_in_the_document(path: str, status: str, tmp_path: Path) -> None:
    """With its body, its media type, and its header fields."""
    document = document_of(with_keys(ExportApp([PEOPLE]), tmp_path), **ALICE)
    make, scope = FAILURES[status]
    answer = asked(make(tmp_path), path, **scope)
    assert answer.status == int(status)
    described = resolved(document, document["paths"][path]["get"]["responses"][status])
    expect_described(document, described, answer)


@pytest.mark.parametrize("path", [*PAGES, *[f"{PREFIX}/{{dataset}}.{name}" for name in FORMATS]])
@pytest.mark.parametrize("method", ["get", "head", "options"])
def test_every_success_of_a_page_is_in_the_document(path: str, method: str, tmp_path: Path) -> None:
    app = with_keys(ExportApp([PEOPLE]), tmp_path)
    document = document_of(app, **ALICE)
    answer = asked(app, path.replace("{dataset}", "people"), method=method.upper(), **ALICE)
    described = document["paths"][path][method]["responses"][str(answer.status)]
    assert answer.status == (204 if method == "options" else 200)
    expect_described(document, described, answer)


def expect_described(document: Any, described: Mapping[str, Any], answer: Client) -> None:
    headers = {name.decode(): value.decode() for name, value in answer.headers.items()}
    told = {name.lower(): resolved(document, found) for name, found in described["headers"].items()}
    needed = {name for name, found in told.items() if found.get("required")}
    assert needed <= headers.keys() <= {*told, "content-type", "content-length", "connection", *LIMITS}
    for name in told.keys() & headers.keys():
        schema = told[name]["schema"]
        OAS31Validator(schema).validate(meant(schema, headers[name]))
    content = described["content"][headers["content-type"]] if answer.body else {}
    if headers.get("content-type", "").endswith("json") and "schema" in content:
        whole = {**content["schema"], "components": document["components"]}
        OAS31Validator(whole).validate(json.loads(answer.body))


LIMITS = ("ratelimit", "ratelimit-policy")
"""They are on every answer that the limiter has let through, and promised for 200 and 429."""
