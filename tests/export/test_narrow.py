"""Filters that a dataset does not apply itself are applied to its rows."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest

from asgi_export import Column, ExportApp, Selection, SimulatedDataset, dataset
from tests.doubles import Client, run

COLUMNS = [Column("id", "integer"), Column("name", "text")]
ROWS = [(1, "a"), (2, None), (3, "c"), (4, "a")]


@dataset(columns=COLUMNS)
def sync_rows(selection: Selection) -> Iterator[Any]:
    places = [("id", "name").index(name) for name in selection.columns]
    for row in ROWS:
        yield tuple([row[place] for place in places])


@dataset(columns=COLUMNS)
async def async_rows() -> AsyncIterator[Any]:
    for row in ROWS:
        yield row


def body(found: Any, query: str) -> str:
    """The body of an export whose application is opened for it and closed."""
    client = Client()

    async def scenario() -> None:
        app = ExportApp([found])
        await client.ask(app, query)
        await app.stop()

    run(scenario())
    assert client.status == 200
    return client.body.decode()


@pytest.mark.parametrize("found", [sync_rows, async_rows])
@pytest.mark.parametrize(
    ("query", "rows"),
    [
        ("id__gte=3", "3,c\n4,a\n"),
        ("name__exact=a&total=1", "1,a\n"),
        ("name__isnull=true", "2,\n"),
        ("name__not=a", "3,c\n"),
        ("id__gt=1&id__lt=4", "2,\n3,c\n"),
        ("id__in=4,1&total=5", "1,a\n4,a\n"),
        ("id__gt=9", ""),
    ],
)
def test_rows_are_filtered_before_they_are_counted(found: Any, query: str, rows: str) -> None:
    assert body(found, query) == "id,name\n" + rows


def test_a_column_may_be_filtered_by_and_not_exported() -> None:
    assert body(sync_rows, "columns=id&name__exact=a") == "id\n1\n4\n"


def test_simulated_rows_are_filtered_within_their_number() -> None:
    """They have no other end: a filter for which no row holds would go on for ever."""
    assert body(SimulatedDataset(), "columns=id&id__lte=2") == "id\n1\n2\n"
    assert body(SimulatedDataset(), "columns=id&name__endswith=9&total=20") == "id\n9\n19\n"
