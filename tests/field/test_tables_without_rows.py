"""A table without rows has the types that it has with rows: the source knows them and hands them over."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from asgi_export import Column, dataset
from asgi_export.locations import open_location
from tests.field.typed_exports import TYPED, every_reader, export, table_of

TABLE = pa.table(
    {
        "whole": pa.array([1], pa.int64()),
        "small": pa.array([1], pa.uint8()),
        "zoned": pa.array([0], pa.timestamp("us", "Europe/Berlin")),
        "naive": pa.array([0], pa.timestamp("ns")),
        "day": pa.array([0], pa.date32()),
        "clock": pa.array([0], pa.time32("ms")),
        "price": pa.array([1], pa.decimal128(10, 2)),
        "flag": pa.array([True]),
        "raw": pa.array([b"x"]),
        "word": pa.array(["x", None]).dictionary_encode().slice(0, 1),
        "words": pa.array([["x"]]),
        "pair": pa.array([{"a": 1, "b": [0.5]}]),
        "pairs": pa.array([[("a", 1)]], pa.map_(pa.string(), pa.int8())),
        "single": pa.array([1.5], pa.float32()),
        "dotted.name": pa.array([1], pa.int16()),
    }
)

BOTH = pytest.mark.parametrize("name", TYPED)


def write(path: Path, table: pa.Table) -> Any:
    if path.suffix == ".parquet":
        pq.write_table(table, path)
    else:
        with pa.ipc.new_file(path, table.schema) as writer:
            writer.write_table(table)
    return open_location(str(path))


@BOTH
@pytest.mark.parametrize("suffix", ["parquet", "arrow"])
@pytest.mark.parametrize("query", ["total=0", "", "columns=zoned,price&total=0"])
def test_no_rows_have_the_schema_of_rows(tmp_path: Path, name: str, suffix: str, query: str) -> None:
    rows = TABLE if query else TABLE.slice(0, 0)
    found = table_of(export(write(tmp_path / f"none.{suffix}", rows), name, query), name)
    full = table_of(export(write(tmp_path / f"some.{suffix}", TABLE), name, query.replace("total=0", "")), name)
    assert found.num_rows == 0
    assert full.num_rows == 1
    assert found.schema == full.schema
    assert found.schema.field("zoned").type == pa.timestamp("us", "Europe/Berlin")
    if not query.startswith("columns"):
        assert found.schema.field("whole").type == pa.int64()


@BOTH
def test_every_reader_reads_a_table_without_rows(tmp_path: Path, name: str) -> None:
    data = export(write(tmp_path / "some.parquet", TABLE), name, "total=0")
    assert set(map(len, every_reader(data, name, tmp_path).values())) == {0}


RARE = [
    pa.null(),
    pa.float16(),
    pa.date64(),
    pa.duration("ns"),
    pa.month_day_nano_interval(),
    pa.decimal256(60, 5),
    pa.binary(3),
    pa.string_view(),
    pa.binary_view(),
    pa.large_string(),
    pa.list_view(pa.int8()),
    pa.list_(pa.int8(), 2),
    pa.run_end_encoded(pa.int32(), pa.string()),
    pa.struct([]),
    pa.uuid(),
    pa.bool8(),
    pa.dense_union([pa.field("a", pa.int8()), pa.field("b", pa.string())]),
    pa.dictionary(pa.int8(), pa.string_view()),
]


@BOTH
@pytest.mark.parametrize("kind", RARE, ids=str)
def test_a_rare_type_is_written_the_same_with_and_without_rows(name: str, kind: pa.DataType) -> None:
    field = pa.field("a", kind)
    columns = [Column("a", str(kind), arrow=field)]

    @dataset(columns=columns)
    def some() -> Any:
        yield pa.table([pa.nulls(2, kind)], pa.schema([field]))

    @dataset(columns=columns)
    def none() -> Any:
        yield from ()

    full, empty = table_of(export(some, name), name), table_of(export(none, name), name)
    assert (full.num_rows, empty.num_rows) == (2, 0)
    assert full.schema == empty.schema
