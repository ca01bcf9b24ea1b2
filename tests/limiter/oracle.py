"""The sliding window by brute force: what every store has to agree with."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from math import ceil

from asgi_export.limiter.sliding_window import Decision, Rule

Figures = tuple[bool, tuple[tuple[Rule, int, int], ...], int]


class Oracle:
    """A list of stamps a key, counted anew for each question; waiting times are found by trying each moment."""

    def __init__(self) -> None:
        self._logs: dict[str, tuple[list[int], int]] = {}

    def hit(self, key: str, rules: Sequence[Rule], now_ns: int) -> Figures:
        """What a store has to answer to a hit at that moment, which is not before the one before."""
        stamps, expires_ns = self._logs.get(key, ([], 0))
        stamps = stamps if expires_ns > now_ns else []
        moments = sorted({now_ns} | {stamp + rule.window_ns for stamp in stamps for rule in rules})
        passing = [moment for moment in moments if moment >= now_ns and _passes(stamps, rules, moment)]
        if allowed := passing[0] == now_ns:
            longest_ns = max(rule.window_ns for rule in rules)
            stamps = [*(stamp for stamp in stamps if stamp > now_ns - longest_ns), now_ns]
            self._logs[key] = stamps, now_ns + longest_ns
        return allowed, tuple(_state(stamps, rule, now_ns) for rule in rules), _seconds(passing[0] - now_ns)


def figures(decision: Decision) -> Figures:
    """The decision as plain tuples."""
    states = tuple((state.rule, state.remaining, state.reset_seconds) for state in decision.states)
    return decision.allowed, states, decision.retry_after_seconds


def _live(stamps: Sequence[int], rule: Rule, now_ns: int) -> list[int]:
    return [stamp for stamp in stamps if stamp <= now_ns < stamp + rule.window_ns]


def _passes(stamps: Sequence[int], rules: Sequence[Rule], now_ns: int) -> bool:
    return all(len(_live(stamps, rule, now_ns)) < rule.limit for rule in rules)


def _state(stamps: Sequence[int], rule: Rule, now_ns: int) -> tuple[Rule, int, int]:
    live = _live(stamps, rule, now_ns)
    reset_ns = min(live) + rule.window_ns - now_ns if live else 1
    return rule, max(rule.limit - len(live), 0), _seconds(reset_ns)


def _seconds(nanoseconds: int) -> int:
    return ceil(Fraction(nanoseconds, 1_000_000_000))
