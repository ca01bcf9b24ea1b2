"""API keys, their owners, and the plans of owners.

Only the SHA-256 digest of a key is stored. Keys are random and long, so they cannot be guessed from a plain digest,
and no slow hash is needed. A `KeyRing` never changes; a changed key file makes a new one.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Protocol

from asgi_export.access.row_rights import check_rows
from asgi_export.caller import Caller
from asgi_export.limiter.sliding_window import Rule

KEY_BYTES = 32
_INDEX_BYTES = 4
"""Keys are looked up by so many bytes of their digest; the whole digests are compared in constant time."""


@dataclass(frozen=True, slots=True)
class AccessPlan:
    """The bounds and rights of the keys of a plan; None is no bound.

    `rules` are request limits; without any the service's own apply. `exports_at_once` bounds the running exports of a
    key in all processes that share the leases. `max_rows` and `max_bytes` (before compression) bound one export;
    `bytes_a_day` (as sent) bounds all exports of a key in any 24 hours. `datasets` are the names that may be read;
    `columns` narrows the columns of a dataset, and `rows` its rows, to those whose columns have the given values;
    `"$tenant"` is the caller's claim of that name. Raises `ValueError` for rights by row that cannot be read.

    >>> AccessPlan("basic", rows={"orders": {"tenant_id": "$tenant", "state": ["paid", "open"]}}).name
    'basic'
    """

    name: str
    rules: tuple[Rule, ...] = ()
    exports_at_once: int | None = None
    max_rows: int | None = None
    max_bytes: int | None = None
    bytes_a_day: int | None = None
    datasets: frozenset[str] | None = None
    columns: Mapping[str, frozenset[str]] = field(default_factory=dict)
    rows: Mapping[str, Mapping[str, object]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        check_rows(self.rows, self.datasets)

    def within(self, *, max_rows: int | None, max_bytes: int | None) -> AccessPlan:
        """Narrow the plan to general bounds: the smaller of two counts."""
        if max_rows is None and max_bytes is None:
            return self
        return replace(
            self, max_rows=_smaller(self.max_rows, max_rows), max_bytes=_smaller(self.max_bytes, max_bytes)
        )

    def reads(self, dataset: str) -> bool:
        """Return whether the plan may read the dataset."""
        return self.datasets is None or dataset in self.datasets

    def reads_column(self, dataset: str, column: str) -> bool:
        """Return whether the plan may read this column of a dataset that it may read."""
        allowed = self.columns.get(dataset)
        return allowed is None or column in allowed


def _smaller(one: int | None, other: int | None) -> int | None:
    return other if one is None else one if other is None else min(one, other)


OPEN = AccessPlan("open")
"""The plan of every caller if no keys are configured."""


@dataclass(frozen=True, slots=True)
class Owner:
    """The owner of a key: a name, a plan, an expiry (None is never), and the claims that datasets see.

    `caller` is the owner as a `Caller`. Raises `ValueError` for a name that no caller can have.
    """

    name: str
    plan: AccessPlan
    expires: datetime | None = None
    claims: Mapping[str, object] = field(default_factory=dict, hash=False, repr=False)
    caller: Caller = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "caller", Caller(self.name, self.plan.name, self.claims))

    def expired(self, now: datetime) -> bool:
        return self.expires is not None and self.expires <= now


class Keys(Protocol):
    """Find the owners of keys, and plans by name; `reload` reads them again, if they come from a file."""

    @property
    def plans(self) -> Mapping[str, AccessPlan]: ...

    def find(self, key: str) -> Owner | None: ...
    def reload(self) -> None: ...


class KeyRing:
    """Owners by the digest of their key (`digest_of`); an owner may have several keys.

    `plans` are for callers who come with a token and not with a key.
    """

    def __init__(
        self, keys: Iterable[tuple[bytes, Owner]] = (), *, plans: Mapping[str, AccessPlan] | None = None
    ) -> None:
        self.plans: Mapping[str, AccessPlan] = dict(plans or {})
        self._found: dict[bytes, list[tuple[bytes, Owner]]] = {}
        for digest, owner in keys:
            self._found.setdefault(digest[:_INDEX_BYTES], []).append((digest, owner))

    def reload(self) -> None:
        """Do nothing: a ring does not change."""

    def __len__(self) -> int:
        return sum(map(len, self._found.values()))

    def __str__(self) -> str:
        return f"{len(self)} keys"

    def find(self, key: str, *, now: datetime | None = None) -> Owner | None:
        """Find the owner of a key that is known and has not expired."""
        digest = digest_of(key)
        for known, owner in self._found.get(digest[:_INDEX_BYTES], ()):
            if hmac.compare_digest(known, digest):
                return None if owner.expired(now or datetime.now(UTC)) else owner
        return None


def digest_of(key: str) -> bytes:
    """Return the SHA-256 of the key's UTF-8."""
    return hashlib.sha256(key.encode("utf-8", "surrogatepass")).digest()


def new_key() -> str:
    """Make a key of 256 random bits, safe in URLs and headers."""
    return f"ax_{secrets.token_urlsafe(KEY_BYTES)}"
