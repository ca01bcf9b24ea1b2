"""Timestamps of Parquet's INT96, which Spark, Impala and Hive write: exact at any depth and in any year."""

from __future__ import annotations

import asyncio
import io
import json
import struct
from collections.abc import Sequence
from datetime import date
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from asgi_export.errors import SourceFailed
from asgi_export.formats import FORMATS
from asgi_export.sources.files.source import FileSource
from asgi_export.table import Dialect, Selection

DAY = 86_400 * 10**9
EPOCH_DAY = 2_440_588
"""The Julian day of 1970-01-01."""

Moment = tuple[int, int] | None
"""Days from 1970, and nanoseconds of the day."""


def days(text: str) -> int:
    """Days of a date from 1970, for years that Python has."""
    return (date.fromisoformat(text) - date(1970, 1, 1)).days


FAR = (days("9999-12-31"), 0)
OLD = (days("1500-01-01"), 0)
FINE = (days("2024-02-29"), DAY - 1)
MICRO = (days("2024-02-29"), DAY - 1000)

TEXTS = {
    FAR: "9999-12-31T00:00:00",
    (days("9999-12-31"), DAY - 1): "9999-12-31T23:59:59.999999999",
    OLD: "1500-01-01T00:00:00",
    (days("0001-01-01"), 1000): "0001-01-01T00:00:00.000001",
    (days("1677-09-21"), 763_145_224_193): "1677-09-21T00:12:43.145224193",
    (days("1677-09-21"), 763_145_224_192): "1677-09-21T00:12:43.145224192",
    (days("2262-04-11"), 85_636_854_775_807): "2262-04-11T23:47:16.854775807",
    (days("2262-04-11"), 85_636_854_775_808): "2262-04-11T23:47:16.854775808",
    (days("2262-04-12"), 1): "2262-04-12T00:00:00.000000001",
    (-1, DAY - 1): "1969-12-31T23:59:59.999999999",
    (0, 0): "1970-01-01T00:00:00",
    FINE: "2024-02-29T23:59:59.999999999",
    MICRO: "2024-02-29T23:59:59.999999",
    (2_932_897, 5): "10000-01-01T00:00:00.000000005",
}


def with_moments(moments: Sequence[Moment], shape: str) -> bytes:
    """A file whose column `t` holds these moments as INT96; pyarrow writes stamps of its own, which are replaced."""
    places = [None if moment is None else place * 1000 for place, moment in enumerate(moments)]
    times = pa.array(places, pa.int64()).cast(pa.timestamp("us"))
    file = io.BytesIO()
    pq.write_table(
        pa.table({"id": pa.array(range(len(moments))), "t": shaped(times, shape)}),
        file, use_deprecated_int96_timestamps=True, use_dictionary=False, compression="none", store_schema=False,
        write_statistics=False,
    )  # fmt: skip
    data = file.getvalue()
    for place, moment in enumerate(moments):
        if moment is not None:
            told = struct.pack("<qI", place * 1_000_000, EPOCH_DAY)
            assert data.count(told) == 1
            data = data.replace(told, struct.pack("<QI", moment[1], (EPOCH_DAY + moment[0]) % 2**32))
    return data


def shaped(times: pa.Array, shape: str) -> pa.Array:
    offsets = pa.array(range(len(times) + 1), pa.int32())
    if shape == "list":
        return pa.ListArray.from_arrays(offsets, times)
    if shape == "struct":
        return pa.StructArray.from_arrays([times, offsets.slice(1)], ["t", "n"])
    if shape == "map":
        return pa.MapArray.from_arrays(offsets, offsets.slice(1).cast(pa.string()), times)
    if shape == "list of structs":
        return pa.ListArray.from_arrays(offsets, pa.StructArray.from_arrays([times], ["t"]))
    return times


def nested(text: str | None, place: int, shape: str) -> Any:
    """The value of a row as JSON has it."""
    return {
        "list": [text],
        "struct": {"t": text, "n": place + 1},
        "map": {str(place + 1): text},
        "list of structs": [{"t": text}],
        "column": text,
    }[shape]


def export(path: Path, name: str) -> bytes:
    (dataset,) = asyncio.run(FileSource(path).start())
    encoder = FORMATS[name].encoder(dataset.columns, Dialect())
    parts = [encoder.head()]
    cursor: Any = dataset.open(Selection(tuple(column.name for column in dataset.columns)))
    with cursor as batches:
        parts += [encoder.feed(batch) for batch in batches]
    return b"".join([*parts, encoder.tail()])


SHAPES = ["column", "list", "struct", "map", "list of structs"]


@pytest.mark.parametrize("shape", SHAPES)
def test_every_moment_has_its_text_in_csv_and_ndjson(tmp_path: Path, shape: str) -> None:
    """Nanoseconds beside a year 9999 too, which no timestamp of 64 bits holds."""
    tables: list[list[Moment]] = [[*TEXTS, None], [FAR, OLD, None], [FINE, None], [None, FAR, FINE], [None]]
    for place, moments in enumerate(tables):
        path = tmp_path / f"{place}.parquet"
        path.write_bytes(with_moments(moments, shape))
        expected = [
            nested(None if moment is None else TEXTS[moment], row, shape) for row, moment in enumerate(moments)
        ]
        assert [json.loads(line)["t"] for line in export(path, "ndjson").splitlines()] == expected
        texts = pl.read_csv(export(path, "csv"), infer_schema=False)["t"].to_list()
        assert texts == expected if shape == "column" else [json.loads(text) for text in texts] == expected


def read(data: bytes, name: str) -> pa.Table:
    return pq.read_table(io.BytesIO(data)) if name == "parquet" else pa.ipc.open_stream(data).read_all()


def moments_of(array: pa.Array, shape: str) -> pa.Array:
    if shape == "map":
        return array.items
    lists = array.flatten() if shape.startswith("list") else array
    return lists.field("t") if "struct" in shape else lists


@pytest.mark.parametrize("name", ["parquet", "arrow"])
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize(
    ("moments", "unit"), [([FAR, OLD, MICRO, None], "us"), ([FINE, MICRO, None], "ns"), ([None], "us")]
)
def test_typed_formats_have_the_unit_that_holds_every_moment(
    tmp_path: Path, name: str, shape: str, moments: list[Moment], unit: str
) -> None:
    (tmp_path / "t.parquet").write_bytes(with_moments(moments, shape))
    table = read(export(tmp_path / "t.parquet", name), name)
    found = table["t"].combine_chunks()
    values = moments_of(found, shape)
    assert values.type == pa.timestamp(unit)
    factor = {"us": 1000, "ns": 1}[unit]
    expected = [None if moment is None else (moment[0] * DAY + moment[1]) // factor for moment in moments]
    assert values.cast(pa.int64()).to_pylist() == expected
    if name == "parquet":
        pl.read_parquet(io.BytesIO(export(tmp_path / "t.parquet", name)))


@pytest.mark.parametrize("name", ["parquet", "arrow"])
@pytest.mark.parametrize("shape", SHAPES)
def test_typed_formats_refuse_nanoseconds_beside_a_year_that_they_do_not_reach(
    tmp_path: Path, name: str, shape: str
) -> None:
    (tmp_path / "t.parquet").write_bytes(with_moments([FAR, FINE], shape))
    with pytest.raises(SourceFailed, match="does not fit"):
        export(tmp_path / "t.parquet", name)


@pytest.mark.parametrize("moment", [(2**31, 0), (106_751_992, 1), (-20_000_000, 1)])
def test_what_no_reader_could_tell_is_refused(tmp_path: Path, moment: Moment) -> None:
    (tmp_path / "t.parquet").write_bytes(with_moments([FINE, moment], "column"))
    with pytest.raises(SourceFailed):
        export(tmp_path / "t.parquet", "csv")


def test_a_folder_may_have_moments_of_every_kind(tmp_path: Path) -> None:
    """INT96 beside the newer types, whose unit is that of the column; CSV has what it cannot hold."""
    (tmp_path / "s").mkdir()
    (tmp_path / "s" / "1.parquet").write_bytes(with_moments([FAR], "column"))
    (tmp_path / "s" / "2.parquet").write_bytes(with_moments([FINE], "column"))
    (tmp_path / "s" / "3.parquet").write_bytes(with_moments([FAR, FINE], "column"))
    newer = pa.table({"id": [0], "t": pa.array([1], pa.int64()).cast(pa.timestamp("ns"))})
    pq.write_table(newer, tmp_path / "s" / "4.parquet")
    expected = [TEXTS[FAR], TEXTS[FINE], TEXTS[FAR], TEXTS[FINE], "1970-01-01T00:00:00.000000001"]
    assert pl.read_csv(export(tmp_path / "s", "csv"), infer_schema=False)["t"].to_list() == expected
    with pytest.raises(SourceFailed):
        export(tmp_path / "s", "parquet")


def test_many_rows_are_read_as_they_are_beside_other_columns(tmp_path: Path) -> None:
    count = 100_000
    times = pa.array([place * 86_400_000_000 for place in range(count)]).cast(pa.timestamp("us"))
    table = pa.table(
        {"id": pa.array(range(count)), "t": times, "n": pa.array([str(place) for place in range(count)])}
    )
    pq.write_table(table, tmp_path / "t.parquet", use_deprecated_int96_timestamps=True, row_group_size=30_000)
    assert read(export(tmp_path / "t.parquet", "arrow"), "arrow").equals(table)
