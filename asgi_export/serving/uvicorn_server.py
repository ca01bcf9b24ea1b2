"""uvicorn: the core's own server."""

from __future__ import annotations

import logging
import socket
from collections.abc import Generator
from contextlib import contextmanager
from math import ceil

import uvicorn

from asgi_export.asgi.message import ASGIApp
from asgi_export.serving.listening import head_bytes
from asgi_export.settings import Settings


class UvicornServer:
    """One server on one listening socket; a `Server` of `process`."""

    def __init__(self, config: uvicorn.Config, listening: socket.socket) -> None:
        self._server = _WithoutSignals(config)
        self._listening = listening

    async def serve(self) -> None:
        """Serve until `close`, or until the start has failed."""
        await self._server.serve(sockets=[self._listening])

    def close(self, seconds: float) -> None:
        """Stop accepting, and give connections `seconds` to end; those that do not are not logged as errors."""
        logging.getLogger("uvicorn.error").setLevel(logging.CRITICAL)
        self._server.config.timeout_graceful_shutdown = ceil(seconds)
        self._server.should_exit = True


class _WithoutSignals(uvicorn.Server):
    @contextmanager
    def capture_signals(self) -> Generator[None, None, None]:
        """Capture none: the process handles signals, and lets the exports end first."""
        yield


def make_server(app: ASGIApp, settings: Settings, listening: socket.socket) -> UvicornServer:
    """Configure uvicorn for exports."""
    config = uvicorn.Config(
        app,
        http="h11",  # httptools sends chunks to HTTP/1.0 clients; exports are as fast. RFC 9112 §6.1
        lifespan="on",
        ws="none",
        log_level="warning",
        access_log=False,  # ours has the rows and the ending, and no query string
        h11_max_incomplete_event_size=head_bytes(settings),
    )
    return UvicornServer(config, listening)
