"""What a serving process is told from outside: to drain, and to force."""

from __future__ import annotations

import asyncio
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from multiprocessing.connection import Connection
from threading import Thread

DRAIN = "drain"
FORCE = "force"
SIGNALS = (signal.SIGINT, signal.SIGTERM)

TWICE_SECONDS = 0.25
"""Signals closer together are one: shells, containers and wrappers pass on what the process has got already."""


class StopSignals:
    """Two events of one event loop, which signal handlers and threads may set. Made while that loop runs."""

    def __init__(self) -> None:
        self.draining = asyncio.Event()
        self.forced = asyncio.Event()
        self._loop = asyncio.get_running_loop()

    def drain(self) -> None:
        """Answer new requests 503, and end when the running exports have."""
        self._tell(self.draining)

    def force(self) -> None:
        """End now."""
        self._tell(self.draining)
        self._tell(self.forced)

    def _tell(self, event: asyncio.Event) -> None:
        with suppress(RuntimeError):  # the loop has been closed: the end is over
            self._loop.call_soon_threadsafe(event.set)


class OnSignal:
    """A signal handler: the first signal calls `drain`, another one `force`."""

    def __init__(
        self, drain: Callable[[], None], force: Callable[[], None], clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._drain = drain
        self._force = force
        self._clock = clock
        self._first: float | None = None

    def __call__(self, *_: object) -> None:
        now = self._clock()
        if self._first is None:
            self._first = now
            self._drain()
        elif now - self._first >= TWICE_SECONDS:
            self._force()


class Held:
    """A signal handler that keeps a signal for the next one."""

    def __init__(self) -> None:
        self.came = False

    def __call__(self, *_: object) -> None:
        self.came = True


def hold_signals() -> None:
    """Have signals wait for `on_signals`: who has read where the service is may end it before it is there."""
    held = Held()
    for number in SIGNALS:
        signal.signal(number, held)


@contextmanager
def on_signals(handler: OnSignal) -> Iterator[None]:
    """Give signals to the handler. Afterwards they are ignored, so that none spoils a clean end."""
    before = [signal.signal(number, handler) for number in SIGNALS]
    if any(isinstance(found, Held) and found.came for found in before):
        handler()
    try:
        yield
    finally:
        for number in SIGNALS:
            signal.signal(number, signal.SIG_IGN)


@contextmanager
def signals_of_process() -> Iterator[StopSignals]:
    """StopSignals of a process that runs alone."""
    signals = StopSignals()
    with on_signals(OnSignal(signals.drain, signals.force)):
        yield signals


@contextmanager
def signals_of_worker(words: Connection) -> Iterator[StopSignals]:
    """StopSignals of a worker: the words of its supervisor, whose death means to drain too.

    SIGTERM is to drain and SIGINT is left to the supervisor: service managers send the one, terminals the other,
    to all processes at once, and the supervisor passes it on; that must not count twice.
    """
    signals = StopSignals()
    signal.signal(signal.SIGTERM, lambda *_: signals.drain())
    Thread(target=_listen, args=(words, signals), name="asgi-export signals", daemon=True).start()
    try:
        yield signals
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)


def _listen(words: Connection, signals: StopSignals) -> None:
    told = {DRAIN: signals.drain, FORCE: signals.force}
    with suppress(EOFError, OSError):
        while True:
            told[words.recv()]()
    signals.drain()
