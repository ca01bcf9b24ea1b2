"""Values of filters are read exactly, or not at all."""

from __future__ import annotations

import math
from collections.abc import Callable
from datetime import UTC, date, datetime, time
from decimal import Decimal
from typing import Any, get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from asgi_export.declared import Kind
from asgi_export.values import literals
from asgi_export.values.literals import EXPECTED, PARSERS

NUMBERS = [
    ("0", 0),
    ("-0", 0),
    ("+7", 7),
    ("007", 7),
    ("9223372036854775808", 2**63),
    ("9" * 400, int("9" * 400)),
    ("1.50", Decimal("1.50")),
    ("1.", Decimal(1)),
    (".5", Decimal("0.5")),
    ("-.5e-3", Decimal("-0.0005")),
    ("1E3", Decimal("1e3")),
    ("1e400", Decimal("1e400")),
    ("-0.0", Decimal("-0.0")),
    ("inf", math.inf),
    ("Infinity", math.inf),
    ("-INF", -math.inf),
]
TIMESTAMPS = [
    ("2026-01-31", datetime(2026, 1, 31, tzinfo=UTC)),
    ("2026-01-31T13:45", datetime(2026, 1, 31, 13, 45, tzinfo=UTC)),
    ("2026-01-31 13:45:01.5Z", datetime(2026, 1, 31, 13, 45, 1, 500_000, UTC)),
    ("2026-01-31T13:45:01.123456000", datetime(2026, 1, 31, 13, 45, 1, 123_456, UTC)),
    ("2026-01-31T13:45-0330", datetime(2026, 1, 31, 17, 15, tzinfo=UTC)),
    ("2026-01-31T13:45+01", datetime(2026, 1, 31, 12, 45, tzinfo=UTC)),
    ("0001-01-01T00:00:00Z", datetime(1, 1, 1, tzinfo=UTC)),
    ("9999-12-31T23:59:59.999999", datetime(9999, 12, 31, 23, 59, 59, 999_999, UTC)),
]
READ: list[tuple[Kind, str, Any]] = [
    *[("number", *case) for case in NUMBERS],
    *[("timestamp", *case) for case in TIMESTAMPS],
    ("text", "", ""),
    ("text", " e\u0301\0", " e\u0301\0"),
    ("boolean", "true", True),
    ("boolean", "false", False),
    ("date", "0001-01-01", date(1, 1, 1)),
    ("date", "2024-02-29", date(2024, 2, 29)),
    ("time", "00:00", time(0)),
    ("time", "23:59:59.999999", time(23, 59, 59, 999_999)),
    ("bytes", "", b""),
    ("bytes", "\\x", b""),
    ("bytes", "\\x00fF", b"\x00\xff"),
]


@pytest.mark.parametrize(("kind", "text", "value"), READ)
def test_a_text_is_read_as_exactly_one_value(kind: Kind, text: str, value: Any) -> None:
    found = PARSERS[kind](text)
    assert (type(found), found, repr(found)) == (type(value), value, repr(value))


def test_nan_is_a_number() -> None:
    assert all(math.isnan(literals.parse_number(text)) for text in ("nan", "NaN", "NAN"))


REFUSED: list[tuple[Kind, str]] = [
    *[("number", text) for text in ("", " 1", "1 ", "1_000", "1,5", "0x10", "1e", "e3", ".", "+", "--1", "٣", "½")],
    *[("number", text) for text in ("snan", "nan1", "+inf ", "1e401", "1e-401", "1e99999", "9" * 401, "1\n")],
    *[("boolean", text) for text in ("", "1", "True", "TRUE", "t", "yes", "true ")],
    *[("date", text) for text in ("", "2026-1-1", "2026-13-01", "2026-02-29", "0000-01-01", "2026-01-31T00:00")],
    *[("date", text) for text in ("-0044-03-15", "12026-01-01", "20260131", "2026-W01-1", "٢٠٢٦-01-01")],
    *[("time", text) for text in ("", "24:00", "12", "12:60", "12:00:60", "1:00", "12:00Z", "12:00:00.1234567")],
    *[("timestamp", text) for text in ("", "2026-01-31T", "2026-01-31T24:00", "2026-01-31T13:45 01:00", "now")],
    *[("timestamp", text) for text in ("0001-01-01T00:00+12:00", "9999-12-31T23:59-01:00", "2026-01-31T00:00+25:00")],
    *[("timestamp", text) for text in ("2026-01-31T13:45:00.1234567", "2026-01-31T13:45:00.", "infinity", "1e9")],
    *[("bytes", text) for text in ("0", "\\x0", "xyz", "\\X00", "0x00", "00 ff", "\\x\\x00", "٠٠")],
]


@pytest.mark.parametrize(("kind", "text"), REFUSED)
def test_any_other_text_is_a_value_error(kind: Kind, text: str) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - its text is not shown, the caller says what was expected
        PARSERS[kind](text)


@given(kind=st.sampled_from(sorted(PARSERS)), text=st.text() | st.text("0123456789-+:.eETZ \\xnaif", max_size=40))
def test_no_text_raises_anything_else(kind: Kind, text: str) -> None:
    try:
        found = PARSERS[kind](text)
    except ValueError:
        return
    assert isinstance(found, str | bool | int | float | Decimal | date | time | bytes)


@given(number=st.integers() | st.decimals(allow_nan=False, allow_infinity=False, places=20))
def test_numbers_are_exact(number: int | Decimal) -> None:
    assert literals.parse_number(str(number)) == number


@given(double=st.floats(allow_nan=False))
def test_the_shortest_text_of_a_double_is_read_as_that_double(double: float) -> None:
    assert float(literals.parse_number(repr(double))) == double


ISO: list[tuple[Kind, st.SearchStrategy[Any], Callable[[Any], Any]]] = [
    ("date", st.dates(), lambda value: value),
    ("time", st.times(), lambda value: value),
    ("timestamp", st.datetimes(), lambda value: value.replace(tzinfo=UTC)),
]


@pytest.mark.parametrize(("kind", "values", "expected"), ISO)
@given(data=st.data())
def test_what_an_export_writes_of_a_date_or_time_is_read_back(
    kind: Kind, values: st.SearchStrategy[Any], expected: Callable[[Any], Any], data: st.DataObject
) -> None:
    value = data.draw(values)
    assert PARSERS[kind](value.isoformat()) == expected(value)


@given(value=st.binary())
def test_what_an_export_writes_of_bytes_is_read_back(value: bytes) -> None:
    assert literals.parse_bytes("\\x" + value.hex()) == literals.parse_bytes(value.hex().upper()) == value


def test_every_kind_but_nested_has_a_parser_and_words_for_its_errors() -> None:
    assert set(PARSERS) == set(EXPECTED) == set(get_args(Kind)) - {"nested"}
