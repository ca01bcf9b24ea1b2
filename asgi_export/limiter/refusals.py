"""A cache of the refusals of a shared store, each valid until another answer is possible."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from asgi_export.limiter.sliding_window import Decision, Rule, Usage, decide


@dataclass(frozen=True, slots=True)
class _Refusal:
    rules: Sequence[Rule]
    usages: Sequence[Usage]
    asked_ns: int
    answered_ns: int
    until_ns: int


class Refusals:
    """Cache refusals, so that a client that hammers costs the store nothing.

    The cache is exact: no hit can be admitted before the oldest live one leaves a window, and remaining and reset
    change only then. Validity counts from the question, so it never lasts too long; it may end early by one round
    trip, and then the store is asked again. Waiting times count from the answer, so no `Retry-After` is too short.

    At most `max_keys` refusals are cached; the oldest is dropped first, which costs its key a round trip.
    """

    def __init__(self, max_keys: int) -> None:
        self._max_keys = max_keys
        self._by_key: dict[str, _Refusal] = {}

    def __len__(self) -> int:
        return len(self._by_key)

    def keep(self, key: str, rules: Sequence[Rule], usages: Sequence[Usage], asked_ns: int, answered_ns: int) -> None:
        """Cache a refusal; the question and the answer have these times of one clock."""
        change_ns = min([reset_ns for used, reset_ns, _ in usages if used])
        self._by_key.pop(key, None)
        if len(self._by_key) >= self._max_keys:
            del self._by_key[next(iter(self._by_key))]
        self._by_key[key] = _Refusal(rules, usages, asked_ns, answered_ns, asked_ns + change_ns)

    def find(self, key: str, rules: Sequence[Rule], now_ns: int) -> Decision | None:
        """Return the cached refusal of a hit now; None if the store must be asked, also because rules changed."""
        refusal = self._by_key.get(key)
        if refusal is None:
            return None
        if not refusal.asked_ns <= now_ns < refusal.until_ns or refusal.rules != rules:
            del self._by_key[key]
            return None
        passed_ns = max(now_ns - refusal.answered_ns, 0)
        return decide(rules, [_later(usage, passed_ns) for usage in refusal.usages])


def _later(usage: Usage, passed_ns: int) -> Usage:
    used, reset_ns, wait_ns = usage
    return used, reset_ns - passed_ns if used else 0, wait_ns - passed_ns if wait_ns else 0
