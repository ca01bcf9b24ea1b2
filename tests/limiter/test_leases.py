"""What all leases keep: a key never has more than its limit, and has a place again as soon as one is given back."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.limiter.contract import STEADY
from tests.limiter.lease_subject import MakeLeases, MemoryLeaseSubject, redis_leases
from tests.redis_server import RedisServer

keys = st.sampled_from("abc")
limits = st.sampled_from([1, 2, 2, 3, 5])
steps = st.one_of(st.tuples(keys, limits), st.integers(0, 9))
"""A key that takes under a limit, or which of the leases so far is given back, again and again perhaps."""


@pytest.fixture(params=["memory", "redis"])
def make(request: pytest.FixtureRequest) -> Iterator[MakeLeases]:
    if request.param == "memory":
        yield MemoryLeaseSubject
        return
    server: RedisServer = request.getfixturevalue("empty_redis")
    with redis_leases(server) as make_leases:
        yield make_leases


def test_agrees_with_a_count_of_what_is_held(make: MakeLeases) -> None:
    """For several keys, under limits that change, with leases that are given back twice and late."""

    @STEADY
    @given(st.lists(steps, max_size=40))
    def trial(trace: Sequence[tuple[str, int] | int]) -> None:
        subject = make()
        ever: list[tuple[str, str]] = []
        held: set[tuple[str, str]] = set()
        for step in trace:
            if isinstance(step, tuple):
                key, limit = step
                lease = subject.take(key, limit)
                assert (lease is not None) == (sum(holder == key for holder, _ in held) < limit)
                if lease is not None:
                    ever.append((key, lease))
                    held.add((key, lease))
            elif ever:
                given_back = ever[step % len(ever)]
                subject.give_back(*given_back)
                held.discard(given_back)

    trial()


def test_each_lease_has_a_name_of_its_own(make: MakeLeases) -> None:
    subject = make()
    leases = [subject.take(key, 9) for key in "aabb"]
    subject.give_back("a", str(leases[0]))
    assert len({*leases, subject.take("a", 9)}) == 5


def test_a_lease_that_was_never_taken_is_given_back_in_vain(make: MakeLeases) -> None:
    subject = make()
    assert subject.take("a", 1)
    for stranger in ("0:99", "1:99", "0:", "1:somebody"):
        subject.give_back("a", stranger)
        subject.give_back("b", stranger)
    assert subject.take("a", 1) is None
    assert subject.take("b", 1)


def test_a_lowered_limit_takes_no_lease_away(make: MakeLeases) -> None:
    """Nobody new gets in until enough have ended."""
    subject = make()
    leases = [subject.take("a", 3) for _ in range(3)]
    assert subject.take("a", 2) is None
    subject.give_back("a", str(leases[0]))
    assert subject.take("a", 2) is None
    subject.give_back("a", str(leases[1]))
    assert subject.take("a", 2)


@pytest.mark.parametrize("key", ["", "k" * 100_000, "a}b{c", "\ud800", "line\r\nend", "ключ"])
def test_any_string_is_a_key(make: MakeLeases, key: str) -> None:
    subject = make()
    lease = subject.take(key, 1)
    assert lease
    assert subject.take(key, 1) is None
    subject.give_back(key, lease)
    assert subject.take(key, 1)
