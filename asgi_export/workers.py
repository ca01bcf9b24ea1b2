"""The threads in which blocking calls run, and the two ways to wait for one.

A job that the waiter no longer wants is dropped when it has not begun, and interrupted until it ends when it
has: nobody goes on while a thread still works on what he is about to close. Closing has threads of its own, so
that it never queues behind slow queries.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextvars import copy_context
from typing import TypeVar

T = TypeVar("T")

THREADS = 32
"""One a running batch, not one an export: a client that reads slowly holds none."""

INTERRUPT_AGAIN_SECONDS = 0.05
"""An interrupt that comes between two statements of a driver is lost, so it is repeated."""


class Workers:
    """A bounded pool of threads for one event loop. `close` lets running jobs end and starts no more."""

    def __init__(self, threads: int = THREADS) -> None:
        self._working = ThreadPoolExecutor(threads, thread_name_prefix="asgi-export")
        self._closing = ThreadPoolExecutor(4, thread_name_prefix="asgi-export-close")

    async def run(self, function: Callable[[], T], *, interrupt: Callable[[], None]) -> T:
        """The result of `function` called in a thread.

        When the caller is cancelled, `interrupt` is called until the thread is done, and only then does the
        cancellation go on.
        """
        job = self._working.submit(copy_context().run, function)
        try:
            return await asyncio.wrap_future(job)
        except asyncio.CancelledError:
            await _until_done(job, interrupt)
            raise

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
        self._closing.shutdown(wait=False)


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
