"""Filters and sort in PostgreSQL: the meaning of every operator on every type, by COPY and by rows."""

from __future__ import annotations

import asyncio
import csv
import io
import re
from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import UTC
from typing import Any

import asyncpg  # type: ignore[import-untyped, unused-ignore]
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from asgi_export.export.filters import operators_of
from asgi_export.sources.postgres.conditions import where
from asgi_export.sources.postgres.literals import literal, typed_list
from asgi_export.sources.postgres.source import PostgresDataset
from asgi_export.table import Column, Filter, Operator
from asgi_export.values.fitting import nearest_single
from asgi_export.values.matching import RowFilter
from tests.postgres_server import PostgresServer
from tests.sources.postgres_nasty import ASKED, COLLATED, COLUMNS, TEXTS, nasty_table
from tests.sources.postgres_shop import Monitor, Shop, make_shop, rows, run

LISTS = ("in", "notin")


@pytest.fixture(scope="module")
def nasty(postgres_server: PostgresServer) -> Shop:
    collations = postgres_server.execute("SELECT collname FROM pg_collation").split()
    return make_shop(postgres_server, "nasty", nasty_table(collations))


def filters_of(column: Column) -> Iterator[Filter]:
    """Every operator with every value, lists of none, of one and of all."""
    values = ASKED[column.kind]
    for operator in operators_of(column):
        if operator == "isnull":
            yield from (Filter(column.name, operator, flag) for flag in (True, False))
        elif operator in LISTS:
            yield from (Filter(column.name, operator, (value,)) for value in values)
            yield from (Filter(column.name, operator, tuple(some)) for some in ((), values, values[::3]))
        else:
            yield from (Filter(column.name, operator, value) for value in values)


def single(value: Any) -> Any:
    return tuple(map(nearest_single, value)) if isinstance(value, tuple) else nearest_single(value)


class Evaluator:
    """Say for which rows conditions hold: in the server, and by the reference for rows of Python."""

    def __init__(self, dataset: PostgresDataset, found: Sequence[tuple[Any, ...]]) -> None:
        self.dataset = dataset
        self._names = [column.name for column in dataset.columns]
        place = self._names.index("f4")
        self._rows = [(*row[:place], row[place] and nearest_single(row[place]), *row[place + 1 :]) for row in found]

    def expected(self, found: Filter) -> list[int]:
        """A column of 32-bit floats compares with the nearest of them."""
        if found.column == "f4" and found.operator != "isnull":
            found = replace(found, value=single(found.value))
        return [row[0] for row in RowFilter([found], self._names).rows(self._rows)]

    async def found(self, filters: Sequence[Filter]) -> list[list[int]]:
        """The ids for each filter, fifty filters a statement."""
        answers: list[list[int]] = []
        for start in range(0, len(filters), 50):
            some = [
                where(self.dataset.relation, [each]).removeprefix(" WHERE ") for each in filters[start : start + 50]
            ]
            held = ", ".join([f"coalesce({condition}, false)" for condition in some])
            async with self.dataset.pool.acquire() as connection:
                await connection.execute(self.dataset.begin)
                table = await connection.fetch(f"SELECT id, {held} FROM nasty AS q ORDER BY id")
                await connection.execute("ROLLBACK")
            answers += [[row[0] for row in table if row[place + 1]] for place in range(len(some))]
        return answers


async def evaluator_of(dataset: PostgresDataset) -> Evaluator:
    return Evaluator(dataset, await rows(dataset))


@pytest.mark.parametrize("name", [*COLUMNS, *COLLATED])
def test_every_operator_has_the_meaning_of_the_reference(nasty: Shop, name: str) -> None:
    async def test(datasets: dict[str, PostgresDataset], _: Monitor) -> None:
        evaluator = await evaluator_of(datasets["nasty"])
        column = next((found for found in evaluator.dataset.columns if found.name == name), None)
        if column is None:
            pytest.skip(f"no collation {COLLATED[name]}")
        asked = list(filters_of(column))
        for found, ids in zip(asked, await evaluator.found(asked), strict=True):
            assert ids == evaluator.expected(found), found

    run(nasty, test)


@pytest.mark.parametrize("collation", ["bytewise", "deterministic", ""])
@pytest.mark.parametrize("encoding", ["UTF8", "LATIN1"])
def test_text_compares_alike_whatever_a_collation_and_an_encoding_allow(
    nasty: Shop, collation: str, encoding: str
) -> None:
    """Every form of SQL gives the same rows; the columns are of collation C in UTF-8, where each is right."""

    async def test(datasets: dict[str, PostgresDataset], _: Monitor) -> None:
        dataset = datasets["nasty"]
        relation = dataset.relation
        columns = [
            replace(forms, comparison=replace(forms.comparison, collation=collation)) for forms in relation.columns
        ]
        server = replace(relation.server, encoding=encoding)
        changed = replace(dataset, relation=replace(relation, columns=tuple(columns), server=server))
        evaluator = await evaluator_of(changed)
        for column in changed.columns:
            if column.name in ("cc", "vc", "ch", "mood", "uid", "nm"):
                asked = list(filters_of(column))
                for found, ids in zip(asked, await evaluator.found(asked), strict=True):
                    assert ids == evaluator.expected(found), found

    run(nasty, test)


def test_a_server_without_infinite_numerics_is_asked_for_none(nasty: Shop) -> None:
    async def test(datasets: dict[str, PostgresDataset], _: Monitor) -> None:
        dataset = datasets["nasty"]
        server = replace(dataset.relation.server, version=130_000)
        evaluator = await evaluator_of(replace(dataset, relation=replace(dataset.relation, server=server)))
        (column,) = [found for found in dataset.columns if found.name == "cash"]
        asked = list(filters_of(column))
        conditions = [where(evaluator.dataset.relation, [each]) for each in asked]
        assert "nfinity" not in "".join(conditions)
        for found, ids in zip(asked, await evaluator.found(asked), strict=True):
            assert ids == evaluator.expected(found), found

    run(nasty, test)


ANY_TEXT = st.text(st.characters(exclude_categories=()), max_size=8)
BY_KIND: dict[str, st.SearchStrategy[Any]] = {
    "number": st.one_of(
        st.integers(),
        st.integers(-(10**400), 10**400),
        st.decimals(allow_nan=False, allow_infinity=False).filter(lambda number: abs(number.adjusted()) <= 800),
        st.sampled_from([float("nan"), float("inf"), float("-inf")]),
    ),
    "text": st.one_of(ANY_TEXT, st.sampled_from(ASKED["text"]).flatmap(lambda text: ANY_TEXT.map(text.__add__))),
    "boolean": st.booleans(),
    "date": st.dates(),
    "time": st.times(),
    "timestamp": st.datetimes(timezones=st.just(UTC)),
    "bytes": st.binary(max_size=4),
}


@st.composite
def any_filter(draw: st.DrawFn, columns: Sequence[Column]) -> Filter:
    column = draw(st.sampled_from([found for found in columns if found.kind != "nested"]))
    operator: Operator = draw(st.sampled_from(operators_of(column)))
    if operator == "isnull":
        return Filter(column.name, operator, draw(st.booleans()))
    value = BY_KIND[column.kind]
    return Filter(
        column.name, operator, tuple(draw(st.lists(value, max_size=3))) if operator in LISTS else draw(value)
    )


def test_no_value_makes_the_server_raise_and_each_has_the_meaning_of_the_reference(nasty: Shop) -> None:
    with asyncio.Runner() as runner:
        manager = nasty.datasets()
        dataset = runner.run(manager.__aenter__())["nasty"]
        evaluator = runner.run(evaluator_of(dataset))
        hostile = any_filter(dataset.columns)

        @settings(max_examples=150)
        @given(st.lists(hostile, min_size=1, max_size=20))
        def check(filters: list[Filter]) -> None:
            for found, ids in zip(filters, runner.run(evaluator.found(filters)), strict=True):
                assert ids == evaluator.expected(found), found

        try:
            check()
        finally:
            runner.run(manager.__aexit__(None, None, None))


QUOTES = [
    "'",
    "''",
    "\\",
    "\\'",
    "'\\",
    "\\\\'",
    "E'",
    "U&'",
    "$$",
    "$a$",
    "%",
    "%s",
    "{}",
    "--",
    "/*",
    ";",
    "\n",
    "\r",
]
QUOTES += [
    "\x01",
    "\x1a",
    "\u02bc",
    "\uff07",
    "\u2019",
    "\u00a5",
    "\u20a9",
    "\u00bf'",
    "\u0327\\",
    "${0}",
    "$1",
    ":a",
    "?",
]


@given(st.one_of(st.lists(st.sampled_from(QUOTES), max_size=6).map("".join), st.text(max_size=20)))
def test_a_literal_is_the_one_that_the_server_would_quote(text: str) -> None:
    """`quote_literal` is the reference; the next test asks it."""
    found = literal(text)
    inner = found.removeprefix("E")[1:-1]
    assert (found[0], found[-1]) == ("E" if "\\" in text else "'", "'")
    assert re.fullmatch(r"(?:[^'\\]|''|\\\\)*", inner, re.DOTALL)
    assert re.sub(r"''|\\\\", lambda match: match[0][0], inner) == text


@pytest.mark.parametrize("conforming", ["on", "off"])
def test_the_server_reads_every_literal_as_its_text(nasty: Shop, conforming: str) -> None:
    """With `standard_conforming_strings` off too, which no export has; by COPY, as exports send it."""
    texts = [*QUOTES, *[one + other for one in QUOTES for other in QUOTES], *TEXTS]

    async def main() -> None:
        connection = await asyncpg.connect(nasty.dsn)
        try:
            await connection.execute(
                f"SET standard_conforming_strings = {conforming}; SET escape_string_warning = off"
            )
            found = await connection.fetch(f"SELECT unnest({typed_list(texts, 'text')})")
            assert [row[0] for row in found] == texts
            quoted = await connection.fetch("SELECT quote_literal(t) FROM unnest($1::text[]) t", texts)
            assert [row[0] for row in quoted] == [literal(text) for text in texts]
            for text in texts:
                copied = io.BytesIO()
                await connection.copy_from_query(f"SELECT {literal(text)}, 1", output=copied, format="csv")
                assert next(csv.reader(io.StringIO(copied.getvalue().decode(), newline=""))) == [text, "1"]
        finally:
            await connection.close()

    asyncio.run(main())
