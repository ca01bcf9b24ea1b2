"""The description cannot drift from what it describes: its schemas against the parser, its answers against errors."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Iterator, Mapping
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from openapi_schema_validator import OAS31Validator

from asgi_export import ExportApp, MemoryStore, errors
from asgi_export.access.plans import OPEN
from asgi_export.app import PREFIX
from asgi_export.asgi.coding import CODINGS
from asgi_export.asgi.request import MAX_QUERY_BYTES
from asgi_export.errors import BadRequest, ExportError, SourceFailed, StartupError
from asgi_export.export.catalogue import MAX_FILTERS
from asgi_export.export.column_list import sort_text
from asgi_export.export.filters import OPERATORS, operators_of, read_filters
from asgi_export.export.parameters import OF_DOCUMENT, PARAMETERS, Parameter, Parameters, parse_parameters
from asgi_export.formats import FORMATS
from asgi_export.openapi import document as room
from tests.doubles import Client
from tests.openapi.described import (
    ALICE,
    ARGUMENTS,
    EVERYTHING,
    FULLEST,
    ORDERS,
    PEOPLE,
    ask,
    document_of,
    parameters_at,
    resolved,
    with_keys,
)

FIRST_MOMENT, LAST_MOMENT = datetime(2, 1, 1), datetime(9998, 12, 31)  # noqa: DTZ001 - as hypothesis wants them
"""Beyond them an offset leads out of the years that there are."""

EVERYTHING_APP = ExportApp([EVERYTHING])
EVERYTHING_S = document_of(EVERYTHING_APP)

ROWS = {row.name: row for row in PARAMETERS}
SCHEMAS = {
    name: found["schema"]
    for name, found in parameters_at(FULLEST, f"{PREFIX}/csv").items()
    if name in ROWS and found["schema"]["type"] != "array"
}
"""What the document says of the values of every parameter but `columns`."""

OF_FORMAT = {"delimiter", "filename"}
"""Their defaults differ from one format to the next."""

UTF8 = st.characters(exclude_categories=["Cs"])
EDGES = [
    *["", "tab", "true", "false", "True", "minimal", "all", "lf", "crlf", "\n", '"', ",", "\0", "\t", "é", "a\n"],
    *["0", "-1", "1.0", "9" * 18, "1" + "0" * 18, "x" * 200, "x" * 201, "😀" * 200, "😀" * 201],
]


def meant(schema: Mapping[str, Any], text: str) -> object:
    """The value that a text in a query string stands for."""
    if schema["type"] == "number" and re.fullmatch(r"-?[0-9]+(\.[0-9]+)?", text, re.ASCII):
        return float(text)
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


@pytest.mark.parametrize("name", SCHEMAS)
@given(text=st.sampled_from(EDGES) | st.text(UTF8, max_size=210) | st.integers(-5, 10**18 + 5).map(str))
def test_the_parser_takes_what_the_schema_allows_and_nothing_else(name: str, text: str) -> None:
    schema = SCHEMAS[name]
    assume(not text.startswith("0") or text == "0")  # leading zeros are taken, and no other spelling of a number
    assert takes(ROWS[name], text) == OAS31Validator(schema).is_valid(meant(schema, text))


@pytest.mark.parametrize("name", [name for name in SCHEMAS if "default" in SCHEMAS[name] and name not in OF_FORMAT])
def test_a_default_is_what_is_taken_where_nothing_is_said(name: str) -> None:
    assert parse_parameters(((name, written(SCHEMAS[name]["default"])),)) == Parameters()


@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize("method", ["get", "head"])
def test_a_format_has_every_row_of_the_parser_and_nothing_else(name: str, method: str) -> None:
    """Rows of text belong to delimited formats; a key is a parameter and a header."""
    rows = {row.name for row in PARAMETERS if FORMATS[name].delimited or not row.of_text}
    for path in f"{PREFIX}/{name}", f"{PREFIX}/{{dataset}}.{name}":
        found = parameters_at(FULLEST, path, method)
        assert found.keys() == rows | {"X-API-Key", "filters"}
        assert found["dataset"]["in"] == ("path" if "{" in path else "query")
        assert {found[row]["in"] for row in (rows | {"filters"}) - {"dataset"}} == {"query"}
        assert found["filename"]["schema"]["default"] == f"export.{name}"
        if FORMATS[name].delimited:
            assert takes(ROWS["delimiter"], found["delimiter"]["schema"]["default"])
            default = found["delimiter"]["schema"]["default"]
            assert parse_parameters((("delimiter", default),)).delimiter == FORMATS[name].delimiter


def test_the_document_itself_has_the_rows_that_it_is_asked_by() -> None:
    found = parameters_at(FULLEST, f"{PREFIX}/openapi.json")
    assert found.keys() == {row.name for row in OF_DOCUMENT} | {"X-API-Key"}
    schema = found["dataset"]["schema"]
    assert [OAS31Validator(schema).is_valid(text) for text in ("", "a")] == [
        takes(ROWS["dataset"], t) for t in ("", "a")
    ]


def test_the_document_has_every_format_and_its_media_type() -> None:
    exports = {path.removeprefix(f"{PREFIX}/") for path in FULLEST["paths"] if path.startswith(PREFIX)}
    assert exports - {"", "openapi.json"} == {*FORMATS, *[f"{{dataset}}.{name}" for name in FORMATS]}
    for path in exports - {"", "openapi.json"}:
        found = FORMATS[path.removeprefix("{dataset}.")]
        for method in "get", "head":
            answer = resolved(FULLEST, FULLEST["paths"][f"{PREFIX}/{path}"][method]["responses"]["200"])
            assert list(answer["content"]) == [found.media_type]


def test_the_document_has_the_values_of_the_code() -> None:
    """Those that are filled in are found by what the document says instead."""
    assert room.PREFIX == PREFIX
    assert f"{MAX_QUERY_BYTES} bytes" in FULLEST["info"]["description"]
    assert room.SEVERAL in FULLEST["info"]["description"]
    assert FULLEST["components"]["headers"]["Content-Encoding"]["schema"]["enum"] == list(CODINGS)


def test_every_component_is_used() -> None:
    text = json.dumps(FULLEST)
    for kind in FULLEST["components"].keys() - {"securitySchemes"}:
        for name in FULLEST["components"][kind]:
            assert f'"#/components/{kind}/{name}"' in text, (kind, name)
    assert FULLEST["components"]["securitySchemes"].keys() == {
        name for found in FULLEST["security"] for name in found
    }


def operations() -> Iterator[tuple[str, Mapping[str, Any]]]:
    for path, item in FULLEST["paths"].items():
        for method, operation in item.items():
            yield f"{method} {path}", operation


def test_an_answer_lies_at_its_status() -> None:
    for name, operation in operations():
        for status, answer in operation["responses"].items():
            error = answer["$ref"].rpartition("/")[2]
            if error in ANSWERS:
                assert ANSWERS[error]["status"] == int(status), (name, error)


def test_what_is_read_has_the_same_head() -> None:
    """RFC 9110 §9.3.2."""
    for path, item in FULLEST["paths"].items():
        get, head = ({**item[method], "operationId": ""} for method in ("get", "head"))
        assert get == head, path


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


NAMES = [column.name for column in EVERYTHING.columns]
TEXTS = [sort_text(name, descending=found) for name in NAMES for found in (False, True)]


@given(st.lists(st.sampled_from([*TEXTS, "nope", "--n"]), max_size=4))
def test_a_sort_that_the_document_allows_is_taken_and_no_other(texts: list[str]) -> None:
    """A column once, in either direction; none that has no order."""
    schema = parameters_at(EVERYTHING_S, f"{PREFIX}/csv")["sort"]["schema"]
    answer = asked(EVERYTHING_APP, f"{PREFIX}/csv", f"sort={quote(','.join(texts))}&{ARGUMENTS}")
    assert (answer.status == 200) == OAS31Validator(schema).is_valid(texts)


FILTERS = {
    name: resolved(EVERYTHING_S, found)
    for name, found in parameters_at(EVERYTHING_S, f"{PREFIX}/csv")["filters"]["schema"]["properties"].items()
}


def test_the_document_has_every_filter_that_there_is() -> None:
    assert [*FILTERS] == [
        f"{column.name}__{operator}" for column in EVERYTHING.columns for operator in operators_of(column)
    ]
    schema = parameters_at(FULLEST, f"{PREFIX}/csv")["filters"]["schema"]
    (names, bound) = schema["propertyNames"], schema["maxProperties"]
    operators = {operator for found in OPERATORS.values() for operator in found}
    assert OAS31Validator(names).is_valid("a__nope") is False
    assert all(OAS31Validator(names).is_valid(f"a__{operator}") for operator in operators)
    assert bound == MAX_FILTERS


OF_SCHEMAS = {json.dumps(found): (name, found) for name, found in FILTERS.items()}.values()
"""One filter with each schema of values."""


def values(schema: Mapping[str, Any]) -> st.SearchStrategy[Any]:
    """Values that a schema allows."""
    if "pattern" in schema:
        return st.from_regex(schema["pattern"], fullmatch=True)
    if "anyOf" in schema:
        offsets = st.integers(-1439, 1439).map(lambda minutes: timezone(timedelta(minutes=minutes)))
        return st.datetimes(FIRST_MOMENT, LAST_MOMENT, timezones=offsets).map(datetime.isoformat)
    return {
        "number": st.integers() | st.floats(allow_nan=False, allow_infinity=False),
        "boolean": st.booleans(),
        "string": st.text(UTF8),
    }[schema["type"]]


@pytest.mark.parametrize(("name", "schema"), OF_SCHEMAS)
@settings(max_examples=40)
@given(data=st.data())
def test_a_filter_takes_what_its_schema_allows(name: str, schema: dict[str, Any], data: st.DataObject) -> None:
    value = data.draw(values(schema))
    assert OAS31Validator(schema).is_valid(value)
    assert read_filters(((name, written(value)),), EVERYTHING, OPEN)


OF_KINDS = [
    *["1", "-1.5", "1e3", "inf", "abc", "1,2", "1,", ",", "", "true", "True", "true,false", "yes", "[1]", "[", "[]"],
    *["2026-01-31", "2026-02-29", "2024-02-29", "2000-02-29", "1900-02-29", "2026-04-31", "0000-01-01", "2026-1-1"],
    *["2026-01-31,2024-02-29", "24:00", "13:45", "13:45:00.123456", "13:45Z", "13:45,00:00", "00", "0", "fF00", "xx"],
    *["2026-01-31T13:45:00Z", "2026-01-31T13:45:00+01:00", "2026-01-31T13:45:00 01:00", "2026-01-31T25:00:00Z"],
    *['"', '"a"', '"a,b",c', 'a"b', "a\nb", "x" * 300],
]
SPELLINGS = {"2026-01-31T13:45:00+01:00", "1e3", "inf", "[1]", "[]", "2026-01-31", "13:45", "00:00"}
"""What is taken too, though the schemas of lists, numbers or timestamps say nothing of it."""


@pytest.mark.parametrize(("name", "schema"), OF_SCHEMAS)
def test_a_filter_takes_little_more_than_its_schema_allows(name: str, schema: dict[str, Any]) -> None:
    validator = OAS31Validator(schema, format_checker=OAS31Validator.FORMAT_CHECKER)
    for text in OF_KINDS:
        try:
            read_filters(((name, text),), EVERYTHING, OPEN)
        except BadRequest:
            assert not validator.is_valid(meant(schema, text)), text
        else:
            assert validator.is_valid(meant(schema, text)) or text in SPELLINGS, text


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


def consts(response: Mapping[str, Any]) -> dict[str, Any]:
    """The members of a problem that are the same each time."""
    schema = response.get("content", {}).get("application/problem+json", {}).get("schema", {})
    return {
        member: found["const"]
        for part in schema.get("allOf", ())
        for member, found in part.get("properties", {}).items()
    }


ANSWERS = {name: found for name, node in FULLEST["components"]["responses"].items() if (found := consts(node))}
"""The document's answers to failures, each by the name of its class."""


def leaves(error: type[ExportError]) -> Iterator[type[ExportError]]:
    yield error
    for child in error.__subclasses__():
        yield from leaves(child)


def test_every_class_of_failures_has_an_answer() -> None:
    """The operator's own, which no client sees, are those of the service."""
    found = {error for error in leaves(ExportError) if error.__module__ == errors.__name__}
    shown = {(error.status, error.title, error.type, error.error) for error in found - {StartupError, SourceFailed}}
    members = ("status", "title", "type", "error")
    assert {tuple(answer[member] for member in members) for answer in ANSWERS.values()} == shown
    assert len({answer["status"] for answer in ANSWERS.values()}) == len(ANSWERS)


@pytest.mark.parametrize("name", ANSWERS)
def test_an_answer_has_the_members_of_its_class(name: str) -> None:
    error = getattr(errors, name)
    assert ANSWERS[name] == {member: getattr(error, member) for member in ("status", "title", "type", "error")}


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
    described = resolved(document, document["paths"][path][method]["responses"][str(answer.status)])
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
