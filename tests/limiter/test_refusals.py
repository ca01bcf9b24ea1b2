"""A kept refusal says what the store would say, for exactly as long as it would."""

from __future__ import annotations

from asgi_export.limiter.refusals import Refusals
from asgi_export.limiter.sliding_window import NANOSECONDS, Rule, decide

RULES = (Rule(2, 9 * NANOSECONDS), Rule(5, 60 * NANOSECONDS, "long"))
USAGES = ((2, 4 * NANOSECONDS, 4 * NANOSECONDS), (3, 7 * NANOSECONDS, 0))
ASKED_NS, ANSWERED_NS = 1000, 1300


def refused(max_keys: int = 10) -> Refusals:
    refusals = Refusals(max_keys)
    refusals.keep("a", RULES, USAGES, ASKED_NS, ANSWERED_NS)
    return refusals


def test_is_what_the_store_said() -> None:
    assert refused().find("a", RULES, ANSWERED_NS) == decide(RULES, USAGES)


def test_ends_when_the_first_hit_leaves_a_window_and_not_a_moment_later() -> None:
    """Counted from the question: the store decided after it."""
    assert refused().find("a", RULES, ASKED_NS + 4 * NANOSECONDS - 1)
    assert refused().find("a", RULES, ASKED_NS + 4 * NANOSECONDS) is None


def test_ends_when_a_hit_leaves_the_window_of_a_rule_that_did_not_refuse() -> None:
    """Its `remaining` changes then."""
    refusals = Refusals(10)
    refusals.keep("a", RULES, ((2, 4 * NANOSECONDS, 4 * NANOSECONDS), (3, 2, 0)), 0, 0)
    assert refusals.find("a", RULES, 1)
    assert refusals.find("a", RULES, 2) is None


def test_waits_are_counted_from_the_answer_and_never_too_short() -> None:
    """The store may have decided as late as that."""
    refusals = refused()
    later = refusals.find("a", RULES, ASKED_NS + NANOSECONDS)
    assert later
    assert (later.retry_after_seconds, [state.reset_seconds for state in later.states]) == (4, [4, 7])
    later = refusals.find("a", RULES, ANSWERED_NS + NANOSECONDS)
    assert later
    assert (later.retry_after_seconds, [state.reset_seconds for state in later.states]) == (3, [3, 6])


def test_a_refusal_that_answers_overtook_is_shown_as_it_was() -> None:
    assert refused().find("a", RULES, ASKED_NS) == decide(RULES, USAGES)


def test_other_rules_ask_the_store_and_the_refusal_is_forgotten() -> None:
    refusals = refused()
    assert refusals.find("a", RULES[:1], ANSWERED_NS) is None
    assert refusals.find("a", RULES, ANSWERED_NS) is None


def test_a_clock_that_steps_back_asks_the_store() -> None:
    assert refused().find("a", RULES, ASKED_NS - 1) is None


def test_no_more_keys_are_kept_than_the_bound_and_the_oldest_goes() -> None:
    refusals = refused(max_keys=2)
    refusals.keep("b", RULES, USAGES, ASKED_NS, ANSWERED_NS)
    refusals.keep("a", RULES, USAGES, ASKED_NS, ANSWERED_NS)
    refusals.keep("c", RULES, USAGES, ASKED_NS, ANSWERED_NS)
    assert len(refusals) == 2
    assert [bool(refusals.find(key, RULES, ANSWERED_NS)) for key in "abc"] == [True, False, True]
