"""What the Redis store promises for the time in which Redis is slow, frozen, gone, or back."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any

import pytest

from asgi_export.asgi.context import REQUEST_ID
from asgi_export.errors import Unavailable
from asgi_export.limiter.outage import MissedHits
from asgi_export.limiter.redis_store import RedisStore
from asgi_export.limiter.sliding_window import NANOSECONDS, Rule
from asgi_export.logs import RequestIds
from asgi_export.redis_client import shared as shared_redis
from asgi_export.redis_client.script import Script
from asgi_export.redis_client.shared import OnFailure
from tests.redis_server import DURABLE, RedisServer, running

DIGESTS = "ax:{[0-9a-f]*"
"""The keys of callers; the probe's own key lives for a millisecond more."""

MINUTE = 60 * NANOSECONDS
TEN = (Rule(10, MINUTE),)
BOUND_SECONDS = 0.05
"""The default, for tests of it."""

CALM_SECONDS = 0.3
"""For all others: a machine that has much to do takes longer than the default now and then."""

PATIENCE_SECONDS = 10.0

Scenario = Callable[..., Awaitable[None]]


def with_stores(server: RedisServer, scenario: Scenario, count: int = 1, **options: Any) -> None:
    async def run() -> None:
        stores = [RedisStore(server.url, **{"bound_seconds": CALM_SECONDS, **options}) for _ in range(count)]
        try:
            await scenario(*stores)
        finally:
            for store in stores:
                await store.close()

    asyncio.run(run())


async def admitted(store: RedisStore, count: int, key: str = "k", rules: tuple[Rule, ...] = TEN) -> int:
    return sum([(await store.hit(key, rules)).allowed for _ in range(count)])


async def left_alone(store: RedisStore) -> None:
    """Ask until the breaker is open, under a key that nothing else looks at."""
    while not store.redis._breaker.open:
        await store.hit("somebody", (Rule(10**6, MINUTE),))


async def back(*stores: RedisStore) -> None:
    """Wait until the stores ask Redis again; nobody has to ask for that."""
    async with asyncio.timeout(PATIENCE_SECONDS):
        await asyncio.gather(*[store.redis._recovery for store in stores if store.redis._recovery])
    assert not any(store.redis._breaker.open for store in stores)


def test_the_local_window_goes_on_where_the_shared_one_was(empty_redis: RedisServer) -> None:
    """It was told every hit that Redis admitted."""

    async def scenario(store: RedisStore) -> None:
        assert await admitted(store, 7) == 7
        empty_redis.kill()
        assert await admitted(store, 20) == 3

    with_stores(empty_redis, scenario)


@pytest.mark.parametrize(
    ("instances", "used_before", "most"),
    [
        (2, 0, 10),  # shares: never more than the limit inside the outage
        (2, 10, 15),  # (2 - 1/N) times the limit across its beginning
        (None, 0, 20),  # whole limits: N times the limit
        (20, 0, 2),  # a share is one hit at least
    ],
)
def test_local_windows_admit_no_more_than_is_written(
    empty_redis: RedisServer, instances: int | None, used_before: int, most: int
) -> None:
    """Two stores, of which the first has had all the hits before the outage."""

    async def scenario(one: RedisStore, other: RedisStore) -> None:
        before = await admitted(one, used_before)
        empty_redis.kill()
        during = await admitted(one, 20) + await admitted(other, 20)
        assert before + during == most

    with_stores(empty_redis, scenario, 2, instances=instances)


def test_deny_admits_nothing_and_says_when_to_come_back(empty_redis: RedisServer) -> None:
    """At least a second, else until the next probe."""

    async def scenario(store: RedisStore) -> None:
        assert await admitted(store, 4) == 4
        empty_redis.kill()
        for _ in range(9):
            with pytest.raises(Unavailable) as caught:
                await store.hit("k", TEN)
            assert caught.value.headers == ((b"retry-after", b"1"),)
        empty_redis.start()
        await back(store)
        assert await admitted(store, 20) == 10

    with_stores(empty_redis, scenario, on_failure="deny")


def test_allow_admits_everything(empty_redis: RedisServer) -> None:
    async def scenario(store: RedisStore) -> None:
        empty_redis.kill()
        assert await admitted(store, 50) == 50
        assert store.fallbacks == store.decisions == 50

    with_stores(empty_redis, scenario, on_failure="allow")


@pytest.mark.parametrize(("policy", "used_after"), [("local", 10), ("allow", 10), ("deny", 4)])
def test_hits_of_the_outage_are_reported_where_the_data_was_kept(policy: OnFailure, used_after: int) -> None:
    """Each hit once: four before, six in the outage, and the shared window is full."""

    async def scenario(store: RedisStore, other: RedisStore) -> None:
        assert await admitted(store, 4) == 4
        server.kill()
        for _ in range(6):
            try:
                await store.hit("k", TEN)
            except Unavailable:
                assert policy == "deny"
        assert store.redis._breaker.open
        server.start()
        await back(store)
        assert store._fallback.take() is None
        assert await admitted(other, 20) == 10 - used_after

    with running(*DURABLE) as server:
        with_stores(server, scenario, 2, on_failure=policy)


def test_a_server_that_lost_its_data_is_told_the_hits_from_before_too(empty_redis: RedisServer) -> None:
    async def scenario(store: RedisStore, other: RedisStore) -> None:
        assert await admitted(store, 4) == 4
        empty_redis.kill()
        await left_alone(store)
        assert await admitted(store, 3) == 3
        empty_redis.start()
        await back(store)
        assert await admitted(other, 20) == 3

    with_stores(empty_redis, scenario, 2)


def test_hits_of_two_instances_are_reported_in_order(empty_redis: RedisServer) -> None:
    """The list stays ascending and bounded by the limit, and expires with its newest hit."""

    async def scenario(one: RedisStore, other: RedisStore) -> None:
        empty_redis.kill()
        for _ in range(7):
            assert await admitted(one, 1) + await admitted(other, 1) == 2
        empty_redis.start()
        await back(one, other)
        (name,) = empty_redis.call("KEYS", DIGESTS)
        stamps = [int(stamp) for stamp in empty_redis.call("LRANGE", name, 0, -1)]
        assert stamps == sorted(stamps)
        assert len(stamps) == 10
        assert stamps[-1] - stamps[0] < 5_000_000
        assert 50_000 < empty_redis.call("PTTL", name) <= 60_000
        assert await admitted(one, 5) == 0

    with_stores(empty_redis, scenario, 2)


def test_a_hit_that_has_left_its_window_is_not_reported(empty_redis: RedisServer) -> None:
    rules = (Rule(3, NANOSECONDS // 10),)

    async def scenario(store: RedisStore) -> None:
        empty_redis.kill()
        await admitted(store, 3, rules=rules)
        await asyncio.sleep(0.1)
        empty_redis.start()
        await back(store)
        assert empty_redis.call("KEYS", DIGESTS) == []

    with_stores(empty_redis, scenario)


def test_a_blip_that_opens_no_breaker_is_handed_in_too(empty_redis: RedisServer) -> None:
    async def scenario(store: RedisStore, other: RedisStore) -> None:
        assert await admitted(store, 2) == 2
        empty_redis.freeze()
        assert await admitted(store, 1) == 1
        assert store.fallbacks == 1
        empty_redis.thaw()
        await back(store)
        assert not store.redis._breaker.open
        # Redis may have taken the hit as well, after nobody waited any more: that is on the safe side.
        assert await admitted(other, 20) in (6, 7)

    with_stores(empty_redis, scenario, 2)


def test_each_change_of_state_is_one_line_without_the_password(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "asgi_export.limiter")
    with running(password="s3cret") as server:

        async def scenario(store: RedisStore) -> None:
            assert await admitted(store, 1) == 1
            server.kill()
            await asyncio.gather(*[admitted(store, 3) for _ in range(20)])
            server.start()
            await back(store)
            assert await admitted(store, 1, "other") == 1

        async def run() -> None:
            store = RedisStore(server.url.replace("//", "//:s3cret@"))
            try:
                await scenario(store)
            finally:
                await store.close()

        asyncio.run(run())
        place = server.url
    down, up = caplog.messages
    assert down.startswith(f"limit store {place} does not answer (")
    assert down.endswith("on_failure=local decides")
    assert up.startswith(f"limit store {place} answers again after")
    assert "s3cret" not in caplog.text


def test_a_wrong_password_is_an_outage_and_is_not_told(caplog: pytest.LogCaptureFixture) -> None:
    with running(password="right") as server:

        async def run() -> None:
            store = RedisStore(server.url.replace("//", "//:wr0ng@"))
            await store.start()
            assert await admitted(store, 20) == 10
            await store.close()

        asyncio.run(run())
    assert "does not answer (AuthenticationError" in caplog.text
    assert "wr0ng" not in caplog.text


def test_the_service_starts_without_redis_and_finds_it_by_itself(empty_redis: RedisServer) -> None:
    async def scenario(store: RedisStore) -> None:
        await store.start()
        with pytest.raises(Unavailable, match="limit store"):
            await store.check()
        assert await admitted(store, 2) == 2
        empty_redis.start()
        await back(store)
        await store.check()
        before = store.fallbacks
        assert await admitted(store, 20) == 8
        assert store.fallbacks == before

    empty_redis.kill()
    with_stores(empty_redis, scenario)


def test_while_it_is_left_alone_redis_is_not_asked(empty_redis: RedisServer) -> None:
    """An open breaker costs no wait: a thousand hits take less than one bound each would."""

    async def scenario(store: RedisStore) -> None:
        empty_redis.freeze()
        await left_alone(store)
        began = time.monotonic()
        assert await admitted(store, 1000, rules=(Rule(10**6, MINUTE),)) == 1000
        assert time.monotonic() - began < 1000 * BOUND_SECONDS / 10

    with_stores(empty_redis, scenario, bound_seconds=BOUND_SECONDS)


def test_a_pause_shorter_than_the_bound_is_waited_for(empty_redis: RedisServer) -> None:
    async def scenario(store: RedisStore) -> None:
        await admitted(store, 1)
        empty_redis.call("CLIENT", "PAUSE", 200)
        assert await admitted(store, 1) == 1
        assert store.fallbacks == 0

    with_stores(empty_redis, scenario, bound_seconds=3.0)


def test_a_pause_longer_than_the_bound_is_not(empty_redis: RedisServer) -> None:
    async def scenario(store: RedisStore) -> None:
        await admitted(store, 1)
        empty_redis.call("CLIENT", "PAUSE", 3000)
        began = time.monotonic()
        assert await admitted(store, 1) == 1
        assert BOUND_SECONDS <= time.monotonic() - began < 2.5
        assert store.fallbacks == 1

    with_stores(empty_redis, scenario, bound_seconds=BOUND_SECONDS)
    empty_redis.call("CLIENT", "UNPAUSE")


@pytest.mark.parametrize("policy", ["local", "deny"])
def test_a_server_that_answers_with_errors_is_an_outage_until_it_takes_hits_again(
    empty_redis: RedisServer, policy: OnFailure, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is out of memory, and answers PING all the same: one line when that begins, one when it ends."""
    monkeypatch.setattr(shared_redis, "FIRST_PROBE_SECONDS", 0.01)
    caplog.set_level(logging.INFO, "asgi_export.limiter")

    async def scenario(store: RedisStore) -> None:
        assert await admitted(store, 1) == 1
        empty_redis.call("CONFIG", "SET", "maxmemory", "1")
        for _ in range(9):
            with suppress(Unavailable):
                await store.hit("k", TEN)
        assert store.redis._breaker.open
        await asyncio.sleep(0.2)  # three probes or four
        assert store.redis._breaker.open
        empty_redis.call("CONFIG", "SET", "maxmemory", "0")
        await back(store)
        assert await admitted(store, 20) == (9 if policy == "deny" else 0)
        assert len(caplog.messages) == 2

    try:
        with_stores(empty_redis, scenario, on_failure=policy)
    finally:
        empty_redis.call("CONFIG", "SET", "maxmemory", "0")


def test_what_could_not_be_handed_in_is_handed_in_by_the_next_probe(empty_redis: RedisServer) -> None:
    async def scenario(store: RedisStore, other: RedisStore) -> None:
        good, bad = store._catch_up_script, Script(b"return redis.error_reply('not now')")
        put_back = store._fallback.put_back

        def notice(taken: MissedHits) -> None:
            store._catch_up_script = good
            put_back(taken)

        store._catch_up_script, store._fallback.put_back = bad, notice  # type: ignore[method-assign]
        empty_redis.kill()
        assert await admitted(store, 6) == 6
        empty_redis.start()
        await back(store)
        assert store._catch_up_script is good
        assert await admitted(other, 20) == 4

    with_stores(empty_redis, scenario, 2)


@pytest.mark.parametrize("turns", range(8))
def test_a_loop_that_was_held_is_no_outage(empty_redis: RedisServer, turns: int) -> None:
    """Whatever the hit was about to do when somebody took the loop for four bounds."""

    async def scenario(store: RedisStore) -> None:
        if turns % 2:
            await store.hit("warm", TEN)
        task = asyncio.create_task(store.hit("k", TEN))
        for _ in range(turns):
            await asyncio.sleep(0)
        time.sleep(4 * BOUND_SECONDS)  # noqa: ASYNC251  # this is what holds the loop
        await task
        assert store.fallbacks == 0

    with_stores(empty_redis, scenario, bound_seconds=BOUND_SECONDS)


@pytest.mark.parametrize("how", ["kill", "freeze"])
def test_under_load_every_hit_is_answered_within_the_bound(
    empty_redis: RedisServer, how: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Gone and back again while thirty clients go on: none waits longer, none fails, and Redis decides again."""
    monkeypatch.setattr(shared_redis, "FIRST_PROBE_SECONDS", 0.1)
    waits: list[float] = []

    async def client(store: RedisStore, number: int, end: float) -> None:
        loop = asyncio.get_running_loop()
        while loop.time() < end:
            began = loop.time()
            await store.hit(f"k{number}", (Rule(10**6, MINUTE),))
            waits.append(loop.time() - began)
            await asyncio.sleep(0.005)

    async def scenario(store: RedisStore) -> None:
        loop = asyncio.get_running_loop()
        clients = [asyncio.create_task(client(store, number, loop.time() + 3)) for number in range(30)]
        await asyncio.sleep(0.3)
        await asyncio.to_thread(getattr(empty_redis, how))
        await asyncio.sleep(1.5)
        await asyncio.to_thread(empty_redis.revive)
        await asyncio.gather(*clients)
        await back(store)
        before = store.fallbacks
        assert 0 < before < store.decisions == len(waits)
        await store.hit("k", TEN)
        assert store.fallbacks == before

    with_stores(empty_redis, scenario, bound_seconds=BOUND_SECONDS)
    held_seconds = 1.0  # by this machine, which has more to do; Redis is away for 1.5
    assert max(waits) < BOUND_SECONDS + held_seconds


def test_a_restart_between_two_hits_is_not_noticed(empty_redis: RedisServer) -> None:
    """A connection that was closed while nobody waited on it is no failure."""

    async def scenario(store: RedisStore) -> None:
        assert await admitted(store, 1) == 1
        empty_redis.kill()
        empty_redis.start()
        assert store.redis._link._connection
        await store.redis._link._connection.task
        assert await admitted(store, 1) == 1
        assert store.fallbacks == 0

    with_stores(empty_redis, scenario)


def test_the_end_of_an_outage_is_no_request_s(empty_redis: RedisServer, caplog: pytest.LogCaptureFixture) -> None:
    """Its line would else name the request that met the beginning."""
    caplog.handler.addFilter(RequestIds())
    caplog.set_level(logging.INFO, "asgi_export.limiter")

    async def scenario(store: RedisStore) -> None:
        REQUEST_ID.set("id-1")
        empty_redis.kill()
        await left_alone(store)
        empty_redis.start()
        await back(store)

    with_stores(empty_redis, scenario)
    assert [vars(record)["request_id"] for record in caplog.records] == ["id-1", ""]
