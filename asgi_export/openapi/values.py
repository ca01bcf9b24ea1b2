"""Schemas of values in a query string, by the kind of a column: those of filters, and of parameters of queries.

They allow what `values.literals` reads, but for spellings that no client needs. A list is one text, as the value of a
filter is: OpenAPI says nothing of lists inside of objects, and clients would repeat the filter, which means both.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from asgi_export.declared import Kind
from asgi_export.table import Operator

MAX_LISTED = 50
"""Values in a list by its schema; the parser takes more, as far as the query string goes."""

_LEAP = "0[48]|[2468][048]|[13579][26]"
_YEAR = "(?:[1-9][0-9]{3}|0[1-9][0-9]{2}|00[1-9][0-9]|000[1-9])"
_DAY = "(?:0[1-9]|1[0-9]|2[0-8])"
_MONTHS = f"(?:0[1-9]|1[0-2])-{_DAY}|(?:0[13-9]|1[0-2])-(?:29|30)|(?:0[13578]|1[02])-31"
_DATE = f"(?:{_YEAR}-(?:{_MONTHS})|(?:[0-9]{{2}}(?:{_LEAP})|(?:{_LEAP})00)-02-29)"
_TIME = r"(?:[01][0-9]|2[0-3]):[0-5][0-9](?::[0-5][0-9](?:\.[0-9]{1,6})?)?"
_NUMBER = r"-?[0-9]{1,40}(?:\.[0-9]{1,40})?"
_BYTES = "(?:[0-9a-fA-F]{2})*"
_QUOTED = '"(?:[^"]|"")*"'

_ITEMS: Mapping[Kind, str] = {
    "number": _NUMBER,
    "boolean": "(?:true|false)",
    "date": _DATE,
    "time": _TIME,
    "timestamp": f"{_DATE}(?:T{_TIME}Z?)?",
    "bytes": _BYTES,
}

_TEXTS = rf'^(?:[^"\[,\r\n][^",\r\n]*|{_QUOTED}|)(?:,(?:[^",\r\n]*|{_QUOTED})){{0,{MAX_LISTED - 1}}}$'
"""One line of CSV; one that begins with a bracket is a JSON array."""

_VALUES: Mapping[str, Mapping[str, Any]] = {
    "number": {"type": "number"},
    "text": {"type": "string", "minLength": 0},
    "boolean": {"type": "boolean"},
    "date": {"type": "string", "format": "date", "pattern": f"^{_DATE}$"},
    "time": {"type": "string", "pattern": f"^{_TIME}$"},
    "timestamp": {"type": "string", "anyOf": [{"format": "date-time"}, {"format": "date", "pattern": f"^{_DATE}$"}]},
    "bytes": {"type": "string", "pattern": f"^{_BYTES}$"},
}


def _list(pattern: str) -> Mapping[str, Any]:
    return {"type": "string", "pattern": pattern, "description": "values with commas between, or a JSON array"}


SCHEMAS: Mapping[str, Mapping[str, Any]] = {
    **_VALUES,
    **{f"{kind}.list": _list(f"^{item}(?:,{item}){{0,{MAX_LISTED - 1}}}$") for kind, item in _ITEMS.items()},
    "text.list": _list(_TEXTS),
    "integer": {"type": "integer", "minimum": -(2**63), "maximum": 2**63 - 1},
}
"""By their names among the schemas of the document."""


def schema_of(kind: Kind, operator: Operator) -> str:
    """Return the name of the schema of a filter's value."""
    if operator == "isnull":
        return "boolean"
    return f"{kind}.list" if operator in ("in", "notin") else kind
