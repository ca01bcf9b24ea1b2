"""Limits as an operator writes them: `60/60s`, or several windows as `60/1m,1000/1d`."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import lru_cache

from asgi_export.asgi.context import Key
from asgi_export.limiter.sliding_window import NANOSECONDS, Rule

_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400}
_LIMIT = re.compile(r"([0-9]{1,15})/([0-9]{1,9})([smhd])")
_EXPECTED = "expected hits/window such as 60/60s, or several as 60/1m,1000/1d (units s, m, h, d)"


def parse_rules(text: str) -> tuple[Rule, ...]:
    """Parse limits, in order; the first is named `default`, each other one by its window.

    Blanks around a comma are dropped.

    >>> [(rule.name, rule.limit, rule.window_seconds) for rule in parse_rules("60/1m, 1000/1d")]
    [('default', 60, 60), ('1d', 1000, 86400)]

    Raises:
        ValueError: the text is no list of limits, a number is 0, or a window is given twice.
    """
    rules: list[Rule] = []
    for part in text.split(","):
        rule = _parse_rule(part.strip(), text, first=not rules)
        if any(rule.window_ns == other.window_ns for other in rules):
            raise ValueError(f"limit {text!r}: {part.strip()!r} repeats a window; expected each window once")
        rules.append(rule)
    return tuple(rules)


def _parse_rule(part: str, text: str, *, first: bool) -> Rule:
    match = _LIMIT.fullmatch(part)
    if match is None:
        raise ValueError(f"limit {text!r}: {_EXPECTED}")
    hits, count, unit = match.groups()
    if int(hits) == 0 or int(count) == 0:
        raise ValueError(f"limit {text!r}: {part!r} has a 0; expected whole numbers from 1")
    window_ns = int(count) * _SECONDS[unit] * NANOSECONDS
    return Rule(int(hits), window_ns, "default" if first else f"{int(count)}{unit}")


RULES: Key[tuple[Rule, ...]] = Key("rules")
"""The limits of this request's caller."""


@lru_cache(maxsize=256)
def describe_rules(rules: tuple[Rule, ...]) -> tuple[Mapping[str, object], ...]:
    """Describe rules as the catalogue lists them."""
    return tuple([{"name": rule.name, "limit": rule.limit, "window_seconds": rule.window_seconds} for rule in rules])
