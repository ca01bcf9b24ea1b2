"""Serve in one process, from its start until it drains and every export has ended.

    drain → new requests are answered 503, running exports go on → the remaining ones are broken off → exit

A server alone cannot do that: uvicorn closes its port first, which refuses new clients, and Hypercorn waits for
running exports for ever on Python 3.12 and later.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import socket
from collections.abc import Awaitable, Callable
from contextlib import AbstractContextManager
from functools import partial
from multiprocessing.connection import Connection
from typing import Protocol

from asgi_export.app import ExportApp
from asgi_export.asgi.message import ASGIApp
from asgi_export.asgi.pump import PRODUCER
from asgi_export.extras import extra
from asgi_export.service import make_export_app, make_service, make_store
from asgi_export.serving.signals import StopSignals, signals_of_process, signals_of_worker
from asgi_export.settings import Settings, load_settings

CLOSE_SECONDS = 2.0
"""Time for connections to close after the exports have been broken off."""

MARGIN_SECONDS = 1.0
"""Time after that until a server counts as stuck."""

NOT_STARTED = 3
"""The exit code of a process that could not start serving; the same as uvicorn's."""


class Server(Protocol):
    """A server of one application on one socket.

    `serve` returns when the server has ended: after `close`, which gives connections so many seconds, or by itself if
    it could not start.
    """

    async def serve(self) -> None: ...
    def close(self, seconds: float) -> None: ...


MakeServer = Callable[[ASGIApp, Settings, socket.socket], Server]


def find_server(settings: Settings) -> MakeServer:
    """Return the factory of the configured server. Raises `StartupError` if it is not installed."""
    with extra(settings.server):
        if settings.server == "hypercorn":
            from asgi_export.serving.hypercorn_server import make_server as make_hypercorn

            return make_hypercorn
        from asgi_export.serving.uvicorn_server import make_server as make_uvicorn

        return make_uvicorn


def serve_alone(settings: Settings, listening: socket.socket) -> int:
    """Serve in this process until signals end it; return the exit code."""
    signal.signal(signal.SIGHUP, signal.SIG_IGN)  # until the service handles it
    return asyncio.run(_serve(settings, listening, signals_of_process))


def serve_as_worker(listening: socket.socket, commands: Connection) -> None:
    """Serve in a worker process until its supervisor ends it; the environment has the settings."""
    for number in (signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGHUP])  # ignored now, so it cannot end a starting process
    settings = load_settings({}, os.environ)
    raise SystemExit(asyncio.run(_serve(settings, listening, partial(signals_of_worker, commands))))


async def _serve(
    settings: Settings, listening: socket.socket, listen: Callable[[], AbstractContextManager[StopSignals]]
) -> int:
    store = make_store(settings)
    exports = make_export_app(settings, store)
    server = find_server(settings)(make_service(settings, exports, store), settings, listening)
    with listen() as signals:
        serving = asyncio.ensure_future(server.serve())
        await _wait_for_first(serving, signals.draining.wait())
        if serving.done():
            serving.result()
            return 0 if signals.draining.is_set() else NOT_STARTED
        # Exports first, then the server: while they drain, it must still accept requests and answer them 503.
        seconds = await _drain(exports, signals, settings.drain_seconds)
        server.close(seconds)
        if not signals.forced.is_set():
            await _wait_for_first(serving, signals.forced.wait(), asyncio.sleep(seconds + MARGIN_SECONDS))
        await asyncio.wait({serving}, timeout=CLOSE_SECONDS if signals.forced.is_set() else 0)
    _exit_if_stuck(serving)
    return 0


async def _drain(exports: ExportApp, signals: StopSignals, drain_seconds: float) -> float:
    """Let the exports end, or break them off; return the seconds that connections may still take."""
    loop = asyncio.get_running_loop()
    give_up_at = loop.time() + drain_seconds
    exports.drain()
    await _wait_for_first(exports.idle(), signals.forced.wait(), asyncio.sleep(drain_seconds))
    await exports.stop()
    left = 0.0 if signals.forced.is_set() else give_up_at - loop.time()
    return max(left, CLOSE_SECONDS)  # the last bytes of an export that ended may be on their way to a slow client


async def _wait_for_first(*waiting: Awaitable[object]) -> None:
    """Wait until one of them is done; cancel those that were not tasks before."""
    tasks = {asyncio.ensure_future(found) for found in waiting}
    await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    for task in tasks - set(waiting):
        task.cancel()


def _exit_if_stuck(serving: asyncio.Future[None]) -> None:
    """Exit now if the server or a source is stuck.

    If a client reads nothing, Hypercorn waits for its connection for ever; and Python waits at exit for the threads
    of abandoned sources.
    """
    if not serving.done() or PRODUCER in {task.get_name() for task in asyncio.all_tasks()}:
        logging.shutdown()
        os._exit(0)
    if error := serving.exception():
        logging.getLogger("asgi_export").debug("the server's own end failed", exc_info=error)
