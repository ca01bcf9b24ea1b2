"""Several workers on one listening socket: started, replaced when they die, and ended together."""

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
"""What a worker may take for its end after `drain_seconds`: longer than a thread takes to be given up."""

LEAST_SECONDS = 1.0
"""Workers that die sooner are replaced that long after their start: starting one is work."""

FAILED_STARTS = (1, NOT_STARTED)
"""Exit codes of a worker that would fail in the same way again."""

Work = Callable[[socket.socket, Connection], None]


@dataclass(frozen=True, slots=True)
class _Worker:
    process: SpawnProcess
    words: Connection
    started: float


class Supervisor:
    """Keeps `count` processes running `work` until a signal ends them.

    SIGINT and SIGTERM have them drain, a second one has them force, SIGHUP goes to all of them. A worker that has
    not ended `END_SECONDS` after its `drain_seconds` is killed. Where the supervisor is killed, they drain.
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
        """Start the workers and return when all have ended: 0, or 1 where one could not start or had to be killed."""
        signal.signal(signal.SIGHUP, lambda *_: self._signalled.send(HANG_UP))
        resource_tracker.ensure_running()  # when it starts it lets signals through; see `_start`
        with on_signals(OnSignal(lambda: self._signalled.send(DRAIN), lambda: self._signalled.send(FORCE))):
            for _ in range(self._count):
                self._start()
            self._watch()
        return self._exit_code

    def _watch(self) -> None:
        while self._workers:
            patience = None if self._give_up_at is None else max(self._give_up_at - time.monotonic(), 0.0)
            ready = wait([self._signals, *(worker.process.sentinel for worker in self._workers)], patience)
            if self._signals in ready:
                self._handle(self._signals.recv())
            elif not ready:
                self._kill()
            self._bury()

    def _start(self) -> None:
        """Start a worker. SIGINT is blocked in it for good, SIGHUP until it can handle it: both would kill it."""
        theirs, ours = Pipe(duplex=False)
        process = get_context("spawn").Process(target=self._work, args=(self._listening, theirs))
        held = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT, signal.SIGHUP])
        try:
            process.start()
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, held)
        theirs.close()
        self._workers.append(_Worker(process, ours, time.monotonic()))

    def _handle(self, word: str) -> None:
        if word == DRAIN:
            self._end()
        elif word == FORCE:
            self._tell(FORCE)
        else:
            self._hang_up()

    def _hang_up(self) -> None:
        for worker in self._workers:
            with suppress(ProcessLookupError):
                os.kill(worker.process.pid or 0, signal.SIGHUP)

    def _end(self) -> None:
        self._give_up_at = time.monotonic() + self._drain_seconds + END_SECONDS
        self._listening.close()  # or clients would wait here for nobody after the last worker
        self._tell(DRAIN)

    def _tell(self, word: str) -> None:
        for worker in self._workers:
            with suppress(OSError):  # it has just ended
                worker.words.send(word)

    def _kill(self) -> None:
        for worker in self._workers:
            logger.error("worker %d does not end; it is killed", worker.process.pid)
            self._exit_code = 1
            worker.process.kill()
            worker.process.join()

    def _bury(self) -> None:
        """Take leave of workers that have ended, and replace them unless it is the end."""
        dead = [worker for worker in self._workers if worker.process.exitcode is not None]
        self._workers = [worker for worker in self._workers if worker not in dead]
        for worker in dead:
            worker.words.close()
            if self._give_up_at is None:
                self._replace(worker)

    def _replace(self, worker: _Worker) -> None:
        process = worker.process
        if process.exitcode in FAILED_STARTS:
            self._exit_code = 1
            self._end()
            return
        logger.error("worker %d has ended (exit code %s); another one is started", process.pid, process.exitcode)
        self._signals.poll(max(worker.started + LEAST_SECONDS - time.monotonic(), 0.0))
        self._start()
