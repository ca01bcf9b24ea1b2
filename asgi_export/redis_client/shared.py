"""One Redis for all counters of a process: one connection, one breaker, one recovery.

Theory of operation. Each counter (windows, leases, byte quotas) has its own scripts and its own fallback for an
outage; they share the decision whether Redis is asked. `ask` runs one script on one key within `bound_seconds`. While
the breaker is open it raises `StoreDown` at once, and the counter decides locally, by `on_failure`. Three failures in
a row, of any counters, open the breaker. From the first failure on, one task probes Redis, after 0.25 s and then at
intervals of up to 5 s. When Redis takes writes again, every counter catches up. When no counter has anything left to
report, the breaker is closed, with nothing awaited in between.

A counter attaches itself when it is made; its owner starts and closes it. The last one closes the connection. A
counter that asks after that opens it again.
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

BOUND_SECONDS = 0.05
"""The longest time that a request waits for an answer."""

_PING = pack(b"PING")
_MEMORY = pack(b"INFO", b"memory")
_PROBE = Script(read_script("asgi_export.redis_client", "probe.lua"))


class Counter(Protocol):
    """A counter that uses a `SharedRedis`."""

    async def catch_up(self) -> int:
        """Report by `ask_anyway` what Redis has missed; return the number of entries that it took.

        Called again until no counter reports anything. Raises `StoreDown` if Redis does not answer after all; what
        was not reported remains for the next call.
        """
        ...


class SharedRedis:
    """Run scripts on keys of one Redis or Valkey, from 6.2 on, for all counters of a process.

    `prefix` begins every key. A server that has lost its scripts gets them again. `on_failure` is the policy of all
    counters while Redis is slow or down. One log line marks the beginning of an outage, one its end.

    Raises:
        StartupError: redis-py is not installed, or the address cannot be read.
        ValueError: an argument out of its range.
    """

    def __init__(
        self, url: str, *, bound_seconds: float = BOUND_SECONDS, on_failure: OnFailure = "local", prefix: str = "ax"
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
        self._reports = 0

    @property
    def down(self) -> bool:
        """Whether the circuit is open, because Redis did not answer."""
        return self._breaker.open

    @property
    def patient_seconds(self) -> float:
        """The bound of a call that no request waits for."""
        return max(self._bound_seconds, CONNECT_SECONDS)

    @property
    def retry_after_seconds(self) -> int:
        """Whole seconds until the next probe of Redis, at least 1."""
        return max(ceil(self._probe_at - asyncio.get_running_loop().time()), 1)

    def redis_key(self, key: str, kind: str) -> bytes:
        """Return the name in Redis of a key's data of that kind: a digest, all of one key in one slot."""
        digest = sha256(key.encode("utf-8", "surrogatepass")).hexdigest()[:32]
        return f"{self._prefix}:{{{digest}}}:{kind}".encode()

    def attach(self, counter: Counter) -> None:
        """Add a counter, which catches up when Redis is back."""
        if counter not in self._counters:
            self._counters.append(counter)

    async def start(self, counter: Counter) -> None:
        """Connect, and warn if Redis may evict keys. Never raises: without Redis `on_failure` decides."""
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
        """Raise `Unavailable` if Redis does not answer, or the circuit is open."""
        if self._breaker.open:
            raise Unavailable(f"the limit store {self.place} does not answer")
        try:
            await self._link.call(_PING, self.patient_seconds)
        except StoreDown as error:
            raise Unavailable(f"the limit store {self.place} does not answer: {error}") from error

    async def close(self, counter: Counter) -> None:
        """Detach the counter; with the last one close the connection and stop probing. May be called twice."""
        if counter in self._counters:
            self._counters.remove(counter)
        if self._counters:
            return
        self._started = False
        # The probes end before the connection does, or one would open it again.
        recovery, self._recovery = self._recovery, None
        if recovery is not None:
            recovery.cancel()
            with suppress(asyncio.CancelledError):
                await recovery
        await self._link.close()
        await self._redis.close()

    async def ask(self, script: Script, key: bytes, *words: bytes, seconds: float = 0.0) -> Reply:
        """Run a script on one key within `seconds`, by default the bound; return its reply.

        Raises `StoreDown` without an answer or for an error, and at once while the circuit is open.
        """
        # The circuit may open or close while this awaits. Neither matters: a late failure of an open circuit is not
        # counted, and an answer only clears the failures before it.
        if self._breaker.open:
            raise StoreDown("circuit open")
        try:
            reply = await self._ask(script, key, *words, seconds=seconds)
        except StoreDown as error:
            self._note_failure(error)
            raise
        self._breaker.note_answer()
        return reply

    async def ask_anyway(self, script: Script, key: bytes, *words: bytes, seconds: float = 0.0) -> Reply:
        """Do the same for `catch_up`, though the breaker is open; the caller handles a failure."""
        self._reports += 1
        return await self._ask(script, key, *words, seconds=seconds)

    async def _ask(self, script: Script, *words: bytes, seconds: float) -> Reply:
        """Run a script by its digest; send it whole if the server does not know it."""
        loop = asyncio.get_running_loop()
        give_up_at = loop.time() + (seconds or self._bound_seconds)
        try:
            return await self._link.call(pack(*script.by_digest, b"1", *words), give_up_at - loop.time())
        except UnknownScript:
            return await self._link.call(pack(*script.whole, b"1", *words), max(give_up_at - loop.time(), 0.0))

    def _note_failure(self, error: StoreDown) -> None:
        if not self._counters:
            return  # closed: there is no counter to recover for
        if self._breaker.note_failure(error.occasion):
            self._open_circuit(error)
        elif self._recovery is None and not self._breaker.open:
            self._recover_later()  # one local decision is to be reported already, though Redis is still asked

    def _open_circuit(self, error: StoreDown) -> None:
        """Log that the breaker has opened, and run the recovery."""
        logger.error("limit store %s does not answer (%s); on_failure=%s decides", self.place, error, self.on_failure)
        self._down_since = asyncio.get_running_loop().time()
        if self._recovery is None:
            self._recover_later()

    def _recover_later(self) -> None:
        # A context of its own: its log lines must not carry the id of the request that failed.
        self._recovery = asyncio.create_task(self._recover(), context=Context())

    async def _recover(self) -> None:
        """Probe until Redis answers and every counter has reported what it missed."""
        loop = asyncio.get_running_loop()
        delay, reports = FIRST_PROBE_SECONDS, -1
        while reports < 0:
            self._probe_at = loop.time() + delay
            await asyncio.sleep(delay)
            delay = min(2 * delay, LAST_PROBE_SECONDS)
            with suppress(StoreDown):
                await self._probe()
                reports = await self._catch_up()
        # Nothing is awaited since the last counter had nothing to report: no hit can be decided locally in between,
        # and from here on every hit goes to Redis.
        self._recovery = None
        if self._breaker.open:
            self._breaker.close()
            logger.info(
                "limit store %s answers again after %.1f s; reported %d counts that it missed",
                self.place,
                loop.time() - self._down_since,
                reports,
            )

    async def _probe(self) -> None:
        """Write a key that expires in a millisecond: a server without memory still answers a PING."""
        key = f"{self._prefix}:{{probe}}".encode()
        await self._ask(_PROBE, key, seconds=self.patient_seconds)

    async def _catch_up(self) -> int:
        """Run `catch_up` of all counters until none reports anything; return the number of entries.

        While one counter awaits, hits are decided locally, and another one may have more to report.
        """
        count, reports = 0, -1
        while reports != self._reports:
            reports = self._reports
            for counter in list(self._counters):
                count += await counter.catch_up()
        return count


def expect(holds: bool, message: str) -> None:
    """Raise `ValueError` for an argument out of its range."""
    if not holds:
        raise ValueError(message)


def _eviction_policy(memory: bytes) -> str:
    for line in memory.decode(errors="replace").splitlines():
        name, _, value = line.partition(":")
        if name == "maxmemory_policy":
            return value
    return "unknown"
