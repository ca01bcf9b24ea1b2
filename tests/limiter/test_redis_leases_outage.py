"""What leases promise for the time in which Redis is slow, frozen, gone, or back: exports go on, and are counted."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from asgi_export.errors import Unavailable
from asgi_export.limiter.redis_leases import RedisLeases
from asgi_export.limiter.redis_store import RedisStore
from asgi_export.limiter.sliding_window import NANOSECONDS, Rule
from asgi_export.redis_client import shared as shared_redis
from asgi_export.redis_client.shared import SharedRedis
from tests.limiter.movable_loop import LIFE_SECONDS, Clocks, moved_until, with_clocks
from tests.redis_server import DURABLE, RedisServer, running

KEY = "ax:{1ec1c26b50d5d3c58d9583181af80766}:leases"
CALM_SECONDS = 0.3
"""The bound: a machine that has much to do takes longer than the default now and then."""

PATIENCE_SECONDS = 15.0

Scenario = Callable[..., Awaitable[None]]


def with_leases(server: RedisServer, scenario: Scenario, count: int = 1, life: float = 30, **options: Any) -> None:
    """Instances with a connection of their own each; afterwards no task of theirs is left."""

    async def run() -> None:
        found = [
            RedisLeases(SharedRedis(server.url, **{"bound_seconds": CALM_SECONDS, **options}), lease_seconds=life)
            for _ in range(count)
        ]
        try:
            async with asyncio.timeout(2 * PATIENCE_SECONDS):
                await scenario(*found)
        finally:
            for leases in found:
                await leases.close()
        assert asyncio.all_tasks() == {asyncio.current_task()}

    asyncio.run(run())


async def soon(condition: Callable[[], object]) -> None:
    """Wait until something that others bring about is there."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + PATIENCE_SECONDS
    while loop.time() < deadline:
        if condition():
            return
        await asyncio.sleep(0.01)
    assert condition()


async def taken(leases: RedisLeases, count: int, limit: int, key: str = "s3cret") -> list[str]:
    found = [await leases.take(key, limit) for _ in range(count)]
    return [lease for lease in found if lease]


async def left_alone(leases: RedisLeases) -> None:
    """Ask until the breaker is open, under a key that nothing else looks at."""
    while not leases._redis.down:
        await leases.take("somebody", 10**6)


def names(server: RedisServer) -> set[bytes]:
    return set(server.call("ZRANGE", KEY, 0, -1))


def test_each_process_counts_its_own_at_the_bound_of_the_plan(empty_redis: RedisServer) -> None:
    """Those that Redis has counted before among them, so that one process never runs more than the bound."""

    async def scenario(one: RedisLeases, other: RedisLeases) -> None:
        assert len(await taken(one, 2, 3)) == 2
        empty_redis.kill()
        assert len(await taken(one, 5, 3)) == 1
        assert len(await taken(other, 5, 3)) == 3

    with_leases(empty_redis, scenario, 2)


def test_a_place_is_free_when_it_is_given_back_in_an_outage(empty_redis: RedisServer) -> None:
    """Whether Redis has the lease or this process alone; twice and late changes nothing."""

    async def scenario(leases: RedisLeases) -> None:
        (shared,) = await taken(leases, 1, 2)
        empty_redis.kill()
        (local,) = await taken(leases, 2, 2)
        for lease in (shared, local):
            await leases.give_back("s3cret", lease)
            await leases.give_back("s3cret", lease)
            assert len(await taken(leases, 2, 2)) == 1

    with_leases(empty_redis, scenario)


def test_allow_lets_everybody_in(empty_redis: RedisServer) -> None:
    async def scenario(leases: RedisLeases) -> None:
        empty_redis.kill()
        assert len(await taken(leases, 20, 1)) == 20

    with_leases(empty_redis, scenario, on_failure="allow")


def test_deny_lets_nobody_in_and_says_when_to_come_back(empty_redis: RedisServer) -> None:
    """What runs goes on and is renewed when Redis is back."""

    async def scenario(leases: RedisLeases) -> None:
        (lease,) = await taken(leases, 1, 2)
        empty_redis.kill()
        for _ in range(5):
            with pytest.raises(Unavailable) as caught:
                await leases.take("s3cret", 2)
            assert caught.value.headers == ((b"retry-after", b"1"),)
        empty_redis.start()
        await soon(lambda: len(names(empty_redis)) == 1)
        assert len(await taken(leases, 2, 2)) == 1
        await leases.give_back("s3cret", lease)
        assert len(names(empty_redis)) == 1

    with_leases(empty_redis, scenario, on_failure="deny")


@pytest.mark.parametrize("policy", ["local", "allow", "deny"])
def test_nobody_waits_longer_than_the_bound(empty_redis: RedisServer, policy: str) -> None:
    """Neither who begins nor who ends."""
    bound_seconds = 0.2

    async def scenario(leases: RedisLeases) -> None:
        (lease,) = await taken(leases, 1, 9)
        empty_redis.freeze()
        began = time.monotonic()
        await leases.give_back("s3cret", lease)
        for _ in range(10):
            try:
                await leases.take("s3cret", 9)
            except Unavailable:
                assert policy == "deny"
        assert time.monotonic() - began < 10 * bound_seconds, "each of eleven waits"

    with_leases(empty_redis, scenario, on_failure=policy, bound_seconds=bound_seconds)


@pytest.mark.parametrize("policy", ["local", "allow", "deny"])
def test_a_lease_whose_answer_was_lost_is_given_back(empty_redis: RedisServer, policy: str) -> None:
    """Redis takes it after nobody waits any more; when it answers again it has only what runs."""

    async def scenario(leases: RedisLeases) -> None:
        running = await taken(leases, 1, 2)
        empty_redis.freeze()
        try:
            running += await taken(leases, 1, 2)
        except Unavailable:
            assert policy == "deny"
        for lease in running:
            await leases.give_back("s3cret", lease)
        empty_redis.thaw()
        await soon(lambda: not leases._returns)
        assert not names(empty_redis)
        assert len(await taken(leases, 5, 2)) == 2

    with_leases(empty_redis, scenario, on_failure=policy)


def test_a_lease_that_was_refused_here_is_not_kept_there(empty_redis: RedisServer) -> None:
    """The server has forgotten what runs here, and takes one more, after nobody waits any more."""

    async def scenario(leases: RedisLeases) -> None:
        await taken(leases, 1, 2)
        empty_redis.call("FLUSHALL")
        empty_redis.freeze()
        assert await taken(leases, 1, 1) == []
        empty_redis.thaw()
        (found,) = leases._running.values()
        await soon(lambda: not leases._returns and names(empty_redis) == {found.name})

    with_leases(empty_redis, scenario)


def test_what_cannot_be_given_back_is_forgotten_after_a_life(empty_redis: RedisServer) -> None:
    """Then Redis has let it end: an outage must not fill the memory."""

    async def scenario(leases: RedisLeases) -> None:
        await leases.take("warm", 1)
        (lease,) = await taken(leases, 1, 1)
        empty_redis.freeze()
        await leases.give_back("s3cret", lease)
        assert len(leases._returns) == 1
        await soon(lambda: not leases._returns)
        empty_redis.thaw()

    with_leases(empty_redis, scenario, life=0.6)


def test_a_lease_whose_answer_was_lost_is_counted_once_while_it_runs(empty_redis: RedisServer) -> None:
    async def scenario(leases: RedisLeases, other: RedisLeases) -> None:
        await leases.take("warm", 1)
        empty_redis.freeze()
        (lease,) = await taken(leases, 1, 2)
        (found,) = [held for held in leases._running.values() if held.redis_key == KEY.encode()]
        assert not found.counted
        empty_redis.thaw()
        await soon(lambda: found.counted)
        assert names(empty_redis) == {found.name}
        assert len(await taken(other, 5, 2)) == 1
        await leases.give_back("s3cret", lease)
        assert len(names(empty_redis)) == 1

    with_leases(empty_redis, scenario, 2)


@pytest.mark.parametrize("policy", ["local", "allow"])
def test_what_began_in_an_outage_is_counted_when_redis_is_back(empty_redis: RedisServer, policy: str) -> None:
    """At once, as far as the plan has room; what has ended meanwhile is not, and nobody has to ask for it."""

    async def scenario(one: RedisLeases, other: RedisLeases) -> None:
        empty_redis.kill()
        await left_alone(one)
        ended, *going_on = await taken(one, 3, 3)
        await one.give_back("s3cret", ended)
        empty_redis.start()
        await soon(lambda: len(names(empty_redis)) == 2)
        assert len(await taken(other, 5, 3)) == 1
        for lease in going_on:
            await one.give_back("s3cret", lease)
        assert len(names(empty_redis)) == 1

    with_leases(empty_redis, scenario, 2, life=3600, on_failure=policy)


def test_two_processes_that_ran_too_many_are_counted_to_the_limit(empty_redis: RedisServer) -> None:
    """Nobody new gets in before so many have ended; and who was not counted is, as soon as there is room."""

    async def scenario(one: RedisLeases, other: RedisLeases) -> None:
        empty_redis.kill()
        mine, theirs = await taken(one, 5, 3), await taken(other, 5, 3)
        assert len(mine) == len(theirs) == 3
        empty_redis.start()
        await soon(lambda: not one._redis.down and not other._redis.down)
        await soon(lambda: len(names(empty_redis)) == 3)
        for lease in mine:
            await one.give_back("s3cret", lease)
        await soon(lambda: sum(lease.counted for lease in other._running.values()) == 3)
        assert await taken(one, 5, 3) == []

    with_leases(empty_redis, scenario, 2, life=1.5)


def test_a_server_that_has_kept_its_data_goes_on_with_the_same_leases() -> None:
    async def scenario(leases: RedisLeases, other: RedisLeases) -> None:
        await taken(leases, 2, 3)
        before = names(server)
        server.kill()
        assert len(await taken(leases, 5, 3)) == 1
        server.start()
        await soon(lambda: len(names(server)) == 3)
        assert before < names(server)
        assert await taken(other, 5, 3) == []

    with running(*DURABLE) as server:
        with_leases(server, scenario, 2)


def test_an_outage_longer_than_a_life_is_made_up_for(empty_redis: RedisServer) -> None:
    """The server has let the leases end: the exports ran on, and are counted again under other names."""

    async def scenario(clocks: Clocks, leases: RedisLeases, other: RedisLeases) -> None:
        await taken(leases, 2, 2)
        before = names(empty_redis)
        empty_redis.freeze()
        clocks.move_process(1.2 * LIFE_SECONDS)
        assert await taken(leases, 1, 2) == []
        empty_redis.thaw()
        clocks.move_server(1.2 * LIFE_SECONDS)
        await moved_until(clocks, lambda: len(names(empty_redis) - before) == 2)
        assert not names(empty_redis) & before
        assert await taken(other, 1, 2) == []

    with_clocks(empty_redis, scenario, 2)


def test_renewals_that_fail_are_tried_again_before_a_life_is_over(empty_redis: RedisServer) -> None:
    """A server that hangs for half a life costs nobody his lease."""

    async def scenario(clocks: Clocks, leases: RedisLeases) -> None:
        await taken(leases, 2, 2)
        before = names(empty_redis)
        for _ in range(2):
            empty_redis.freeze()
            for _ in range(6):
                clocks.move_process(LIFE_SECONDS / 12)
                await asyncio.sleep(0.01)
            empty_redis.thaw()
            clocks.move_server(LIFE_SECONDS / 2)
            await moved_until(clocks, lambda: clocks.seconds_left(KEY) == [LIFE_SECONDS] * 2)
        assert names(empty_redis) == before

    with_clocks(empty_redis, scenario)


def test_a_server_that_is_full_counts_no_lease_and_loses_none_that_is_given_back(
    empty_redis: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It answers with errors, and PING all the same."""
    monkeypatch.setattr(shared_redis, "FIRST_PROBE_SECONDS", 0.05)

    async def scenario(leases: RedisLeases) -> None:
        (lease,) = await taken(leases, 1, 3)
        empty_redis.call("CONFIG", "SET", "maxmemory", "1")
        assert len(await taken(leases, 9, 3)) == 2
        assert leases._redis.down
        await leases.give_back("s3cret", lease)
        empty_redis.call("CONFIG", "SET", "maxmemory", "0")
        await soon(lambda: len(names(empty_redis)) == 2)

    try:
        with_leases(empty_redis, scenario)
    finally:
        empty_redis.call("CONFIG", "SET", "maxmemory", "0")


def test_store_and_leases_find_out_together_and_say_so_once(
    empty_redis: RedisServer, caplog: pytest.LogCaptureFixture
) -> None:
    """One breaker: what the one has met the other does not wait for. One line when it begins, one when it ends."""
    caplog.set_level(logging.INFO, "asgi_export.limiter")
    rules = (Rule(10, 60 * NANOSECONDS),)

    async def run() -> None:
        store = RedisStore(empty_redis.url)
        leases = RedisLeases(store.redis)
        await leases.start()
        await store.start()
        empty_redis.kill()
        for _ in range(9):
            await store.hit("s3cret", rules)
        assert leases._redis.down
        await taken(leases, 2, 2)
        for check in (store.check, leases.check):
            with pytest.raises(Unavailable, match="the limit store"):
                await check()
        empty_redis.start()
        await soon(lambda: not leases._redis.down)
        await soon(lambda: len(names(empty_redis)) == 2)
        assert empty_redis.call("LLEN", KEY.replace("leases", "hits")) == 9
        await leases.close()
        await store.close()

    asyncio.run(run())
    down, up = caplog.messages
    assert "does not answer" in down
    assert "answers again" in up


def test_the_service_starts_without_redis_and_counts_when_it_is_there(empty_redis: RedisServer) -> None:
    async def scenario(leases: RedisLeases) -> None:
        await leases.start()
        assert len(await taken(leases, 9, 2)) == 2
        empty_redis.start()
        await soon(lambda: len(names(empty_redis)) == 2)
        await leases.check()

    empty_redis.kill()
    with_leases(empty_redis, scenario)


def test_a_storm_of_exports_through_an_outage_leaves_nothing(
    empty_redis: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Begun, ended and cancelled at any moment, while Redis hangs, is killed and comes back empty."""
    monkeypatch.setattr(shared_redis, "FIRST_PROBE_SECONDS", 0.1)

    async def client(leases: RedisLeases, number: int, end: float) -> None:
        loop = asyncio.get_running_loop()
        while loop.time() < end:
            lease = await leases.take("s3cret", 7)
            await asyncio.sleep(0.001 * (number % 7))
            if lease:
                await leases.give_back("s3cret", lease)

    async def scenario(leases: RedisLeases) -> None:
        end = asyncio.get_running_loop().time() + 2
        clients = [asyncio.create_task(client(leases, number, end)) for number in range(20)]
        for step in ("freeze", "thaw", "kill", "start"):
            await asyncio.sleep(0.3)
            await asyncio.to_thread(getattr(empty_redis, step))
        await asyncio.gather(*clients)
        await soon(lambda: not leases._redis.down and not leases._returns)
        assert not leases._running
        assert not names(empty_redis)
        assert len(await taken(leases, 9, 7)) == 7

    with_leases(empty_redis, scenario)
