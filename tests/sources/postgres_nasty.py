"""A table with a column of each type of PostgreSQL, values that are easily mistaken, and values to ask for."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime, time
from decimal import Decimal
from typing import Any

from asgi_export.sources.sql import quoted
from tests.sources.postgres_shop import READER

TEXTS = (
    *("", " ", "a", "A", "b", "ab", "aB", "a ", "10", "9", "1.50", "-5", "true", "NULL", "null", "NaN"),
    *(
        "'",
        "''",
        "\\",
        "\\'",
        "\\\\",
        "%",
        "%s",
        "_",
        "a_b",
        "a%b",
        "axb",
        "a\\b",
        "$$",
        "$1",
        "$a$",
        '"',
        "{}",
        "{a,b}",
    ),
    *(":x", "--", "/*", ";", "E'", "\t", "\n", "\r\n", "\x01", "\x7f", "é", "e\u0301", "É", "ß", "ss", "ẞ", "İ", "ı"),
    *("ﬀ", "東京", "🙂", "\ue000", "\uffff", "\ufffd", "\U0010ffff", "\u202e", "a" * 900),
    *("550e8400-e29b-41d4-a716-446655440000", "550E8400-E29B-41D4-A716-446655440000", "calm", "Stück 'ü'"),
)

NUMBERS = (
    *("0", "-0", "1", "-1", "1.5", "1.50", "2.5", "-2.5", "0.1", "0.10000000149011612", "100", "32767", "32768"),
    *("-32768", "2147483647", "2147483648", "-2147483649", "4294967295", "9007199254740993", "9223372036854775807"),
    *(
        "9223372036854775808",
        "-9223372036854775808",
        "-9223372036854775809",
        "1e30",
        "1e-30",
        "1e308",
        "1.7976931348623157e308",
    ),
    *("3.4028234663852886e38", "3.5e38", "1e400", "-1e400", "1e-400", "5e-324", "1.4e-45", "99999.99", "100000"),
)


def asked_numbers() -> list[Any]:
    found: list[Any] = [int(text) if text.lstrip("-").isdigit() else Decimal(text) for text in NUMBERS]
    return [*found, math.nan, math.inf, -math.inf, 10**390]


def stored(texts: Sequence[str]) -> str:
    return "ARRAY[" + ", ".join("'" + text.replace("'", "''") + "'" for text in texts) + "]::text[]"


DATES = ["0001-01-01", "1999-12-31", "2000-01-01", "2024-02-29", "9999-12-31"]
TIMES = ["00:00:00", "13:45:00", "13:45:00.000001", "23:59:59.999999"]
STAMPS = [f"{day} {clock}" for day in DATES for clock in TIMES]
UUIDS = [
    "550e8400-e29b-41d4-a716-446655440000",
    "00000000-0000-0000-0000-000000000000",
    "ffffffff-ffff-ffff-ffff-ffffffffffff",
]

_INTEGERS = ["0", "1", "-1", "2", "3", "9", "10", "100"]
_FLOATS = [
    "0",
    "-0",
    "0.1",
    "1.5",
    "2.5",
    "-2.5",
    "1e30",
    "1e-30",
    "NaN",
    "Infinity",
    "-Infinity",
    "9007199254740993",
]
_DECIMALS = ["0", "1.5", "1.50", "1.500000000000000000000000000001", "-2.5", "1e30", "9007199254740993", "NaN"]

COLUMNS: Mapping[str, tuple[str, Sequence[str]]] = {
    "i2": ("int2", [*_INTEGERS, "32767", "-32768"]),
    "i4": ("int4", [*_INTEGERS, "2147483647", "-2147483648"]),
    "i8": ("int8", [*_INTEGERS, "9007199254740993", "9223372036854775807", "-9223372036854775808"]),
    "oid": ("oid", ["0", "1", "10", "2147483648", "4294967295"]),
    "f4": ("float4", [*_FLOATS, "1.4e-45", "3.4028235e38"]),
    "f8": ("float8", [*_FLOATS, "5e-324", "1.7976931348623157e308"]),
    "num": ("numeric", [*_DECIMALS, "Infinity", "-Infinity", "1e400", "1e-400", "1" + "0" * 131071]),
    "cash": ("numeric(10,2)", ["0", "1.5", "1.50", "-2.5", "99999.99", "100000", "NaN"]),
    "whole": ("whole", ["1", "2", "100", "2147483647"]),
    "rate": ("rate", ["0.1", "1.50", "NaN"]),
    "money": ("money", ["-5", "10", "9", "1000000"]),
    "txt": ("text", TEXTS),
    "vc": ("varchar", TEXTS),
    "cc": ('text COLLATE "C"', TEXTS),
    "ch": ("char(5)", ["", " ", "a", "A", "b", "a b", "é", "10", "%", "\\", "'"]),
    "nm": ("name", [text for text in TEXTS if len(text.encode()) < 64]),
    "one": ('"char"', ["a", "A", "%", "\\"]),
    "word": ("word", [text for text in TEXTS if len(text) < 21]),
    "ci": ("citext", TEXTS),
    "uid": ("uuid", UUIDS),
    "mood": ("mood", ["calm", "Stück 'ü'", "A"]),
    "ip": ("inet", ["10.0.0.1", "10.0.0.0/8", "::1"]),
    "span": ("interval", ["1 year", "1 month", "-5 days", "1.5 seconds"]),
    "bits": ("varbit", ["", "1", "101"]),
    "search": ("tsvector", ["a b", "'it''s'"]),
    "numbers": ("int4range", ["[1,5)", "empty", "(,)"]),
    "yes": ("bool", ["true", "false"]),
    "day": ("date", DATES),
    "clock": ("time", TIMES),
    "clock3": ("time(3)", ["13:45:00", "13:45:00.123"]),
    "ts": ("timestamp", STAMPS),
    "tz": ("timestamptz", [f"{stamp}+00" for stamp in STAMPS[1:]] + ["2024-02-29 13:45:00+05:45"]),
    "ts0": ("timestamp(0)", ["2024-02-29 13:45:00", "2024-02-29 13:45:01"]),
    "raw": ("bytea", ["\\x", "\\x00", "\\x00ff", "\\xff", "\\x27", "\\x5c27", "\\x2425"]),
    "doc": ("jsonb", ["null", '{"a": 1}', "1"]),
    "list": ("int[]", ["{}", "{1,NULL}", "{NULL}"]),
    "pair": ("pair", ["(,)", "(1,)", "(1,2)"]),
    "zoned": ("timetz", ["13:45:00+01", "23:59:59-12"]),
    "zoned_too": ("zoned", ["13:45:00+01"]),
}
"""Name → type, and the texts of its values; each column has nulls too."""

COLLATED = {
    "en": "en-x-icu",
    "nd": "und-x-icu",
    "unicode": "pg_unicode_fast",
}
"""Columns of text with collations that not every server has; `nd` has one that calls `a` and `A` equal."""

ASKED: Mapping[str, Sequence[Any]] = {
    "number": asked_numbers(),
    "text": [
        *TEXTS,
        "a\0",
        "a\0b",
        "\0",
        "(1,2)",
        "P1Y",
        "$10.00",
        "a    ",
        "\ud800",
        "\udfffb",
        "a\udc00",
        "\ud7ff",
    ],
    "boolean": [True, False],
    "date": [date.fromisoformat(day) for day in [*DATES, "2024-03-01"]],
    "time": [*[time.fromisoformat(clock) for clock in TIMES], time(13, 45, 0, 123_000)],
    "timestamp": [
        *[datetime.fromisoformat(stamp).replace(tzinfo=UTC) for stamp in STAMPS],
        datetime(2024, 2, 29, 8, tzinfo=UTC),
    ],
    "bytes": [b"", b"\0", b"\0\xff", b"\xff", b"'", b"\\'", b"$%", b"\x7f"],
    "nested": [],
}

INDEXED = ("i4", "i8", "f8", "num", "txt", "vc", "cc", "ch", "uid", "day", "tz", "raw")

NONDETERMINISTIC = """
CREATE COLLATION nd (provider = icu, locale = 'und-u-ks-level2', deterministic = false);
"""

TYPES = """
CREATE EXTENSION citext;
CREATE DOMAIN whole AS int4 CHECK (value > 0);
CREATE DOMAIN rate AS numeric;
CREATE DOMAIN word AS varchar(20);
CREATE DOMAIN zoned AS timetz;
CREATE TYPE mood AS ENUM ('calm', 'Stück ''ü''', 'A');
CREATE TYPE pair AS (a int, b int);
"""


def nasty_table(collations: Sequence[str]) -> str:
    """Return the statements that make a table `nasty`: a row for each value, in each column its own at that place.

    It has those columns of `COLLATED` whose collation is one of these.
    """
    collated = {name: found for name, found in COLLATED.items() if found in collations}
    kinds = {name: kind for name, (kind, _) in COLUMNS.items()} | dict.fromkeys(collated, "text")
    values = {name: found for name, (_, found) in COLUMNS.items()} | dict.fromkeys(collated, TEXTS)
    clauses = {name: f"COLLATE {'nd' if name == 'nd' else quoted(found)}" for name, found in collated.items()}
    columns = ", ".join([f'"{name}" {kind} {clauses.get(name, "")}' for name, kind in kinds.items()])
    picked = ", ".join(
        [f"({stored(values[name])})[g]::{kind.partition(' COLLATE')[0]}" for name, kind in kinds.items()]
    )
    indexed = [name for name in (*INDEXED, *collated) if name in kinds]
    return f"""{TYPES}{NONDETERMINISTIC if "nd" in collated else ""}
    CREATE TABLE nasty (id int, {columns});
    INSERT INTO nasty SELECT g, {picked} FROM generate_series(1, {max(map(len, values.values())) + 1}) g;
    {" ".join([f'CREATE INDEX ON nasty ("{name}");' for name in indexed])}
    GRANT SELECT ON ALL TABLES IN SCHEMA public TO {READER};
    """
