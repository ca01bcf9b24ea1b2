"""Traces of leases that end, on two instances and on the oracle alike, by the clock of the server."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

from hypothesis import given
from hypothesis import strategies as st

from tests.limiter.contract import STEADY
from tests.limiter.lease_oracle import LeaseOracle
from tests.limiter.lease_subject import INSTANCES, LIFE_SECONDS, RedisLeaseSubject
from tests.limiter.redis_subject import EPOCH_NS

LIFE_US = LIFE_SECONDS * 1_000_000

MakeSubject: TypeAlias = Callable[[], RedisLeaseSubject]

instances = st.integers(0, INSTANCES - 1)
keys = st.sampled_from("ab")
limits = st.sampled_from([1, 2, 3])
numbers = st.integers(0, 9)
moves = st.sampled_from([0, 1, LIFE_US // 3, LIFE_US - 1, LIFE_US, LIFE_US + 1])
steps = st.one_of(
    st.tuples(st.just("take"), instances, keys, limits),
    st.tuples(st.just("take"), instances, keys, limits),
    st.tuples(st.just("take_again"), numbers),
    st.tuples(st.just("give_back"), numbers),
    st.tuples(st.just("renew"), instances),
    st.tuples(st.just("advance"), moves),
    st.tuples(st.just("kill"), instances),
)


class Trial:
    """One trace; each of its steps is a method."""

    def __init__(self, subject: RedisLeaseSubject) -> None:
        self._subject = subject
        self._oracle = LeaseOracle(LIFE_US, INSTANCES)
        self._now = EPOCH_NS // 1000
        self._ever: list[tuple[int, str, str]] = []

    def take(self, place: int, key: str, limit: int) -> None:
        lease = self._subject.take_at(place, key, limit)
        assert (lease is not None) == self._oracle.room(key, limit, self._now)
        if lease is not None:
            self._oracle.took(place, key, limit, lease, self._now)
            self._ever.append((place, key, lease))

    def take_again(self, number: int) -> None:
        """As when the answer was lost."""
        if self._ever:
            place, _, lease = self._ever[number % len(self._ever)]
            counted = self._subject.take_again(place, lease)
            assert counted in (None, self._oracle.took_again(place, lease, self._now))

    def give_back(self, number: int) -> None:
        if self._ever:
            place, key, lease = self._ever[number % len(self._ever)]
            self._subject.give_back(key, lease)
            self._oracle.gave_back(place, lease)

    def renew(self, place: int) -> None:
        self._subject.renew(place)
        self._oracle.renewed(place, self._now)

    def advance(self, microseconds: int) -> None:
        self._now += microseconds
        self._subject.advance(microseconds)

    def kill(self, place: int) -> None:
        self._subject.instances[place]._running.clear()
        self._oracle.killed(place)


def agrees_with_the_oracle(make: MakeSubject) -> None:
    """Instances that renew, that do not, and that are killed; by the microsecond."""

    @STEADY
    @given(st.lists(steps, max_size=40))
    def trial(trace: Sequence[tuple[Any, ...]]) -> None:
        tried = Trial(make())
        for what, *words in trace:
            getattr(tried, what)(*words)

    trial()


def keeps_no_lease_that_has_ended(make: MakeSubject) -> None:
    """A key that is always busy must not grow for ever."""
    subject = make()
    for number in range(1, 10):
        assert subject.take("k", 9)
        subject.advance(LIFE_US // 2)
        (redis_key,) = subject.client.keys("ax:*}:leases")
        assert subject.client.zcard(redis_key) == min(number, 2)


def renews_only_what_lives(make: MakeSubject) -> None:
    """Another has the place: who renews too late is not counted, and takes nothing away."""
    subject = make()
    assert subject.take_at(0, "k", 1)
    subject.advance(LIFE_US)
    assert subject.take_at(1, "k", 1)
    (redis_key,) = subject.client.keys("ax:*}:leases")
    held = subject.client.zrange(redis_key, 0, -1, withscores=True)
    subject.renew(0)
    assert subject.client.zrange(redis_key, 0, -1, withscores=True) == held


def names(subject: RedisLeaseSubject) -> list[bytes]:
    """The leases of all keys, as Redis calls them."""
    return [name for key in subject.client.keys("ax:*}:leases") for name in subject.client.zrange(key, 0, -1)]


def ends_a_life_after_it_was_taken(make: MakeSubject) -> None:
    """To the microsecond; alone, and beside one that was taken a microsecond later."""
    for later in (False, True):
        subject = make()
        assert subject.take("k", 1)
        subject.advance(1)
        assert not later or subject.take("k", 2)
        subject.advance(LIFE_US - 2)
        assert subject.take("k", 2 if later else 1) is None
        subject.advance(1)
        assert subject.take("k", 2 if later else 1)


def ends_a_life_after_it_was_renewed(make: MakeSubject) -> None:
    """Under the same name, however late it was renewed."""
    subject = make()
    assert subject.take_at(0, "k", 9)
    assert subject.take_at(0, "k", 9)
    held = names(subject)
    subject.advance(LIFE_US - 1)
    subject.renew(0)
    assert names(subject) == held
    subject.advance(LIFE_US - 1)
    assert subject.take_at(1, "k", 2) is None
    subject.advance(1)
    assert subject.take_at(1, "k", 1)


def is_free_when_it_is_given_back(make: MakeSubject) -> None:
    """At once, and for any instance."""
    subject = make()
    lease = subject.take_at(0, "k", 1)
    subject.give_back("k", str(lease))
    assert names(subject) == []
    assert subject.take_at(1, "k", 1)


def begins_anew_what_has_ended(make: MakeSubject) -> None:
    """Where there is room, under another name."""
    subject = make()
    assert subject.take_at(0, "k", 1)
    held = names(subject)
    subject.advance(LIFE_US)
    subject.renew(0)
    assert subject.take_at(1, "k", 1) is None
    assert not set(held) & set(names(subject))


def counts_nothing_that_has_ended_while_there_is_no_room(make: MakeSubject) -> None:
    """Neither when it is renewed just too late, nor when it is asked for again."""
    for again in (False, True):
        subject = make()
        lease = subject.take_at(0, "k", 1)
        assert lease
        assert subject.take_again(0, lease)
        subject.advance(1)
        assert subject.take_at(1, "k", 2)
        held = names(subject)
        subject.advance(LIFE_US - 1)
        if again:
            assert not subject.take_again(0, lease)
        else:
            subject.renew(0)
            assert len(set(held) & set(names(subject))) == len(names(subject)) == 1


LEASE_CONTRACT = (
    ends_a_life_after_it_was_taken,
    ends_a_life_after_it_was_renewed,
    is_free_when_it_is_given_back,
    begins_anew_what_has_ended,
    counts_nothing_that_has_ended_while_there_is_no_room,
    keeps_no_lease_that_has_ended,
    renews_only_what_lives,
    agrees_with_the_oracle,
)
"""What is quickest to find an error comes first."""
