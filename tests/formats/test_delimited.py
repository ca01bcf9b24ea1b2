"""CSV and TSV text: what each value looks like, and that readers get every row back."""

from __future__ import annotations

import csv
import io
import uuid
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from asgi_export.errors import SourceFailed
from asgi_export.formats.delimited import DelimitedEncoder
from asgi_export.table import Column, Dialect, Row


def encode(rows: list[Row], dialect: Dialect = Dialect(header=False), names: str = "") -> bytes:  # noqa: B008
    width = len(rows[0]) if rows else len(names)
    encoder = DelimitedEncoder([Column(name) for name in names or "abcdefghij"[:width]], dialect)
    return encoder.head() + encoder.feed(rows) + encoder.tail()


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, ""),
        (True, "true"),
        (False, "false"),
        (0, "0"),
        (-(2**70), "-1180591620717411303424"),
        (0.1, "0.1"),
        (1e16, "1e+16"),
        (-0.0, "-0.0"),
        (float("inf"), "inf"),
        (float("nan"), "nan"),
        (Decimal("1E+5"), "100000"),
        (Decimal("0.0000000001"), "0.0000000001"),
        (Decimal("-12.340"), "-12.340"),
        (Decimal("1E+999999999"), "1E+999999999"),
        (Decimal("NaN"), "NaN"),
        (date(2024, 2, 29), "2024-02-29"),
        (datetime(2024, 2, 29, 1, 2, 3), "2024-02-29T01:02:03"),  # noqa: DTZ001 - a time without a zone
        (datetime(2024, 2, 29, 1, 2, 3, 4000, UTC), "2024-02-29T01:02:03.004000+00:00"),
        (datetime(1, 1, 1, tzinfo=timezone(timedelta(hours=-3, minutes=-30))), "0001-01-01T00:00:00-03:30"),
        (time(23, 59, 59), "23:59:59"),
        (timedelta(days=-1, seconds=1), "-PT23H59M59S"),
        (b"\x00\xff", "\\x00ff"),
        (memoryview(b"ab"), "\\x6162"),
        (uuid.UUID(int=5), "00000000-0000-0000-0000-000000000005"),
        ("\ud800", "\\ud800"),
        ("plain", "plain"),
        ("", ""),
        (" blank ", " blank "),
        ('say "hi"', '"say ""hi"""'),
        ("a,b", '"a,b"'),
        ("a\nb", '"a\nb"'),
        ("a\rb", '"a\rb"'),
        ("a\r\nb", '"a\r\nb"'),
        ("nul\0byte", "nul\0byte"),
        ({"a": [1, None, Decimal("1.5")], "é": True}, '"{""a"":[1,null,""1.5""],""é"":true}"'),
        ([float("nan"), "x"], '"[null,""x""]"'),
        ((1, 2), '"[1,2]"'),
    ],
    ids=lambda value: "memoryview" if isinstance(value, memoryview) else repr(value),  # whose repr has an address
)
def test_a_value_has_one_text(value: Any, text: str) -> None:
    assert encode([(value, "end")]) == f"{text},end\n".encode()


def test_an_empty_row_of_one_field_is_not_lost() -> None:
    """An empty line is no row to most readers; a quoted empty field is."""
    assert encode([("",), (None,), ("x",)]) == b'""\n""\nx\n'


def test_the_header_is_quoted_like_any_row() -> None:
    encoder = DelimitedEncoder([Column("a,b"), Column('c"d'), Column("é")], Dialect())
    assert encoder.head() == '"a,b","c""d",é\n'.encode()


def test_a_byte_order_mark_comes_first_and_once() -> None:
    encoder = DelimitedEncoder([Column("a")], Dialect(bom=True))
    assert encoder.head() == b"\xef\xbb\xbfa\n"
    assert encoder.feed([("x",)]) == b"x\n"


def test_the_null_text_stands_for_nulls_only() -> None:
    assert encode([(None, ""), ("x", 1)], Dialect(header=False, null="\\N")) == b"\\N,\nx,1\n"


def test_a_null_text_that_needs_quotes_gets_them() -> None:
    assert encode([(None, "x")], Dialect(header=False, null="a,b")) == b'"a,b",x\n'


def test_quote_all_quotes_numbers_and_nulls_too() -> None:
    assert encode([(1, None, "x", True)], Dialect(quote="all")) == b'"a","b","c","d"\n"1","","x","true"\n'


def test_crlf_ends_every_line_and_stays_inside_values() -> None:
    rows: list[Row] = [("a\nb", 1), ("c\r\nd", 2), ("e", 3)]
    assert encode(rows, Dialect(newline="\r\n")) == b'a,b\r\n"a\nb",1\r\n"c\r\nd",2\r\ne,3\r\n'


def test_a_delimiter_that_occurs_in_numbers_quotes_them() -> None:
    assert encode([(15, "x%")], Dialect(header=False, delimiter="5")) == b'"15"5x%\n'
    assert encode([(15, "x%")], Dialect(header=False, delimiter="%")) == b'15%"x%"\n'


@pytest.mark.parametrize("start", ["=", "+", "-", "@", "\t", "\r", "\n", "＝", "＋", "－", "＠"])
def test_text_that_starts_like_a_formula_gets_an_apostrophe(start: str) -> None:
    (row,) = csv.reader(
        io.StringIO(encode([(start + "1x", "a=b")], Dialect(header=False, escape_formulas=True)).decode(), newline="")
    )
    assert row == [f"'{start}1x", "a=b"]


def test_numbers_and_nulls_are_no_formulas() -> None:
    dialect = Dialect(header=False, escape_formulas=True, null="-")
    assert encode([(-1, -1.5, Decimal("-2.50"), None, timedelta(-1))], dialect) == b"-1,-1.5,-2.50,-,'-P1D\n"


def test_a_header_is_guarded_against_formulas_too() -> None:
    encoder = DelimitedEncoder([Column("=cmd()"), Column("b")], Dialect(escape_formulas=True))
    assert encoder.head() == b"'=cmd(),b\n"


def test_ready_text_passes_untouched_and_its_rows_are_counted() -> None:
    encoder = DelimitedEncoder([Column("a"), Column("b")], Dialect())
    text = b'1,x\n2,"line\nend ""quoted\n"""\n3,z\n'
    assert encoder.feed(text) == text
    assert encoder.rows == 3


def test_rows_are_counted() -> None:
    encoder = DelimitedEncoder([Column("a"), Column("b")], Dialect())
    encoder.feed([(1, 2), (3, 4)])
    encoder.feed([])
    encoder.feed([("x", None)])
    assert encoder.rows == 3


def test_a_batch_of_another_width_is_a_failure() -> None:
    with pytest.raises(SourceFailed, match="not 2 a row"):
        encode([(1, 2), (1, 2, 3)])


VALUES = st.one_of(
    st.text(st.one_of(st.sampled_from(",;\t\"\r\n\0 =+-@'%5é\u2028\ufeff"), st.characters()), max_size=8),
    st.integers(),
    st.none(),
    st.booleans(),
    st.floats(),
    st.decimals(allow_nan=False, allow_infinity=False, places=3),
    st.datetimes(timezones=st.timezones() | st.none()),
    st.binary(max_size=4),
)
DIALECTS = st.builds(
    Dialect,
    delimiter=st.sampled_from([",", ";", "\t", "|", " ", "%", "5", "é", "'", "=", "-"]),
    header=st.booleans(),
    quote=st.sampled_from(["minimal", "all"]),
    null=st.sampled_from(["", "NULL", "\\N", "a,b", '"', "\n"]),
    newline=st.sampled_from(["\n", "\r\n"]),
    escape_formulas=st.booleans(),
)
TABLES = st.integers(1, 5).flatmap(lambda width: st.lists(st.tuples(*[VALUES] * width), max_size=12))


def read(data: bytes, dialect: Dialect) -> list[list[str]]:
    return list(csv.reader(io.StringIO(data.decode(), newline=""), delimiter=dialect.delimiter, strict=True))


def texts_one_by_one(rows: list[Row], dialect: Dialect) -> list[list[str]]:
    """Each value's text, taken from an export of that value alone with the plainest dialect."""
    alone = Dialect(header=False, null=dialect.null, escape_formulas=dialect.escape_formulas, quote="all")
    return [[read(encode([(value,)], alone), alone)[0][0] for value in row] for row in rows]


@given(TABLES, DIALECTS)
def test_csv_reader_gets_any_rows_back_in_any_dialect(rows: list[Row], dialect: Dialect) -> None:
    width = len(rows[0]) if rows else 3
    names = "abcde"[:width]
    data = encode(rows, dialect, names)
    expected = ([list(names)] if dialect.header else []) + texts_one_by_one(rows, dialect)
    assert read(data, dialect) == expected


@given(TABLES, DIALECTS)
def test_the_plain_road_writes_what_csv_writer_writes(rows: list[Row], dialect: Dialect) -> None:
    width = len(rows[0]) if rows else 3
    columns = [Column(name) for name in "abcde"[:width]]
    plain, written = (DelimitedEncoder(columns, dialect) for _ in range(2))
    written._plain_allowed = False
    assert plain.feed(rows) == written.feed(rows)
