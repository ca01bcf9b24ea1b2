"""Timestamps of Parquet's INT96, as Spark, Impala and Hive write them: days and the nanoseconds of a day.

pyarrow reads them as nanoseconds in 64 bits, which wrap around outside of 1677 to 2262, or as seconds, which do not.
Both together give the exact value: the wrap does not change the fraction of a second.

A batch's timestamps have microseconds where these hold them all (years -290,000 to 290,000), else nanoseconds where
these do. Where neither does, as with nanoseconds beside a year 9999, they are `ExactText`: CSV and NDJSON have every
value, and a typed format refuses the batch.
"""

from __future__ import annotations

import pyarrow as pa
import pyarrow.compute as pc

from asgi_export.columns.exact_text import ExactText
from asgi_export.columns.nested_arrays import children_of, with_children

MICROSECOND_RANGE = 9_223_372_036_000
NANOSECOND_RANGE = 9_223_372_036
"""Seconds from 1970 that the smaller unit holds whatever their fraction."""

TEXT_RANGE = 970_000_000_000
"""Seconds from 1970 for which pyarrow has text: some 30,000 years."""


def exact_moments(nanoseconds: pa.Array, seconds: pa.Array) -> pa.Array:
    """Combine one column that was read in both units; timestamps may be nested at any depth.

    Raises `pa.ArrowInvalid` if a value is none, or lies too far away.
    """
    if nanoseconds.type == seconds.type:
        return nanoseconds
    if pa.types.is_timestamp(nanoseconds.type):
        return _exact(nanoseconds, seconds)
    pairs = zip(children_of(nanoseconds), children_of(seconds), strict=True)
    return with_children(nanoseconds, [exact_moments(*pair) for pair in pairs])


def _exact(nanoseconds: pa.Array, seconds: pa.Array) -> pa.Array:
    whole = seconds.cast(pa.int64())
    fraction = pc.subtract(nanoseconds.cast(pa.int64()), pc.multiply(whole, 10**9))  # both wrap around alike
    micros = pc.divide(fraction, 1000)
    has_nanoseconds = pc.any(pc.not_equal(pc.multiply(micros, 1000), fraction)).as_py()
    if _lies_within(fraction, 0, 10**9 - 1):
        if not has_nanoseconds and _lies_within(whole, -MICROSECOND_RANGE, MICROSECOND_RANGE):
            return pc.add(pc.multiply(whole, 10**6), micros).cast(pa.timestamp("us"))
        if _lies_within(whole, -NANOSECOND_RANGE, NANOSECOND_RANGE - 1):
            return nanoseconds
        if _lies_within(whole, -TEXT_RANGE, TEXT_RANGE):
            return _text(seconds, fraction)
    raise pa.ArrowInvalid("an INT96 timestamp is none, or lies tens of thousands of years away")


def _lies_within(array: pa.Array, low: int, high: int) -> bool:
    found = pc.min_max(array).as_py()
    return found["min"] is None or (low <= found["min"] and found["max"] <= high)


def _text(seconds: pa.Array, fraction: pa.Array) -> pa.Array:
    """Write ISO 8601 as for timestamps: without a fraction, or with six or nine digits."""
    digits = pc.utf8_lpad(fraction.cast(pa.string()), 9, "0")
    is_whole, is_micro = pc.equal(fraction, 0), pc.ends_with(digits, "000")
    shown = pc.if_else(is_micro, pc.utf8_slice_codeunits(digits, 0, 6), digits)
    ends = pc.if_else(is_whole, "", pc.binary_join_element_wise("", shown, "."))
    days = pc.replace_substring(seconds.cast(pa.string()), " ", "T", max_replacements=1)
    return pa.ExtensionArray.from_storage(ExactText(), pc.binary_join_element_wise(days, ends, ""))


def differ_in_units_only(kind: pa.DataType, other: pa.DataType) -> bool:
    """Return whether values of both types are the same, but for how finely timestamps are told, at any depth."""
    if pa.types.is_timestamp(other) and (isinstance(kind, ExactText) or pa.types.is_timestamp(kind)):
        return isinstance(kind, ExactText) or kind.tz == other.tz
    if kind == other or not kind.num_fields or kind.num_fields != other.num_fields or kind.id != other.id:
        return bool(kind == other)
    pairs = [(kind.field(place), other.field(place)) for place in range(kind.num_fields)]
    named_alike = not pa.types.is_struct(kind) or all(one.name == two.name for one, two in pairs)
    return named_alike and all(differ_in_units_only(one.type, two.type) for one, two in pairs)
