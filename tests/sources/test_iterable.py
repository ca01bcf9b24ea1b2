"""User functions as datasets: what they may give, and what is never asked of them."""

from __future__ import annotations

import asyncio
import sqlite3
import threading
from collections.abc import AsyncIterator, Iterator
from typing import Any, NamedTuple

import polars as pl
import pyarrow as pa
import pytest

from asgi_export import Column, ExportApp, Selection, dataset
from asgi_export.asgi.stream import BrokenOff
from tests.doubles import Client, Turns, http_scope


async def fetch(source: Any, query: str = "") -> Client:
    client = Client()
    await ExportApp([source])(http_scope(query=query), client.receive, client.send)
    return client


def export(source: Any, query: str = "") -> str:
    client = asyncio.run(fetch(source, query))
    assert client.status == 200, client.body
    return client.body.decode()


class Person(NamedTuple):
    id: int
    name: str


@dataset(columns=["id", "name"])
async def people(selection: Selection) -> AsyncIterator[Any]:
    for number in range(5):
        yield {"id": number, "name": f"n{number}", "ignored": 1}


@dataset(columns=["id", "name"])
def full_rows() -> Iterator[Any]:
    yield (1, "a")
    yield Person(2, "b")
    yield [(3, "c"), {"id": 4, "name": "d"}]


def test_mappings_are_read_by_name() -> None:
    assert export(people, "columns=name,id&total=2") == "name,id\nn0,0\nn1,1\n"


def test_full_rows_are_picked_from() -> None:
    assert export(full_rows) == "id,name\n1,a\n2,b\n3,c\n4,d\n"
    assert export(full_rows, "columns=name") == "name\na\nb\nc\nd\n"


def test_a_selection_has_the_columns_and_the_limit() -> None:
    seen: list[Selection] = []

    @dataset(columns=["a", "b"], default_limit=7)
    def source(selection: Selection) -> Iterator[Any]:
        seen.append(selection)
        yield (1,) * len(selection.columns)

    export(source, "columns=b&total=3")
    export(source)
    assert [(found.columns, found.limit) for found in seen] == [(("b",), 3), (("a", "b"), 7)]


def test_rows_of_sqlite3_are_mappings_too() -> None:
    @dataset(columns=["id", "name"])
    def source() -> Iterator[Any]:
        connection = sqlite3.connect(":memory:", check_same_thread=False)
        connection.row_factory = sqlite3.Row
        try:
            yield from connection.execute("SELECT 'x' AS name, 1 AS id")
        finally:
            connection.close()

    assert export(source) == "id,name\n1,x\n"


@pytest.mark.parametrize("make", [pa.table, pl.DataFrame, lambda data: pa.table(data).to_batches()[0]])
def test_columns_are_picked_by_name_and_cut_at_the_limit(make: Any) -> None:
    @dataset(columns=["a", "b"])
    def source() -> Iterator[Any]:
        yield (0, "row")
        yield make({"c": [0, 0, 0], "b": ["x", None, "z"], "a": [1, 2, 3]})
        yield (9, "row")

    assert export(source) == "a,b\n0,row\n1,x\n2,\n3,z\n9,row\n"
    assert export(source, "columns=b&total=3") == 'b\nrow\nx\n""\n'.replace('""', '""')


def test_a_function_may_return_an_iterable() -> None:
    assert export(dataset(lambda selection: [(1,), (2,)], columns=["a"], name="x")) == "a\n1\n2\n"
    assert export(dataset(lambda: iter([(1,)]), columns=["a"], name="x")) == "a\n1\n"


@pytest.mark.parametrize("item", [(1,), (1, 2, 3), {"id": 1}, "ab", 5, None, [(1,)], pa.table({"id": [1]})], ids=repr)
def test_an_item_that_is_no_row_is_a_failure_and_never_a_wrong_line(item: Any) -> None:
    @dataset(columns=["id", "name"])
    def source(selection: Selection) -> Iterator[Any]:
        yield item

    assert asyncio.run(fetch(source)).status == 503


def test_a_bad_row_in_the_middle_breaks_the_export_off() -> None:
    @dataset(columns=["id", "name"])
    async def source(selection: Selection) -> AsyncIterator[Any]:
        yield (1, "a")
        yield (2,)

    with pytest.raises(BrokenOff):
        asyncio.run(fetch(source))


@pytest.mark.parametrize("total", [0, 1, 9, 1000, 1001])
def test_no_more_items_are_asked_for_than_the_limit(total: int) -> None:
    asked: list[int] = []

    @dataset(columns=["a"])
    async def source() -> AsyncIterator[Any]:
        number = 0
        while True:
            asked.append(number)
            yield (number,)
            number += 1

    assert export(source, f"total={total}").count("\n") == total + 1
    assert len(asked) == total


def test_a_list_is_cut_at_the_limit() -> None:
    assert export(dataset(lambda: [[(number,) for number in range(10)]], columns=["a"], name="x"), "total=4") == (
        "a\n0\n1\n2\n3\n"
    )


def test_sync_generators_run_and_are_closed_in_worker_threads() -> None:
    threads: list[str] = []

    @dataset(columns=["a"])
    def source() -> Iterator[Any]:
        threads.append(threading.current_thread().name)
        try:
            while True:
                yield (1,)
        finally:
            threads.append(threading.current_thread().name)

    export(source, "total=5")
    assert len(threads) == 2
    assert all(name.startswith("asgi-export") for name in threads)


def test_one_large_list_does_not_hold_the_loop() -> None:
    """A million cells in one item: the loop turns while they are encoded."""

    @dataset(columns=["a", "b", "c", "d"])
    async def source() -> AsyncIterator[Any]:
        yield [(number, number, number, number) for number in range(100_000)]

    async def scenario() -> int:
        async with Turns() as turns:
            await fetch(source)
        return turns.count

    assert asyncio.run(scenario()) >= 90


def test_columns_are_names_pairs_or_columns_each_once() -> None:
    source = dataset(list, columns=["a", ("b", "text"), Column("c")], name="x")
    assert source.columns == (Column("a"), Column("b", "text"), Column("c"))
    for columns in ([], ["a", "a"]):
        with pytest.raises(ValueError, match="columns="):
            dataset(list, columns=columns, name="x")


def test_a_function_that_gives_no_rows_at_all_is_a_failure() -> None:
    assert asyncio.run(fetch(dataset(lambda: 5, columns=["a"], name="x"))).status == 503
