"""Whether everything answers: each check is asked, at once, and none for ever."""

from __future__ import annotations

import asyncio

import pytest

from asgi_export.asgi.readiness import Check, failing
from tests.doubles import run


async def fine() -> None:
    """Answers."""


async def broken() -> None:
    raise RuntimeError("no answer from db.internal")


def broken_at_once() -> None:
    raise RuntimeError("not even a coroutine")


async def hanging() -> None:
    await asyncio.Event().wait()


async def cancelled() -> None:
    raise asyncio.CancelledError


def failed(checks: dict[str, Check]) -> list[str]:
    found: list[str] = []

    async def scenario() -> None:
        found.extend(await failing(checks, seconds=0.02))
        await asyncio.sleep(0)  # those that were too late get their cancellation

    run(scenario())
    return found


def test_nothing_to_check_is_ready() -> None:
    assert failed({}) == []
    assert failed({"a": fine, "b": fine}) == []


def test_those_that_fail_are_named_in_order(caplog: pytest.LogCaptureFixture) -> None:
    checks: dict[str, Check] = {"a": broken, "b": fine, "c": hanging, "d": broken_at_once}  # type: ignore[dict-item]
    assert failed(checks) == ["a", "c", "d"]
    assert "a is not ready: no answer from db.internal" in caplog.text
    assert "c is not ready: no answer within 0.02 s" in caplog.text


def test_a_check_that_cancels_itself_has_failed() -> None:
    assert failed({"a": cancelled, "b": fine}) == ["a"]


def test_checks_run_beside_each_other() -> None:
    async def scenario() -> None:
        met = asyncio.Barrier(2)

        async def meet() -> None:
            await met.wait()

        assert await failing({"a": meet, "b": meet}) == []

    run(scenario())


def test_a_request_that_is_cancelled_leaves_no_check_behind() -> None:
    async def scenario() -> None:
        task = asyncio.create_task(failing({"a": hanging}))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    run(scenario())
