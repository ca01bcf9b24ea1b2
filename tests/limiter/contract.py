"""What every store keeps, as checks that take a factory of subjects.

The memory store, a shared store and every mutant go through the same list, `CONTRACT`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from random import Random
from typing import TypeVar

from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from asgi_export.limiter.sliding_window import NANOSECONDS, Decision, Rule
from tests.limiter.oracle import Oracle, figures
from tests.limiter.subject import MakeSubject, Subject

SHORT_NS = 2 * NANOSECONDS + NANOSECONDS // 2
LONG_NS = 3 * SHORT_NS + NANOSECONDS // 4

ONE = (Rule(1, SHORT_NS),)
THREE = (Rule(3, SHORT_NS),)
FIVE = (Rule(5, SHORT_NS),)
SLOW = (Rule(2, LONG_NS),)
PAIR = (Rule(2, SHORT_NS), Rule(4, LONG_NS, "long"))
LONGER_FIRST = (Rule(4, LONG_NS), Rule(2, SHORT_NS, "short"))
PLANS = (ONE, THREE, FIVE, SLOW, PAIR, LONGER_FIRST)

PHASES: ContextVar[Sequence[Phase]] = ContextVar("PHASES", default=(Phase.explicit, Phase.generate, Phase.shrink))

Trial = TypeVar("Trial", bound=Callable[..., None])


def _steady(trial: Trial) -> Trial:
    """Have hypothesis try the same examples each time."""
    with_settings = settings(
        max_examples=150,
        deadline=None,
        derandomize=True,
        database=None,
        suppress_health_check=list(HealthCheck),
        phases=PHASES.get(),
    )
    return with_settings(trial)


STEADY = _steady
"""In capitals as ever: hypothesis makes its choices by the source of a test, decorators included."""


@contextmanager
def unshrunk() -> Iterator[None]:
    """Let the first example that fails be enough, as for a mutant: nobody reads the smallest one."""
    token = PHASES.set((Phase.generate,))
    try:
        yield
    finally:
        PHASES.reset(token)


Move = tuple[int, int]
"""Windows and ticks to go on by."""

MOVES: tuple[Move, ...] = tuple(
    (window_ns, ticks) for window_ns in (SHORT_NS, LONG_NS, LONG_NS - SHORT_NS) for ticks in (-1, 0, 1)
)
moves = st.sampled_from([*[(0, 0)] * 12, *[(0, 1)] * 3, (NANOSECONDS, 0), *MOVES])
keys = st.sampled_from("abc")
plans = st.sampled_from(PLANS)


def step(subject: Subject, move: Move) -> int:
    """Move the clock on and tell the time."""
    window_ns, ticks = move
    subject.clock.now_ns += window_ns + ticks * subject.tick_ns
    return subject.clock.now_ns


def agrees_with_the_oracle(make: MakeSubject) -> None:
    """Every figure of every decision, for several keys under plans that change from one hit to the next."""

    @STEADY
    @given(st.lists(st.tuples(keys, plans, moves), max_size=40))
    def trial(trace: Sequence[tuple[str, tuple[Rule, ...], Move]]) -> None:
        subject, oracle = make(), Oracle()
        for key, rules, move in trace:
            now_ns = step(subject, move)
            assert figures(subject.hit(key, rules)) == oracle.hit(key, rules, now_ns)

    trial()


def agrees_with_the_oracle_over_a_long_time(make: MakeSubject) -> None:
    """A log that is filled and forgotten many times over."""
    random = Random(7)  # the same walk each time
    forty, ninety = Rule(40, SHORT_NS), Rule(90, LONG_NS, "long")
    for rules in ((forty,), (forty, ninety), (ninety, forty)):
        subject, oracle = make(), Oracle()
        for _ in range(600):
            now_ns = step(subject, (random.choice((0, SHORT_NS // 50, SHORT_NS // 30)), random.choice((0, 1))))
            assert figures(subject.hit("a", rules)) == oracle.hit("a", rules, now_ns)


def spaces_admitted_hits_and_justifies_refusals(make: MakeSubject) -> None:
    """Known from the admitted stamps alone: never more than the limit, and never refused below it."""

    @STEADY
    @given(st.sampled_from(PLANS), st.lists(moves, max_size=40))
    def trial(rules: tuple[Rule, ...], trace: Sequence[Move]) -> None:
        subject = make()
        admitted: list[int] = []
        for move in trace:
            now_ns = step(subject, move)
            if subject.hit("a", rules).allowed:
                admitted.append(now_ns)
            else:
                assert any(is_used_up(admitted, rule, now_ns) for rule in rules)
        assert_spaced(admitted, rules)

    trial()


def keeps_the_promise_of_retry_after(make: MakeSubject) -> None:
    """Who waits that long is admitted, and a whole second less would have been too little."""

    @STEADY
    @given(st.sampled_from(PLANS), st.lists(moves, min_size=4, max_size=30))
    def trial(rules: tuple[Rule, ...], trace: Sequence[Move]) -> None:
        subject = make()
        for move in trace:
            step(subject, move)
            if not (decision := subject.hit("a", rules)).allowed:
                wait_ns = decision.retry_after_seconds * NANOSECONDS
                step(subject, (wait_ns - NANOSECONDS, 0))
                assert not subject.hit("a", rules).allowed
                step(subject, (NANOSECONDS, 0))
                assert subject.hit("a", rules).allowed

    trial()


def leaves_the_store_as_it_was_when_it_refuses(make: MakeSubject) -> None:
    """A refused hit is not counted, prolongs nothing, and cleans nothing up."""
    for rules in PLANS:
        subject = make()
        for key in "ab":
            while subject.hit(key, rules).allowed:
                pass
        before = subject.snapshot()
        for ticks in (0, 1, 1):
            step(subject, (0, ticks))
            assert not subject.hit("a", rules).allowed
            assert subject.snapshot() == before


def frees_a_place_after_exactly_one_window(make: MakeSubject) -> None:
    """Occupied in [t, t + W), free at t + W."""
    for rules in (ONE, (Rule(1, SHORT_NS), Rule(9, LONG_NS, "long"))):
        subject = make()
        assert subject.hit("a", rules).allowed
        step(subject, (SHORT_NS, -1))
        assert not subject.hit("a", rules).allowed
        step(subject, (0, 1))
        assert subject.hit("a", rules).allowed


def holds_the_limit_when_the_clock_steps_back(make: MakeSubject) -> None:
    """The newest stamp is now until the clock has caught up."""
    subject = make()
    assert subject.hit("a", THREE).allowed
    step(subject, (NANOSECONDS, 0))
    assert subject.hit("a", THREE).allowed
    step(subject, (-LONG_NS, 0))
    assert figures(subject.hit("a", THREE)) == (True, ((THREE[0], 0, 2),), 0)
    assert figures(subject.hit("a", THREE)) == (False, ((THREE[0], 0, 2),), 2)
    step(subject, (LONG_NS - NANOSECONDS + SHORT_NS, -1))
    assert not subject.hit("a", THREE).allowed
    step(subject, (0, 1))
    assert [subject.hit("a", THREE).allowed for _ in range(2)] == [True, False]
    step(subject, (NANOSECONDS, -1))
    assert not subject.hit("a", THREE).allowed
    step(subject, (0, 1))
    assert [subject.hit("a", THREE).allowed for _ in range(3)] == [True, True, False]


def obeys_a_changed_limit_at_once(make: MakeSubject) -> None:
    """Limits travel with the call: a lowered one refuses until enough hits have left, a raised one admits."""
    subject = make()
    for _ in range(5):
        assert subject.hit("a", FIVE).allowed
        step(subject, (NANOSECONDS // 4, 0))
    assert figures(subject.hit("a", ONE)) == (False, ((ONE[0], 0, 2),), 3)
    assert figures(subject.hit("a", (Rule(7, SHORT_NS),)))[1][0][1:] == (1, 2)


def takes_several_rules_as_one_decision(make: MakeSubject) -> None:
    """All or nothing: a hit that one rule refuses counts for none, and the latest refusing rule says when."""
    subject = make()
    both = (Rule(1, SHORT_NS), Rule(2, LONG_NS, "long"))
    assert subject.hit("a", both).allowed
    decision = subject.hit("a", both)
    assert (decision.allowed, remaining(decision), decision.retry_after_seconds) == (False, [0, 1], 3)
    step(subject, (SHORT_NS, 0))
    assert subject.hit("a", both).allowed
    decision = subject.hit("a", both)
    assert (decision.allowed, remaining(decision), decision.retry_after_seconds) == (False, [0, 0], 6)
    step(subject, (SHORT_NS, 0))
    decision = subject.hit("a", both)
    assert (decision.allowed, remaining(decision), decision.retry_after_seconds) == (False, [1, 0], 3)
    assert [state.reset_seconds for state in decision.states] == [1, 3]


def remembers_for_the_longest_window_wherever_it_stands(make: MakeSubject) -> None:
    """The order of the rules says nothing but in which order the figures come."""
    rare, often = Rule(1, LONG_NS, "rare"), Rule(9, SHORT_NS, "often")
    for rules in ((rare, often), (often, rare)):
        subject = make()
        assert subject.hit("a", rules).allowed
        step(subject, (LONG_NS, -1))
        decision = subject.hit("a", rules)
        assert (decision.allowed, decision.retry_after_seconds) == (False, 1)
        assert [(state.rule, state.remaining) for state in decision.states] == [
            (rule, 9 * (rule is often)) for rule in rules
        ]
        step(subject, (0, 1))
        assert subject.hit("a", rules).allowed


def forgets_what_has_left_the_longest_window(make: MakeSubject) -> None:
    """By the rules of the last admitted hit: a longer window that comes later does not find it again."""
    subject = make()
    for move in ((0, 0), (SHORT_NS, -1), (0, 1)):
        step(subject, move)
        assert subject.hit("a", THREE).allowed
    decision = subject.hit("a", (Rule(3, LONG_NS),))
    assert (decision.allowed, remaining(decision)) == (True, [0])


def admits_everything_without_rules(make: MakeSubject) -> None:
    """A plan without limits."""
    subject = make()
    before = subject.snapshot()
    assert figures(subject.hit("a", ())) == (True, (), 0)
    assert subject.snapshot() == before


def takes_any_text_as_a_key(make: MakeSubject) -> None:
    """Keys come from outside."""
    subject = make()
    for key in ("", "\0", "ключ", "\ud800", "k" * 10_000):
        assert [subject.hit(key, ONE).allowed for _ in range(2)] == [True, False]


def remaining(decision: Decision) -> list[int]:
    return [state.remaining for state in decision.states]


def is_used_up(admitted: Iterable[int], rule: Rule, now_ns: int) -> bool:
    return sum(now_ns - rule.window_ns < stamp for stamp in admitted) >= rule.limit


def assert_spaced(admitted: Sequence[int], rules: Sequence[Rule]) -> None:
    """The invariant: of `limit` + 1 admitted hits in a row the last is a window after the first."""
    for rule in rules:
        for first, last in zip(admitted, admitted[rule.limit :], strict=False):
            assert last - first >= rule.window_ns


CONTRACT: tuple[Callable[[MakeSubject], None], ...] = (
    frees_a_place_after_exactly_one_window,
    takes_several_rules_as_one_decision,
    remembers_for_the_longest_window_wherever_it_stands,
    forgets_what_has_left_the_longest_window,
    obeys_a_changed_limit_at_once,
    holds_the_limit_when_the_clock_steps_back,
    leaves_the_store_as_it_was_when_it_refuses,
    admits_everything_without_rules,
    takes_any_text_as_a_key,
    agrees_with_the_oracle_over_a_long_time,
    agrees_with_the_oracle,
    spaces_admitted_hits_and_justifies_refusals,
    keeps_the_promise_of_retry_after,
)
