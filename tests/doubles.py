"""Small stand-ins: a scripted client in raw ASGI, and datasets that misbehave in one way each."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterator, Mapping
from contextlib import suppress
from typing import Any, Self

from asgiref.testing import ApplicationCommunicator

from asgi_export import Column, Selection
from asgi_export.asgi.break_off import is_break
from asgi_export.asgi.context import context_of
from asgi_export.export.catalogue import Catalogue
from asgi_export.export.parameters import Parameters
from asgi_export.export.plan import Export, plan_export
from asgi_export.formats import FORMATS
from asgi_export.table import Batch, Dataset, Row

COLUMNS = (Column("id", "integer"), Column("text", "text"))
ROW_TEXT = "x" * 60


def http_scope(path: str = "/api/v1/exports/csv", query: str = "", **changes: Any) -> Any:
    """A minimal HTTP scope."""
    return {
        "type": "http",
        "method": "GET",
        "path": path,
        "query_string": query.encode(),
        "headers": [],
        **changes,
    }


def planned(dataset: Dataset) -> Export:
    """The export of a dataset as CSV, by default parameters."""
    catalogue = Catalogue([dataset])
    asyncio.run(catalogue.start())
    return plan_export(catalogue.now, Parameters(), FORMATS["csv"], context_of(http_scope()))


def run(scenario: Coroutine[Any, Any, None]) -> None:
    """Run a scenario; afterwards no task but its own may be left, and nobody may have missed an exception."""

    async def checked() -> None:
        missed: list[Any] = []
        asyncio.get_running_loop().set_exception_handler(lambda _, context: missed.append(context))
        async with asyncio.timeout(20):
            await scenario
        left = asyncio.all_tasks() - {asyncio.current_task()}
        assert not left, f"left over: {left}"
        assert missed == []

    asyncio.run(checked())


def communicator(app: Any, scope: Any) -> Any:
    """The server of asgiref for one scope, whose methods have no types."""
    return ApplicationCommunicator(app, scope)  # type: ignore[no-untyped-call]


def lifespan_of(app: Any) -> list[Any]:
    """What an application answers to start-up and, where that did not fail, to shut-down; then it has returned."""

    async def serve() -> list[Any]:
        server, answers = communicator(app, {"type": "lifespan"}), list[Any]()
        for event in ("startup", "shutdown"):
            await server.send_input({"type": f"lifespan.{event}"})
            answers.append(await server.receive_output(timeout=20))
            if answers[0]["type"] == "lifespan.startup.failed":
                break
        await server.wait(timeout=20)
        assert await server.receive_nothing(timeout=0)
        return answers

    return asyncio.run(serve())


class Turns:
    """Counts the turns of the loop while it is entered; `at_turn` is called at each."""

    def __init__(self, at_turn: Callable[[], None] | None = None) -> None:
        self.count = 0
        self._at_turn = at_turn

    async def __aenter__(self) -> Self:
        self._task = asyncio.create_task(self._run())
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        self._task.cancel()
        with suppress(asyncio.CancelledError):
            await self._task

    async def _run(self) -> None:
        while True:
            self.count += 1
            if self._at_turn is not None:
                self._at_turn()
            await asyncio.sleep(0)


class Client:
    """The server's side of one request: records what is sent, and leaves when the test says so.

    `on_chunk` is awaited inside `send`, with the number of body messages so far: that is where a test makes
    things happen. `requests` messages of request body come before the client is silent. What no application may do
    is noted in `violations`: an exception there would be taken for one of the server's, and dropped.
    """

    def __init__(self, on_chunk: Callable[[int], Awaitable[None]] | None = None, requests: int = 1) -> None:
        self.sent: list[Any] = []
        self.gone = asyncio.Event()
        self.violations: list[str] = []
        self.requests = requests
        self._receiving = 0
        self._sending = 0
        self._disconnected = False
        self._on_chunk = on_chunk

    def leave(self) -> None:
        self.gone.set()

    async def ask(self, app: Any, query: str = "", **scope: Any) -> None:
        """Have `app` answer this client; afterwards nothing that a server relies on may have been broken."""
        try:
            await app(http_scope(query=query, **scope), self.receive, self.send)
        finally:
            assert self.violations == []

    async def receive(self) -> Any:
        if self._receiving:
            self.violations.append("two receive() at once")
        if self._disconnected:
            self.violations.append("receive() after http.disconnect")
        if self.requests:
            self.requests -= 1
            return {"type": "http.request", "body": b"ignored", "more_body": bool(self.requests)}
        self._receiving += 1
        try:
            await self.gone.wait()
        finally:
            self._receiving -= 1
        self._disconnected = True
        return {"type": "http.disconnect"}

    async def send(self, message: Any) -> None:
        if is_break(message):
            raise TypeError("a server cannot write this")
        self._check(message)
        self.sent.append(message)
        self._sending += 1
        try:
            if self._on_chunk is not None and message["type"] == "http.response.body":
                await self._on_chunk(len(self.chunks))
        finally:
            self._sending -= 1

    def _check(self, message: Any) -> None:
        if self._sending:
            self.violations.append("two send() at once")
        if self.complete:
            self.violations.append("send() after the last message")
        if (message["type"] == "http.response.start") == bool(self.sent):
            self.violations.append("a response is one start and then bodies")
        if type(message.get("body", b"")) is not bytes:
            self.violations.append("a body is bytes")

    @property
    def status(self) -> int:
        return int(self.sent[0]["status"])

    @property
    def headers(self) -> Mapping[bytes, bytes]:
        return dict(self.sent[0]["headers"])

    @property
    def chunks(self) -> list[bytes]:
        return [message["body"] for message in self.sent if message["type"] == "http.response.body"]

    @property
    def body(self) -> bytes:
        return b"".join(self.chunks)

    @property
    def complete(self) -> bool:
        return bool(self.sent) and self.sent[-1].get("more_body") is False


class Events(list[str]):
    """What happened, in order."""


class Recorded:
    """A dataset of `rows` rows in batches of `batch_rows`, which notes when it is opened and closed.

    `fail_at` raises `error` in place of that batch; `hang_at` never gives it; `slow_open` and `slow_close` are turns
    of the loop that opening and closing take; `fail_on_close` has the closing raise. Without `rows` it is endless.
    """

    name = "recorded"
    columns = COLUMNS
    default_limit = None

    def __init__(
        self,
        rows: int | None = None,
        *,
        batch_rows: int = 500,
        fail_at: int | None = None,
        hang_at: int | None = None,
        hang_on_open: bool = False,
        slow_open: int = 0,
        slow_close: int = 0,
        fail_on_close: bool = False,
        error: BaseException | None = None,
    ) -> None:
        self.events = Events()
        self.hanging = asyncio.Event()
        self.given = 0
        self._rows = rows
        self._batch_rows = batch_rows
        self._fail_at = fail_at
        self._hang_at = hang_at
        self._hang_on_open = hang_on_open
        self._slow_open = slow_open
        self._slow_close = slow_close
        self._fail_on_close = fail_on_close
        self._error = error if error is not None else RuntimeError("the disk is on fire")

    def open(self, selection: Selection) -> Any:
        return self

    async def __aenter__(self) -> AsyncIterator[Batch]:
        if self._hang_on_open:
            await self._hang()
        for _ in range(self._slow_open):
            await asyncio.sleep(0)
        self.events.append("opened")
        return self._batches()

    async def __aexit__(self, *exc_info: object) -> None:
        for _ in range(self._slow_close):
            await asyncio.sleep(0)
        self.events.append("closed")
        if self._fail_on_close:
            raise self._error

    async def _batches(self) -> AsyncIterator[Batch]:
        while self._rows is None or self.given * self._batch_rows < self._rows:
            if self.given == self._fail_at:
                raise self._error
            if self.given == self._hang_at:
                await self._hang()
            self.given += 1
            yield self._batch()

    def _batch(self) -> list[Row]:
        first = (self.given - 1) * self._batch_rows
        last = first + self._batch_rows if self._rows is None else min(self._rows, first + self._batch_rows)
        return [(number, ROW_TEXT) for number in range(first, last)]

    async def _hang(self) -> None:
        self.hanging.set()
        await asyncio.Event().wait()


class Stubborn(Recorded):
    """Waits at `hang_at`, and takes a cancellation there for a reason to go on."""

    async def _batches(self) -> AsyncIterator[Batch]:
        while True:
            if self.given == self._hang_at:
                with suppress(asyncio.CancelledError):
                    await self._hang()
            self.given += 1
            yield self._batch()


class Blocking:
    """A blocking dataset that waits in a thread until it is interrupted; then its call fails or ends."""

    name = "blocking"
    columns = COLUMNS
    default_limit = None

    def __init__(self, loop: asyncio.AbstractEventLoop, *, hang_at: int = 0) -> None:
        self.events = Events()
        self.hanging = asyncio.Event()
        self._loop = loop
        self._hang_at = hang_at
        self._interrupted = threading.Event()

    def open(self, selection: Selection) -> Any:
        return self

    def __enter__(self) -> Iterator[Batch]:
        self.events.append("opened")
        return self._batches()

    def __exit__(self, *exc_info: object) -> None:
        self.events.append("closed")

    def interrupt(self) -> None:
        self._interrupted.set()

    def _batches(self) -> Iterator[Batch]:
        given = 0
        while True:
            if given == self._hang_at:
                self._loop.call_soon_threadsafe(self.hanging.set)
                self._interrupted.wait()
                raise RuntimeError("interrupted")
            given += 1
            yield [(number, ROW_TEXT) for number in range(2000)]
