"""Convert every Arrow type to text, a column at a time, with the same text as `values.text` gives Python's values.

`plain` returns null, boolean, integer, floating-point and string columns unchanged, and converts every other one to
text; nested values become JSON with the text of their leaves. Values that Python cannot hold stay exact: nanoseconds,
years past 9999.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Sequence
from functools import lru_cache
from itertools import islice, repeat
from typing import Any, TypeAlias, TypeVar
from uuid import UUID

import polars as pl
import pyarrow as pa
import pyarrow.compute as pc

from asgi_export.columns import times
from asgi_export.columns.exact_text import ExactText
from asgi_export.columns.nested_arrays import children_of, lengths_of, with_children
from asgi_export.errors import SourceFailed
from asgi_export.values.text import decimal_text, text_of

Convert: TypeAlias = Callable[[pa.Array], pa.Array]
JsonValues: TypeAlias = Callable[[pa.Array], list[Any]]
Found = TypeVar("Found")

MAX_DECIMAL_DIGITS = 76

MAX_TYPES = 1024
"""Types whose conversion is cached."""


def _memoize(find: Callable[[pa.DataType], Found]) -> Callable[[pa.DataType], Found]:
    """Look up each type once, except extension types, which have no hash if they are defined in Python."""
    remembered = lru_cache(MAX_TYPES)(find)
    return lambda kind: find(kind) if isinstance(kind, pa.BaseExtensionType) else remembered(kind)


def plain(array: pa.Array) -> pa.Array:
    """Convert a column to null, boolean, integer, float or text; nulls stay null."""
    return _conversion(array.type)(array)


def jsonable(array: pa.Array) -> list[Any]:
    """Return the values as `json` takes them: numbers, text, lists, mappings, None; no number that JSON lacks."""
    return _json_values(array.type)(array)


def portable(batch: pa.RecordBatch) -> pa.RecordBatch:
    """Return the batch with types that every reader of Parquet and Arrow has, at any depth, by the types alone.

    Text stands for those that few readers have. Raises `SourceFailed` if a value has no such type.
    """
    columns = [portable_array(column) for column in batch.columns]
    return pa.RecordBatch.from_arrays(columns, batch.schema.names)


def portable_array(array: pa.Array) -> pa.Array:
    """Convert one column as `portable` does."""
    try:
        return _portable(array.type)(array)
    except pa.ArrowInvalid:  # its words quote the value
        raise SourceFailed(f"a value of {array.type} is past what Parquet and Arrow readers have") from None


def is_nested(kind: pa.DataType) -> bool:
    """Return whether JSON has a structure for values of this type."""
    return _json_values(kind) not in (python_values, _json_floats)


@_memoize
def _conversion(kind: pa.DataType) -> Convert:
    return next((convert for belongs, convert in _CONVERSIONS if belongs(kind)), _as_python_says)


@_memoize
def _portable(kind: pa.DataType) -> Convert:
    found = next((convert for belongs, convert in _PORTABLE if belongs(kind)), None)
    if found is not None:
        return found
    within = [_portable(kind.field(place).type) for place in range(kind.num_fields)]
    return _same if all(convert is _same for convert in within) else _with_portable_children


def _with_portable_children(array: pa.Array) -> pa.Array:
    return with_children(array, [portable_array(child) for child in children_of(array)])


@_memoize
def _json_values(kind: pa.DataType) -> JsonValues:
    return next((values for belongs, values in _JSON if belongs(kind)), python_values)


def _same(array: pa.Array) -> pa.Array:
    return array


def _no_text(array: pa.Array) -> pa.Array:
    return pa.nulls(len(array), pa.string())


def _hex(array: pa.Array) -> pa.Array:
    return ("\\x" + pl.Series(array.cast(pa.large_binary())).bin.encode("hex")).to_arrow()


def _in_full(array: pa.Array) -> pa.Array:
    """Write decimals in full: pyarrow would write 1E-7."""
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
    """Return the values of a dictionary, one a row."""
    try:
        return array.dictionary.take(array.indices)
    except pa.ArrowNotImplementedError:  # of text views, which polars' categories are, and of runs
        return portable_array(array.dictionary).take(array.indices)


def _written_out(array: pa.Array) -> pa.Array:
    """Return the values of runs, one a row."""
    try:
        return pc.run_end_decode(array)
    except pa.ArrowNotImplementedError:  # of views and dictionaries
        runs = pa.RunEndEncodedArray.from_arrays(array.run_ends, portable_array(array.values))
        return pc.run_end_decode(runs.slice(array.offset, len(array)))


def _extension(array: pa.Array) -> pa.Array:
    name = array.type.extension_name
    if name == "arrow.uuid":
        return _texts(array.storage.to_pylist(), lambda value: str(UUID(bytes=value)))
    return plain(array.storage.cast(pa.bool_()) if name == "arrow.bool8" else array.storage)


def _json_extension(array: pa.Array) -> list[Any]:
    if array.type.extension_name in {"arrow.uuid", "arrow.bool8"}:
        values: list[Any] = _extension(array).to_pylist()
        return values
    return jsonable(array.storage)


def python_values(array: pa.Array) -> list[Any]:
    """Return the values of `plain` as None, bool, int, float or str."""
    if not (pa.types.is_float32(array.type) or pa.types.is_float16(array.type)):
        values: list[Any] = plain(array).to_pylist()
        return values
    # through their text: widened bit by bit, 0.1 would be 0.10000000149011612
    texts = plain(array).cast(pa.string()).to_pylist()
    return [None if text is None else float(text) for text in texts]


def _json_floats(array: pa.Array) -> list[Any]:
    """Replace NaN and the infinities, which JSON lacks, by null. RFC 8259 §6."""
    return [value if value is None or math.isfinite(value) else None for value in python_values(array)]


def _json_lists(array: pa.Array) -> list[Any]:
    return _cut_to(iter(jsonable(array.flatten())), array, list)


def _json_maps(array: pa.Array) -> list[Any]:
    """Convert maps to objects, keys to text. A map that has a key twice becomes a list of pairs."""
    keys, items = children_of(array)
    pairs = zip(map(_key, _keys(keys)), jsonable(items), strict=True)
    return _cut_to(pairs, array, _object)


def _keys(array: pa.Array) -> list[Any]:
    """Convert keys; NaN and the infinities stay, as they would be one key as nulls."""
    return python_values(array) if pa.types.is_floating(array.type) else jsonable(array)


def _key(key: Any) -> str:
    return key if isinstance(key, str) else str(key) if isinstance(key, float) else _json_line(key)


def _object(pairs: Sequence[tuple[str, Any]]) -> Any:
    """Make an object; or a list of pairs if a name occurs twice, as readers would drop all but the last."""
    found = dict(pairs)
    return found if len(found) == len(pairs) else [list(pair) for pair in pairs]


def _json_structures(array: pa.Array) -> list[Any]:
    names = [array.type.field(place).name for place in range(array.type.num_fields)]
    columns = [jsonable(column) for column in array.flatten()]
    rows: Iterable[tuple[Any, ...]] = zip(*columns, strict=True) if columns else repeat((), len(array))
    valid = array.is_valid().to_pylist()
    made = _object if _repeats_a_name(array.type) else dict
    return [made(list(zip(names, row, strict=True))) if here else None for row, here in zip(rows, valid, strict=True)]


def _json_unions(array: pa.Array) -> list[Any]:
    """Convert each value by its own type. `type_codes` and `offsets` of a slice are those of the whole array."""
    kind, buffers = array.type, array.buffers()
    codes = pa.Array.from_buffers(pa.int8(), len(array), [None, buffers[1]], offset=array.offset).to_pylist()
    places = {code: place for place, code in enumerate(kind.type_codes)}
    if kind.mode == "sparse":
        children = [iter(jsonable(array.field(place))) for place in range(kind.num_fields)]
        rows = list(zip(*children, strict=True))
        return [row[places[code]] for row, code in zip(rows, codes, strict=True)]
    offsets = pa.Array.from_buffers(pa.int32(), len(array), [None, buffers[2]], offset=array.offset)
    return _json_dense(array, [places[code] for code in codes], offsets.to_pylist())


def _json_dense(array: pa.Array, places: list[int], offsets: list[int]) -> list[Any]:
    """Convert a dense union; only the part of each child that these rows refer to is read."""
    found: list[Any] = [None] * len(offsets)
    for place in set(places):
        rows = [row for row, one in enumerate(places) if one == place]
        first, last = min(offsets[row] for row in rows), max(offsets[row] for row in rows)
        values = jsonable(array.field(place).slice(first, last - first + 1))
        for row in rows:
            found[row] = values[offsets[row] - first]
    return found


def _cut_to(items: Iterable[Any], lists: pa.Array, made: Callable[[list[Any]], Any]) -> list[Any]:
    """Return the items of all rows, which come one after the other, row by row."""
    found, rows = iter(items), zip(lengths_of(lists).to_pylist(), lists.is_valid().to_pylist(), strict=True)
    cut = ((list(islice(found, length or 0)), here) for length, here in rows)
    return [made(part) if here else None for part, here in cut]


def _any_of(*names: str) -> Callable[[pa.DataType], bool]:
    tests = [getattr(pa.types, f"is_{name}") for name in names]
    return lambda kind: any(test(kind) for test in tests)


def _is_small_decimal(kind: pa.DataType) -> bool:
    """Return whether polars accepts a decimal type."""
    return bool(pa.types.is_decimal(kind) and kind.bit_width <= 128 and kind.scale >= 0)


def _is_odd_decimal(kind: pa.DataType) -> bool:
    """Return whether Parquet lacks a decimal type, or it needs another width: polars and DuckDB have 128 bits."""
    return bool(pa.types.is_decimal(kind) and (kind.scale < 0 or (kind.bit_width != 128 and kind.precision <= 38)))


def _plain_decimal(array: pa.Array) -> pa.Array:
    """Return the decimal without a negative scale, or as text where no decimal has so many digits."""
    digits, scale = array.type.precision - min(0, array.type.scale), max(0, array.type.scale)
    if digits > MAX_DECIMAL_DIGITS:
        return plain(array)
    return array.cast(pa.decimal128(digits, scale) if digits <= 38 else pa.decimal256(digits, scale))


def _is_text_only_struct(kind: pa.DataType) -> bool:
    """Return whether a structure is empty or has a name twice: few readers open a file that has one."""
    return bool(pa.types.is_struct(kind) and (not kind.num_fields or _repeats_a_name(kind)))


def _repeats_a_name(kind: pa.DataType) -> bool:
    names = [kind.field(place).name for place in range(kind.num_fields)]
    return len(set(names)) < len(names)


def _is_empty_binary(kind: pa.DataType) -> bool:
    return bool(pa.types.is_fixed_size_binary(kind) and not kind.byte_width)


def _is_empty_list(kind: pa.DataType) -> bool:
    return bool(pa.types.is_fixed_size_list(kind) and not kind.list_size)


def _has_odd_zone(kind: pa.DataType) -> bool:
    return bool(pa.types.is_timestamp(kind) and kind.tz is not None and not times.is_known_zone(kind.tz))


def _is_in_seconds(kind: pa.DataType) -> bool:
    return bool(pa.types.is_timestamp(kind) and kind.unit == "s")


def _portable_extension(array: pa.Array) -> pa.Array:
    """Return the extension type where its storage may stay as it is; else the storage."""
    if array.type.extension_name == "arrow.bool8":
        return array.storage.cast(pa.bool_())
    return array if _portable(array.type.storage_type) is _same else portable_array(array.storage)


def _refuse(array: pa.Array) -> pa.Array:
    if not len(array):
        return array
    raise SourceFailed("a batch does not fit its types: no timestamp holds all of its values")


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
    (_any_of("run_end_encoded"), lambda array: plain(_written_out(array))),
    (_any_of("union"), _as_json),
    (_any_of("struct", "map"), _as_json),
    (_lists, _as_json),
)

_JSON: tuple[tuple[Callable[[pa.DataType], bool], JsonValues], ...] = (
    (_is_extension, _json_extension),
    (_any_of("dictionary"), lambda array: jsonable(_decoded(array))),
    (_any_of("run_end_encoded"), lambda array: jsonable(_written_out(array))),
    (_any_of("floating"), _json_floats),
    (_any_of("map"), _json_maps),
    (_any_of("struct"), _json_structures),
    (_any_of("union"), _json_unions),
    (_lists, _json_lists),
)

_PORTABLE: tuple[tuple[Callable[[pa.DataType], bool], Convert], ...] = (
    (lambda kind: isinstance(kind, ExactText), _refuse),
    (_is_extension, _portable_extension),
    (_any_of("interval", "union"), plain),
    (_is_text_only_struct, plain),
    (_any_of("string_view"), lambda array: array.cast(pa.large_string())),
    (_any_of("binary_view"), lambda array: array.cast(pa.large_binary())),
    (_is_empty_binary, lambda array: array.cast(pa.binary())),
    (_any_of("list_view", "large_list_view"), _with_portable_children),
    (_is_empty_list, _with_portable_children),
    (_any_of("run_end_encoded"), lambda array: portable_array(_written_out(array))),
    (_any_of("dictionary"), lambda array: portable_array(_decoded(array))),
    (_any_of("float16"), lambda array: array.cast(pa.float32())),
    (_any_of("date64"), lambda array: array.cast(pa.date32())),
    (_has_odd_zone, lambda array: portable_array(array.cast(pa.timestamp(array.type.unit, "UTC")))),
    (_is_in_seconds, lambda array: array.cast(pa.timestamp("ms", array.type.tz))),
    (_is_odd_decimal, _plain_decimal),
)
"""Dictionaries are written out, because batches of one export may come with different ones. Of timestamps in seconds
Parquet makes milliseconds; polars opens no file that has a zone which it does not know, an offset among them."""
