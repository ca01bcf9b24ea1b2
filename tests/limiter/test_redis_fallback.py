"""What was decided without the store is remembered, within bounds, until it is reported."""

from __future__ import annotations

from asgi_export.limiter.outage import _MOST_MISSED, Fallback
from asgi_export.limiter.sliding_window import NANOSECONDS, Rule
from asgi_export.redis_client.shared import OnFailure
from tests.limiter.subject import MovableClock, finished

FIVE = (Rule(5, NANOSECONDS),)


def hit(fallback: Fallback, clock: MovableClock, key: str = "a", rules: tuple[Rule, ...] = FIVE) -> bool:
    clock.now_ns += 1
    return finished(fallback.hit(key, rules, retry_after_seconds=1)).allowed


def made(policy: OnFailure = "local", max_keys: int = 100) -> tuple[Fallback, MovableClock]:
    clock = MovableClock(0)
    return Fallback(policy, clock_ns=clock, max_keys=max_keys), clock


def test_tells_apart_what_the_store_has_seen() -> None:
    """In between too: the store may answer one hit, and not the next one."""
    fallback, clock = made()
    for seen in (True, False, True, False):
        if seen:
            clock.now_ns += 1
            fallback.note("a", FIVE)
        else:
            assert hit(fallback, clock)
    taken = fallback.take()
    assert taken
    assert (list(taken.unseen), list(taken.seen), taken.longest_ns, taken.most) == ([2, 4], [1, 3], NANOSECONDS, 5)


def test_a_refused_hit_is_not_remembered() -> None:
    fallback, clock = made()
    assert [hit(fallback, clock) for _ in range(7)] == [True] * 5 + [False] * 2
    taken = fallback.take()
    assert taken
    assert list(taken.unseen) == [1, 2, 3, 4, 5]


def test_what_is_taken_is_taken_once() -> None:
    fallback, clock = made()
    hit(fallback, clock, "a")
    hit(fallback, clock, "b")
    taken = [fallback.take(), fallback.take()]
    assert [found.key for found in taken if found] == ["a", "b"]
    assert fallback.take() is None


def test_what_is_put_back_comes_before_what_has_come_since() -> None:
    fallback, clock = made()
    hit(fallback, clock)
    taken = fallback.take()
    assert taken
    hit(fallback, clock, rules=(Rule(9, 2 * NANOSECONDS),))
    fallback.put_back(taken)
    again = fallback.take()
    assert again
    assert (list(again.unseen), again.longest_ns, again.most) == ([1, 2], 2 * NANOSECONDS, 9)


def test_of_a_key_the_newest_hits_are_kept_as_many_as_its_limit() -> None:
    """Where everything is admitted, a crowd must not fill the memory."""
    fallback, clock = made("allow")
    for _ in range(1000):
        assert hit(fallback, clock)
    taken = fallback.take()
    assert taken
    assert list(taken.unseen) == [996, 997, 998, 999, 1000]
    hit(fallback, clock, rules=(Rule(10**9, NANOSECONDS),))
    taken = fallback.take()
    assert taken
    assert taken.unseen.maxlen == _MOST_MISSED


def test_no_more_keys_are_kept_than_the_bound_and_the_oldest_goes() -> None:
    fallback, clock = made("allow", max_keys=2)
    for key in "abc":
        hit(fallback, clock, key)
    taken = [fallback.take(), fallback.take(), fallback.take()]
    assert [found and found.key for found in taken] == ["b", "c", None]
