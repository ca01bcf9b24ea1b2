"""The plan of one export: what the parameters ask for, and what is there."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from asgi_export import Column, Dialect, SimulatedDataset, dataset
from asgi_export.access.identity import IDENTITY, Identity
from asgi_export.access.plans import OPEN, AccessPlan
from asgi_export.asgi.context import context_of
from asgi_export.errors import BadRequest, Forbidden, NotFound
from asgi_export.export.catalogue import MAX_LISTED, Catalogue, ExportBounds, listed
from asgi_export.export.parameters import parse_parameters
from asgi_export.export.plan import Export, plan_export
from asgi_export.formats import FORMATS
from tests.doubles import http_scope

PEOPLE = dataset(lambda: [], columns=["id", " odd ", "name", "a,b"], name="people", default_limit=7)  # noqa: PIE807


def plan(
    *pairs: tuple[str, str],
    form: str = "csv",
    access: AccessPlan = OPEN,
    datasets: Any = None,
    bounds: ExportBounds | None = None,
) -> Export:
    catalogue = Catalogue(datasets or [PEOPLE, SimulatedDataset()], bounds)
    asyncio.run(catalogue.start())
    context = context_of(http_scope())
    context.set(IDENTITY, Identity("alice", access))
    return plan_export(catalogue.now, parse_parameters(pairs), FORMATS[form], context)


@pytest.mark.parametrize(
    ("text", "columns"),
    [
        ("", ("id", " odd ", "name", "a,b")),
        ("   ", ("id", " odd ", "name", "a,b")),
        ("name", ("name",)),
        ("name,id", ("name", "id")),
        (" name ,\tid ", ("name", "id")),
        ('" odd ",id', (" odd ", "id")),
        ('"a,b",id', ("a,b", "id")),
        (' "a,b"\t, name ', ("a,b", "name")),
    ],
)
def test_columns_come_in_the_asked_order_without_the_blanks_around(text: str, columns: tuple[str, ...]) -> None:
    found = plan(("columns", text))
    assert found.selection.columns == columns
    assert tuple(column.name for column in found.columns) == columns


@pytest.mark.parametrize(
    ("text", "detail"),
    [
        ("nope", 'columns=nope: unknown column; there are id, " odd ", name, "a,b"'),
        ("id,", "columns=: unknown column"),
        (",id", "columns=: unknown column"),
        ("ID", "columns=ID: unknown column"),
        ("odd", "columns=odd: unknown column"),
        (" odd ", "columns=odd: unknown column"),
        ('"id","id"', "columns=id: given twice"),
        ("id,name,id", "columns=id: given twice"),
        ("id, id", "columns=id: given twice"),
        ("id;name", "columns=id;name: unknown column"),
        ("x\x1b[31m", r"columns=x\x1b[31m: unknown column"),
        ("y" * 5000, "columns=" + "y" * 80 + "…: unknown column"),
    ],
)
def test_a_column_that_is_not_there_or_comes_twice_is_told_with_those_there_are(text: str, detail: str) -> None:
    with pytest.raises(BadRequest) as caught:
        plan(("columns", text))
    assert caught.value.detail.startswith(detail)
    assert "there are id" in caught.value.detail
    assert caught.value.detail.isprintable()


def test_the_first_dataset_is_the_default_and_others_go_by_name() -> None:
    assert plan().dataset.name == "people"
    assert plan(("dataset", "simulated")).dataset.name == "simulated"


@pytest.mark.parametrize("name", ["nope", "People", "simulated ", "é", "x" * 500])
def test_an_unknown_dataset_is_told_with_those_there_are(name: str) -> None:
    with pytest.raises(NotFound, match="no such dataset; there are people, simulated"):
        plan(("dataset", name))


@pytest.mark.parametrize(
    ("pairs", "limit"),
    [
        ([], 7),
        ([("total", "0")], 0),
        ([("total", "3")], 3),
        ([("total", "99")], 99),
        ([("dataset", "simulated")], 10_000),
    ],
)
def test_the_limit_is_total_or_the_dataset_s_own(pairs: list[tuple[str, str]], limit: int) -> None:
    assert plan(*pairs).selection.limit == limit


def test_without_a_limit_it_is_all() -> None:
    unlimited = dataset(list, columns=["a"], name="x")
    assert plan(datasets=[unlimited]).selection.limit is None


def test_the_dialect_is_what_was_asked_for() -> None:
    asked = (
        ("header", "false"),
        ("delimiter", ";"),
        ("quote", "all"),
        ("null", "-"),
        ("newline", "crlf"),
        ("bom", "true"),
    )
    found = plan(*asked, ("escapeFormulas", "true"))
    assert found.dialect == found.selection.dialect
    assert found.dialect == Dialect(";", False, "all", "-", "\r\n", True, True)
    assert plan().dialect == Dialect()


@pytest.mark.parametrize("value", ["tab", "\t"])
def test_tsv_has_a_tab_and_no_other_delimiter(value: str) -> None:
    assert plan(form="tsv").dialect.delimiter == "\t"
    assert plan(("delimiter", value), form="tsv").dialect.delimiter == "\t"
    with pytest.raises(BadRequest, match=r"^delimiter=;: expected tab"):
        plan(("delimiter", ";"), form="tsv")


def test_only_text_formats_ask_the_source_for_a_dialect() -> None:
    assert plan(form="ndjson").selection.dialect is None
    assert plan(form="tsv").selection.dialect is not None


def test_the_file_is_named_after_the_format_unless_it_has_a_name() -> None:
    assert plan(form="tsv").filename == "export.tsv"
    assert plan(("filename", "x.txt")).filename == "x.txt"


def test_a_plan_bounds_rows_columns_and_datasets() -> None:
    """One row more than it may is asked for, so that a table cut short is a failure and not the end."""
    access = AccessPlan("few", max_rows=5, datasets=frozenset({"people"}), columns={"people": frozenset({"id"})})
    assert plan(access=access).selection.columns == ("id",)
    assert (
        plan(access=access).selection.limit == 6
    )  # one more than it may, so that a cut is a failure and not the end
    assert plan(("total", "5"), access=access).selection.limit == 5
    for pairs in [("total", "6")], [("columns", "name")], [("dataset", "simulated")]:
        with pytest.raises(Forbidden):
            plan(*pairs, access=access)


@pytest.mark.parametrize(("own", "all_s"), [(5, None), (None, 5), (5, 9), (9, 5), (5, 5)])
def test_the_smaller_of_the_plan_s_bound_and_the_service_s_holds(own: int | None, all_s: int | None) -> None:
    access = AccessPlan("few", max_rows=own, max_bytes=own)
    bounds = ExportBounds(max_rows=all_s, max_bytes=all_s)
    assert plan(access=access, bounds=bounds).selection.limit == 6
    assert plan(access=access, bounds=bounds).access == AccessPlan("few", max_rows=5, max_bytes=5)
    with pytest.raises(Forbidden, match="total=6: an export may have 5 rows at most"):
        plan(("total", "6"), access=access, bounds=bounds)


@pytest.mark.parametrize(
    ("text", "most", "refused"), [("", 4, False), ("", 3, True), ("id,name", 2, False), ("id,name", 1, True)]
)
def test_more_columns_than_the_bound_are_told_with_it(text: str, most: int, refused: bool) -> None:
    bounds = ExportBounds(max_columns=most)
    if not refused:
        assert len(plan(("columns", text), bounds=bounds).columns) == most
        return
    with pytest.raises(BadRequest, match=f"^columns: {most + 1} of them; expected at most {most}"):
        plan(("columns", text), bounds=bounds)


def test_only_the_columns_that_a_key_may_read_count() -> None:
    access = AccessPlan("few", columns={"people": frozenset({"id", "name"})})
    assert len(plan(access=access, bounds=ExportBounds(max_columns=2)).columns) == 2


def test_a_plan_without_a_column_or_dataset_may_read_nothing() -> None:
    with pytest.raises(Forbidden, match="any dataset"):
        plan(access=AccessPlan("none", datasets=frozenset()))
    with pytest.raises(Forbidden, match="any column"):
        plan(access=AccessPlan("none", columns={"people": frozenset()}))


def test_lists_of_names_are_bounded_and_printable() -> None:
    names = {f"column {number}\n": Column("x") for number in range(MAX_LISTED + 5)}
    assert listed(names).endswith(" and 5 more")
    assert listed(names).isprintable()
    assert listed({"a": 1, "b": 2}) == "a, b"
