"""The end of the application, in raw ASGI: what a draining one answers, and when it is idle."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Sequence
from typing import Any

import pytest

from asgi_export import ExportApp
from asgi_export.access.identity import IDENTITY, Identity
from asgi_export.access.plans import AccessPlan
from asgi_export.asgi.context import context_of
from asgi_export.asgi.pump import BrokenOff
from asgi_export.limiter.leases import MemoryLeases
from asgi_export.table import Dataset
from tests.doubles import Client, Recorded, run

EXPORTS = "/api/v1/exports"


class SlowLeases(MemoryLeases):
    """Takes a lease back only when the test lets it."""

    def __init__(self) -> None:
        super().__init__()
        self.giving_back = asyncio.Event()
        self.let = asyncio.Event()

    async def give_back(self, key: str, lease: str) -> None:
        self.giving_back.set()
        await self.let.wait()
        await super().give_back(key, lease)


class SlowPlace:
    """A source that opens when the test lets it."""

    name = "place"

    def __init__(self) -> None:
        self.opening = asyncio.Event()
        self.let = asyncio.Event()
        self.dataset = Recorded(rows=3)

    async def start(self) -> Sequence[Dataset]:
        self.opening.set()
        await self.let.wait()
        return [self.dataset]

    async def refresh(self) -> Sequence[Dataset] | None:
        return None

    async def check(self) -> None: ...

    async def close(self) -> None: ...


class Held:
    """A client whose first chunk waits until the test lets it go."""

    def __init__(self) -> None:
        self.sending = asyncio.Event()
        self.let = asyncio.Event()
        self.client = Client(self._wait)

    async def _wait(self, _: int) -> None:
        self.sending.set()
        await self.let.wait()


async def asked(app: ExportApp, path: str = f"{EXPORTS}/csv", **scope: Any) -> Client:
    client = Client()
    await client.ask(app, path=path, **scope)
    return client


@pytest.mark.parametrize(
    ("path", "status"),
    [(f"{EXPORTS}/csv", 503), (f"{EXPORTS}/", 503), ("/readyz", 503), ("/healthz", 200), ("/nowhere", 404)],
)
@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_a_draining_application_refuses_what_is_new_and_lives(path: str, status: int, method: str) -> None:
    async def scenario() -> None:
        app = ExportApp([Recorded()])
        await app.start()
        app.drain()
        answer = await asked(app, path, method=method)
        assert answer.status == status
        if status == 503:
            assert answer.headers[b"retry-after"] == b"5"
            assert method == "HEAD" or json.loads(answer.body)["error"] == "unavailable"

    run(scenario())


@pytest.mark.parametrize(("version", "closes"), [("1.0", True), ("1.1", True), ("2", False), ("3", False)])
def test_connections_are_told_to_close_where_the_version_has_a_word_for_it(version: str, closes: bool) -> None:
    """A client of a balancer then comes to another process. HTTP/2 takes the field for malformed: RFC 9113 §8.2.2."""

    async def scenario() -> None:
        app = ExportApp([Recorded()])
        app.drain()
        answer = await asked(app, http_version=version)
        assert (answer.headers.get(b"connection") == b"close") is closes

    run(scenario())


def test_running_exports_go_on_to_their_end_and_then_it_is_idle() -> None:
    async def scenario() -> None:
        app, held = ExportApp([Recorded(rows=9)]), Held()
        exporting = asyncio.create_task(held.client.ask(app))
        await held.sending.wait()
        app.drain()
        idle = asyncio.create_task(app.idle())
        assert (await asked(app)).status == 503
        assert not idle.done()
        held.let.set()
        await idle
        await exporting
        assert held.client.complete
        assert held.client.body.count(b"\n") == 10

    run(scenario())


def test_an_export_is_running_until_its_lease_is_given_back() -> None:
    """And whoever waits for it leaves the loop to it."""

    async def scenario() -> None:
        leases = SlowLeases()
        app = ExportApp([Recorded(rows=9)], leases=leases)
        identity = Identity("owner:a", AccessPlan("one", exports_at_once=1))
        client = Client()
        exporting = asyncio.create_task(client.ask(identified_as(app, identity)))
        await leases.giving_back.wait()
        idle = asyncio.create_task(app.idle())
        await asyncio.sleep(0)
        assert client.complete
        assert not idle.done()
        leases.let.set()
        await idle
        await exporting

    run(scenario())


def identified_as(app: ExportApp, identity: Identity) -> Callable[..., Any]:
    """The application behind a middleware that knows who is asking."""

    async def known(scope: Any, receive: Any, send: Any) -> None:
        context_of(scope).set(IDENTITY, identity)
        await app(scope, receive, send)

    return known


def test_it_is_idle_at_once_where_nothing_runs_and_again_after_each_export() -> None:
    async def scenario() -> None:
        app = ExportApp([Recorded(rows=9)])
        for _ in range(2):
            await app.idle()
            assert (await asked(app)).complete

    run(scenario())


def test_an_export_that_waited_for_the_sources_while_the_end_began_is_not_begun() -> None:
    async def scenario() -> None:
        place = SlowPlace()
        app = ExportApp([place])
        asking = asyncio.create_task(asked(app))
        await place.opening.wait()
        app.drain()
        await app.idle()
        place.let.set()
        assert (await asking).status == 503
        assert place.dataset.events == []

    run(scenario())


def test_what_has_not_ended_is_broken_off_by_the_stop() -> None:
    async def scenario() -> None:
        app, held = ExportApp([Recorded()]), Held()
        exporting = asyncio.create_task(held.client.ask(app))
        await held.sending.wait()
        app.drain()
        await app.stop()
        with pytest.raises(BrokenOff):
            await exporting
        assert not held.client.complete

    run(scenario())
