"""Find the kinds of text columns, so that the numbers and dates of a CSV file are filtered as such.

The values stay the text that they are. A column is of a kind if all values of the sample have its form; a number with
a leading zero, as in a postal code, has none. A later value of another form equals no value of that kind.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import pyarrow as pa
import pyarrow.compute as pc

from asgi_export.declared import Kind

_CLOCK = r"[0-9]{2}:[0-9]{2}(:[0-9]{2}(\.[0-9]+)?)?"
_DAY = r"[0-9]{4}-[0-9]{2}-[0-9]{2}"

FORMS: Mapping[Kind, str] = {
    "number": r"^-?(0|[1-9][0-9]*)(\.[0-9]+)?([eE][+-]?[0-9]+)?$",
    "boolean": "^(true|false)$",
    "date": f"^{_DAY}$",
    "time": f"^{_CLOCK}$",
    "timestamp": rf"^{_DAY}[T ]{_CLOCK}(Z|[+-][0-9]{{2}}(:?[0-9]{{2}})?)?$",
}


def kinds_of(batches: Iterable[pa.RecordBatch]) -> dict[str, Kind]:
    """Return the kinds of the text columns that have values; "text" for those of no other kind."""
    found: dict[str, Kind] = {}
    for batch in batches:
        for name, column in zip(batch.schema.names, batch.columns, strict=True):
            if column.null_count < len(column):
                found[name] = _common(found.get(name), _kind_of(column))
    return found


def common_kinds(samples: Iterable[Mapping[str, Kind]]) -> dict[str, Kind]:
    """Return the kinds that columns have in all samples; "text" where they differ."""
    found: dict[str, Kind] = {}
    for sample in samples:
        for name, kind in sample.items():
            found[name] = _common(found.get(name), kind)
    return found


def _common(one: Kind | None, other: Kind) -> Kind:
    return other if one in (None, other) else "text"


def _kind_of(column: pa.Array) -> Kind:
    values = column.drop_null()
    return next((kind for kind, form in FORMS.items() if _all_match(values, form)), "text")


def _all_match(values: pa.Array, form: str) -> bool:
    return bool(pc.all(pc.match_substring_regex(values, form)).as_py())
