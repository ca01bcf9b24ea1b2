"""An export as a value: its head, and the fingerprint that names what was asked."""

from __future__ import annotations

import asyncio
import json
from decimal import Decimal
from typing import Any

import pytest

from asgi_export import Caller, SimulatedDataset, dataset
from asgi_export.access.identity import IDENTITY, Identity
from asgi_export.asgi.context import context_of
from asgi_export.export.catalogue import Catalogue
from asgi_export.export.parameters import parse_parameters
from asgi_export.export.plan import Export, plan_export
from asgi_export.formats import FORMATS
from tests.doubles import Recorded, http_scope

PEOPLE = dataset(lambda: [], columns=["id", "name"], name="people")  # noqa: PIE807
ORDERS = dataset(lambda selection: [], columns=["id"], name="orders")


class Custom(Recorded):
    """A dataset of somebody else's, which may look at the caller."""

    name = "custom"


class Shop(Custom):
    """One that does not."""

    name = "shop"
    same_for_all = True


def planned(query: str = "", *, form: str = "csv", headers: Any = (), caller: Caller | None = None) -> Export:
    catalogue = Catalogue([PEOPLE, ORDERS, SimulatedDataset(), Custom(), Shop()])
    asyncio.run(catalogue.start())
    context = context_of(http_scope(query=query, headers=headers))
    if caller is not None:
        context.set(IDENTITY, Identity("caller:x", caller=caller))
    return plan_export(catalogue.now, parse_parameters(context.parameters()), FORMATS[form], context)


def heads(export: Export) -> dict[bytes, bytes]:
    return dict(export.head()["headers"])


def test_the_head_says_what_comes() -> None:
    export = planned("filename=my.csv", headers=[(b"x-request-id", b"r1"), (b"accept-encoding", b"gzip")])
    assert export.head()["status"] == 200
    assert heads(export) == {
        b"content-type": b"text/csv; charset=utf-8",
        b"content-disposition": b'attachment; filename="my.csv"',
        b"cache-control": b"no-store",
        b"vary": b"Accept-Encoding",
        b"x-content-type-options": b"nosniff",
        b"x-request-id": b"r1",
        b"x-accel-buffering": b"no",
        b"content-encoding": b"gzip",
    }


def test_nothing_is_said_of_a_coding_where_there_is_none() -> None:
    assert b"content-encoding" not in heads(planned())


@pytest.mark.parametrize(
    "query",
    [
        "",
        "columns=",
        "columns=id,name",
        "columns=id,%20name",
        "dataset=people",
        "filename=x",
        "apiKey=k",
        "quote=minimal",
    ],
)
def test_the_same_question_has_the_same_fingerprint(query: str) -> None:
    """However it is written, and whoever asks it: it names the bytes."""
    assert planned(query, headers=[(b"accept-encoding", b"gzip")]).fingerprint() == planned().fingerprint()


QUESTIONS = [
    ("", "csv"),
    ("", "tsv"),
    ("", "ndjson"),
    ("columns=name,id", "csv"),
    ("columns=id", "csv"),
    ("total=0", "csv"),
    ("total=1", "csv"),
    ("dataset=simulated", "csv"),
    ("header=false", "csv"),
    ("delimiter=;", "csv"),
    ("quote=all", "csv"),
    ("null=-", "csv"),
    ("newline=crlf", "csv"),
    ("bom=true", "csv"),
    ("escapeFormulas=true", "csv"),
]


def test_another_question_has_another_fingerprint() -> None:
    found = {planned(query, form=form).fingerprint() for query, form in QUESTIONS}
    assert len(found) == len(QUESTIONS)


ALICE = Caller("alice", claims={"tenant": 1})
CALLERS = (
    ALICE,
    Caller("bob", claims={"tenant": 1}),
    Caller("alice", claims={"tenant": "1"}),
    Caller("alice", claims={"tenant": [1]}),
    Caller("alice", claims={"tenant": True}),
    Caller("alice", claims={"tenant": Decimal(1)}),
    Caller("alice", "gold", {"tenant": 1}),
    Caller("alice", claims={"team": 1}),
    Caller("alice"),
)


@pytest.mark.parametrize("name", ["orders", "custom"])
def test_what_may_depend_on_the_caller_has_another_fingerprint_for_each(name: str) -> None:
    """A function that takes the selection, and any dataset that does not say that it is the same for all."""
    found = {planned(f"dataset={name}", caller=caller).fingerprint() for caller in (*CALLERS, None)}
    assert len(found) == len(CALLERS) + 1
    assert planned(f"dataset={name}", caller=Caller("alice", claims={"tenant": 1})).fingerprint() in found


@pytest.mark.parametrize("name", ["people", "simulated", "shop"])
def test_what_is_the_same_for_all_has_one_fingerprint(name: str) -> None:
    found = {planned(f"dataset={name}", caller=caller).fingerprint() for caller in (*CALLERS, None)}
    assert len(found) == 1


@pytest.mark.parametrize("caller", [*CALLERS, None])
def test_a_dataset_sees_who_asks(caller: Caller | None) -> None:
    assert planned("dataset=orders", caller=caller).selection.caller is caller


def test_how_text_is_written_is_no_question_where_the_format_is_no_text() -> None:
    assert planned("quote=all", form="ndjson").fingerprint() == planned(form="ndjson").fingerprint()


def test_a_fingerprint_is_one_line_of_json() -> None:
    text = planned("columns=id&total=5").fingerprint()
    assert json.loads(text)["columns"] == ["id"]
    assert "\n" not in text
