"""The admitted hits of one key or of one overflow window, and tables of such logs that forget the dead."""

from __future__ import annotations

from array import array
from bisect import bisect_right
from collections.abc import Callable
from heapq import heappop, heappush, heapreplace
from typing import Generic, Protocol, Self, TypeVar, overload

_COMPACT_FROM = 16
"""So many stale stamps cost less than the call that removes them."""


class StampLog(Protocol):
    """Ascending stamps: an array, or what behaves like one."""

    def __len__(self) -> int: ...
    @overload
    def __getitem__(self, index: int, /) -> int: ...
    @overload
    def __getitem__(self, index: slice, /) -> StampLog: ...
    def append(self, stamp: int, /) -> None: ...


class InheritedStamps:
    """`count` hits that all count as having happened at `stamp`, then the hits of the key's own.

    So a key takes over what an overflow window holds without copying it: the memory is the same for one hit as for
    a million. None of the hits was later than the newest, so the account is never too low.
    """

    __slots__ = ("_count", "_own", "_stamp")

    def __init__(self, count: int, stamp: int, own: array[int]) -> None:
        self._count = count
        self._stamp = stamp
        self._own = own

    def __len__(self) -> int:
        return self._count + len(self._own)

    @overload
    def __getitem__(self, index: int, /) -> int: ...
    @overload
    def __getitem__(self, index: slice, /) -> StampLog: ...
    def __getitem__(self, index: int | slice, /) -> int | StampLog:
        if isinstance(index, slice):
            return self._from(index.indices(len(self))[0])
        if index < 0:
            index += len(self)
        return self._stamp if index < self._count else self._own[index - self._count]

    def _from(self, start: int) -> StampLog:
        if start >= self._count:
            return self._own[start - self._count :]
        return InheritedStamps(self._count - start, self._stamp, self._own)

    def append(self, stamp: int, /) -> None:
        self._own.append(stamp)


class HitLog:
    """Stamps in ascending order, of which those before index `first` are forgotten; dead from `expires_ns` on.

    An `array('q')` takes 8 bytes a hit; a deque or a list of numbers takes four times as much.
    """

    __slots__ = ("expires_ns", "first", "stamps")

    def __init__(self, stamps: StampLog) -> None:
        self.stamps = stamps
        self.first = 0
        self.expires_ns = 0

    @classmethod
    def inheriting(cls, elder: HitLog | None, now_ns: int, longest_ns: int) -> Self:
        """A log that begins with what another one still holds, or empty."""
        if elder is None:
            return cls(array("q"))
        count = len(elder.stamps) - bisect_right(elder.stamps, now_ns - longest_ns, elder.first)
        return cls(InheritedStamps(count, elder.stamps[-1], array("q")) if count else array("q"))

    def append(self, now_ns: int, longest_ns: int) -> None:
        """Note an admitted hit, and forget the hits that have left the longest window.

        Forgetting moves an index; the array is cut when a quarter of it is stale, which makes the cost of a hit
        constant on average at any limit, and the array at most a third longer than the limit.
        """
        first = bisect_right(self.stamps, now_ns - longest_ns, self.first)
        if first > _COMPACT_FROM and first * 4 > len(self.stamps):
            self.stamps = self.stamps[first:]
            first = 0
        self.first = first
        self.stamps.append(now_ns)
        self.expires_ns = now_ns + longest_ns

    def clear(self) -> None:
        """Forget every hit."""
        self.stamps = array("q")
        self.first = 0


K = TypeVar("K", str, tuple[int, int])


class HitLogs(Generic[K]):
    """Live logs by key.

    A heap holds one expiry a key, set when the key came and anew only when it comes up: a hit never touches it,
    and dead keys are found whatever the order in which windows of different lengths end.
    """

    __slots__ = ("_expiries", "_logs", "get")

    def __init__(self) -> None:
        self._logs: dict[K, HitLog] = {}
        self._expiries: list[tuple[int, K]] = []
        self.get: Callable[[K], HitLog | None] = self._logs.get

    def __len__(self) -> int:
        return len(self._logs)

    def add(self, key: K, log: HitLog) -> None:
        """Keep the log of a key that has none, from its first hit on."""
        self._logs[key] = log
        heappush(self._expiries, (log.expires_ns, key))

    def drop_dead(self, now_ns: int, steps: int) -> None:
        """Drop logs that are dead, looking at no more than `steps` of them."""
        expiries = self._expiries
        while steps and expiries and expiries[0][0] <= now_ns:
            steps -= 1
            key = expiries[0][1]
            log = self._logs[key]
            if log.expires_ns > now_ns:
                heapreplace(expiries, (log.expires_ns, key))
            else:
                heappop(expiries)
                del self._logs[key]
