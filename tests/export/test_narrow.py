"""Filters that a dataset does not apply itself are applied to its rows."""

from __future__ import annotations

import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import AbstractAsyncContextManager
from typing import Any

import polars as pl
import pyarrow as pa
import pytest

from asgi_export import Column, ExportApp, Selection, SimulatedDataset, dataset
from asgi_export.errors import SourceFailed
from asgi_export.export.narrow import open_selection
from asgi_export.table import Filter
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


TABLE = pa.table({"id": [1, 2, 3, 4], "name": ["a", None, "c", "a"]})


@dataset(columns=COLUMNS)
def sync_columns(selection: Selection) -> Iterator[Any]:
    yield TABLE.slice(0, 1).to_batches()[0]
    yield TABLE.slice(1)


@dataset(columns=COLUMNS)
async def async_columns() -> AsyncIterator[Any]:
    yield pl.DataFrame(TABLE)


@dataset(columns=COLUMNS)
def rows_and_columns() -> Iterator[Any]:
    yield ROWS[:2]
    yield TABLE.slice(2)


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


@pytest.mark.parametrize("found", [sync_rows, async_rows, sync_columns, async_columns, rows_and_columns])
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


@pytest.mark.parametrize("found", [sync_rows, sync_columns, async_columns])
def test_a_column_may_be_filtered_by_and_not_exported(found: Any) -> None:
    assert body(found, "columns=id&name__exact=a") == "id\n1\n4\n"


def endless_stream() -> pa.RecordBatchReader:
    def batches() -> Iterator[pa.RecordBatch]:
        while True:
            yield TABLE.to_batches()[0]

    return pa.RecordBatchReader.from_batches(TABLE.schema, batches())


@dataset(columns=COLUMNS)
def endless() -> Iterator[Any]:
    yield endless_stream()


class EndlessStream:
    """A dataset whose only batch is a stream without an end, and its `BlockingCursor`."""

    name = "endless"
    columns = COLUMNS
    default_limit = None

    def open(self, _: Selection) -> EndlessStream:
        return self

    def __enter__(self) -> Iterator[Any]:
        return iter([endless_stream()])

    def __exit__(self, *_: object) -> None: ...
    def interrupt(self) -> None: ...


@pytest.mark.parametrize("endless", [endless, EndlessStream()])
def test_a_stream_without_such_a_row_ends_with_its_client(endless: Any) -> None:
    """One batch may be a stream without an end; the source gets no turn then."""
    cursor = open_selection(endless, Selection(("id", "name"), filters=(Filter("id", "gt", 9),)))
    assert not isinstance(cursor, AbstractAsyncContextManager)
    with cursor as found:
        timer = threading.Timer(0.1, cursor.interrupt)
        timer.start()
        with pytest.raises(SourceFailed):
            next(found)
        timer.join()


def test_simulated_rows_are_filtered_within_their_number() -> None:
    """They have no other end: a filter for which no row holds would go on for ever."""
    assert body(SimulatedDataset(), "columns=id&id__lte=2") == "id\n1\n2\n"
    assert body(SimulatedDataset(), "columns=id&name__endswith=9&total=20") == "id\n9\n19\n"
