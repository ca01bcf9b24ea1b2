"""The arithmetic of the sliding window, without a store."""

from __future__ import annotations

from array import array

import pytest
from hypothesis import given
from hypothesis import strategies as st

from asgi_export.limiter.hit_log import InheritedStamps
from asgi_export.limiter.sliding_window import NANOSECONDS, Rule, decide, judge, longest_window_ns, usage


def test_a_window_is_told_in_whole_seconds_rounded_up() -> None:
    """A client that waits for the window it was told has waited long enough."""
    windows = [1, NANOSECONDS, NANOSECONDS + 1, 60 * NANOSECONDS]
    assert [Rule(1, window_ns).window_seconds for window_ns in windows] == [1, 1, 2, 60]


@pytest.mark.parametrize(
    ("limit", "window_ns", "name", "message"),
    [
        (0, 1, "a", "limit=0: expected a whole number from 1"),
        (10**15, 1, "a", "limit=1000000000000000: expected a whole number from 1 to 999999999999999"),
        (1, 0, "a", "window_ns=0: expected a whole number of nanoseconds from 1"),
        (1, 10**25, "a", "window_ns=10000000000000000000000000: expected"),
        (1, 1, 'a"b', "name='a\"b': expected printable ASCII"),
        (1, 1, "a\\b", "expected printable ASCII without quote and backslash"),
        (1, 1, "a\nb", "expected printable ASCII"),
        (1, 1, "schön", "expected printable ASCII"),
    ],
)
def test_a_rule_that_no_head_can_carry_is_refused(limit: int, window_ns: int, name: str, message: str) -> None:
    """Structured fields know integers of 15 digits and strings of printable ASCII."""
    with pytest.raises(ValueError) as refused:  # noqa: PT011  # the message is looked at below, as plain text
        Rule(limit, window_ns, name)
    assert message in str(refused.value)


def test_the_longest_window_is_found_wherever_it_stands() -> None:
    """How long a hit is to be remembered."""
    rules = [Rule(1, 5), Rule(1, 9), Rule(1, 7)]
    assert longest_window_ns(rules) == 9
    assert longest_window_ns(rules[:1]) == 5


@given(
    st.lists(st.integers(0, 40), max_size=12).map(sorted),
    st.integers(0, 12),
    st.integers(40, 60),
    st.integers(1, 14),
    st.sampled_from([1, 20, 60]),
)
def test_one_rule_is_judged_like_several(stamps: list[int], first: int, now: int, limit: int, window: int) -> None:
    """The short way for one rule gives the figures of the long one."""
    unit = NANOSECONDS // 3
    log = array("q", [stamp * unit for stamp in stamps])
    rule = Rule(limit, window * unit)
    first = min(first, len(log))
    while first and log[first - 1] > now * unit - rule.window_ns:
        first -= 1  # what is forgotten has left the window
    one = judge(log, first, now * unit, [rule])
    assert one == decide([rule], [usage(log, first, now * unit, rule)])


@given(
    st.integers(0, 5),
    st.lists(st.integers(10, 20), max_size=5).map(sorted),
    st.integers(0, 11),
    st.integers(0, 11),
)
def test_inherited_stamps_read_like_a_plain_log(count: int, own: list[int], start: int, again: int) -> None:
    """Length, both kinds of index, a cut from the front, a cut of the rest, and an append."""
    plain = [*[10] * count, *own]
    stamps = InheritedStamps(count, 10, array("q", own))
    assert [stamps[index] for index in range(-len(plain), len(plain))] == [*plain, *plain]
    rest = stamps[start:][again:]
    rest.append(99)
    assert [rest[index] for index in range(len(rest))] == [*plain[start:][again:], 99]


def test_a_log_is_plain_again_once_the_inherited_hits_are_cut_off() -> None:
    """What was shared costs nothing once it has left."""
    stamps = InheritedStamps(3, 10, array("q", [11, 12]))
    assert stamps[3:] == array("q", [11, 12])
    assert isinstance(stamps[2:], InheritedStamps)
