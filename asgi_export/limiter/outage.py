"""Decide without a shared store that does not answer, and remember what to report to it."""

from __future__ import annotations

import time
from collections import Counter, deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

from asgi_export.errors import Unavailable
from asgi_export.limiter.memory_store import MAX_KEYS, MemoryStore
from asgi_export.limiter.sliding_window import Decision, Rule, judge, longest_window_ns
from asgi_export.redis_client.shared import OnFailure

_MOST_MISSED = 5000
"""Hits of one key that one command may carry without blocking the store for more than some milliseconds."""


@dataclass(slots=True)
class MissedHits:
    """The hits of one key in ascending nanoseconds: those that the store has not seen, and those that it has.

    A hit is remembered for `longest_ns`. A decision needs the newest `most` hits at most.
    """

    key: str
    longest_ns: int
    most: int
    unseen: deque[int]
    seen: Sequence[int] = ()

    def extend(self, stamps: Iterable[int], longest_ns: int, most: int) -> None:
        """Add later hits that the store has not seen."""
        self.longest_ns = max(self.longest_ns, longest_ns)
        if most > self.most:
            self.most, self.unseen = most, deque(self.unseen, maxlen=most)
        self.unseen.extend(stamps)


class Fallback:
    """Decide by policy, and remember admitted hits until they are reported.

    `local` is a sliding window of this process, warm because `note` gets each hit that the store admits. Its limit is
    `limit // instances`, at least 1, if the number of instances is known, else the whole limit. `allow` admits
    everything. `deny` raises `Unavailable`.

    Over all N instances a window then holds at most: with `deny`, the limit; with `local` and shares, the limit, or
    (2 - 1/N) times the limit if the window spans the beginning of the outage; with `local` and whole limits, N times
    the limit; with `allow` there is no bound.

    Memory: `max_keys` bounds it as that of the memory store. A key has at most as many unreported hits as its limit.
    """

    def __init__(
        self,
        policy: OnFailure,
        *,
        instances: int | None = None,
        max_keys: int = MAX_KEYS,
        clock_ns: Callable[[], int] = time.monotonic_ns,
    ) -> None:
        self._policy = policy
        self._instances = instances or 1
        self._max_keys = max_keys
        self._clock_ns = clock_ns
        self._now_ns = clock_ns()
        # A hit has the same stamp in the window and in `_unseen`; so `take` finds the hits that the store has seen.
        self._window = MemoryStore(clock_ns=lambda: self._now_ns, max_keys=max_keys)
        self._unseen: dict[str, MissedHits] = {}

    def note(self, key: str, rules: Sequence[Rule]) -> None:
        """Note a hit that the store has admitted, which keeps the local window warm."""
        if self._policy == "local":
            self._now_ns = self._clock_ns()
            self._window.note(key, rules)

    async def hit(self, key: str, rules: tuple[Rule, ...], *, retry_after_seconds: int) -> Decision:
        """Decide without the store. Raises `Unavailable` if the policy is `deny`."""
        if self._policy == "deny":
            raise Unavailable("the limit store does not answer", retry_after_seconds=retry_after_seconds)
        self._now_ns = self._clock_ns()
        if self._policy == "allow":
            decision = judge((), 0, 0, rules)
        else:
            decision = await self._window.hit(key, shares(rules, self._instances))
        if decision.allowed:
            self._remember(key, rules)
        return decision

    def take(self) -> MissedHits | None:
        """Remove the unreported hits of one key and return them; None when nothing is left."""
        if not self._unseen:
            return None
        taken = self._unseen.pop(next(iter(self._unseen)))
        seen = Counter(self._window.stamps_ns(taken.key)) - Counter(taken.unseen)
        taken.seen = sorted(seen.elements())[-taken.most :]
        return taken

    def put_back(self, taken: MissedHits) -> None:
        """Remember hits that could not be reported, before those that have come meanwhile."""
        since = self._unseen.get(taken.key)
        if since is not None:
            taken.extend(since.unseen, since.longest_ns, since.most)
        self._unseen[taken.key] = taken

    def _remember(self, key: str, rules: tuple[Rule, ...]) -> None:
        most = min(max([rule.limit for rule in rules]), _MOST_MISSED)
        known = self._unseen.get(key)
        if known is None:
            if len(self._unseen) >= self._max_keys:
                del self._unseen[next(iter(self._unseen))]
            known = self._unseen[key] = MissedHits(key, 0, most, deque(maxlen=most))
        known.extend((self._now_ns,), longest_window_ns(rules), most)


@lru_cache(maxsize=256)
def shares(rules: tuple[Rule, ...], instances: int) -> tuple[Rule, ...]:
    """Divide each limit by the number of instances; each share is at least 1."""
    if instances == 1:
        return rules
    return tuple([replace(rule, limit=max(rule.limit // instances, 1)) for rule in rules])
