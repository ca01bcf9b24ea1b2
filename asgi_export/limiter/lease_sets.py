"""The sorted sets of leases in Redis: scripts that take, renew and remove, and what is known of each lease."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from math import ceil
from secrets import token_hex

from asgi_export.redis_client.script import Script, read_script
from asgi_export.redis_client.shared import SharedRedis


def _fresh_name() -> bytes:
    """Return a name that no other lease of any process has, forked processes included."""
    return token_hex(8).encode()


@dataclass(slots=True)
class Lease:
    """A running export, and what Redis knows of it.

    `redis_key` names the set of its key. Redis may have `name` once it was `sent`; it has it when `counted`, as an
    answer may get lost. `over` is set when the export has ended.
    """

    redis_key: bytes
    limit: int
    name: bytes = field(default_factory=_fresh_name)
    sent: bool = False
    counted: bool = False
    over: bool = False

    def replace_name(self) -> None:
        """Take a new name: Redis has expired the old one, and must never renew it."""
        self.name, self.sent, self.counted = _fresh_name(), False, False


class LeaseSets:
    """Run one script on one key, in one round trip. All methods raise `StoreDown` after `seconds` or the bound."""

    def __init__(self, redis: SharedRedis, *, lease_seconds: float) -> None:
        self._redis = redis
        self._life = b"%d" % ceil(lease_seconds * 1e6)
        self._take_script = Script(read_script("asgi_export.limiter", "take_lease.lua"))
        self._renew_script = Script(read_script("asgi_export.limiter", "renew_leases.lua"))
        self._remove_script = Script(read_script("asgi_export.limiter", "give_back_leases.lua"))

    async def take(self, lease: Lease, *, seconds: float = 0.0) -> bool:
        """Take the lease, unless its key has `limit` others; return whether it was taken."""
        # Before the await: from here on an answer may get lost, and the name is to be removed in the end.
        if not self._redis.down:
            lease.sent = True
        limit = b"%d" % lease.limit
        words = (limit, self._life, lease.name)
        lease.counted = await self._redis.ask(self._take_script, lease.redis_key, *words, seconds=seconds) == 1
        return lease.counted

    async def renew(self, redis_key: bytes, leases: Sequence[Lease], *, seconds: float) -> list[Lease]:
        """Renew leases of one set; return those that Redis did not have any more."""
        names = [lease.name for lease in leases]
        found = await self._redis.ask(self._renew_script, redis_key, self._life, *names, seconds=seconds)
        return [lease for lease, renewed in zip(leases, found, strict=True) if not renewed]

    async def remove(self, redis_key: bytes, names: Sequence[bytes]) -> None:
        """Remove leases of one set."""
        await self._redis.ask(self._remove_script, redis_key, *names)
