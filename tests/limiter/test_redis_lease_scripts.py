"""The scripts of leases do what the plainest words say, and every small error put into them is caught."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import pytest

from asgi_export.redis_client.script import read_script
from tests.limiter.contract import unshrunk
from tests.limiter.lease_subject import SCRIPTS, redis_leases
from tests.limiter.lease_trial import LEASE_CONTRACT, MakeSubject
from tests.redis_server import RedisServer


@dataclass(frozen=True, slots=True)
class Mutant:
    """One place of one of the scripts, written wrongly."""

    name: str
    right: str
    wrong: str

    def __call__(self, source: str) -> str:
        return source.replace(self.right, self.wrong)


SWEEP = "redis.call('ZREMRANGEBYSCORE', key, '-inf', now)\n"

MUTANTS = (
    Mutant("one too many", "'+inf') >= limit", "'+inf') > limit"),
    Mutant("one too few", "'+inf') >= limit", "'+inf') >= limit - 1"),
    Mutant("counts what has ended", "now + 1, '+inf'", "now, '+inf'"),
    Mutant("does not count what ends soon", "now + 1, '+inf'", "now + 2, '+inf'"),
    Mutant("counts the same lease twice", "ends <= now and ", ""),
    Mutant("takes what has ended for held", "ends <= now and", "ends < now and"),
    Mutant("end as text", "now + life, lease", "tostring(now + life), lease"),
    Mutant("ends early", "now + life, lease", "now + life - 1, lease"),
    Mutant("ends late", "now + life, lease", "now + life + 1, lease"),
    Mutant("the set ends early", "math.ceil(life / 1000)))\nreturn 1", "math.ceil(life / 1001)))\nreturn 1"),
    Mutant("takes never sweep", f"{SWEEP}redis.call('PEXPIRE'", "redis.call('PEXPIRE'"),
    Mutant("renewals never sweep", f"{SWEEP}local renewed", "local renewed"),
    Mutant("sweeps what lives", f"{SWEEP}local renewed", f"{SWEEP.replace('now', 'now + 1')}local renewed"),
    Mutant("renews for too short a time", "'XX', now + life,", "'XX', now + life - 1,"),
    Mutant("renews without the end of the set", "redis.call('PEXPIRE', key, math.max(redis.call('PTTL', key), "
           "math.ceil(life / 1000)))\nreturn renewed", "return renewed"),
    Mutant("brings back to life", "  if held then\n    redis.call('ZADD', key, 'XX',", "  if true then\n    "
           "redis.call('ZADD', key,"),
    Mutant("tells of no loss", "held and 1 or 0", "1"),
    Mutant("tells of losses that are none", "held and 1 or 0", "0"),
    Mutant("renews the first only", "for index = 2, #ARGV", "for index = 2, 2"),
    Mutant("gives nothing back", "redis.call('ZREM', KEYS[1], lease)", ""),
)  # fmt: skip


@pytest.mark.parametrize("check", LEASE_CONTRACT, ids=lambda check: check.__name__)
def test_keeps_the_contract(check: Callable[[MakeSubject], None], redis_server: RedisServer) -> None:
    with redis_leases(redis_server) as make:
        check(make)


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name.replace(" ", "-"))
def test_the_suite_kills(mutant: Mutant, redis_server: RedisServer) -> None:
    """A mutant that lives means a sentence of the contract that nothing holds."""
    sources = [read_script("asgi_export.limiter", f"{file}.lua").decode() for file in SCRIPTS.values()]
    assert sum(source.count(mutant.right) for source in sources) == 1
    with redis_leases(redis_server, mutant) as make:
        assert any(fails(check, make) for check in LEASE_CONTRACT)


def fails(check: Callable[[MakeSubject], None], make: MakeSubject) -> bool:
    try:
        with unshrunk():
            check(make)
    except (AssertionError, ValueError, ExceptionGroup):  # of hypothesis, where it finds several
        return True
    return False
