"""Start several workers on one listening socket, replace those that die, and end them together."""

from __future__ import annotations

import logging
import os
import signal
import socket
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing import Pipe, get_context, resource_tracker
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess

from asgi_export.serving.process import CLOSE_SECONDS, NOT_STARTED
from asgi_export.serving.signals import DRAIN, FORCE, OnSignal, on_signals

logger = logging.getLogger("asgi_export")

HANG_UP = "hang up"

END_SECONDS = CLOSE_SECONDS + 15.0
"""Time for a worker to end after `drain_seconds`: longer than the wait for a stuck thread."""

LEAST_SECONDS = 1.0
"""The least time between the starts of a worker and of its replacement, as starting one takes a processor."""

FAILED_STARTS = (1, NOT_STARTED)
"""Exit codes of a worker whose replacement would fail in the same way."""

Work = Callable[[socket.socket, Connection], None]


@dataclass(frozen=True, slots=True)
class _Worker:
    process: SpawnProcess
    commands: Connection
    started: float


class Supervisor:
    """Keep `count` processes running `work` until a signal ends them.

    SIGINT and SIGTERM drain them, a second one forces them to end, SIGHUP is passed on. A worker that has not ended
    `END_SECONDS` after `drain_seconds` is killed. If the supervisor is killed, the workers drain.
    """

    def __init__(self, work: Work, listening: socket.socket, *, count: int, drain_seconds: float) -> None:
        self._work = work
        self._listening = listening
        self._count = count
        self._drain_seconds = drain_seconds
        self._workers: list[_Worker] = []
        self._signals, self._signalled = Pipe(duplex=False)
        self._give_up_at: float | None = None
        self._exit_code = 0

    def run(self) -> int:
        """Run the workers until all have ended; return 0, or 1 if one could not start or had to be killed."""
        signal.signal(signal.SIGHUP, lambda *_: self._signalled.send(HANG_UP))
        resource_tracker.ensure_running()  # before `_start` blocks signals, as starting it unblocks them
        with on_signals(OnSignal(lambda: self._signalled.send(DRAIN), lambda: self._signalled.send(FORCE))):
            for _ in range(self._count):
                self._start()
            self._watch()
        return self._exit_code

    def _watch(self) -> None:
        while self._workers:
            timeout = None if self._give_up_at is None else max(self._give_up_at - time.monotonic(), 0.0)
            # Signals interrupt anything here, so their handlers only write to a pipe; all work is done in this loop.
            ready = wait([self._signals, *(worker.process.sentinel for worker in self._workers)], timeout)
            # A signal comes before the dead: after DRAIN none of them is replaced.
            if self._signals in ready:
                self._handle(self._signals.recv())
            elif not ready:
                self._kill()
            self._reap()

    def _start(self) -> None:
        """Start a worker. It blocks SIGINT for good, and SIGHUP until it handles it: both would kill it before."""
        theirs, ours = Pipe(duplex=False)
        process = get_context("spawn").Process(target=self._work, args=(self._listening, theirs))
        held = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT, signal.SIGHUP])
        try:
            process.start()
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, held)
        theirs.close()  # the worker has a copy; with this one open, sending to a dead worker would not fail
        self._workers.append(_Worker(process, ours, time.monotonic()))

    def _handle(self, command: str) -> None:
        if command == DRAIN:
            self._end()
        elif command == FORCE:
            self._tell(FORCE)
        else:
            self._hang_up()

    def _hang_up(self) -> None:
        for worker in self._workers:
            with suppress(ProcessLookupError):
                os.kill(worker.process.pid or 0, signal.SIGHUP)

    def _end(self) -> None:
        self._give_up_at = time.monotonic() + self._drain_seconds + END_SECONDS
        self._listening.close()  # else clients could still connect after the last worker, and get no answer
        self._tell(DRAIN)

    def _tell(self, command: str) -> None:
        for worker in self._workers:
            with suppress(OSError):  # the worker has just ended
                worker.commands.send(command)

    def _kill(self) -> None:
        for worker in self._workers:
            logger.error("worker %d does not end; it is killed", worker.process.pid)
            self._exit_code = 1
            worker.process.kill()
            worker.process.join()

    def _reap(self) -> None:
        """Remove ended workers, and replace them unless the end has begun."""
        dead = [worker for worker in self._workers if worker.process.exitcode is not None]
        self._workers = [worker for worker in self._workers if worker not in dead]
        for worker in dead:
            worker.commands.close()
            if self._give_up_at is None:
                self._replace(worker)

    def _replace(self, worker: _Worker) -> None:
        process = worker.process
        if process.exitcode in FAILED_STARTS:
            self._exit_code = 1
            self._end()
            return
        logger.error("worker %d has ended (exit code %s); another one is started", process.pid, process.exitcode)
        # A pause that a signal ends at once. The replacement still starts then, and drains with the others.
        self._signals.poll(max(worker.started + LEAST_SECONDS - time.monotonic(), 0.0))
        self._start()
