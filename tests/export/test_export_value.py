"""An export as a value: its head, and the fingerprint that names what was asked."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from asgi_export import SimulatedDataset, dataset
from asgi_export.asgi.context import context_of
from asgi_export.export.catalogue import Catalogue
from asgi_export.export.parameters import parse_parameters
from asgi_export.export.plan import Export, plan_export
from asgi_export.formats import FORMATS
from tests.doubles import http_scope

PEOPLE = dataset(lambda: [], columns=["id", "name"], name="people")  # noqa: PIE807


def planned(query: str = "", *, form: str = "csv", headers: Any = ()) -> Export:
    catalogue = Catalogue([PEOPLE, SimulatedDataset()])
    asyncio.run(catalogue.start())
    context = context_of(http_scope(query=query, headers=headers))
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


def test_how_text_is_written_is_no_question_where_the_format_is_no_text() -> None:
    assert planned("quote=all", form="ndjson").fingerprint() == planned(form="ndjson").fingerprint()


def test_a_fingerprint_is_one_line_of_json() -> None:
    text = planned("columns=id&total=5").fingerprint()
    assert json.loads(text)["columns"] == ["id"]
    assert "\n" not in text
