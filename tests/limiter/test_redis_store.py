"""The Redis store keeps the contract of all stores, shares one window, and outlives its server."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Coroutine, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from typing import Any

import pytest
import redis

from asgi_export.errors import StartupError, Unavailable
from asgi_export.limiter.redis_store import RedisStore
from asgi_export.limiter.sliding_window import NANOSECONDS, Decision, Rule
from tests.limiter.contract import CONTRACT
from tests.limiter.subject import MakeSubject, MovableClock
from tests.redis_server import RedisServer

THREE = (Rule(3, 60 * NANOSECONDS),)
SERVER_TIME = "redis.call('TIME')"
TEST_TIME = "{redis.call('GET', 'test:seconds'), redis.call('GET', 'test:microseconds')}"
COUNT = "local count = redis.call('LLEN', key)"
TEST_COUNT = f"""
if now >= (tonumber(redis.call('GET', 'test:expiry:' .. key) or now + 1)) then redis.call('DEL', key) end
{COUNT}"""
EXPIRY = "redis.call('PEXPIRE', key, math.ceil(longest / 1000) + 1)"
TEST_EXPIRY = "redis.call('SET', 'test:expiry:' .. key, now + longest)"


class RedisSubject:
    """A store whose script takes the time that the test has set, in place of the server's own; so do expiries."""

    tick_ns = 1000

    def __init__(self, server: RedisServer, loop: asyncio.AbstractEventLoop) -> None:
        self._server = redis.Redis(port=server.port)
        self._server.flushall()
        self._loop = loop
        self.clock = MovableClock()
        self.store = RedisStore(server.url, bound_seconds=5.0, clock_ns=self.clock)
        script = self.store._hit
        for found, replaced in ((SERVER_TIME, TEST_TIME), (COUNT, TEST_COUNT), (EXPIRY, TEST_EXPIRY)):
            assert found in script._text
            script._text = script._text.replace(found, replaced)
        script._digest = "0" * 40

    def hit(self, key: str, rules: Sequence[Rule]) -> Decision:
        seconds, rest_ns = divmod(self.clock.now_ns, NANOSECONDS)
        self._server.mset({"test:seconds": seconds, "test:microseconds": rest_ns // 1000})
        return self._loop.run_until_complete(self.store.hit(key, rules))

    def snapshot(self) -> object:
        keys = sorted(self._server.scan_iter("ax:*"))
        return [(key, self._server.lrange(key, 0, -1), self._server.object("encoding", key)) for key in keys]

    def close(self) -> None:
        self._loop.run_until_complete(self.store.close())
        self._server.close()


@pytest.fixture
def make_subject(redis_server: RedisServer) -> Iterator[MakeSubject]:
    made: list[RedisSubject] = []
    with asyncio.Runner() as runner:
        loop = runner.get_loop()

        def make() -> RedisSubject:
            while made:
                made.pop().close()
            made.append(RedisSubject(redis_server, loop))
            return made[-1]

        yield make
        while made:
            made.pop().close()


@pytest.mark.parametrize("check", CONTRACT, ids=lambda check: check.__name__)
def test_keeps_the_contract(check: Callable[[MakeSubject], None], make_subject: MakeSubject) -> None:
    """The suite that every store passes."""
    check(make_subject)


def with_store(scenario: Callable[[RedisStore], Coroutine[Any, Any, Any]], url: str, **options: Any) -> Any:
    async def run() -> Any:
        store = RedisStore(url, **options)
        try:
            return await scenario(store)
        finally:
            await store.close()

    return asyncio.run(run())


@pytest.fixture
def server(redis_server: RedisServer) -> Iterator[RedisServer]:
    """An empty server; whatever the test did to it, the next one finds it running."""
    client = redis.Redis(port=redis_server.port)
    client.flushall()
    client.close()
    yield redis_server
    redis_server.kill()
    redis_server.start()


def test_two_instances_share_one_window(server: RedisServer) -> None:
    async def scenario(one: RedisStore) -> list[bool]:
        other = RedisStore(server.url)
        try:
            return [(await store.hit("k", THREE)).allowed for store in (one, other, one, other, one)]
        finally:
            await other.close()

    assert with_store(scenario, server.url) == [True, True, True, False, False]


def test_a_key_is_stored_as_a_digest_with_a_hash_tag_and_expires(server: RedisServer) -> None:
    with_store(lambda store: store.hit("s3cret", THREE), server.url)
    client = redis.Redis(port=server.port, decode_responses=True)
    (name,) = client.scan_iter("*")
    assert name.startswith("ax:{")
    assert "s3cret" not in name
    assert 59_000 < client.pttl(name) <= 60_002
    client.close()


def test_the_clock_of_an_instance_does_not_matter(server: RedisServer) -> None:
    clock = MovableClock()

    async def scenario(store: RedisStore) -> list[bool]:
        admitted = []
        for _ in range(5):
            admitted.append((await store.hit("k", THREE)).allowed)
            clock.now_ns += 3600 * NANOSECONDS
        return admitted

    assert with_store(scenario, server.url, clock_ns=clock) == [True, True, True, False, False]


def test_a_refused_hammering_client_costs_no_round_trip(server: RedisServer) -> None:
    async def scenario(store: RedisStore) -> None:
        for _ in range(4):
            await store.hit("k", THREE)
        client = redis.Redis(port=server.port)
        before = client.info("commandstats")["cmdstat_evalsha"]["calls"]
        decisions = [await store.hit("k", THREE) for _ in range(100)]
        assert client.info("commandstats")["cmdstat_evalsha"]["calls"] == before
        client.close()
        assert not any(decision.allowed for decision in decisions)
        assert decisions[-1].retry_after_seconds == 60
        assert (await store.hit("k", (Rule(4, 60 * NANOSECONDS),))).allowed

    with_store(scenario, server.url)


@pytest.mark.parametrize("command", ["script_flush", "flushall"])
def test_a_server_that_lost_its_scripts_gets_them_again(server: RedisServer, command: str) -> None:
    async def scenario(store: RedisStore) -> list[bool]:
        await store.hit("k", THREE)
        client = redis.Redis(port=server.port)
        getattr(client, command)()
        client.close()
        return [(await store.hit("k", THREE)).allowed, store.fallbacks == 0]

    assert with_store(scenario, server.url) == [True, True]


def hits(store: RedisStore, count: int, key: str = "k") -> Coroutine[Any, Any, list[bool]]:
    async def run() -> list[bool]:
        return [(await store.hit(key, THREE)).allowed for _ in range(count)]

    return run()


@pytest.mark.parametrize("how", ["kill", "freeze"])
def test_without_redis_the_local_window_goes_on_where_the_shared_one_was(
    server: RedisServer, how: str, caplog: pytest.LogCaptureFixture
) -> None:
    async def scenario(store: RedisStore) -> list[bool]:
        admitted = await hits(store, 2)
        getattr(server, how)()
        begun = time.monotonic()
        admitted += await hits(store, 6)
        assert time.monotonic() - begun < 2.0
        return admitted

    caplog.set_level(logging.INFO)
    assert with_store(scenario, server.url) == [True] * 3 + [False] * 5
    assert sum("does not answer" in record.getMessage() for record in caplog.records) == 1


def test_after_an_outage_the_window_is_shared_again_with_the_hits_of_the_outage(server: RedisServer) -> None:
    async def scenario(store: RedisStore) -> None:
        server.kill()
        assert await hits(store, 2) == [True, True]
        await hits(store, 5, key="other")
        server.start()
        while store._breaker.open:
            await store.hit("probe", THREE)
            await asyncio.sleep(0.01)
        other = RedisStore(server.url)
        try:
            assert await hits(other, 2) == [True, False]
        finally:
            await other.close()

    with_store(scenario, server.url)


def test_deny_refuses_and_allow_admits_everything(server: RedisServer) -> None:
    async def denied(store: RedisStore) -> None:
        with pytest.raises(Unavailable):
            await store.hit("k", THREE)

    server.kill()
    with_store(denied, server.url, on_failure="deny")
    assert with_store(lambda store: hits(store, 9), server.url, on_failure="allow") == [True] * 9


def test_shares_are_kept_where_the_number_of_instances_is_known(server: RedisServer) -> None:
    server.kill()
    assert with_store(lambda store: hits(store, 3), server.url, instances=3) == [True, False, False]


def test_the_service_starts_without_redis_and_readiness_tells(server: RedisServer) -> None:
    async def scenario(store: RedisStore) -> None:
        await store.start()
        with pytest.raises((OSError, redis.RedisError)):
            await store.check()

    server.kill()
    with_store(scenario, server.url)


def test_a_storm_of_cancelled_requests_does_not_mix_up_replies(server: RedisServer) -> None:
    async def scenario(store: RedisStore) -> None:
        for round_number in range(30):
            tasks = [asyncio.create_task(store.hit(f"k{number}", THREE)) for number in range(20)]
            for _ in range(round_number % 7):
                await asyncio.sleep(0)
            for task in tasks[::2]:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        decision = await store.hit("fresh", (Rule(7, NANOSECONDS),))
        assert decision.states[0].remaining == 6

    with_store(scenario, server.url, bound_seconds=2.0)


def test_a_loop_that_was_held_is_no_outage(server: RedisServer) -> None:
    async def scenario(store: RedisStore) -> None:
        await store.hit("warm", THREE)
        task = asyncio.create_task(store.hit("k", THREE))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        time.sleep(0.2)  # noqa: ASYNC251 - this is what holds the loop
        await task
        assert store.fallbacks == 0

    with_store(scenario, server.url)


def test_nothing_secret_is_told_of_a_url() -> None:
    with pytest.raises(StartupError) as caught:
        RedisStore("nonsense://me:s3cret@host")
    assert "s3cret" not in str(caught.value)


LIMIT, WINDOW_SECONDS = 20, 0.5


def hammer(url: str, seconds: float) -> int:
    """One process: hits as fast as it can; how many were admitted."""

    async def run() -> int:
        store = RedisStore(url, bound_seconds=5.0)
        rules = (Rule(LIMIT, int(WINDOW_SECONDS * NANOSECONDS)),)
        admitted = 0
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            admitted += (await store.hit("k", rules)).allowed
            await asyncio.sleep(0)
        await store.close()
        return admitted

    return asyncio.run(run())


def test_many_processes_hold_one_limit_exactly(server: RedisServer) -> None:
    """By the moments that the script itself wrote: no window holds more, and the limit is reached."""
    watcher = redis.Redis(port=server.port)
    client = redis.Redis(port=server.port, decode_responses=True)
    moments: list[int] = []
    watching: Any = watcher.monitor()  # type: ignore[no-untyped-call]
    with watching as monitor, ProcessPoolExecutor(3) as pool:
        runs = [pool.submit(hammer, server.url, 2.0) for _ in range(3)]
        for command in monitor.listen():
            if command["client_type"] == "lua" and command["command"].startswith("RPUSH"):
                moments.append(int(command["command"].split()[-1]))
            if all(run.done() for run in runs):
                break
            if len(moments) % 10 == 0:
                client.ping()
        admitted = sum(run.result() for run in runs)
    watcher.close()
    client.close()
    window = int(WINDOW_SECONDS * 1_000_000)
    assert all(later - earlier >= window for earlier, later in zip(moments, moments[LIMIT:], strict=False))
    assert admitted >= LIMIT * 3
