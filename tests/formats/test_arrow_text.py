"""Arrow batches as delimited text: the text of every type, and the same lines as rows of those texts give."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from itertools import product
from typing import Any

import duckdb
import polars as pl
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from asgi_export.columns.times import duration_text
from asgi_export.errors import SourceFailed, StartupError
from asgi_export.extras import extra
from asgi_export.formats.arrow.batches import MAX_CELLS
from asgi_export.formats.arrow.text import ArrowText, arrow_rows
from asgi_export.formats.delimited import DelimitedEncoder
from asgi_export.table import Batch, Column, Dialect, Row
from asgi_export.values.text import duration_text as python_duration_text

PLAINEST = Dialect(header=False)


def columns(width: int) -> list[Column]:
    return [Column(str(place)) for place in range(width)]


def encode(batch: Batch, width: int, dialect: Dialect = PLAINEST) -> bytes:
    return ArrowText(columns(width), dialect).encode(batch)


def read(data: bytes, delimiter: str = ",") -> list[list[str]]:
    return list(csv.reader(io.StringIO(data.decode(), newline=""), delimiter=delimiter, strict=True))


def texts(array: pa.Array) -> list[str]:
    """Each value's text; nulls are told apart by their own."""
    batch = pa.record_batch([array], ["a"])
    return [field for (field,) in read(encode(batch, 1, Dialect(header=False, null="NULL")))]


def moments(unit: str, zone: str | None = None) -> pa.DataType:
    return pa.timestamp(unit, zone)


NOON = datetime(2024, 7, 1, 12, 0, 0, 5000)  # noqa: DTZ001 - a wall clock
OLD = datetime(1850, 1, 1)  # noqa: DTZ001
DAY = date(2024, 2, 29)
FIRST = datetime(1, 1, 1)  # noqa: DTZ001

TYPES: list[tuple[pa.DataType, Any, str]] = [
    (pa.bool_(), True, "true"),
    (pa.int8(), -128, "-128"),
    (pa.int64(), -(2**63), "-9223372036854775808"),
    (pa.uint64(), 2**64 - 1, "18446744073709551615"),
    (pa.float16(), 0.5, "0.5"),
    (pa.float32(), 0.1, "0.1"),
    (pa.float64(), 0.1, "0.1"),
    (pa.float64(), 1e16, "1e+16"),
    (pa.float64(), 1e-7, "1e-7"),
    (pa.float64(), 1.0, "1.0"),
    (pa.float64(), -0.0, "-0.0"),
    (pa.float64(), 5e-324, "5e-324"),
    (pa.float64(), float("nan"), "nan"),
    (pa.float64(), float("-inf"), "-inf"),
    (pa.string(), "é,😀", "é,😀"),
    (pa.large_string(), "x", "x"),
    (pa.string_view(), "x", "x"),
    (pa.dictionary(pa.int8(), pa.string()), "x", "x"),
    (pa.binary(), b"\x00\xff", "\\x00ff"),
    (pa.large_binary(), b"\x00\xff", "\\x00ff"),
    (pa.binary_view(), b"\x00\xff", "\\x00ff"),
    (pa.binary(2), b"\x00\xff", "\\x00ff"),
    (pa.decimal32(9, 7), Decimal("0.0000001"), "0.0000001"),
    (pa.decimal64(18, 2), Decimal("-1.50"), "-1.50"),
    (pa.decimal128(38, 10), Decimal("1234567890123456789012345678.0000000001"),
     "1234567890123456789012345678.0000000001"),
    (pa.decimal128(5, -2), Decimal("1500"), "1500"),
    (pa.decimal256(76, 0), Decimal("9" * 76), "9" * 76),
    (pa.date32(), DAY, "2024-02-29"),
    (pa.date64(), DAY, "2024-02-29"),
    (pa.time32("s"), time(23, 59, 59), "23:59:59"),
    (pa.time32("ms"), time(23, 59, 59, 5000), "23:59:59.005000"),
    (pa.time64("us"), time(0, 0, 0, 1), "00:00:00.000001"),
    (pa.time64("ns"), 1, "00:00:00.000000001"),
    (moments("s"), FIRST, "0001-01-01T00:00:00"),
    (moments("ms"), NOON, "2024-07-01T12:00:00.005000"),
    (moments("us"), NOON, "2024-07-01T12:00:00.005000"),
    (moments("us"), 253402300800_000000, "10000-01-01T00:00:00"),
    (moments("ns"), NOON, "2024-07-01T12:00:00.005000"),
    (moments("ns"), -1, "1969-12-31T23:59:59.999999999"),
    (moments("us", "UTC"), NOON, "2024-07-01T12:00:00.005000+00:00"),
    (moments("s", "Europe/Berlin"), datetime(2024, 7, 1, tzinfo=UTC), "2024-07-01T02:00:00+02:00"),
    (moments("us", "Europe/Berlin"), OLD, "1850-01-01T00:53:28+00:53:28"),
    (moments("ms", "-03:30"), OLD, "1849-12-31T20:30:00-03:30"),
    (moments("us", "Nowhere/Land"), OLD, "1850-01-01T00:00:00+00:00"),
    (pa.duration("s"), timedelta(days=-1, seconds=1), "-PT23H59M59S"),
    (pa.duration("us"), timedelta(days=1, microseconds=1500), "P1DT0.0015S"),
    (pa.duration("ns"), 1, "PT0.000000001S"),
    (pa.month_day_nano_interval(), (14, 3, 3_600_000_000_001), "P1Y2M3DT1H0.000000001S"),
    (pa.month_day_nano_interval(), (-1, 2, -1_500_000_000), "P-1M2DT-1.5S"),
    (pa.month_day_nano_interval(), (0, 0, 0), "PT0S"),
    (pa.list_(pa.int8()), [1, None], "[1,null]"),
    (pa.large_list(pa.string()), ["é", ""], '["é",""]'),
    (pa.list_view(pa.bool_()), [True], "[true]"),
    (pa.large_list_view(pa.float64()), [float("nan"), 0.5], "[null,0.5]"),
    (pa.list_(pa.float32(), 2), [0.1, float("inf")], "[0.1,null]"),
    (pa.list_(moments("ns", "UTC")), [NOON], '["2024-07-01T12:00:00.005000+00:00"]'),
    (pa.struct([("a", pa.decimal128(5, 2)), ("b", pa.list_(pa.binary()))]), {"a": Decimal("1.5"), "b": [b"\xff"]},
     '{"a":"1.50","b":["\\\\xff"]}'),
    (pa.struct([]), {}, "{}"),
    (pa.map_(pa.string(), pa.int8()), [("k", 1), ("l", None)], '{"k":1,"l":null}'),
    (pa.map_(pa.int8(), pa.string()), [(1, "x")], '{"1":"x"}'),
]  # fmt: skip


def case(kind: pa.DataType, value: Any) -> pa.Array:
    """The value between nulls, behind an offset, as a slice of a larger array has it."""
    if pa.types.is_timestamp(kind) and kind.tz and isinstance(value, datetime):
        naive = pa.array([None, value.replace(tzinfo=None), None], pa.timestamp(kind.unit))
        return naive.cast(pa.int64()).cast(kind).slice(0)
    if isinstance(value, int) and pa.types.is_temporal(kind):
        return pa.array([None, value, None], pa.int64()).cast(kind)
    return pa.array([None, value, None], kind)


@pytest.mark.parametrize(("kind", "value", "text"), TYPES, ids=lambda value: str(value)[:40])
def test_every_type_has_one_text(kind: pa.DataType, value: Any, text: str) -> None:
    array = case(kind, value)
    assert texts(array) == ["NULL", text, "NULL"]
    assert texts(array.slice(1)) == [text, "NULL"]
    assert texts(array.slice(1, 1)) == [text]
    assert texts(array.slice(0, 1)) == ["NULL"]


EXTENSIONS: list[tuple[pa.Array, list[str]]] = [
    (pa.ExtensionArray.from_storage(pa.uuid(), pa.array([bytes(range(16)), None], pa.binary(16))),
     ["00010203-0405-0607-0809-0a0b0c0d0e0f", "NULL"]),
    (pa.ExtensionArray.from_storage(pa.bool8(), pa.array([1, 0, None], pa.int8())), ["true", "false", "NULL"]),
    (pa.ExtensionArray.from_storage(pa.json_(), pa.array(['{"a":1}', None])), ['{"a":1}', "NULL"]),
    (pa.RunEndEncodedArray.from_arrays([2, 3], pa.array(["x", None])), ["x", "x", "NULL"]),
    (pa.UnionArray.from_sparse(pa.array([0, 1], pa.int8()), [pa.array([1, 2]), pa.array(["a", "b"])]), ["1", '"b"']),
    (pa.nulls(2), ["NULL", "NULL"]),
    (pa.array(["x", None, "x"]).dictionary_encode().slice(1), ["NULL", "x"]),
]  # fmt: skip


@pytest.mark.parametrize(("array", "expected"), EXTENSIONS, ids=lambda value: str(getattr(value, "type", ""))[:40])
def test_types_that_wrap_others_have_the_text_of_those(array: pa.Array, expected: list[str]) -> None:
    assert texts(array) == expected


def test_nested_nulls_empties_and_slices_keep_their_places() -> None:
    lists = pa.array([[1], None, [], [2, 3]], pa.list_(pa.int8())).slice(1)
    assert texts(lists) == ["NULL", "[]", "[2,3]"]
    structs = pa.array([{"a": [1]}, None, {"a": None}, {"a": []}], pa.struct([("a", pa.list_(pa.int8()))])).slice(1)
    assert texts(structs) == ["NULL", '{"a":null}', '{"a":[]}']
    maps = pa.array([[("a", 1)], None, [], [("b", 2)]], pa.map_(pa.string(), pa.int8())).slice(1)
    assert texts(maps) == ["NULL", "{}", '{"b":2}']


@given(st.lists(st.none() | st.datetimes(), max_size=5))
def test_timestamps_are_what_isoformat_writes(values: list[datetime | None]) -> None:
    expected = ["NULL" if value is None else value.isoformat() for value in values]
    assert texts(pa.array(values, pa.timestamp("us"))) == expected


@given(st.lists(st.datetimes(min_value=datetime(1, 1, 2), max_value=datetime(9999, 12, 30)), max_size=5))  # noqa: DTZ001
def test_a_zoned_timestamp_is_the_same_moment(values: list[datetime]) -> None:
    moments = [value.replace(tzinfo=UTC) for value in values]
    for zone in ("Europe/Berlin", "America/St_Johns", "Asia/Kathmandu", "+05:45", "-1100"):
        array = pa.array(moments, pa.timestamp("us", zone))
        assert [datetime.fromisoformat(text) for text in texts(array)] == moments


@given(st.lists(st.timedeltas(), max_size=5))
def test_durations_have_the_text_that_pythons_have(values: list[timedelta]) -> None:
    values = [value for value in values if abs(value) < timedelta(days=10**8)]
    assert duration_text(pa.array(values, pa.duration("us"))).to_pylist() == [*map(python_duration_text, values)]


@given(st.lists(st.floats(), max_size=5), st.lists(st.floats(width=32), max_size=5))
def test_floats_read_back_the_same(doubles: list[float], singles: list[float]) -> None:
    assert json.dumps([float(text) for text in texts(pa.array(doubles, pa.float64()))]) == json.dumps(doubles)
    read_back = pa.array([float(text) for text in texts(pa.array(singles, pa.float32()))], pa.float32())
    assert json.dumps(read_back.to_pylist()) == json.dumps(singles)


NASTY = st.none() | st.text(st.sampled_from(",;\t\"\r\n\0 =+-@'5é\u2028\ufeffx"), max_size=5)
DIALECTS = st.builds(
    Dialect,
    delimiter=st.sampled_from([",", ";", "\t", "|", " ", "%", "5", "'", "=", "-", ".", "e"]),
    header=st.just(False),
    quote=st.sampled_from(["minimal", "all"]),
    null=st.sampled_from(["", "NULL", "\\N", "a,b", '"', "\n", "5"]),
    newline=st.sampled_from(["\n", "\r\n"]),
    escape_formulas=st.booleans(),
)
KINDS: list[tuple[st.SearchStrategy[Any], pa.DataType]] = [
    (NASTY, pa.string()),
    (NASTY, pa.string_view()),
    (st.none() | st.integers(-(2**63), 2**63 - 1), pa.int64()),
    (st.none() | st.booleans(), pa.bool_()),
    (st.none() | st.sampled_from([1.5, -0.25, 1e300, float("nan"), float("inf")]), pa.float64()),
    (st.none() | st.decimals(-1000, 1000, places=2), pa.decimal128(10, 2)),
    (st.none() | st.decimals(-1000, 1000, places=2), pa.decimal256(60, 2)),
    (st.none() | st.datetimes(), pa.timestamp("us")),
    (st.none() | st.timedeltas(timedelta(-9), timedelta(9)), pa.duration("us")),
    (st.none(), pa.null()),
]


@st.composite
def tables(draw: st.DrawFn) -> pa.RecordBatch:
    kinds = draw(st.lists(st.sampled_from(KINDS), min_size=1, max_size=4))
    height = draw(st.integers(0, 8))
    arrays = [pa.array([draw(values) for _ in range(height)], kind) for values, kind in kinds]
    return pa.record_batch(arrays, [str(place) for place in range(len(kinds))])


@given(tables(), DIALECTS)
def test_columns_give_the_bytes_that_their_rows_give(batch: pa.RecordBatch, dialect: Dialect) -> None:
    """The rows' encoder is held to `csv.reader` by its own tests."""
    rows: list[Row] = list(zip(*[column.to_pylist() for column in batch.columns], strict=True))
    width = batch.num_columns
    assert encode(batch, width, dialect) == DelimitedEncoder(columns(width), dialect).feed(rows)


def test_csv_reader_gets_nasty_text_back_in_any_dialect() -> None:
    values = ["", ",", '"', '""', "\r", "\n", "\r\n", "a\rb", " ", "\\", "'", "\0", "\u2028", "é"]
    batch = pa.record_batch({"a": values, "b": values[::-1]})
    for delimiter, newline in product(",;\t| ", ("\n", "\r\n")):
        data = encode(batch, 2, Dialect(delimiter=delimiter, newline=newline))  # type: ignore[arg-type]
        assert read(data, delimiter) == [[*pair] for pair in zip(values, values[::-1], strict=True)]


def test_a_row_of_one_empty_field_is_not_an_empty_line() -> None:
    assert encode(pa.record_batch({"a": ["", None, "x"]}), 1) == b'""\n""\nx\n'
    assert encode(pa.record_batch({"a": pa.array([None, 1])}), 1) == b'""\n1\n'


def test_formulas_are_escaped_in_text_only() -> None:
    batch = pa.record_batch({"a": ["=1", "@", "a="], "b": [-1, -2, -3], "c": [Decimal("-1.5")] * 3})
    assert encode(batch, 3, Dialect(escape_formulas=True)) == b"'=1,-1,-1.5\n'@,-2,-1.5\na=,-3,-1.5\n"


def test_rows_keep_numbers_and_have_text_for_what_python_cannot_hold() -> None:
    batch = pa.record_batch({
        "a": pa.array([1, None]),
        "b": pa.array([0.1, float("inf")], pa.float32()),
        "c": pa.array([1, 2], pa.int64()).cast(pa.timestamp("ns")),
        "d": pa.array([[1], None], pa.list_(pa.int8())),
        "e": [True, False],
    })  # fmt: skip
    assert arrow_rows(batch, 5) == [
        (1, 0.1, "1970-01-01T00:00:00.000000001", "[1]", True),
        (None, float("inf"), "1970-01-01T00:00:00.000000002", None, False),
    ]


def test_a_dialect_with_a_delimiter_past_ascii_is_left_to_the_rows() -> None:
    assert not ArrowText.takes(Dialect(delimiter="¦"))
    encoder = DelimitedEncoder(columns(2), Dialect(delimiter="¦"))
    assert encoder.feed(pa.record_batch({"a": ["x¦y"], "b": [1]})) == '"x¦y"¦1\n'.encode()


SHARED = {"a": [1, 2], "b": ["x", None]}


@pytest.mark.parametrize(
    "make",
    [
        lambda: pa.record_batch(SHARED),
        lambda: pa.table(SHARED),
        lambda: pa.concat_tables([pa.table(SHARED).slice(0, 1), pa.table(SHARED).slice(1)]),
        lambda: pa.table(SHARED).to_reader(),
        lambda: pl.DataFrame(SHARED),
        lambda: duckdb.sql("SELECT * FROM (VALUES (1, 'x'), (2, NULL)) t(a, b)"),
    ],
    ids=["record batch", "table", "table of chunks", "reader", "polars", "DuckDB"],
)
def test_anything_that_speaks_arrow_is_a_batch(make: Callable[[], Any]) -> None:
    encoder = ArrowText(columns(2), Dialect())
    assert encoder.encode(make()) == b"1,x\n2,\n"
    assert encoder.rows == 2


def test_text_views_may_be_nested_null_and_sliced() -> None:
    frame = pl.DataFrame({"a": [["x", None], None, [], ["a text that is too long to lie within a view"]]})
    assert read(encode(frame[1:], 1, Dialect(null="NULL"))) == [
        ["NULL"],
        ["[]"],
        ['["a text that is too long to lie within a view"]'],
    ]


def test_a_duckdb_interval_and_a_polars_category_have_their_text() -> None:
    interval = duckdb.sql("SELECT 1 AS a, INTERVAL '14 months 3 days 90 seconds' AS b")
    assert encode(interval, 2) == b"1,P1Y2M3DT1M30S\n"  # type: ignore[arg-type]
    frame = pl.DataFrame({"a": ["x", "y"], "b": [1, 2]}, schema={"a": pl.Categorical, "b": pl.Int8})
    assert encode(frame, 2) == b"x,1\ny,2\n"


def test_a_large_table_is_encoded_in_bounded_pieces() -> None:
    table = pa.table({"a": pa.array(range(MAX_CELLS)), "b": pa.array(range(MAX_CELLS))})
    sizes = [piece.count(b"\n") for piece in ArrowText(columns(2), Dialect()).pieces(table)]
    assert sizes == [MAX_CELLS // 2, MAX_CELLS // 2]


def test_a_batch_without_rows_is_nothing() -> None:
    assert encode(pa.table({"a": pa.array([], pa.timestamp("us", "Europe/Berlin"))}), 1) == b""


def test_a_batch_of_another_width_or_of_no_columns_is_a_failure() -> None:
    with pytest.raises(SourceFailed, match="has 2 columns; expected 3"):
        encode(pa.table(SHARED), 3)
    with pytest.raises(SourceFailed, match="int"):
        encode(5, 1)  # type: ignore[arg-type]


def test_a_missing_library_is_one_line_that_says_what_to_install() -> None:
    with (
        pytest.raises(StartupError, match=r"^no_such_library is missing: pip install 'asgi-export\[files\]'$"),
        extra("files"),
    ):
        import no_such_library.room  # type: ignore[import-not-found]  # noqa: F401
