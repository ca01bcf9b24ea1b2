"""Logs of the admitted hits of one key or one overflow window, and tables of logs that drop dead ones."""

from __future__ import annotations

from array import array
from bisect import bisect_right
from collections.abc import Callable
from heapq import heappop, heappush, heapreplace
from typing import Generic, Protocol, Self, TypeVar, overload

_COMPACT_FROM = 16
"""As many stale stamps cost less than the call that removes them."""


class StampLog(Protocol):
    """Ascending stamps: an array, or an object that behaves like one."""

    def __len__(self) -> int: ...
    @overload
    def __getitem__(self, index: int, /) -> int: ...
    @overload
    def __getitem__(self, index: slice, /) -> StampLog: ...
    def append(self, stamp: int, /) -> None: ...


class InheritedStamps:
    """Count `count` hits as if all had happened at `stamp`, followed by the key's own hits.

    A key takes over the hits of an overflow window in constant memory, without a copy. `stamp` is the newest of them,
    so the key is never allowed too much.
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
    """Stamps in ascending order; those before index `first` are forgotten. Dead from `expires_ns` on.

    An `array('q')` takes 8 bytes a hit; a deque or a list of numbers takes four times as much.
    """

    __slots__ = ("expires_ns", "first", "stamps")

    def __init__(self, stamps: StampLog) -> None:
        self.stamps = stamps
        self.first = 0
        self.expires_ns = 0

    @classmethod
    def inheriting(cls, shared: HitLog | None, now_ns: int, longest_ns: int) -> Self:
        """Make a log that begins with the live hits of a shared one, or empty."""
        if shared is None:
            return cls(array("q"))
        count = len(shared.stamps) - bisect_right(shared.stamps, now_ns - longest_ns, shared.first)
        return cls(InheritedStamps(count, shared.stamps[-1], array("q")) if count else array("q"))

    def append(self, now_ns: int, longest_ns: int) -> None:
        """Note an admitted hit, and forget the hits that have left the longest window.

        Forgetting moves an index. The array is cut when a quarter of it is stale: so a hit costs the same on average
        at any limit, and the array is at most a third longer than the limit.
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

    A heap holds one expiry a key. It is set when the key is added, and updated only when it reaches the top, so a hit
    never touches the heap. Dead keys are found in whatever order windows of different lengths end.
    """

    __slots__ = ("_expiries", "_logs", "get")

    def __init__(self) -> None:
        self._logs: dict[K, HitLog] = {}
        self._expiries: list[tuple[int, K]] = []
        self.get: Callable[[K], HitLog | None] = self._logs.get

    def __len__(self) -> int:
        return len(self._logs)

    def add(self, key: K, log: HitLog) -> None:
        """Add the log of a key that has none, with its first hit."""
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
