"""Hits of any number of processes, kept in one Redis: exact, in one round trip, by the server's clock.

A refusal is remembered here until its moment has come: only time can free a place, so a hammering client costs no
round trip and is still told the truth. When Redis does not answer within `bound_seconds`, the policy decides:

- ``local`` (default): a window in this process's memory, warm at all times, with `limit / instances` where the
  number of instances is known: at most (2 - 1/N) times the limit across the edges of an outage; with full shares
  N times the limit;
- ``allow``: everybody passes, without a bound;
- ``deny``: 503, never past the limit.

Hits that were admitted locally are handed in when Redis is back.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import time
from collections.abc import Callable, Sequence
from importlib.resources import files
from typing import Any, Literal

from asgi_export.errors import Unavailable
from asgi_export.limiter import redis_driver
from asgi_export.limiter.breaker import Breaker
from asgi_export.limiter.memory_store import MemoryStore
from asgi_export.limiter.sliding_window import (
    NANOSECONDS,
    Decision,
    Rule,
    Usage,
    decide,
    longest_window_ns,
)

logger = logging.getLogger("asgi_export.limiter")

BOUND_SECONDS = 0.05
MAX_REFUSALS = 10_000
MAX_OUTAGE_KEYS = 100_000
HAND_IN_KEYS = 100
MICROSECOND_NS = 1000

OnFailure = Literal["local", "allow", "deny"]
Refusal = tuple[tuple[Rule, ...], int, tuple[Usage, ...]]
"""The rules that were asked, when, and what they found."""


class RedisStore:
    """A `Store` on Redis 6.2 and later, or Valkey; see the module for what happens when it does not answer.

    `url` is ``redis://``, ``rediss://``, ``unix://`` or ``redis+sentinel://HOST,HOST/SERVICE/DB``. Keys are stored as
    digests under ``PREFIX:{digest}:hits``, one list of at most `limit` hits each, and expire by themselves; the
    server's `maxmemory-policy` must be `noeviction`. `fallbacks` counts the requests that Redis did not decide.
    """

    def __init__(
        self,
        url: str,
        *,
        bound_seconds: float = BOUND_SECONDS,
        on_failure: OnFailure = "local",
        instances: int | None = None,
        prefix: str = "ax",
        max_keys: int = 100_000,
        clock_ns: Callable[[], int] = time.monotonic_ns,
    ) -> None:
        self.fallbacks = 0
        self._place = redis_driver.place_of(url)
        self._redis = redis_driver.connect(url, bound_seconds=bound_seconds)
        self._bound_seconds = bound_seconds
        self._on_failure = on_failure
        self._instances = instances or 1
        self._prefix = prefix
        self._clock_ns = clock_ns
        self._local = MemoryStore(clock_ns=clock_ns, max_keys=max_keys)
        self._breaker = Breaker(lambda: clock_ns() / NANOSECONDS)
        self._refusals: dict[str, Refusal] = {}
        self._outage: dict[str, tuple[int, list[int]]] = {}
        self._hit = _Script(self._redis, "hit.lua")
        self._hand_in = _Script(self._redis, "hand_in.lua")

    async def start(self) -> None:
        """Look whether the server may forget; without an answer the service starts all the same."""
        try:
            found = await asyncio.wait_for(self._redis.config_get("maxmemory-policy"), 1.0)
        except redis_driver.failures() as error:
            logger.warning("%s does not answer yet: %s", self._place, type(error).__name__)
            return
        policy = found.get("maxmemory-policy", "noeviction")
        if policy != "noeviction":
            logger.warning(
                "%s: maxmemory-policy is %s; expected noeviction, or limits are forgotten", self._place, policy
            )

    async def check(self) -> None:
        """Raises where the server does not answer in a second."""
        await asyncio.wait_for(self._redis.ping(), 1.0)

    async def close(self) -> None:
        """Close the connections."""
        await self._redis.aclose()
        await self._redis.connection_pool.disconnect(inuse_connections=True)

    async def hit(self, key: str, rules: Sequence[Rule]) -> Decision:
        """Admit or refuse one hit, in Redis or by the policy; see `Store.hit`. ``deny`` raises `Unavailable`."""
        if not rules:
            return Decision(True, (), 0)
        name = self._name(key)
        refused = self._still_refused(name, rules)
        if refused is not None:
            return refused
        if self._breaker.ask():
            asked_ns = self._clock_ns()
            try:
                usages = await self._shared(name, rules)
            except redis_driver.failures() as error:
                self._failed(error)
            except asyncio.CancelledError:
                self._breaker.failed()
                raise
            else:
                await self._succeeded()
                return await self._noted(name, rules, usages, asked_ns)
        return await self._fallen_back(name, rules)

    def _name(self, key: str) -> str:
        digest = hashlib.sha256(key.encode("utf-8", "surrogatepass")).hexdigest()[:32]
        return f"{self._prefix}:{{{digest}}}:hits"

    async def _shared(self, name: str, rules: Sequence[Rule]) -> tuple[Usage, ...]:
        arguments = [part for rule in rules for part in (rule.limit, -(-rule.window_ns // MICROSECOND_NS))]
        reply = await self._in_time(self._hit.run(name, arguments))
        found = reply[1:]
        return tuple(
            [
                (found[place], found[place + 1] * MICROSECOND_NS, found[place + 2] * MICROSECOND_NS)
                for place in range(0, len(found), 3)
            ]
        )

    async def _in_time(self, call: Any) -> Any:
        """The call's result, within the bound; where the loop itself was held for longer, within the bound again."""
        task = asyncio.ensure_future(call)
        begun = time.monotonic()
        await asyncio.wait({task}, timeout=self._bound_seconds)
        if not task.done() and time.monotonic() - begun > 1.5 * self._bound_seconds:
            await asyncio.wait({task}, timeout=self._bound_seconds)
        if task.done():
            return task.result()
        task.cancel()
        raise TimeoutError(f"no answer within {self._bound_seconds} s")

    async def _noted(self, name: str, rules: Sequence[Rule], usages: tuple[Usage, ...], asked_ns: int) -> Decision:
        """Keep the local window warm, or remember the refusal."""
        decision = decide(rules, usages)
        if decision.allowed:
            await self._local.hit(name, self._shares(rules))
        else:
            if len(self._refusals) >= MAX_REFUSALS:
                self._refusals.clear()
            self._refusals[name] = (tuple(rules), asked_ns, usages)
        return decision

    def _still_refused(self, name: str, rules: Sequence[Rule]) -> Decision | None:
        """A refusal that no time has changed: until the first hit leaves any of the windows."""
        found = self._refusals.get(name)
        if found is None:
            return None
        known_rules, asked_ns, usages = found
        gone_ns = self._clock_ns() - asked_ns
        if known_rules != tuple(rules) or any(used and gone_ns >= reset_ns for used, reset_ns, _ in usages):
            del self._refusals[name]
            return None
        return decide(
            rules, [(used, max(0, reset - gone_ns), max(0, wait - gone_ns)) for used, reset, wait in usages]
        )

    def _shares(self, rules: Sequence[Rule]) -> list[Rule]:
        return [Rule(max(1, rule.limit // self._instances), rule.window_ns, rule.name) for rule in rules]

    async def _fallen_back(self, name: str, rules: Sequence[Rule]) -> Decision:
        self.fallbacks += 1
        if self._on_failure == "deny":
            raise Unavailable("the limit store does not answer", retry_after_seconds=1)
        if self._on_failure == "allow":
            return decide(rules, [(0, 0, 0)] * len(rules))
        decision = await self._local.hit(name, self._shares(rules))
        if decision.allowed and (name in self._outage or len(self._outage) < MAX_OUTAGE_KEYS):
            _, stamps = self._outage.setdefault(name, (longest_window_ns(rules), []))
            stamps.append(self._clock_ns())
        return decision

    def _failed(self, error: Exception) -> None:
        if self._breaker.failed():
            reason = type(error).__name__
            logger.error("%s does not answer (%s): limits are decided by %r", self._place, reason, self._on_failure)

    async def _succeeded(self) -> None:
        if self._breaker.succeeded():
            logger.warning("%s answers again: limits are shared", self._place)
        if self._outage:
            await self._hand_in_outage()

    async def _hand_in_outage(self) -> None:
        """Give the hits of the outage to Redis, once; what cannot be given now is forgotten."""
        outage, self._outage = self._outage, {}
        now_ns = self._clock_ns()
        for name, (longest_ns, stamps) in outage.items():
            ages = [(now_ns - stamp) // MICROSECOND_NS for stamp in stamps if now_ns - stamp < longest_ns]
            if not ages:
                continue
            try:
                await self._in_time(self._hand_in.run(name, [-(-longest_ns // MICROSECOND_NS), *ages]))
            except redis_driver.failures() as error:
                self._failed(error)
                return


class _Script:
    """A Lua script beside this module, run by its digest, and sent again where the server has lost it."""

    def __init__(self, redis: Any, name: str) -> None:
        self._redis = redis
        self._text = files("asgi_export.limiter").joinpath(name).read_text(encoding="utf-8")
        self._digest = hashlib.sha1(self._text.encode(), usedforsecurity=False).hexdigest()

    async def run(self, name: str, arguments: Sequence[int]) -> Any:
        try:
            return await self._redis.evalsha(self._digest, 1, name, *arguments)
        except redis_driver.failures() as error:
            if not redis_driver.unknown_script(error):
                raise
        return await self._redis.eval(self._text, 1, name, *arguments)
