"""Refusals of a shared store, kept until the moment at which another answer is possible."""

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
    """What the store has refused, so that a client that hammers costs it nothing.

    Exact: nobody's hit can be admitted before the oldest live one leaves a window, and figures change only then. The
    store decided after it was asked, so what is kept never lasts too long; it may end early by one round trip,
    and then the store is asked again. Figures count from the answer, so that no `Retry-After` is too short.

    At most `max_keys` are kept; the oldest goes first, which costs its key a round trip.
    """

    def __init__(self, max_keys: int) -> None:
        self._max_keys = max_keys
        self._kept: dict[str, _Refusal] = {}

    def __len__(self) -> int:
        return len(self._kept)

    def keep(self, key: str, rules: Sequence[Rule], usages: Sequence[Usage], asked_ns: int, answered_ns: int) -> None:
        """Keep a refusal that was asked for and answered at these moments of one clock."""
        change_ns = min([reset_ns for used, reset_ns, _ in usages if used])
        self._kept.pop(key, None)
        if len(self._kept) >= self._max_keys:
            del self._kept[next(iter(self._kept))]
        self._kept[key] = _Refusal(rules, usages, asked_ns, answered_ns, asked_ns + change_ns)

    def find(self, key: str, rules: Sequence[Rule], now_ns: int) -> Decision | None:
        """The refusal of a hit of that key now, or None where the store has to be asked: the rules count too."""
        refusal = self._kept.get(key)
        if refusal is None:
            return None
        if not refusal.asked_ns <= now_ns < refusal.until_ns or refusal.rules != rules:
            del self._kept[key]
            return None
        passed_ns = max(now_ns - refusal.answered_ns, 0)
        return decide(rules, [_later(usage, passed_ns) for usage in refusal.usages])


def _later(usage: Usage, passed_ns: int) -> Usage:
    used, reset_ns, wait_ns = usage
    return used, reset_ns - passed_ns if used else 0, wait_ns - passed_ns if wait_ns else 0
