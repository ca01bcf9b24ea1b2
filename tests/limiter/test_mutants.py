"""The suite has teeth: every small error put into the limiter is caught by it."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import ModuleType

import pytest
from hypothesis.errors import Flaky

import asgi_export.limiter
from asgi_export.limiter.memory_store import MemoryStore
from tests.limiter.contract import CONTRACT, unshrunk
from tests.limiter.overflow import OVERFLOW, MakeMemorySubject
from tests.limiter.subject import MemorySubject

ROOM = Path(asgi_export.limiter.__file__).parent
MODULES = ("sliding_window", "hit_log", "memory_store")
"""In the order in which they import each other."""


@dataclass(frozen=True, slots=True)
class Mutant:
    """One line of one module, written wrongly."""

    name: str
    module: str
    right: str
    wrong: str


MUTANTS = (
    # The arithmetic of several rules.
    Mutant(
        "one too many, several rules",
        "sliding_window",
        "if used >= rule.limit else 0",
        "if used > rule.limit else 0",
    ),
    Mutant(
        "window one shorter, several rules",
        "sliding_window",
        "edge_ns = now_ns - rule.window_ns\n    live = bisect_right(stamps, edge_ns, first)\n    used =",
        "edge_ns = now_ns - rule.window_ns + 1\n    live = bisect_right(stamps, edge_ns, first)\n    used =",
    ),
    Mutant(
        "place still taken after the window, several rules",
        "sliding_window",
        "live = bisect_right(stamps, edge_ns, first)\n    used =",
        "live = bisect_right(stamps, edge_ns - 1, first)\n    used =",
    ),
    Mutant("seconds rounded down", "sliding_window", "-(-nanoseconds // NANOSECONDS)", "nanoseconds // NANOSECONDS"),
    Mutant(
        "seconds one too many",
        "sliding_window",
        "-(-nanoseconds // NANOSECONDS)",
        "nanoseconds // NANOSECONDS + 1",
    ),
    Mutant("the earliest refusing rule says when", "sliding_window", "max([wait_ns for", "min([wait_ns for"),
    Mutant(
        "remaining below zero",
        "sliding_window",
        "rule.limit - used if used < rule.limit else 0",
        "rule.limit - used",
    ),
    Mutant("remembers for the first window", "sliding_window", "if len(rules) == 1 else max(", "if True else max("),
    Mutant(
        "remembers for the last window",
        "sliding_window",
        "max([rule.window_ns for rule in rules])",
        "rules[-1].window_ns",
    ),
    Mutant("remaining without this hit", "sliding_window", "taken = 0 if wait_ns else 1", "taken = 0"),
    Mutant("refused hit in remaining", "sliding_window", "taken = 0 if wait_ns else 1", "taken = 1"),
    Mutant("nothing to wait for", "sliding_window", "rule.window_ns if used else 1", "rule.window_ns"),
    # The arithmetic of one rule.
    Mutant("one too many", "sliding_window", "if left > 0:", "if left >= 0:"),
    Mutant("one too few", "sliding_window", "if left > 0:", "if left > 1:"),
    Mutant(
        "window one shorter",
        "sliding_window",
        "- rule.window_ns\n    live = bisect_right(stamps, edge_ns, first)\n    left =",
        "- rule.window_ns + 1\n    live = bisect_right(stamps, edge_ns, first)\n    left =",
    ),
    Mutant(
        "place still taken after the window",
        "sliding_window",
        "live = bisect_right(stamps, edge_ns, first)\n    left =",
        "live = bisect_right(stamps, edge_ns - 1, first)\n    left =",
    ),
    Mutant("reset rounded down", "sliding_window", "-(-reset_ns // NANOSECONDS)", "reset_ns // NANOSECONDS"),
    Mutant(
        "reset of a refusal rounded down",
        "sliding_window",
        "-(-(stamps[live] - edge_ns) // NANOSECONDS)",
        "(stamps[live] - edge_ns) // NANOSECONDS",
    ),
    Mutant(
        "retry rounded down",
        "sliding_window",
        "-(-(stamps[-rule.limit] - edge_ns) // NANOSECONDS)",
        "(stamps[-rule.limit] - edge_ns) // NANOSECONDS",
    ),
    Mutant(
        "retry when the oldest leaves",
        "sliding_window",
        "-(-(stamps[-rule.limit] - edge_ns)",
        "-(-(stamps[live] - edge_ns)",
    ),
    # The log.
    Mutant(
        "forgets one tick early",
        "hit_log",
        "first = bisect_right(self.stamps, now_ns - longest_ns, self.first)",
        "first = bisect_right(self.stamps, now_ns - longest_ns + 1, self.first)",
    ),
    Mutant("never forgets", "hit_log", "self.first = first", "self.first = 0"),
    Mutant("cuts a live hit off", "hit_log", "self.stamps[first:]", "self.stamps[first + 1 :]"),
    Mutant("dies a tick early", "hit_log", "= now_ns + longest_ns", "= now_ns + longest_ns - 1"),
    Mutant("live key evicted", "hit_log", "if log.expires_ns > now_ns:", "if False:"),
    Mutant("dead key kept", "hit_log", "if log.expires_ns > now_ns:", "if True:"),
    Mutant("inherits one hit less", "hit_log", "count = len(shared.stamps) -", "count = -1 + len(shared.stamps) -"),
    Mutant("inherits hits as old ones", "hit_log", "shared.stamps[-1]", "shared.stamps[shared.first]"),
    Mutant("inherited hits never leave", "hit_log", "self._stamp if index", "2**62 if index"),
    # The store.
    Mutant(
        "refused hits counted",
        "memory_store",
        "if decision.allowed:\n            log.append",
        "if True:\n            log.append",
    ),
    Mutant(
        "refused newcomers counted",
        "memory_store",
        "if decision.allowed:\n            self._admit",
        "if True:\n            self._admit",
    ),
    Mutant(
        "refused hits move the clock",
        "memory_store",
        "        if decision.allowed:\n            log.append",
        "        self._newest_ns = now_ns\n        if decision.allowed:\n            log.append",
    ),
    Mutant(
        "refused newcomers clear up",
        "memory_store",
        "        if decision.allowed:\n            self._admit",
        "        self._keys.drop_dead(now_ns, 1)\n        if decision.allowed:\n            self._admit",
    ),
    Mutant("follows a clock that steps back", "memory_store", "if now_ns < self._newest_ns:", "if False:"),
    Mutant("a dead log comes back to life", "memory_store", "            log.clear()", "            pass"),
    Mutant(
        "newest not noted",
        "memory_store",
        "longest_window_ns(rules))\n            self._newest_ns = now_ns",
        "longest_window_ns(rules))",
    ),
    Mutant("more keys than places", "memory_store", "if len(self._keys) < self._max_keys:", "if True:"),
    Mutant("newcomer starts anew", "memory_store", "HitLog.inheriting(shared,", "HitLog.inheriting(None,"),
    Mutant(
        "shared window not looked at",
        "memory_store",
        "if shared is None:\n            decision",
        "if True:\n            decision",
    ),
    Mutant(
        "shared windows of any length",
        "memory_store",
        "self._overflow_windows, longest_ns",
        "self._overflow_windows, 1",
    ),
    Mutant("a full store does not look for the dead", "memory_store", "_STEPS_WHEN_FULL if full else _STEPS", "0"),
    Mutant("overflow not counted", "memory_store", "self.overflow_hits += 1", "pass"),
    Mutant(
        "newcomers refused outright",
        "memory_store",
        "        if decision.allowed:\n            self._admit",
        "        if decision.allowed and self.keys < self._max_keys:\n            self._admit",
    ),
)


@pytest.mark.slow
@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name.replace(" ", "-"))
def test_the_suite_kills(mutant: Mutant) -> None:
    """A mutant that lives means a sentence of the contract that nothing holds."""
    with mutated(mutant) as make_store:
        assert any(fails(check) for check in checks(partial(MemorySubject, make_store)))


@pytest.mark.slow
def test_the_suite_lets_the_unchanged_limiter_live() -> None:
    """Loaded in the same way without an error, so that what kills a mutant is its error."""
    with mutated(Mutant("none", "memory_store", "class MemoryStore:", "class MemoryStore:")) as make_store:
        assert not any(fails(check) for check in checks(partial(MemorySubject, make_store)))


def checks(make: MakeMemorySubject) -> list[Callable[[], None]]:
    of_all_stores = [partial(check, partial(make, max_keys=1000)) for check in CONTRACT]
    return [*(partial(check, make) for check in OVERFLOW), *of_all_stores]


def fails(check: Callable[[], None]) -> bool:
    try:
        with unshrunk():
            check()
    except (AssertionError, IndexError, Flaky):  # which keys share a window is by a seed: a failure may come and go
        return True
    return False


@contextmanager
def mutated(mutant: Mutant) -> Iterator[Callable[..., MemoryStore]]:
    """The memory store of a limiter with one wrong line; the real modules are back in place afterwards."""
    names = [f"asgi_export.limiter.{module}" for module in MODULES]
    real = {name: sys.modules[name] for name in names}
    try:
        for module, name in zip(MODULES, names, strict=True):
            sys.modules[name] = _loaded(name, _source(mutant, module))
        make_store: Callable[..., MemoryStore] = vars(sys.modules[names[-1]])["MemoryStore"]
    finally:
        sys.modules.update(real)
    yield make_store


def _source(mutant: Mutant, module: str) -> str:
    source = (ROOM / f"{module}.py").read_text()
    if module != mutant.module:
        return source
    assert source.count(mutant.right) == 1, f"{mutant.right!r} stands {source.count(mutant.right)} times in {module}"
    return source.replace(mutant.right, mutant.wrong)


def _loaded(name: str, source: str) -> ModuleType:
    module = ModuleType(name)
    sys.modules[name] = module
    exec(compile(source, name, "exec"), vars(module))
    return module
