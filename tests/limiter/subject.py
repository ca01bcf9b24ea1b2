"""What the contract is tried on: a store, and a clock that the test moves."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Sequence
from typing import Any, Protocol, TypeAlias, TypeVar

from asgi_export.limiter.hit_log import HitLogs
from asgi_export.limiter.memory_store import MemoryStore
from asgi_export.limiter.sliding_window import Decision, Rule

T = TypeVar("T")


class MovableClock:
    """Stands still until the test moves it."""

    def __init__(self, now_ns: int = 1_000_000_000_000) -> None:
        self.now_ns = now_ns

    def __call__(self) -> int:
        return self.now_ns


class Subject(Protocol):
    """A fresh store to try. `tick_ns` is the smallest step that its clock can tell."""

    tick_ns: int
    clock: MovableClock

    def hit(self, key: str, rules: Sequence[Rule]) -> Decision: ...
    def snapshot(self) -> object: ...


MakeSubject: TypeAlias = Callable[[], Subject]


class MemorySubject:
    """A memory store whose coroutines are driven by hand, since none of them may ever wait."""

    tick_ns = 1

    def __init__(
        self,
        make_store: Callable[..., MemoryStore] = MemoryStore,
        *,
        max_keys: int = 1000,
        overflow_windows: int = 1,
    ) -> None:
        self.clock = MovableClock()
        self.store = make_store(clock_ns=self.clock, max_keys=max_keys, overflow_windows=overflow_windows)

    def hit(self, key: str, rules: Sequence[Rule]) -> Decision:
        return finished(self.store.hit(key, rules))

    def snapshot(self) -> object:
        """Everything that the store keeps, by value."""
        store = self.store
        return store.overflow_hits, store._newest_ns, _contents(store._keys), _contents(store._overflow)


def finished(coroutine: Coroutine[Any, Any, T]) -> T:
    """The result of a coroutine that does not wait for anything."""
    try:
        coroutine.send(None)
    except StopIteration as stop:
        result: T = stop.value
        return result
    coroutine.close()
    raise AssertionError("the coroutine waited: others could have come between reading and writing")


def _contents(logs: HitLogs[Any]) -> object:
    by_key = [
        (key, [log.stamps[index] for index in range(len(log.stamps))], log.first, log.expires_ns)
        for key, log in logs._logs.items()
    ]
    return by_key, list(logs._expiries)
