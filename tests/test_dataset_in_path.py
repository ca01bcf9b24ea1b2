"""`DATASET.FORMAT` as the last segment of the path: the same export, by an address that names its type."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from asgi_export import ExportApp, dataset
from asgi_export.app import PREFIX
from tests.doubles import Client
from tests.openapi.described import ALICE, ORDERS, PEOPLE, ask, document_of, parameters_at, resolved, with_keys


def asked(app: Any, path: str, query: str = "", **scope: Any) -> Client:
    return asyncio.run(ask(app, path=path, query=query, **scope))


def problem(answer: Client, status: int) -> str:
    assert answer.status == status
    detail: str = json.loads(answer.body)["detail"]
    return detail


@pytest.mark.parametrize("slash", ["", "/"])
def test_it_is_the_export_that_the_query_asks_for(slash: str) -> None:
    app = ExportApp([PEOPLE, ORDERS])
    by_path = asked(app, f"{PREFIX}/orders.csv{slash}", "columns=price,id")
    by_query = asked(app, f"{PREFIX}/csv", "columns=price,id&dataset=orders")
    assert by_path.body == by_query.body == b"price,id\n9.5,7\n"
    assert by_path.headers.keys() == by_query.headers.keys()
    assert by_path.headers[b"content-disposition"] == b'attachment; filename="export.csv"'
    assert asked(app, f"{PREFIX}/orders.csv", "filename=o.csv").headers[b"content-disposition"].endswith(b'"o.csv"')


@pytest.mark.parametrize(
    "name", ["a.b.c", "csv", "orders.csv", "..", "my orders", "größe", "a/b", "50%", "a+b?#&", "日本"]
)
def test_every_name_can_be_written_in_a_path(name: str) -> None:
    """Percent-encoded as one segment; also below a mount that Litestar has cut off, as far as it knows."""
    app = ExportApp([PEOPLE, dataset(lambda: [(7,)], columns=["id"], name=name)])
    segment = f"{quote(name, safe='')}.csv"
    for mount in PREFIX, "/data":
        raw = f"{mount}/{segment}".encode()
        root = "" if mount == PREFIX else mount
        whole = asked(app, f"{mount}/{name}.csv", raw_path=raw, root_path=root)
        assert whole.body == b"id\n7\n"
        cut = asked(app, f"/{name}.csv/", raw_path=raw, root_path="")
        assert cut.body == b"id\n7\n"


def test_head_and_options_are_those_of_every_export() -> None:
    app = ExportApp([PEOPLE])
    got, head = (asked(app, f"{PREFIX}/people.csv", method=method) for method in ("GET", "HEAD"))
    assert (head.status, head.body) == (200, b"")
    assert {name for name, _ in got.headers.items()} == {name for name, _ in head.headers.items()}
    options = asked(app, f"{PREFIX}/people.csv", method="OPTIONS")
    assert (options.status, options.headers[b"allow"]) == (204, b"GET, HEAD, OPTIONS")
    assert asked(app, f"{PREFIX}/people.csv", method="POST").status == 405


@pytest.mark.parametrize("query", ["dataset=orders", "dataset=people"])
def test_a_dataset_in_the_query_as_well_is_given_twice(query: str) -> None:
    """Also the same: a parameter is given once."""
    detail = problem(asked(ExportApp([PEOPLE, ORDERS]), f"{PREFIX}/people.csv", query), 400)
    assert detail == f"{query}: given twice; expected once, and the path names people"


def test_what_is_not_there_is_not_found() -> None:
    app = ExportApp([PEOPLE])
    assert "dataset=nope" in problem(asked(app, f"{PREFIX}/nope.csv"), 404)
    assert "DATASET.csv" in problem(asked(app, f"{PREFIX}/people.xls"), 404)
    assert len(problem(asked(app, f"{PREFIX}/{'x' * 10_000}.csv"), 404)) < 200


def test_what_the_key_may_not_read_is_forbidden(tmp_path: Path) -> None:
    app = with_keys(ExportApp([PEOPLE, ORDERS]), tmp_path)
    assert asked(app, f"{PREFIX}/people.csv", **ALICE).body == b"id,name\n1,Ada\n"
    assert "may not read it" in problem(asked(app, f"{PREFIX}/orders.csv", **ALICE), 403)
    assert asked(app, f"{PREFIX}/people.csv").status == 401


def test_the_description_has_it() -> None:
    document = document_of(ExportApp([PEOPLE, ORDERS]))
    path = f"{PREFIX}/{{dataset}}.csv"
    for method in "get", "head":
        found = parameters_at(document, path, method)["dataset"]
        assert (found["in"], found["required"]) == ("path", True)
        assert resolved(document, found["schema"])["enum"] == ["people", "orders"]
    assert "enum" not in parameters_at(document, path, "options")["dataset"]["schema"]  # it tells strangers nothing
    by_query = parameters_at(document, f"{PREFIX}/csv")
    assert parameters_at(document, path).keys() == by_query.keys()
    assert by_query["dataset"]["in"] == "query"
