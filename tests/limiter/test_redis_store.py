"""The Redis store shares one exact window between all who use the server, and asks it no more than it must."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

import pytest

from asgi_export.errors import StartupError, Unavailable
from asgi_export.limiter.redis_store import RedisStore
from asgi_export.limiter.sliding_window import NANOSECONDS, Rule
from tests.limiter.subject import MovableClock
from tests.redis_server import RedisServer

T = TypeVar("T")

MINUTE = 60 * NANOSECONDS
THREE = (Rule(3, MINUTE),)
WRITES = ("rpush", "ltrim", "pexpire", "del", "lset", "set")


def with_store(server: RedisServer, scenario: Callable[[RedisStore], Awaitable[T]], **options: Any) -> T:
    """Run the scenario with a store that is closed afterwards; its bound is wide, since this machine is shared."""

    async def run() -> T:
        store = RedisStore(server.url, **{"bound_seconds": 5.0, **options})
        try:
            return await scenario(store)
        finally:
            await store.close()

    return asyncio.run(run())


async def hits(store: RedisStore, count: int, key: str = "k", rules: tuple[Rule, ...] = THREE) -> list[bool]:
    return [(await store.hit(key, rules)).allowed for _ in range(count)]


def name_of(server: RedisServer) -> str:
    (name,) = server.call("KEYS", "*")
    return str(name.decode())


def test_two_stores_share_one_window(empty_redis: RedisServer) -> None:
    async def scenario(one: RedisStore) -> list[bool]:
        other = RedisStore(empty_redis.url, bound_seconds=5.0)
        try:
            return [(await store.hit("k", THREE)).allowed for store in (one, other, one, other, one)]
        finally:
            await other.close()

    assert with_store(empty_redis, scenario) == [True, True, True, False, False]


def test_stores_of_different_prefixes_share_nothing(empty_redis: RedisServer) -> None:
    for prefix in ("one", "other"):
        assert with_store(empty_redis, lambda store: hits(store, 4), prefix=prefix) == [True] * 3 + [False]


def test_a_key_is_stored_as_a_digest_with_a_hash_tag(empty_redis: RedisServer) -> None:
    """A dump of the server tells no API key; all that is kept of one key lies in one slot of a cluster."""
    with_store(empty_redis, lambda store: store.hit("s3cret", THREE))
    assert name_of(empty_redis) == "ax:{1ec1c26b50d5d3c58d9583181af80766}:hits"


def test_a_key_expires_a_window_after_its_last_hit(empty_redis: RedisServer) -> None:
    """Rounded up to the server's millisecond: a list that goes early would admit too much."""
    rules = (Rule(3, NANOSECONDS // 5),)
    with_store(empty_redis, lambda store: hits(store, 2, rules=rules))
    name = name_of(empty_redis)
    assert 150 < empty_redis.call("PTTL", name) <= 200
    empty_redis.call("DEBUG", "SLEEP", "0.21")
    assert empty_redis.call("EXISTS", name) == 0


def test_a_key_of_sixty_hits_takes_less_than_a_kilobyte(empty_redis: RedisServer) -> None:
    with_store(empty_redis, lambda store: hits(store, 70, rules=(Rule(60, MINUTE),)))
    name = name_of(empty_redis)
    assert empty_redis.call("LLEN", name) == 60
    assert empty_redis.call("MEMORY", "USAGE", name) < 1000


def test_a_refused_hit_writes_nothing(empty_redis: RedisServer) -> None:
    """Counted by the server itself, for one rule and for several; each refusal is asked for anew."""

    async def scenario(store: RedisStore) -> None:
        for key, rules in (("one", THREE), ("two", (Rule(9, MINUTE), Rule(2, 2 * MINUTE, "long")))):
            while (await store.hit(key, rules)).allowed:
                pass
            before = empty_redis.calls_of(WRITES)
            for _ in range(5):
                store._refusals._by_key.clear()
                assert not (await store.hit(key, rules)).allowed
            assert empty_redis.calls_of(WRITES) == before
            assert empty_redis.calls_of(["evalsha"]) > 5

    with_store(empty_redis, scenario)


def test_a_hit_is_one_command(empty_redis: RedisServer) -> None:
    """The first one sends the script, which the server then knows."""
    commands = ("evalsha", "eval", "script|load", "ping", "multi", "select")

    async def scenario(store: RedisStore) -> None:
        await store.hit("k", THREE)
        before = empty_redis.calls_of(commands)
        await asyncio.gather(*[store.hit(f"k{n}", (*THREE, Rule(9, 2 * MINUTE))) for n in range(20)])
        assert empty_redis.calls_of(commands) == before + 20

    with_store(empty_redis, scenario)


def test_a_refused_hammering_client_costs_no_round_trip(empty_redis: RedisServer) -> None:
    """The figures go on with the time, until the moment at which another answer is possible."""
    clock = MovableClock()

    async def scenario(store: RedisStore) -> None:
        assert await hits(store, 4) == [True, True, True, False]
        before = empty_redis.calls_of(["evalsha"])
        clock.now_ns += 20 * NANOSECONDS
        decisions = [await store.hit("k", THREE) for _ in range(100)]
        assert {(decision.allowed, decision.retry_after_seconds) for decision in decisions} == {(False, 40)}
        assert empty_redis.calls_of(["evalsha"]) == before
        assert store.kept_refusals == 100
        clock.now_ns += 40 * NANOSECONDS
        await store.hit("k", THREE)
        assert empty_redis.calls_of(["evalsha"]) == before + 1

    with_store(empty_redis, scenario, clock_ns=clock)


def test_a_raised_limit_bites_in_spite_of_a_kept_refusal(empty_redis: RedisServer) -> None:
    async def scenario(store: RedisStore) -> None:
        assert await hits(store, 4) == [True, True, True, False]
        assert await hits(store, 2, rules=(Rule(4, MINUTE),)) == [True, False]

    with_store(empty_redis, scenario)


@pytest.mark.parametrize("jump_seconds", [3600, -3600])
def test_the_clock_of_an_instance_does_not_matter(empty_redis: RedisServer, jump_seconds: int) -> None:
    clock = MovableClock(10**15)

    async def scenario(store: RedisStore) -> list[bool]:
        admitted = []
        for _ in range(5):
            admitted += await hits(store, 1)
            clock.now_ns += jump_seconds * NANOSECONDS
        return admitted

    assert with_store(empty_redis, scenario, clock_ns=clock) == [True] * 3 + [False] * 2


@pytest.mark.parametrize("words", [("SCRIPT", "FLUSH"), ("FLUSHALL",)])
def test_a_server_that_lost_its_scripts_gets_them_again(empty_redis: RedisServer, words: tuple[str, ...]) -> None:
    async def scenario(store: RedisStore) -> None:
        assert await hits(store, 2) == [True, True]
        empty_redis.call("SCRIPT", "FLUSH")
        empty_redis.call(*words)
        assert (await asyncio.gather(hits(store, 2), hits(store, 2, "other")))[1] == [True, True]
        assert store.fallbacks == 0
        assert empty_redis.calls_of(["eval"]) >= 1

    with_store(empty_redis, scenario)


def test_a_window_of_any_length_is_kept(empty_redis: RedisServer) -> None:
    """Where it is longer than the script can reckon with, it is 71 years."""
    rules = (Rule(1, 10**15 * NANOSECONDS - NANOSECONDS),)
    assert with_store(empty_redis, lambda store: hits(store, 2, rules=rules)) == [True, False]


def test_a_crowd_shares_one_connection(empty_redis: RedisServer) -> None:
    async def scenario(store: RedisStore) -> None:
        decisions = await asyncio.gather(*[store.hit("k", (Rule(100, MINUTE),)) for _ in range(500)])
        assert sum(decision.allowed for decision in decisions) == 100
        assert len(empty_redis.call("CLIENT", "LIST").splitlines()) == 2  # one of them asks this

    with_store(empty_redis, scenario)


def test_a_storm_of_cancelled_requests_gives_nobody_the_reply_of_another(empty_redis: RedisServer) -> None:
    """Each key has a limit of its own, which its figures must show."""

    async def scenario(store: RedisStore) -> None:
        for turn in range(60):
            rules = [(Rule(1000 + number, MINUTE),) for number in range(40)]
            tasks = [asyncio.create_task(store.hit(f"k{n}", rule)) for n, rule in enumerate(rules)]
            for _ in range(turn % 12):
                await asyncio.sleep(0)
            for task in tasks[turn % 3 :: 3]:
                task.cancel()
            answers = await asyncio.gather(*tasks, return_exceptions=True)
            for number, answer in enumerate(answers):
                if not isinstance(answer, BaseException):
                    used = 1000 + number - answer.states[0].remaining
                    assert 1 <= used <= turn + 1
        assert store.fallbacks == 0

    before = empty_redis.call("INFO", "stats")["total_connections_received"]
    with_store(empty_redis, scenario)
    mine = empty_redis.call("INFO", "stats")["total_connections_received"] - before
    assert mine <= 4  # the store's one, and those that asked this


def test_an_eviction_policy_that_forgets_is_warned_of(
    empty_redis: RedisServer, caplog: pytest.LogCaptureFixture
) -> None:
    with_store(empty_redis, lambda store: store.start())
    assert caplog.messages == []
    empty_redis.call("CONFIG", "SET", "maxmemory-policy", "allkeys-lru")
    try:
        with_store(empty_redis, lambda store: store.start())
    finally:
        empty_redis.call("CONFIG", "SET", "maxmemory-policy", "noeviction")
    (message,) = caplog.messages
    assert "allkeys-lru" in message
    assert "noeviction" in message


def test_check_tells_whether_the_server_answers(empty_redis: RedisServer) -> None:
    async def scenario(store: RedisStore) -> None:
        await store.start()
        await store.check()
        empty_redis.kill()
        with pytest.raises(Unavailable, match=rf"limit store redis://127.0.0.1:{empty_redis.port}/0 does not"):
            await store.check()

    with_store(empty_redis, scenario)


def test_close_may_be_called_twice_and_before_anything(empty_redis: RedisServer) -> None:
    with_store(empty_redis, lambda store: store.close())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"bound_seconds": 0}, "bound_seconds=0: expected seconds above 0"),
        ({"on_failure": "hope"}, "on_failure='hope': expected one of local, allow, deny"),
        ({"instances": 0}, "instances=0: expected a whole number from 1"),
        ({"prefix": "a{b"}, "prefix='a{b': expected no braces"),
    ],
)
def test_an_argument_out_of_its_range_is_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message.replace("{", r"\{")):
        RedisStore("redis://127.0.0.1:1/0", **options)


def test_without_redis_py_the_start_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "redis.asyncio", None)
    with pytest.raises(StartupError, match=r"needs redis-py: pip install 'asgi-export\[redis\]'"):
        RedisStore("redis://127.0.0.1:1/0")
