"""Filters on record batches mean what they mean on rows, for every type and layout of Arrow."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from asgi_export.columns.exact_text import ExactText
from asgi_export.columns.matching import ColumnFilter
from asgi_export.table import Filter, Operator
from asgi_export.values.fitting import EXACT, nearest_half, nearest_single
from asgi_export.values.matching import RowFilter

COMPARED: Sequence[Operator] = ("exact", "not", "gt", "gte", "lt", "lte")
LISTS: Sequence[Operator] = ("in", "notin")
PARTS: Sequence[Operator] = ("contains", "startswith", "endswith")


def places(column: pa.Array, operator: Operator, value: Any) -> list[int]:
    """The numbers of the rows that a filter leaves."""
    batch = pa.record_batch([column, pa.array(range(len(column)), pa.int64())], ["a", "n"])
    found = ColumnFilter([Filter("a", operator, value)], ["a", "n"]).batch(batch)
    found.validate(full=True)
    kept: list[int] = found.column(1).to_pylist()
    return kept


def expected(values: Sequence[Any], operator: Operator, value: Any) -> list[int]:
    rows = [(one, place) for place, one in enumerate(values)]
    return [row[1] for row in RowFilter([Filter("a", operator, value)], ["a", "n"]).rows(rows)]


SMALL = [0, 1, -1, 2, 7, 127, 128, 255, 2**31 - 1, 2**31, 2**53 + 1, 2**63 - 1, 2**63, 2**64 - 1, -(2**63)]
NUMBERS = st.one_of(
    st.sampled_from(SMALL),
    st.integers(-(10**20), 10**20),
    st.decimals(-(10**6), 10**6, places=3),
    st.sampled_from([Decimal("0.1"), Decimal("1.50"), Decimal("1E+3"), Decimal("-0"), Decimal("1E-40"), 10**400]),
    st.sampled_from([math.nan, math.inf, -math.inf]),
)
TEXTS = st.one_of(
    st.text(max_size=3), st.sampled_from(["", "a", "A", "ab", "é", "e\u0301", "\U0001f600", "1.0", "true"])
)
DAYS = st.dates(date(1, 1, 2), date(9999, 12, 30))
MIDNIGHT = datetime(2026, 1, 1)  # noqa: DTZ001
MOMENTS = st.datetimes(MIDNIGHT.replace(year=1678), MIDNIGHT.replace(year=2262)) | st.just(MIDNIGHT)
TIMES = st.one_of(st.times(), st.just(time(12, 30)), st.just(time(0)))
BYTES = st.one_of(st.binary(max_size=3), st.sampled_from([b"", b"a", b"\xff", b"a\x00"]))


def ints(bits: int, *, signed: bool = True) -> st.SearchStrategy[int]:
    low, high = (-(1 << bits - 1), (1 << bits - 1) - 1) if signed else (0, (1 << bits) - 1)
    return st.one_of(st.integers(low, high), st.sampled_from([one for one in SMALL if low <= one <= high]))


def floats(width: Any) -> st.SearchStrategy[float]:
    fits = [0.0, -0.0, 1.0, 1.5, math.nan, math.inf, -math.inf]
    return st.one_of(st.floats(width=width), st.sampled_from(fits))


def decimals(precision: int, scale: int) -> st.SearchStrategy[Decimal]:
    most = 10**precision - 1
    whole = st.one_of(st.integers(-most, most), st.integers(-200, 200))
    return whole.map(lambda one: EXACT.scaleb(Decimal(one), -scale))


def in_unit(moments: st.SearchStrategy[Any], unit: str) -> st.SearchStrategy[Any]:
    part = {"s": 10**6, "ms": 1000}.get(unit, 1)
    return moments.map(lambda one: one.replace(microsecond=one.microsecond // part * part))


Values = tuple[pa.DataType, st.SearchStrategy[Any], st.SearchStrategy[Any]]

UTC_MOMENTS = MOMENTS.map(lambda one: one.replace(tzinfo=UTC))

TYPES: Sequence[Values] = [
    *[(getattr(pa, f"int{bits}")(), ints(bits), NUMBERS) for bits in (8, 16, 32, 64)],
    *[(getattr(pa, f"uint{bits}")(), ints(bits, signed=False), NUMBERS) for bits in (8, 16, 32, 64)],
    (pa.float64(), floats(64), NUMBERS),
    (pa.decimal32(5, 2), decimals(5, 2), NUMBERS),
    (pa.decimal64(15, 0), decimals(15, 0), NUMBERS),
    (pa.decimal128(9, 3), decimals(9, 3), NUMBERS),
    (pa.decimal128(5, -2), decimals(5, -2), NUMBERS),
    (pa.decimal128(38, 38), decimals(38, 38), NUMBERS),
    (pa.decimal256(76, 10), decimals(76, 10), NUMBERS),
    (pa.decimal256(76, -5), decimals(60, -5), NUMBERS),
    (pa.bool_(), st.booleans(), st.booleans()),
    *[(kind, TEXTS, TEXTS) for kind in (pa.string(), pa.large_string(), pa.string_view())],
    *[(kind, BYTES, BYTES) for kind in (pa.binary(), pa.large_binary(), pa.binary_view())],
    (pa.binary(2), st.binary(min_size=2, max_size=2), BYTES),
    *[(kind, DAYS, DAYS) for kind in (pa.date32(), pa.date64())],
    *[(pa.timestamp(unit), in_unit(MOMENTS, unit), UTC_MOMENTS) for unit in ("s", "ms", "us")],
    *[(pa.timestamp(unit, "UTC"), in_unit(UTC_MOMENTS, unit), UTC_MOMENTS) for unit in ("s", "us")],
    (pa.timestamp("us", "America/St_Johns"), UTC_MOMENTS, UTC_MOMENTS),
    *[(pa.time32(unit), in_unit(TIMES, unit), TIMES) for unit in ("s", "ms")],
    (pa.time64("us"), TIMES, TIMES),
    (pa.duration("us"), st.timedeltas(timedelta(-9), timedelta(9)), st.sampled_from(["PT0S", "P1D", "-P1D"])),
    (pa.uuid(), st.uuids().map(lambda one: one.bytes), st.uuids().map(str)),
    (pa.null(), st.none(), NUMBERS),
]


def as_dictionary(array: pa.Array) -> pa.Array:
    """Also with a null in the dictionary, and a value that no row has."""
    is_view = pa.types.is_string_view(array.type) or pa.types.is_binary_view(array.type)
    found = pc.dictionary_encode(
        array, null_encoding="mask" if is_view else "encode"
    )  # pyarrow has a null view as ""
    return pa.DictionaryArray.from_arrays(found.indices, pa.concat_arrays([found.dictionary, array.slice(0, 1)]))


def with_offset(array: pa.Array) -> pa.Array:
    return pa.concat_arrays([array.slice(0, 1), array]).slice(1)


def as_it_is(array: pa.Array) -> pa.Array:
    return array


LAYOUTS: Sequence[Callable[[pa.Array], pa.Array]] = [as_it_is, with_offset, as_dictionary, pc.run_end_encode]


def laid_out(layout: Callable[[pa.Array], pa.Array], array: pa.Array) -> pa.Array:
    """The array in a layout, or as it is if pyarrow has none such of its type."""
    try:
        return layout(array)
    except (pa.ArrowNotImplementedError, pa.ArrowTypeError, pa.ArrowInvalid):
        return array


@pytest.mark.parametrize(("kind", "values", "wanted"), TYPES, ids=[str(kind) for kind, *_ in TYPES])
@settings(max_examples=30)
@given(data=st.data())
def test_columns_are_filtered_as_rows_are(
    kind: pa.DataType, values: st.SearchStrategy[Any], wanted: st.SearchStrategy[Any], data: st.DataObject
) -> None:
    """Values of the column's own kind, as the query string gives them."""
    column = pa.array(data.draw(st.lists(st.none() | values, max_size=8)), kind)
    layout = data.draw(st.sampled_from(LAYOUTS))
    operator, value = data.draw(questions(wanted))
    assert places(laid_out(layout, column), operator, value) == expected(column.to_pylist(), operator, value)


def questions(wanted: st.SearchStrategy[Any]) -> st.SearchStrategy[tuple[Operator, Any]]:
    return st.one_of(
        st.tuples(st.sampled_from(COMPARED), wanted),
        st.tuples(st.sampled_from(LISTS), st.lists(wanted, max_size=4).map(tuple)),
        st.tuples(st.just("isnull"), st.booleans()),
        st.tuples(st.sampled_from(PARTS), TEXTS),
    )


OTHERS = [NUMBERS, TEXTS, DAYS, UTC_MOMENTS, TIMES, BYTES, st.booleans()]


@pytest.mark.parametrize(("kind", "values", "wanted"), TYPES, ids=[str(kind) for kind, *_ in TYPES])
@settings(max_examples=15)
@given(data=st.data())
def test_values_of_another_kind_are_compared_as_in_rows(
    kind: pa.DataType, values: st.SearchStrategy[Any], wanted: st.SearchStrategy[Any], data: st.DataObject
) -> None:
    """Columns of a function have the type that it declares, and the batches what it gives."""
    column = pa.array(data.draw(st.lists(st.none() | values, max_size=6)), kind)
    other = data.draw(st.sampled_from(OTHERS))
    operator, value = data.draw(questions(other))
    assert places(column, operator, value) == expected(column.to_pylist(), operator, value)


@pytest.mark.parametrize(("width", "nearest"), [(16, nearest_half), (32, nearest_single)])
@given(data=st.data())
def test_floats_compare_with_the_nearest_of_their_type(
    width: Any, nearest: Callable[[Any], float], data: st.DataObject
) -> None:
    values = data.draw(st.lists(st.none() | floats(width), max_size=8))
    operator, value = data.draw(questions(NUMBERS).filter(lambda found: found[0] not in PARTS))
    ours = value
    if operator != "isnull":
        ours = tuple(map(nearest, value)) if isinstance(value, tuple) else nearest(value)
    column = pa.array(values, pa.float16() if width == 16 else pa.float32())
    assert places(column, operator, value) == expected(values, operator, ours)


@pytest.mark.parametrize("kind", [pa.float32(), pa.float64()])
def test_a_float_is_found_by_the_number_that_is_exported(kind: pa.DataType) -> None:
    column = pa.array([0.1, 0.2, 0.3], kind)
    assert places(column, "exact", Decimal("0.1")) == [0]
    assert places(column, "in", (Decimal("0.3"), Decimal("0.2"))) == [1, 2]
    assert places(column, "contains", "0.3") == [2]


NANOSECONDS = [None, -(2**63), -1, 0, 1, 1_000, 1_500, 2**63 - 1]


@pytest.mark.parametrize("operator", [*COMPARED, *LISTS])
@pytest.mark.parametrize("wanted", [0, 1, -1, 2])
def test_nanoseconds_are_compared_exactly(operator: Operator, wanted: int) -> None:
    """No value of Python has them."""
    moment = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=wanted)
    value = (moment,) if operator in LISTS else moment
    number = (wanted * 1000,) if operator in LISTS else wanted * 1000
    for kind in (pa.timestamp("ns"), pa.timestamp("ns", "Europe/Berlin")):
        assert places(pa.array(NANOSECONDS, kind), operator, value) == expected(NANOSECONDS, operator, number)


@pytest.mark.parametrize("unit", ["s", "ms", "us", "ns"])
@pytest.mark.parametrize("operator", COMPARED)
def test_moments_past_the_years_of_python_are_compared(unit: str, operator: Operator) -> None:
    column = pa.array([-(2**63), 0, 2**63 - 1], pa.timestamp(unit))
    middle = datetime(1970, 1, 1, tzinfo=UTC)
    assert places(column, operator, middle) == expected([-1, 0, 1], operator, 0)
    last = datetime(9999, 12, 31, tzinfo=UTC)
    assert places(column, operator, last) == expected([-1, 0, -1 if unit == "ns" else 2], operator, 1)


def test_dates_past_the_years_of_python_are_compared() -> None:
    column = pa.array([-(2**31), 0, 2**31 - 1], pa.int32()).cast(pa.date32())
    assert places(column, "lte", date(1970, 1, 1)) == [0, 1]
    assert places(column, "gt", date(9999, 12, 31)) == [2]


def test_moments_that_are_text_are_compared_as_moments() -> None:
    """INT96 beside nanoseconds: no timestamp holds a year 9999 and a billionth of a second."""
    texts = [
        "9999-12-31T23:59:59",
        "2026-01-01T00:00:00.000000001",
        None,
        "-0001-01-01T00:00:00",
        "12000-01-01T00:00:00",
    ]
    column = pa.ExtensionArray.from_storage(ExactText(), pa.array(texts))
    moment = datetime(2026, 1, 1, tzinfo=UTC)
    assert places(column, "gt", moment) == [0, 1, 4]
    assert places(column, "lte", moment) == [3]
    assert places(column, "exact", datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC)) == [0]
    assert places(column, "notin", (moment,)) == [0, 1, 3, 4]
    assert places(column, "isnull", True) == [2]


@pytest.mark.parametrize(
    "column",
    [
        pa.array([[1], None], pa.list_(pa.int8())),
        pa.array([[1], None], pa.list_view(pa.int8())),
        pa.array([{"a": 1}, None]),
        pa.array([[("a", 1)], None], pa.map_(pa.string(), pa.int8())),
        pa.UnionArray.from_sparse(pa.array([0, 0], pa.int8()), [pa.array([1, None])]),
        pa.array([(1, 2, 3), None], pa.month_day_nano_interval()),
    ],
    ids=lambda column: str(column.type),
)
def test_other_values_are_null_or_not(column: pa.Array) -> None:
    assert places(column, "isnull", True) == [1]
    assert places(column, "isnull", False) == [0]
    assert places(column, "exact", Decimal("7.5")) == []
    assert places(column, "not", Decimal("7.5")) == [0]


def test_text_that_is_no_unicode_matches_nothing() -> None:
    """JSON holds lone surrogates, and a claim may be such a text; it has its place in the order of code points."""
    column = pa.array(["a", "\uffff", "\U00010000"])
    assert places(column, "exact", "\ud800") == []
    assert places(column, "notin", ("\ud800", "a")) == [1, 2]
    assert places(column, "lt", "\ud800") == [0]
    assert places(column, "contains", "\ud800") == []


def test_only_values_of_a_dictionary_that_rows_have_are_compared() -> None:
    """A file may have one dictionary of a million values for all of its batches."""
    column = pa.DictionaryArray.from_arrays(pa.array([9, None, 7, 9]), pa.array([str(one) for one in range(1000)]))
    assert places(column, "exact", "9") == [0, 3]
    assert places(column, "isnull", True) == [1]


def test_neighbours_are_a_slice_and_not_a_copy() -> None:
    batch = pa.record_batch([pa.array(range(10))], ["a"])
    found = ColumnFilter([Filter("a", "gte", 3), Filter("a", "lt", 6)], ["a"]).batch(batch)
    assert found.column(0).to_pylist() == [3, 4, 5]
    assert found.column(0).buffers()[1].address == batch.column(0).buffers()[1].address


def test_rows_of_any_layout_are_kept() -> None:
    """Pyarrow has no filter of views and runs."""
    texts = pa.array(["a", None, "c"])
    columns = [
        texts.cast(pa.string_view()),
        pc.run_end_encode(texts),
        pa.array([[1], None, [3]], pa.list_view(pa.int8())),
    ]
    batch = pa.record_batch([pa.array([1, 0, 1]), *columns], ["n", "a", "b", "c"])
    found = ColumnFilter([Filter("n", "exact", 1)], batch.schema.names).batch(batch)
    assert [column.to_pylist() for column in found.columns] == [[1, 1], ["a", "c"], ["a", "c"], [[1], [3]]]
