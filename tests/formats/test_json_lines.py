"""NDJSON: what each value looks like, and that every reader gets every row back."""

from __future__ import annotations

import json
import math
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from io import BytesIO
from typing import Any

import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from asgi_export.errors import SourceFailed
from asgi_export.formats.json_lines import JsonLinesEncoder
from asgi_export.table import Batch, Column


def encode(batch: Batch, names: str = "abcdefgh") -> bytes:
    width = len(batch[0]) if isinstance(batch, list) else len(names)
    encoder = JsonLinesEncoder([Column(name) for name in names[:width]])
    return encoder.head() + encoder.feed(batch) + encoder.tail()


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "null"),
        (True, "true"),
        (2**70, "1180591620717411303424"),
        (-1, "-1"),
        (0.1, "0.1"),
        (1e16, "1e+16"),
        (math.nan, "null"),
        (-math.inf, "null"),
        (Decimal("12345678901234567890.10"), '"12345678901234567890.10"'),
        (Decimal("1E+3"), '"1000"'),
        ("", '""'),
        ('q"\\\n\r\t\0\x1f', '"q\\"\\\\\\n\\r\\t\\u0000\\u001f"'),
        ("é\u2028😀", '"é\u2028😀"'),
        ("\ud800", '"\\ud800"'),
        (b"\x00\xff", '"\\\\x00ff"'),
        (datetime(2024, 2, 29, 1, 2, 3, tzinfo=UTC), '"2024-02-29T01:02:03+00:00"'),
        (timedelta(hours=1), '"PT1H"'),
        ({"a": [1, None, math.inf, {"b": Decimal("1.0")}]}, '{"a":[1,null,null,{"b":"1.0"}]}'),
        ((1, "x"), '[1,"x"]'),
        ([], "[]"),
    ],
    ids=repr,
)
def test_a_value_has_one_json_form(value: Any, text: str) -> None:
    assert encode([(value,)]) == f'{{"a":{text}}}\n'.encode()


def test_names_are_escaped() -> None:
    encoder = JsonLinesEncoder([Column('q"%s'), Column("é\n")])
    assert encoder.feed([(1, 2)]) == '{"q\\"%s":1,"é\\n":2}\n'.encode()


def test_columns_and_rows_look_alike() -> None:
    rows: list[Any] = [
        (1, "x", 1.5, None, [1, None], {"k": "v"}, datetime(2024, 1, 1, tzinfo=UTC), b"\x01"),
        (None, 'q"', math.nan, None, None, {"k": None}, None, b""),
    ]
    arrays = [list(column) for column in zip(*rows, strict=True)]
    assert encode(pa.table(dict(zip("abcdefgh", arrays, strict=True)))) == encode(rows)


def test_readers_get_the_rows_back() -> None:
    rows: list[Any] = [(number, f"n{number}", number / 4) for number in range(1000)]
    data = encode(rows)
    assert list(pl.read_ndjson(data).rows()) == rows
    assert [json.loads(line) for line in data.splitlines()] == [dict(zip("abc", row, strict=True)) for row in rows]
    assert list(pd.read_json(BytesIO(data), lines=True).itertuples(index=False, name=None)) == rows


def test_rows_are_counted_and_their_width_is_checked() -> None:
    encoder = JsonLinesEncoder([Column("a"), Column("b")])
    encoder.feed([(1, 2), (3, 4)])
    encoder.feed(pa.table({"a": [1], "b": [2]}))
    encoder.feed([])
    assert encoder.rows == 3
    with pytest.raises(SourceFailed, match="not 2 a row"):
        encoder.feed([(1,)])
    with pytest.raises(SourceFailed, match="ready text"):
        encoder.feed(b"1,2\n")


JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=6,
)


@given(st.lists(st.tuples(JSON_VALUES, JSON_VALUES), min_size=1, max_size=8))
def test_json_gets_any_rows_back(rows: list[Any]) -> None:
    lines = encode(rows).decode().split("\n")
    assert lines.pop() == ""
    assert [tuple(json.loads(line).values()) for line in lines] == rows


FLAT = {
    "a": pa.array([0, -1, None, 2**53 + 1]),
    "b": pa.array([0.1, math.nan, None, 1e16]),
    "c": pa.array([0.1, math.inf, None, -0.0], pa.float32()),
    'q"\\\n': pa.array(['q"\\\n\x00\u2028é', "", None, "/"]),
    "e": pa.array([Decimal("1.50"), None, Decimal(0), Decimal(-1)]),
    "f": pa.array([b"\xff", None, b"", b"x"]),
    "g": pa.array([datetime(2024, 1, 1, tzinfo=UTC), None, None, None], pa.timestamp("us", "UTC")),
    "h": pa.array([True, None, False, None]),
    "i": pa.nulls(4),
}


def test_flat_columns_and_nested_ones_take_two_ways_to_the_same_lines() -> None:
    """Polars writes flat columns; one nested column sends its batch the other way."""
    nested = pa.array([[1], None, [], [2]])
    names = [Column(name) for name in FLAT]
    flat = JsonLinesEncoder(names)
    other = JsonLinesEncoder([*names, Column("z")])
    lines = flat.feed(pa.record_batch(FLAT)).splitlines()
    with_nested = other.feed(pa.record_batch({**FLAT, "z": nested})).splitlines()
    ends = [b"[1]", b"null", b"[]", b"[2]"]
    assert [line[:-1] + b',"z":' + end + b"}" for line, end in zip(lines, ends, strict=True)] == with_nested
    assert flat.rows == other.rows == 4
