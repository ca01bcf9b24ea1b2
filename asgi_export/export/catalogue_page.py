"""The catalogue as a page of JSON: datasets, their columns, and what can be asked of each; a column a line.

Lines are encoded one by one: with thousands of tables there are millions of words, and between two calls of the
encoder other threads get their turns.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache

from asgi_export.access.plans import AccessPlan
from asgi_export.export.catalogue import Datasets, readable
from asgi_export.export.filters import has_order, operators_of
from asgi_export.table import Column, Dataset, Operator, applied_by, query_of
from asgi_export.values.text import text_of


def catalogue_page(
    datasets: Datasets, access: AccessPlan, *, formats: Sequence[object], limits: Sequence[object]
) -> bytes:
    """Return the page of the datasets that `access` may read, in a thread's time: a second for 200,000 columns."""
    tables = _list([_dataset(dataset, access) for dataset in datasets.readable(access).values()], 2)
    words = {name: _list(map(json.dumps, found), 2) for name, found in (("formats", formats), ("limits", limits))}
    members = [f'  "{name}": {text}' for name, text in {"datasets": tables, **words}.items()]
    return ("{\n" + ",\n".join(members) + "\n}\n").encode()


def _list(lines: Iterable[str], indent: int) -> str:
    inner = ",\n".join([f"{' ' * (indent + 2)}{line}" for line in lines])
    return f"[\n{inner}\n{' ' * indent}]" if inner else "[]"


def _dataset(dataset: Dataset, access: AccessPlan) -> str:
    sorts = "sort" in applied_by(dataset)
    columns = _list([_column(column, sorts=sorts) for column in readable(dataset, access)], 4)
    head = json.dumps({"name": dataset.name, "default_total": dataset.default_limit, **_query(dataset)})
    return f'{head[:-1]}, "columns": {columns}}}'


def _query(dataset: Dataset) -> Mapping[str, object]:
    """Describe the parameters of a query; nothing for other datasets."""
    query = query_of(dataset)
    if query is None:
        return {}
    parameters = [
        {"name": found.name, "type": found.type, "required": found.default is None}
        | ({} if found.default is None else {"default": str(text_of(found.default))})
        for found in query.parameters
    ]
    return {"description": query.description, "parameters": parameters}


def _column(column: Column, *, sorts: bool) -> str:
    own = json.dumps({"name": column.name, "type": column.type, "kind": column.kind})
    return f"{own[:-1]}, {_asked_for_by(operators_of(column), sortable=sorts and has_order(column))}"


@lru_cache(maxsize=64)
def _asked_for_by(operators: tuple[Operator, ...], *, sortable: bool) -> str:
    """Return the rest of a line; there are about as many as kinds."""
    return json.dumps({"operators": operators, "sortable": sortable})[1:]
