"""Exports paid for out of bytes a day: through the application in raw ASGI, with a store that the test looks into."""

from __future__ import annotations

import asyncio
import gzip
import json
import logging
import os
from collections.abc import AsyncIterator
from contextlib import suppress
from typing import Any

import pytest

from asgi_export import ExportApp, Selection, dataset
from asgi_export.access.identity import IDENTITY, Identity
from asgi_export.access.plans import AccessPlan
from asgi_export.asgi.context import context_of
from asgi_export.asgi.pump import BrokenOff
from asgi_export.errors import OverQuota, TooManyRequests, Unavailable
from asgi_export.export.meter import GRANT_BYTES, Meter
from asgi_export.limiter.byte_quota import Grant, MemoryByteQuotas
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


class Far(Counted):
    """Counts a grant at once, as Redis does, and answers when the test lets it, or fails then."""

    def __init__(self, error: Exception | None = None) -> None:
        super().__init__()
        self.asked_now = asyncio.Event()
        self.answers = asyncio.Event()
        self._error = error

    async def reserve(self, key: str, limit: int, wanted_bytes: int) -> Grant:
        grant = await super().reserve(key, limit, wanted_bytes)
        self.asked_now.set()
        await self.answers.wait()
        if self._error:
            raise self._error
        return grant


class Lost(Counted):
    """Answers `grants` times, and not again."""

    def __init__(self, grants: int) -> None:
        super().__init__()
        self._left = grants

    async def reserve(self, key: str, limit: int, wanted_bytes: int) -> Grant:
        await self.check()
        self._left -= 1
        return await super().reserve(key, limit, wanted_bytes)

    async def check(self) -> None:
        if not self._left:
            raise Unavailable("the limit store does not answer", retry_after_seconds=3)


@dataset(columns=["noise"])
async def noise(selection: Selection) -> AsyncIterator[tuple[str]]:
    """Of which no coding makes little."""
    for _ in range(2000):
        yield (os.urandom(64).hex(),)


class Keyed:
    """Has every request be alice's, under a plan with so many bytes a day."""

    def __init__(self, app: ExportApp, bytes_a_day: int) -> None:
        self._app = app
        self._plan = AccessPlan("metered", bytes_a_day=bytes_a_day)

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        context_of(scope).set(IDENTITY, Identity("alice", self._plan))
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


def test_a_client_that_leaves_during_a_reservation_gets_it_back() -> None:
    """The store may have counted it by then, though nobody waits for the answer any more."""

    async def scenario() -> None:
        quotas, client = Far(), Client()
        request = asyncio.create_task(client.ask(Keyed(ExportApp([Recorded(5000)], quotas=quotas), 10**9)))
        await quotas.asked_now.wait()
        assert quotas.used == GRANT_BYTES
        client.leave()
        for _ in range(20):  # turns of the loop, in which the producer is cancelled
            await asyncio.sleep(0)
        quotas.answers.set()
        await request
        assert (client.sent, quotas.used) == ([], 0)

    run(scenario())


def test_a_reservation_that_fails_when_nobody_waits_for_it_is_nobody_s_error() -> None:
    async def scenario() -> None:
        quotas = Far(error=Unavailable("the limit store does not answer"))
        meter = Meter(quotas, "alice", 10**9)
        spending = asyncio.create_task(meter.spend(1))
        await quotas.asked_now.wait()
        spending.cancel()
        with suppress(asyncio.CancelledError):
            await spending
        quotas.answers.set()
        await meter.close()

    run(scenario())


def test_without_a_store_that_answers_an_export_is_a_503() -> None:
    async def scenario() -> None:
        client = Client()
        await client.ask(Keyed(ExportApp([Recorded(5000)], quotas=Lost(0)), 10**9))
        assert (client.status, client.headers[b"retry-after"]) == (503, b"3")

    run(scenario())


def test_a_store_that_is_lost_during_an_export_cuts_it_off(caplog: pytest.LogCaptureFixture) -> None:
    """The source has not failed, and there is nothing to mend where a traceback points at."""

    async def scenario() -> None:
        client = Client()
        with pytest.raises(BrokenOff, match="cut off"):
            await client.ask(Keyed(ExportApp([Recorded(None)], quotas=Lost(1)), 10**9))
        assert not client.complete
        assert client.body.endswith(b'"__ERROR__","internal_server_error"\n')

    run(scenario())
    (record,) = [found for found in caplog.records if found.name == "asgi_export"]
    assert (record.levelno, record.exc_info) == (logging.WARNING, None)
    assert "limit store does not answer" in record.message


@pytest.mark.parametrize("coding", [b"gzip", b"zstd"])
def test_a_compressed_export_that_cannot_pay_for_its_last_chunk_ends_without_a_word(
    coding: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    """Its coding has ended by then, and nothing can be said in it any more."""
    caplog.set_level(logging.DEBUG, "asgi_export.stream")

    async def scenario() -> None:
        quotas, whole, broken = Counted(), Client(), Client()
        headers = [(b"accept-encoding", coding)]
        await whole.ask(Keyed(ExportApp([noise], quotas=quotas), 10**9), headers=headers)
        with pytest.raises(BrokenOff, match="cut off"):
            await broken.ask(
                Keyed(ExportApp([noise], quotas=quotas), quotas.used + len(whole.body) - 1000), headers=headers
            )
        assert quotas.used == len(whole.body) + len(broken.body)

    run(scenario())
    assert [found.message for found in caplog.records if found.name == "asgi_export.stream"] == []


def test_quotas_that_do_not_answer_are_named_by_readyz() -> None:
    async def scenario() -> None:
        ready, lost = Client(), Client()
        await ready.ask(ExportApp([Recorded(1)], quotas=Counted()), path="/readyz")
        await lost.ask(ExportApp([Recorded(1)], quotas=Lost(0)), path="/readyz")
        assert (ready.status, lost.status) == (200, 503)
        assert json.loads(lost.body)["failing"] == ["quotas"]

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
