"""Bytes a day: never over in any 24 hours, free again a bucket late at most, the same in memory and in Redis."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Protocol

import pytest
from hypothesis import given
from hypothesis import strategies as st

from asgi_export.errors import Unavailable
from asgi_export.limiter.byte_quota import BUCKET_SECONDS, SWEEP_KEYS, Grant, MemoryByteQuotas
from asgi_export.limiter.redis_byte_quota import RedisByteQuotas
from asgi_export.redis_client.script import read_script
from asgi_export.redis_client.shared import OnFailure, SharedRedis
from tests.limiter.contract import STEADY
from tests.limiter.redis_subject import NOW, by_test_clock
from tests.limiter.subject import finished
from tests.redis_server import RedisServer

DAY = 86_400
LIMIT = 100
EPOCH = 1_790_000_000 // BUCKET_SECONDS * BUCKET_SECONDS + 450
"""In the middle of a bucket, with as many digits as the real time has."""

keys = st.sampled_from("ab")
advances = st.sampled_from([0, 1, 449, 450, 899, 900, 901, DAY - 900, DAY - 1, DAY, DAY + 1, DAY + 900])
steps = st.one_of(
    st.tuples(st.just("reserve"), keys, st.sampled_from([1, 7, 50, 100, 150]), st.sampled_from([LIMIT, LIMIT, 40])),
    st.tuples(st.just("give back"), st.integers(0, 9), st.integers(0, 60)),
    st.tuples(st.just("advance"), advances),
)


class Subject(Protocol):
    """Fresh quotas, at a time that the test moves, in whole seconds."""

    def reserve(self, key: str, limit: int, wanted: int) -> Grant: ...
    def give_back(self, key: str, grant: Grant, unused: int) -> None: ...
    def advance(self, seconds: int) -> None: ...


class MemoryQuotaSubject:
    """Coroutines are driven by hand, since none of them may ever wait."""

    def __init__(self) -> None:
        self.now = EPOCH
        self.quotas = MemoryByteQuotas(clock_ns=lambda: self.now * 10**9)

    def advance(self, seconds: int) -> None:
        self.now += seconds

    def reserve(self, key: str, limit: int, wanted: int) -> Grant:
        return finished(self.quotas.reserve(key, limit, wanted))

    def give_back(self, key: str, grant: Grant, unused: int) -> None:
        finished(self.quotas.give_back(key, grant, unused))


class RedisQuotaSubject:
    """Two instances in turn on an emptied server, whose scripts see the test's clock."""

    def __init__(self, server: RedisServer, client: Any, runner: asyncio.Runner) -> None:
        self.instances = [RedisByteQuotas(SharedRedis(server.url, bound_seconds=5.0)) for _ in range(2)]
        for instance in self.instances:
            for name in ("reserve", "give_back"):
                setattr(
                    instance,
                    f"_{name}_script",
                    by_test_clock(read_script("asgi_export.limiter", f"{name}_bytes.lua").decode()),
                )
        self.client = client
        self._runner = runner
        self._now = EPOCH
        client.flushdb()
        self.advance(0)

    def advance(self, seconds: int) -> None:
        self._now += seconds
        self.client.set(NOW, self._now * 10**6)

    def reserve(self, key: str, limit: int, wanted: int) -> Grant:
        self.instances.reverse()
        grant = self._runner.run(self.instances[0].reserve(key, limit, wanted))
        assert grant.shared or not grant.granted_bytes
        return grant

    def give_back(self, key: str, grant: Grant, unused: int) -> None:
        self._runner.run(self.instances[0].give_back(key, grant, unused))

    def close(self) -> None:
        for instance in self.instances:
            self._runner.run(instance.close())


MakeSubject = Callable[[], Subject]


@contextmanager
def redis_subjects(server: RedisServer) -> Iterator[Callable[[], RedisQuotaSubject]]:
    """A factory of subjects, each of which ends the one before."""
    made: list[RedisQuotaSubject] = []

    def end() -> None:
        while made:
            made.pop().close()

    with server.client() as client, asyncio.Runner() as runner:

        def make() -> RedisQuotaSubject:
            end()
            made.append(RedisQuotaSubject(server, client, runner))
            return made[-1]

        try:
            yield make
        finally:
            end()


@pytest.fixture(params=["memory", "redis"])
def make(request: pytest.FixtureRequest) -> Iterator[MakeSubject]:
    if request.param == "memory":
        yield MemoryQuotaSubject
        return
    server: RedisServer = request.getfixturevalue("empty_redis")
    with redis_subjects(server) as make_subject:
        yield make_subject


class Oracle:
    """Every grant with its time; a byte counts until the end of its bucket is a day old."""

    def __init__(self) -> None:
        self.now = EPOCH
        self.grants: list[list[Any]] = []

    def used(self, key: str) -> int:
        return sum(count for found, at, count in self.grants if found == key and self.counts(at, self.now))

    @staticmethod
    def counts(at: int, now: int) -> bool:
        return (at // BUCKET_SECONDS + 1) * BUCKET_SECONDS + DAY > now


def test_agrees_with_an_oracle_and_tells_when_bytes_are_free(make: MakeSubject) -> None:
    """Over several keys, limits that change, and bytes given back; who waits as told is granted something."""

    @STEADY
    @given(st.lists(steps, max_size=30))
    def trial(trace: Sequence[Any]) -> None:
        subject, oracle = make(), Oracle()
        grants: list[Grant] = []
        for step in trace:
            if step[0] == "advance":
                subject.advance(step[1])
                oracle.now += step[1]
            elif step[0] == "reserve":
                _, key, wanted, limit = step
                grant = subject.reserve(key, limit, wanted)
                expected = max(min(wanted, limit - oracle.used(key)), 0)
                assert grant.granted_bytes == expected
                if expected:
                    grants.append(grant)
                    oracle.grants.append([key, oracle.now, expected])
                else:
                    moment = grant.retry_after_seconds
                    assert moment >= 1
                    oracle.now += moment - 1
                    assert oracle.used(key) >= limit
                    oracle.now += 1
                    assert oracle.used(key) < limit
                    oracle.now -= moment
            elif grants:
                place = step[1] % len(grants)
                key, at, count = oracle.grants[place]
                unused = min(step[2], count)
                subject.give_back(key, grants[place], unused)
                if oracle.counts(at, oracle.now):
                    oracle.grants[place][2] -= unused

    trial()


def test_no_day_wherever_it_begins_holds_more_than_the_limit(make: MakeSubject) -> None:
    """As much as can be had, every seven minutes for three days."""
    subject = make()
    sent: list[tuple[int, int]] = []
    for turn in range(3 * DAY // 420):
        sent.append((turn * 420, subject.reserve("a", LIMIT, 9).granted_bytes))
        subject.advance(420)
    for begin, _ in sent:
        assert sum(count for at, count in sent if begin <= at < begin + DAY) <= LIMIT
    assert sum(count for _, count in sent) >= 2 * LIMIT


def test_a_byte_is_free_a_day_later_and_at_most_a_bucket_after_that(make: MakeSubject) -> None:
    subject = make()
    assert subject.reserve("a", LIMIT, LIMIT).granted_bytes == LIMIT
    subject.advance(DAY)
    refused = subject.reserve("a", LIMIT, 1)
    assert (refused.granted_bytes, refused.retry_after_seconds) == (0, 450)
    subject.advance(449)
    assert not subject.reserve("a", LIMIT, 1).granted_bytes
    subject.advance(1)
    assert subject.reserve("a", LIMIT, LIMIT).granted_bytes == LIMIT


def test_what_is_given_back_of_a_bucket_that_is_gone_makes_nothing_free(make: MakeSubject) -> None:
    subject = make()
    old = subject.reserve("a", LIMIT, LIMIT)
    subject.advance(DAY + BUCKET_SECONDS)
    subject.reserve("a", LIMIT, LIMIT)
    subject.give_back("a", old, LIMIT)
    assert not subject.reserve("a", LIMIT, 1).granted_bytes


def test_keys_that_are_not_seen_again_leave_nothing_in_memory() -> None:
    """Callers with tokens may be any number, a new one each minute; those of a day must be counted."""
    subject = MemoryQuotaSubject()
    for number in range(20 * SWEEP_KEYS):
        subject.reserve(str(number), LIMIT, LIMIT)
        subject.advance(DAY // SWEEP_KEYS + 1)
        assert len(subject.quotas._used) <= 4 * SWEEP_KEYS
        if number > 10:
            assert subject.reserve(str(number - 10), LIMIT, 1).granted_bytes == 0


def test_a_key_that_is_not_seen_again_leaves_nothing_in_redis(empty_redis: RedisServer) -> None:
    async def scenario() -> None:
        quotas = RedisByteQuotas(SharedRedis(empty_redis.url, bound_seconds=5.0))
        grant = await quotas.reserve("s3cret", LIMIT, 60)
        await quotas.give_back("s3cret", grant, 10)
        await quotas.close()

    with empty_redis.client() as client:
        asyncio.run(scenario())
        (name,) = client.keys()
        assert name.startswith(b"ax:{")
        assert b"s3cret" not in name
        assert client.hvals(name) == [b"50"]
        assert DAY * 1000 < client.pttl(name) <= (DAY + BUCKET_SECONDS) * 1000


def test_many_at_once_are_granted_exactly_the_limit(empty_redis: RedisServer) -> None:
    async def scenario() -> list[Grant]:
        instances = [RedisByteQuotas(SharedRedis(empty_redis.url, bound_seconds=5.0)) for _ in range(4)]
        grants = await asyncio.gather(*[instances[n % 4].reserve("a", 1000, 7) for n in range(400)])
        for instance in instances:
            await instance.close()
        return grants

    granted = [grant.granted_bytes for grant in asyncio.run(scenario())]
    assert sum(granted) == 1000
    assert sorted({*granted}) == [0, 6, 7]


@pytest.mark.parametrize(("policy", "granted"), [("local", 40), ("allow", 90)])
def test_without_redis_the_policy_decides_and_redis_is_told_afterwards(
    empty_redis: RedisServer, policy: OnFailure, granted: int
) -> None:
    """`local` goes on with what this process has been granted; nothing is forgotten when Redis is back."""

    async def scenario() -> None:
        redis = SharedRedis(empty_redis.url, bound_seconds=1.0, on_failure=policy)
        quotas = RedisByteQuotas(redis)
        await quotas.start()
        assert (await quotas.reserve("a", LIMIT, 60)).granted_bytes == 60
        empty_redis.kill()
        grant = await quotas.reserve("a", LIMIT, 90)
        assert (grant.granted_bytes, grant.shared) == (granted, False)
        await quotas.give_back("a", grant, 5)
        empty_redis.start()
        assert redis._recovery
        async with asyncio.timeout(20):
            await redis._recovery
        with empty_redis.client() as client:
            counted = sum(int(value) for value in client.hvals(redis.redis_key("a", "bytes")))
        assert counted in (granted - 5, 60 + granted - 5)  # whether Redis came back with its data or without
        await quotas.close()

    asyncio.run(scenario())


def test_deny_grants_nothing_without_redis(empty_redis: RedisServer) -> None:
    async def scenario() -> None:
        quotas = RedisByteQuotas(SharedRedis(empty_redis.url, bound_seconds=1.0, on_failure="deny"))
        empty_redis.kill()
        with pytest.raises(Unavailable, match="limit store"):
            await quotas.reserve("a", LIMIT, 1)
        await quotas.close()

    try:
        asyncio.run(scenario())
    finally:
        empty_redis.start()
