"""The caller: who asks, by which plan, and what is known of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

MAX_ID_CHARACTERS = 256


@dataclass(frozen=True, slots=True)
class Caller:
    """Who makes a request: an id, the name of a plan (None if plans are not used), and claims by name.

    `id` is the key of limits and the `owner` of log lines: 1 to 256 printable characters, and the same for all
    requests of one caller. `claims` are what a dataset needs to know, such as a tenant: text, numbers, booleans and
    lists of them. They are copied, and left out of `repr`, as they may be personal. Raises `ValueError` for another
    id.

    >>> Caller("alice", claims={"tenant": 42}).claims["tenant"]
    42
    """

    id: str
    plan: str | None = None
    claims: Mapping[str, object] = field(default_factory=dict, hash=False, repr=False)

    def __post_init__(self) -> None:
        if not isinstance(self.id, str) or not is_caller_id(self.id):
            raise ValueError(f"id: expected 1 to {MAX_ID_CHARACTERS} printable characters")
        object.__setattr__(self, "claims", MappingProxyType(dict(self.claims)))


def is_caller_id(text: str) -> bool:
    """Return whether a text can be the id of a caller."""
    return 0 < len(text) <= MAX_ID_CHARACTERS and text.isprintable()
