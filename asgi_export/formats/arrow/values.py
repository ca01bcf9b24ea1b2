"""Every Arrow type as text, a column at a time: the text that `value_text` gives for Python's values.

`plain` leaves null, boolean, integer, floating-point and string columns as they are and makes text of every
other; nested values become JSON whose leaves have the text of their type. What Python cannot hold is kept:
nanoseconds, years past 9999.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Iterator
from functools import lru_cache
from itertools import islice, repeat
from typing import Any, TypeAlias
from uuid import UUID

import polars as pl
import pyarrow as pa
import pyarrow.compute as pc

from asgi_export.formats.arrow import times
from asgi_export.formats.value_text import decimal_text, json_text, text_of

Convert: TypeAlias = Callable[[pa.Array], pa.Array]
JsonValues: TypeAlias = Callable[[pa.Array], list[Any]]

MAX_TYPES = 1024
"""Types whose conversion is remembered."""


def plain(array: pa.Array) -> pa.Array:
    """The column with its values as null, boolean, integer, float or text; nulls stay null."""
    return _conversion(array.type)(array)


def jsonable(array: pa.Array) -> list[Any]:
    """The values as `json` takes them: numbers, text, lists, mappings, None; no number that JSON lacks."""
    return _json_values(array.type)(array)


def portable(batch: pa.RecordBatch) -> pa.RecordBatch:
    """The batch with types that every reader of Parquet and Arrow has: text for those that few have."""
    columns = [_portable(column.type)(column) for column in batch.columns]
    return pa.RecordBatch.from_arrays(columns, batch.schema.names)


def is_nested(kind: pa.DataType) -> bool:
    """Whether JSON has a structure for values of this type."""
    return _json_values(kind) not in (python_values, _json_floats)


@lru_cache(MAX_TYPES)
def _conversion(kind: pa.DataType) -> Convert:
    return next((convert for belongs, convert in _CONVERSIONS if belongs(kind)), _as_python_says)


@lru_cache(MAX_TYPES)
def _portable(kind: pa.DataType) -> Convert:
    return next((convert for belongs, convert in _PORTABLE if belongs(kind)), _same)


@lru_cache(MAX_TYPES)
def _json_values(kind: pa.DataType) -> JsonValues:
    return next((values for belongs, values in _JSON if belongs(kind)), python_values)


def _same(array: pa.Array) -> pa.Array:
    return array


def _no_text(array: pa.Array) -> pa.Array:
    return pa.nulls(len(array), pa.string())


def _hex(array: pa.Array) -> pa.Array:
    return ("\\x" + pl.Series(array.cast(pa.large_binary())).bin.encode("hex")).to_arrow()


def _in_full(array: pa.Array) -> pa.Array:
    """Decimals: pyarrow would write 1E-7."""
    return pl.Series(array).cast(pl.String).to_arrow()


def _as_json(array: pa.Array) -> pa.Array:
    return _texts(jsonable(array), _json_line)


def _json_line(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def _as_python_says(array: pa.Array) -> pa.Array:
    return _texts(array.to_pylist(), lambda value: str(text_of(value)))


def _texts(values: Iterable[Any], text: Callable[[Any], str]) -> pa.Array:
    return pa.array([None if value is None else text(value) for value in values], pa.string())


def _decoded(array: pa.Array) -> pa.Array:
    """The values of a dictionary, one a row; pyarrow cannot take from text views, which polars' categories are."""
    values = array.dictionary
    if pa.types.is_string_view(values.type):
        array = pa.DictionaryArray.from_arrays(array.indices, values.cast(pa.large_string()))
    return array.dictionary_decode()


def _extension(array: pa.Array) -> pa.Array:
    name = array.type.extension_name
    if name == "arrow.uuid":
        return _texts(array.storage.to_pylist(), lambda value: str(UUID(bytes=value)))
    return plain(array.storage.cast(pa.bool_()) if name == "arrow.bool8" else array.storage)


def python_values(array: pa.Array) -> list[Any]:
    """The values of `plain` as None, bool, int, float or str."""
    if not (pa.types.is_float32(array.type) or pa.types.is_float16(array.type)):
        values: list[Any] = plain(array).to_pylist()
        return values
    # through their text: widened bit by bit, 0.1 would be 0.10000000149011612
    texts = plain(array).cast(pa.string()).to_pylist()
    return [None if text is None else float(text) for text in texts]


def _json_floats(array: pa.Array) -> list[Any]:
    """RFC 8259 §6 has neither NaN nor infinities."""
    return [value if value is None or math.isfinite(value) else None for value in python_values(array)]


def _json_lists(array: pa.Array) -> list[Any]:
    items = iter(jsonable(array.flatten()))
    return _cut(items, pc.list_value_length(array).to_pylist(), array.is_valid().to_pylist())


def _json_maps(array: pa.Array) -> list[Any]:
    """Objects; a key that is no text is written as one."""
    entry = pa.struct([("key", array.type.key_type), ("value", array.type.item_type)])
    pairs: list[Any] = _json_lists(array.cast(pa.list_(entry)))
    return [None if found is None else {_key(pair["key"]): pair["value"] for pair in found} for found in pairs]


def _key(key: Any) -> str:
    return key if isinstance(key, str) else _json_line(key)


def _json_structures(array: pa.Array) -> list[Any]:
    names = [array.type.field(place).name for place in range(array.type.num_fields)]
    columns = [jsonable(column) for column in array.flatten()]
    rows: Iterable[tuple[Any, ...]] = zip(*columns, strict=True) if columns else repeat((), len(array))
    valid = array.is_valid().to_pylist()
    return [dict(zip(names, row, strict=True)) if here else None for row, here in zip(rows, valid, strict=True)]


def _cut(items: Iterator[Any], lengths: list[int | None], valid: list[bool]) -> list[Any]:
    return [list(islice(items, length)) if here else None for length, here in zip(lengths, valid, strict=True)]


def _as_list(array: pa.Array) -> pa.Array:
    """A list for a list view; pyarrow's cast gives offsets that go back where there is a null."""
    ends = pc.cumulative_sum(pc.list_value_length(array).fill_null(0).cast(pa.int64()))
    offsets = pa.concat_arrays([pa.array([0], pa.int64()), ends])
    return pa.LargeListArray.from_arrays(offsets, array.flatten(), mask=array.is_null())


def _any_of(*names: str) -> Callable[[pa.DataType], bool]:
    tests = [getattr(pa.types, f"is_{name}") for name in names]
    return lambda kind: any(test(kind) for test in tests)


def _is_small_decimal(kind: pa.DataType) -> bool:
    """One that polars takes."""
    return bool(pa.types.is_decimal(kind) and kind.bit_width <= 128 and kind.scale >= 0)


def _is_extension(kind: pa.DataType) -> bool:
    return isinstance(kind, pa.BaseExtensionType)


_lists = _any_of("list", "large_list", "fixed_size_list", "list_view", "large_list_view")

_CONVERSIONS: tuple[tuple[Callable[[pa.DataType], bool], Convert], ...] = (
    (_is_extension, _extension),
    (_any_of("string_view"), lambda array: array.cast(pa.large_string())),
    (_any_of("string", "large_string", "integer", "float32", "float64", "boolean"), _same),
    (_any_of("null"), _no_text),
    (_any_of("float16"), lambda array: array.cast(pa.float32())),
    (_any_of("date"), times.date_text),
    (_any_of("time"), times.time_text),
    (_any_of("timestamp"), times.timestamp_text),
    (_any_of("duration"), times.duration_text),
    (_any_of("interval"), times.interval_text),
    (_is_small_decimal, _in_full),
    (_any_of("decimal"), lambda array: _texts(array.to_pylist(), decimal_text)),
    (_any_of("binary", "large_binary", "fixed_size_binary", "binary_view"), _hex),
    (_any_of("dictionary"), lambda array: plain(_decoded(array))),
    (_any_of("run_end_encoded"), lambda array: plain(pc.run_end_decode(array))),
    (_any_of("union"), lambda array: _texts(array.to_pylist(), json_text)),
    (_any_of("struct", "map"), _as_json),
    (_lists, _as_json),
)

_JSON: tuple[tuple[Callable[[pa.DataType], bool], JsonValues], ...] = (
    (_is_extension, lambda array: _extension(array).to_pylist()),
    (_any_of("dictionary"), lambda array: jsonable(_decoded(array))),
    (_any_of("run_end_encoded"), lambda array: jsonable(pc.run_end_decode(array))),
    (_any_of("floating"), _json_floats),
    (_any_of("map"), _json_maps),
    (_any_of("struct"), _json_structures),
    (_lists, _json_lists),
)

_PORTABLE: tuple[tuple[Callable[[pa.DataType], bool], Convert], ...] = (
    (_any_of("interval", "union"), plain),
    (lambda kind: bool(pa.types.is_struct(kind) and not kind.num_fields), plain),
    (_any_of("string_view"), lambda array: array.cast(pa.large_string())),
    (_any_of("binary_view"), lambda array: array.cast(pa.large_binary())),
    (_any_of("list_view", "large_list_view"), _as_list),
    (_any_of("run_end_encoded"), pc.run_end_decode),
    (_any_of("dictionary"), _decoded),
)
"""Dictionaries are written out, because batches of one export may come with different ones."""
