"""What the first rows decided holds for every later value: it is exact, or the export is broken off."""

from __future__ import annotations

import math
import sqlite3
import struct
from collections.abc import Callable
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa
import pytest

from asgi_export import Column, SqliteSource, dataset
from asgi_export.formats.columnar import SAMPLE_ROWS
from tests.field.typed_exports import TYPED, every_reader, export, exported, is_refused, rows_of, table_of

BOTH = pytest.mark.parametrize("name", TYPED)
LATE = 2 * SAMPLE_ROWS
EAST = timezone(timedelta(hours=14))
NAIVE = datetime(2024, 2, 29, 12)  # noqa: DTZ001 - that it has no zone is the point
FIRST = datetime.fromisoformat("0001-01-01T00:00:00")
LAST = datetime.fromisoformat("9999-12-31T23:59:59.999999")
AWARE = datetime(2024, 2, 29, 12, tzinfo=UTC)


@BOTH
@pytest.mark.parametrize("declared", ["NUMERIC", "", "DECIMAL(10,2)"])
@pytest.mark.parametrize("large", [2**53 + 1, -(2**53) - 1, 2**63 - 1])
def test_a_whole_number_past_2_53_is_not_rounded(tmp_path: Path, name: str, declared: str, large: int) -> None:
    """The first values made the column a double; SQLite goes on with integers of 64 bits."""
    connection = sqlite3.connect(tmp_path / "t.db")
    connection.execute(f"CREATE TABLE t (n INTEGER, a {declared})")
    connection.executemany("INSERT INTO t VALUES (?, ?)", [(n, 0.5) for n in range(LATE)] + [(LATE, large)])
    connection.commit()
    connection.close()
    assert is_refused(exported(SqliteSource(tmp_path / "t.db"), name))
    early = rows_of([(0.5,), (large,)])
    assert table_of(export(early, name), name).column("a").to_pylist() == ["0.5", str(large)]


@BOTH
@pytest.mark.parametrize("whole", [2**53, -(2**53), 2**60, 0])
def test_a_whole_number_that_a_double_holds_is_that_number(tmp_path: Path, name: str, whole: int) -> None:
    data = export(rows_of([(0.5,)] * LATE + [(whole,)]), name)
    for reader, rows in every_reader(data, name, tmp_path).items():
        assert rows[-1]["a"] == whole, reader


@BOTH
@pytest.mark.parametrize(
    ("first", "late"),
    [
        (1, 1.5),
        (1, 1.0),
        (1, True),
        (1, Decimal("1.5")),
        (1, 2**63),
        (1, "1"),
        (0.5, True),
        (0.5, Decimal("0.1")),
        (0.5, 10**400),
        (0.5, "0.5"),
        (True, 1),
        (True, 0.0),
        (b"x", "x"),
        (date(2024, 2, 29), NAIVE),
        (NAIVE, date(2024, 2, 29)),
        (NAIVE, AWARE),
        (AWARE, NAIVE),
        (time(12), time(12, tzinfo=UTC)),
        (time(12), timedelta(hours=12)),
        (timedelta(1), timedelta.max),
        (timedelta(1), 5),
        ("x", "\ud800"),
        ("x", "a\udfffb"),
    ],
    ids=repr,
)
def test_a_later_value_of_another_kind_is_refused(name: str, first: Any, late: Any) -> None:
    assert is_refused(exported(rows_of([(first,)] * LATE + [(late,)]), name))


@BOTH
@pytest.mark.parametrize(
    "late", [Decimal("1.234"), Decimal("1E-300"), Decimal(10**9), Decimal("NaN"), Decimal("-Infinity"), 1.5], ids=str
)
def test_a_decimal_that_its_column_does_not_hold_is_refused(name: str, late: Any) -> None:
    rows = [(Decimal("1.25"),)] * LATE + [(late,)]
    assert is_refused(exported(rows_of(rows, [("a", "numeric(10,2)")]), name))


@BOTH
def test_a_decimal_is_the_same_number_whatever_its_exponent(tmp_path: Path, name: str) -> None:
    late = [Decimal("1E+3"), Decimal("1.200"), 5, Decimal("-0")]
    rows = [(Decimal("1.25"),)] * LATE + [(value,) for value in late]
    data = export(rows_of(rows, [("a", "numeric(10,2)")]), name)
    for reader, found in every_reader(data, name, tmp_path).items():
        assert [row["a"] for row in found[-4:]] == late, reader


@BOTH
@pytest.mark.parametrize(
    ("values", "texts"),
    [
        ([time(12, tzinfo=EAST), time(1)], ["12:00:00+14:00", "01:00:00"]),
        ([NAIVE, AWARE], ["2024-02-29T12:00:00", "2024-02-29T12:00:00+00:00"]),
        ([date(2024, 1, 1), NAIVE], ["2024-01-01", "2024-02-29T12:00:00"]),
        ([timedelta.max], ["P999999999DT23H59M59.999999S"]),
        ([True, 2], ["true", "2"]),
        ([b"\x01", "x"], ["\\x01", "x"]),
        ([Decimal("1.5"), 1], ["1.5", "1"]),
        ([Decimal("0.1"), 0.1], ["0.1", "0.1"]),
        ([2**63], [str(2**63)]),
    ],
    ids=repr,
)
def test_what_the_first_rows_show_to_fit_no_type_is_the_text_that_csv_has(
    name: str, values: list[Any], texts: list[str]
) -> None:
    """Nothing is wrong with such a table, so it is exported."""
    table = table_of(export(rows_of([(value,) for value in values]), name), name)
    assert table.schema.field("a").type == pa.string()
    assert table.column("a").to_pylist() == texts


@BOTH
def test_extreme_values_are_those_that_were_given(name: str) -> None:
    columns: dict[str, list[Any]] = {
        "float": [-0.0, 5e-324, math.inf, -math.inf, 1.7976931348623157e308],
        "at": [FIRST, LAST, NAIVE, NAIVE, NAIVE],
        "zoned": [
            datetime.min.replace(tzinfo=UTC),
            datetime.max.replace(tzinfo=UTC),
            AWARE,
            AWARE.astimezone(EAST),
            AWARE.astimezone(timezone(timedelta(seconds=-3599))),
        ],
        "day": [date.min, date.max, date(1582, 10, 15), date(1970, 1, 1), date(1969, 12, 31)],
        "clock": [time.min, time.max, time(1), time(2), time(3)],
        "span": [timedelta(microseconds=1), -timedelta(microseconds=1), timedelta(0), timedelta(days=10**6), None],
        "raw": [b"", b"\x00", bytearray(b"\xff"), memoryview(b"ab"), None],
        "whole": [2**63 - 1, -(2**63), 0, 1, None],
    }
    data = export(rows_of(list(zip(*columns.values(), strict=True)), list(columns)), name)
    found = table_of(data, name).to_pydict()
    assert found.pop("raw") == [b"", b"\x00", b"\xff", b"ab", None]
    assert struct.pack("d", found["float"][0]) == struct.pack("d", -0.0)
    assert found == {column: values for column, values in columns.items() if column != "raw"}


@BOTH
def test_nan_is_a_number_and_no_null(name: str) -> None:
    column = table_of(export(rows_of([(0.5,), (math.nan,), (None,)]), name), name).column("a")
    assert column.null_count == 1
    assert math.isnan(column.to_pylist()[1])


Build = Callable[[], Any]


@BOTH
@pytest.mark.parametrize(
    ("first", "late", "expected"),
    [
        (pa.array([1]), pa.array([2.0]), 2),
        (pa.array([1]), pa.array([2], pa.int8()), 2),
        (pa.array([1]), pa.array([2.5]), ...),
        (pa.array([1]), pa.array(["2"]), ...),
        (pa.array([1]), pa.array([True]), ...),
        (pa.array([0.5]), pa.array([2**53 + 1]), ...),
        (pa.array([0.5]), pa.array([2**53]), 2**53),
        (pa.array([0.5], pa.float32()), pa.array([0.1]), ...),
        (pa.array([0.5], pa.float32()), pa.array([0.25]), 0.25),
        (pa.array([0.5]), pa.array([Decimal("0.1")]), ...),
        (pa.array(["x"]), pa.array([True]), "true"),
        (pa.array(["x"]), pa.array([b"\x01"]), "\\x01"),
        (pa.array([b"x"]), pa.array(["x"]), ...),
        (pa.array([NAIVE]), pa.array([AWARE]), ...),
        (pa.array([AWARE]), pa.array([NAIVE]), ...),
        (pa.array([NAIVE]), pa.array([NAIVE.date()]), ...),
        (pa.array([NAIVE.date()]), pa.array([NAIVE]), ...),
        (pa.array([NAIVE]), pa.array([1], pa.timestamp("ns")), ...),
        (pa.array([NAIVE]), pa.array([1000], pa.timestamp("ns")), datetime(1970, 1, 1, 0, 0, 0, 1)),  # noqa: DTZ001
        (pa.array([1]), pa.array([None, None]), None),
        (pa.array([[1]]), pa.array([[None]]), [None]),
        (pa.array([[1]]), pa.array([[1.5]]), ...),
        (pa.array([[1]]), pa.array([[True]]), ...),
        (pa.array([[NAIVE]]), pa.array([[AWARE]]), ...),
        (pa.array([{"a": 1}]), pa.array([{"a": 2.0}]), {"a": 2}),
        (pa.array([{"a": 1}]), pa.array([{"b": 2}]), ...),
        (pa.array([0.5]), pa.array([math.inf], pa.float32()), math.inf),
    ],
    ids=str,
)
def test_a_later_batch_of_columns_has_the_values_of_the_first_ones_types(
    name: str, first: pa.Array, late: pa.Array, expected: Any
) -> None:
    @dataset(columns=["a"])
    def batches() -> Any:
        yield pa.table({"a": first})
        yield pa.table({"a": late})

    client = exported(batches, name)
    if expected is ...:
        assert is_refused(client)
    else:
        assert table_of(client.body, name).column("a").to_pylist()[-1] == expected


@BOTH
@pytest.mark.parametrize(
    ("kind", "value", "fits"),
    [
        (pa.int8(), 127, True),
        (pa.int8(), 128, False),
        (pa.uint64(), 2**64 - 1, True),
        (pa.float32(), 0.25, True),
        (pa.float32(), 0.1, False),
        (pa.timestamp("s"), NAIVE, True),
        (pa.timestamp("s"), NAIVE.replace(microsecond=1), False),
        (pa.timestamp("ns"), NAIVE, True),
        (pa.timestamp("ns"), LAST, False),
        (pa.timestamp("ns", "Europe/Berlin"), AWARE, True),
        (pa.time32("s"), time(1, 2, 3), True),
        (pa.time32("s"), time(1, 2, 3, 4), False),
        (pa.decimal128(5, 1), Decimal("1.25"), False),
        (pa.list_(pa.int64()), [1, None], True),
        (pa.list_(pa.int64()), [1.5], False),
        (pa.struct([("x", pa.string())]), {"x": "y"}, True),
        (pa.struct([("x", pa.string())]), {"z": "y"}, False),
        (pa.string(), "x", True),
        (pa.binary(2), b"xy", True),
        (pa.binary(2), b"xyz", False),
    ],
    ids=str,
)
def test_rows_of_a_column_with_an_arrow_type_have_that_type_or_are_refused(
    name: str, kind: pa.DataType, value: Any, fits: bool
) -> None:
    client = exported(rows_of([(value,), (None,)], [Column("a", arrow=kind)]), name)
    if not fits:
        assert is_refused(client)
        return
    column = table_of(client.body, name).column("a")
    assert column.to_pylist() == [value, None]
    seconds = pa.types.is_timestamp(kind) and kind.unit == "s"  # they are milliseconds in both formats
    assert column.type == kind or seconds or name == "parquet"  # which has no times in seconds


@BOTH
def test_rows_and_columns_of_one_export_have_one_schema(name: str) -> None:
    @dataset(columns=["a", "b"])
    def both() -> Any:
        yield pl.DataFrame({"a": [1], "b": ["x"]})
        yield (2, "y")
        yield pa.table({"b": ["z"], "a": pa.array([3], pa.int16())})

    assert table_of(export(both, name), name).to_pydict() == {"a": [1, 2, 3], "b": ["x", "y", "z"]}
