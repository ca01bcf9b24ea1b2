"""Leases whose clocks the test moves: that of the process, which is the event loop's, and that of the server."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from asgi_export.limiter.redis_leases import RedisLeases
from asgi_export.redis_client.script import read_script
from asgi_export.redis_client.shared import SharedRedis
from tests.limiter.lease_subject import SCRIPTS
from tests.limiter.redis_subject import EPOCH_NS, NOW, by_test_clock
from tests.redis_server import RedisServer

LIFE_SECONDS = 3600
"""So long that what goes by on a real clock meanwhile does not count."""


class MovableLoop(asyncio.SelectorEventLoop):
    """An event loop to which some more seconds have gone by: what is due by then runs in the next turn."""

    ahead = 0.0

    def time(self) -> float:
        return super().time() + self.ahead


class Clocks:
    """Of all instances, in whose loop the test runs, and of their server. `now_us` is the server's."""

    def __init__(self, server: RedisServer) -> None:
        self.now_us = EPOCH_NS // 1000
        self._server = server
        server.call("SET", NOW, self.now_us)

    def move(self, seconds: float) -> None:
        self.move_process(seconds)
        self.move_server(seconds)

    def move_process(self, seconds: float) -> None:
        loop = asyncio.get_running_loop()
        assert isinstance(loop, MovableLoop)
        loop.ahead += seconds

    def move_server(self, seconds: float) -> None:
        """The server must answer."""
        self.now_us += round(seconds * 1e6)
        self._server.call("SET", NOW, self.now_us)

    def seconds_left(self, key: str) -> list[float]:
        """Of each lease of a key."""
        with self._server.client() as client:
            return [(ends - self.now_us) / 1e6 for _, ends in client.zrange(key, 0, -1, withscores=True)]


async def moved_until(clocks: Clocks, condition: Callable[[], object]) -> None:
    """Move the clock of the process on by twelfths of a life, with time for answers, until the condition holds."""
    for _ in range(200):
        if condition():
            return
        clocks.move_process(LIFE_SECONDS / 12)
        await asyncio.sleep(0.05)
    assert condition()


def with_clocks(server: RedisServer, scenario: Callable[..., Awaitable[None]], count: int = 1) -> None:
    """Instances with a connection of their own each; afterwards no task of theirs is left."""

    async def run() -> None:
        clocks = Clocks(server)
        found = [make_leases(server) for _ in range(count)]
        try:
            await scenario(clocks, *found)
        finally:
            for leases in found:
                await leases.close()
        assert asyncio.all_tasks() == {asyncio.current_task()}

    with asyncio.Runner(loop_factory=MovableLoop) as runner:
        runner.run(run())


def make_leases(server: RedisServer) -> RedisLeases:
    """An instance whose server has the time of the test."""
    leases = RedisLeases(SharedRedis(server.url, bound_seconds=1.0), lease_seconds=LIFE_SECONDS)
    for name, file in SCRIPTS.items():
        setattr(leases._sets, name, by_test_clock(read_script("asgi_export.limiter", f"{file}.lua").decode()))
    return leases
