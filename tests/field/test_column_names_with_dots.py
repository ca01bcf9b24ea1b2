"""A dot in a column's name: the columns that are asked for are read, and batches stay bounded."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from asgi_export.sources.files.batch_bounds import BATCH_BYTES, BATCH_ROWS
from asgi_export.sources.files.parquet_columns import FIRST_ROWS
from asgi_export.sources.files.source import FileSource
from asgi_export.table import Selection

LARGE = ["x" * 100_000 + str(place) for place in range(60)]


def batches(path: Path, *names: str, limit: int | None = None) -> Iterator[pa.RecordBatch]:
    (dataset,) = asyncio.run(FileSource(path).start())
    columns = names or tuple(column.name for column in dataset.columns)
    cursor: Any = dataset.open(Selection(columns, limit))
    with cursor as found:
        yield from found


def large(*levels: str, kind: str = "struct") -> pa.Array:
    """Large values below so many levels of nesting."""
    array: pa.Array = pa.array(LARGE)
    for level in levels:
        if kind == "list":
            array = pa.ListArray.from_arrays(pa.array(range(len(LARGE) + 1), pa.int32()), array)
        array = pa.StructArray.from_arrays([array, pa.array([1] * len(LARGE))], [level, "."])
    return array


@pytest.mark.parametrize(
    ("name", "array"),
    [
        ("a.b", large()),
        (".", large()),
        ("a..b.", large()),
        ("a", large("b.c")),
        ("a.b", large("c.d", "e")),
        ("a.list.element", large("x.y", kind="list")),
        ("a.b", pa.array([[("k", text)] for text in LARGE], pa.map_(pa.string(), pa.string()))),
    ],
    ids=lambda value: value if isinstance(value, str) else str(value.type)[:60],
)
def test_large_values_come_in_bounded_batches_whatever_their_column_is_called(
    tmp_path: Path, name: str, array: pa.Array
) -> None:
    table = pa.table({"id": pa.array(range(len(LARGE))), name: array})
    pq.write_table(table, tmp_path / "t.parquet", use_dictionary=False)
    found = list(batches(tmp_path / "t.parquet", name))
    assert max(batch.nbytes for batch in found) < 2 * BATCH_BYTES
    assert pa.Table.from_batches(found)[name].combine_chunks().equals(array)


@pytest.mark.slow
def test_a_value_that_a_dictionary_holds_once_does_not_make_a_batch_large(tmp_path: Path) -> None:
    """The file has 100 KB, its rows 400 MB."""
    values = pa.DictionaryArray.from_arrays(pa.repeat(pa.scalar(0, pa.int32()), 4000), ["x" * 100_000])
    table = pa.table({"a": values})
    pq.write_table(table, tmp_path / "t.parquet", store_schema=False)
    sizes = [batch.nbytes for batch in batches(tmp_path / "t.parquet", limit=3000)]
    assert max(sizes[1:]) < 2 * BATCH_BYTES
    assert sizes[0] <= FIRST_ROWS * 100_010


def test_large_values_that_begin_in_a_later_row_group_come_in_bounded_batches(tmp_path: Path) -> None:
    """Where row groups are small a batch goes over many: what lies ahead counts."""
    none = pa.nulls(len(LARGE), pa.string())
    table = pa.concat_tables(
        [pa.table({"a": array}) for array in (*[none] * 9, pa.array(LARGE), none, pa.array(LARGE))]
    )
    pq.write_table(table, tmp_path / "t.parquet", row_group_size=len(LARGE), use_dictionary=False)
    found = list(batches(tmp_path / "t.parquet"))
    assert max(batch.nbytes for batch in found) < 2 * BATCH_BYTES
    assert sum(batch.num_rows for batch in found) == table.num_rows


def test_small_rows_come_in_large_batches_also_of_small_row_groups_and_beside_large_columns(tmp_path: Path) -> None:
    rows = 4 * BATCH_ROWS
    table = pa.table({"id": pa.array(range(rows)), "text": ["x" * 1000] * rows})
    pq.write_table(table, tmp_path / "t.parquet", row_group_size=BATCH_ROWS // 4, use_dictionary=False)
    assert len(list(batches(tmp_path / "t.parquet", "id"))) <= 4 * 4
    pq.write_table(table, tmp_path / "t.parquet", use_dictionary=False)
    assert [batch.num_rows for batch in batches(tmp_path / "t.parquet", "id")][1:4] == [BATCH_ROWS] * 3


def test_columns_with_dots_are_not_taken_for_parts_of_others(tmp_path: Path) -> None:
    table = pa.table({
        "a": pa.array([{"b": 1, "b.c": 2, "d": {"e": 3}}]),
        "a.b": pa.array([4]),
        "a.b.c": pa.array([{"x": 5}]),
        "a.d": pa.array([{"e": 6, "f.g": [7]}]),
        "a.d.e": pa.array([8]),
        "d": pa.array([9]),
    })  # fmt: skip
    pq.write_table(table, tmp_path / "t.parquet")
    for name in table.column_names:
        (batch,) = batches(tmp_path / "t.parquet", name)
        assert batch.schema.names == [name]
        assert batch.column(0).equals(table[name].combine_chunks()), name
    (batch,) = batches(tmp_path / "t.parquet", "a.d.e", "a", "a.b")
    assert pa.Table.from_batches([batch]).equals(table.select(["a.d.e", "a", "a.b"]))
