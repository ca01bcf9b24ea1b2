"""Signals and commands that end a serving process: drain and force."""

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
"""Signals closer together count as one: shells, containers and wrappers repeat a signal that the process has got."""


class StopSignals:
    """Two events of the running event loop, which signal handlers and threads may set."""

    def __init__(self) -> None:
        self.draining = asyncio.Event()
        self.forced = asyncio.Event()
        self._loop = asyncio.get_running_loop()

    def drain(self) -> None:
        """Answer new requests 503, and end when the running exports have ended."""
        self._tell(self.draining)

    def force(self) -> None:
        """End now."""
        self._tell(self.draining)
        self._tell(self.forced)

    def _tell(self, event: asyncio.Event) -> None:
        with suppress(RuntimeError):  # the loop has been closed: the process is ending
            self._loop.call_soon_threadsafe(event.set)


class OnSignal:
    """Handle signals: the first one calls `drain`, a later one `force`."""

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


class DeferredSignal:
    """Handle signals by remembering that one came, for the next handler."""

    def __init__(self) -> None:
        self.came = False

    def __call__(self, *_: object) -> None:
        self.came = True


def hold_signals() -> None:
    """Defer signals until `on_signals`: the address is printed before the server runs, and a signal may come then."""
    deferred = DeferredSignal()
    for number in SIGNALS:
        signal.signal(number, deferred)


@contextmanager
def on_signals(handler: OnSignal) -> Iterator[None]:
    """Handle signals inside the block. Afterwards they are ignored, so that none disturbs a clean end."""
    before = [signal.signal(number, handler) for number in SIGNALS]
    if any(isinstance(found, DeferredSignal) and found.came for found in before):
        handler()
    try:
        yield
    finally:
        for number in SIGNALS:
            signal.signal(number, signal.SIG_IGN)


@contextmanager
def signals_of_process() -> Iterator[StopSignals]:
    """Make the StopSignals of a single process."""
    signals = StopSignals()
    with on_signals(OnSignal(signals.drain, signals.force)):
        yield signals


@contextmanager
def signals_of_worker(commands: Connection) -> Iterator[StopSignals]:
    """Make the StopSignals of a worker, set by commands of its supervisor; the death of the supervisor drains too.

    SIGTERM drains, and SIGINT is left to the supervisor. Service managers send the one, terminals the other, to all
    processes at once, and the supervisor passes it on; that must not count twice.
    """
    signals = StopSignals()
    signal.signal(signal.SIGTERM, lambda *_: signals.drain())
    Thread(target=_listen, args=(commands, signals), name="asgi-export signals", daemon=True).start()
    try:
        yield signals
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)


def _listen(commands: Connection, signals: StopSignals) -> None:
    actions = {DRAIN: signals.drain, FORCE: signals.force}
    with suppress(EOFError, OSError):
        while True:
            actions[commands.recv()]()
    signals.drain()
