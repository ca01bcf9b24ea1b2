"""Leases in Redis: shared by all instances, ended by the server's clock, never brought back to life."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Sequence
from typing import Any

import pytest

from asgi_export.limiter.lease_sets import Lease
from asgi_export.limiter.redis_leases import RedisLeases
from asgi_export.limiter.redis_store import RedisStore
from asgi_export.limiter.sliding_window import NANOSECONDS, Rule
from asgi_export.redis_client.driver import StoreDown
from asgi_export.redis_client.shared import SharedRedis
from tests.limiter.lease_subject import redis_leases
from tests.limiter.lease_trial import LIFE_US, MakeSubject
from tests.limiter.movable_loop import LIFE_SECONDS, Clocks, with_clocks
from tests.redis_server import RedisServer

KEY = "ax:{1ec1c26b50d5d3c58d9583181af80766}:leases"
WRITES = ("zadd", "zrem", "zremrangebyscore", "pexpire", "del", "set")
PATIENCE_SECONDS = 10.0

Scenario = Callable[..., Awaitable[None]]


@pytest.fixture
def make(empty_redis: RedisServer) -> Iterator[MakeSubject]:
    """Instances on a server whose clock the test moves."""
    with redis_leases(empty_redis) as make_leases:
        yield make_leases


def with_leases(server: RedisServer, scenario: Scenario, count: int = 1, life: float = 30, **options: Any) -> None:
    """Instances on the real clock, each with a connection of its own; afterwards no task of theirs is left."""

    async def run() -> None:
        found = [
            RedisLeases(SharedRedis(server.url, **{"bound_seconds": 5.0, **options}), lease_seconds=life)
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


async def has_written(server: RedisServer) -> None:
    """Wait as briefly as may be until there is a lease: the answer is on its way."""
    for _ in range(100_000):
        if names(server):
            return
        await asyncio.sleep(0)
    raise AssertionError("no lease")


def names(server: RedisServer, key: str = KEY) -> set[bytes]:
    return set(server.call("ZRANGE", key, 0, -1))


def killed(leases: RedisLeases) -> None:
    """As by SIGKILL: nothing is renewed any more, and nothing given back."""
    assert leases._renewer
    leases._renewer.cancel()


def test_a_lease_ends_a_life_after_it_was_taken_to_the_microsecond(make: MakeSubject) -> None:
    subject = make()
    assert subject.take("k", 1)
    subject.advance(LIFE_US - 1)
    assert subject.take("k", 1) is None
    subject.advance(1)
    assert subject.take("k", 1)


def test_an_export_whose_lease_has_ended_is_counted_again_under_another_name(make: MakeSubject) -> None:
    """Where there is room; and what it gives back is that."""
    subject = make()
    lease = subject.take_at(0, "k", 1)
    (redis_key,) = subject.client.keys("ax:*}:leases")
    first = subject.client.zrange(redis_key, 0, -1)
    subject.advance(LIFE_US)
    subject.renew(0)
    assert subject.take_at(1, "k", 1) is None
    assert not set(first) & set(subject.client.zrange(redis_key, 0, -1))
    subject.give_back("k", str(lease))
    assert subject.take_at(1, "k", 1)


def test_a_lease_that_was_given_back_is_not_renewed(make: MakeSubject) -> None:
    """A renewal may be late, on a connection that was given up."""
    subject = make()
    lease = subject.take_at(0, "k", 1)
    (found,) = subject.instances[0]._running.values()
    subject.give_back("k", str(lease))
    sets = subject.instances[0]._sets
    assert subject._runner.run(sets.renew(found.redis_key, [found], seconds=5.0)) == [found]
    assert subject.client.keys("ax:*}:leases") == []


def test_a_key_is_stored_as_a_digest_with_a_hash_tag_and_its_lease_as_a_random_name(empty_redis: RedisServer) -> None:
    async def scenario(leases: RedisLeases) -> None:
        await leases.take("s3cret", 1)

    with_leases(empty_redis, scenario)
    assert empty_redis.call("KEYS", "*") == [KEY.encode()]
    (name,) = names(empty_redis)
    assert len(bytes.fromhex(name.decode())) == 8


def test_keys_that_are_not_seen_again_leave_nothing_behind(empty_redis: RedisServer) -> None:
    """However many they are, and though nobody gives anything back."""

    async def scenario(leases: RedisLeases) -> None:
        taken = await asyncio.gather(*[leases.take(f"k{number}", 1) for number in range(2000)])
        assert all(taken)
        killed(leases)
        await soon(lambda: empty_redis.call("DBSIZE") == 0)

    with_leases(empty_redis, scenario, life=1.0)


def test_a_set_lives_as_long_as_its_longest_lease(empty_redis: RedisServer) -> None:
    """While the setting is being changed, instances have leases of different lengths."""

    async def scenario(long: RedisLeases) -> None:
        short = RedisLeases(SharedRedis(empty_redis.url, bound_seconds=5.0), lease_seconds=0.5)
        await long.take("s3cret", 9)
        await short.take("s3cret", 9)
        assert 20_000 < empty_redis.call("PTTL", KEY) <= 30_000
        await short._renew_all()
        assert 20_000 < empty_redis.call("PTTL", KEY) <= 30_000
        await short.close()

    with_leases(empty_redis, scenario)


def test_a_refusal_writes_nothing(empty_redis: RedisServer) -> None:
    """Counted by the server itself."""

    async def scenario(leases: RedisLeases) -> None:
        assert await leases.take("k", 1)
        before = empty_redis.calls_of(WRITES), empty_redis.calls_of(["evalsha"])
        assert [await leases.take("k", 1) for _ in range(5)] == [None] * 5
        assert (empty_redis.calls_of(WRITES), empty_redis.calls_of(["evalsha"])) == (before[0], before[1] + 5)

    with_leases(empty_redis, scenario)


def test_an_export_longer_than_a_life_keeps_its_lease(empty_redis: RedisServer) -> None:
    """And when its process is killed another has the place a life later."""

    async def scenario(clocks: Clocks, one: RedisLeases, other: RedisLeases) -> None:
        assert await one.take("s3cret", 1)
        (name,) = names(empty_redis)
        for _ in range(9):
            clocks.move(LIFE_SECONDS / 3)
            await soon(lambda: clocks.seconds_left(KEY) == [LIFE_SECONDS])
            assert await other.take("s3cret", 1) is None
        assert names(empty_redis) == {name}
        killed(one)
        clocks.move(LIFE_SECONDS - 1)
        assert await other.take("s3cret", 1) is None
        clocks.move(1)
        assert await other.take("s3cret", 1)

    with_clocks(empty_redis, scenario, 2)


def test_one_task_renews_all_leases_of_a_process_by_one_command_a_key(empty_redis: RedisServer) -> None:
    async def scenario(leases: RedisLeases) -> None:
        assert await leases.take("k0", 9)
        before = len(asyncio.all_tasks())
        assert all([await leases.take(f"k{number % 10}", 9) for number in range(49)])
        assert len(asyncio.all_tasks()) == before
        await leases._renew_all()
        commands = empty_redis.calls_of(["evalsha", "eval"])
        await leases._renew_all()
        assert empty_redis.calls_of(["evalsha", "eval"]) == commands + 10

    with_leases(empty_redis, scenario)


@pytest.mark.parametrize("turns", range(12))
def test_a_take_that_is_cancelled_leaks_no_lease(empty_redis: RedisServer, turns: int) -> None:
    """Wherever it was; its place is free long before the life of a lease is over."""

    async def scenario(leases: RedisLeases) -> None:
        if turns % 2:
            assert await leases.take("warm", 1)
        tasks = [asyncio.create_task(leases.take("s3cret", 30)) for _ in range(30)]
        for _ in range(turns):
            await asyncio.sleep(0)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        ended = [task for task in tasks if not task.cancelled()]
        await soon(lambda: len(names(empty_redis)) == len(ended) == len(leases._running) - turns % 2)
        assert all(task.result() for task in ended)
        await soon(lambda: not leases._returns)

    with_leases(empty_redis, scenario)


def test_a_take_that_is_cancelled_with_its_answer_in_hand_leaks_no_lease(empty_redis: RedisServer) -> None:
    async def scenario(leases: RedisLeases) -> None:
        task = asyncio.create_task(leases.take("s3cret", 1))
        await has_written(empty_redis)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await soon(lambda: not names(empty_redis))
        assert not leases._running

    with_leases(empty_redis, scenario)


@pytest.mark.parametrize("turns", range(8))
def test_a_give_back_that_is_cancelled_is_made_up_for(empty_redis: RedisServer, turns: int) -> None:
    async def scenario(leases: RedisLeases) -> None:
        lease = await leases.take("s3cret", 1)
        task = asyncio.create_task(leases.give_back("s3cret", str(lease)))
        await asyncio.sleep(0)
        for _ in range(turns):
            await asyncio.sleep(0)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await soon(lambda: not names(empty_redis))

    with_leases(empty_redis, scenario)


class EndingMeanwhile:
    """Exports that end just before one of them is counted anew, or just after they were found lost."""

    def __init__(self, leases: RedisLeases, *ending: str, when: str) -> None:
        self._leases = leases
        self._ending = ending
        self._when = when
        self._sets = leases._sets

    async def take(self, lease: Lease, *, seconds: float = 0.0) -> bool:
        if self._when == "taken":
            await self._mark_over()
        return await self._sets.take(lease, seconds=seconds)

    async def renew(self, redis_key: bytes, leases: Sequence[Lease], *, seconds: float) -> list[Lease]:
        lost = await self._sets.renew(redis_key, leases, seconds=seconds)
        if self._when == "renewed":
            await self._mark_over()
        return lost

    async def remove(self, redis_key: bytes, found: Sequence[bytes]) -> None:
        await self._sets.remove(redis_key, found)

    async def _mark_over(self) -> None:
        for lease in self._ending:
            await self._leases.give_back("s3cret", lease)


@pytest.mark.parametrize("when", ["taken", "renewed"])
def test_an_export_that_ends_while_it_is_counted_anew_leaves_nothing(
    empty_redis: RedisServer, when: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Its own take may follow its end, when the server asks for the script once more; and it is not lost."""

    async def scenario(leases: RedisLeases) -> None:
        ending = [str(await leases.take("s3cret", 9)) for _ in range(3)]
        empty_redis.call("FLUSHALL")
        leases._sets = EndingMeanwhile(leases, *ending, when=when)  # type: ignore[assignment]
        await leases._renew_all()
        assert not names(empty_redis)
        assert len(caplog.messages) == (when == "taken")

    with_leases(empty_redis, scenario)


def test_renewals_that_fail_are_tried_more_often(empty_redis: RedisServer) -> None:
    """So that a lease outlives a server that comes back late in its life."""
    tried = 0

    async def failing(redis_key: bytes, leases: Sequence[Lease], *, seconds: float) -> list[Lease]:
        nonlocal tried
        tried += 1
        raise StoreDown("not now")

    async def scenario(clocks: Clocks, leases: RedisLeases) -> None:
        leases._sets.renew = failing  # type: ignore[method-assign]
        assert await leases.take("s3cret", 1)
        clocks.move(LIFE_SECONDS / 4)
        await asyncio.sleep(0.01)
        assert tried == 0
        for count in range(1, 9):
            clocks.move(LIFE_SECONDS / 12)
            await soon(lambda count=count: tried == count)  # type: ignore[misc]

    with_clocks(empty_redis, scenario)


def test_leases_that_the_server_has_lost_are_taken_anew_and_one_line_says_so(
    empty_redis: RedisServer, caplog: pytest.LogCaptureFixture
) -> None:
    """It was restarted, or somebody emptied it; no more than the limit, whoever comes first."""

    async def scenario(one: RedisLeases, other: RedisLeases) -> None:
        assert await one.take("s3cret", 3)
        assert await one.take("s3cret", 3)
        assert await one.take("k", 1)
        empty_redis.call("FLUSHALL")
        assert await other.take("s3cret", 3)
        assert await other.take("s3cret", 3)
        await one._renew_all()
        await one._renew_all()
        assert len(names(empty_redis)) == 3
        assert await other.take("k", 1) is None

    with_leases(empty_redis, scenario, 2)
    assert [record.getMessage().partition(" has lost ")[2] for record in caplog.records] == [
        "the leases of 3 running exports"
    ]


def test_store_and_leases_share_one_connection(empty_redis: RedisServer) -> None:
    """Which is closed with the last of them."""

    async def run() -> None:
        store = RedisStore(empty_redis.url, bound_seconds=5.0)
        leases = RedisLeases(store.redis)
        await leases.start()
        await store.start()
        assert await leases.take("k", 1)
        assert (await store.hit("k", (Rule(1, NANOSECONDS),))).allowed
        assert len(empty_redis.call("CLIENT", "LIST").splitlines()) == 2  # one of them asks this
        await leases.check()
        await leases.close()
        assert (await store.hit("other", (Rule(1, NANOSECONDS),))).allowed
        assert len(empty_redis.call("CLIENT", "LIST").splitlines()) == 2
        await store.close()
        await soon(lambda: len(empty_redis.call("CLIENT", "LIST").splitlines()) == 1)
        assert asyncio.all_tasks() == {asyncio.current_task()}

    asyncio.run(run())


def test_what_is_over_is_given_back_before_the_end(empty_redis: RedisServer) -> None:
    async def scenario(leases: RedisLeases) -> None:
        lease = await leases.take("s3cret", 1)
        task = asyncio.create_task(leases.give_back("s3cret", str(lease)))
        await asyncio.sleep(0)
        await leases.close()
        await task
        assert not names(empty_redis)
        await leases.close()

    with_leases(empty_redis, scenario)


def test_what_could_not_be_given_back_is_given_back_at_the_end(empty_redis: RedisServer) -> None:
    async def failing(redis_key: bytes, names: Sequence[bytes]) -> None:
        raise StoreDown("not now")

    async def scenario(leases: RedisLeases) -> None:
        lease = await leases.take("s3cret", 1)
        working, leases._sets.remove = leases._sets.remove, failing  # type: ignore[method-assign]
        await leases.give_back("s3cret", str(lease))
        assert names(empty_redis)
        leases._sets.remove = working  # type: ignore[method-assign]
        await leases.close()
        assert not names(empty_redis)

    with_leases(empty_redis, scenario)


def test_close_may_be_called_before_anything(empty_redis: RedisServer) -> None:
    async def scenario(leases: RedisLeases) -> None:
        await leases.close()

    with_leases(empty_redis, scenario)


@pytest.mark.parametrize("seconds", [0, -1, float("nan")])
def test_a_life_out_of_its_range_is_refused(seconds: float) -> None:
    with pytest.raises(ValueError, match=f"lease_seconds={seconds}: expected seconds above 0"):
        RedisLeases(SharedRedis("redis://127.0.0.1:1/0"), lease_seconds=seconds)
