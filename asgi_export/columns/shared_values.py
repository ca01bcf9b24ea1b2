"""Arrow columns whose rows share values, and batches of them cut by what they have once each row has its own.

Dictionaries, runs, views and list views hold a value once for any number of rows. A file of 500 KB may so say ten
gigabytes of text, which would all be made in one piece: text and the columns that every reader takes share nothing.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterator
from functools import lru_cache

import pyarrow as pa
import pyarrow.compute as pc

from asgi_export.columns.nested_arrays import is_list

MAX_BYTES = 8 * 1024 * 1024
"""What is written out at once, if it is more than one row."""

MAX_ROW_BYTES = 1024 * 1024 * 1024
"""A row that shares more than this with itself, as lists of lists may, is refused."""

MAX_TYPES = 1024
"""Types whose answer is remembered."""

FIXED_BYTES = 8
"""What every value counts, also an empty one."""


def cut(batch: pa.RecordBatch) -> Iterator[pa.RecordBatch]:
    """Return the batch in slices that come to `MAX_BYTES` when they are written out, or of one row.

    A batch that shares nothing is passed on as it is. The batch must be valid. Raises `pa.ArrowInvalid` for a row
    of more than `MAX_ROW_BYTES`.
    """
    shared = [column for column in batch.columns if shares(column.type)]
    if not shared or not batch.num_rows or _are_small(shared, MAX_BYTES // batch.num_rows):
        yield batch
        return
    sizes = _sum(list(map(_sizes, shared)))
    ends = _ends(sizes).slice(1)
    if ends[-1].as_py() <= MAX_BYTES:
        yield batch
        return
    if pc.max(sizes).as_py() > MAX_ROW_BYTES:
        raise pa.ArrowInvalid(f"a row has more than {MAX_ROW_BYTES} bytes when its shared values are written out")
    yield from _cut(batch, ends.to_pylist())


def _cut(batch: pa.RecordBatch, ends: list[int]) -> Iterator[pa.RecordBatch]:
    start, written = 0, 0
    while start < batch.num_rows:
        end = max(start + 1, bisect_right(ends, written + MAX_BYTES))
        yield batch.slice(start, end - start)
        start, written = end, ends[end - 1]


def _are_small(columns: list[pa.Array], most: int) -> bool:
    """Return whether no row has more than `most` bytes, as far as columns of text tell that in little time."""
    left = most
    for column in columns:
        text = column.dictionary if pa.types.is_dictionary(column.type) else column
        if (text is not column and len(text) > len(column)) or not _has_length(text.type):
            return False
        left -= 2 * FIXED_BYTES + (pc.max(_lengths(text)).as_py() or 0)
    return left >= 0


def shares(kind: pa.DataType) -> bool:
    """Return whether several rows of this type may share one value, at any depth."""
    if isinstance(kind, pa.BaseExtensionType):  # has no hash where Python code has defined it
        return shares(kind.storage_type)
    return _shares(kind)


@lru_cache(MAX_TYPES)
def _shares(kind: pa.DataType) -> bool:
    return _may_share(kind) or any(shares(kind.field(place).type) for place in range(kind.num_fields))


def _any_of(*names: str) -> Callable[[pa.DataType], bool]:
    tests = [getattr(pa.types, f"is_{name}") for name in names]
    return lambda kind: any(test(kind) for test in tests)


_may_share = _any_of(
    "dictionary", "run_end_encoded", "string_view", "binary_view", "list_view", "large_list_view", "union"
)


_is_view = _any_of("string_view", "binary_view")
_has_offsets = _any_of("string", "large_string", "binary", "large_binary")


def _has_length(kind: pa.DataType) -> bool:
    return _is_view(kind) or _has_offsets(kind)


def _sizes(array: pa.Array) -> pa.Array:
    """Estimate how many bytes each row has when it is written out, as `int64`."""
    sizes = next((sizes for belongs, sizes in _SIZES if belongs(array.type)), _fixed)
    return pc.add_checked(sizes(array).cast(pa.int64()).fill_null(0), FIXED_BYTES)


def _ends(sizes: pa.Array) -> pa.Array:
    """Return where each row begins in the bytes of all, and the end. Raises `pa.ArrowInvalid` past 2^63."""
    return pa.concat_arrays([pa.array([0], pa.int64()), pc.cumulative_sum_checked(sizes)])


def _sum(columns: list[pa.Array]) -> pa.Array:
    total = columns[0]
    for column in columns[1:]:
        total = pc.add_checked(total, column)
    return total


def _fixed(array: pa.Array) -> pa.Array:
    return pa.repeat(pa.scalar(0, pa.int64()), len(array))


def _lengths(array: pa.Array) -> pa.Array:
    """Return the lengths: a view is four `int32`, and the first is its length."""
    if not _is_view(array.type):
        return pc.binary_length(array)
    words = pa.Array.from_buffers(pa.int32(), 4 * len(array), [None, array.buffers()[1]], offset=4 * array.offset)
    found = words.take(_every_fourth(len(array)))
    return pc.if_else(array.is_valid(), found, 0) if array.null_count else found


@lru_cache(4)
def _every_fourth(count: int) -> pa.Array:
    """Return every fourth index; cached, as batches have one length. `list_element` takes ten times as long."""
    return pa.array(range(0, 4 * count, 4), pa.int64())


def _of_dictionary(array: pa.Array) -> pa.Array:
    """Measure a dictionary; if it is larger than the batch, only the values of text that occur are looked at."""
    values, indices = array.dictionary, array.indices
    if len(values) <= len(array) or not _has_offsets(values.type):
        return _sizes(values).take(indices)
    wide = (
        pa.int64() if pa.types.is_large_string(values.type) or pa.types.is_large_binary(values.type) else pa.int32()
    )
    ends = pa.Array.from_buffers(wide, len(values) + 1, [None, values.buffers()[1]], offset=values.offset)
    places = indices.cast(pa.int64())
    return pc.subtract(ends.take(pc.add(places, 1)), ends.take(places))


def _of_runs(array: pa.Array) -> pa.Array:
    runs = pa.RunEndEncodedArray.from_arrays(array.run_ends, _sizes(array.values))
    return pc.run_end_decode(runs.slice(array.offset, len(array)))


def _of_lists(array: pa.Array) -> pa.Array:
    """Return the items that each row points to; `values` are those of the whole array, also for a slice."""
    lengths = pc.list_value_length(array).fill_null(0).cast(pa.int64())
    starts = pc.if_else(pc.equal(lengths, 0), None, array.offsets.slice(0, len(array)).cast(pa.int64()))
    return _between(starts, pc.add(starts, lengths), [array.values])


def _of_maps(array: pa.Array) -> pa.Array:
    offsets = array.offsets.cast(pa.int64())
    return _between(offsets.slice(0, len(array)), offsets.slice(1), [array.keys, array.items])


def _between(starts: pa.Array, stops: pa.Array, children: list[pa.Array]) -> pa.Array:
    """Return the bytes of the children's items from each start to each stop; null where there is no start."""
    first, last = pc.min(starts).as_py(), pc.max(stops).as_py()
    if first is None:
        return starts
    starts, stops = pc.subtract(starts, first), pc.subtract(stops, first)
    ends = [_ends(_sizes(child.slice(first, last - first))) for child in children]
    return _sum([pc.subtract(found.take(stops), found.take(starts)) for found in ends])


def _of_fixed_lists(array: pa.Array) -> pa.Array:
    size = array.type.list_size
    starts = pa.array(range(array.offset * size, (array.offset + len(array)) * size, size or 1), pa.int64())
    return _between(starts, pc.add(starts, size), [array.values]) if size else _fixed(array)


def _of_structures(array: pa.Array) -> pa.Array:
    fields = [_sizes(array.field(place)) for place in range(array.type.num_fields)]
    return _sum([_fixed(array), *fields])


def _of_unions(array: pa.Array) -> pa.Array:
    """Measure unions. Sparse: all types together. Dense: the largest value of any, which a row may point to."""
    children = [_sizes(array.field(place)) for place in range(array.type.num_fields)]
    if array.type.mode == "sparse":
        return _sum([_fixed(array), *children])
    largest = max([0, *[pc.max(child).as_py() or 0 for child in children]])
    return pa.repeat(pa.scalar(largest, pa.int64()), len(array))


_SIZES: tuple[tuple[Callable[[pa.DataType], bool], Callable[[pa.Array], pa.Array]], ...] = (
    (lambda kind: isinstance(kind, pa.BaseExtensionType), lambda array: _sizes(array.storage)),
    (_has_length, _lengths),
    (_any_of("dictionary"), _of_dictionary),
    (_any_of("run_end_encoded"), _of_runs),
    (_any_of("map"), _of_maps),
    (_any_of("fixed_size_list"), _of_fixed_lists),
    (is_list, _of_lists),
    (_any_of("struct"), _of_structures),
    (_any_of("union"), _of_unions),
)
