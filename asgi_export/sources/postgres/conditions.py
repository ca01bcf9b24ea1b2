"""Write filters and sort as SQL, in the meaning that `table.Filter` gives them, so that indexes are used.

Values are literals (`literals`). Text compares by its bytes, which in UTF-8 is by code point: the column's own
collation is used where it gives the same result, as an index has it, and `COLLATE "C"` elsewhere. Databases of
other encodings compare what is not ASCII, and every order, as bytes of UTF-8, without an index. One of SQL_ASCII
compares the bytes that it holds.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from asgi_export.sources.postgres.catalogue import SQL_ASCII, ColumnForms, Comparison, Relation, Server
from asgi_export.sources.postgres.literals import fit_text, literal, typed, typed_list
from asgi_export.table import Filter, Operator, Sort
from asgi_export.values.fitting import Steps, fit, int_steps

ALIAS = "q"
"""Of the relation: a bare name in ORDER BY would be that of a column of the output, which may be its text."""

UNIVERSAL = frozenset({"UTF8", SQL_ASCII})
"""Encodings of databases that take the text of a statement as it is."""

INFINITE_NUMERICS_FROM = 140000

_SIGNS: Mapping[str, str] = {"exact": "=", "not": "<>", "gt": ">", "gte": ">=", "lt": "<", "lte": "<="}
_PARTS: Mapping[str, str] = {"contains": "%{}%", "startswith": "{}%", "endswith": "%{}"}
_STEPS: Mapping[str, Steps] = {
    "int2": int_steps(16),
    "int4": int_steps(32),
    "int8": int_steps(64),
    "oid": Steps(0, 2**32 - 1),
}
_NATIVE_TEXT = frozenset({"text", "varchar"})
_UUID = re.compile("[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.ASCII)
_ORDER = frozenset({"gt", "gte", "lt", "lte"})

Fitted = tuple[Operator, Any] | bool
"""A comparison; True if it holds for every value that is not null, False if for none."""


def where(relation: Relation, filters: Sequence[Filter]) -> str:
    """Return the WHERE clause of filters, empty for none. Raises `KeyError` for a column that is not there."""
    known = {forms.column.name: forms for forms in relation.columns}
    found = [_condition(known[each.column], each, relation.server) for each in filters]
    return f" WHERE {' AND '.join(found)}" if found else ""


def order_by(relation: Relation, sort: Sequence[Sort]) -> str:
    """Return the ORDER BY clause of a sort, empty for none; ties are ordered as the rows are stored."""
    if not sort:
        return ""
    known = {forms.column.name: forms.comparison for forms in relation.columns}
    keys = [
        f"{_key(known[each.column], relation.server)}{' DESC' if each.descending else ''} NULLS LAST" for each in sort
    ]
    return f" ORDER BY {', '.join([*keys, *[f'{ALIAS}.{name}' for name in relation.place]])}"


def _key(column: Comparison, server: Server) -> str:
    if column.base in _COMPARED_AS_THEY_ARE or column.base == "uuid":
        return f"{ALIAS}.{column.name}"
    if server.encoding not in UNIVERSAL:
        return _utf8(column)
    name = f"{ALIAS}.{column.name}" if column.base in _NATIVE_TEXT else f"({column.text})"
    return name if _is_bytewise(column) else f'{name} COLLATE "C"'


def _condition(forms: ColumnForms, found: Filter, server: Server) -> str:
    column = forms.comparison
    if found.operator == "isnull":
        return _null_test(column, is_null=found.value is True)
    if column.base == "timetz":  # has no operators; a domain over it may be taken for a time
        return _constant(column, holds=found.operator in ("not", "notin"))
    if column.base in _COMPARED_AS_THEY_ARE:
        fitted = _fit_number(column.base, found, server)
        return (
            _constant(column, holds=fitted)
            if isinstance(fitted, bool)
            else _compare(column.name, column.base, *fitted)
        )
    return _text_condition(column, found, server)


def _null_test(column: Comparison, *, is_null: bool) -> str:
    """`IS NULL` is true for a composite value whose fields are all null; this one is true for none but a null."""
    if column.composite:
        return f"{column.name} IS {'NOT ' if is_null else ''}DISTINCT FROM NULL"
    return f"{column.name} IS {'' if is_null else 'NOT '}NULL"


def _constant(column: Comparison, *, holds: bool) -> str:
    return _null_test(column, is_null=False) if holds else "false"


def _compare(expression: str, base: str, operator: Operator, value: Any) -> str:
    if operator == "in":
        return f"{expression} OPERATOR(pg_catalog.=) ANY ({typed_list(value, base)})"
    if operator == "notin":
        return f"{expression} OPERATOR(pg_catalog.<>) ALL ({typed_list(value, base)})"
    return f"{expression} OPERATOR(pg_catalog.{_SIGNS[operator]}) {typed(value, base)}"


def _fit_number(base: str, found: Filter, server: Server) -> Fitted:
    """Fit a comparison of values that are not text: most fit as they are."""
    value: Any = found.value
    if base in _STEPS:
        return fit(found.operator, value, _STEPS[base])
    if base == "numeric" and server.version < INFINITE_NUMERICS_FROM:
        return _fit_finite(found.operator, value)
    return _fit_list(found.operator, value) if isinstance(value, tuple) else (found.operator, value)


def _fit_list(operator: Operator, values: Sequence[Any]) -> Fitted:
    return (operator, tuple(values)) if values else operator == "notin"


def _fit_finite(operator: Operator, value: Any) -> Fitted:
    """Fit a comparison of decimals of a server that has NaN among them, but no infinities."""
    if isinstance(value, tuple):
        return _fit_list(operator, [item for item in value if not _is_infinite(item)])
    if not _is_infinite(value):
        return operator, value
    if operator in ("exact", "not"):
        return operator == "not"
    if value < 0:
        return operator in ("gt", "gte")
    return "gte" if operator in ("gt", "gte") else "lt", math.nan


def _is_infinite(value: Any) -> bool:
    return isinstance(value, float) and math.isinf(value)


def _text_condition(column: Comparison, found: Filter, server: Server) -> str:
    value: Any = found.value
    fitted = fit_text(found.operator, value)
    if not isinstance(fitted, bool) and column.base == "uuid":
        fitted = _fit_uuid(*fitted)
    if isinstance(fitted, bool):
        return _constant(column, holds=fitted)
    operator, value = fitted
    if column.base == "uuid" and operator not in _PARTS and _is_canonical(value):
        return _compare(column.name, "uuid", operator, value)
    if server.encoding in UNIVERSAL or (operator not in _ORDER and "".join(value).isascii()):
        return _compare_text(column, operator, value)
    return _compare_utf8(column, operator, value)


def _fit_uuid(operator: Operator, value: str | tuple[str, ...]) -> Fitted:
    """Keep what a column of uuids can equal: the text that they are exported as."""
    if isinstance(value, tuple):
        return _fit_list(operator, [item for item in value if _UUID.fullmatch(item)])
    if operator in ("exact", "not") and not _UUID.fullmatch(value):
        return operator == "not"
    return operator, value


def _is_canonical(value: str | tuple[str, ...]) -> bool:
    """Whether a value can be a uuid; their order is that of their text."""
    return isinstance(value, tuple) or _UUID.fullmatch(value) is not None


def _is_bytewise(column: Comparison) -> bool:
    """Whether the column's own collation orders as `COLLATE "C"` does."""
    return column.base in _NATIVE_TEXT and column.collation == "bytewise"


def _compare_text(column: Comparison, operator: Operator, value: Any) -> str:
    native = column.base in _NATIVE_TEXT
    own = native and (_is_bytewise(column) or (operator not in _ORDER and column.collation == "deterministic"))
    expression = column.name if native else f"({column.text})"
    expression = expression if own else f'{expression} COLLATE "C"'
    if operator in _PARTS:
        return f"{expression} OPERATOR(pg_catalog.~~) {literal(_pattern(operator, value))}"
    found = _compare(expression, "text", operator, value)
    if column.base == "bpchar" and operator in ("exact", "in"):
        # without regard to the blanks at the end: for the index
        return f"{_compare(column.name, 'bpchar', operator, value)} AND {found}"
    return found


def _pattern(operator: Operator, value: str) -> str:
    """Return a pattern of LIKE: where a collation is deterministic it compares bytes, and indexes know it."""
    return _PARTS[operator].format(re.sub(r"[\\%_]", r"\\\g<0>", value))


def _utf8(column: Comparison) -> str:
    return f"pg_catalog.convert_to({column.text}, 'UTF8')"


def _compare_utf8(column: Comparison, operator: Operator, value: Any) -> str:
    text = _utf8(column)
    if isinstance(value, tuple):
        return _compare(text, "bytea", operator, [item.encode() for item in value])
    part = value.encode()
    if operator in _PARTS:
        return _ON_BYTES[operator](text, typed(part, "bytea"), len(part))
    return _compare(text, "bytea", operator, part)


_ON_BYTES: Mapping[str, Callable[[str, str, int], str]] = {
    "contains": lambda text, part, size: f"position({part} IN {text}) OPERATOR(pg_catalog.>) 0",
    "startswith": lambda text, part, size: f"pg_catalog.substr({text}, 1, {size}) OPERATOR(pg_catalog.=) {part}",
    "endswith": lambda text, part, size: (
        f"pg_catalog.substr({text}, 1 + pg_catalog.length({text}) - {size}) OPERATOR(pg_catalog.=) {part}"
    ),
}

_COMPARED_AS_THEY_ARE = frozenset(
    {"int2", "int4", "int8", "oid", "float4", "float8", "numeric"}
    | {"bool", "date", "time", "timetz", "timestamp", "timestamptz", "bytea"}
)
"""Base types that compare in PostgreSQL as their values do everywhere."""
