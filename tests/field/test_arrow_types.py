"""Every Arrow type with extreme values at every depth: exact in CSV and NDJSON, exact or refused in typed formats."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable
from datetime import date, timedelta
from decimal import Decimal
from typing import Any

import duckdb
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from asgi_export.errors import SourceFailed
from asgi_export.formats import FORMATS
from asgi_export.formats.arrow.text import arrow_rows
from asgi_export.table import Column, Dialect

SMALL, LARGE = -(2**63), 2**63 - 1


def whole(kind: pa.DataType, *values: int) -> pa.Array:
    """Values of a type that is a whole number underneath, which Python's own types do not reach."""
    return pa.array(values, pa.int32() if kind.bit_width == 32 else pa.int64()).cast(kind)


def unscaled(kind: pa.DataType, number: int) -> pa.Array:
    """A decimal of so many units of its last digit."""
    data = number.to_bytes(kind.bit_width // 8, "little", signed=True)
    return pa.Array.from_buffers(kind, 1, [None, pa.py_buffer(data)])


def values(kind: pa.DataType, *found: Any) -> pa.Array:
    return pa.array(found, kind)


def stored(kind: pa.BaseExtensionType, storage: pa.Array) -> pa.Array:
    return pa.ExtensionArray.from_storage(kind, storage)


NINES = "9" * 76
UNION = pa.UnionArray.from_sparse(
    pa.array([0, 1, 2, 0], pa.int8()),
    [pa.array([2**62, 0, 0, None]), pa.array(["", "b", "", ""]), whole(pa.timestamp("ns"), 0, 0, 1, 0)],
)
DENSE = pa.UnionArray.from_dense(
    pa.array([1, 0, 1], pa.int8()), pa.array([0, 0, 1], pa.int32()), [pa.array([7]), pa.array([[1.5], None])]
)
RUNS = pa.RunEndEncodedArray.from_arrays(pa.array([2, 3], pa.int16()), pa.array([[1, None], None]))

TABLE: dict[str, tuple[pa.Array, list[str | None]]] = {
    "null": (pa.nulls(2), [None, None]),
    "bool": (values(pa.bool_(), True, False), ["true", "false"]),
    "int8": (values(pa.int8(), -128, 127), ["-128", "127"]),
    "int64": (values(pa.int64(), SMALL, LARGE), [str(SMALL), str(LARGE)]),
    "uint64": (values(pa.uint64(), 0, 2**64 - 1), ["0", str(2**64 - 1)]),
    "float16": (values(pa.float16(), 65504, -0.5), ["65504.0", "-0.5"]),
    "float32": (values(pa.float32(), 0.1, -0.0), ["0.1", "-0.0"]),
    "float64": (values(pa.float64(), 5e-324, 1.7976931348623157e308), ["5e-324", "1.7976931348623157e+308"]),
    "decimal32": (values(pa.decimal32(9, 9), Decimal("0.999999999")), ["0.999999999"]),
    "decimal64": (values(pa.decimal64(18, 0), Decimal("9" * 18)), ["9" * 18]),
    "decimal128": (values(pa.decimal128(38, 38), Decimal("-0." + "9" * 38)), ["-0." + "9" * 38]),
    "decimal128, scale -2": (unscaled(pa.decimal128(5, -2), 99999), ["9999900"]),
    "decimal128, scale -38": (unscaled(pa.decimal128(38, -38), 10**38 - 1), ["9" * 38 + "0" * 38]),
    "decimal256": (values(pa.decimal256(76, 0), Decimal(NINES)), [NINES]),
    "decimal256, scale -4": (unscaled(pa.decimal256(76, -4), 10**76 - 1), [NINES + "0000"]),
    "decimal256 of few digits": (values(pa.decimal256(20, 2), Decimal("1.50")), ["1.50"]),
    "string": (values(pa.string(), "", 'é😀,"\n\0'), ["", 'é😀,"\n\0']),
    "large_string": (values(pa.large_string(), "x"), ["x"]),
    "string_view": (values(pa.string_view(), "a text longer than twelve", ""), ["a text longer than twelve", ""]),
    "binary": (values(pa.binary(), b"\x00\xff", b""), ["\\x00ff", "\\x"]),
    "binary_view": (values(pa.binary_view(), b"\xff" * 20), ["\\x" + "ff" * 20]),
    "fixed_size_binary": (values(pa.binary(2), b"\x00\xff"), ["\\x00ff"]),
    "fixed_size_binary of nothing": (values(pa.binary(0), b"", b""), ["\\x", "\\x"]),
    "date32": (whole(pa.date32(), -(2**31), 2**31 - 1), ["-5877641-06-23", "5881580-07-11"]),
    "date32, near": (values(pa.date32(), date.min, date.max), ["0001-01-01", "9999-12-31"]),
    "date64": (whole(pa.date64(), 86_400_000 * 10**11), ["273792670-09-13"]),
    "time32[s]": (whole(pa.time32("s"), 0, 86_399), ["00:00:00", "23:59:59"]),
    "time32[ms]": (whole(pa.time32("ms"), 86_399_999), ["23:59:59.999000"]),
    "time64[us]": (whole(pa.time64("us"), 86_399_999_999), ["23:59:59.999999"]),
    "time64[ns]": (whole(pa.time64("ns"), 86_399_999_999_999), ["23:59:59.999999999"]),
    "timestamp[s]": (
        whole(pa.timestamp("s"), SMALL, LARGE), ["-292277022657-01-27T08:29:52", "292277026596-12-04T15:30:07"]
    ),
    "timestamp[s], near": (
        whole(pa.timestamp("s"), -1, 253_402_300_800), ["1969-12-31T23:59:59", "10000-01-01T00:00:00"]
    ),
    "timestamp[ms]": (
        whole(pa.timestamp("ms"), SMALL, LARGE),
        ["-292275055-05-16T16:47:04.192000", "292278994-08-17T07:12:55.807000"]
    ),
    "timestamp[us]": (
        whole(pa.timestamp("us"), SMALL, LARGE), ["-290308-12-21T19:59:05.224192", "294247-01-10T04:00:54.775807"]
    ),
    "timestamp[ns]": (
        whole(pa.timestamp("ns"), SMALL, LARGE), ["1677-09-21T00:12:43.145224192", "2262-04-11T23:47:16.854775807"]
    ),
    "timestamp[us, tz=UTC]": (whole(pa.timestamp("us", "UTC"), LARGE), ["294247-01-10T04:00:54.775807+00:00"]),
    "timestamp[ns, tz=Europe/Berlin]": (
        whole(pa.timestamp("ns", "Europe/Berlin"), LARGE), ["2262-04-11T23:47:16.854775807+00:00"]
    ),
    "timestamp[ms, tz=+05:30]": (whole(pa.timestamp("ms", "+05:30"), 1), ["1970-01-01T05:30:00.001000+05:30"]),
    "timestamp[us, tz=Z]": (whole(pa.timestamp("us", "Z"), 1), ["1970-01-01T00:00:00.000001+00:00"]),
    "timestamp[us, tz=Nowhere/Land]": (
        whole(pa.timestamp("us", "Nowhere/Land"), 1), ["1970-01-01T00:00:00.000001+00:00"]
    ),
    "duration[s]": (
        whole(pa.duration("s"), SMALL, LARGE), ["-P106751991167300DT15H30M8S", "P106751991167300DT15H30M7S"]
    ),
    "duration[ms]": (whole(pa.duration("ms"), SMALL), ["-P106751991167DT7H12M55.808S"]),
    "duration[us]": (whole(pa.duration("us"), LARGE), ["P106751991DT4H54.775807S"]),
    "duration[ns]": (whole(pa.duration("ns"), SMALL, 1), ["-P106751DT23H47M16.854775808S", "PT0.000000001S"]),
    "interval": (
        values(pa.month_day_nano_interval(), (2**31 - 1, -(2**31), SMALL), (0, 0, 0)),
        ["P178956970Y7M-2147483648DT-2562047H-47M-16.854775808S", "PT0S"],
    ),
    "list": (values(pa.list_(pa.int8()), [1, None], []), ["[1,null]", "[]"]),
    "large_list": (values(pa.large_list(pa.uint64()), [2**64 - 1]), [f"[{2**64 - 1}]"]),
    "list_view": (values(pa.list_view(pa.string()), ["a", ""], []), ['["a",""]', "[]"]),
    "large_list_view": (values(pa.large_list_view(pa.bool_()), [True]), ["[true]"]),
    "fixed_size_list": (values(pa.list_(pa.int8(), 2), [1, None]), ["[1,null]"]),
    "fixed_size_list of nothing": (values(pa.list_(pa.int8(), 0), [], []), ["[]", "[]"]),
    "struct": (
        values(pa.struct([("a", pa.null()), ("b", pa.binary())]), {"b": b"\xff"}), ['{"a":null,"b":"\\\\xff"}']
    ),
    "struct of nothing": (values(pa.struct([]), {}), ["{}"]),
    "struct that has a name twice": (
        pa.StructArray.from_arrays([pa.array([1, 2]), pa.array(["x", None])], ["a", "a"]),
        ['[["a",1],["a","x"]]', '[["a",2],["a",null]]'],
    ),
    "map": (values(pa.map_(pa.string(), pa.int8()), [("k", 1), ("l", None)], []), ['{"k":1,"l":null}', "{}"]),
    "map that has a key twice": (
        values(pa.map_(pa.string(), pa.int8()), [("k", 1), ("k", 2)], [("k", 1)]), ['[["k",1],["k",2]]', '{"k":1}']
    ),
    "map of floats": (
        values(pa.map_(pa.float64(), pa.int8()), [(float("nan"), 1), (float("inf"), 2), (1.5, 3)]),
        ['{"nan":1,"inf":2,"1.5":3}'],
    ),
    "map of binary": (values(pa.map_(pa.binary(), pa.int8()), [(b"\xff", 1)]), ['{"\\\\xff":1}']),
    "dictionary": (pa.array(["x", "y", "x"]).dictionary_encode(), ["x", "y", "x"]),
    "dictionary of views": (
        pa.DictionaryArray.from_arrays(pa.array([1, 0]), values(pa.string_view(), "x", "y")), ["y", "x"]
    ),
    "dictionary of lists": (pa.DictionaryArray.from_arrays(pa.array([1, 0]), pa.array([[1], [2]])), ["[2]", "[1]"]),
    "dictionary of dictionaries": (
        pa.DictionaryArray.from_arrays(pa.array([1, 0]), pa.array(["x", "y"]).dictionary_encode()), ["y", "x"]
    ),
    "dictionary of runs": (
        pa.DictionaryArray.from_arrays(pa.array([1, 0]), pa.RunEndEncodedArray.from_arrays([1, 2], ["x", "y"])),
        ["y", "x"]
    ),
    "run_end_encoded": (RUNS, ["[1,null]", "[1,null]", None]),
    "run_end_encoded of dictionaries": (
        pa.RunEndEncodedArray.from_arrays([1, 2], pa.array(["x", "y"]).dictionary_encode()), ["x", "y"]
    ),
    "run_end_encoded of views": (pa.RunEndEncodedArray.from_arrays([2], values(pa.string_view(), "x")), ["x", "x"]),
    "sparse_union": (UNION, [str(2**62), '"b"', '"1970-01-01T00:00:00.000000001"', None]),
    "dense_union": (DENSE, ["[1.5]", "7", None]),
    "uuid": (stored(pa.uuid(), values(pa.binary(16), bytes(16))), ["00000000-0000-0000-0000-000000000000"]),
    "bool8": (stored(pa.bool8(), values(pa.int8(), 1, 0)), ["true", "false"]),
    "json": (stored(pa.json_(), values(pa.string(), '{"a":1}')), ['{"a":1}']),
    "opaque over views": (
        stored(pa.opaque(pa.list_view(pa.int8()), "t", "v"), values(pa.list_view(pa.int8()), [1])), ["[1]"]
    ),
    "tensor": (stored(pa.fixed_shape_tensor(pa.int8(), [2]), values(pa.list_(pa.int8(), 2), [1, 2])), ["[1,2]"]),
}  # fmt: skip
"""What each value is as text; null is None."""


def in_list(array: pa.Array) -> pa.Array:
    return pa.ListArray.from_arrays(pa.array(range(len(array) + 1), pa.int32()), array)


def in_fixed_list(array: pa.Array) -> pa.Array:
    return pa.FixedSizeListArray.from_arrays(array, 1)


def in_struct(array: pa.Array) -> pa.Array:
    return pa.StructArray.from_arrays([array], ["a"])


def in_map(array: pa.Array) -> pa.Array:
    offsets = pa.array(range(len(array) + 1), pa.int32())
    return pa.MapArray.from_arrays(offsets, offsets.slice(1).cast(pa.string()), array)


WRAPPERS: dict[str, tuple[Callable[[pa.Array], pa.Array], Callable[[Any, int], Any]]] = {
    "list": (in_list, lambda value, _: [value]),
    "fixed list": (in_fixed_list, lambda value, _: [value]),
    "struct": (in_struct, lambda value, _: {"a": value}),
    "map": (in_map, lambda value, row: {str(row + 1): value}),
    "list of structs of lists": (
        lambda array: in_list(in_struct(in_list(array))), lambda value, _: [{"a": [value]}]
    ),
}  # fmt: skip


def export(array: pa.Array, name: str) -> bytes:
    """One column; with a null and an offset before it, as a part of a larger batch has it."""
    encoder = FORMATS[name].encoder([Column("a")], Dialect(null="NULL"))
    body = encoder.feed(pa.record_batch([array], ["a"]))
    return encoder.head() + body + encoder.tail()


def csv_texts(array: pa.Array) -> list[str | None]:
    text = export(array, "csv").decode()
    (_, *rows) = csv.reader(io.StringIO(text, newline=""), strict=True)
    return [None if field == "NULL" else field for (field,) in rows]


def json_values(array: pa.Array) -> list[Any]:
    return [json.loads(line)["a"] for line in export(array, "ndjson").splitlines()]


@pytest.mark.parametrize("name", TABLE)
def test_csv_has_the_exact_text_of_every_type(name: str) -> None:
    """polars, which writes columns, and the texts for rows agree; so do the parts of an array."""
    array, texts = TABLE[name]
    assert csv_texts(array) == texts
    assert csv_texts(array.slice(1)) == texts[1:]
    assert csv_texts(array.slice(0, 1)) == texts[:1]
    assert csv_texts_of_rows(array) == texts


def csv_texts_of_rows(array: pa.Array) -> list[str | None]:
    encoder = FORMATS["csv"].encoder([Column("a")], Dialect(null="NULL", header=False))
    text = encoder.feed(arrow_rows(pa.record_batch([array], ["a"]), 1)).decode()
    return [None if field == "NULL" else field for (field,) in csv.reader(io.StringIO(text, newline=""))]


def as_json(array: pa.Array, text: str | None) -> Any:
    """What NDJSON has for a value of that text: numbers, booleans and structures are JSON's own."""
    if text is None:
        return None
    kind = array.type
    own = (
        pa.types.is_integer(kind)
        or pa.types.is_floating(kind)
        or pa.types.is_boolean(kind)
        or pa.types.is_nested(kind)
    )
    if isinstance(kind, pa.BaseExtensionType):
        own = kind.extension_name != "arrow.json" and kind.extension_name != "arrow.uuid"
    if pa.types.is_dictionary(kind) or pa.types.is_run_end_encoded(kind):
        own = text.startswith("[")
    return json.loads(text) if own else text


@pytest.mark.parametrize("name", TABLE)
def test_ndjson_has_the_exact_value_of_every_type(name: str) -> None:
    array, texts = TABLE[name]
    expected = [as_json(array, text) for text in texts]
    assert json_values(array) == expected
    assert json_values(array.slice(1)) == expected[1:]


@pytest.mark.parametrize("wrapper", WRAPPERS)
@pytest.mark.parametrize("name", TABLE)
def test_nested_values_are_the_same_json_in_csv_and_ndjson(name: str, wrapper: str) -> None:
    array, texts = TABLE[name]
    wrap, nested = WRAPPERS[wrapper]
    expected = [nested(as_json(array, text), row) for row, text in enumerate(texts)]
    wrapped = wrap(array)
    assert json_values(wrapped) == expected
    assert [json.loads(str(text)) for text in csv_texts(wrapped)] == expected
    assert json_values(wrapped.slice(1)) == expected[1:]


REFUSED = {"timestamp[s]": "past what", "date64": "past what"}
"""Seconds of which there are no milliseconds, which is all that Parquet has, and days past 32 bits."""

ONLY_PYARROW = {"decimal256", "decimal128, scale -38"}
"""Decimals of 76 digits are exact in pyarrow alone."""

NOT_IN_DUCKDB = {"duration[s]", "duration[ms]", "duration[us]", "map that has a key twice", "timestamp[us, tz=UTC]"}
"""What DuckDB refuses to read, by its own bounds."""


@pytest.mark.parametrize("wrapper", ["none", *[pytest.param(found, marks=pytest.mark.slow) for found in WRAPPERS]])
@pytest.mark.parametrize("format_name", ["parquet", "arrow"])
@pytest.mark.parametrize("name", TABLE)
def test_typed_formats_are_exact_or_refuse(name: str, format_name: str, wrapper: str) -> None:
    """What is read back has the same texts, and polars and DuckDB read the whole of it."""
    array, _ = TABLE[name]
    wrapped = array if wrapper == "none" else WRAPPERS[wrapper][0](array)
    if name in REFUSED:
        with pytest.raises(SourceFailed, match=REFUSED[name]):
            export(wrapped, format_name)
        return
    data = export(wrapped, format_name)
    table = pq.read_table(io.BytesIO(data)) if format_name == "parquet" else pa.ipc.open_stream(data).read_all()
    found = table["a"].combine_chunks()
    assert meaning(found) == meaning(wrapped)
    if name not in ONLY_PYARROW:
        frame = pl.read_parquet(data) if format_name == "parquet" else pl.read_ipc_stream(data)
        assert frame.height == len(array)
    if name not in ONLY_PYARROW | NOT_IN_DUCKDB:
        counted = duckdb.from_arrow(table).aggregate("count(a)").fetchall()
        assert counted == [(len(found) - found.null_count,)]


def meaning(array: pa.Array) -> list[Any]:
    """The values as JSON, where text that stands for a value is that value, and a moment is one whatever its zone."""
    return [utc(value) for value in json_values(array)]


def utc(value: Any) -> Any:
    if isinstance(value, list):
        return [utc(item) for item in value]
    if isinstance(value, dict):
        return {name: utc(item) for name, item in value.items()}
    if isinstance(value, str) and value.endswith("+05:30"):
        return "1970-01-01T00:00:00.001000+00:00"
    try:
        found = json.loads(value) if isinstance(value, str) else value
    except ValueError:
        return value
    return value if isinstance(found, float) else found if found is value else utc(found)


def test_a_time_outside_of_a_day_and_a_date_with_hours_keep_their_value() -> None:
    """Functions may hand over what files may not: Arrow does not allow it, and nothing checks it."""
    assert csv_texts(whole(pa.time64("us"), 86_400_000_000, -1)) == ["24:00:00", "-00:00:00.000001"]
    assert csv_texts(whole(pa.date64(), 5)) == ["1970-01-01T00:00:00.005000"]
    with pytest.raises(SourceFailed):
        export(whole(pa.date64(), 5), "parquet")


def test_durations_read_back_as_they_were() -> None:
    array = values(pa.duration("us"), timedelta(days=-1, microseconds=1), timedelta(days=10**8))
    assert pq.read_table(io.BytesIO(export(array, "parquet")))["a"].to_pylist() == array.to_pylist()
