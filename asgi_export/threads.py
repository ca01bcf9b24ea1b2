"""The threads in which blocking calls run, and the ways to wait for one.

A call takes one of a few slots and gives it back when it is done, or when it has become slow: threads beyond the
slots would only fight for the interpreter's lock, and a slow query waits for the database without it. A call that
nobody waits for any more is dropped if it has not begun, and interrupted until it ends if it has: nothing goes on
while a thread still works on what is about to be closed.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextvars import copy_context
from typing import TypeVar

from asgi_export.tasks import wait_through

T = TypeVar("T")

THREADS = 8
"""One a batch that is being made, not one an export: a client that reads slowly holds none. More would wait for the
interpreter's lock, see `bench/crowd.py`."""

MOST_THREADS = 256
"""With those of slow queries."""

SLOW_SECONDS = 1.0
"""A chunk takes some milliseconds."""

COMPUTING_THREADS = min(8, os.cpu_count() or 1)
"""Compressors let go of the interpreter's lock; more of them than cores gain nothing."""

CLOSING_THREADS = 4

INTERRUPT_AGAIN_SECONDS = 0.05
"""An interrupt that comes between two statements of a driver is lost, so it is repeated."""


class Workers:
    """A bounded pool of threads for one event loop. `close` lets running calls end and starts no more.

    `jobs` are the calls that run or wait for a slot now, apart from those that close something.
    """

    def __init__(
        self, threads: int = THREADS, *, most_threads: int = MOST_THREADS, slow_seconds: float = SLOW_SECONDS
    ) -> None:
        self.jobs = 0
        self._slow_seconds = slow_seconds
        self._slots = asyncio.Semaphore(threads)
        self._calls = asyncio.Semaphore(most_threads)
        self._computations = asyncio.Semaphore(COMPUTING_THREADS)
        self._executor = ThreadPoolExecutor(
            most_threads + COMPUTING_THREADS + CLOSING_THREADS, thread_name_prefix="asgi-export"
        )

    async def run(self, function: Callable[[], T], *, interrupt: Callable[[], None]) -> T:
        """The result of `function` called in a thread.

        If the caller is cancelled, `interrupt` is called until the thread is done, and only then does the
        cancellation go on.
        """
        self.jobs += 1
        try:
            async with self._calls, _Slot(self._slots, self._slow_seconds):
                return await self._result(function, interrupt)
        finally:
            self.jobs -= 1

    async def compute(self, function: Callable[[], T]) -> T:
        """The result of `function`, which only computes and ends soon, called in a thread; as `run` otherwise.

        It never waits behind a slow query.
        """
        self.jobs += 1
        try:
            async with self._computations:
                return await self._result(function, _nothing)
        finally:
            self.jobs -= 1

    async def finish(self, function: Callable[[], T]) -> T:
        """The result of `function` called in a thread, waited for through any number of cancellations.

        A cancellation that came meanwhile is raised afterwards.
        """
        job = self._submit(function)
        if await _wait_for(job, _nothing):
            job.result()
            raise asyncio.CancelledError
        return job.result()

    def close(self) -> None:
        self._executor.shutdown(wait=False, cancel_futures=True)

    async def _result(self, function: Callable[[], T], interrupt: Callable[[], None]) -> T:
        job = self._submit(function)
        try:
            return await asyncio.wrap_future(job)
        except asyncio.CancelledError:
            await _wait_for(job, interrupt)
            raise

    def _submit(self, function: Callable[[], T]) -> Future[T]:
        return self._executor.submit(copy_context().run, function)


class _Slot:
    """One slot of a semaphore, given back at the end, or after `slow_seconds` if that is sooner."""

    def __init__(self, slots: asyncio.Semaphore, slow_seconds: float) -> None:
        self._slots = slots
        self._slow_seconds = slow_seconds
        self._held = False

    async def __aenter__(self) -> None:
        await self._slots.acquire()
        self._held = True
        self._timer = asyncio.get_running_loop().call_later(self._slow_seconds, self._give_back)

    async def __aexit__(self, *exc_info: object) -> None:
        self._timer.cancel()
        self._give_back()

    def _give_back(self) -> None:
        if self._held:
            self._held = False
            self._slots.release()


def _nothing() -> None:
    return


async def _wait_for(job: Future[T], interrupt: Callable[[], None]) -> bool:
    """Wait for the thread, interrupting it until it ends; True if the wait was cancelled meanwhile."""
    loop = asyncio.get_running_loop()
    done: asyncio.Future[None] = loop.create_future()
    job.add_done_callback(lambda _: loop.call_soon_threadsafe(done.set_result, None))
    return await wait_through(done, nudge=interrupt, nudge_seconds=INTERRUPT_AGAIN_SECONDS)
