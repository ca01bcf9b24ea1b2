"""One Redis that several counters of a process ask: one connection, one breaker, one way back.

Theory of operation. Windows, leases and whatever else is counted over all instances each keep their own scripts and
their own stand-in for an outage; what they share is whether Redis is to be asked. `ask` is one script on one key,
within `bound_seconds`, and raises `StoreDown` at once while the breaker is open: then the counter decides alone, by
`on_failure`. Three failures in a row, whoever met them, open the breaker. From the first failure on one task probes
Redis, after 0.25 s first and every 5 s last; when it takes writes again every counter is told to `catch_up`, and
when none has anything left to tell the breaker is closed, with nothing awaited in between.

A counter is attached as it is made, and started and closed by its own owner; the connection is closed with the last.
A counter that asks after that opens it again.
"""

from __future__ import annotations

import asyncio
import logging
from contextlib import suppress
from contextvars import Context
from hashlib import sha256
from math import ceil
from typing import Literal, Protocol, TypeAlias

from asgi_export.errors import Unavailable
from asgi_export.redis_client.breaker import FIRST_PROBE_SECONDS, LAST_PROBE_SECONDS, Breaker
from asgi_export.redis_client.driver import CONNECT_SECONDS, Redis, Reply, StoreDown, UnknownScript, place_of
from asgi_export.redis_client.link import RedisLink, pack
from asgi_export.redis_client.script import Script, read_script

logger = logging.getLogger("asgi_export.limiter")

OnFailure: TypeAlias = Literal["local", "allow", "deny"]

POLICIES: tuple[OnFailure, ...] = ("local", "allow", "deny")

_PING = pack(b"PING")
_MEMORY = pack(b"INFO", b"memory")
_PROBE = Script(read_script("asgi_export.redis_client", "probe.lua"))


class Counter(Protocol):
    """What counts in a `SharedRedis`."""

    async def catch_up(self) -> int:
        """Tell Redis, which answers again, what it has missed, by `ask_anyway`: how many entries it took.

        Called again until no counter has asked anything. Raises `StoreDown` when Redis does not answer after all;
        what it was not told is kept for the next call.
        """
        ...


class SharedRedis:
    """Scripts on keys of one Redis or Valkey, from 6.2 on, for all counters of a process.

    `prefix` begins every key. A server that forgets its scripts gets them again. `on_failure` is the policy that all
    counters follow while Redis is slow or gone. One log line tells when that begins, one when it ends.

    Raises:
        StartupError: redis-py is not installed, or the address cannot be read.
        ValueError: an argument out of its range.
    """

    def __init__(
        self, url: str, *, bound_seconds: float = 0.05, on_failure: OnFailure = "local", prefix: str = "ax"
    ) -> None:
        expect(bound_seconds > 0, f"bound_seconds={bound_seconds}: expected seconds above 0")
        expect(on_failure in POLICIES, f"on_failure={on_failure!r}: expected one of {', '.join(POLICIES)}")
        expect(not set(prefix) & set("{}"), f"prefix={prefix!r}: expected no braces, which mark the hash tag")
        self.place = place_of(url)
        self.on_failure: OnFailure = on_failure
        self._bound_seconds = bound_seconds
        self._prefix = prefix
        self._redis = Redis(url)
        self._link = RedisLink(self._redis.wire)
        self._breaker = Breaker()
        self._counters: list[Counter] = []
        self._started = False
        self._recovery: asyncio.Task[None] | None = None
        self._probe_at = 0.0
        self._down_since = 0.0
        self._told = 0

    @property
    def down(self) -> bool:
        """Whether the circuit is open, as Redis did not answer."""
        return self._breaker.open

    @property
    def patient_seconds(self) -> float:
        """The bound where nobody's request waits."""
        return max(self._bound_seconds, CONNECT_SECONDS)

    @property
    def retry_after_seconds(self) -> int:
        """Whole seconds until Redis may answer again: until the next probe, at least 1."""
        return max(ceil(self._probe_at - asyncio.get_running_loop().time()), 1)

    def stored(self, key: str, kind: str) -> bytes:
        """The name under which Redis keeps what a key has of that kind: a digest, all of one key in one slot."""
        digest = sha256(key.encode("utf-8", "surrogatepass")).hexdigest()[:32]
        return f"{self._prefix}:{{{digest}}}:{kind}".encode()

    def attach(self, counter: Counter) -> None:
        """Have the counter catch up when Redis is back."""
        if counter not in self._counters:
            self._counters.append(counter)

    async def start(self, counter: Counter) -> None:
        """Connect, and warn where Redis may evict keys. Does not fail: without Redis `on_failure` decides."""
        self.attach(counter)
        if self._started:
            return
        self._started = True
        try:
            memory = await self._link.call(_MEMORY, self.patient_seconds)
        except StoreDown as error:
            self._breaker.trip()
            self._open_circuit(error)
            return
        policy = _eviction_policy(memory)
        if policy != "noeviction":
            logger.warning(
                "limit store %s: maxmemory-policy is %s, so that limits may be forgotten; expected noeviction",
                self.place,
                policy,
            )

    async def check(self) -> None:
        """Raises `Unavailable` when Redis does not answer, or the circuit is open since it did not."""
        if self._breaker.open:
            raise Unavailable(f"the limit store {self.place} does not answer")
        try:
            await self._link.call(_PING, self.patient_seconds)
        except StoreDown as error:
            raise Unavailable(f"the limit store {self.place} does not answer: {error}") from error

    async def close(self, counter: Counter) -> None:
        """Detach the counter; with the last one break the connection off and stop probing. May be called twice."""
        if counter in self._counters:
            self._counters.remove(counter)
        if self._counters:
            return
        self._started = False
        recovery, self._recovery = self._recovery, None
        if recovery is not None:
            recovery.cancel()
            with suppress(asyncio.CancelledError):
                await recovery
        await self._link.close()
        await self._redis.close()

    async def ask(self, script: Script, key: bytes, *words: bytes, seconds: float = 0.0) -> Reply:
        """What a script on one key answers, within `seconds`, by default the bound.

        Raises `StoreDown` when there is no answer or an error, and at once while the circuit is open.
        """
        if self._breaker.open:
            raise StoreDown("circuit open")
        try:
            reply = await self._ask(script, key, *words, seconds=seconds)
        except StoreDown as error:
            self._failed(error)
            raise
        self._breaker.answered()
        return reply

    async def ask_anyway(self, script: Script, key: bytes, *words: bytes, seconds: float = 0.0) -> Reply:
        """The same for `catch_up`, though the breaker is open; a failure is left to whoever called that."""
        self._told += 1
        return await self._ask(script, key, *words, seconds=seconds)

    async def _ask(self, script: Script, *words: bytes, seconds: float) -> Reply:
        """Sent whole where the server does not know it."""
        loop = asyncio.get_running_loop()
        give_up_at = loop.time() + (seconds or self._bound_seconds)
        try:
            return await self._link.call(pack(*script.by_digest, b"1", *words), give_up_at - loop.time())
        except UnknownScript:
            return await self._link.call(pack(*script.whole, b"1", *words), max(give_up_at - loop.time(), 0.0))

    def _failed(self, error: StoreDown) -> None:
        if not self._counters:
            return  # closed, and nobody to recover for
        if self._breaker.failed(error.occasion):
            self._open_circuit(error)
        elif self._recovery is None and not self._breaker.open:
            self._recover_later()  # for what was decided alone, though Redis is still asked

    def _open_circuit(self, error: StoreDown) -> None:
        """The breaker has opened."""
        logger.error("limit store %s does not answer (%s); on_failure=%s decides", self.place, error, self.on_failure)
        self._down_since = asyncio.get_running_loop().time()
        if self._recovery is None:
            self._recover_later()

    def _recover_later(self) -> None:
        self._recovery = asyncio.create_task(self._recover(), context=Context())  # no longer the request that failed

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
                told = await self._catch_up()
        self._recovery = None
        if self._breaker.open:
            self._breaker.close()
            logger.info(
                "limit store %s answers again after %.1f s; reported %d counts that it missed",
                self.place,
                loop.time() - self._down_since,
                told,
            )

    async def _probe(self) -> None:
        """A key that is forgotten in a millisecond: a server that is full answers a PING all the same."""
        key = f"{self._prefix}:{{probe}}".encode()
        await self._ask(_PROBE, key, seconds=self.patient_seconds)

    async def _catch_up(self) -> int:
        """Have all counters report what Redis missed; how much. While one does, another may have got more to tell."""
        count, told = 0, -1
        while told != self._told:
            told = self._told
            for counter in list(self._counters):
                count += await counter.catch_up()
        return count


def expect(holds: bool, message: str) -> None:
    """Raises `ValueError` for an argument out of its range."""
    if not holds:
        raise ValueError(message)


def _eviction_policy(memory: bytes) -> str:
    for line in memory.decode(errors="replace").splitlines():
        name, _, value = line.partition(":")
        if name == "maxmemory_policy":
            return value
    return "unknown"
