"""Hypercorn, from the extra of that name."""

from __future__ import annotations

import asyncio
import logging
import socket
import warnings
from typing import Any

from hypercorn.asyncio import serve
from hypercorn.config import Config

from asgi_export.asgi.message import ASGIApp
from asgi_export.serving.listening import BACKLOG, head_bytes
from asgi_export.settings import Settings


class HypercornServer:
    """One server on one listening socket; a `Server` of `process`."""

    def __init__(self, app: Any, config: Config) -> None:
        self._app = app
        self._config = config
        self._closing = asyncio.Event()

    async def serve(self) -> None:
        """Serve until `close`, or until the start has failed."""
        await serve(self._app, self._config, shutdown_trigger=self._closing.wait)

    def close(self, seconds: float) -> None:
        """Stop accepting, and give connections `seconds` to end.

        HTTP/2 connections that Hypercorn cancels then fail inside it, each with a traceback: these are not logged.
        """
        logging.getLogger("asyncio").setLevel(logging.CRITICAL)
        warnings.filterwarnings("ignore", "coroutine .* was never awaited", RuntimeWarning)
        self._config.graceful_timeout = seconds
        self._closing.set()


def make_server(app: ASGIApp, settings: Settings, listening: socket.socket) -> HypercornServer:
    """Configure Hypercorn for exports. Call it while the event loop runs."""
    config = Config()
    config.bind = [f"fd://{listening.detach()}"]
    config.backlog = BACKLOG
    config.h11_max_incomplete_size = head_bytes(settings)
    config.loglevel = "WARNING"
    return HypercornServer(app, config)
