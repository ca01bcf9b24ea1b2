"""The tables of filters in docs/http.md are what the service does: every operator, every kind, every example."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterator
from typing import Any, get_args

import pytest

from asgi_export import Column, ExportApp, Selection, dataset
from asgi_export.declared import Kind
from asgi_export.export.filters import OPERATORS
from asgi_export.table import Operator
from asgi_export.values.literals import PARSERS
from tests.conformance.servers import ROOT
from tests.doubles import Client

PAGE = (
    (ROOT / "docs/http.md").read_text(encoding="utf-8").partition("\n## Filters and sort\n")[2].partition("\n## ")[0]
)
OPERATOR_ROWS = re.findall(r"^\| (`\w+`[^|]*) \| ([^|]+) \| [^|]+ \| (`\w+__[^|]+) \|$", PAGE, re.M)
KIND_ROWS = re.findall(r"^\| (\w+) \| (`[^|]+) \| [^|]*\|$", PAGE, re.M)
COLUMNS = [Column("state"), Column("note"), Column("total", "numeric"), *[Column(kind, "", kind) for kind in PARSERS]]


@dataset(columns=COLUMNS)
def table(selection: Selection) -> Iterator[Any]:
    return iter(())


def coded(cell: str) -> list[str]:
    return re.findall(r"`([^`]+)`", cell)


def status(query: str) -> int:
    client = Client()
    asyncio.run(client.ask(ExportApp([table]), query))
    return int(client.status)


def kinds_of(cell: str) -> set[str]:
    every = set(get_args(Kind))
    return {"all": every, "all but nested": every - {"nested"}}.get(cell) or set(cell.split(", "))


def test_every_operator_is_in_the_table_with_its_kinds() -> None:
    told = {(name, kind) for names, kinds, _ in OPERATOR_ROWS for name in coded(names) for kind in kinds_of(kinds)}
    assert told == {(name, kind) for kind, names in OPERATORS.items() for name in names}
    assert {name for name, _ in told} == set(get_args(Operator))


@pytest.mark.parametrize("example", [found for *_, cell in OPERATOR_ROWS for found in coded(cell)])
def test_every_example_of_an_operator_works(example: str) -> None:
    assert status(example) == 200


@pytest.mark.parametrize(("kind", "value"), [(kind, value) for kind, cell in KIND_ROWS for value in coded(cell)])
def test_every_example_of_a_value_works(kind: str, value: str) -> None:
    assert status(f"{kind}__exact={value}") == 200
    assert status(f"{kind}__in={value},{value}") == 200


def test_every_kind_with_values_is_in_the_table() -> None:
    assert [kind for kind, _ in KIND_ROWS] == list(PARSERS)
