"""Who may do what: API keys, their owners, and the plans that say what an owner gets.

A key is known by its SHA-256 digest only: keys are random and long, so a plain digest gives nothing away and there
is nothing to slow down. What is read from a key file is frozen; a changed file is a new `KeyRing`.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Protocol

from asgi_export.limiter.sliding_window import Rule

KEY_BYTES = 32
_INDEX_BYTES = 4
"""Keys are looked up by so many bytes of their digest, and compared in constant time from there."""


@dataclass(frozen=True, slots=True)
class AccessPlan:
    """What the keys of a plan get; None is no bound.

    `rules` are their request limits, none for the service's own. `exports_at_once` are those of a key in all
    processes that share the leases, `max_rows` and `max_bytes` (before compression) bound one export, `bytes_a_day`
    (as sent) all that a key exports in any 24 hours. `datasets` are the names that may be read; `columns` those of a
    dataset, where not all of them may.
    """

    name: str
    rules: tuple[Rule, ...] = ()
    exports_at_once: int | None = None
    max_rows: int | None = None
    max_bytes: int | None = None
    bytes_a_day: int | None = None
    datasets: frozenset[str] | None = None
    columns: Mapping[str, frozenset[str]] = field(default_factory=dict)

    def within(self, *, max_rows: int | None, max_bytes: int | None) -> AccessPlan:
        """The same plan under bounds that hold for everybody: the smaller of two is the one that counts."""
        if max_rows is None and max_bytes is None:
            return self
        return replace(
            self, max_rows=_smaller(self.max_rows, max_rows), max_bytes=_smaller(self.max_bytes, max_bytes)
        )

    def reads(self, dataset: str) -> bool:
        """Whether the plan may read any of the dataset."""
        return self.datasets is None or dataset in self.datasets

    def reads_column(self, dataset: str, column: str) -> bool:
        """Whether the plan may read this column of a dataset that it may read."""
        allowed = self.columns.get(dataset)
        return allowed is None or column in allowed


def _smaller(one: int | None, other: int | None) -> int | None:
    return other if one is None else one if other is None else min(one, other)


OPEN = AccessPlan("open")
"""What everybody gets where no keys are configured."""


@dataclass(frozen=True, slots=True)
class Owner:
    """The owner of a key: a name that is safe in logs, a plan, and until when (None is for ever)."""

    name: str
    plan: AccessPlan
    expires: datetime | None = None

    def expired(self, now: datetime) -> bool:
        return self.expires is not None and self.expires <= now


class Keys(Protocol):
    """What knows the owners of keys; `reload` reads them again where they come from somewhere."""

    def find(self, key: str) -> Owner | None: ...
    def reload(self) -> None: ...


class KeyRing:
    """Owners by the digest of their key (`digest_of`); an owner may have several keys."""

    def __init__(self, keys: Iterable[tuple[bytes, Owner]] = ()) -> None:
        self._found: dict[bytes, list[tuple[bytes, Owner]]] = {}
        for digest, owner in keys:
            self._found.setdefault(digest[:_INDEX_BYTES], []).append((digest, owner))

    def reload(self) -> None:
        """Nothing: a ring does not change."""

    def __len__(self) -> int:
        return sum(map(len, self._found.values()))

    def find(self, key: str, *, now: datetime | None = None) -> Owner | None:
        """The owner of a key that is known and has not expired."""
        digest = digest_of(key)
        for known, owner in self._found.get(digest[:_INDEX_BYTES], ()):
            if hmac.compare_digest(known, digest):
                return None if owner.expired(now or datetime.now(UTC)) else owner
        return None


def digest_of(key: str) -> bytes:
    """SHA-256 of the key's UTF-8."""
    return hashlib.sha256(key.encode("utf-8", "surrogatepass")).digest()


def new_key() -> str:
    """A fresh key: 256 random bits, safe in URLs and headers."""
    return f"ax_{secrets.token_urlsafe(KEY_BYTES)}"
