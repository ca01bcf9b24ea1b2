"""The hits of any number of processes and machines, in one Redis or Valkey, from 6.2 on."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from functools import lru_cache

from asgi_export.limiter.memory_store import MAX_KEYS
from asgi_export.limiter.outage import Fallback, MissedHits
from asgi_export.limiter.refusals import Refusals
from asgi_export.limiter.sliding_window import Decision, Rule, Usage, decide
from asgi_export.measure import Metric
from asgi_export.redis_client.driver import Reply, StoreDown
from asgi_export.redis_client.script import Script, read_script
from asgi_export.redis_client.shared import BOUND_SECONDS, OnFailure, SharedRedis, expect

LONGEST_WINDOW_US = 2**51
"""71 years: scripts calculate in doubles, which must hold an expiry exactly."""


class RedisStore:
    """An exact sliding window a key, shared by all who use the same Redis and `prefix`, by the clock of the server.

    A hit is one round trip, over one connection a process. Refusals are cached until another answer is possible, and
    cost none. Redis stores API keys as digests only. The list of a key expires a window after its last hit, and holds
    no more stamps than its limit.

    When Redis is slow or down, no hit waits longer than `bound_seconds` or raises an exception of the network:
    `on_failure` decides. `Fallback` has the bounds on what is then admitted. `instances` is the number of processes
    that share the limit. After three failures in a row the circuit opens, and Redis is probed after 0.25 s, then at
    intervals of up to 5 s. When it answers, the hits of the outage are reported to it, and it decides again. Other
    counters of the process may share the connection, `redis`.

    `decisions` counts hits, `fallbacks` those that were decided without Redis, `kept_refusals` those that were
    refused by the cache. `clock_ns` is the clock of cached refusals and of the local window.

    Raises:
        StartupError: redis-py is not installed, or the address cannot be read.
        ValueError: an argument out of its range.
    """

    def __init__(
        self,
        url: str,
        *,
        bound_seconds: float = BOUND_SECONDS,
        on_failure: OnFailure = "local",
        instances: int | None = None,
        prefix: str = "ax",
        clock_ns: Callable[[], int] = time.monotonic_ns,
        max_keys: int = MAX_KEYS,
    ) -> None:
        expect(instances is None or instances > 0, f"instances={instances}: expected a whole number from 1")
        self.decisions = 0
        self.fallbacks = 0
        self.kept_refusals = 0
        self.redis = SharedRedis(url, bound_seconds=bound_seconds, on_failure=on_failure, prefix=prefix)
        self.redis.attach(self)
        self._clock_ns = clock_ns
        self._hit_script = Script(read_script("asgi_export.limiter", "hit.lua"))
        self._catch_up_script = Script(read_script("asgi_export.limiter", "catch_up.lua"))
        self._refusals = Refusals(max_keys)
        self._fallback = Fallback(on_failure, instances=instances, max_keys=max_keys, clock_ns=clock_ns)

    async def start(self) -> None:
        """Connect, and warn where Redis may evict keys. Does not fail: without Redis `on_failure` decides."""
        await self.redis.start(self)

    async def check(self) -> None:
        """Raise `Unavailable` if Redis does not answer, or if the circuit is open because it did not."""
        await self.redis.check()

    def metrics(self) -> Iterable[Metric]:
        """Yield the decisions without Redis, and whether the circuit is open."""
        yield Metric("limiter_fallbacks", self.fallbacks)
        yield Metric("limiter_kept_refusals", self.kept_refusals)
        yield Metric("limiter_store_down", self.redis.down)

    async def close(self) -> None:
        """Close the connection and stop probing, unless other counters use it. May be called twice."""
        await self.redis.close(self)

    async def hit(self, key: str, rules: Sequence[Rule]) -> Decision:
        """Admit or refuse one hit of `key` under all `rules` at once; see `Store.hit`.

        Raises `Unavailable` if Redis does not answer and the policy is `deny`.
        """
        if not rules:
            return Decision(True, (), 0)
        rules = tuple(rules)
        self.decisions += 1
        asked_ns = self._clock_ns()
        refusal = self._refusals.find(key, rules, asked_ns)
        if refusal is not None:
            self.kept_refusals += 1
            return refusal
        if self.redis.down:
            return await self._decide_locally(key, rules)
        try:
            reply = await self.redis.ask(self._hit_script, self._redis_key(key), *_arguments(rules))
        except StoreDown:
            return await self._decide_locally(key, rules)
        return self._read_decision(key, rules, reply, asked_ns)

    def _read_decision(self, key: str, rules: tuple[Rule, ...], reply: Reply, asked_ns: int) -> Decision:
        """Read a reply of `hit.lua`, and note the decision for an outage or for the cache of refusals."""
        usages: list[Usage] = [
            (reply[at], reply[at + 1] * 1000, reply[at + 2] * 1000) for at in range(1, len(reply), 3)
        ]
        decision = decide(rules, usages)
        if decision.allowed:
            self._fallback.note(key, rules)
        else:
            self._refusals.keep(key, rules, usages, asked_ns, self._clock_ns())
        return decision

    async def _decide_locally(self, key: str, rules: tuple[Rule, ...]) -> Decision:
        self.fallbacks += 1
        return await self._fallback.hit(key, rules, retry_after_seconds=self.redis.retry_after_seconds)

    def _redis_key(self, key: str) -> bytes:
        return self.redis.redis_key(key, "hits")

    async def catch_up(self) -> int:
        """Report the hits that Redis missed; return their number.

        Nothing is awaited after the last `take`, so that no hit can come between it and the closing of the circuit.
        """
        count = 0
        while (missed := self._fallback.take()) is not None:
            account = self._account(missed)
            try:
                count += await self.redis.ask_anyway(self._catch_up_script, self._redis_key(missed.key), *account)
            except StoreDown:
                self._fallback.put_back(missed)
                raise
        return count

    def _account(self, missed: MissedHits) -> list[bytes]:
        now_ns = self._clock_ns()
        ages = [(now_ns - stamp) // 1000 for stamp in (*missed.unseen, *missed.seen)]
        return [b"%d" % n for n in (_microseconds(missed.longest_ns), missed.most, len(missed.unseen), *ages)]


@lru_cache(maxsize=256)
def _arguments(rules: tuple[Rule, ...]) -> tuple[bytes, ...]:
    return tuple([b"%d" % number for rule in rules for number in (rule.limit, _microseconds(rule.window_ns))])


def _microseconds(nanoseconds: int) -> int:
    """Convert to microseconds, rounded up: a window that is too short would admit too much."""
    return min(-(-nanoseconds // 1000), LONGEST_WINDOW_US)
