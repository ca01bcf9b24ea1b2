"""Threads for blocking calls: nobody goes on while a thread still works, and closing never queues."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from contextvars import ContextVar

import pytest

from asgi_export.threads import Workers
from tests.doubles import run

asked_by: ContextVar[str] = ContextVar("asked_by", default="nobody")


class Job:
    """A blocking call that ends when it is interrupted `interrupts` times, and notes what happens."""

    def __init__(self, *, interrupts: int = 1, error: Exception | None = None) -> None:
        self.begun = asyncio.Event()
        self.ended = False
        self.interrupts = 0
        self._needed = interrupts
        self._error = error
        self._loop = asyncio.get_running_loop()
        self._enough = threading.Event()

    def __call__(self) -> str:
        self._loop.call_soon_threadsafe(self.begun.set)
        assert self._enough.wait(10)
        self.ended = True
        if self._error is not None:
            raise self._error
        return "result"

    def interrupt(self) -> None:
        self.interrupts += 1
        if self.interrupts >= self._needed:
            self._enough.set()


def never() -> None:
    raise AssertionError("nobody asked for an interrupt")


@pytest.fixture
def workers() -> Iterator[Workers]:
    found = Workers(threads=1)
    yield found
    found.close()


def test_a_result_and_an_error_come_back(workers: Workers) -> None:
    async def scenario() -> None:
        assert await workers.run(lambda: 5, interrupt=never) == 5
        assert await workers.finish(lambda: 6) == 6
        with pytest.raises(ZeroDivisionError):
            await workers.run(lambda: 1 // 0, interrupt=never)
        with pytest.raises(ZeroDivisionError):
            await workers.finish(lambda: 1 // 0)

    run(scenario())


def test_a_thread_knows_who_asked(workers: Workers) -> None:
    async def scenario() -> None:
        asked_by.set("request 7")
        call: Callable[[], str] = asked_by.get
        assert await workers.run(call, interrupt=never) == "request 7"
        assert await workers.finish(call) == "request 7"
        assert await workers.compute(call) == "request 7"

    run(scenario())


def test_computing_and_closing_do_not_wait_for_a_slow_query(workers: Workers) -> None:
    """It holds the only thread."""

    async def scenario() -> None:
        job = Job()
        query = asyncio.create_task(workers.run(job, interrupt=never))
        await job.begun.wait()
        assert await workers.compute(lambda: 5) == 5
        assert await workers.finish(lambda: 6) == 6
        assert not job.ended
        job.interrupt()
        assert await query == "result"

    run(scenario())


def test_a_computation_that_nobody_waits_for_any_more_ends_before_its_caller_goes_on(workers: Workers) -> None:
    async def scenario() -> None:
        job = Job()
        task = asyncio.create_task(workers.compute(job))
        await job.begun.wait()
        task.cancel()
        for _ in range(5):
            await asyncio.sleep(0)
        assert not task.done()
        job.interrupt()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert job.ended

    run(scenario())


@pytest.mark.parametrize("interrupts", [1, 3])
def test_a_cancelled_call_is_interrupted_until_its_thread_is_done(workers: Workers, interrupts: int) -> None:
    """An interrupt between two statements of a driver is lost, so one is not enough."""

    async def scenario() -> None:
        job = Job(interrupts=interrupts, error=RuntimeError("interrupted"))
        task = asyncio.create_task(workers.run(job, interrupt=job.interrupt))
        await job.begun.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert job.ended
        assert job.interrupts >= interrupts

    run(scenario())


def test_a_call_that_is_cancelled_again_is_waited_for_all_the_same(workers: Workers) -> None:
    async def scenario() -> None:
        job = Job(interrupts=8)
        task = asyncio.create_task(workers.run(job, interrupt=job.interrupt))
        await job.begun.wait()
        for _ in range(5):
            task.cancel()
            await asyncio.sleep(0)
        assert not job.ended
        with pytest.raises(asyncio.CancelledError):
            await task
        assert job.ended

    run(scenario())


def test_a_call_that_has_not_begun_never_does(workers: Workers) -> None:
    async def scenario() -> None:
        job, called = Job(), list[int]()
        first = asyncio.create_task(workers.run(job, interrupt=job.interrupt))
        await job.begun.wait()
        second = asyncio.create_task(workers.run(lambda: called.append(1), interrupt=lambda: None))
        await asyncio.sleep(0)
        second.cancel()
        with pytest.raises(asyncio.CancelledError):
            await second
        job.interrupt()
        assert await first == "result"
        await workers.run(lambda: None, interrupt=never)
        assert called == []

    run(scenario())


def test_so_many_calls_at_a_time_in_the_order_in_which_they_came() -> None:
    async def scenario() -> None:
        workers = Workers(threads=2)
        jobs = [Job() for _ in range(4)]
        tasks = [asyncio.create_task(workers.run(job, interrupt=job.interrupt)) for job in jobs]
        for job, following in zip(jobs, [*jobs[2:], None, None], strict=True):
            await job.begun.wait()
            assert following is None or not following.begun.is_set()
            job.interrupt()
        assert await asyncio.gather(*tasks) == ["result"] * 4
        assert workers.jobs == 0
        workers.close()

    run(scenario())


def test_calls_that_have_become_slow_hold_nobody_up() -> None:
    async def scenario() -> None:
        workers = Workers(threads=2, slow_seconds=0.05)
        slow = [Job() for _ in range(5)]
        tasks = [asyncio.create_task(workers.run(job, interrupt=job.interrupt)) for job in slow]
        await asyncio.gather(*[job.begun.wait() for job in slow])
        assert await workers.run(lambda: 5, interrupt=never) == 5
        for job in slow:
            job.interrupt()
        assert await asyncio.gather(*tasks) == ["result"] * 5
        workers.close()

    run(scenario())


def test_slow_calls_are_bounded_too() -> None:
    async def scenario() -> None:
        workers = Workers(threads=1, most_threads=2, slow_seconds=0.01)
        jobs = [Job() for _ in range(3)]
        tasks = [asyncio.create_task(workers.run(job, interrupt=job.interrupt)) for job in jobs]
        await jobs[1].begun.wait()
        await asyncio.sleep(0.1)
        assert not jobs[2].begun.is_set()
        jobs[0].interrupt()
        await jobs[2].begun.wait()
        assert not jobs[1].ended
        for job in jobs:
            job.interrupt()
        await asyncio.gather(*tasks)
        workers.close()

    run(scenario())


def test_closing_does_not_queue_behind_slow_queries(workers: Workers) -> None:
    async def scenario() -> None:
        job = Job()
        slow = asyncio.create_task(workers.run(job, interrupt=job.interrupt))
        await job.begun.wait()
        assert await workers.finish(threading.current_thread) is not threading.main_thread()
        assert not job.ended
        job.interrupt()
        await slow

    run(scenario())


def test_what_must_be_finished_is_waited_for_through_any_cancellation(workers: Workers) -> None:
    async def scenario() -> None:
        job = Job()
        task = asyncio.create_task(workers.finish(job))
        await job.begun.wait()
        for _ in range(5):
            task.cancel()
            await asyncio.sleep(0)
        assert not task.done()
        job.interrupt()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert job.ended

    run(scenario())


def test_an_error_of_what_must_be_finished_is_not_hidden_by_a_cancellation(workers: Workers) -> None:
    async def scenario() -> None:
        job = Job(error=RuntimeError("not closed"))
        task = asyncio.create_task(workers.finish(job))
        await job.begun.wait()
        task.cancel()
        await asyncio.sleep(0)
        job.interrupt()
        with pytest.raises(RuntimeError, match="not closed"):
            await task

    run(scenario())


def test_closed_workers_let_running_calls_end_and_take_no_more() -> None:
    async def scenario() -> None:
        workers, job = Workers(threads=1), Job()
        task = asyncio.create_task(workers.run(job, interrupt=job.interrupt))
        await job.begun.wait()
        workers.close()
        with pytest.raises(RuntimeError):
            await workers.run(lambda: None, interrupt=never)
        job.interrupt()
        assert await task == "result"

    run(scenario())
