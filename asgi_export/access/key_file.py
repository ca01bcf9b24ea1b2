"""The key file: TOML with plans and keys, read again when it changes.

[plans.basic]
limits = ["60/60s", "1000/1d"]
exports_at_once = 2
max_rows = 1000000
bytes_a_day = 5000000000
datasets = ["orders", "customers"]
columns = { customers = ["id", "name"] }
rows = { orders = { tenant_id = "$tenant" } }

[keys.alice]
sha256 = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"
plan = "basic"
expires = 2027-01-01T00:00:00Z
claims = { tenant = 42, regions = ["eu", "us"] }
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Mapping
from datetime import UTC, date, datetime
from datetime import time as clock_time
from math import isfinite
from pathlib import Path
from typing import Any, cast

from asgi_export.access.plans import AccessPlan, KeyRing, Owner
from asgi_export.access.row_rights import check_rows
from asgi_export.access.watched_file import WatchedFile
from asgi_export.errors import StartupError
from asgi_export.limiter.rules import parse_rules
from asgi_export.limiter.sliding_window import Rule
from asgi_export.toml_file import read_toml

_OWNER = re.compile(r"[A-Za-z0-9._@+-]{1,64}", re.ASCII)
_DIGEST = re.compile(r"[0-9a-fA-F]{64}", re.ASCII)
_BOUNDS = ("exports_at_once", "max_rows", "max_bytes", "bytes_a_day")
_PLAN_NAMES = {"limits", "datasets", "columns", "rows", *_BOUNDS}
_KEY_NAMES = {"sha256", "plan", "expires", "claims"}


class KeyFile:
    """A key ring in a file. The first read may raise `StartupError`; if a later one fails, the old keys stay.

    The file is looked at once a second at most, and read when it has changed and is no longer being written.
    """

    def __init__(
        self, path: Path, *, clock: Callable[[], float] = time.monotonic, wall_clock: Callable[[], float] = time.time
    ) -> None:
        self._file = WatchedFile(path, read_key_file, clock=clock, wall_clock=wall_clock)

    def ring(self) -> KeyRing:
        """Return the keys of the file, as of the last successful read."""
        return self._file.value()

    def find(self, key: str) -> Owner | None:
        """Find the owner of a key that is known and has not expired."""
        return self.ring().find(key)

    @property
    def plans(self) -> Mapping[str, AccessPlan]:
        """The plans of the file by name."""
        return self.ring().plans

    def reload(self) -> None:
        """Read the file now, and log the result in one line."""
        self._file.reload()


def read_key_file(path: Path) -> KeyRing:
    """Read the keys of a file. Raises `StartupError`: one line with the place, the value and what was expected."""
    document = read_toml(path)
    try:
        return _read(document)
    except ValueError as error:
        raise StartupError(f"{path}: {error}") from None


def _read(document: Mapping[str, Any]) -> KeyRing:
    _expect_names("", document, {"plans", "keys"})
    plans = {name: _plan(name, table) for name, table in _tables(document, "plans").items()}
    keys = [_key(name, table, plans) for name, table in _tables(document, "keys").items()]
    digests = [digest for digest, _ in keys]
    if len(set(digests)) != len(digests):
        raise ValueError("two owners have the same key; expected one owner a key")
    return KeyRing(keys, plans=plans)


def _tables(document: Mapping[str, Any], name: str) -> Mapping[str, Mapping[str, Any]]:
    found = document.get(name, {})
    if not isinstance(found, dict) or not all(isinstance(table, dict) for table in found.values()):
        raise ValueError(f"{name}: expected tables such as [{name}.NAME]")
    return found


def _expect_names(place: str, table: Mapping[str, Any], known: set[str]) -> None:
    unknown = sorted(table.keys() - known)
    if unknown:
        raise ValueError(f"{place}{unknown[0]}: unknown; expected {', '.join(sorted(known))}")


def _plan(name: str, table: Mapping[str, Any]) -> AccessPlan:
    place = f"plans.{name}."
    _expect_names(place, table, _PLAN_NAMES)
    columns = table.get("columns", {})
    if not isinstance(columns, dict):
        raise ValueError(f"{place}columns={columns!r}: expected a table of lists")
    datasets = _names(f"{place}datasets", table["datasets"]) if "datasets" in table else None
    bounds: dict[str, Any] = {bound: _bound(place, bound, table.get(bound)) for bound in _BOUNDS}
    return AccessPlan(
        name=name,
        rules=_rules(place, table.get("limits", [])),
        datasets=datasets,
        columns={dataset: _names(f"{place}columns.{dataset}", found) for dataset, found in columns.items()},
        rows=_rows(place, table.get("rows", {}), datasets),
        **bounds,
    )


def _rows(place: str, rows: Any, datasets: frozenset[str] | None) -> Mapping[str, Mapping[str, object]]:
    try:
        check_rows(rows, datasets)
    except ValueError as error:
        raise ValueError(f"{place}{error}") from None
    return cast("Mapping[str, Mapping[str, object]]", rows)


def _rules(place: str, limits: Any) -> tuple[Rule, ...]:
    limits = [limits] if isinstance(limits, str) else limits
    if not isinstance(limits, list) or not all(isinstance(limit, str) for limit in limits):
        raise ValueError(f'{place}limits={limits!r}: expected a list such as ["60/60s"]')
    return parse_rules(",".join(limits)) if limits else ()


def _names(place: str, names: Any) -> frozenset[str]:
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise ValueError(f"{place}={names!r}: expected a list of names")
    return frozenset(names)


def _bound(place: str, name: str, value: Any) -> int | None:
    if value is None:
        return None
    if type(value) is not int or value < 1:
        raise ValueError(f"{place}{name}={value!r}: expected a whole number from 1")
    return value


def _key(name: str, table: Mapping[str, Any], plans: Mapping[str, AccessPlan]) -> tuple[bytes, Owner]:
    place = f"keys.{name}."
    _expect_names(place, table, _KEY_NAMES)
    digest = table.get("sha256")
    if not _OWNER.fullmatch(name):
        raise ValueError(f"keys.{name}: expected an owner of 1 to 64 letters, digits and ._@+-")
    if not isinstance(digest, str) or not _DIGEST.fullmatch(digest):
        raise ValueError(f"{place}sha256: expected 64 hex digits; `asgi-export key hash` makes them")
    plan = table.get("plan")
    if not isinstance(plan, str) or plan not in plans:
        raise ValueError(f"{place}plan={plan!r}: expected a plan of this file: {', '.join(plans) or 'there is none'}")
    expires, claims = _expiry(place, table.get("expires")), _claims(place, table.get("claims", {}))
    return bytes.fromhex(digest), Owner(name, plans[plan], expires, claims)


def _claims(place: str, claims: Any) -> Mapping[str, object]:
    if not isinstance(claims, dict):
        raise ValueError(f"{place}claims={claims!r}: expected a table such as {{ tenant = 42 }}")
    for name, value in claims.items():
        items = value if isinstance(value, list) else [value]
        if not all(isinstance(item, str | int) or (isinstance(item, float) and isfinite(item)) for item in items):
            raise ValueError(f"{place}claims.{name}={value!r}: expected text, a number, a boolean, or a list of them")
    return claims


def _expiry(place: str, value: Any) -> datetime | None:
    if value is None:
        return None
    if isinstance(value, datetime):
        return value if value.tzinfo else value.replace(tzinfo=UTC)
    if isinstance(value, date):
        return datetime.combine(value, clock_time(), UTC)
    raise ValueError(f"{place}expires={value!r}: expected a date or a moment, UTC where it has no offset")
