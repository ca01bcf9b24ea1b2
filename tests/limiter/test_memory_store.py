"""The memory store keeps the contract of all stores, and its own bounds."""

from __future__ import annotations

import asyncio
import time
import tracemalloc
from collections.abc import Callable

import pytest

from asgi_export.limiter.memory_store import MemoryStore
from asgi_export.limiter.sliding_window import NANOSECONDS, Rule
from asgi_export.limiter.store import Store
from tests.limiter.contract import CONTRACT
from tests.limiter.overflow import OVERFLOW, MakeMemorySubject
from tests.limiter.subject import MakeSubject, MemorySubject, MovableClock, finished

SIXTY = (Rule(60, 60 * NANOSECONDS),)


@pytest.mark.parametrize("check", CONTRACT, ids=lambda check: check.__name__)
def test_keeps_the_contract(check: Callable[[MakeSubject], None]) -> None:
    """The suite that every store passes."""
    check(MemorySubject)


@pytest.mark.parametrize("check", OVERFLOW, ids=lambda check: check.__name__)
def test_keeps_its_word_when_full(check: Callable[[MakeMemorySubject], None]) -> None:
    """What newcomers get while every place is taken by a live key."""
    check(MemorySubject)


@pytest.mark.slow
def test_memory_stays_bounded_under_random_keys() -> None:
    """Once the places are taken and the overflow windows filled, further keys cost nothing."""
    store = MemoryStore(clock_ns=MovableClock(), max_keys=2000)
    for number in range(20_000):
        finished(store.hit(f"key {number}", SIXTY))
    tracemalloc.start()
    try:
        for number in range(20_000, 50_000):
            finished(store.hit(f"key {number}", SIXTY))
        grown, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert store.keys == 2000
    assert grown < 256 * 1024


def test_dead_keys_go_by_themselves() -> None:
    """A thousand keys come in each window: no more than those of one window are kept."""
    clock = MovableClock()
    store = MemoryStore(clock_ns=clock)
    for number in range(20_000):
        clock.now_ns += SIXTY[0].window_ns // 1000
        assert finished(store.hit(f"key {number}", SIXTY)).allowed
    assert store.keys <= 1001
    assert len(store._keys._expiries) == store.keys


def test_a_log_is_no_longer_than_its_limit_by_more_than_a_third() -> None:
    """A key that goes on for ever holds the stamps of one window."""
    clock = MovableClock()
    store = MemoryStore(clock_ns=clock)
    longest = 0
    for _ in range(5000):
        clock.now_ns += NANOSECONDS // 2
        finished(store.hit("a", SIXTY))
        log = store._keys.get("a")
        assert log is not None
        longest = max(longest, len(log.stamps))
    assert 60 <= longest <= 81


def test_two_stores_place_the_same_keys_differently() -> None:
    """The seed is the process's own, so that nobody can choose whose window he shares."""
    keys = [f"key {number}" for number in range(200)]
    one, other = MemoryStore(), MemoryStore()
    places = [one._place(key, 1) for key in keys]
    assert places == [one._place(key, 1) for key in keys]
    assert places != [other._place(key, 1) for key in keys]
    assert len(set(places)) > 100


def test_runs_in_an_event_loop_by_the_machine_clock() -> None:
    """As a service uses it, through the protocol."""

    async def use(store: Store) -> list[bool]:
        await store.start()
        await store.check()
        allowed = [(await store.hit("a", (Rule(2, NANOSECONDS * 3600),))).allowed for _ in range(3)]
        await store.close()
        await store.close()
        return allowed

    store = MemoryStore()
    assert asyncio.run(use(store)) == [True, True, False]
    assert 0 <= time.monotonic_ns() - store._newest_ns < 60 * NANOSECONDS


@pytest.mark.parametrize("bound", ["max_keys", "overflow_windows"])
def test_a_bound_below_one_is_refused(bound: str) -> None:
    """The message names what came and what was expected."""
    with pytest.raises(ValueError, match=f"{bound}=0: expected a whole number from 1"):
        MemoryStore(**{bound: 0})  # type: ignore[arg-type]  # the clock is not among the names
