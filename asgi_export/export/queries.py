"""Queries as datasets: read them from the settings file, and their arguments from a request."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, cast, get_args

from asgi_export.asgi.request import Pairs
from asgi_export.errors import BadRequest
from asgi_export.export.parameters import FILTER_MARK, PARAMETERS, blank_hint, shown, unknown_parameter
from asgi_export.table import Dataset, ParameterType, Query, QueryParameter, Scalar, query_of
from asgi_export.values.literals import EXPECTED, PARSERS

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,62}", re.ASCII)
_TYPES = get_args(ParameterType)
_INTEGERS = range(-(2**63), 2**63)
_OURS = frozenset({parameter.name for parameter in PARAMETERS})
_FIELDS = {"source", "sql", "description", "parameters"}


@dataclass(frozen=True, slots=True)
class QuerySetting:
    """A query of the settings file, and the name of the location that it runs in; empty if there is only one."""

    source: str
    query: Query


def read_queries(tables: Any) -> tuple[QuerySetting, ...]:
    """Read `[queries.NAME]` tables. Raises `ValueError` with the place, the value and what was expected."""
    if not isinstance(tables, dict) or not all(isinstance(table, dict) for table in tables.values()):
        raise ValueError("queries: expected tables such as [queries.NAME]")
    return tuple([_read_query(name, table) for name, table in tables.items()])


def _read_query(name: str, table: Mapping[str, Any]) -> QuerySetting:
    place = f"queries.{name}"
    unknown = sorted(table.keys() - _FIELDS)
    if unknown:
        raise ValueError(f"{place}.{unknown[0]}: unknown; expected {', '.join(sorted(_FIELDS))}")
    if not name:
        raise ValueError(f"{place}: expected a name")
    texts = {key: table.get(key, "") for key in ("source", "sql", "description")}
    for key, text in texts.items():
        if not isinstance(text, str):
            raise ValueError(f"{place}.{key}={text!r}: expected text")
    if not texts["sql"].strip():
        raise ValueError(f"{place}.sql: expected a SELECT")
    parameters = _read_parameters(f"{place}.parameters", table.get("parameters", {}))
    return QuerySetting(texts["source"], Query(name, texts["sql"], parameters, texts["description"]))


def _read_parameters(place: str, found: Any) -> tuple[QueryParameter, ...]:
    if not isinstance(found, dict):
        raise ValueError(f'{place}: expected a table such as {{ since = "date" }}')
    return tuple([_read_parameter(f"{place}.{name}", name, value) for name, value in found.items()])


def _read_parameter(place: str, name: str, value: Any) -> QueryParameter:
    table = {"type": value} if isinstance(value, str) else value
    if not isinstance(table, dict) or table.keys() - {"type", "default"} or table.get("type") not in _TYPES:
        raise ValueError(f"{place}: expected one of {', '.join(_TYPES)}, or {{ type = …, default = … }}")
    if not _NAME.fullmatch(name) or FILTER_MARK in name or name in _OURS:
        raise ValueError(f"{place}: expected letters, digits and single _, and no parameter of every export")
    parameter = QueryParameter(name, cast("ParameterType", table["type"]))
    if "default" not in table:
        return parameter
    try:
        return QueryParameter(name, parameter.type, _read_value(parameter, _default_text(table["default"])))
    except ValueError:
        raise ValueError(f"{place}.default: expected {_expected(parameter)}") from None


def _default_text(value: Any) -> str:
    """Return a value of TOML, which has dates and times of its own, as the text of a request."""
    if isinstance(value, bool):
        return "true" if value else "false"
    return value.isoformat() if hasattr(value, "isoformat") else str(value)


def _read_value(parameter: QueryParameter, text: str) -> Scalar:
    value = PARSERS[parameter.kind](text)
    if parameter.type == "integer" and not (isinstance(value, int) and value in _INTEGERS):
        raise ValueError(text)
    return value


def _expected(parameter: QueryParameter) -> str:
    return "a whole number of 64 bits" if parameter.type == "integer" else EXPECTED[parameter.kind]


def read_arguments(pairs: Pairs, dataset: Dataset) -> Mapping[str, Scalar]:
    """Return a value for each parameter of the dataset's query. Raises `BadRequest`, also for others."""
    query = query_of(dataset)
    parameters = {parameter.name: parameter for parameter in query.parameters} if query else {}
    values: dict[str, Scalar] = {}
    for name, text in pairs:
        if name not in parameters:
            raise unknown_parameter(name, parameters)
        if name in values:
            raise BadRequest(f"{name}={shown(text)}: given twice; expected once")
        try:
            values[name] = _read_value(parameters[name], text)
        except ValueError:
            raise BadRequest(
                f"{name}={shown(text)}: expected {_expected(parameters[name])}{blank_hint(text)}"
            ) from None
    for name, parameter in parameters.items():
        default = parameter.default
        if name not in values and default is None:
            raise BadRequest(f"{name}: missing; {shown(dataset.name)} needs {name}, {_expected(parameter)}")
        if default is not None:
            values.setdefault(name, default)
    return values
