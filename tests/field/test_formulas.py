"""What `escapeFormulas` guards, and what it leaves as it is: the same in batches of rows and of columns."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from asgi_export.formats.delimited import DelimitedEncoder
from asgi_export.table import Column, Dialect

ESCAPED = Dialect(header=False, escape_formulas=True)
STARTS = ["=", "+", "-", "@", "\t", "\r", "\n", "＝", "＋", "－", "＠"]


def by_rows(values: list[Any], dialect: Dialect = ESCAPED) -> bytes:
    return encoder(dialect).feed([(value, "x") for value in values])


def by_columns(values: pa.Array, dialect: Dialect = ESCAPED) -> bytes:
    columns = [values, pa.array(["x"] * len(values))]
    return encoder(dialect).feed(pa.RecordBatch.from_arrays(columns, ["a", "b"]))


def encoder(dialect: Dialect) -> DelimitedEncoder:
    return DelimitedEncoder([Column("a"), Column("b")], dialect)


def fields(text: str) -> tuple[bytes, bytes]:
    """The field of one text by both kinds of batches."""
    return by_rows([text]), by_columns(pa.array([text]))


@pytest.mark.parametrize("text", ["-5.00", "+1e3", "-0", "+.5", "-5.", "-1E-300", "-" + "9" * 5000, "-1e+5"])
def test_text_that_reads_as_a_number_is_left_alone(text: str) -> None:
    assert fields(text) == (f"{text},x\n".encode(),) * 2


@pytest.mark.parametrize(
    "text",
    [
        *STARTS,
        *[start + "1+1" for start in STARTS],
        "-",
        "+",
        "-.",
        "-e5",
        "--5",
        "-5-1",
        "-5.0.0",
        "-5 ",
        "-5\n",
        "-0x5",
        "-1_000",
        "-٣",
        "-inf",
        "-5e",
        "－5",
        "＋1e3",
        "=-5",
    ],
)
def test_text_that_a_spreadsheet_may_run_gets_an_apostrophe(text: str) -> None:
    rows, columns = fields(text)
    assert rows == columns
    assert rows.startswith((b"'", b"\"'"))


@pytest.mark.parametrize("text", ["", "a=b", " =1", "'=1", "5", "1-1", "a@b", "é"])
def test_other_text_is_left_alone(text: str) -> None:
    assert fields(text) == (f"{text},x\n".encode(),) * 2


@given(
    st.lists(
        st.none()
        | st.text(st.sampled_from("=+-@\t\r\n＝＋－＠0159.eE,'\" x"), max_size=6)
        | st.text(max_size=5)
        | st.decimals(allow_nan=False).map(str)
        | st.floats().map(repr),
        min_size=1,
        max_size=20,
    ),
    st.sampled_from(["minimal", "all"]),
    st.sampled_from(["", "-"]),
)
@example(["-1\n"], "minimal", "")
def test_rows_and_columns_have_the_same_bytes(values: list[str | None], quote: Any, null: str) -> None:
    dialect = Dialect(header=False, escape_formulas=True, quote=quote, null=null)
    try:
        columns = pa.array(values, pa.string())
    except UnicodeEncodeError:  # a lone surrogate, which Arrow cannot hold
        return
    assert by_rows(values, dialect) == by_columns(columns, dialect)


NUMBERS: list[tuple[pa.Array, list[bytes]]] = [
    (pa.array([-5, None], pa.int64()), [b"-5", b""]),
    (pa.array([-5.5, float("-inf")], pa.float64()), [b"-5.5", b"-inf"]),
    (pa.array([Decimal("-5.00")], pa.decimal128(9, 2)), [b"-5.00"]),
    (pa.array([Decimal("-5.00")], pa.decimal256(50, 2)), [b"-5.00"]),
    (pa.array([-5.5, float("-inf")]).dictionary_encode(), [b"-5.5", b"-inf"]),
    (pa.array([-5, -5]).dictionary_encode(), [b"-5", b"-5"]),
]


@pytest.mark.parametrize("delimiter", [",", "¦"])
@pytest.mark.parametrize(("array", "texts"), NUMBERS, ids=lambda value: str(getattr(value, "type", "")))
def test_numbers_are_left_alone_whatever_holds_them(array: pa.Array, texts: list[bytes], delimiter: str) -> None:
    """Past ASCII a delimiter has columns written as rows."""
    dialect = Dialect(header=False, escape_formulas=True, delimiter=delimiter)
    assert by_columns(array, dialect) == b"".join([text + delimiter.encode() + b"x\n" for text in texts])


@pytest.mark.parametrize("delimiter", [",", "¦"])
def test_text_in_a_dictionary_is_guarded(delimiter: str) -> None:
    dialect = Dialect(header=False, escape_formulas=True, delimiter=delimiter)
    array = pa.array(["=1", "-5.00", None]).dictionary_encode()
    assert by_columns(array, dialect).replace("¦".encode(), b",") == b"'=1,x\n-5.00,x\n,x\n"
