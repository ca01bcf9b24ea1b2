"""The lifespan: what a server is told, and that what was started is stopped."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from asgi_export.asgi.lifespan import AroundLifespan, answer_lifespan
from asgi_export.errors import StartupError

STARTED, STOPPED = {"type": "lifespan.startup.complete"}, {"type": "lifespan.shutdown.complete"}


class Server:
    """Says start-up, and shut-down only after the start-up has been answered."""

    def __init__(self, *messages: str) -> None:
        self.sent: list[Any] = []
        self._messages = list(messages or ["lifespan.startup", "lifespan.shutdown"])

    async def receive(self) -> Any:
        assert self._messages, "received more than there is"
        return {"type": self._messages.pop(0)}

    async def send(self, message: Any) -> None:
        self.sent.append(message)


class Part:
    """Something with a start and an end, which notes both and fails where it is told to."""

    def __init__(self, name: str, events: list[str], *, fails: str = "", error: Exception | None = None) -> None:
        self._name = name
        self._events = events
        self._fails = fails
        self._error = error or StartupError(f"{name} is broken")

    async def start(self) -> None:
        await self._step("start")

    async def stop(self) -> None:
        await self._step("stop")

    async def _step(self, step: str) -> None:
        self._events.append(f"{step} {self._name}")
        if self._fails == step:
            raise self._error


def app(server: Any, part: Part) -> Any:
    return answer_lifespan(server.receive, server.send, start=part.start, stop=part.stop)


def around(server: Server, outer: Part, inner: Part) -> None:
    found: Any = AroundLifespan(server.receive, server.send, start=outer.start, stop=outer.stop)
    asyncio.run(app(found, inner))


def test_start_and_stop_are_answered_once_each() -> None:
    server, events = Server(), list[str]()
    asyncio.run(app(server, Part("app", events)))
    assert server.sent == [STARTED, STOPPED]
    assert events == ["start app", "stop app"]


def test_a_start_that_fails_says_why_and_stops_nothing() -> None:
    server, events = Server(), list[str]()
    asyncio.run(app(server, Part("app", events, fails="start")))
    assert server.sent == [{"type": "lifespan.startup.failed", "message": "app is broken"}]
    assert events == ["start app"]


def test_a_stop_that_fails_says_why() -> None:
    server = Server()
    asyncio.run(app(server, Part("app", [], fails="stop")))
    assert server.sent == [STARTED, {"type": "lifespan.shutdown.failed", "message": "app is broken"}]


@pytest.mark.parametrize(("error", "logged"), [(StartupError("one line"), False), (KeyError("k"), True)], ids=repr)
def test_the_log_has_the_traceback_of_what_nobody_foresaw(
    error: Exception, logged: bool, caplog: pytest.LogCaptureFixture
) -> None:
    server = Server()
    asyncio.run(app(server, Part("app", [], fails="start", error=error)))
    assert server.sent[0]["message"] == str(error)
    assert bool(caplog.records) is logged
    assert ("Traceback" in caplog.text) is logged


def test_an_error_without_words_is_named() -> None:
    server = Server()
    asyncio.run(app(server, Part("app", [], fails="start", error=RuntimeError())))
    assert server.sent[0]["message"] == "RuntimeError"


def test_a_middleware_starts_after_its_application_and_stops_after_it() -> None:
    server, events = Server(), list[str]()
    around(server, Part("store", events), Part("app", events))
    assert server.sent == [STARTED, STOPPED]
    assert events == ["start app", "start store", "stop app", "stop store"]


def test_an_application_that_fails_to_start_leaves_the_middleware_alone() -> None:
    server, events = Server(), list[str]()
    around(server, Part("store", events), Part("app", events, fails="start"))
    assert server.sent == [{"type": "lifespan.startup.failed", "message": "app is broken"}]
    assert events == ["start app"]


def test_a_middleware_that_fails_to_start_has_the_application_shut_down() -> None:
    """The server hears one thing only, and what had been opened is closed."""
    server, events = Server("lifespan.startup"), list[str]()
    around(server, Part("store", events, fails="start"), Part("app", events))
    assert server.sent == [{"type": "lifespan.startup.failed", "message": "store is broken"}]
    assert events == ["start app", "start store", "stop app"]


def test_a_middleware_stops_though_its_application_failed_to() -> None:
    server, events = Server(), list[str]()
    around(server, Part("store", events), Part("app", events, fails="stop"))
    assert server.sent == [STARTED, {"type": "lifespan.shutdown.failed", "message": "app is broken"}]
    assert events == ["start app", "start store", "stop app", "stop store"]


def test_a_middleware_that_fails_to_stop_is_told_as_a_failed_shut_down() -> None:
    server, events = Server(), list[str]()
    around(server, Part("store", events, fails="stop"), Part("app", events))
    assert server.sent == [STARTED, {"type": "lifespan.shutdown.failed", "message": "store is broken"}]
