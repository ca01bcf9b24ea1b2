"""Tell what one caller may ask for, as far as each parameter can describe it alone.

OpenAPI 3.1 describes parameters one by one, and which columns there are depends on the dataset. So a document
promises what holds whatever the others say: of one dataset all of its columns, of several those that they share.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice

from asgi_export.access.plans import AccessPlan
from asgi_export.declared import Kind
from asgi_export.export.catalogue import Datasets, readable
from asgi_export.export.column_list import column_text
from asgi_export.export.filters import has_order, operators_of
from asgi_export.export.parameters import FILTER_MARK, MAX_TOTAL
from asgi_export.table import Column, Dataset, Operator, QueryParameter, applied_by, query_of

MAX_NAMES = 1000
"""Of datasets in one document; the catalogue has all of them."""

MAX_FILTER_NAMES = 600
"""Of filters: 50 columns of any kind, and more of most."""

MAX_SORT_NAMES = 100


@dataclass(frozen=True, slots=True)
class Visible:
    """What the parameters of an export may be.

    `listed` are the datasets that may be described, `datasets` those that an export may name here.
    `dataset_required` is True where the default dataset is another one than those of `datasets`, and
    `columns_required` where the dataset has more columns than one export may have. `alone`: there is but one dataset,
    or one was asked for. `place` is that of the first of `datasets` in the catalogue. `default_total` is None where
    it is all rows, or differs. `filters` are the names of filters, each with the kind of the column and the operator;
    `sort` has the names of columns, none if not all of the datasets sort; `arguments` are the parameters of a query.
    """

    listed: tuple[str, ...]
    datasets: tuple[str, ...]
    dataset_required: bool
    alone: bool
    place: int
    columns: tuple[str, ...]
    columns_required: bool
    max_columns: int
    max_total: int
    default_total: int | None
    filters: Mapping[str, tuple[Kind, Operator]]
    max_filters: int
    sort: tuple[str, ...]
    arguments: tuple[QueryParameter, ...]


def visible_to(catalogue: Datasets, name: str, access: AccessPlan) -> Visible:
    """Return what `access` may have of the dataset with that name, or of all of them if the name is empty.

    Raises `NotFound`, and `Forbidden` if it may not read it, or not any.
    """
    access, max_columns = catalogue.bounded(access), catalogue.bounds.max_columns
    there = tuple(catalogue.readable(access).values())
    alone = name or not there
    asked = [catalogue.dataset(name, access)] if alone else _exported_whole(there, access, max_columns)
    columns = _shared(asked, access)
    totals = {dataset.default_limit for dataset in asked}
    return Visible(
        listed=tuple(islice((dataset.name for dataset in there if _can_be_asked_for(dataset.name)), MAX_NAMES)),
        datasets=tuple([dataset.name for dataset in asked]),
        dataset_required=catalogue.default(access) not in {dataset.name for dataset in asked},
        alone=len(there) == 1 or bool(name),
        place=[dataset.name for dataset in there].index(asked[0].name),
        columns=tuple([column_text(column.name) for column in columns]),
        columns_required=len(readable(asked[0], access)) > max_columns,
        max_columns=min(max_columns, len(columns)),
        max_total=MAX_TOTAL if access.max_rows is None else min(MAX_TOTAL, access.max_rows),
        default_total=totals.pop() if len(totals) == 1 else None,
        filters=_filters(columns),
        max_filters=catalogue.bounds.max_filters,
        sort=_sort(asked, columns),
        arguments=query.parameters if len(asked) == 1 and (query := query_of(asked[0])) else (),
    )


def _exported_whole(there: Sequence[Dataset], access: AccessPlan, max_columns: int) -> list[Dataset]:
    """Return the first that can be exported by their name alone, or the very first if none can."""
    named = (dataset for dataset in there if _can_be_asked_for(dataset.name) and not _needs_arguments(dataset))
    whole = (dataset for dataset in named if 0 < len(readable(dataset, access)) <= max_columns)
    return list(islice(whole, MAX_NAMES)) or [there[0]]


def _can_be_asked_for(name: str) -> bool:
    """Return whether a name can be asked for: `dataset=` without a name is refused."""
    return bool(name) and _is_utf8(name)


def _needs_arguments(dataset: Dataset) -> bool:
    query = query_of(dataset)
    return query is not None and any(parameter.default is None for parameter in query.parameters)


def _is_utf8(name: str) -> bool:
    """Return whether a name can be in a query string, which is UTF-8; the names of files need not be."""
    return name == name.encode("utf-8", "ignore").decode()


def _shared(datasets: Sequence[Dataset], access: AccessPlan) -> list[Column]:
    """Return the columns that all of them have, in the order of the first, each with its kind there.

    One dataset at a time, for the turns of other threads. A column of two kinds counts as `nested`, whose only
    operator all kinds have.
    """
    shared = {column.name: column for column in readable(datasets[0], access) if _is_utf8(column.name)}
    for dataset in datasets[1:]:
        kinds = {column.name: column.kind for column in readable(dataset, access)}
        shared = {
            name: column if column.kind == kinds[name] else replace(column, kind="nested")
            for name, column in shared.items()
            if name in kinds
        }
        if not shared:
            break
    return list(shared.values())


def _filters(columns: Sequence[Column]) -> Mapping[str, tuple[Kind, Operator]]:
    """Return the filters by each of the columns, `MAX_FILTER_NAMES` at most."""
    found: dict[str, tuple[Kind, Operator]] = {}
    for column in columns:
        operators = operators_of(column)
        if len(found) + len(operators) > MAX_FILTER_NAMES:
            break
        found |= {f"{column.name}{FILTER_MARK}{operator}": (column.kind, operator) for operator in operators}
    return found


def _sort(datasets: Sequence[Dataset], columns: Sequence[Column]) -> tuple[str, ...]:
    """Return the columns that all of the datasets can be sorted by, `MAX_SORT_NAMES` at most."""
    if not all("sort" in applied_by(dataset) for dataset in datasets):
        return ()
    return tuple(islice((column.name for column in columns if has_order(column)), MAX_SORT_NAMES))
