"""Filters on files: exact in every type, and what cannot match is not read."""

from __future__ import annotations

import asyncio
import math
import struct
from collections.abc import Callable, Sequence
from datetime import UTC, date, datetime, time
from decimal import Decimal
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pyarrow import ipc

from asgi_export import FileSource, Selection
from asgi_export.errors import SourceFailed
from asgi_export.sources.files.footer import read_statistics
from asgi_export.table import Filter, Operator
from asgi_export.values.matching import RowFilter


def dataset_of(path: Path) -> Any:
    return asyncio.run(FileSource(path).start())[0]


def rows_of(
    dataset: Any, filters: Sequence[Filter], columns: Sequence[str] = (), limit: int | None = None
) -> list[Any]:
    """The rows of an export, with the values of Python."""
    names = tuple(columns or [column.name for column in dataset.columns])
    with dataset.open(Selection(names, limit, filters=tuple(filters))) as batches:
        found: list[Any] = []
        for batch in batches:
            batch.validate(full=True)
            assert batch.schema.names == list(names)
            found += zip(*[column.to_pylist() for column in batch.columns], strict=True)
    return found


def write_groups(table: pa.Table, path: Path) -> None:
    pq.write_table(table, path, row_group_size=3)


def write_pages(table: pa.Table, path: Path) -> None:
    pq.write_table(table, path, row_group_size=7, data_page_size=8, use_dictionary=False, version="2.6")


def write_without_statistics(table: pa.Table, path: Path) -> None:
    pq.write_table(table, path, row_group_size=3, write_statistics=False)


def write_polars(table: pa.Table, path: Path) -> None:
    pl.DataFrame(table).write_parquet(path, row_group_size=3)


def write_arrow(table: pa.Table, path: Path) -> None:
    with ipc.new_file(path, table.schema) as writer:
        writer.write_table(table, max_chunksize=3)


def write_stream(table: pa.Table, path: Path) -> None:
    with ipc.new_stream(path, table.schema) as writer:
        writer.write_table(table, max_chunksize=3)


WRITERS: Sequence[tuple[str, Callable[[pa.Table, Path], None]]] = [
    ("parquet", write_groups),
    ("parquet", write_pages),
    ("parquet", write_without_statistics),
    ("parquet", write_polars),
    ("arrow", write_arrow),
    ("arrow", write_stream),
]

NUMBERS = [
    0,
    1,
    -1,
    255,
    2**31,
    Decimal("0.1"),
    Decimal("1.50"),
    Decimal("-0.5"),
    2**63,
    math.nan,
    math.inf,
    -math.inf,
]
TEXTS = ["", "a", "ab", "b", "z", "é", "\U0001f600", "x" * 80]
MOMENT = datetime(2026, 1, 1, tzinfo=UTC)

COLUMNS: Sequence[tuple[str, pa.DataType, list[Any], list[Any]]] = [
    ("i8", pa.int8(), [-128, -1, 0, 1, 127], NUMBERS),
    ("i64", pa.int64(), [-(2**63), -1, 0, 1, 2**31, 2**63 - 1], NUMBERS),
    ("u8", pa.uint8(), [0, 1, 255], NUMBERS),
    ("u32", pa.uint32(), [0, 1, 2**31, 2**32 - 1], NUMBERS),
    ("u64", pa.uint64(), [0, 1, 2**63, 2**64 - 1], NUMBERS),
    ("f32", pa.float32(), [0.0, -0.0, 0.5, -0.5, math.nan, math.inf, -math.inf], NUMBERS),
    ("f64", pa.float64(), [0.0, -0.0, 0.1, 1.5, math.nan, math.inf, -math.inf], NUMBERS),
    ("d3", pa.decimal128(3, 2), [Decimal("1.50"), Decimal("-0.50"), Decimal("9.99"), Decimal("0.00")], NUMBERS),
    ("d38", pa.decimal128(38, 1), [Decimal("0.1"), Decimal("-0.5"), Decimal("99999999999999999999.0")], NUMBERS),
    ("t", pa.string(), TEXTS, TEXTS),
    ("b", pa.binary(), [b"", b"a", b"\xff", b"a\x00"], [b"", b"a", b"\x80", b"a\x00"]),
    ("bo", pa.bool_(), [True, False], [True, False]),
    ("day", pa.date32(), [date(1, 1, 1), date(1969, 12, 31), date(2026, 1, 1)], [date(2026, 1, 1), date(1970, 1, 1)]),
    ("ts", pa.timestamp("us"), [datetime(2026, 1, 1), datetime(1969, 12, 31, 23, 59, 59, 999999)], [MOMENT]),  # noqa: DTZ001
    ("tz", pa.timestamp("ms", "UTC"), [MOMENT, MOMENT.replace(year=1900)], [MOMENT, MOMENT.replace(year=1900)]),
    (
        "at",
        pa.time64("us"),
        [time(0), time(12, 0, 0, 1), time(23, 59, 59, 999999)],
        [time(0), time(12), time(23, 59, 59)],
    ),
]

WANTED = {name: wanted for name, _, _, wanted in COLUMNS}

TABLES = st.integers(0, 12).flatmap(
    lambda count: st.fixed_dictionaries(
        {
            name: st.lists(st.none() | st.sampled_from(values), min_size=count, max_size=count)
            for name, _, values, _ in COLUMNS
        }
    )
)


@st.composite
def filters(draw: st.DrawFn) -> Filter:
    name = draw(st.sampled_from(sorted(WANTED)))
    operators: list[Operator] = ["exact", "not", "in", "notin", "isnull"]
    if name != "bo":
        operators += ["gt", "gte", "lt", "lte"]
    if name == "t":
        operators += ["startswith", "contains"]
    operator = draw(st.sampled_from(operators))
    value = st.sampled_from(WANTED[name])
    if operator in ("in", "notin"):
        return Filter(name, operator, draw(st.lists(value, max_size=20).map(tuple)))
    return Filter(name, operator, draw(st.booleans() if operator == "isnull" else value))


def as_text(rows: Sequence[Any]) -> list[str]:
    """NaN equals NaN, and -0.0 is another value than 0.0."""
    return list(map(repr, rows))


@settings(max_examples=60, deadline=None)
@given(data=TABLES, found=st.lists(filters(), min_size=1, max_size=3), writer=st.sampled_from(WRITERS))
def test_the_rows_of_a_file_are_those_of_its_table(
    tmp_path_factory: pytest.TempPathFactory,
    data: dict[str, list[Any]],
    found: list[Filter],
    writer: tuple[str, Callable[[pa.Table, Path], None]],
) -> None:
    """Whatever groups, pages and statistics the writer makes, and of whatever type the column is."""
    ending, write = writer
    table = pa.table({name: pa.array(data[name], kind) for name, kind, _, _ in COLUMNS})
    path = tmp_path_factory.mktemp("table") / f"table.{ending}"
    write(table, path)
    rows = list(zip(*[column.to_pylist() for column in table.columns], strict=True))
    expected = RowFilter(found, table.schema.names).rows(rows)
    dataset = dataset_of(path)
    assert as_text(rows_of(dataset, found)) == as_text(expected)
    assert as_text(rows_of(dataset, found, ["f64"])) == as_text([(row[6],) for row in expected])
    assert len(rows_of(dataset, found, ["t", "i8"], limit=1)) == min(1, len(expected))


TABLE = pa.table(
    {"n": list(range(90)), "t": [f"text {one}" for one in range(90)], "f": [float(one) for one in range(90)]}
)


def damage(path: Path, groups: Sequence[int], columns: Sequence[int]) -> None:
    """Overwrite the pages of columns in row groups."""
    metadata = pq.ParquetFile(path).metadata
    content = bytearray(path.read_bytes())
    for group in groups:
        for place in columns:
            column = metadata.row_group(group).column(place)
            start = column.dictionary_page_offset or column.data_page_offset
            content[start : start + column.total_compressed_size] = b"\xff" * column.total_compressed_size
    path.write_bytes(content)


@pytest.mark.parametrize(
    "found",
    [
        Filter("n", "gte", 80),
        Filter("n", "exact", Decimal("85.0")),
        Filter("n", "in", (85, 700)),
        Filter("n", "in", tuple(range(80, 800))),
        Filter("t", "startswith", "text 8"),
        Filter("t", "gt", "text 80"),
    ],
    ids=lambda found: f"{found.column} {found.operator}",
)
def test_row_groups_without_a_wanted_row_are_not_read(tmp_path: Path, found: Filter) -> None:
    path = tmp_path / "table.parquet"
    pq.write_table(TABLE, path, row_group_size=10)
    dataset = dataset_of(path)
    rows = rows_of(dataset, [found])
    damage(path, [1, 2, 3, 4, 5, 6], [0, 1, 2])  # 0: "text 9" is past "text 80"
    assert rows_of(dataset, [found]) == rows
    assert rows


def test_groups_of_floats_may_hold_nan_whatever_their_statistics_say(tmp_path: Path) -> None:
    path = tmp_path / "table.parquet"
    pq.write_table(pa.table({"f": [1.0, math.nan, 2.0]}), path)
    assert len(rows_of(dataset_of(path), [Filter("f", "gt", 5)])) == 1
    assert len(rows_of(dataset_of(path), [Filter("f", "exact", math.nan)])) == 1
    assert rows_of(dataset_of(path), [Filter("f", "lt", 1)]) == []


@pytest.mark.parametrize("operator", ["isnull", "exact"])
def test_groups_of_nothing_but_nulls_are_told_by_their_statistics(tmp_path: Path, operator: Operator) -> None:
    path = tmp_path / "table.parquet"
    numbers = [1, 1, None, None]
    pq.write_table(pa.table({"n": pa.array(numbers, pa.int64()), "m": [1, 2, 3, 4]}), path, row_group_size=2)
    dataset = dataset_of(path)
    damage(path, [0] if operator == "isnull" else [1], [0, 1])
    found = Filter("n", operator, value=True) if operator == "isnull" else Filter("n", operator, 1)
    assert rows_of(dataset, [found], ["m"]) == ([(3,), (4,)] if operator == "isnull" else [(1,), (2,)])


def test_other_columns_are_read_only_where_a_row_is_wanted(tmp_path: Path) -> None:
    """Without statistics too; and of a row group only up to the last wanted row."""
    path = tmp_path / "table.parquet"
    pq.write_table(TABLE, path, row_group_size=30, write_statistics=False)
    dataset = dataset_of(path)
    damage(path, [0, 2], [1, 2])
    assert rows_of(dataset, [Filter("n", "in", (45, 50))]) == [(45, "text 45", 45.0), (50, "text 50", 50.0)]
    with pytest.raises(SourceFailed):
        rows_of(dataset, [Filter("n", "gt", 59)])


def test_record_batches_of_arrow_files_are_read_only_where_a_row_is_wanted(tmp_path: Path) -> None:
    path = tmp_path / "table.arrow"
    with ipc.new_file(path, TABLE.schema) as writer:
        writer.write_table(TABLE, max_chunksize=30)
    content = path.read_bytes()
    path.write_bytes(content.replace(b"text 10text 11", b"text 10\xff\xff\xff\xff\xff\xff\xff"))
    dataset = dataset_of(path)
    assert rows_of(dataset, [Filter("n", "gte", 88)], ["t"]) == [("text 88",), ("text 89",)]
    with pytest.raises(SourceFailed):
        rows_of(dataset, [Filter("n", "exact", 1)], ["t"])


def test_long_row_groups_are_read_in_parts(tmp_path: Path) -> None:
    """The columns of the filters and the others are read in batches of different sizes."""
    path = tmp_path / "table.parquet"
    count = 100_000
    table = pa.table({"n": range(count), "t": [f"{one}" * 3 for one in range(count)], "m": range(count)})
    pq.write_table(table, path)
    dataset = dataset_of(path)
    wanted = (0, 1023, 1024, 5000, 5001, 16_384, 70_000, 99_999)
    assert rows_of(dataset, [Filter("n", "in", wanted)]) == [(one, f"{one}" * 3, one) for one in wanted]
    found = rows_of(dataset, [Filter("n", "gte", 30_000), Filter("m", "lt", 60_000)], ["m", "t"])
    assert found == [(one, f"{one}" * 3) for one in range(30_000, 60_000)]


@pytest.fixture
def days(tmp_path: Path) -> Path:
    folder = tmp_path / "days"
    for day in ("2026-01-01", "2026-01-02", "__HIVE_DEFAULT_PARTITION__"):
        for hour in (1, 2):
            file = folder / f"day={day}" / f"hour={hour}" / "part.parquet"
            file.parent.mkdir(parents=True)
            pq.write_table(pa.table({"n": [hour]}), file)
    return folder


def test_files_of_other_folders_are_not_opened(days: Path) -> None:
    dataset = dataset_of(days)
    (days / "day=2026-01-02" / "hour=1" / "part.parquet").write_bytes(b"damaged")
    assert rows_of(dataset, [Filter("day", "exact", "2026-01-01")], ["n"]) == [(1,), (2,)]
    assert rows_of(dataset, [Filter("day", "isnull", value=True)]) == [(1, None, 1), (2, None, 2)]
    assert rows_of(dataset, [Filter("day", "gte", "2026"), Filter("hour", "gt", Decimal("1.5"))], ["day", "n"]) == [
        ("2026-01-01", 2),
        ("2026-01-02", 2),
    ]
    assert rows_of(dataset, [Filter("day", "exact", "2027-01-01")]) == []
    with pytest.raises(SourceFailed):
        rows_of(dataset, [Filter("day", "not", "2026-01-01")])


def test_columns_that_some_files_lack_are_null_there(tmp_path: Path) -> None:
    folder = tmp_path / "files"
    folder.mkdir()
    pq.write_table(pa.table({"a": [1, 2]}), folder / "1.parquet")
    pq.write_table(pa.table({"a": pa.array([3.5, None]), "b": ["x", None]}), folder / "2.parquet")
    dataset = dataset_of(folder)
    assert rows_of(dataset, [Filter("b", "isnull", value=True)]) == [(1.0, None), (2.0, None), (None, None)]
    assert rows_of(dataset, [Filter("b", "not", "y")]) == [(3.5, "x")]
    assert rows_of(dataset, [Filter("a", "gt", Decimal("1.5"))], ["b"]) == [(None,), ("x",)]


def test_text_files_are_filtered_by_the_kinds_of_their_columns(tmp_path: Path) -> None:
    path = tmp_path / "table.csv"
    path.write_text('id,name,paid\n7,a,true\n10,,false\n9,"",\n')
    dataset = dataset_of(path)
    assert rows_of(dataset, [Filter("id", "gt", Decimal("7.0"))], ["id"]) == [("10",), ("9",)]
    assert rows_of(dataset, [Filter("paid", "exact", value=True)], ["id"]) == [("7",)]
    assert rows_of(dataset, [Filter("paid", "not", value=True)], ["id"]) == [("10",)]
    assert rows_of(dataset, [Filter("name", "isnull", value=True)], ["id"]) == [("10",)]
    assert rows_of(dataset, [Filter("name", "exact", "")], ["id"]) == [("9",)]


@pytest.mark.parametrize("ending", ["parquet", "arrow", "csv"])
def test_a_scan_that_finds_nothing_can_be_interrupted(tmp_path: Path, ending: str) -> None:
    path = tmp_path / f"table.{ending}"
    if ending == "csv":
        pl.DataFrame(TABLE).write_csv(path)
    else:
        {"parquet": write_groups, "arrow": write_arrow}[ending](TABLE, path)
    with dataset_of(path).open(Selection(("t",), filters=(Filter("t", "exact", "none"),))) as cursor:
        cursor.interrupt()
        with pytest.raises(SourceFailed):
            next(cursor)


def rewritten(path: Path, old: bytes, new: bytes) -> None:
    """Replace a part of the footer, which states its own length."""
    content = path.read_bytes()
    length = struct.unpack("<I", content[-8:-4])[0]
    footer = content[-8 - length : -8]
    assert old in footer
    footer = footer.replace(old, new)
    path.write_bytes(content[: -8 - length] + footer + struct.pack("<I", len(footer)) + b"PAR1")


def test_bounds_that_are_too_short_are_not_used(tmp_path: Path) -> None:
    """The statistics of pyarrow end the process over them; its reader fails."""
    path = tmp_path / "table.parquet"
    number = 0x1122334455667788
    pq.write_table(pa.table({"n": [number, number + 1]}), path)
    bound = b"\x08" + struct.pack("<q", number)
    rewritten(path, bound, b"\x04" + bound[1:5])
    with pytest.raises(SourceFailed):
        rows_of(dataset_of(path), [Filter("n", "lte", number)])


def test_bounds_in_an_unknown_order_are_not_used(tmp_path: Path) -> None:
    """Older writers compared bytes as if they had a sign, and stated no order."""
    path = tmp_path / "table.parquet"
    pq.write_table(pa.table({"n": [1, 2]}), path)
    with path.open("rb") as file:
        content = file.read()
    assert read_statistics(pa.BufferReader(content), [0])[0][0].nulls == 0
    order = b"\x19\x1c\x1c\x00\x00"
    rewritten(path, order, b"\x19\x1c\x2c\x00\x00")
    assert read_statistics(pa.BufferReader(path.read_bytes()), [0])[0][0].least is None


@settings(max_examples=300)
@given(data=st.data())
def test_damaged_footers_have_no_statistics(data: st.DataObject) -> None:
    """The reader of statistics raises nothing and ends, whatever the footer is."""
    sink = pa.BufferOutputStream()
    pq.write_table(TABLE, sink, row_group_size=30)
    content = bytearray(sink.getvalue().to_pybytes())
    length = struct.unpack("<I", content[-8:-4])[0]
    for _ in range(data.draw(st.integers(1, 6))):
        content[-8 - data.draw(st.integers(1, length))] = data.draw(st.integers(0, 255))
    read_statistics(pa.BufferReader(bytes(content)), [0, 1, 2])
    read_statistics(pa.BufferReader(bytes(content[: data.draw(st.integers(0, len(content)))])), [0])
