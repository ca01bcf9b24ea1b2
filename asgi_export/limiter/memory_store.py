"""The hits of one process, in its memory."""

from __future__ import annotations

import os
import time
from array import array
from collections.abc import Callable, Iterable, Sequence
from hashlib import blake2b

from asgi_export.limiter.hit_log import HitLog, HitLogs
from asgi_export.limiter.sliding_window import Decision, Rule, judge, longest_window_ns
from asgi_export.measure import Metric

MAX_KEYS = 100_000

_STEPS = 2
"""Keys that may be dead, checked by every admitted hit: more go than come, without a timer or a sweep."""

_STEPS_WHEN_FULL = 64
"""The same for a newcomer to a full store; some 30 microseconds at most."""

_NO_STAMPS = array("q")


class MemoryStore:
    """An exact sliding window for each of at most `max_keys` keys at once.

    The hits of other keys drop a dead key (one without a hit in its longest window). A live key is never dropped, as
    forgetting its hits would give it a fresh limit. While live keys take all places, newcomers share
    `overflow_windows` windows by a seeded hash: none is refused outright and none passes its limit, but each pays for
    the hits of the others in its window. `overflow_hits` counts the hits admitted that way. A key that gets a place
    later takes over the live hits of its shared window.

    Memory: some 400 bytes a key, and 8 to 11 bytes a remembered hit; a key has at most as many as its limit.

    Not thread-safe. Within one event loop no lock is needed: `hit` never suspends between reading and writing.
    """

    def __init__(
        self,
        *,
        clock_ns: Callable[[], int] = time.monotonic_ns,
        max_keys: int = MAX_KEYS,
        overflow_windows: int = 256,
    ) -> None:
        if max_keys < 1:
            raise ValueError(f"max_keys={max_keys}: expected a whole number from 1")
        if overflow_windows < 1:
            raise ValueError(f"overflow_windows={overflow_windows}: expected a whole number from 1")
        self.overflow_hits = 0
        self._clock_ns = clock_ns
        self._max_keys = max_keys
        self._overflow_windows = overflow_windows
        self._newest_ns = 0
        self._keys: HitLogs[str] = HitLogs()
        self._overflow: HitLogs[tuple[int, int]] = HitLogs()
        self._seed = os.urandom(16)

    @property
    def keys(self) -> int:
        """The number of keys with a window of their own, including dead ones that were not dropped yet."""
        return len(self._keys)

    async def start(self) -> None:
        """Do nothing: there is nothing to connect to."""

    async def check(self) -> None:
        """Do nothing: memory always answers."""

    def metrics(self) -> Iterable[Metric]:
        """Yield the number of keys, and of hits of keys that share a window."""
        yield Metric("limiter_keys", self.keys)
        yield Metric("limiter_overflow_hits", self.overflow_hits)

    async def close(self) -> None:
        """Do nothing: there is nothing to give back."""

    async def hit(self, key: str, rules: Sequence[Rule]) -> Decision:
        """Admit or refuse one hit of `key` under all `rules` at once; see `Store.hit`."""
        if not rules:
            return Decision(True, (), 0)
        now_ns = self._clock_ns()
        if now_ns < self._newest_ns:
            now_ns = self._newest_ns  # the clock stepped back; written out, since `max` costs 60 ns
        log = self._keys.get(key)
        if log is None:
            return self._hit_of_newcomer(key, rules, now_ns)
        if log.expires_ns <= now_ns:
            log.clear()  # the hit that follows is admitted: no limit is below one
        decision = judge(log.stamps, log.first, now_ns, rules)
        if decision.allowed:
            log.append(now_ns, longest_window_ns(rules))
            self._newest_ns = now_ns
            self._keys.drop_dead(now_ns, _STEPS)
        return decision

    def note(self, key: str, rules: Sequence[Rule]) -> None:
        """Note a hit that was admitted elsewhere under these rules; there must be at least one."""
        now_ns = max(self._clock_ns(), self._newest_ns)
        longest_ns = longest_window_ns(rules)
        log = self._keys.get(key)
        if log is None:
            self._admit_newcomer(key, self._shared_log(key, longest_ns), now_ns, longest_ns)
            return
        log.append(now_ns, longest_ns)
        self._newest_ns = now_ns
        self._keys.drop_dead(now_ns, _STEPS)

    def stamps_ns(self, key: str) -> Sequence[int]:
        """Return the stamps of the remembered hits of a key, ascending; none for a key that shares a window."""
        log = self._keys.get(key)
        return () if log is None else [log.stamps[index] for index in range(log.first, len(log.stamps))]

    def _hit_of_newcomer(self, key: str, rules: Sequence[Rule], now_ns: int) -> Decision:
        """Judge a key without a window of its own by the overflow window that may hold hits of it."""
        longest_ns = longest_window_ns(rules)
        shared = self._shared_log(key, longest_ns)
        if shared is None:
            decision = judge(_NO_STAMPS, 0, now_ns, rules)
        else:
            decision = judge(shared.stamps, shared.first, now_ns, rules)
        if decision.allowed:
            self._admit_newcomer(key, shared, now_ns, longest_ns)
        return decision

    def _admit_newcomer(self, key: str, shared: HitLog | None, now_ns: int, longest_ns: int) -> None:
        full = len(self._keys) >= self._max_keys
        self._newest_ns = now_ns
        self._keys.drop_dead(now_ns, _STEPS_WHEN_FULL if full else _STEPS)
        self._overflow.drop_dead(now_ns, _STEPS)
        if len(self._keys) < self._max_keys:
            log = HitLog.inheriting(shared, now_ns, longest_ns)
            log.append(now_ns, longest_ns)
            self._keys.add(key, log)
        else:
            self._hit_overflow(key, now_ns, longest_ns)

    def _hit_overflow(self, key: str, now_ns: int, longest_ns: int) -> None:
        self.overflow_hits += 1
        place = self._place(key, longest_ns)
        shared = self._overflow.get(place)
        if shared is not None:
            shared.append(now_ns, longest_ns)
            return
        shared = HitLog(array("q"))
        shared.append(now_ns, longest_ns)
        self._overflow.add(place, shared)

    def _shared_log(self, key: str, longest_ns: int) -> HitLog | None:
        """Return the overflow window that may hold live hits of the key, or None."""
        if len(self._overflow) == 0:
            return None
        return self._overflow.get(self._place(key, longest_ns))

    def _place(self, key: str, longest_ns: int) -> tuple[int, int]:
        """Choose the key's overflow window. The seed keeps an attacker from choosing its neighbours.

        Windows of different lengths are separate, since a log has one length only.
        """
        digest = blake2b(key.encode(errors="surrogatepass"), digest_size=8, key=self._seed).digest()
        return int.from_bytes(digest) % self._overflow_windows, longest_ns
