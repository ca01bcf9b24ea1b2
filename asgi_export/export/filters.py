"""Read filters and the sort of a request: their columns, operators and values, and whether the caller may use them.

What a client filters or sorts by it learns, so both need the right to read the column.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from asgi_export.access.plans import AccessPlan
from asgi_export.asgi.request import Pairs
from asgi_export.declared import ZONED_TIMES, Kind, parse
from asgi_export.errors import BadRequest, Forbidden
from asgi_export.export.catalogue import MAX_FILTERS, listed_columns, readable
from asgi_export.export.column_list import parse_column_list
from asgi_export.export.parameters import FILTER_MARK, blank_hint, shown
from asgi_export.table import Column, Dataset, Filter, Operator, Scalar, Sort, applied_by
from asgi_export.values.literals import EXPECTED, PARSERS, parse_boolean

MAX_LIST = 1000

_EQUALITY: tuple[Operator, ...] = ("exact", "not")
_ORDER: tuple[Operator, ...] = ("gt", "gte", "lt", "lte")
_LISTS: tuple[Operator, ...] = ("in", "notin")
_NULL: tuple[Operator, ...] = ("isnull",)
_PARTS: tuple[Operator, ...] = ("contains", "startswith", "endswith")
_COMPARED = _EQUALITY + _ORDER + _LISTS + _NULL

OPERATORS: Mapping[Kind, tuple[Operator, ...]] = {
    "number": _COMPARED,
    "text": _COMPARED + _PARTS,
    "boolean": _EQUALITY + _LISTS + _NULL,
    "date": _COMPARED,
    "time": _COMPARED,
    "timestamp": _COMPARED,
    "bytes": _COMPARED,
    "nested": _NULL,
}


def operators_of(column: Column) -> tuple[Operator, ...]:
    """Return the operators that a column can be filtered by; times with an offset are no times of a day."""
    return _NULL if parse(column.type).name in ZONED_TIMES else OPERATORS[column.kind]


def has_order(column: Column) -> bool:
    """Return whether rows can be sorted by a column, by a dataset that sorts."""
    return column.kind != "nested"


def read_filters(pairs: Pairs, dataset: Dataset, access: AccessPlan, most: int = MAX_FILTERS) -> tuple[Filter, ...]:
    """Read the filters of a request for a dataset. Raises `BadRequest`, and `Forbidden` for a column out of reach."""
    if len(pairs) > most:
        raise BadRequest(f"{len(pairs)} filters: expected at most {most}")
    return tuple([_read_filter(name, text, dataset, access) for name, text in pairs])


def _read_filter(name: str, text: str, dataset: Dataset, access: AccessPlan) -> Filter:
    column_name, _, operator_name = name.rpartition(FILTER_MARK)
    column = find_column(name, column_name, dataset, access)
    operators = operators_of(column)
    operator = next((found for found in operators if found == operator_name), None)
    if operator is None:
        raise BadRequest(
            f"{shown(name)}: unknown operator; a column of kind {column.kind} has {', '.join(operators)}"
        )
    try:
        return Filter(column_name, operator, read_value(operator, column.kind, text))
    except ValueError:
        raise BadRequest(f"{shown(name)}={shown(text)}: {_expected(operator, column.kind, text)}") from None


def find_column(asked: str, name: str, dataset: Dataset, access: AccessPlan) -> Column:
    """Find the column that the parameter `asked` names. Raises `BadRequest` and `Forbidden`."""
    allowed = {column.name: column for column in readable(dataset, access)}
    if name in allowed:
        return allowed[name]
    listed = listed_columns(allowed)
    if any(column.name == name for column in dataset.columns):
        raise Forbidden(f"{shown(asked)}: this key may not read the column; it may read {listed}")
    raise BadRequest(f"{shown(asked)}: unknown column; there are {listed}")


def read_value(operator: Operator, kind: Kind, text: str) -> Scalar | tuple[Scalar, ...]:
    """Read the value of a filter. Raises `ValueError`."""
    if operator == "isnull":
        return parse_boolean(text)
    if operator in _LISTS:
        return tuple([PARSERS[kind](item) for item in _list_items(text)])
    return PARSERS[kind](text)


def _list_items(text: str) -> Sequence[str]:
    """Split `a,b`, as lists of columns are, or take the texts of a JSON array, whose items are text or numbers."""
    items = _json_items(text) if text.startswith("[") else parse_column_list(text) or ("",)
    if len(items) > MAX_LIST:
        raise ValueError(f"{len(items)} values")
    return items


def _json_items(text: str) -> list[str]:
    try:
        found = json.loads(text, parse_int=str, parse_float=str, parse_constant=str)
    except RecursionError:
        raise ValueError("nested too deeply") from None
    return [_json_item(item) for item in found]


def _json_item(item: Any) -> str:
    if isinstance(item, bool):
        return "true" if item else "false"
    if not isinstance(item, str):
        raise ValueError(f"{type(item).__name__} in a list")
    return item


def _expected(operator: Operator, kind: Kind, text: str) -> str:
    if operator == "isnull":
        return "expected true or false"
    wanted = EXPECTED[kind]
    if operator in _LISTS:
        wanted = f"values with commas between, or a JSON array, at most {MAX_LIST}, each {wanted}"
    return f"expected {wanted}, as the column is of kind {kind}{blank_hint(text)}"


def check_sort(sort: Sequence[Sort], dataset: Dataset, access: AccessPlan) -> tuple[Sort, ...]:
    """Return the sort if the dataset and the caller's rights allow it. Raises `BadRequest` and `Forbidden`."""
    if not sort:
        return ()
    if "sort" not in applied_by(dataset):
        reason = getattr(dataset, "sort_needs", "") or "its rows have the order of their source"
        raise BadRequest(f"sort: dataset {shown(dataset.name)} cannot be sorted; {reason}")
    if len(sort) > MAX_FILTERS:
        raise BadRequest(f"sort: {len(sort)} columns; expected at most {MAX_FILTERS}")
    seen: set[str] = set()
    for found in sort:
        column = find_column(f"sort={found.column}", found.column, dataset, access)
        if not has_order(column):
            raise BadRequest(f"sort={shown(found.column)}: nested values have no order")
        if found.column in seen:
            raise BadRequest(f"sort={shown(found.column)}: given twice; expected once")
        seen.add(found.column)
    return tuple(sort)
