"""The caller: who asks, by which plan, and what is known of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

MAX_NAME_CHARACTERS = 256


@dataclass(frozen=True, slots=True)
class Caller:
    """Who makes a request: an id, the name of a plan (None if plans are not used), and claims by name.

    `id` is the key of limits and the `owner` of log lines: 1 to 256 printable characters, and the same for all
    requests of one caller; the name of a plan is printable too. `claims` are what a dataset needs to know, such as a
    tenant: text, numbers, booleans and lists of them. They are copied, and left out of `repr`, as they may be
    personal. Raises `ValueError` for another id or plan, without repeating it.

    >>> Caller("alice", claims={"tenant": 42}).claims["tenant"]
    42
    """

    id: str
    plan: str | None = None
    claims: Mapping[str, object] = field(default_factory=dict, hash=False, repr=False)

    def __post_init__(self) -> None:
        _expect_name("id", self.id)
        if self.plan is not None:
            _expect_name("plan", self.plan)
        object.__setattr__(self, "claims", MappingProxyType(dict(self.claims)))


def _expect_name(field: str, value: object) -> None:
    if not isinstance(value, str) or not 0 < len(value) <= MAX_NAME_CHARACTERS or not value.isprintable():
        raise ValueError(f"{field}: expected 1 to {MAX_NAME_CHARACTERS} printable characters")
