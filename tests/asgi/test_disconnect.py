"""Bodies are dropped, whoever sends them and however long they take."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from asgi_export import ExportApp, SimulatedDataset
from asgi_export.middleware.outermost import Outermost
from tests.doubles import http_scope, run

PIECE = {"type": "http.request", "body": b"x", "more_body": True}
DISCONNECT = {"type": "http.disconnect"}


class NarrowServer:
    """Puts a body of `pieces` into a queue of ten, and says the disconnect through it too, as Hypercorn does."""

    def __init__(self, pieces: int) -> None:
        self.queue: asyncio.Queue[Any] = asyncio.Queue(10)
        self.sent: list[Any] = []
        self._pieces = pieces
        self._closed = False

    async def serve(self, app: Any, **scope: Any) -> None:
        reading = asyncio.create_task(self._read())
        await asyncio.sleep(0)  # the queue is full before the application begins
        await app(http_scope(**scope), self.queue.get, self.send)
        await reading

    async def _read(self) -> None:
        for _ in range(self._pieces):
            if self._closed:
                return
            await self.queue.put(PIECE)

    async def send(self, message: Any) -> None:
        self.sent.append(message)
        if message["type"] == "http.response.body" and not message.get("more_body"):
            self._closed = True
            await self.queue.put(DISCONNECT)


@pytest.mark.parametrize("pieces", [0, 9, 10, 11, 5000])
@pytest.mark.parametrize(
    ("method", "path", "status"),
    [("GET", "/api/v1/exports/csv", 200), ("POST", "/api/v1/exports/csv", 405), ("GET", "/healthz", 200)],
)
def test_a_server_that_waits_for_room_is_not_kept_waiting(pieces: int, method: str, path: str, status: int) -> None:
    async def scenario() -> None:
        server = NarrowServer(pieces)
        app = Outermost(ExportApp([SimulatedDataset()]))
        await server.serve(app, method=method, path=path, query="total=1" if "csv" in path else "")
        assert server.sent[0]["status"] == status
        await asyncio.gather(*app._watches)

    run(scenario())


def test_the_application_sees_an_empty_body_and_then_the_disconnect() -> None:
    async def scenario() -> None:
        messages: asyncio.Queue[Any] = asyncio.Queue()
        seen = []

        async def app(_scope: Any, receive: Any, _send: Any) -> None:
            seen.append(await receive())
            for _ in range(3):
                messages.put_nowait(PIECE)
            waiting = asyncio.create_task(receive())
            for _ in range(10):
                await asyncio.sleep(0)
            assert messages.empty()
            assert not waiting.done()
            messages.put_nowait(DISCONNECT)
            seen.append(await waiting)
            seen.append(await receive())

        await Outermost(app)(http_scope(), messages.get, None)
        assert seen == [{"type": "http.request", "body": b"", "more_body": False}, DISCONNECT, DISCONNECT]

    run(scenario())


def test_a_receive_that_fails_is_a_disconnect(caplog: pytest.LogCaptureFixture) -> None:
    async def failing() -> Any:
        raise RuntimeError("no such stream")

    async def app(_scope: Any, receive: Any, _send: Any) -> None:
        await receive()
        assert await receive() == DISCONNECT

    async def scenario() -> None:
        await Outermost(app)(http_scope(), failing, None)

    run(scenario())
    assert "no such stream" in caplog.text


def test_what_is_no_http_passes_untouched() -> None:
    async def receive() -> Any:
        return {"type": "lifespan.startup"}

    async def app(scope: Any, given: Any, _send: Any) -> None:
        assert scope == {"type": "lifespan"}
        assert given is receive

    asyncio.run(Outermost(app)({"type": "lifespan"}, receive, None))
