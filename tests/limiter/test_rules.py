"""Limits as an operator writes them."""

from __future__ import annotations

import doctest

import pytest

from asgi_export.limiter import rules
from asgi_export.limiter.rules import parse_rules
from asgi_export.limiter.sliding_window import NANOSECONDS, Rule


@pytest.mark.parametrize(
    ("text", "seconds"), [("60/60s", 60), ("60/1m", 60), ("60/1h", 3600), ("60/1d", 86_400), ("60/015s", 15)]
)
def test_every_unit_is_understood(text: str, seconds: int) -> None:
    """Seconds, minutes, hours, days."""
    assert parse_rules(text) == (Rule(60, seconds * NANOSECONDS),)


def test_several_windows_have_names_of_their_own() -> None:
    """The heads tell them apart; the first keeps the name that a single one has."""
    parsed = parse_rules("5/1s, 60/60s ,1000/1d")
    assert [(rule.name, rule.limit, rule.window_seconds) for rule in parsed] == [
        ("default", 5, 1),
        ("60s", 60, 60),
        ("1d", 1000, 86_400),
    ]


@pytest.mark.parametrize(
    "text",
    ["", "60", "60/", "/60s", "60/60", "60/60x", "-1/60s", "60/60s,", "1.5/60s", "6 0/60s", "٦/60s", "1/1s\n/"],
)
def test_what_is_no_limit_is_refused_with_an_example(text: str) -> None:
    """The message says what came and what was expected."""
    with pytest.raises(ValueError, match="expected hits/window such as 60/60s") as refused:
        parse_rules(text)
    assert str(refused.value).startswith(f"limit {text!r}: ")


@pytest.mark.parametrize("text", ["0/60s", "60/0s", "60/60s,0/1d"])
def test_a_limit_of_nothing_is_refused(text: str) -> None:
    """A limit of 0 would admit nobody, and a window of 0 anybody."""
    with pytest.raises(ValueError, match="has a 0; expected whole numbers from 1"):
        parse_rules(text)


@pytest.mark.parametrize("text", ["60/60s,30/60s", "60/60s,30/1m", "1/1d,2/60s,3/24h"])
def test_a_window_given_twice_is_refused(text: str) -> None:
    """One of the two could never be reached: a slip of the pen."""
    with pytest.raises(ValueError, match="repeats a window; expected each window once"):
        parse_rules(text)


def test_the_documented_examples_hold() -> None:
    """What the docstrings show."""
    assert doctest.testmod(rules) == (0, 1)
