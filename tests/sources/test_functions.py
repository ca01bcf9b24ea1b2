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

from asgi_export import Column, ExportApp, Filter, Selection, Sort, dataset
from asgi_export.asgi.pump import BrokenOff
from asgi_export.sources.functions import FLUSH_SECONDS, FunctionDataset
from tests.doubles import Client, Turns, http_scope, run


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


def test_all_rows_come_where_there_is_no_limit() -> None:
    """The last ones in a batch that is not full."""
    assert export(people, "columns=id") == "id\n0\n1\n2\n3\n4\n"


class Clock:
    """Stands for the module `time`, and moves when the test says so."""

    now = 1000.0

    def monotonic(self) -> float:
        return self.now


def test_rows_are_handed_over_after_a_while_though_the_batch_is_not_full(monkeypatch: pytest.MonkeyPatch) -> None:
    """The time begins with the batch before."""
    clock = Clock()
    monkeypatch.setattr("asgi_export.sources.functions.time", clock)

    @dataset(columns=["a"])
    def source() -> Iterator[Any]:
        for number in range(8):
            clock.now += FLUSH_SECONDS * 0.6
            yield (number,)

    with blocking(source) as batches:
        found = [[row[0] for row in batch] for batch in batches]
    assert found == [[0], [1, 2], [3, 4], [5, 6], [7]]


@pytest.mark.parametrize("seconds", [FLUSH_SECONDS, 1.0, 3600.0])
def test_rows_that_come_slowly_are_handed_over_at_once(monkeypatch: pytest.MonkeyPatch, seconds: float) -> None:
    """Not with the next, which may be an hour later."""
    clock = Clock()
    monkeypatch.setattr("asgi_export.sources.functions.time", clock)
    given: list[int] = []

    @dataset(columns=["a"])
    def source() -> Iterator[Any]:
        for number in range(5):
            clock.now += seconds
            given.append(number)
            yield (number,)

    with blocking(source) as batches:
        for batch in batches:
            assert [row[0] for row in batch] == given[-1:] or not batch
    assert given == [0, 1, 2, 3, 4]


def blocking(source: FunctionDataset) -> Any:
    return source.open(Selection(tuple(column.name for column in source.columns)))


def test_an_interrupt_takes_effect_before_the_next_item() -> None:
    """Also where a function gives items without a row in them."""
    asked: list[int] = []

    @dataset(columns=["a"])
    def source() -> Iterator[Any]:
        for number in range(10_000):
            asked.append(number)
            if number == 5:
                cursor.interrupt()
            yield []

    cursor = blocking(source)
    with cursor as batches:
        assert list(batches) == [[]]
    assert len(asked) == 6


def test_a_generator_that_is_left_in_the_middle_is_closed_before_anything_else() -> None:
    async def scenario() -> None:
        closed: list[str] = []

        @dataset(columns=["a"])
        async def source() -> AsyncIterator[Any]:
            try:
                while True:
                    yield (1,)
            finally:
                await asyncio.sleep(0)
                closed.append("closed")

        async with blocking(source) as batches:
            assert await anext(batches) == [(1,)]
        assert closed == ["closed"]
        del batches
        await asyncio.sleep(0)  # what was not closed would be closed now, in a task of its own

    run(scenario())


def test_an_iterator_that_is_no_generator_needs_no_close() -> None:
    class Counting:
        """An async iterator without `aclose`."""

        def __init__(self) -> None:
            self._left = 3

        def __aiter__(self) -> AsyncIterator[Any]:
            return self

        async def __anext__(self) -> Any:
            if not self._left:
                raise StopAsyncIteration
            self._left -= 1
            return (self._left,)

    assert export(dataset(lambda: Counting(), columns=["a"], name="x")) == "a\n2\n1\n0\n"  # noqa: PLW0108


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
    assert export(source, "columns=b&total=3") == 'b\nrow\nx\n""\n'


def test_a_function_may_return_an_iterable() -> None:
    assert export(dataset(lambda selection: [(1,), (2,)], columns=["a"], name="x")) == "a\n1\n2\n"
    assert export(dataset(lambda: iter([(1,)]), columns=["a"], name="x")) == "a\n1\n"


NO_ROWS = [(1,), (1, 2, 3), "ab", 5, None, [(1,)], [(1,), (1, 2, 3)], {"name": 1}, pa.table({"name": [1]})]


@pytest.mark.parametrize("item", NO_ROWS, ids=repr)
def test_an_item_that_is_no_row_is_a_failure_and_never_a_wrong_line(item: Any) -> None:
    """Nor do a row too short and a row too long make two."""

    @dataset(columns=["id", "name"])
    def source(selection: Selection) -> Iterator[Any]:
        yield item

    @dataset(columns=["id", "name"])
    async def projected() -> AsyncIterator[Any]:
        yield item

    assert asyncio.run(fetch(source)).status == 500
    assert asyncio.run(fetch(projected, "columns=id")).status == 500


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
    assert asyncio.run(fetch(dataset(lambda: 5, columns=["a"], name="x"))).status == 500


def seen_by(applies: set[Any], query: str) -> tuple[Client, list[Selection]]:
    """The answer of a function that declares this and does nothing of it, and the selections that it got."""
    seen: list[Selection] = []

    @dataset(columns=[("id", "integer"), ("name", "text")], applies=applies)
    def source(selection: Selection) -> Iterator[Any]:
        seen.append(selection)
        for number in (3, 1, 2):
            yield tuple({"id": number, "name": f"n{number}"}[name] for name in selection.columns)

    return asyncio.run(fetch(source, query)), seen


FILTER = Filter("id", "gte", 2)
SORT = Sort("id", descending=True)


@pytest.mark.parametrize(
    ("applies", "query", "selected", "body"),
    [
        (set(), "id__gte=2&total=1", (("name", "id"), None, (FILTER,), ()), "name\nn3\n"),
        ({"filters"}, "id__gte=2&total=1", (("name",), 1, (FILTER,), ()), "name\nn3\n"),
        ({"filters"}, "id__gte=2", (("name",), None, (FILTER,), ()), "name\nn3\nn1\nn2\n"),
        ({"sort"}, "sort=-id&total=2", (("name",), 2, (), (SORT,)), "name\nn3\nn1\n"),
        ({"sort"}, "id__gte=2&sort=-id&total=2", (("name", "id"), None, (FILTER,), (SORT,)), "name\nn3\nn2\n"),
        ({"filters", "sort"}, "id__gte=2&sort=-id&total=2", (("name",), 2, (FILTER,), (SORT,)), "name\nn3\nn1\n"),
    ],
)
def test_a_function_gets_what_it_declares_and_the_rest_is_done_to_what_it_gives(
    applies: set[Any], query: str, selected: tuple[Any, ...], body: str
) -> None:
    client, seen = seen_by(applies, f"columns=name&{query}")
    assert client.body.decode() == body
    assert [(found.columns, found.limit, found.filters, found.sort) for found in seen] == [selected]


@pytest.mark.parametrize("applies", [set(), {"filters"}])
def test_a_sort_that_a_function_does_not_declare_is_refused(applies: set[Any]) -> None:
    client, seen = seen_by(applies, "sort=id")
    assert (client.status, seen) == (400, [])
    assert "dataset source cannot be sorted; its function does not sort" in client.body.decode()


@pytest.mark.parametrize("applies", [{"filter"}, {"filters", "limit"}, "sort", ["columns"]])
def test_a_declaration_names_filters_and_sort_and_nothing_else(applies: Any) -> None:
    with pytest.raises(ValueError, match=r"expected a set of 'filters' and 'sort'"):
        dataset(lambda selection: [], columns=["a"], name="x", applies=applies)


def test_a_function_that_gets_no_selection_cannot_declare_anything() -> None:
    with pytest.raises(ValueError, match="expected a function that takes the selection"):
        dataset(as_full_rows, columns=["a"], name="x", applies={"filters"})


NUMBERS = [(1, "a", 0.5), (2, None, float("nan")), (3, "é", None), (4, "A", -0.0)]
FIELDS = [("n", "integer"), ("t", "text"), ("f", "double precision")]


def picked(selection: Selection | None) -> list[tuple[Any, ...]]:
    names = [name for name, _ in FIELDS]
    places = [names.index(name) for name in (selection.columns if selection else names)]
    return [tuple(row[place] for place in places) for row in NUMBERS]


def as_mappings(selection: Selection) -> Iterator[Any]:
    for row in picked(selection):
        yield dict(zip(selection.columns, row, strict=True))


def as_lists(selection: Selection) -> Iterator[Any]:
    yield picked(selection)[:3]
    yield []
    yield picked(selection)[3:]


def as_full_rows() -> list[Any]:
    return picked(None)


async def as_async_rows(selection: Selection) -> AsyncIterator[Any]:
    for row in picked(selection):
        yield row


def as_arrow(selection: Selection) -> Iterator[Any]:
    for rows in (picked(selection)[:1], picked(selection)[1:]):
        yield pa.table(dict(zip(selection.columns, zip(*rows, strict=True), strict=True)))


async def as_async_polars(selection: Selection) -> AsyncIterator[Any]:
    yield pl.DataFrame(picked(selection), selection.columns, orient="row")


def as_mixed_items(selection: Selection) -> Iterator[Any]:
    first, *rest = picked(selection)
    yield first
    yield pa.table(dict(zip(selection.columns, zip(*rest[:2], strict=True), strict=True)))
    yield rest[2:]


GIVERS = [as_mappings, as_lists, as_full_rows, as_async_rows, as_arrow, as_async_polars, as_mixed_items]


@pytest.mark.parametrize("giver", GIVERS, ids=lambda giver: giver.__name__)
@pytest.mark.parametrize(
    ("query", "ids"),
    [
        ("n__gte=2", [2, 3, 4]),
        ("n__in=4,1,1", [1, 4]),
        ("t__isnull=true", [2]),
        ("t__not=a", [3, 4]),
        ("f__gt=inf", [2]),
        ("f__exact=0", [4]),
        ("f__notin=0.5", [2, 4]),
        ("t__gte=a&total=1", [1]),
        ("t__startswith=%C3%A9", [3]),
        ("n__lt=1", []),
        ("n__gte=2&total=0", []),
    ],
)
def test_whatever_a_function_gives_is_filtered(giver: Any, query: str, ids: list[int]) -> None:
    """Also by columns that are not exported."""
    found = dataset(giver, columns=FIELDS, name="x")
    assert export(found, f"columns=n&{query}") == "n\n" + "".join(f"{number}\n" for number in ids)
    first = [line.partition(",")[0] for line in export(found, query).splitlines()[1:]]
    assert first == [str(number) for number in ids]
