"""Rights by row, as a plan writes them: the values that a column must have for a caller.

`{"orders": {"tenant_id": "$tenant"}}` allows the rows of `orders` whose `tenant_id` is the caller's claim `tenant`,
or one of its values if the claim is a list. Any other value is a literal, or a list of literals, which means one of
them; `$$` at the start of a text stands for one `$`. If there are several columns, all must have such a value.
"""

from __future__ import annotations

from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from datetime import date, datetime, time
from decimal import Decimal

CLAIM_MARK = "$"

EXPECTED = 'text, a number, a boolean, a list of them, or a claim such as "$tenant"; $$ for a text that begins with $'

_LITERALS = (str, bool, int, float, Decimal, date, datetime, time)
_LISTS = (list, tuple, AbstractSet)


def check_rows(rows: Mapping[str, Mapping[str, object]], datasets: AbstractSet[str] | None) -> None:
    """Check the rights by row of a plan that reads `datasets`, None for all. Raises `ValueError` with the place."""
    if not isinstance(rows, Mapping):
        raise ValueError(f"rows={rows!r}: expected a table of tables")
    for dataset, columns in rows.items():
        if datasets is not None and dataset not in datasets:
            raise ValueError(f"rows.{dataset}: expected one of the plan's datasets")
        if not isinstance(columns, Mapping) or not columns:
            raise ValueError(f'rows.{dataset}={columns!r}: expected a table such as {{ tenant_id = "$tenant" }}')
        for column, value in columns.items():
            if not _is_value(value):
                raise ValueError(f"rows.{dataset}.{column}={value!r}: expected {EXPECTED}")


def _is_value(value: object) -> bool:
    if isinstance(value, _LISTS):
        return all(isinstance(item, _LITERALS) and not _is_claim(item) for item in value)
    return isinstance(value, _LITERALS) and value != CLAIM_MARK


def _is_claim(value: object) -> bool:
    return isinstance(value, str) and value.startswith(CLAIM_MARK) and not value.startswith(2 * CLAIM_MARK)


def _is_empty(item: object) -> bool:
    return item is None or (isinstance(item, str) and not item)


def allowed_values(value: object, claims: Mapping[str, object]) -> tuple[object, ...]:
    """Return the values that a right allows to a caller; none if its claim is missing or empty.

    >>> allowed_values("$tenant", {"tenant": [1, 2]}), allowed_values("$tenant", {"tenant": ""})
    ((1, 2), ())
    >>> allowed_values(["eu", "$$x"], {}), allowed_values(7, {})
    (('eu', '$x'), (7,))
    """
    if isinstance(value, str) and _is_claim(value):
        found = _items(claims.get(value.removeprefix(CLAIM_MARK)))
        return tuple([item for item in found if not _is_empty(item)])
    return tuple([_literal(item) for item in _items(value)])


def _items(value: object) -> tuple[object, ...]:
    if isinstance(value, AbstractSet):
        return tuple(sorted(value, key=repr))  # the same text of a question each time
    return tuple(value) if isinstance(value, _LISTS) else (value,)


def _literal(item: object) -> object:
    return item.removeprefix(CLAIM_MARK) if isinstance(item, str) else item
