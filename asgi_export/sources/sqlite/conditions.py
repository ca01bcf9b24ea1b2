"""Write filters as conditions of SQL for a SQLite database; `values/matching.py` is their meaning.

SQLite holds values of any storage class in any column, and converts the operands of a comparison by the affinity of
the column. So each condition has two parts. The *exact* part is written on `+column`, which has no affinity, and
looks at the storage class. The *necessary* part is written on the bare column, so that an index can serve it; it
holds wherever the exact part does, whatever the affinity. https://www.sqlite.org/datatype3.html §4.2,
https://www.sqlite.org/optoverview.html

Values are bound. What SQL cannot express (text that is not UTF-8, the many forms of a timestamp, UTF-16) is left to
functions of Python, which are called only for such values.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from math import isnan
from typing import Any, TypeAlias, cast

from asgi_export.sources.sql import after_prefix
from asgi_export.sources.sqlite.bindings import Bindings
from asgi_export.sources.sqlite.keys import clock_text, time_key, timestamp_key
from asgi_export.table import Column, Filter, Operator
from asgi_export.values.fitting import fit, int_steps, nearest_double
from asgi_export.values.literals import parse_number

Number: TypeAlias = int | float | Decimal

SIGNS: Mapping[Operator, str] = {"exact": "=", "gt": ">", "gte": ">=", "lt": "<", "lte": "<="}
NOTHING = "0"
MOST_BOUND = 4
"""Parameters for one value of a filter, at most."""

_INT64 = int_steps(64)
_MAY_BE_NUMERIC = re.compile(r"\s*[-+.0-9]")
_IN_NUMBER = re.compile(r"[-+.0-9einf]*")
_ONE_DAY = timedelta(days=1)


@dataclass(frozen=True, slots=True)
class Place:
    """Where a filter applies: a column and its quoted name.

    `stored` is true in an ordinary table, and `text_affinity` if the declared type gives it: numbers that are stored
    become text there. `indexed` is false where an index must not be used.
    """

    column: Column
    name: str
    stored: bool
    text_affinity: bool
    indexed: bool

    @property
    def holds_no_number(self) -> bool:
        """Whether no value is a number."""
        return self.stored and self.text_affinity

    @property
    def exact(self) -> str:
        """The column without affinity, compared as BINARY: by code point in a UTF-8 database."""
        return f"(+{self.name}) COLLATE BINARY"

    @property
    def bare(self) -> str:
        """The column as an index has it."""
        return f"{self.name} COLLATE BINARY"


@dataclass(frozen=True, slots=True)
class _Parts:
    exact: str
    necessary: tuple[str, ...] = ()


def condition(found: Filter, place: Place, bindings: Bindings) -> str:
    """Return the condition of SQL that holds for the values for which the filter holds."""
    if found.operator == "isnull":
        return f"{place.name} IS {'' if found.value is True else 'NOT '}NULL"
    if found.operator in ("not", "notin"):
        positive: Operator = "exact" if found.operator == "not" else "in"
        parts = _parts(Filter(found.column, positive, found.value), place, bindings)
        return f"(+{place.name} IS NOT NULL AND NOT coalesce({parts.exact}, 0))"
    parts = _parts(found, place, bindings)
    necessary = parts.necessary if place.indexed else ()
    return f"({' AND '.join([*necessary, parts.exact])})"


def _parts(found: Filter, place: Place, bindings: Bindings) -> _Parts:
    values = found.value if isinstance(found.value, tuple) else (found.value,)
    if not values:
        return _Parts(NOTHING)
    if not bindings.has_room_for(MOST_BOUND * len(values)):
        return _Parts(_by_reference(found, place, bindings))
    if found.operator in _PARTS_OF_TEXT:
        return _part_of_text(found, place, bindings)
    make = next(make for kind, make in _BY_TYPE if isinstance(values[0], kind))
    return make(found, values, place, bindings)


def _by_reference(found: Filter, place: Place, bindings: Bindings) -> str:
    """Let the reference decide; text is passed as its bytes."""
    function = bindings.reference(found, place.column)
    return (
        f"CASE typeof({place.name}) WHEN 'text' THEN {function}(CAST({place.name} AS BLOB), 1)"
        f" ELSE {function}({place.name}, 0) END"
    )


# Booleans and numbers


def _booleans(found: Filter, values: Sequence[bool], place: Place, bindings: Bindings) -> _Parts:
    """SQLite has no booleans: programs store 0 and 1, or the words."""
    both = bindings.bind_all([form for value in values for form in (int(value), "true" if value else "false")])
    return _Parts(f"{place.exact} IN ({both})", (f"{place.bare} IN ({both})",))


def _numbers(found: Filter, values: Sequence[Any], place: Place, bindings: Bindings) -> _Parts:
    if found.operator in ("exact", "in"):
        return _equal_numbers(values, place, bindings)
    return _ordered_numbers(found.operator, values[0], place, bindings)


def _equal_numbers(numbers: Sequence[Number], place: Place, bindings: Bindings) -> _Parts:
    """Compare integers with the numbers and doubles with the nearest doubles, which may be other integers."""
    finite = [number for number in numbers if not _is_nan(number)]
    whole = [found for found in map(_as_int64, finite) if found is not None]
    doubles = [double for number in finite if (double := nearest_double(number)) == number or not _is_whole(double)]
    apart = [double for number in finite if (double := nearest_double(number)) != number and _is_whole(double)]
    both, apart_bound = bindings.bind_all([*whole, *doubles]), bindings.bind_all(apart)
    exact = f"{place.exact} IN ({both})"
    if apart:
        exact = f"({exact} OR (typeof({place.name}) = 'real' AND {place.exact} IN ({apart_bound})))"
    return _Parts(exact, (f"{place.bare} IN ({', '.join(filter(None, (both, apart_bound)))})",))


def _ordered_numbers(operator: Operator, number: Number, place: Place, bindings: Bindings) -> _Parts:
    is_number = f"{place.exact} < ''"
    if _is_nan(number):  # it is greater than every other number, and SQLite holds none
        return _Parts(is_number if operator in ("lt", "lte") else NOTHING)
    double = nearest_double(number)
    if double == number or not _is_whole(double):
        compared = f"{place.exact} {SIGNS[operator]} {bindings.bind(double)}"
        return _Parts(f"({is_number} AND {compared})", _range(operator, double, double, place, bindings))
    return _ordered_apart(operator, number, double, place, bindings)


def _ordered_apart(operator: Operator, number: Number, double: float, place: Place, bindings: Bindings) -> _Parts:
    """Compare integers with the number itself where the nearest double is another integer."""
    fitted = fit(operator, number, _INT64)
    ends: list[float] = [double]
    if isinstance(fitted, bool):
        integers = str(int(fitted))
    else:
        integers = f"{place.exact} {SIGNS[fitted[0]]} {bindings.bind(fitted[1])}"
        ends.append(cast("int", fitted[1]))
    exact = (
        f"CASE typeof({place.name}) WHEN 'integer' THEN {integers}"
        f" WHEN 'real' THEN {place.exact} {SIGNS[operator]} {bindings.bind(double)} ELSE 0 END"
    )
    return _Parts(exact, () if fitted is True else _range(operator, min(ends), max(ends), place, bindings))


def _range(operator: Operator, least: float, most: float, place: Place, bindings: Bindings) -> tuple[str, ...]:
    """Return one end of a range. SQLite takes the first end that it finds, so no filter may bring another's end."""
    if operator in ("gt", "gte"):
        return (f"{place.bare} >= {bindings.bind(least)}",)
    return (f"{place.bare} <= {bindings.bind(most)}",)


def _as_int64(number: Number) -> int | None:
    fitted = fit("exact", number, _INT64)
    return None if isinstance(fitted, bool) else cast("int", fitted[1])


def _is_whole(double: float) -> bool:
    """Return whether a column of integers may hold the number: an infinity is none."""
    return double.is_integer()


def _is_nan(number: Number) -> bool:
    return isinstance(number, float) and isnan(number)


# Text


def _texts(found: Filter, values: Sequence[str], place: Place, bindings: Bindings) -> _Parts:
    if found.operator in ("exact", "in") and not (bindings.utf_16 and _changes_in_utf_16("".join(values))):
        return _equal_texts(values, place, bindings)
    if bindings.utf_16 or not _is_unicode(values[0]):
        return _Parts(_by_reference(found, place, bindings))
    return _ordered_text(found.operator, values[0], place, bindings)


def _equal_texts(values: Sequence[str], place: Place, bindings: Bindings) -> _Parts:
    """A number that is stored equals a text that is such a number."""
    texts = [value for value in values if _is_unicode(value)]
    numbers = [number for number in map(_as_number, texts) if number is not None]
    bound = bindings.bind_all(texts)
    exact = f"{place.exact} IN ({bound})"
    if numbers:
        equal = _equal_numbers(numbers, place, bindings)
        return _Parts(f"({exact} OR {equal.exact})", (f"({place.bare} IN ({bound}) OR {equal.necessary[0]})",))
    return _Parts(exact, (f"{place.bare} IN ({bound})",))


def _ordered_text(operator: Operator, text: str, place: Place, bindings: Bindings) -> _Parts:
    """Text is greater than numbers and less than bytes; text that is not UTF-8 counts as bytes."""
    sign, bound = SIGNS[operator], bindings.bind(text)
    end = f"{place.exact} < x''" if operator in ("gt", "gte") else f"{place.exact} >= ''"
    exact = f"({place.exact} {sign} {bound} AND {end} AND {bindings.is_utf_8(place.name)})"
    number = _as_number(text)
    if number is not None:
        exact = f"({exact} OR {_ordered_numbers(operator, number, place, bindings).exact})"
    converted = number is not None or _MAY_BE_NUMERIC.match(text)
    if converted and not place.holds_no_number:
        return _Parts(exact)
    if operator in ("gt", "gte") and not (place.stored or place.text_affinity):
        return _Parts(exact)  # a compound view may convert the text '5' to a number, which is less
    return _Parts(exact, (f"{place.bare} {sign} {bound}",))


def _as_number(text: str) -> Number | None:
    try:
        return parse_number(text)
    except ValueError:
        return None


def _changes_in_utf_16(text: str) -> bool:
    """Return whether SQLite binds another text instead: it takes two code points for errors."""
    return "\ufffe" in text or "\uffff" in text


def _is_unicode(text: str) -> bool:
    """Return whether text has no surrogates: such text cannot be bound, and equals none that is stored."""
    return not any("\ud800" <= character <= "\udfff" for character in text)


def _part_of_text(found: Filter, place: Place, bindings: Bindings) -> _Parts:
    """Look for bytes in bytes; in UTF-8 they are found only at characters. LIKE and substr stop at a NUL.

    A CASE calls the function for few values only; AND evaluates both sides if it is not the condition itself.
    """
    part = cast("str", found.value)
    if bindings.utf_16 or not part or not _is_unicode(part):
        return _Parts(_by_reference(found, place, bindings))
    test = _PARTS_OF_TEXT[found.operator].format(f"CAST({place.name} AS BLOB)", bindings.bind(part.encode()))
    numeric = bool(_IN_NUMBER.fullmatch(part))
    number = _by_reference(found, place, bindings) if numeric else NOTHING
    exact = (
        f"CASE typeof({place.name}) WHEN 'text' THEN CASE WHEN {test} THEN {bindings.is_utf_8(place.name)} ELSE 0 END"
        f" WHEN 'blob' THEN 0 ELSE {number} END"
    )
    return _Parts(exact, _prefix_range(part, place, bindings, numeric) if found.operator == "startswith" else ())


def _prefix_range(part: str, place: Place, bindings: Bindings, numeric: bool) -> tuple[str, ...]:
    end = after_prefix(part)
    converted = numeric or _MAY_BE_NUMERIC.match(part) or _MAY_BE_NUMERIC.match(end or "")
    if converted and not place.holds_no_number:
        return ()
    upper = "x''" if end is None else bindings.bind(end)
    return (f"{place.bare} >= {bindings.bind(part)}", f"{place.bare} < {upper}")


_PARTS_OF_TEXT: Mapping[Operator, str] = {
    "contains": "instr({0}, {1}) > 0",
    "startswith": "substr({0}, 1, length({1})) = {1}",
    "endswith": "substr({0}, -length({1})) = {1}",
}


# Dates and times


def _dates(found: Filter, values: Sequence[date], place: Place, bindings: Bindings) -> _Parts:
    """A date is text of exactly ten characters: those compare as text."""
    texts = [value.isoformat() for value in values]
    if found.operator in ("exact", "in"):
        return _Parts(*_both(f"IN ({bindings.bind_all(texts)})", place))
    compared, necessary = _both(f"{SIGNS[found.operator]} {bindings.bind(texts[0])}", place)
    valid = f"{place.exact} >= '0001-01-01' AND date({place.name}, '+0 days') = {place.exact}"
    return _Parts(f"({compared} AND {valid})", necessary)


def _both(comparison: str, place: Place) -> tuple[str, tuple[str, ...]]:
    return f"{place.exact} {comparison}", (f"{place.bare} {comparison}",)


def _timestamps(found: Filter, values: Sequence[datetime], place: Place, bindings: Bindings) -> _Parts:
    """An instant is within a day of the date that its text begins with, whatever its offset."""
    key = timestamp_key(place.name, bindings)
    days = [value.date() for value in values]
    least = (min(days) - _ONE_DAY).isoformat() if min(days) > date.min else ""
    most = (max(days) + 2 * _ONE_DAY).isoformat() if max(days) < date.max - _ONE_DAY else ":"
    texts = [clock_text(value.replace(tzinfo=None).isoformat(" ")) for value in values]
    return _by_key(found.operator, key, texts, (least, most), place, bindings)


def _times(found: Filter, values: Sequence[time], place: Place, bindings: Bindings) -> _Parts:
    """A time of day begins with its hour and minute."""
    key = time_key(place.name, bindings)
    minutes = [value.isoformat("minutes") for value in values]
    ends = min(minutes), after_prefix(max(minutes)) or ""
    texts = [clock_text(value.isoformat()) for value in values]
    return _by_key(found.operator, key, texts, ends, place, bindings)


def _by_key(
    operator: Operator, key: str, texts: Sequence[str], ends: tuple[str, str], place: Place, bindings: Bindings
) -> _Parts:
    lower = f"{place.bare} >= {bindings.bind(ends[0])}"
    upper = f"{place.bare} < {bindings.bind(ends[1])}"
    if operator in ("exact", "in"):
        return _Parts(f"{key} IN ({bindings.bind_all(texts)})", (lower, upper))
    exact = f"{key} {SIGNS[operator]} {bindings.bind(texts[0])}"
    return _Parts(exact, (lower,) if operator in ("gt", "gte") else (upper,))


# Bytes


def _bytes(found: Filter, values: Sequence[bytes], place: Place, bindings: Bindings) -> _Parts:
    """Text that is not UTF-8 counts as its bytes."""
    bound = bindings.bind_all(values)
    equality = found.operator in ("exact", "in")
    comparison = f"IN ({bound})" if equality else f"{SIGNS[found.operator]} {bound}"
    exact = (
        f"CASE typeof({place.name}) WHEN 'blob' THEN {place.exact} {comparison}"
        f" WHEN 'text' THEN {_by_reference(found, place, bindings)} ELSE 0 END"
    )
    if not equality or bindings.utf_16:
        return _Parts(exact)
    as_text = ", ".join([f"CAST({parameter} AS TEXT)" for parameter in bound.split(", ")])
    return _Parts(exact, (f"{place.bare} IN ({bound}, {as_text})",))


_Make: TypeAlias = Callable[[Filter, Sequence[Any], Place, Bindings], _Parts]

_BY_TYPE: tuple[tuple[type | tuple[type, ...], _Make], ...] = (
    (bool, _booleans),
    ((int, float, Decimal), _numbers),
    (str, _texts),
    (datetime, _timestamps),
    (date, _dates),
    (time, _times),
    (bytes, _bytes),
)
"""By the type of the filter's value; `bool` before `int`, `datetime` before `date`."""
