"""The suite has teeth for the script too: every small error put into it is caught."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import pytest

from asgi_export.limiter.sliding_window import Rule
from tests.limiter.contract import CONTRACT, LONG_NS, SHORT_NS, step, unshrunk
from tests.limiter.redis_subject import RedisSubject, subjects
from tests.limiter.subject import MakeSubject
from tests.redis_server import RedisServer


@dataclass(frozen=True, slots=True)
class Mutant:
    """One place of the script, written wrongly."""

    name: str
    right: str
    wrong: str

    def __call__(self, source: str) -> str:
        assert source.count(self.right) == 1, f"{self.right!r} stands {source.count(self.right)} times in the script"
        return source.replace(self.right, self.wrong)


MUTANTS = (
    Mutant("one too many", "if used >= limit then", "if used > limit then"),
    Mutant("one too few", "if used >= limit then", "if used >= limit - 1 then"),
    Mutant("window one shorter", "local edge = now - window", "local edge = now - window + 1"),
    Mutant("window one longer", "local edge = now - window", "local edge = now - window - 1"),
    Mutant("waits for the wrong hit", "wait = stamp(-limit) - edge", "wait = stamp(-1) - edge"),
    Mutant("reset by the newest hit", "reset = oldest - edge", "reset = stamp(-1) - edge"),
    Mutant("refused hits counted", "if not refused then", "if true then"),
    Mutant("one rule is enough", "    refused = true\n  end", "    refused = true\n  else refused = false end"),
    Mutant("follows a clock that steps back", "now = math.max(clock, stamp(-1))", "now = clock"),
    Mutant("cuts a live hit off", "'LTRIM', key, dead, -1", "'LTRIM', key, dead + 1, -1"),
    Mutant("forgets by the shortest window", "math.min(dead, first)", "math.max(dead % length, first)"),
    Mutant("never forgets", "if dead > 0 then", "if false then"),
    Mutant("stamps as text", "'RPUSH', key, now)", "'RPUSH', key, tostring(now))"),
    Mutant("stamp of a clock that stepped back", "'RPUSH', key, now)", "'RPUSH', key, clock)"),
    Mutant("expires early", "math.ceil((longest + now - clock) / 1000)", "math.ceil((longest + now - clock) / 1001)"),
    Mutant("expires late", "math.ceil((longest + now - clock) / 1000)", "math.ceil((longest + now - clock) / 999)"),
    Mutant("expires by the clock that stepped back", "(longest + now - clock)", "(longest)"),
    Mutant("expires by the last rule", "math.max(longest, window)", "window"),
    Mutant("expires by the first rule", "math.max(longest, window)", "longest > 0 and longest or window"),
    Mutant("a refusal prolongs", "return reply", "redis.call('PEXPIRE', key, longest / 1000)\nreturn reply"),
    Mutant("a refusal clears up", "if not refused then", "redis.call('LTRIM', key, dead, -1)\nif not refused then"),
    Mutant("search leaves one out", "low = probe + 1", "low = probe + 2"),
    Mutant(
        "search ends too late", "local low, high, found = 0, length, nil", "local low, high, found = 1, length, nil"
    ),
)


def holds_no_more_stamps_than_the_limit(make: MakeSubject) -> None:
    """Whatever the pace, the list is bounded by the limit of the longest window."""
    subject = make()
    assert isinstance(subject, RedisSubject)
    for number in range(200):
        step(subject, (SHORT_NS // (3 + number % 7), 0))
        subject.hit("a", (Rule(5, SHORT_NS), Rule(9, LONG_NS, "long")))
        (name,) = subject._client.scan_iter("ax:*hits")
        assert subject._client.llen(name) <= 9


CHECKS = (holds_no_more_stamps_than_the_limit, *CONTRACT)


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_keeps_the_contract(check: Callable[[MakeSubject], None], redis_server: RedisServer) -> None:
    """The suite that every store passes, over a real server."""
    with subjects(redis_server) as make:
        check(make)


@pytest.mark.slow
@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name.replace(" ", "-"))
def test_the_suite_kills(mutant: Mutant, redis_server: RedisServer) -> None:
    """A mutant that lives means a sentence of the contract that nothing holds."""
    with subjects(redis_server, mutant) as make:
        assert any(fails(check, make) for check in CHECKS)


def fails(check: Callable[[MakeSubject], None], make: MakeSubject) -> bool:
    try:
        with unshrunk():
            check(make)
    except AssertionError:
        return True
    return False
