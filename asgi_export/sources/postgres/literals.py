"""Write values as literals of SQL: COPY takes no parameters, so what a client sends stands in the statement.

A literal is text in quotes with a cast to its type, whatever the type. `literal` is `quote_literal` of PostgreSQL: it
doubles quotes and backslashes and marks the latter with E, so it reads the same with `standard_conforming_strings` on
and off. A statement is sent as UTF-8, where no character holds the byte of a quote or backslash. Two things cannot
stand in it: NUL, which ends a message of the protocol, and what the encoding of the database lacks; so values with
NUL or a surrogate are rewritten (`fit_text`), and in databases of other encodings than UTF-8 only ASCII is text,
and the rest is compared as the bytes of its UTF-8.

PostgreSQL, String Constants, and src/backend/utils/adt/quote.c.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, date, datetime, time
from typing import Any, cast

from asgi_export.table import Operator
from asgi_export.values.fitting import Number, nearest_double, nearest_single

_IN_NO_TEXT = re.compile("[\0\ud800-\udfff]")

AFTER_SURROGATES = "\ue000"


def literal(text: str) -> str:
    r"""Quote a text without NUL or surrogates.

    >>> print(literal("it's"), literal("\\x00"))
    'it''s' E'\\x00'
    """
    quoted = "'" + text.replace("'", "''").replace("\\", "\\\\") + "'"
    return f"E{quoted}" if "\\" in text else quoted


def typed(value: Any, base: str) -> str:
    """Write a value as a literal of a type in pg_catalog.

    >>> typed(10**400, "float8"), typed(date(2026, 1, 31), "date")
    ("'Infinity'::pg_catalog.float8", "'2026-01-31'::pg_catalog.date")
    """
    return f"{literal(_TEXTS.get(base, str)(value))}::pg_catalog.{base}"


def typed_list(values: Sequence[Any], base: str) -> str:
    """Write values as an array of a type in pg_catalog."""
    items = ", ".join([literal(_TEXTS.get(base, str)(value)) for value in values])
    return f"ARRAY[{items}]::pg_catalog.{base}[]"


def is_text(text: str) -> bool:
    """Return whether a text can stand in a literal: it has no NUL and no surrogates."""
    return _IN_NO_TEXT.search(text) is None


def fit_text(operator: Operator, value: str | tuple[str, ...]) -> tuple[Operator, str | tuple[str, ...]] | bool:
    r"""Rewrite a comparison so that its value is text that a database can hold, without changing its result.

    True if it holds for every value that is not null, False if for none. No text of a database has NUL or a
    surrogate, so an order with one is an order with what stands before it.

    >>> fit_text("lt", "a\0b"), fit_text("gte", "a\ud800"), fit_text("notin", ("\0",))
    (('lte', 'a'), ('gte', 'a\ue000'), True)
    """
    if isinstance(value, tuple):
        there = tuple([item for item in value if not _IN_NO_TEXT.search(item)])
        return (operator, there) if there else operator == "notin"
    match = _IN_NO_TEXT.search(value)
    if match is None:
        return operator, value
    before = value[: match.start()]
    if operator in ("gt", "gte"):
        return ("gt", before) if match[0] == "\0" else ("gte", before + AFTER_SURROGATES)
    if operator in ("lt", "lte"):
        return ("lte", before) if match[0] == "\0" else ("lt", before + AFTER_SURROGATES)
    return operator == "not"


def _number(value: Number) -> str:
    return (
        {math.inf: "Infinity", -math.inf: "-Infinity"}.get(value, str(value))
        if isinstance(value, float)
        else str(value)
    )


def _timestamp(value: datetime) -> str:
    return value.astimezone(UTC).replace(tzinfo=None).isoformat(" ")


_TEXTS: Mapping[str, Callable[[Any], str]] = {
    "float4": lambda value: _number(nearest_single(value)),
    "float8": lambda value: _number(nearest_double(value)),
    "numeric": _number,
    "bool": lambda value: "true" if value else "false",
    "date": date.isoformat,
    "time": time.isoformat,
    "timestamp": _timestamp,
    "timestamptz": lambda value: _timestamp(value) + "+00",
    "bytea": lambda value: "\\x" + cast("bytes", value).hex(),
}
"""By type, how a value is written that PostgreSQL then reads; other values are written as they are."""
