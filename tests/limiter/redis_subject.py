"""What the contract is tried on where the store is Redis: a real server, whose scripts see the test's clock."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from asgi_export.limiter.redis_store import RedisStore
from asgi_export.limiter.sliding_window import NANOSECONDS, Decision, Rule
from asgi_export.redis_client.script import Script, read_script
from tests.limiter.subject import MakeSubject, MovableClock
from tests.redis_server import RedisServer

EPOCH_NS = 1_790_000_000 * NANOSECONDS + 123_457_000
"""Of as many digits as the real time has, since there is code that loses the last ones."""

NOW = "test:now"

VIRTUAL_TIME = """
local function call(name, ...)
  local now, due = tonumber(redis.call('GET', 'test:now')), redis.call('GET', KEYS[1] .. ':due')
  if due and now >= tonumber(due) then
    redis.call('DEL', KEYS[1], KEYS[1] .. ':due')
  end
  if name == 'TIME' then
    return {math.floor(now / 1000000), now % 1000000}
  elseif name == 'PEXPIRE' then
    local key, milliseconds = ...
    return redis.call('SET', key .. ':due', string.format('%.0f', now + milliseconds * 1000))
  elseif name == 'PTTL' then
    local there = redis.call('EXISTS', KEYS[1]) == 1
    return there and due and math.floor((tonumber(due) - now) / 1000) or -2
  end
  return redis.call(name, ...)
end
"""
"""Stands before the script in place of what the server would do by its clock; expiries to the microsecond."""


def by_test_clock(source: str) -> Script:
    """A script whose server has the time that stands under `NOW`, in microseconds."""
    return Script((VIRTUAL_TIME + source.replace("redis.call(", "call(")).encode())


Change = Callable[[str], str]


def unchanged(source: str) -> str:
    return source


class RedisSubject:
    """A store on an emptied server; its own clock and the server's are the test's."""

    tick_ns = 1000

    def __init__(self, server: RedisServer, client: Any, runner: asyncio.Runner, change: Change = unchanged) -> None:
        self.clock = MovableClock(EPOCH_NS)
        self.store = RedisStore(server.url, bound_seconds=5.0, clock_ns=self.clock)
        self.store._hit_script = by_test_clock(change(read_script("asgi_export.limiter", "hit.lua").decode()))
        self._client = client
        self._runner = runner
        client.flushdb()

    def hit(self, key: str, rules: Sequence[Rule]) -> Decision:
        self._client.set(NOW, self.clock.now_ns // 1000)
        decision = self._runner.run(self.store.hit(key, rules))
        assert self.store.fallbacks == 0
        return decision

    def snapshot(self) -> object:
        """Every list byte for byte, and every expiry."""
        names = sorted(self._client.scan_iter("ax:*"))
        return [(name, self._client.dump(name)) for name in names]

    def close(self) -> None:
        self._runner.run(self.store.close())


@contextmanager
def subjects(server: RedisServer, change: Change = unchanged) -> Iterator[MakeSubject]:
    """A factory of subjects, each of which ends the one before."""
    made: list[RedisSubject] = []
    with server.client() as client, asyncio.Runner() as runner:

        def make() -> RedisSubject:
            while made:
                made.pop().close()
            made.append(RedisSubject(server, client, runner, change))
            return made[-1]

        try:
            yield make
        finally:
            while made:
                made.pop().close()
