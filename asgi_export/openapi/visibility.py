"""Tell what one caller may ask for, as far as each parameter can describe it alone.

OpenAPI 3.1 describes parameters one by one, and which columns there are depends on the dataset. So a document
promises what holds whatever the others say: of one dataset all of its columns, of several those that they share.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice

from asgi_export.access.plans import AccessPlan
from asgi_export.export.catalogue import Datasets, readable
from asgi_export.export.column_list import column_text
from asgi_export.export.parameters import MAX_TOTAL
from asgi_export.table import Dataset

MAX_NAMES = 1000
"""Of datasets in one document; the catalogue has all of them."""


@dataclass(frozen=True, slots=True)
class Visible:
    """What the parameters of an export may be.

    `listed` are the datasets that may be described, `datasets` those that an export may name here.
    `dataset_required` is True where the default dataset is another one than those of `datasets`, and
    `columns_required` where the dataset has more columns than one export may have. `alone`: there is but one dataset,
    or one was asked for. `default_total` is None where it is all rows, or differs.
    """

    listed: tuple[str, ...]
    datasets: tuple[str, ...]
    dataset_required: bool
    alone: bool
    columns: tuple[str, ...]
    columns_required: bool
    max_columns: int
    max_total: int
    default_total: int | None


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
        columns=columns,
        columns_required=len(readable(asked[0], access)) > max_columns,
        max_columns=min(max_columns, len(columns)),
        max_total=MAX_TOTAL if access.max_rows is None else min(MAX_TOTAL, access.max_rows),
        default_total=totals.pop() if len(totals) == 1 else None,
    )


def _exported_whole(there: Sequence[Dataset], access: AccessPlan, max_columns: int) -> list[Dataset]:
    """Return the first that can be exported without a choice of columns, or the very first if none can."""
    named = (dataset for dataset in there if _can_be_asked_for(dataset.name))
    whole = (dataset for dataset in named if 0 < len(readable(dataset, access)) <= max_columns)
    return list(islice(whole, MAX_NAMES)) or [there[0]]


def _can_be_asked_for(name: str) -> bool:
    """Return whether a name can be asked for: `dataset=` without a name is refused."""
    return bool(name) and _is_utf8(name)


def _is_utf8(name: str) -> bool:
    """Return whether a name can be in a query string, which is UTF-8; the names of files need not be."""
    return name == name.encode("utf-8", "ignore").decode()


def _shared(datasets: Sequence[Dataset], access: AccessPlan) -> tuple[str, ...]:
    """Return the columns that all of them have, in the order of the first, as the parameter takes them.

    One dataset at a time, for the turns of other threads.
    """
    first = [column.name for column in readable(datasets[0], access) if _is_utf8(column.name)]
    shared = set(first)
    for dataset in datasets[1:]:
        shared.intersection_update([column.name for column in readable(dataset, access)])
        if not shared:
            break
    return tuple([column_text(name) for name in first if name in shared])
