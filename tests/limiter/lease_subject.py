"""What leases are tried on: those of a process, and those of two instances on one real server with a test's clock."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Protocol, TypeAlias

from asgi_export.limiter.leases import MemoryLeases
from asgi_export.limiter.redis_leases import RedisLeases
from asgi_export.redis_client.script import read_script
from asgi_export.redis_client.shared import SharedRedis
from tests.limiter.redis_subject import EPOCH_NS, NOW, Change, by_test_clock, unchanged
from tests.limiter.subject import finished
from tests.redis_server import RedisServer

LIFE_SECONDS = 30
INSTANCES = 2
SCRIPTS = {"_take_script": "take_lease", "_renew_script": "renew_leases", "_remove_script": "give_back_leases"}


class LeaseSubject(Protocol):
    """Fresh leases to try, of one process or several."""

    def take(self, key: str, limit: int) -> str | None: ...
    def give_back(self, key: str, lease: str) -> None: ...


MakeLeases: TypeAlias = Callable[[], LeaseSubject]


class MemoryLeaseSubject:
    """Coroutines are driven by hand, since none of them may ever wait."""

    def __init__(self) -> None:
        self.leases = MemoryLeases()

    def take(self, key: str, limit: int) -> str | None:
        return finished(self.leases.take(key, limit))

    def give_back(self, key: str, lease: str) -> None:
        finished(self.leases.give_back(key, lease))


class RedisLeaseSubject:
    """Two instances in turn on an emptied server; a lease goes back to the instance that gave it."""

    def __init__(self, server: RedisServer, client: Any, runner: asyncio.Runner, change: Change = unchanged) -> None:
        self.instances = [
            RedisLeases(SharedRedis(server.url, bound_seconds=5.0), lease_seconds=LIFE_SECONDS)
            for _ in range(INSTANCES)
        ]
        for instance in self.instances:
            for name, file in SCRIPTS.items():
                setattr(
                    instance._sets,
                    name,
                    by_test_clock(change(read_script("asgi_export.limiter", f"{file}.lua").decode())),
                )
        self.client = client
        self._runner = runner
        self._turn = 0
        self._now_us = EPOCH_NS // 1000
        client.flushdb()
        self.advance(0)

    def advance(self, microseconds: int) -> None:
        """Move the clock of the server."""
        self._now_us += microseconds
        self.client.set(NOW, self._now_us)

    def take(self, key: str, limit: int) -> str | None:
        self._turn = (self._turn + 1) % INSTANCES
        return self.take_at(self._turn, key, limit)

    def take_at(self, place: int, key: str, limit: int) -> str | None:
        lease = self._runner.run(self.instances[place].take(key, limit))
        return None if lease is None else f"{place}:{lease}"

    def take_again(self, place: int, lease: str) -> bool | None:
        """Ask once more for the lease of a running export; None where there is no such export."""
        found = self.instances[place]._running.get(lease.partition(":")[2])
        return self._runner.run(self.instances[place]._sets.take(found)) if found else None

    def give_back(self, key: str, lease: str) -> None:
        place, _, name = lease.partition(":")
        self._runner.run(self.instances[int(place)].give_back(key, name))

    def renew(self, place: int) -> None:
        """What the instance does every third of a life."""
        assert self._runner.run(self.instances[place]._renew_all())

    def close(self) -> None:
        for instance in self.instances:
            self._runner.run(instance.close())


@contextmanager
def redis_leases(server: RedisServer, change: Change = unchanged) -> Iterator[Callable[[], RedisLeaseSubject]]:
    """A factory of subjects, each of which ends the one before."""
    made: list[RedisLeaseSubject] = []

    def make() -> RedisLeaseSubject:
        while made:
            made.pop().close()
        made.append(RedisLeaseSubject(server, client, runner, change))
        return made[-1]

    with server.client() as client, asyncio.Runner() as runner:
        try:
            yield make
        finally:
            while made:
                made.pop().close()
