"""What decides while a shared store does not answer, and when the store is asked again."""

from __future__ import annotations

import time
from collections import Counter, deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

from asgi_export.errors import Unavailable
from asgi_export.limiter.memory_store import MemoryStore
from asgi_export.limiter.sliding_window import Decision, Rule, judge, longest_window_ns
from asgi_export.redis_client.shared import OnFailure

_MOST_MISSED = 5000
"""Hits of one key: what one command carries without holding the store for more than some milliseconds."""


@dataclass(slots=True)
class MissedHits:
    """Hits of one key in ascending nanoseconds: those that the store has not seen, and those that it has.

    A hit is remembered for `longest_ns`, and no decision needs more than the newest `most` hits.
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
    """Decides by policy, and remembers what it admitted until that is reported.

    `local`: a sliding window of this process, warm since `note` is told each hit that the store admits; at
    `limit // instances`, at least 1, where the number is known, else at the whole limit. `allow`: everything passes.
    `deny`: `Unavailable`.

    Over all N instances a window then holds at most: `deny`, the limit. `local` with shares, the limit, and
    (2 - 1/N) times the limit where it spans the beginning of the outage. `local` with whole limits, N times the
    limit. `allow`: no bound.

    Memory: bounded by `max_keys` as the memory store's; of a key no more hits than its limit are kept for the store.
    """

    def __init__(
        self,
        policy: OnFailure,
        *,
        instances: int | None = None,
        max_keys: int = 100_000,
        clock_ns: Callable[[], int] = time.monotonic_ns,
    ) -> None:
        self._policy = policy
        self._instances = instances or 1
        self._max_keys = max_keys
        self._clock_ns = clock_ns
        self._now_ns = clock_ns()
        # Both accounts of a hit have the same stamp, by which `take` tells them apart from others.
        self._window = MemoryStore(clock_ns=lambda: self._now_ns, max_keys=max_keys)
        self._unseen: dict[str, MissedHits] = {}

    def note(self, key: str, rules: Sequence[Rule]) -> None:
        """A hit that the store has admitted: it keeps the local window warm."""
        if self._policy == "local":
            self._now_ns = self._clock_ns()
            self._window.note(key, rules)

    async def hit(self, key: str, rules: tuple[Rule, ...], *, retry_after_seconds: int) -> Decision:
        """Decide without the store. Raises `Unavailable` where the policy is `deny`."""
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
        """What is to be reported for one key, and is forgotten here; None when nothing is left."""
        if not self._unseen:
            return None
        taken = self._unseen.pop(next(iter(self._unseen)))
        seen = Counter(self._window.stamps_ns(taken.key)) - Counter(taken.unseen)
        taken.seen = sorted(seen.elements())[-taken.most :]
        return taken

    def put_back(self, taken: MissedHits) -> None:
        """It could not be reported: remember it, with what has come meanwhile."""
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
    """The part of each limit that one of so many instances may admit by itself, at least one hit."""
    if instances == 1:
        return rules
    return tuple([replace(rule, limit=max(rule.limit // instances, 1)) for rule in rules])
