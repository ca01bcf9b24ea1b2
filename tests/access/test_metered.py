"""Exports paid for out of bytes a day: through the application in raw ASGI, with a store that the test looks into."""

from __future__ import annotations

import asyncio
import gzip
import json
from typing import Any

import pytest

from asgi_export import ExportApp
from asgi_export.access.caller import Caller, set_caller
from asgi_export.access.metered import GRANT_BYTES, Meter
from asgi_export.access.plans import AccessPlan
from asgi_export.asgi.stream import BrokenOff
from asgi_export.errors import OverQuota, TooManyRequests
from asgi_export.limiter.day_bytes import Grant, MemoryByteQuotas
from tests.doubles import Client, Recorded, run

ROWS_BYTES = len(b"id,text\n") + sum(len(f"{number},{'x' * 60}\n") for number in range(5000))


class Counted(MemoryByteQuotas):
    """Notes what is asked of it."""

    def __init__(self) -> None:
        super().__init__(clock_ns=lambda: 10**15)
        self.asked: list[int] = []

    @property
    def used(self) -> int:
        return sum(self._used.get("alice", {}).values())

    async def reserve(self, key: str, limit: int, wanted_bytes: int) -> Grant:
        self.asked.append(wanted_bytes)
        return await super().reserve(key, limit, wanted_bytes)


class Keyed:
    """Has every request be alice's, under a plan with so many bytes a day."""

    def __init__(self, app: ExportApp, bytes_a_day: int) -> None:
        self._app = app
        self._plan = AccessPlan("metered", bytes_a_day=bytes_a_day)

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        set_caller(scope, Caller("alice", self._plan))
        await self._app(scope, receive, send)


def test_a_whole_export_costs_what_was_sent(caplog: pytest.LogCaptureFixture) -> None:
    """Not what was reserved; and a gzip stream costs its own bytes."""

    async def scenario() -> None:
        quotas = Counted()
        plain, packed = Client(), Client()
        await plain.ask(Keyed(ExportApp([Recorded(5000)], quotas=quotas), 10**9))
        assert (len(plain.body), quotas.used) == (ROWS_BYTES, ROWS_BYTES)
        assert quotas.asked == [GRANT_BYTES]
        app = Keyed(ExportApp([Recorded(5000)], quotas=quotas), 10**9)
        await packed.ask(app, headers=[(b"accept-encoding", b"gzip")])
        assert gzip.decompress(packed.body) == plain.body
        assert quotas.used == ROWS_BYTES + len(packed.body)
        assert len(packed.body) < ROWS_BYTES / 2

    run(scenario())


def test_an_export_without_bytes_left_is_a_429_that_says_when() -> None:
    async def scenario() -> None:
        quotas = Counted()
        source = Recorded(5000)
        app = Keyed(ExportApp([source], quotas=quotas), ROWS_BYTES)
        await Client().ask(app)
        client = Client()
        await client.ask(app)
        problem = json.loads(client.body)
        assert (client.status, problem["violated-policies"]) == (429, ["bytes-a-day"])
        assert problem["type"].endswith("quota-exceeded")
        assert 86_400 < int(client.headers[b"retry-after"]) <= 87_300
        assert source.events == ["opened", "closed"] * 2
        assert quotas.used == ROWS_BYTES

    run(scenario())


def test_an_export_that_meets_the_end_of_the_day_s_bytes_is_broken_off() -> None:
    """And what was sent of it stays within them; what was reserved for the next chunk is given back."""

    async def scenario() -> None:
        quotas = Counted()
        source = Recorded(None)
        client = Client()
        with pytest.raises(BrokenOff, match="cut off"):
            await client.ask(Keyed(ExportApp([source], quotas=quotas), 1_000_000))
        sent = len(client.body.partition(b'"__ERROR__"')[0])
        assert sent == quotas.used
        assert 500_000 < sent <= 1_000_000
        assert not client.complete
        assert source.events == ["opened", "closed"]

    run(scenario())


def test_a_client_that_leaves_pays_for_no_more_than_was_made() -> None:
    async def scenario() -> None:
        quotas = Counted()

        async def leave(chunks: int) -> None:
            if chunks == 3:
                client.leave()

        client = Client(leave)
        await client.ask(Keyed(ExportApp([Recorded(None)], quotas=quotas), 10**9))
        assert len(client.body) <= quotas.used <= len(client.body) + GRANT_BYTES // 2

    run(scenario())


def test_a_head_costs_nothing_and_the_catalogue_lists_the_quota() -> None:
    async def scenario() -> None:
        quotas = Counted()
        app = Keyed(ExportApp([Recorded(5000)], quotas=quotas), 7)
        head, catalogue = Client(), Client()
        await head.ask(app, method="HEAD")
        await catalogue.ask(app, path="/api/v1/exports/")
        assert (head.status, quotas.asked) == (200, [])
        assert json.loads(catalogue.body)["limits"] == [
            {"name": "bytes-a-day", "limit": 7, "window_seconds": 86400, "unit": "content-bytes"}
        ]

    run(scenario())


def test_grants_are_spent_in_order_and_the_rest_goes_back() -> None:
    """A chunk may be paid for out of several grants, where the store gives less than was wanted."""

    async def scenario() -> None:
        quotas = Counted()
        meter = Meter(quotas, "alice", 100)
        await meter.spend(60)
        assert quotas.used == 100
        await meter.spend(30)
        with pytest.raises(OverQuota):
            await meter.spend(11)
        await meter.close()
        assert quotas.used == 90
        other = Meter(quotas, "alice", 100)
        with pytest.raises(TooManyRequests):
            await other.spend(11)
        await other.close()
        await other.close()
        assert quotas.used == 90

    asyncio.run(scenario())
