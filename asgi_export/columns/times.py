"""Write dates, times and durations like `isoformat`, for every unit and zone that Arrow has.

Seconds have no fraction, or six digits, or nine if nanoseconds need them. The cast of pyarrow does the work, four
times as fast as a format string. The table of time zones is that of polars, as pyarrow needs one on the machine.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import timedelta
from functools import lru_cache

import polars as pl
import pyarrow as pa
import pyarrow.compute as pc

from asgi_export.columns import far

UTC_NAMES = frozenset({"UTC", "Etc/UTC", "GMT", "Etc/GMT", "Zulu", "Z", "utc"})
_OFFSET = re.compile(r"([+-])(\d\d):?(\d\d)")

UNITS = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}
"""Parts of a second."""

DAY_SECONDS = 86_400
FAR_SECONDS = 900_000_000_000
"""Some 28,000 years from 1970: beyond it neither pyarrow nor polars have text."""

_COARSER = {"us": "s", "ns": "us"}
_TEXT_WIDTH = {"s": 19, "us": 26, "ns": 29}
_TIME_TYPES = {"s": pa.time32("s"), "us": pa.time64("us")}


def date_text(array: pa.Array) -> pa.Array:
    """Write `2024-02-29`; a date of milliseconds that is no whole day is a timestamp."""
    if pa.types.is_date64(array.type):
        return _date64_text(array.cast(pa.int64()))
    if _lies_within(array, -FAR_SECONDS // DAY_SECONDS, FAR_SECONDS // DAY_SECONDS):
        return array.cast(pa.string())
    return _each(array, far.date_text)


def _date64_text(milliseconds: pa.Array) -> pa.Array:
    day = DAY_SECONDS * 1000
    days = pc.divide(milliseconds, day)
    if pc.any(pc.not_equal(pc.multiply(days, day), milliseconds)).as_py():
        return timestamp_text(milliseconds.cast(pa.timestamp("ms")))
    if _lies_within(days, -FAR_SECONDS // DAY_SECONDS, FAR_SECONDS // DAY_SECONDS):
        return days.cast(pa.int32()).cast(pa.date32()).cast(pa.string())
    return _each(days, far.date_text)


def time_text(array: pa.Array) -> pa.Array:
    """Write `23:59:59`, `23:59:59.000001`."""
    unit = UNITS[array.type.unit]
    if not _lies_within(array, 0, DAY_SECONDS * unit - 1):
        return _each(array, lambda value: far.time_text(value, unit))
    return _iso(array.cast(pa.time64("us")) if array.type.unit == "ms" else array)


def timestamp_text(array: pa.Array) -> pa.Array:
    """Write `2024-02-29T23:59:59`; a zoned one is local time with its offset: `2024-02-29T23:59:59+01:00`."""
    zone, unit = array.type.tz, UNITS[array.type.unit]
    if not _is_near(array, unit):
        end = "" if zone is None else "+00:00"
        return _each(array, lambda value: far.moment_text(value, unit) + end)
    if zone is None:
        return _iso(_without_milliseconds(array))
    utc = _without_milliseconds(array.cast(pa.timestamp(array.type.unit)))
    local, offsets = _local(utc, zone)
    return pc.binary_join_element_wise(_iso(local), offsets, "")


def duration_text(array: pa.Array) -> pa.Array:
    """Write `P1DT2H0.5S`: days and smaller units, the sign in front."""
    unit = UNITS[array.type.unit]
    if not _is_near(array, unit):
        return _each(array, lambda value: far.duration_text(value, unit))
    return pl.Series(array).dt.to_string("iso").to_arrow()


def _is_near(array: pa.Array, unit: int) -> bool:
    """Return whether pyarrow and polars can write the value; a zone's offset needs room in 64 bits."""
    bound = min(FAR_SECONDS * unit, 2**63 - 2 * DAY_SECONDS * unit)
    return _lies_within(array, -bound, bound)


def _lies_within(array: pa.Array, low: int, high: int) -> bool:
    found = pc.min_max(array.cast(pa.int32() if array.type.bit_width == 32 else pa.int64())).as_py()
    return found["min"] is None or (low <= found["min"] and found["max"] <= high)


def _each(array: pa.Array, text: Callable[[int], str]) -> pa.Array:
    """Write values one by one that pyarrow and polars cannot write, or write wrongly."""
    values = array.cast(pa.int32() if array.type.bit_width == 32 else pa.int64()).to_pylist()
    return pa.array([None if value is None else text(value) for value in values], pa.string())


@lru_cache(1024)
def is_known_zone(zone: str) -> bool:
    """Return whether polars knows a time zone by this name; of offsets it knows none."""
    if not zone:
        return False
    try:
        pl.Series([0]).cast(pl.Datetime("us", "UTC")).dt.convert_time_zone(zone)
    except pl.exceptions.ComputeError:
        return False
    return zone in {"UTC", "GMT"} or "/" in zone


def interval_text(array: pa.Array) -> pa.Array:
    """Write `P1Y2M3DT4H`: months, days and seconds each with their own sign, as ISO 8601-2 §4.4.1 allows."""
    return pa.array([None if value is None else _interval(*value) for value in array.to_pylist()], pa.string())


def _interval(months: int, days: int, nanoseconds: int) -> str:
    years, months = _split(months, 12)
    minutes, rest = _split(nanoseconds, 60 * 10**9)
    hours, minutes = _split(minutes, 60)
    seconds = _seconds(rest)
    day = "".join([f"{n}{unit}" for n, unit in ((years, "Y"), (months, "M"), (days, "D")) if n])
    clock = "".join([f"{n}{unit}" for n, unit in ((hours, "H"), (minutes, "M"), (seconds, "S")) if n])
    return f"P{day}{'T' if clock else ''}{clock}" if day or clock else "PT0S"


def _split(number: int, size: int) -> tuple[int, int]:
    """Return quotient and remainder with the sign of the number."""
    quotient, remainder = divmod(abs(number), size)
    return (-quotient, -remainder) if number < 0 else (quotient, remainder)


def _seconds(nanoseconds: int) -> str:
    whole, fraction = divmod(abs(nanoseconds), 10**9)
    text = f"{whole}.{fraction:09d}".rstrip("0").rstrip(".")
    return ("-" if nanoseconds < 0 else "") + text if nanoseconds else ""


def _without_milliseconds(array: pa.Array) -> pa.Array:
    return array.cast(pa.timestamp("us")) if array.type.unit == "ms" else array


def _local(utc: pa.Array, zone: str) -> tuple[pa.Array, pa.Array]:
    """Return local times without a zone, and the text of their offsets from UTC, which may be one for all."""
    if zone in UTC_NAMES:
        return utc, pa.scalar("+00:00")
    match = _OFFSET.fullmatch(zone)
    if match:
        sign, hours, minutes = match.groups()
        offset = timedelta(hours=int(hours), minutes=int(minutes)) * (-1 if sign == "-" else 1)
        return pc.add(utc, pa.scalar(offset, pa.duration(utc.type.unit))), pa.scalar(offset_text(offset))
    return _local_in_named_zone(utc, zone)


def _local_in_named_zone(utc: pa.Array, zone: str) -> tuple[pa.Array, pa.Array]:
    series = pl.Series(utc)
    try:
        zoned = series.dt.replace_time_zone("UTC").dt.convert_time_zone(zone)
    except pl.exceptions.ComputeError:  # an unknown zone: the moment in UTC is known all the same
        return utc, pa.scalar("+00:00")
    local = zoned.dt.replace_time_zone(None)
    offsets = (local - series).dt.total_seconds()
    texts = {seconds: offset_text(timedelta(seconds=seconds)) for seconds in offsets.unique().drop_nulls()}
    return (
        local.to_arrow().cast(utc.type),
        offsets.replace_strict(texts, return_dtype=pl.String).to_arrow().cast(pa.string()),
    )


def offset_text(offset: timedelta) -> str:
    """Write an offset from UTC as `isoformat` does.

    >>> offset_text(timedelta(hours=-3, minutes=-30)), offset_text(timedelta(seconds=3208))
    ('-03:30', '+00:53:28')
    """
    sign = "-" if offset < timedelta(0) else "+"
    minutes, seconds = divmod(int(abs(offset).total_seconds()), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{sign}{hours:02d}:{minutes:02d}" + (f":{seconds:02d}" if seconds else "")


def _iso(array: pa.Array) -> pa.Array:
    """Return the text of times or of timestamps without a zone, in the coarsest unit that holds each value."""
    unit = _COARSER.get(array.type.unit)
    if unit is None:
        return _text(array)
    kind = pa.timestamp(unit) if pa.types.is_timestamp(array.type) else _TIME_TYPES[unit]
    coarse = array.cast(kind, safe=False)
    fits = pc.equal(coarse.cast(array.type), array)
    if pc.all(fits).as_py():  # nulls do not count, and nothing is all
        return _iso(coarse)
    if not pc.any(fits).as_py():
        return _text(array)
    return pc.if_else(fits, _iso(coarse), _text(array))


def _text(array: pa.Array) -> pa.Array:
    text = array.cast(pa.string())
    return _with_t(text, _TEXT_WIDTH[array.type.unit]) if pa.types.is_timestamp(array.type) else text


def _with_t(text: pa.Array, width: int) -> pa.Array:
    """Replace the blank between date and time by `T`; in one step if all texts have the same width."""
    count = len(text) - text.null_count
    if pc.sum(pc.binary_length(text)).as_py() != count * width:  # years before 1 or after 9999, or none at all
        return pc.replace_substring(text, " ", "T", max_replacements=1)
    validity, places, characters = text.buffers()
    changed = bytearray(memoryview(characters)[: count * width])
    changed[10::width] = b"T" * count
    return pa.StringArray.from_buffers(len(text), places, pa.py_buffer(changed), validity, text.null_count)
