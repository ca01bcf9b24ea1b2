"""Scalars of numpy and pandas in rows of functions are the numbers, booleans and moments that they are, or null."""

from __future__ import annotations

import csv
import enum
import io
import json
import math
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from tests.field.typed_exports import TYPED, every_reader, export, rows_of, table_of


class Level(enum.IntEnum):
    HIGH = 3


class Colour(str, enum.Enum):  # noqa: UP042 - the older spelling has another `str`
    RED = "red"


MOMENT = datetime.fromisoformat("2024-02-29T12:00:00.5")
NS = "2024-02-29T12:00:00.000000001"

SCALARS: dict[str, tuple[Any, str, Any, Any, pa.DataType]] = {
    "int64": (np.int64(5), "5", 5, 5, pa.int64()),
    "int8": (np.int8(-5), "-5", -5, -5, pa.int64()),
    "uint64": (np.uint64(2**64 - 1), str(2**64 - 1), 2**64 - 1, str(2**64 - 1), pa.string()),
    "bool": (np.bool_(True), "true", True, True, pa.bool_()),
    "float64": (np.float64(0.1), "0.1", 0.1, 0.1, pa.float64()),
    "float32": (np.float32(0.1), "0.1", 0.1, 0.1, pa.float64()),
    "float16": (np.float16(0.5), "0.5", 0.5, 0.5, pa.float64()),
    "inf": (np.float64("-inf"), "-inf", None, -math.inf, pa.float64()),
    "str": (np.str_("x"), "x", "x", "x", pa.string()),
    "bytes": (np.bytes_(b"x"), "\\x78", "\\x78", b"x", pa.binary()),
    "moment": (np.datetime64(MOMENT), MOMENT.isoformat(), MOMENT.isoformat(), MOMENT, pa.timestamp("us")),
    "moment ns": (np.datetime64(MOMENT, "ns"), MOMENT.isoformat(), MOMENT.isoformat(), MOMENT, pa.timestamp("us")),
    "nanosecond": (np.datetime64(NS), NS, NS, NS, pa.string()),
    "day": (np.datetime64("2024-02-29"), "2024-02-29", "2024-02-29", date(2024, 2, 29), pa.date32()),
    "span": (np.timedelta64(90, "s"), "PT1M30S", "PT1M30S", timedelta(seconds=90), pa.duration("us")),
    "span ns": (np.timedelta64(-1, "ns"), "-PT0.000000001S", "-PT0.000000001S", "-PT0.000000001S", pa.string()),
    "array": (np.array([1, 2]), "[1,2]", [1, 2], "[1,2]", pa.string()),
    "array of none": (np.array(5), "5", 5, 5, pa.int64()),
    "Timestamp": (pd.Timestamp(MOMENT), MOMENT.isoformat(), MOMENT.isoformat(), MOMENT, pa.timestamp("us")),
    "Timestamp ns": (pd.Timestamp(NS), NS, NS, NS, pa.string()),
    "Timestamp UTC": (
        pd.Timestamp(MOMENT, tz="UTC"),
        MOMENT.isoformat() + "+00:00",
        MOMENT.isoformat() + "+00:00",
        MOMENT.replace(tzinfo=UTC),
        pa.timestamp("us", "UTC"),
    ),
    "Timedelta": (pd.Timedelta("90s"), "PT1M30S", "PT1M30S", timedelta(seconds=90), pa.duration("us")),
    "Timedelta ns": (pd.Timedelta("1ns"), "PT0.000000001S", "PT0.000000001S", "PT0.000000001S", pa.string()),
    "Period": (pd.Period("2024-01"), "2024-01", "2024-01", "2024-01", pa.string()),
    "IntEnum": (Level.HIGH, "3", 3, 3, pa.int64()),
    "str enum": (Colour.RED, "red", "red", "red", pa.string()),
    "pyarrow": (pa.scalar(5, pa.int8()), "5", 5, 5, pa.int64()),
    "in a list": ([np.int64(1), pd.NaT, np.bool_(False)], "[1,null,false]", [1, None, False], "[1,null,false]", None),
}
"""Scalar, its text in CSV, its value in NDJSON, its value in Parquet and Arrow, and its type there."""

CASES = pytest.mark.parametrize(("scalar", "text", "in_json", "value", "kind"), SCALARS.values(), ids=SCALARS)


@CASES
@pytest.mark.parametrize("query", ["null=NULL", "null=NULL&quote=all", "null=NULL&escapeFormulas=true"])
def test_csv_has_the_text_of_the_value(
    scalar: Any, text: str, in_json: Any, value: Any, kind: Any, query: str
) -> None:
    written = export(rows_of([(scalar, 1), (None, 2)], ["a", "b"]), "csv", query).decode()
    guarded = text.startswith("-") and "escape" in query and not isinstance(value, int | float)
    found = [row[0] for row in csv.reader(io.StringIO(written))]
    assert found == ["a", f"'{text}" if guarded else text, "NULL"]


@CASES
def test_ndjson_has_the_value(scalar: Any, text: str, in_json: Any, value: Any, kind: Any) -> None:
    first, second = export(rows_of([(scalar,), (None,)]), "ndjson").splitlines()
    assert json.loads(first) == {"a": in_json}
    assert type(json.loads(first)["a"]) is type(in_json)
    assert json.loads(second) == {"a": None}


@CASES
@pytest.mark.parametrize("name", TYPED)
def test_parquet_and_arrow_have_the_type(
    name: str, scalar: Any, text: str, in_json: Any, value: Any, kind: pa.DataType | None
) -> None:
    column = table_of(export(rows_of([(scalar,), (None,)]), name), name).column("a")
    assert column.type == (kind or pa.string())
    assert column.to_pylist() == [value, None]


MISSING = [pd.NaT, pd.NA, np.datetime64("NaT"), np.timedelta64("NaT"), None]


def test_a_missing_value_is_null_in_text() -> None:
    source = rows_of([(missing, 1) for missing in MISSING], ["a", "b"])
    assert export(source, "csv", "null=NULL&header=false") == b"NULL,1\n" * len(MISSING)
    assert export(source, "ndjson") == b'{"a":null,"b":1}\n' * len(MISSING)


@pytest.mark.parametrize("name", TYPED)
def test_a_missing_value_is_null_to_every_reader(tmp_path: Path, name: str) -> None:
    data = export(rows_of([(missing, 1) for missing in [*MISSING, np.int64(7)]], ["a", "b"]), name)
    assert table_of(data, name).column("a").to_pylist() == [None] * len(MISSING) + [7]
    for rows in every_reader(data, name, tmp_path).values():
        assert [pd.isna(row["a"]) for row in rows] == [True] * len(MISSING) + [False]


@pytest.mark.parametrize("name", TYPED)
def test_rows_of_a_frame_are_typed(tmp_path: Path, name: str) -> None:
    """The way in which people make rows of a frame: `itertuples` and `to_numpy`."""
    frame = pd.DataFrame(
        {
            "n": [1, 2],
            "x": [0.5, math.nan],
            "flag": [True, False],
            "at": pd.to_datetime(["2024-01-01", None]),
            "maybe": pd.array([1, None], dtype="Int64"),
        }
    )
    rows = [tuple(row) for row in frame.itertuples(index=False)] + [tuple(row) for row in frame.to_numpy()]
    table = table_of(export(rows_of(rows, list(frame)), name), name)
    assert table.schema.types == [pa.int64(), pa.float64(), pa.bool_(), pa.timestamp("us"), pa.int64()]
    assert table.column("n").to_pylist() == [1, 2, 1, 2]
    assert table.column("at").to_pylist() == [datetime.fromisoformat("2024-01-01"), None] * 2
    assert table.column("maybe").to_pylist() == [1, None] * 2
