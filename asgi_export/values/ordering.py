"""Keys of text and numbers as bytes, which sort as the values do.

A text file holds numbers and dates as text. They sort by value; a text that is no such value comes behind all that
are, by code point.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import UTC, datetime, time, timedelta
from decimal import Decimal

from asgi_export.declared import Kind
from asgi_export.values.literals import parse_boolean, parse_date, parse_number, parse_time, parse_timestamp

_BIAS = 1 << 31
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)

_LEAST, _NEGATIVE, _ZERO, _POSITIVE, _MOST, _NAN, _OTHER = [bytes([place]) for place in range(7)]


def number_key(value: float | Decimal) -> bytes:
    """Return bytes that sort as numbers do, exactly, with NaN last.

    >>> found = [-2.5, -1, Decimal("-0.10"), 0, Decimal("0.1"), 1, 10, 10**30, float("inf"), float("nan")]
    >>> sorted(reversed(found), key=number_key) == found
    True
    """
    number = Decimal(value)
    if not number.is_finite():
        return _NAN if number.is_nan() else _MOST if number > 0 else _LEAST
    if not number:
        return _ZERO
    digits = "".join(map(str, number.as_tuple().digits)).rstrip("0").encode()
    key = (number.adjusted() + _BIAS).to_bytes(4, "big") + digits
    return _POSITIVE + key if number > 0 else _NEGATIVE + bytes([255 - byte for byte in key]) + b"\xff"


def text_key(kind: Kind) -> Callable[[str], bytes]:
    """Return how the texts of a column of a kind become keys."""
    read = _READ.get(kind)

    def key(text: str) -> bytes:
        if read is None:
            return _encoded(text)
        try:
            return number_key(read(text))
        except ValueError:
            return _OTHER + _encoded(text)

    return key


def _encoded(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")


def _date(text: str) -> int:
    return parse_date(text).toordinal()


def _time(text: str) -> int:
    found: time = parse_time(text)
    return ((found.hour * 60 + found.minute) * 60 + found.second) * 10**6 + found.microsecond


def _moment(text: str) -> float | Decimal:
    """Return the microseconds from 1970; the digits past them are a fraction."""
    head, dot, rest = text.partition(".")
    digits = rest[: len(rest) - len(rest.lstrip("0123456789"))]
    found = (parse_timestamp(head + dot + digits[:6] + rest[len(digits) :]) - _EPOCH) // _MICROSECOND
    return found + Decimal(f"0.{digits[6:]}") if digits[6:] else found


_READ: Mapping[Kind, Callable[[str], float | Decimal]] = {
    "number": parse_number,
    "boolean": parse_boolean,
    "date": _date,
    "time": _time,
    "timestamp": _moment,
}
