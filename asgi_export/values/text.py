"""Convert single values to text, the same for every delimited format.

The table is looked up by exact type, then by `isinstance` for subclasses; other values become `str(value)`. Integers
and floats are not converted: their `str` is correct, and the encoder's formatting is faster.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from typing import Any

from asgi_export.values.python import to_python

Converter = Callable[[Any], Any]

_NESTED = (Mapping, list, tuple, set, frozenset)

FULL_DIGITS = 10_000
"""A decimal with more digits than this keeps scientific notation: 1E+999999999 is 1 GB in full."""


def decimal_text(value: Decimal) -> str:
    """Write a decimal in full, never in scientific notation.

    >>> decimal_text(Decimal("1.50E+3"))
    '1500'
    """
    exponent = value.as_tuple().exponent
    in_reach = not isinstance(exponent, int) or abs(exponent) < FULL_DIGITS
    return format(value, "f") if in_reach else str(value)


def duration_text(value: timedelta) -> str:
    """Write a duration by ISO 8601 §5.5.2, with days and smaller units, and the sign in front.

    >>> duration_text(timedelta(days=1, hours=2, microseconds=1500))
    'P1DT2H0.0015S'
    >>> duration_text(timedelta(0))
    'PT0S'
    """
    sign, value = ("-", -value) if value < timedelta(0) else ("", value)
    minutes, seconds = divmod(value.seconds, 60)
    hours, minutes = divmod(minutes, 60)
    fraction = f".{value.microseconds:06d}".rstrip("0") if value.microseconds else ""
    clock = "".join((f"{hours}H" if hours else "", f"{minutes}M" if minutes else ""))
    if seconds or fraction or not (clock or value.days):
        clock += f"{seconds}{fraction}S"
    return f"{sign}P{f'{value.days}D' if value.days else ''}{'T' + clock if clock else ''}"


def hex_text(value: bytes | bytearray | memoryview) -> str:
    r"""Write bytes as `\x` and lower-case hex, as PostgreSQL does."""
    return "\\x" + value.hex()


def json_text(value: object) -> str:
    """Write a nested value as one line of JSON, RFC 8259."""
    return json.dumps(_jsonable(value), ensure_ascii=False, separators=(",", ":"))


def is_nested(kind: type) -> bool:
    """Return whether JSON has a structure for values of this type."""
    return issubclass(kind, _NESTED)


def _jsonable(value: Any) -> Any:
    if isinstance(value, Mapping):
        pairs = [(str(text_of(key)), _jsonable(item)) for key, item in value.items()]
        found = dict(pairs)
        return found if len(found) == len(pairs) else pairs  # 1 and "1" are two keys, and one name
    if isinstance(value, _NESTED):
        return [_jsonable(item) for item in value]
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else None  # RFC 8259 §6 has no such numbers
    found = to_python(value)
    return str(text_of(value)) if found is value else _jsonable(found)


_BY_TYPE: tuple[tuple[tuple[type, ...], Converter], ...] = (
    ((bool,), {True: "true", False: "false"}.__getitem__),
    ((Decimal,), decimal_text),
    ((datetime, date, time), lambda value: value.isoformat()),
    ((timedelta,), duration_text),
    ((bytes, bytearray, memoryview), hex_text),
    (_NESTED, json_text),
)


class Converters(dict[type, Converter]):
    """Type → converter, filled as types are met; how many types a process has is bounded by its code."""

    def __missing__(self, kind: type) -> Converter:
        found = next((convert for kinds, convert in _BY_TYPE if issubclass(kind, kinds)), str)
        self[kind] = found
        return found


def _same(value: Any) -> Any:
    return value


CONVERTERS = Converters({int: _same, float: _same, str: _same})


def text_of(value: Any) -> Any:
    r"""Convert a value that is not null to text; numbers stay numbers, whose `str` is the text.

    >>> [text_of(v) for v in (True, b"\x00\xff", date(2024, 2, 29), {"a": [1, None]}, 7)]
    ['true', '\\x00ff', '2024-02-29', '{"a":[1,null]}', 7]
    """
    return CONVERTERS[type(value)](value)
