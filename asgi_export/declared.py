"""Declared SQL types: which kind of values a column of such a type has, and the Arrow type of those values.

The whole type is parsed, `timestamp(3) with time zone` as `numeric(10,2)[]`, and its name looked up: an enum that is
called `real_estate_kind` is no `real`. Names are those of PostgreSQL, SQLite, MySQL, Oracle, SQL Server and Arrow.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal, TypeAlias

Kind: TypeAlias = Literal["number", "text", "boolean", "date", "time", "timestamp", "bytes", "nested"]
"""What filters, typed formats and the page go by."""

ARROW_INTEGER = "int64"
ARROW_TEXT = "string"
MAX_DECIMAL_DIGITS = 76

_TYPE = re.compile(r"([a-z_][a-z0-9_ ]*)(?:\(([^()]*)\)|\[([^]]+)\])?([a-z ]*)")
_NESTED = re.compile(
    r".*(?:\[\d*\]|\barray)|(?:array|struct|map|row|(?:fixed_size_|large_)?list(?:_view)?)\b.*", re.DOTALL
)
_DIGITS = re.compile(r"\s*([0-9]{1,4})\s*(?:,\s*(-?[0-9]{1,4})\s*)?")
MAX_CHARACTERS = 256
"""No database has a longer type; it is not taken apart."""

_MODIFIERS = frozenset({"unsigned", "signed", "zerofill"})

INTEGERS = frozenset(
    {"int", "integer", "tinyint", "smallint", "mediumint", "bigint", "hugeint", "int2", "int4", "int8", "int16"}
    | {"int32", "int64", "uint8", "uint16", "uint32", "uint64", "oid", "serial", "smallserial", "bigserial"}
)
FLOATS = frozenset(
    {"real", "float", "double", "double precision", "float4", "float8", "halffloat", "float16", "float32", "float64"}
    | {"binary_float", "binary_double"}
)
DECIMALS = frozenset(
    {"numeric", "decimal", "dec", "number", "fixed", "decimal32", "decimal64", "decimal128", "decimal256"}
    | {"money", "smallmoney"}
)
BOOLEANS = frozenset({"bool", "boolean"})
DATES = frozenset({"date", "date32", "date64"})
TIMES = frozenset({"time", "time without time zone", "time32", "time64"})
ZONED_TIMES = frozenset({"timetz", "time with time zone"})
TIMESTAMPS = frozenset(
    {"timestamp", "timestamp without time zone", "datetime", "datetime2", "smalldatetime", "timestamp_ntz"}
)
ZONED_TIMESTAMPS = frozenset(
    {"timestamptz", "timestamp with time zone", "timestamp with local time zone", "datetimeoffset", "timestamp_tz"}
)
BYTES = frozenset(
    {"bytea", "blob", "tinyblob", "mediumblob", "longblob", "binary", "varbinary", "binary varying", "bytes", "image"}
    | {"binary large object", "raw", "long raw", "large_binary", "fixed_size_binary", "binary_view"}
)
DOCUMENTS = frozenset({"json", "jsonb"})

_MEANINGS: tuple[tuple[frozenset[str], Kind, str], ...] = (
    (INTEGERS, "number", ARROW_INTEGER),
    (FLOATS, "number", "double"),
    (DECIMALS, "number", ARROW_TEXT),
    (BOOLEANS, "boolean", "bool"),
    (DATES, "date", "date32"),
    (TIMES, "time", "time64[us]"),
    (ZONED_TIMES, "time", ARROW_TEXT),
    (TIMESTAMPS, "timestamp", "timestamp[us]"),
    (ZONED_TIMESTAMPS, "timestamp", "timestamp[us, tz=UTC]"),
    (BYTES, "bytes", "binary"),
    (DOCUMENTS, "nested", ARROW_TEXT),
)
_BY_NAME = {name: (kind, arrow) for names, kind, arrow in _MEANINGS for name in names}


@dataclass(frozen=True, slots=True)
class DeclaredType:
    """A type taken apart: its name in lower case, and what stands in its brackets."""

    name: str
    arguments: str = ""


def parse(declared: str) -> DeclaredType:
    """Return the parts of a declared type; one that cannot be taken apart is all name.

    >>> parse("Timestamp (3)  WITH time zone")
    DeclaredType(name='timestamp with time zone', arguments='3')
    >>> parse("bigint(20) unsigned").name, parse('"real estate"').name
    ('bigint', '"real estate"')
    """
    text = " ".join(declared.lower().split())
    match = _TYPE.fullmatch(text) if len(text) <= MAX_CHARACTERS else None
    if match is None:
        return DeclaredType(text)
    words = [word for word in f"{match[1]} {match[4]}".split() if word not in _MODIFIERS]
    return DeclaredType(" ".join(words), match[2] or match[3] or "")


def kind_of(declared: str) -> Kind:
    """Return the kind of a declared type; text for none and for one that nobody knows.

    >>> [kind_of(found) for found in ("NUMERIC(10,2)", "timestamptz", "int[]", "real_estate_kind", "")]
    ['number', 'timestamp', 'nested', 'text', 'text']
    """
    text = declared.strip().lower()
    found = _BY_NAME.get(parse(text).name)
    if found is None and _NESTED.fullmatch(text):
        return "nested"
    return found[0] if found else "text"


def arrow_of(declared: str) -> str:
    """Return the name of the Arrow type of such a column's values in rows; what has none of its own is text.

    >>> [arrow_of(found) for found in ("numeric(10,2)", "numeric", "bigint", "date", "uuid")]
    ['decimal128(10, 2)', 'string', 'int64', 'date32', 'string']
    """
    parsed = parse(declared)
    if parsed.name in DECIMALS:
        return _arrow_decimal(parsed.arguments)
    if parsed.name in TIMESTAMPS and "tz=" in parsed.arguments:
        return "timestamp[us, tz=UTC]"
    return _BY_NAME.get(parsed.name, ("", ARROW_TEXT))[1]


def is_fractional(declared: str) -> bool:
    """Return whether a column of this type may hold numbers with a fraction."""
    return parse(declared).name in FLOATS | DECIMALS


def _arrow_decimal(arguments: str) -> str:
    """Return the decimal; PostgreSQL has scales below zero and past the precision, as `numeric(3,-2)` and `(2,5)`."""
    match = _DIGITS.fullmatch(arguments)
    if match is None:
        return ARROW_TEXT
    precision, scale = int(match[1]), int(match[2] or 0)
    precision, scale = max(precision - min(scale, 0), scale), max(scale, 0)
    if not 1 <= precision <= MAX_DECIMAL_DIGITS:
        return ARROW_TEXT
    return f"decimal{128 if precision <= 38 else 256}({precision}, {scale})"
