"""Nested Arrow arrays taken apart and put together again, so that what lies within can be changed."""

from __future__ import annotations

from collections.abc import Sequence

import pyarrow as pa
import pyarrow.compute as pc


def is_list(kind: pa.DataType) -> bool:
    """Return whether the type is any kind of list; a map is none."""
    types = pa.types
    plain = types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind)
    return bool(plain or types.is_list_view(kind) or types.is_large_list_view(kind))


def children_of(array: pa.Array) -> list[pa.Array]:
    """Return the arrays within a list, map (keys, values) or structure: only what its own rows hold.

    A list without a value holds nothing, but for those of fixed size; what lies below a structure or a map without
    a value stays, and `lengths_of` counts it.
    """
    kind = array.type
    if _is_fixed(kind):
        return [array.values.slice(array.offset * kind.list_size, len(array) * kind.list_size)]
    if is_list(kind):
        return [array.flatten()]
    if pa.types.is_map(kind):
        first, last = _ends(array)
        return [array.keys.slice(first, last - first), array.items.slice(first, last - first)]
    return [array.field(place) for place in range(kind.num_fields)] if pa.types.is_struct(kind) else []


def with_children(array: pa.Array, children: Sequence[pa.Array]) -> pa.Array:
    """Return the array with other children, as many and as long as those of `children_of`.

    List views become lists, and so do lists of no values, over which pyarrow ends the process.
    """
    kind, mask = array.type, array.is_null() if array.null_count else None
    if pa.types.is_struct(kind):
        fields = [kind.field(place).with_type(child.type) for place, child in enumerate(children)]
        return pa.StructArray.from_arrays(children, fields=fields, mask=mask)
    if _is_fixed(kind):
        made = pa.list_(kind.value_field.with_type(children[0].type), kind.list_size)
        return pa.FixedSizeListArray.from_arrays(children[0], type=made, mask=mask)
    if pa.types.is_map(kind):
        made = pa.map_(kind.key_field.with_type(children[0].type), kind.item_field.with_type(children[1].type))
        return pa.MapArray.from_arrays(_offsets(array).cast(pa.int32()), *children, type=made, mask=mask)
    field = kind.value_field.with_type(children[0].type)
    if not _is_large(kind):
        offsets = _offsets(array).cast(pa.int32())
        return pa.ListArray.from_arrays(offsets, children[0], type=pa.list_(field), mask=mask)
    return pa.LargeListArray.from_arrays(_offsets(array), children[0], type=pa.large_list(field), mask=mask)


def _is_fixed(kind: pa.DataType) -> bool:
    return bool(pa.types.is_fixed_size_list(kind) and kind.list_size)


def _is_large(kind: pa.DataType) -> bool:
    return bool(pa.types.is_large_list(kind) or pa.types.is_large_list_view(kind) or pa.types.is_list_view(kind))


def lengths_of(array: pa.Array) -> pa.Array:
    """Return how many items of `children_of` each row of a list or map has; null where a list has no value."""
    if pa.types.is_map(array.type):
        offsets = array.offsets
        return pc.subtract(offsets.slice(1), offsets.slice(0, len(array)))
    return pc.list_value_length(array)


def _ends(array: pa.Array) -> tuple[int, int]:
    offsets = array.offsets
    return offsets[0].as_py(), offsets[-1].as_py()


def _offsets(array: pa.Array) -> pa.Array:
    lengths = lengths_of(array).fill_null(0).cast(pa.int64())
    return pa.concat_arrays([pa.array([0], pa.int64()), pc.cumulative_sum(lengths)])
