"""Rights by row as filters: a caller sees rows that its plan allows, and nothing tells what others there are.

They come before the filters of the request, in which they are neither shown nor counted, and need no right to read
their columns. A value that a column cannot have allows no row.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import suppress
from datetime import date, time
from decimal import Decimal
from uuid import UUID

from asgi_export.access.plans import AccessPlan
from asgi_export.access.row_rights import allowed_values
from asgi_export.caller import Caller
from asgi_export.errors import Forbidden
from asgi_export.export.filters import operators_of
from asgi_export.export.parameters import shown
from asgi_export.table import Column, Dataset, Filter, Scalar
from asgi_export.values.literals import PARSERS
from asgi_export.values.python import to_python
from asgi_export.values.text import text_of

logger = logging.getLogger("asgi_export")

MAX_VALUES = 10_000
"""The values of all rights to one dataset, as a statement of SQLite may have 32,766 with those of the request."""

_READABLE = (str, bool, int, float, Decimal, date, time, UUID)
"""Types of values that are read by their text; a `datetime` is a `date`."""


def row_filters(dataset: Dataset, access: AccessPlan, caller: Caller | None) -> tuple[Filter, ...]:
    """Return the filters that hold for every row that `access` allows to the caller.

    Raises `Forbidden` if a column of a right is not there, and if a caller has more than `MAX_VALUES` values.
    """
    rights = access.rows.get(dataset.name)
    if not rights:
        return ()
    columns = {column.name: column for column in dataset.columns}
    if unknown := [name for name in rights if name not in columns]:
        raise _refused(dataset, access, f"there is no column {unknown[0]!r}")
    claims = caller.claims if caller else {}
    allowed = {name: allowed_values(value, claims) for name, value in rights.items()}
    if sum(map(len, allowed.values())) > MAX_VALUES:
        raise _refused(dataset, access, f"a caller has more than {MAX_VALUES} values")
    return tuple([_filter(columns[name], values) for name, values in allowed.items()])


def _refused(dataset: Dataset, access: AccessPlan, reason: str) -> Forbidden:
    """Log why the rights cannot be applied, and make the error, which does not name their columns."""
    logger.error("plan %s: rows of %s: %s; nobody may read it by this plan", access.name, dataset.name, reason)
    return Forbidden(f"dataset={shown(dataset.name)}: this key may not read it now; the log has the reason")


def _filter(column: Column, values: tuple[object, ...]) -> Filter:
    read = tuple(dict.fromkeys(_read(column, values)))
    return Filter(column.name, "exact", read[0]) if len(read) == 1 else Filter(column.name, "in", read)


def _read(column: Column, values: tuple[object, ...]) -> Iterator[Scalar]:
    """Yield those of the values that the column can have, exactly: text by its kind, other values by their text."""
    if "in" not in operators_of(column):
        return
    for value in map(to_python, values):
        if isinstance(value, _READABLE):
            with suppress(ValueError):  # of another kind, or text that UTF-8 cannot hold
                yield _read_value(column, str(text_of(value)))


def _read_value(column: Column, text: str) -> Scalar:
    text.encode()
    return PARSERS[column.kind](text)
