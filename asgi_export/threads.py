"""The threads in which blocking calls run, and the ways to wait for one.

A job that the waiter no longer wants is dropped when it has not begun, and interrupted until it ends when it
has: nobody goes on while a thread still works on what he is about to close. Closing and computing have threads of
their own, so that they never queue behind slow queries; and where slow queries hold half of the others, those are
left to them, and new ones take what waits.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextvars import copy_context
from typing import TypeVar, cast

from asgi_export.tasks import wait_through

T = TypeVar("T")

THREADS = 8
"""One a batch that is being made, not one an export: a client that reads slowly holds none. More would wait for the
interpreter's lock, see `bench/crowd.py`."""

MOST_THREADS = 256
"""With those that are left to slow queries."""

SLOW_SECONDS = 1.0
"""A chunk takes some milliseconds."""

COMPUTING_THREADS = min(8, os.cpu_count() or 1)
"""Compressors let go of the interpreter's lock; more of them than cores gain nothing."""

INTERRUPT_AGAIN_SECONDS = 0.05
"""An interrupt that comes between two statements of a driver is lost, so it is repeated."""


class Crew:
    """Threads that take jobs in the order in which they came."""

    def __init__(self, threads: int) -> None:
        self._executor = ThreadPoolExecutor(threads, thread_name_prefix="asgi-export")
        self._begun: dict[object, float] = {}

    def submit(self, function: Callable[[], T]) -> Future[T]:
        """The result to come; it can be cancelled until it has begun."""
        return self._executor.submit(copy_context().run, self._noted, function)

    @property
    def running(self) -> int:
        return len(self._begun)

    def slow(self, seconds: float) -> int:
        """How many have been running for so long."""
        latest = time.monotonic() - seconds
        return sum(begun <= latest for begun in self._begun.copy().values())

    def leave(self) -> None:
        """Cancel what has not begun; the threads end when what has begun ends."""
        self._executor.shutdown(wait=False, cancel_futures=True)

    def _noted(self, function: Callable[[], T]) -> T:
        job = object()
        self._begun[job] = time.monotonic()
        try:
            return function()
        finally:
            del self._begun[job]


class Workers:
    """A bounded pool of threads for one event loop. `close` lets running jobs end and starts no more.

    `jobs` are those that run or wait for a thread now, but for those that close something.
    """

    def __init__(
        self, threads: int = THREADS, *, most_threads: int = MOST_THREADS, slow_seconds: float = SLOW_SECONDS
    ) -> None:
        self.jobs = 0
        self._threads = threads
        self._most_threads = most_threads
        self._slow_seconds = slow_seconds
        self._crew = Crew(threads)
        self._left: list[Crew] = []
        self._looking = False
        self._computing = ThreadPoolExecutor(COMPUTING_THREADS, thread_name_prefix="asgi-export-compute")
        self._closing = ThreadPoolExecutor(4, thread_name_prefix="asgi-export-close")

    async def run(self, function: Callable[[], T], *, interrupt: Callable[[], None]) -> T:
        """The result of `function` called in a thread.

        When the caller is cancelled, `interrupt` is called until the thread is done, and only then does the
        cancellation go on.
        """
        self.jobs += 1
        try:
            while True:
                job = self._crew.submit(function)
                self._look_later()
                try:
                    return await _result(job, interrupt)
                except _NotBegun:
                    continue  # with those that came instead
        finally:
            self.jobs -= 1

    async def compute(self, function: Callable[[], T]) -> T:
        """The result of `function`, which only computes and ends soon, called in a thread; as `run` otherwise.

        It never waits behind a slow query.
        """
        self.jobs += 1
        try:
            return await _result(self._computing.submit(copy_context().run, function), _nothing)
        finally:
            self.jobs -= 1

    async def finish(self, function: Callable[[], T]) -> T:
        """The result of `function` called in a thread, waited for through any number of cancellations.

        A cancellation that came meanwhile is raised afterwards.
        """
        job = self._closing.submit(copy_context().run, function)
        if await _until_done(job, _nothing):
            job.result()
            raise asyncio.CancelledError
        return job.result()

    def close(self) -> None:
        self._crew.leave()
        self._computing.shutdown(wait=False, cancel_futures=True)
        self._closing.shutdown(wait=False)

    def _look_later(self) -> None:
        if not self._looking and self.jobs > self._threads:
            self._looking = True
            asyncio.get_running_loop().call_later(self._slow_seconds, self._look)

    def _look(self) -> None:
        """Where half of the crew has become slow, leave it to that, and go on with another."""
        self._looking = False
        self._left = [crew for crew in self._left if crew.running]
        in_all = sum(crew.running for crew in self._left) + 2 * self._threads
        if 2 * self._crew.slow(self._slow_seconds) >= self._threads and in_all <= self._most_threads:
            self._crew.leave()
            self._left.append(self._crew)
            self._crew = Crew(self._threads)
        self._look_later()


class _NotBegun(Exception):
    """A job was cancelled by its crew."""


async def _result(job: Future[T], interrupt: Callable[[], None]) -> T:
    try:
        return await asyncio.wrap_future(job)
    except asyncio.CancelledError:
        if job.cancelled() and not cast("asyncio.Task[object]", asyncio.current_task()).cancelling():
            raise _NotBegun from None
        await _until_done(job, interrupt)
        raise


def _nothing() -> None:
    return


async def _until_done(job: Future[T], interrupt: Callable[[], None]) -> bool:
    """Wait for the thread, interrupting it until it ends; True if the wait was cancelled meanwhile."""
    loop = asyncio.get_running_loop()
    done: asyncio.Future[None] = loop.create_future()
    job.add_done_callback(lambda _: loop.call_soon_threadsafe(done.set_result, None))
    return await wait_through(done, nudge=interrupt, nudge_seconds=INTERRUPT_AGAIN_SECONDS)
