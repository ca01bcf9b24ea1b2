"""Run blocking calls in threads, and wait for them.

A call takes one of a few slots. It gives the slot back when it is done, or when it has become slow: more threads
would only compete for the interpreter's lock, but a slow query waits for the database without that lock. If the
caller is cancelled, a call that has not begun is dropped; one that runs is interrupted until it ends. The
cancellation goes on only then, so nothing is closed while a thread still uses it.
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
"""Threads are taken for a batch, not for an export: a client that reads slowly holds none. More of them would wait
for the interpreter's lock, see `bench/crowd.py`."""

MOST_THREADS = 256
"""Including those of slow queries."""

SLOW_SECONDS = 1.0
"""A chunk takes some milliseconds."""

COMPUTING_THREADS = min(8, os.cpu_count() or 1)
"""Compressors release the interpreter's lock, so as many run at once as there are cores."""

CLOSING_THREADS = 4

INTERRUPT_AGAIN_SECONDS = 0.05
"""Interrupts are repeated, as one that comes between two statements of a driver is lost."""


class Workers:
    """A bounded pool of threads for one event loop. `close` lets running calls end and starts no more.

    `jobs` is the number of calls that run or wait for a slot, without those of `finish`.
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
        """Call `function` in a thread and return its result.

        If the caller is cancelled, `interrupt` is called until the thread is done; only then the cancellation goes
        on.
        """
        self.jobs += 1
        try:
            # A slow call gives back its slot but not its thread, so `_calls` bounds the threads. A cancellation
            # while waiting for either leaves no call behind.
            async with self._calls, _Slot(self._slots, self._slow_seconds):
                return await self._result(function, interrupt)
        finally:
            self.jobs -= 1

    async def compute(self, function: Callable[[], T]) -> T:
        """Call `function`, which only computes and ends soon, in a thread; otherwise like `run`.

        It has slots of its own, and never waits behind a query.
        """
        self.jobs += 1
        try:
            async with self._computations:
                return await self._result(function, _nothing)
        finally:
            self.jobs -= 1

    async def finish(self, function: Callable[[], T]) -> T:
        """Call `function` in a thread and return its result, through any number of cancellations.

        A cancellation that came meanwhile is raised afterwards.
        """
        # No slot: closing must not wait for calls that wait, in turn, for what is being closed.
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
            # `wrap_future` has cancelled the job too: one that has not begun is done, and this wait is short.
            await _wait_for(job, interrupt)
            raise

    def _submit(self, function: Callable[[], T]) -> Future[T]:
        return self._executor.submit(copy_context().run, function)


class _Slot:
    """Hold one slot of a semaphore until the end, or for `slow_seconds` if that is shorter."""

    def __init__(self, slots: asyncio.Semaphore, slow_seconds: float) -> None:
        self._slots = slots
        self._slow_seconds = slow_seconds
        self._taken = False

    async def __aenter__(self) -> None:
        await self._slots.acquire()
        self._taken = True
        self._timer = asyncio.get_running_loop().call_later(self._slow_seconds, self._give_back)

    async def __aexit__(self, *exc_info: object) -> None:
        self._timer.cancel()
        self._give_back()

    def _give_back(self) -> None:
        if self._taken:
            self._taken = False
            self._slots.release()


def _nothing() -> None:
    return


async def _wait_for(job: Future[T], interrupt: Callable[[], None]) -> bool:
    """Interrupt the thread until it ends; return whether the wait was cancelled meanwhile."""
    loop = asyncio.get_running_loop()
    # A future of its own, as a cancelled one of `wrap_future` says nothing about the thread.
    done: asyncio.Future[None] = loop.create_future()
    job.add_done_callback(lambda _: loop.call_soon_threadsafe(done.set_result, None))
    return await wait_through(done, nudge=interrupt, nudge_seconds=INTERRUPT_AGAIN_SECONDS)
