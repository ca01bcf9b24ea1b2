"""What a full memory store keeps, as checks that take a factory of subjects; the mutants go through them too."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from typing import Protocol

from hypothesis import given
from hypothesis import strategies as st

from asgi_export.limiter.sliding_window import NANOSECONDS, Rule
from tests.limiter.contract import (
    FIVE,
    LONG_NS,
    ONE,
    PAIR,
    SHORT_NS,
    SLOW,
    STEADY,
    THREE,
    Move,
    assert_spaced,
    moves,
    step,
)
from tests.limiter.oracle import figures
from tests.limiter.subject import MemorySubject

BY_KEY = {"a": THREE, "b": PAIR, "c": ONE, "d": SLOW, "e": THREE, "f": THREE, "g": PAIR, "h": FIVE}


class MakeMemorySubject(Protocol):
    """A factory of subjects with so many places."""

    def __call__(self, *, max_keys: int, overflow_windows: int = 1) -> MemorySubject: ...


def admits_a_newcomer_to_a_full_store(make: MakeMemorySubject) -> None:
    """Nobody is refused only because he came late; the counter tells the operator."""
    subject = make(max_keys=2, overflow_windows=256)
    for key in "ab":
        assert subject.hit(key, ONE).allowed
    assert subject.store.overflow_hits == 0
    assert subject.hit("c", ONE).allowed
    assert not subject.hit("c", ONE).allowed
    assert (subject.store.overflow_hits, subject.store.keys) == (1, 2)


def never_forgets_a_live_key(make: MakeMemorySubject) -> None:
    """However many newcomers come: who has used his limit stays refused for his window."""
    subject = make(max_keys=2)
    for move in ((0, 0), (SHORT_NS, -1), (0, 2)):
        step(subject, move)
        subject.hit("a", FIVE)
    assert subject.hit("b", ONE).allowed
    for number in range(300):
        subject.hit(f"newcomer {number}", FIVE)
    assert [subject.hit("a", FIVE).allowed for _ in range(4)] == [True, True, True, False]
    assert not subject.hit("b", ONE).allowed


def never_admits_more_than_the_limit(make: MakeMemorySubject) -> None:
    """Whoever shares, leaves and comes back, under plans of different windows; and the places stay bounded."""

    @STEADY
    @given(st.integers(1, 3), st.integers(1, 2), st.lists(st.tuples(st.sampled_from("abcdefgh"), moves), max_size=60))
    def trial(max_keys: int, overflow_windows: int, trace: Sequence[tuple[str, Move]]) -> None:
        subject = make(max_keys=max_keys, overflow_windows=overflow_windows)
        admitted: defaultdict[str, list[int]] = defaultdict(list)
        for key, move in trace:
            now_ns = step(subject, move)
            if subject.hit(key, BY_KEY[key]).allowed:
                admitted[key].append(now_ns)
            assert subject.store.keys <= max_keys
        for key, stamps in admitted.items():
            assert_spaced(stamps, BY_KEY[key])

    trial()


def takes_shared_hits_along_to_a_place(make: MakeMemorySubject) -> None:
    """A key that gets a place of its own does not start anew."""
    subject = make(max_keys=1)
    subject.hit("a", THREE)
    step(subject, (0, 1))
    assert subject.hit("b", THREE).allowed
    step(subject, (SHORT_NS, -2))
    assert subject.hit("b", THREE).allowed
    step(subject, (0, 1))
    assert figures(subject.hit("b", THREE)) == (True, ((THREE[0], 0, 1),), 0)
    assert (subject.store.overflow_hits, subject.store.keys) == (2, 1)
    assert not subject.hit("b", THREE).allowed
    step(subject, (0, 1))
    assert not subject.hit("b", THREE).allowed
    step(subject, (SHORT_NS, -2))
    assert [subject.hit("b", THREE).allowed for _ in range(3)] == [True, True, False]


def shares_no_longer_than_it_must(make: MakeMemorySubject) -> None:
    """One window after the pressure has gone every key is alone again, though all of them kept coming."""
    subject = make(max_keys=4)
    for key in "abcd":
        subject.hit(key, SLOW)
    for key in "efgh":
        subject.hit(key, (Rule(100, LONG_NS),))
    step(subject, (LONG_NS, -1))
    for key in "efgh":
        assert subject.hit(key, (Rule(100, LONG_NS),)).allowed
    assert subject.store.overflow_hits == 8
    step(subject, (0, 1))
    for _ in range(2):
        for key in "efgh":
            assert subject.hit(key, (Rule(100, LONG_NS),)).allowed
        step(subject, (LONG_NS, -1))
    for key in "efgh":
        assert subject.hit(key, (Rule(100, LONG_NS),)).states[0].remaining == 98
    assert subject.store.overflow_hits == 8


def gives_the_place_of_a_dead_key_to_a_newcomer(make: MakeMemorySubject) -> None:
    """Whatever the order in which windows end: a key of a day in front does not hold up those of a second."""
    subject = make(max_keys=3)
    subject.hit("a day", (Rule(1, 86_400 * NANOSECONDS),))
    subject.hit("a second", (Rule(1, NANOSECONDS),))
    subject.hit("an hour", (Rule(1, 3600 * NANOSECONDS),))
    step(subject, (NANOSECONDS, 0))
    subject.hit("newcomer", (Rule(1, NANOSECONDS),))
    assert (subject.store.overflow_hits, subject.store.keys) == (0, 3)
    assert not subject.hit("a day", (Rule(1, 86_400 * NANOSECONDS),)).allowed
    assert not subject.hit("an hour", (Rule(1, 3600 * NANOSECONDS),)).allowed


def leaves_a_full_store_as_it_was_when_it_refuses(make: MakeMemorySubject) -> None:
    """A refused newcomer clears nothing away, though a place has come free."""
    subject = make(max_keys=1)
    subject.hit("a", THREE)
    step(subject, (0, 1))
    while subject.hit("b", THREE).allowed:
        pass
    step(subject, (SHORT_NS, -1))
    before = subject.snapshot()
    assert not subject.hit("b", THREE).allowed
    assert not subject.hit("c", THREE).allowed
    assert subject.snapshot() == before
    step(subject, (0, 1))
    assert figures(subject.hit("c", THREE)) == (True, ((THREE[0], 2, 3),), 0)


def keeps_shared_windows_of_different_lengths_apart(make: MakeMemorySubject) -> None:
    """Hits under a short window do not make a long one forget."""
    subject = make(max_keys=1)
    subject.hit("a", (Rule(1, 2 * LONG_NS),))
    for _ in range(2):
        assert subject.hit("b", SLOW).allowed
    step(subject, (SHORT_NS, 0))
    assert subject.hit("c", ONE).allowed
    assert not subject.hit("b", SLOW).allowed


OVERFLOW: tuple[Callable[[MakeMemorySubject], None], ...] = (
    admits_a_newcomer_to_a_full_store,
    never_forgets_a_live_key,
    takes_shared_hits_along_to_a_place,
    shares_no_longer_than_it_must,
    gives_the_place_of_a_dead_key_to_a_newcomer,
    leaves_a_full_store_as_it_was_when_it_refuses,
    keeps_shared_windows_of_different_lengths_apart,
    never_admits_more_than_the_limit,
)
