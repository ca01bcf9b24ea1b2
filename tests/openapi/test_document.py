"""The description of the service: whom it shows what, where it is, and what it costs."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from fastapi import FastAPI
from openapi_spec_validator import validate
from starlette.applications import Starlette
from starlette.routing import Mount

from asgi_export import Caller, Callers, ExportApp, MemoryStore, RateLimit, SimulatedDataset, dataset
from asgi_export.app import PREFIX
from asgi_export.export.filters import OPERATORS
from asgi_export.export.parameters import MAX_TOTAL, PARAMETERS
from asgi_export.formats import FORMATS
from asgi_export.limiter.rules import parse_rules
from asgi_export.openapi.visibility import MAX_FILTER_NAMES, MAX_NAMES
from asgi_export.service import make_service
from asgi_export.settings import Settings
from tests.doubles import Client, Turns, http_scope
from tests.openapi.described import (
    ALICE,
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


def schema_of(document: Any, name: str, path: str = f"{PREFIX}/csv") -> Any:
    return parameters_at(document, path)[name]["schema"]


@pytest.mark.parametrize("query", ["", "dataset=orders"])
@pytest.mark.parametrize("sources", [[PEOPLE], [PEOPLE, ORDERS], [SimulatedDataset(), ORDERS], [EVERYTHING]])
def test_it_is_openapi(sources: Any, query: str) -> None:
    validate(document_of(ExportApp([*sources, replace(SimulatedDataset(), name="orders")][:2]), query))


def test_it_is_openapi_with_keys_too(tmp_path: Path) -> None:
    validate(document_of(with_keys(ExportApp([PEOPLE]), tmp_path), **ALICE))


def test_every_format_takes_the_parameters_that_it_heeds() -> None:
    """Those of text are checked by the other formats and left alone, so there is nothing to say of them."""
    document = document_of(ExportApp([PEOPLE]))
    text = {row.name for row in PARAMETERS if row.of_text}
    every = {row.name for row in PARAMETERS} - text - {"sort"} | {"X-API-Key", "filters"}
    for name, found in FORMATS.items():
        for method in "get", "head":
            taken = parameters_at(document, f"{PREFIX}/{name}", method).keys()
            assert taken == (every | text if found.delimited else every)


def test_what_depends_on_the_format_is_said_of_it() -> None:
    document = document_of(ExportApp([PEOPLE]))
    assert schema_of(document, "filename")["default"] == "export.csv"
    assert schema_of(document, "filename", f"{PREFIX}/arrow")["default"] == "export.arrow"
    assert schema_of(document, "delimiter")["default"] == ","
    assert schema_of(document, "delimiter", f"{PREFIX}/tsv")["enum"] == ["tab", "\t"]
    for name, found in FORMATS.items():
        answer = resolved(document, document["paths"][f"{PREFIX}/{name}"]["get"]["responses"]["200"])
        assert list(answer["content"]) == [found.media_type]


def test_one_dataset_has_all_of_its_columns_and_its_default() -> None:
    document = document_of(ExportApp([ORDERS]))
    columns = parameters_at(document, f"{PREFIX}/csv")["columns"]
    assert columns["schema"]["items"]["enum"] == ["id", "price"]
    assert (columns["style"], columns["explode"], columns["schema"]["uniqueItems"]) == ("form", False, True)
    assert schema_of(document, "dataset")["enum"] == ["orders"]
    assert schema_of(document, "total")["default"] == 5
    assert schema_of(document, "total")["maximum"] == MAX_TOTAL


def test_of_several_datasets_the_shared_columns_are_promised() -> None:
    """Whatever the dataset is, one of those is taken."""
    document = document_of(ExportApp([PEOPLE, ORDERS]))
    assert schema_of(document, "columns")["items"]["enum"] == ["id"]
    assert schema_of(document, "dataset")["enum"] == ["people", "orders"]
    assert schema_of(document, "dataset")["default"] == "people"
    assert "default" not in schema_of(document, "total")
    assert "several datasets" in document["info"]["description"]


def test_of_several_datasets_each_can_be_asked_for() -> None:
    document = document_of(ExportApp([PEOPLE, ORDERS]), "dataset=orders")
    assert schema_of(document, "columns")["items"]["enum"] == ["id", "price"]
    assert schema_of(document, "dataset")["enum"] == ["orders"]
    assert parameters_at(document, f"{PREFIX}/csv")["dataset"]["required"]
    first = document_of(ExportApp([PEOPLE, ORDERS]), "dataset=people")
    assert not parameters_at(first, f"{PREFIX}/csv")["dataset"]["required"]
    assert "several datasets" not in first["info"]["description"]


def test_datasets_without_a_shared_column_have_no_columns_to_choose() -> None:
    other = dataset(lambda: [(1,)], columns=["nothing"], name="other")
    assert "columns" not in parameters_at(document_of(ExportApp([PEOPLE, other])), f"{PREFIX}/csv")


def filters_of(document: Any) -> Any:
    return schema_of(document, "filters")["properties"]


def test_one_dataset_has_a_filter_for_each_column_and_operator() -> None:
    """Each is a query parameter: the object is exploded, and has no other members."""
    document = document_of(ExportApp([EVERYTHING], max_filters=7), "dataset=everything")
    filters = parameters_at(document, f"{PREFIX}/csv")["filters"]
    assert (filters["style"], filters["explode"], filters["in"]) == ("form", True, "query")
    assert (filters["schema"]["additionalProperties"], filters["schema"]["maxProperties"]) == (False, 7)
    found = filters["schema"]["properties"]
    assert resolved(document, found["n__gte"]) == {"type": "number"}
    assert resolved(document, found["d__gte"])["format"] == "date"
    assert resolved(document, found["j__isnull"]) == {"type": "boolean"}
    assert resolved(document, found["n__in"])["type"] == "string"
    assert not {"j__exact", "b__gt", "n__contains"} & found.keys()
    assert '-"a,b"__x é__endswith' in found


def test_of_several_datasets_the_filters_by_shared_columns_are_promised() -> None:
    """A column that has another kind in another dataset can be null in both."""
    other = dataset(lambda: [(1, 2, 3)], columns=[("id", "text"), ("name", "integer"), "more"], name="other")
    typed = dataset(lambda: [(1, "a")], columns=[("id", "text"), ("name", "text")], name="typed")
    found = filters_of(document_of(ExportApp([typed, other])))
    assert found.keys() == {f"id__{operator}" for operator in OPERATORS["text"]} | {"name__isnull"}


def test_a_caller_is_shown_filters_by_the_columns_of_its_plan(tmp_path: Path) -> None:
    found = filters_of(document_of(with_keys(ExportApp([PEOPLE]), tmp_path), **ALICE))
    assert {name.partition("__")[0] for name in found} == {"id", "name"}


def test_a_document_names_so_many_filters_that_it_stays_small() -> None:
    wide = dataset(lambda: [(1,)], columns=[f"c{number}" for number in range(1000)], name="wide")
    document = document_of(ExportApp([wide]))
    assert len(filters_of(document)) == MAX_FILTER_NAMES
    assert len(json.dumps(document)) < 150_000


def test_what_a_dataset_can_be_sorted_by_is_told_in_both_directions() -> None:
    found = schema_of(document_of(ExportApp([EVERYTHING])), "sort")
    assert found["items"]["enum"][:4] == ["n", "-n", "b", "-b"]
    assert found["items"]["enum"][-2:] == ['"-""a,b""__x é"', '-"-""a,b""__x é"']
    assert "j" not in found["items"]["enum"]


def test_a_sort_is_told_where_every_dataset_sorts() -> None:
    sorts = dataset(lambda selection: [], columns=["n", "more"], name="sorts", applies=frozenset({"sort"}))
    assert schema_of(document_of(ExportApp([sorts])), "sort")["items"]["enum"] == ["n", "-n", "more", "-more"]
    for sources in [ORDERS], [sorts, ORDERS]:
        assert "sort" not in parameters_at(document_of(ExportApp([*sources])), f"{PREFIX}/csv")


def test_the_parameters_of_a_query_are_told_where_one_is_described() -> None:
    document = document_of(ExportApp([PEOPLE, EVERYTHING]), "dataset=everything")
    for path in f"{PREFIX}/csv", f"{PREFIX}/{{dataset}}.arrow":
        since, low = [parameters_at(document, path, "head")[name] for name in ("since", "low")]
        assert (since["required"], resolved(document, since["schema"])["format"]) == (True, "date")
        assert (low["required"], low["description"]) == (False, "by default 0")
    assert "since" not in parameters_at(document, f"{PREFIX}/openapi.json")


def test_a_query_that_needs_arguments_is_no_dataset_of_the_general_description() -> None:
    document = document_of(ExportApp([EVERYTHING, PEOPLE]))
    assert schema_of(document, "dataset")["enum"] == ["people"]
    assert parameters_at(document, f"{PREFIX}/csv")["dataset"]["required"]
    assert "since" not in parameters_at(document, f"{PREFIX}/csv")
    assert schema_of(document, "dataset", f"{PREFIX}/openapi.json")["enum"] == ["everything", "people"]
    (link,) = document["components"]["responses"]["catalogue"]["links"].values()
    assert link["parameters"] == {"dataset": "$response.body#/datasets/1/name"}
    assert "since" in parameters_at(document_of(ExportApp([EVERYTHING])), f"{PREFIX}/csv")


def test_a_column_that_no_parameter_can_name_is_not_promised() -> None:
    odd = dataset(lambda: [(1, 2)], columns=["\ud800", " odd "], name="odd")
    assert schema_of(document_of(ExportApp([odd])), "columns")["items"]["enum"] == ['" odd "']


def test_a_dataset_that_no_parameter_can_name_is_not_promised() -> None:
    """The name of a file need not be UTF-8; where it comes first, another has to be asked for."""
    odd = dataset(lambda: [(1,)], columns=["id"], name="caf\udce9")
    document = document_of(ExportApp([odd, ORDERS]))
    assert schema_of(document, "dataset")["enum"] == ["orders"]
    assert parameters_at(document, f"{PREFIX}/csv")["dataset"]["required"]
    assert schema_of(document, "dataset", f"{PREFIX}/openapi.json")["enum"] == ["orders"]


def test_every_dataset_that_may_be_read_can_be_described(tmp_path: Path) -> None:
    """Also by the description of another one."""
    for query in "", "dataset=orders":
        document = document_of(ExportApp([PEOPLE, ORDERS]), query)
        assert schema_of(document, "dataset", f"{PREFIX}/openapi.json")["enum"] == ["people", "orders"]
    guarded = document_of(with_keys(ExportApp([PEOPLE, ORDERS]), tmp_path), **ALICE)
    assert schema_of(guarded, "dataset", f"{PREFIX}/openapi.json")["enum"] == ["people"]


def test_a_dataset_with_more_columns_than_an_export_may_have_wants_a_choice() -> None:
    app = ExportApp([PEOPLE, ORDERS], max_columns=2)
    wide = document_of(app, "dataset=people")
    columns = parameters_at(wide, f"{PREFIX}/csv")["columns"]
    assert columns["required"]
    assert not columns["allowEmptyValue"]
    assert (columns["schema"]["minItems"], columns["schema"]["maxItems"]) == (1, 2)
    whole = document_of(app)
    assert schema_of(whole, "dataset")["enum"] == ["orders"]
    assert parameters_at(whole, f"{PREFIX}/csv")["dataset"]["required"]


def test_the_introduction_has_the_bound_of_the_service() -> None:
    said = document_of(ExportApp([PEOPLE], max_query_bytes=4000))["info"]["description"]
    assert "more than 4000 bytes" in said
    assert "8192" not in said


def test_the_document_in_the_package_is_openapi() -> None:
    validate(FULLEST)


def test_a_bound_on_rows_bounds_the_total() -> None:
    assert schema_of(document_of(ExportApp([PEOPLE], max_rows=10)), "total")["maximum"] == 10


@pytest.mark.parametrize(
    ("query", "status"), [("dataset=nope", 404), ("dataset=", 400), ("total=1", 400), ("dataset=people&x", 400)]
)
def test_what_cannot_be_described_is_a_problem(query: str, status: int) -> None:
    assert asyncio.run(ask(ExportApp([PEOPLE]), query=query)).status == status


def test_a_caller_is_shown_what_his_plan_may_read(tmp_path: Path) -> None:
    app = with_keys(ExportApp([PEOPLE, ORDERS], max_rows=10), tmp_path)
    client = asyncio.run(ask(app, **ALICE))
    document = json.loads(client.body)
    assert schema_of(document, "columns")["items"]["enum"] == ["id", "name"]
    assert b"email" not in client.body
    assert b"orders" not in client.body
    assert asyncio.run(ask(app, query="dataset=orders", **ALICE)).status == 403


def test_where_there_are_keys_one_is_needed_and_said_so(tmp_path: Path) -> None:
    app = with_keys(ExportApp([PEOPLE]), tmp_path)
    assert asyncio.run(ask(app)).status == 401
    document = document_of(app, **ALICE)
    assert document["security"] == [{"X-API-Key": []}, {"apiKey": []}, {"bearer": []}]
    assert document["components"]["securitySchemes"].keys() == {"X-API-Key", "apiKey", "bearer"}
    assert {"apiKey", "X-API-Key"}.isdisjoint(parameters_at(document, f"{PREFIX}/csv"))
    assert document["paths"]["/healthz"]["get"]["security"] == []
    assert "security" not in document["paths"][f"{PREFIX}/"]["get"]


def test_the_login_of_a_framework_is_no_key() -> None:
    async def identify(scope: Any) -> Caller | None:
        return Caller("alice")

    document = document_of(Callers(ExportApp([PEOPLE]), identify))
    validate(document)
    assert "security" not in document
    assert "securitySchemes" not in document["components"]
    assert {"apiKey", "X-API-Key"}.isdisjoint(parameters_at(document, f"{PREFIX}/csv"))
    assert "401" in document["paths"][f"{PREFIX}/csv"]["get"]["responses"]


def test_where_there_are_none_a_key_is_but_a_name() -> None:
    document = document_of(ExportApp([PEOPLE]))
    assert "security" not in document
    assert "401" not in document["paths"][f"{PREFIX}/csv"]["get"]["responses"]
    assert {"apiKey", "X-API-Key"} <= parameters_at(document, f"{PREFIX}/").keys()


def test_it_is_counted_like_the_catalogue() -> None:
    app = RateLimit(ExportApp([PEOPLE]), store=MemoryStore(), limit=2)
    answers = [asyncio.run(ask(app, path=path)) for path in ("/openapi.json", f"{PREFIX}/", "/openapi.json")]
    assert [answer.status for answer in answers] == [200, 200, 429]


def test_limits_are_told_where_there_are_some() -> None:
    limited = document_of(RateLimit(ExportApp([PEOPLE])))
    free = document_of(ExportApp([PEOPLE]))
    for document, there in (limited, True), (free, False):
        responses = document["paths"][f"{PREFIX}/csv"]["get"]["responses"]
        assert ("429" in responses) == there
        assert ("RateLimit" in resolved(document, responses["200"])["headers"]) == there
        alive = resolved(document, document["paths"]["/healthz"]["get"]["responses"]["200"])
        assert "RateLimit" not in alive["headers"]


@pytest.mark.parametrize("metrics", [True, False])
def test_metrics_are_told_where_they_are_served(metrics: bool) -> None:
    document = document_of(make_service(Settings(metrics=metrics, limit=parse_rules("60/60s"))))
    assert ("/metrics" in document["paths"]) == metrics


def test_a_format_that_is_not_installed_is_not_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(FORMATS, "arrow", replace(FORMATS["arrow"], library="not_installed"))
    document = document_of(ExportApp([PEOPLE]))
    assert f"{PREFIX}/csv" in document["paths"]
    assert "arrow" not in json.dumps(document)


async def get(api: Any, path: str, **scope: Any) -> Client:
    client = Client()
    changes = {"http_version": "1.1", "scheme": "http", "server": ("x", 80), "root_path": "", **scope}
    await api(http_scope(path, **changes), client.receive, client.send)
    return client


def mounted(path: str) -> Any:
    return Starlette(routes=[Mount(path, app=ExportApp([PEOPLE]))])


@pytest.mark.parametrize(
    ("api", "path", "server", "first"),
    [
        (ExportApp([PEOPLE]), "/openapi.json", "/", f"{PREFIX}/csv"),
        (ExportApp([PEOPLE]), f"{PREFIX}/openapi.json", "/", f"{PREFIX}/csv"),
        (ExportApp([PEOPLE], prefix="/data"), "/openapi.json", "/", "/data/csv"),
        (mounted("/data"), "/data/openapi.json", "/data", "/csv"),
        (mounted("/data"), f"/data{PREFIX}/openapi.json", "/data", f"{PREFIX}/csv"),
        (mounted(PREFIX), f"{PREFIX}/openapi.json", PREFIX, "/csv"),
        (mounted("/größe{x}"), "/größeA/openapi.json", "/gr%C3%B6%C3%9FeA", "/csv"),
    ],
)
def test_every_page_is_where_it_says(api: Any, path: str, server: str, first: str) -> None:
    document = json.loads(asyncio.run(get(api, path)).body)
    assert document["servers"] == [{"url": server}]
    assert next(iter(document["paths"])) == first
    root = path.removesuffix("/openapi.json").removesuffix(PREFIX) if server not in ("/", PREFIX) else server
    for page in document["paths"]:
        there = page.replace("{dataset}", "people")
        assert asyncio.run(get(api, root.rstrip("/") + there)).status == 200


@pytest.mark.parametrize("path", ["/api/v1/exports", "/data", "/"])
def test_a_framework_s_own_document_is_its_own(path: str) -> None:
    """Mounted at the root as well, where both would be found at the same path."""
    api = FastAPI(title="the host's")
    api.mount(path, ExportApp([PEOPLE]))
    assert json.loads(asyncio.run(get(api, "/openapi.json")).body)["info"]["title"] == "the host's"
    ours = f"{path.rstrip('/')}/openapi.json" if path != "/" else f"{PREFIX}/openapi.json"
    assert json.loads(asyncio.run(get(api, ours)).body)["info"]["title"] == "asgi-export"


def test_head_and_options_are_answered() -> None:
    app = ExportApp([PEOPLE])
    head = asyncio.run(ask(app, method="HEAD"))
    assert (head.status, head.body) == (200, b"")
    options = asyncio.run(ask(app, method="OPTIONS"))
    assert options.headers[b"allow"] == b"GET, HEAD, OPTIONS"


@pytest.mark.slow
@pytest.mark.parametrize("path", ["/openapi.json", f"{PREFIX}/"])
def test_thousands_of_tables_do_not_hold_the_loop(path: str) -> None:
    """And the document names so many of them that it stays small; the catalogue has them all."""
    tables = [
        dataset(lambda: [(1,)], columns=[f"column_{number}" for number in range(100)], name=f"table_{table}")
        for table in range(2 * MAX_NAMES)
    ]

    async def scenario() -> None:
        app = ExportApp(tables)
        await app.start()
        async with Turns() as turns:
            client = await ask(app, path=path)
        assert client.status == 200
        assert turns.count > 10
        found = json.loads(client.body)
        if path == "/openapi.json":
            assert len(schema_of(found, "dataset")["enum"]) == MAX_NAMES
            assert len(client.body) < 300_000
        else:
            assert len(found["datasets"]) == len(tables)

    asyncio.run(scenario())


def test_a_link_leads_from_the_catalogue_to_an_export() -> None:
    document = document_of(ExportApp([PEOPLE]))
    answer = resolved(document, document["paths"][f"{PREFIX}/"]["get"]["responses"]["200"])
    (link,) = answer["links"].values()
    assert link["operationId"] == document["paths"][f"{PREFIX}/csv"]["get"]["operationId"]
    assert link["parameters"].keys() == {"dataset"}


SHOWN: dict[str, Any] = {
    "bare": lambda folder: ExportApp([PEOPLE]),
    "limited": lambda folder: RateLimit(ExportApp([PEOPLE, ORDERS])),
    "keys": lambda folder: with_keys(ExportApp([PEOPLE]), folder),
    "a query": lambda folder: ExportApp([EVERYTHING]),
    "no columns": lambda folder: ExportApp([PEOPLE, dataset(lambda: [(1,)], columns=["nothing"], name="other")]),
    "no name": lambda folder: ExportApp([dataset(lambda: [(1,)], columns=["id"], name="caf\udce9")]),
}
"""Applications of which different parts of the document are taken away."""


@pytest.mark.parametrize("shown", SHOWN)
def test_every_reference_leads_somewhere(shown: str, tmp_path: Path) -> None:
    document = document_of(SHOWN[shown](tmp_path), **ALICE)

    def look(node: Any) -> None:
        if isinstance(node, dict):
            assert resolved(document, node) is not None
            node = list(node.values())
        if isinstance(node, list):
            for child in node:
                look(child)

    look(document)
