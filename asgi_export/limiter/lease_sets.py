"""The sorted sets of leases in Redis: what its scripts take, renew and remove, and what is known of each lease."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from math import ceil
from secrets import token_hex

from asgi_export.redis_client.script import Script, read_script
from asgi_export.redis_client.shared import SharedRedis


def _fresh_name() -> bytes:
    """No other lease of any process has it, forked ones included."""
    return token_hex(8).encode()


@dataclass(slots=True)
class Lease:
    """A running export, and what Redis knows of it.

    `stored` is the set of its key. Redis may have `name` when it was `sent` there, and is known to when it is
    `counted`: an answer may get lost. `over` when the export has ended.
    """

    stored: bytes
    limit: int
    name: bytes = field(default_factory=_fresh_name)
    sent: bool = False
    counted: bool = False
    over: bool = False

    def begin_anew(self) -> None:
        """Redis has let the old name end: it never comes back to life."""
        self.name, self.sent, self.counted = _fresh_name(), False, False


class LeaseSets:
    """One script on one key each, one round trip. All raise `StoreDown`, after `seconds`, by default the bound."""

    def __init__(self, redis: SharedRedis, *, lease_seconds: float) -> None:
        self._redis = redis
        self._life = b"%d" % ceil(lease_seconds * 1e6)
        self._take_script = Script(read_script("asgi_export.limiter", "take_lease.lua"))
        self._renew_script = Script(read_script("asgi_export.limiter", "renew_leases.lua"))
        self._remove_script = Script(read_script("asgi_export.limiter", "give_back_leases.lua"))

    async def take(self, lease: Lease, *, seconds: float = 0.0) -> bool:
        """Have it counted, unless its key has `limit` others."""
        if not self._redis.down:
            lease.sent = True
        limit = b"%d" % lease.limit
        words = (limit, self._life, lease.name)
        lease.counted = await self._redis.ask(self._take_script, lease.stored, *words, seconds=seconds) == 1
        return lease.counted

    async def renew(self, stored: bytes, leases: Sequence[Lease], *, seconds: float) -> list[Lease]:
        """Let leases of one set live on; those that had ended before."""
        names = [lease.name for lease in leases]
        found = await self._redis.ask(self._renew_script, stored, self._life, *names, seconds=seconds)
        return [lease for lease, renewed in zip(leases, found, strict=True) if not renewed]

    async def remove(self, stored: bytes, names: Sequence[bytes]) -> None:
        """End leases of one set."""
        await self._redis.ask(self._remove_script, stored, *names)
