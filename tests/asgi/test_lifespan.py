"""The lifespan: what a server is told, and that what was started is stopped."""

from __future__ import annotations

from typing import Any

import pytest

from asgi_export.asgi.lifespan import AroundLifespan, answer_lifespan
from asgi_export.errors import StartupError
from tests.doubles import lifespan_of

STARTED, STOPPED = {"type": "lifespan.startup.complete"}, {"type": "lifespan.shutdown.complete"}


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


def alone(part: Part) -> Any:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await answer_lifespan(receive, send, start=part.start, stop=part.stop)

    return app


def around(outer: Part, inner: Part) -> Any:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        both: Any = AroundLifespan(receive, send, start=outer.start, stop=outer.stop)
        await answer_lifespan(both.receive, both.send, start=inner.start, stop=inner.stop)

    return app


def test_start_and_stop_are_answered_once_each() -> None:
    events = list[str]()
    answers = lifespan_of(alone(Part("app", events)))
    assert answers == [STARTED, STOPPED]
    assert events == ["start app", "stop app"]


def test_a_start_that_fails_says_why_and_stops_nothing() -> None:
    events = list[str]()
    answers = lifespan_of(alone(Part("app", events, fails="start")))
    assert answers == [{"type": "lifespan.startup.failed", "message": "app is broken"}]
    assert events == ["start app"]


def test_a_stop_that_fails_says_why() -> None:
    answers = lifespan_of(alone(Part("app", [], fails="stop")))
    assert answers == [STARTED, {"type": "lifespan.shutdown.failed", "message": "app is broken"}]


@pytest.mark.parametrize(("error", "logged"), [(StartupError("one line"), False), (KeyError("k"), True)], ids=repr)
def test_the_log_has_the_traceback_of_what_nobody_foresaw(
    error: Exception, logged: bool, caplog: pytest.LogCaptureFixture
) -> None:
    answers = lifespan_of(alone(Part("app", [], fails="start", error=error)))
    assert answers[0]["message"] == str(error)
    assert bool(caplog.records) is logged
    assert ("Traceback" in caplog.text) is logged


def test_an_error_without_words_is_named() -> None:
    answers = lifespan_of(alone(Part("app", [], fails="start", error=RuntimeError())))
    assert answers[0]["message"] == "RuntimeError"


def test_a_middleware_starts_after_its_application_and_stops_after_it() -> None:
    events = list[str]()
    answers = lifespan_of(around(Part("store", events), Part("app", events)))
    assert answers == [STARTED, STOPPED]
    assert events == ["start app", "start store", "stop app", "stop store"]


def test_an_application_that_fails_to_start_leaves_the_middleware_alone() -> None:
    events = list[str]()
    answers = lifespan_of(around(Part("store", events), Part("app", events, fails="start")))
    assert answers == [{"type": "lifespan.startup.failed", "message": "app is broken"}]
    assert events == ["start app"]


def test_a_middleware_that_fails_to_start_has_the_application_shut_down() -> None:
    """The server hears one thing only, and what had been opened is closed."""
    events = list[str]()
    answers = lifespan_of(around(Part("store", events, fails="start"), Part("app", events)))
    assert answers == [{"type": "lifespan.startup.failed", "message": "store is broken"}]
    assert events == ["start app", "start store", "stop app"]


def test_a_middleware_stops_though_its_application_failed_to() -> None:
    events = list[str]()
    answers = lifespan_of(around(Part("store", events), Part("app", events, fails="stop")))
    assert answers == [STARTED, {"type": "lifespan.shutdown.failed", "message": "app is broken"}]
    assert events == ["start app", "start store", "stop app", "stop store"]


def test_a_middleware_that_fails_to_stop_is_told_as_a_failed_shut_down() -> None:
    events = list[str]()
    answers = lifespan_of(around(Part("store", events, fails="stop"), Part("app", events)))
    assert answers == [STARTED, {"type": "lifespan.shutdown.failed", "message": "store is broken"}]
