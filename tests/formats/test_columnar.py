"""Parquet and Arrow: types survive, memory is bounded by a group, and a broken file is no whole one."""

from __future__ import annotations

import math
import traceback
from collections.abc import Callable
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from io import BytesIO
from typing import Any
from uuid import UUID

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from asgi_export.errors import SourceFailed
from asgi_export.formats import FORMATS
from asgi_export.formats.columnar import GROUP_ROWS, SAMPLE_ROWS, ArrowEncoder, ColumnarEncoder, ParquetEncoder
from asgi_export.table import Batch, Column, Dialect

Read = Callable[[bytes], pa.Table]


def read_parquet(data: bytes) -> pa.Table:
    return pq.read_table(BytesIO(data))


def read_arrow(data: bytes) -> pa.Table:
    return pa.ipc.open_stream(data).read_all()


BOTH = pytest.mark.parametrize(
    ("make", "read"), [(ParquetEncoder, read_parquet), (ArrowEncoder, read_arrow)], ids=["parquet", "arrow"]
)


def whole(encoder: ColumnarEncoder, *batches: Batch) -> bytes:
    return encoder.head() + b"".join([encoder.feed(batch) for batch in batches]) + encoder.tail()


def columns(*types: str) -> list[Column]:
    return [Column("abcdefghijklmnop"[place], kind) for place, kind in enumerate(types)]


@BOTH
@pytest.mark.parametrize(
    ("declared", "values", "kind"),
    [
        ("INTEGER", [1, None, -(2**63), 2**63 - 1], pa.int64()),
        ("TEXT", ["x", None, "é😀", "", "a\0b"], pa.string()),
        ("REAL", [1.5, None, math.inf, 1e-300], pa.float64()),
        ("NUMERIC", [1, 2.5, None], pa.float64()),
        ("DECIMAL(10,2)", [5, None], pa.float64()),
        ("boolean", [True, False, None], pa.bool_()),
        ("BLOB", [b"\x00\xff", b"", None], pa.binary()),
        ("numeric(20,5)", [Decimal("123456789012345.12345"), None, Decimal("-0.5")], pa.decimal128(20, 5)),
        ("numeric(60,5)", [Decimal("1.5"), None], pa.decimal256(60, 5)),
        ("date", [date(1, 1, 1), date(9999, 12, 31), None], pa.date32()),
        ("time", [time(23, 59, 59, 999999), None], pa.time64("us")),
        ("interval", [timedelta(days=-1, microseconds=1), None], pa.duration("us")),
        ("timestamp", [datetime(2024, 2, 29, 1, 2, 3, 4), None], pa.timestamp("us")),  # noqa: DTZ001
        ("timestamptz", [datetime(2024, 2, 29, tzinfo=UTC), None], pa.timestamp("us", "UTC")),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_types_survive(
    make: Callable[..., ColumnarEncoder], read: Read, declared: str, values: list[Any], kind: pa.DataType
) -> None:
    table = read(whole(make(columns(declared)), [(value,) for value in values]))
    assert table.schema.field("a").type == kind
    assert table.column("a").to_pylist() == values


@BOTH
@pytest.mark.parametrize(
    ("declared", "values", "texts"),
    [
        ("numeric", [Decimal("1E+2"), Decimal("0.10")], ["100", "0.10"]),
        ("numeric(5,2)", [Decimal("NaN"), Decimal("1.50")], ["NaN", "1.50"]),
        ("uuid", [UUID(int=5)], ["00000000-0000-0000-0000-000000000005"]),
        ("jsonb", [{"a": [1]}, [None]], ['{"a":[1]}', "[null]"]),
        ("", [1, "x", b"\x01", None], ["1", "x", "\\x01", None]),
        ("INTEGER", [1, 2**70], ["1", "1180591620717411303424"]),
        ("REAL", [0.5, 2**53 + 1], ["0.5", "9007199254740993"]),
    ],
)
def test_what_has_no_type_of_its_own_is_text(
    make: Callable[..., ColumnarEncoder], read: Read, declared: str, values: list[Any], texts: list[Any]
) -> None:
    table = read(whole(make(columns(declared)), [(value,) for value in values]))
    assert table.column("a").to_pylist() == texts


@BOTH
def test_a_table_without_rows_has_its_columns(make: Callable[..., ColumnarEncoder], read: Read) -> None:
    table = read(whole(make(columns("bigint", "timestamp with time zone", "numeric(8,3)", "money"))))
    assert table.num_rows == 0
    assert table.schema.types == [pa.int64(), pa.timestamp("us", "UTC"), pa.decimal128(8, 3), pa.string()]


@BOTH
def test_many_batches_are_one_table(make: Callable[..., ColumnarEncoder], read: Read) -> None:
    rows = [(number, f"n{number}") for number in range(20_000)]
    encoder = make(columns("INTEGER", "TEXT"))
    table = read(whole(encoder, *[rows[start : start + 700] for start in range(0, len(rows), 700)]))
    assert encoder.rows == 20_000
    assert list(zip(*[column.to_pylist() for column in table.columns], strict=True)) == rows


@BOTH
def test_columns_keep_their_types_and_take_our_names(make: Callable[..., ColumnarEncoder], read: Read) -> None:
    source = pa.table({"x": pa.array([1, None], pa.int8()), "y": [[1, 2], None]})
    table = read(whole(make(columns("", "")), source, pl.DataFrame({"x": [3], "y": [[4]]})))
    assert table.schema.names == ["a", "b"]
    assert table.schema.field("a").type == pa.int8()
    assert table.to_pylist() == [{"a": 1, "b": [1, 2]}, {"a": None, "b": None}, {"a": 3, "b": [4]}]


@BOTH
def test_a_later_value_that_does_not_fit_is_a_failure_that_names_the_column(
    make: Callable[..., ColumnarEncoder], read: Read
) -> None:
    encoder = make(columns("INTEGER"))
    encoder.feed([(number,) for number in range(SAMPLE_ROWS)])
    with pytest.raises(SourceFailed, match="column 'a'"):
        encoder.feed([("x",)])


@BOTH
@pytest.mark.parametrize("batch", [[("s3cret",)], pa.table({"a": ["s3cret"]})])
def test_a_failure_does_not_tell_the_value(make: Callable[..., ColumnarEncoder], read: Read, batch: Any) -> None:
    """It goes to the log, with its causes."""
    encoder = make(columns("INTEGER"))
    encoder.feed([(number,) for number in range(SAMPLE_ROWS)])
    with pytest.raises(SourceFailed, match="int64") as raised:
        encoder.feed(batch)
    assert "s3cret" not in "".join(traceback.format_exception(raised.value))


@pytest.mark.parametrize("name", ["parquet", "arrow"])
def test_a_broken_file_is_not_readable_as_a_whole_one(name: str) -> None:
    """Parquet lacks its footer; an Arrow stream, whose mere end would do, ends inside a message."""
    found = FORMATS[name]
    encoder = found.encoder(columns("INTEGER"), Dialect())
    rows: list[Any] = [(number,) for number in range(GROUP_ROWS + 1)]
    broken = encoder.head() + encoder.feed(rows) + found.error_marker(Dialect())
    assert len(broken) > 1000
    for read in {"parquet": (read_parquet, pl.read_parquet), "arrow": (read_arrow, pl.read_ipc_stream)}[name]:
        with pytest.raises((pa.ArrowInvalid, OSError, pl.exceptions.PolarsError)):
            read(broken)


def test_parquet_comes_a_row_group_at_a_time() -> None:
    encoder = ParquetEncoder(columns("INTEGER"))
    rows: list[Any] = [(number,) for number in range(GROUP_ROWS // 2)]
    sizes = [len(encoder.feed(rows)) for _ in range(6)]
    assert [size > 0 for size in sizes] == [False, True] * 3
    encoder.tail()


def test_ready_text_and_ragged_rows_are_refused() -> None:
    with pytest.raises(SourceFailed, match="ready text"):
        ParquetEncoder(columns("")).feed(b"x\n")
    encoder = ParquetEncoder(columns("", ""))
    with pytest.raises((SourceFailed, ValueError)):
        whole(encoder, [(1,)])


RARE: list[tuple[pa.Array, list[Any]]] = [
    (pa.array(["x", None, "x"]).dictionary_encode(), ["x", None, "x"]),
    (pl.Series(["x", None], dtype=pl.Categorical).to_arrow(), ["x", None]),
    (pa.array(["x"], pa.string_view()), ["x"]),
    (pa.array([b"x"], pa.binary_view()), [b"x"]),
    (pa.array([[1], None], pa.list_view(pa.int8())), [[1], None]),
    (pa.RunEndEncodedArray.from_arrays([2], pa.array(["x"])), ["x", "x"]),
    (pa.array([(1, 2, 3)], pa.month_day_nano_interval()), ["P1M2DT0.000000003S"]),
    (pa.array([{}], pa.struct([])), ["{}"]),
    (pa.UnionArray.from_sparse(pa.array([1], pa.int8()), [pa.array([1]), pa.array(["a"])]), ['"a"']),
]


@pytest.mark.parametrize(("array", "values"), RARE, ids=lambda value: str(getattr(value, "type", "")))
def test_types_that_few_readers_have_are_written_as_those_that_all_have(array: pa.Array, values: list[Any]) -> None:
    batch = pa.record_batch([array], ["a"])
    assert pl.read_parquet(BytesIO(whole(ParquetEncoder([Column("a")]), batch)))["a"].to_list() == values
    assert pl.read_ipc_stream(BytesIO(whole(ArrowEncoder([Column("a")]), batch)))["a"].to_list() == values
