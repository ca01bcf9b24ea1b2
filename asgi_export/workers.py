"""The threads in which blocking calls run, and the ways to wait for one.

A job that the waiter no longer wants is dropped when it has not begun, and interrupted until it ends when it
has: nobody goes on while a thread still works on what he is about to close. Closing and computing have threads of
their own, so that they never queue behind slow queries.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextvars import copy_context
from typing import TypeVar

T = TypeVar("T")

THREADS = 32
"""One a running batch, not one an export: a client that reads slowly holds none."""

COMPUTING_THREADS = min(8, os.cpu_count() or 1)
"""Compressors let go of the interpreter's lock; more of them than cores gain nothing."""

INTERRUPT_AGAIN_SECONDS = 0.05
"""An interrupt that comes between two statements of a driver is lost, so it is repeated."""


class Workers:
    """A bounded pool of threads for one event loop. `close` lets running jobs end and starts no more.

    `jobs` are those that run or wait for a thread now, but for those that close something.
    """

    def __init__(self, threads: int = THREADS) -> None:
        self.jobs = 0
        self._working = ThreadPoolExecutor(threads, thread_name_prefix="asgi-export")
        self._computing = ThreadPoolExecutor(COMPUTING_THREADS, thread_name_prefix="asgi-export-compute")
        self._closing = ThreadPoolExecutor(4, thread_name_prefix="asgi-export-close")

    async def run(self, function: Callable[[], T], *, interrupt: Callable[[], None]) -> T:
        """The result of `function` called in a thread.

        When the caller is cancelled, `interrupt` is called until the thread is done, and only then does the
        cancellation go on.
        """
        return await self._result(self._working.submit(copy_context().run, function), interrupt)

    async def compute(self, function: Callable[[], T]) -> T:
        """The result of `function`, which only computes and ends soon, called in a thread; as `run` otherwise.

        It never waits behind a slow query.
        """
        return await self._result(self._computing.submit(copy_context().run, function), _nothing)

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
        self._working.shutdown(wait=False, cancel_futures=True)
        self._computing.shutdown(wait=False, cancel_futures=True)
        self._closing.shutdown(wait=False)

    async def _result(self, job: Future[T], interrupt: Callable[[], None]) -> T:
        self.jobs += 1
        try:
            return await asyncio.wrap_future(job)
        except asyncio.CancelledError:
            await _until_done(job, interrupt)
            raise
        finally:
            self.jobs -= 1


def _nothing() -> None:
    return


async def _until_done(job: Future[T], interrupt: Callable[[], None]) -> bool:
    """Wait for the thread; True when the wait was cancelled, which does not end it."""
    loop = asyncio.get_running_loop()
    done = asyncio.Event()
    job.add_done_callback(lambda _: loop.call_soon_threadsafe(done.set))
    waiter = loop.create_task(done.wait())
    cancelled = False
    while not waiter.done():
        interrupt()
        try:
            await asyncio.wait([waiter], timeout=INTERRUPT_AGAIN_SECONDS)
        except asyncio.CancelledError:
            cancelled = True
    return cancelled
