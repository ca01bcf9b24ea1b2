"""Hits of any number of processes and machines, kept in one Redis or Valkey, from 6.2 on."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import lru_cache
from hashlib import sha1, sha256
from importlib.resources import files
from math import ceil

from asgi_export.errors import Unavailable
from asgi_export.limiter.breaker import FIRST_PROBE_SECONDS, LAST_PROBE_SECONDS, Breaker
from asgi_export.limiter.outage import POLICIES, Fallback, HandIn, OnFailure
from asgi_export.limiter.redis_driver import CONNECT_SECONDS, Redis, Reply, StoreDown, UnknownScript, place_of
from asgi_export.limiter.redis_link import RedisLink, pack
from asgi_export.limiter.refusals import Refusals
from asgi_export.limiter.sliding_window import Decision, Rule, Usage, decide

logger = logging.getLogger("asgi_export.limiter")

LONGEST_WINDOW_US = 2**51
"""71 years: a script reckons in doubles, and an expiry has to fit."""

_PING = pack(b"PING")
_MEMORY = pack(b"INFO", b"memory")


class Script:
    """A script beside this module, and how it is asked for by its digest or sent whole."""

    def __init__(self, source: bytes) -> None:
        self.by_digest = (b"EVALSHA", sha1(source, usedforsecurity=False).hexdigest().encode())
        self.whole = (b"EVAL", source)


def read_script(name: str) -> bytes:
    """The text of a Lua script of this package."""
    return files("asgi_export.limiter").joinpath(name).read_bytes()


class RedisStore:
    """An exact sliding window a key, shared by all who use the same Redis and `prefix`, by the clock of the server.

    A hit is one round trip, over one connection a process. A refusal is kept here until another answer is possible,
    and costs none. API keys are stored as digests only; a key's list expires a window after its last hit and holds
    no more stamps than its limit.

    When Redis is slow or gone no hit waits longer than `bound_seconds`, and none fails by an exception of the
    network: it is decided by `on_failure`; see `Fallback` for the bounds on what is then admitted. `instances` is the
    number of processes that share the limit. After three failures in a row Redis is left alone and probed, after
    0.25 s first and every 5 s last; when it answers, it is told the hits of the outage and decides again.

    `decisions` counts hits, `fallbacks` those that were decided without Redis, `kept_refusals` those that were
    refused without a round trip. `clock_ns` serves kept refusals and the local window only.

    Raises:
        StartupError: redis-py is not installed, or the address cannot be read.
        ValueError: an argument out of its range.
    """

    def __init__(
        self,
        url: str,
        *,
        bound_seconds: float = 0.05,
        on_failure: OnFailure = "local",
        instances: int | None = None,
        prefix: str = "ax",
        clock_ns: Callable[[], int] = time.monotonic_ns,
        max_keys: int = 100_000,
    ) -> None:
        _expect(bound_seconds > 0, f"bound_seconds={bound_seconds}: expected seconds above 0")
        _expect(on_failure in POLICIES, f"on_failure={on_failure!r}: expected one of {', '.join(POLICIES)}")
        _expect(instances is None or instances > 0, f"instances={instances}: expected a whole number from 1")
        _expect(not set(prefix) & set("{}"), f"prefix={prefix!r}: expected no braces, which mark the hash tag")
        self.decisions = 0
        self.fallbacks = 0
        self.kept_refusals = 0
        self.place = place_of(url)
        self._bound_seconds = bound_seconds
        self._on_failure = on_failure
        self._prefix = prefix
        self._clock_ns = clock_ns
        self._redis = Redis(url)
        self._link = RedisLink(self._redis.wire)
        self._hit_script = Script(read_script("hit.lua"))
        self._hand_in_script = Script(read_script("hand_in.lua"))
        self._refusals = Refusals(max_keys)
        self._fallback = Fallback(on_failure, instances=instances, max_keys=max_keys, clock_ns=clock_ns)
        self._breaker = Breaker()
        self._recovery: asyncio.Task[None] | None = None
        self._probe_at = 0.0
        self._down_since = 0.0

    async def start(self) -> None:
        """Connect, and warn where Redis may evict keys. Does not fail: without Redis `on_failure` decides."""
        try:
            memory = await self._link.call(_MEMORY, max(self._bound_seconds, CONNECT_SECONDS))
        except StoreDown as error:
            self._breaker.trip()
            self._leave_alone(error)
            return
        policy = _eviction_policy(memory)
        if policy != "noeviction":
            logger.warning(
                "limit store %s: maxmemory-policy is %s, so that limits may be forgotten; expected noeviction",
                self.place,
                policy,
            )

    async def check(self) -> None:
        """Raises `Unavailable` when Redis does not answer, or is left alone since it did not."""
        if self._breaker.open:
            raise Unavailable(f"the limit store {self.place} does not answer")
        try:
            await self._link.call(_PING, max(self._bound_seconds, CONNECT_SECONDS))
        except StoreDown as error:
            raise Unavailable(f"the limit store {self.place} does not answer: {error}") from error

    async def close(self) -> None:
        """Break the connection off and stop probing. May be called twice."""
        recovery, self._recovery = self._recovery, None
        if recovery is not None:
            recovery.cancel()
            with suppress(asyncio.CancelledError):
                await recovery
        await self._link.close()
        await self._redis.close()

    async def hit(self, key: str, rules: Sequence[Rule]) -> Decision:
        """Admit or refuse one hit of `key` under all `rules` at once; see `Store.hit`.

        Raises `Unavailable` where Redis does not answer and the policy is `deny`.
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
        if self._breaker.open:
            return await self._decide_alone(key, rules)
        try:
            reply = await self._ask(self._hit_script, self._stored(key), *_arguments(rules))
        except StoreDown as error:
            self._failed(error)
            return await self._decide_alone(key, rules)
        return self._decided(key, rules, reply, asked_ns)

    def _decided(self, key: str, rules: tuple[Rule, ...], reply: Reply, asked_ns: int) -> Decision:
        """The decision of a reply of `hit.lua`, noted for the time when there is none."""
        self._breaker.answered()
        usages: list[Usage] = [
            (reply[at], reply[at + 1] * 1000, reply[at + 2] * 1000) for at in range(1, len(reply), 3)
        ]
        decision = decide(rules, usages)
        if decision.allowed:
            self._fallback.note(key, rules)
        else:
            self._refusals.keep(key, rules, usages, asked_ns, self._clock_ns())
        return decision

    async def _decide_alone(self, key: str, rules: tuple[Rule, ...]) -> Decision:
        self.fallbacks += 1
        wait_seconds = self._probe_at - asyncio.get_running_loop().time()
        return await self._fallback.hit(key, rules, retry_after_seconds=max(ceil(wait_seconds), 1))

    async def _ask(self, script: Script, *words: bytes, seconds: float = 0.0) -> Reply:
        """What a script on one key answers, within the bound; sent whole where the server does not know it."""
        loop = asyncio.get_running_loop()
        give_up_at = loop.time() + (seconds or self._bound_seconds)
        try:
            return await self._link.call(pack(*script.by_digest, b"1", *words), give_up_at - loop.time())
        except UnknownScript:
            return await self._link.call(pack(*script.whole, b"1", *words), max(give_up_at - loop.time(), 0.0))

    def _stored(self, key: str) -> bytes:
        digest = sha256(key.encode("utf-8", "surrogatepass")).hexdigest()[:32]
        return f"{self._prefix}:{{{digest}}}:hits".encode()

    def _failed(self, error: StoreDown) -> None:
        if self._breaker.failed(error.occasion):
            self._leave_alone(error)
        elif self._recovery is None and not self._breaker.open:
            self._recover_later()  # for the hits that were decided alone, though Redis is still asked

    def _leave_alone(self, error: StoreDown) -> None:
        """The breaker has opened."""
        logger.error(
            "limit store %s does not answer (%s); on_failure=%s decides", self.place, error, self._on_failure
        )
        self._down_since = asyncio.get_running_loop().time()
        if self._recovery is None:
            self._recover_later()

    def _recover_later(self) -> None:
        self._recovery = asyncio.create_task(self._recover())

    async def _recover(self) -> None:
        """Probe until Redis answers and has been told what it missed."""
        loop = asyncio.get_running_loop()
        delay, told = FIRST_PROBE_SECONDS, -1
        while told < 0:
            self._probe_at = loop.time() + delay
            await asyncio.sleep(delay)
            delay = min(2 * delay, LAST_PROBE_SECONDS)
            with suppress(StoreDown):
                await self._probe()
                told = await self._hand_in()
        self._recovery = None
        if self._breaker.open:
            self._breaker.close()
            logger.info(
                "limit store %s answers again after %.1f s; handed in %d hits",
                self.place,
                loop.time() - self._down_since,
                told,
            )

    async def _probe(self) -> None:
        """A hit that is forgotten in a millisecond: a server that is full answers a PING all the same."""
        key = f"{self._prefix}:{{probe}}:hits".encode()
        await self._ask(self._hit_script, key, b"1", b"1000", seconds=max(self._bound_seconds, CONNECT_SECONDS))

    async def _hand_in(self) -> int:
        """Tell Redis the hits that it missed; how many. Nothing is awaited after the last one was found."""
        count = 0
        while (missed := self._fallback.take()) is not None:
            try:
                count += await self._ask(self._hand_in_script, self._stored(missed.key), *self._account(missed))
            except StoreDown:
                self._fallback.put_back(missed)
                raise
        return count

    def _account(self, missed: HandIn) -> list[bytes]:
        now_ns = self._clock_ns()
        ages = [(now_ns - stamp) // 1000 for stamp in (*missed.unseen, *missed.seen)]
        return [b"%d" % n for n in (_microseconds(missed.longest_ns), missed.most, len(missed.unseen), *ages)]


@lru_cache(maxsize=256)
def _arguments(rules: tuple[Rule, ...]) -> tuple[bytes, ...]:
    return tuple([b"%d" % number for rule in rules for number in (rule.limit, _microseconds(rule.window_ns))])


def _microseconds(nanoseconds: int) -> int:
    """Rounded up: a window that is too short would admit too much."""
    return min(-(-nanoseconds // 1000), LONGEST_WINDOW_US)


def _eviction_policy(memory: bytes) -> str:
    for line in memory.decode(errors="replace").splitlines():
        name, _, value = line.partition(":")
        if name == "maxmemory_policy":
            return value
    return "unknown"


def _expect(holds: bool, message: str) -> None:
    if not holds:
        raise ValueError(message)
