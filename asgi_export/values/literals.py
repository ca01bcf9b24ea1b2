r"""Read values from text by the kind of their column, as filters and parameters of queries give them.

Each parser raises `ValueError` for a text that is not exactly such a value. A timestamp without an offset counts as
UTC, in the text as in the column. ISO 8601 for dates and times; bytes are hex, with or without `\x` before it.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from datetime import UTC, date, datetime, time
from decimal import Decimal

from asgi_export.declared import Kind
from asgi_export.table import Scalar

MAX_NUMBER_CHARACTERS = 400
MAX_EXPONENT = 400
"""Past the range of a double, and of what any table holds; a number of a million digits would take seconds."""

_INTEGER = re.compile(r"[+-]?[0-9]+", re.ASCII)
_DECIMAL = re.compile(r"[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE]([+-]?[0-9]{1,4}))?", re.ASCII)
_NOT_FINITE = {"nan": math.nan, "inf": math.inf, "infinity": math.inf, "-inf": -math.inf, "-infinity": -math.inf}
_DATE = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}", re.ASCII)
_CLOCK = r"[0-9]{2}:[0-9]{2}(?::[0-9]{2}(?:\.[0-9]{1,6}0*)?)?"
_TIME = re.compile(_CLOCK, re.ASCII)
_TIMESTAMP = re.compile(
    rf"([0-9]{{4}}-[0-9]{{2}}-[0-9]{{2}})(?:[T ]({_CLOCK})(Z|[+-][0-9]{{2}}(?::?[0-9]{{2}})?)?)?", re.ASCII
)
_HEX = re.compile(r"(?:\\x)?((?:[0-9a-fA-F]{2})*)", re.ASCII)


def parse_number(text: str) -> int | Decimal | float:
    """Read a whole number as `int`, any other as `Decimal`, and NaN and the infinities as `float`.

    >>> parse_number("-42"), parse_number("1.50"), parse_number("1e3"), parse_number("inf")
    (-42, Decimal('1.50'), Decimal('1E+3'), inf)
    """
    if len(text) <= MAX_NUMBER_CHARACTERS:
        if _INTEGER.fullmatch(text):
            return int(text)
        if match := _DECIMAL.fullmatch(text):
            return _bounded(Decimal(text), int(match[1] or 0))
        if (special := _NOT_FINITE.get(text.lower())) is not None:
            return special
    raise ValueError(text[:80])


def _bounded(number: Decimal, exponent: int) -> Decimal:
    if abs(exponent) > MAX_EXPONENT:
        raise ValueError(f"an exponent of {exponent}")
    return number


def parse_boolean(text: str) -> bool:
    """Read `true` or `false`."""
    if text not in ("true", "false"):
        raise ValueError(text[:80])
    return text == "true"


def parse_date(text: str) -> date:
    """Read a date, `2026-01-31`."""
    if not _DATE.fullmatch(text):
        raise ValueError(text[:80])
    return date.fromisoformat(text)


def parse_time(text: str) -> time:
    """Read a time of day without an offset, `13:45`, `13:45:00.25`."""
    if not _TIME.fullmatch(text):
        raise ValueError(text[:80])
    return time.fromisoformat(_six_digits(text))


def parse_timestamp(text: str) -> datetime:
    """Read a timestamp as an instant in UTC: a date, or a date and a time, with an offset or without one.

    >>> parse_timestamp("2026-01-31T13:45+01:00").isoformat(), parse_timestamp("2026-01-31").isoformat()
    ('2026-01-31T12:45:00+00:00', '2026-01-31T00:00:00+00:00')
    """
    match = _TIMESTAMP.fullmatch(text)
    if match is None:
        raise ValueError(text[:80])
    day, clock, offset = match.groups()
    found = datetime.fromisoformat(f"{day}T{_six_digits(clock or '00:00')}{offset or 'Z'}")
    try:
        return found.astimezone(UTC)
    except OverflowError:
        raise ValueError(text[:80]) from None


def _six_digits(clock: str) -> str:
    """Drop zeros past the microseconds."""
    seconds, dot, digits = clock.partition(".")
    return seconds + dot + digits[:6]


def parse_bytes(text: str) -> bytes:
    r"""Read hex digits, two a byte, with or without `\x` before them."""
    match = _HEX.fullmatch(text)
    if match is None:
        raise ValueError(text[:80])
    return bytes.fromhex(match[1])


PARSERS: Mapping[Kind, Callable[[str], Scalar]] = {
    "number": parse_number,
    "text": str,
    "boolean": parse_boolean,
    "date": parse_date,
    "time": parse_time,
    "timestamp": parse_timestamp,
    "bytes": parse_bytes,
}
"""By the kind of a column; nested values have none."""

EXPECTED: Mapping[Kind, str] = {
    "number": "a number",
    "text": "text",
    "boolean": "true or false",
    "date": "a date (2026-01-31)",
    "time": "a time (13:45:00)",
    "timestamp": "a timestamp (2026-01-31T13:45:00Z)",
    "bytes": "hex digits, two a byte",
}
"""What an error says that a value of this kind looks like."""
