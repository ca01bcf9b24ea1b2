"""What the service does to logging: ours gets a handler where nobody set one, and servers' logs lose keys."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Mapping
from typing import Any

from asgi_export.access.credentials import without_key
from asgi_export.asgi.stream import BrokenOff

SERVER_LOGGERS = ("uvicorn.access", "uvicorn.error", "uvicorn.asgi", "hypercorn.access", "hypercorn.error", "asyncio")
"""Those write the request's target with its query string, and `apiKey` is in there; or tracebacks of no fault."""

LINE = "%(asctime)s %(levelname)s %(name)s %(message)s"


class WithoutQueries(logging.Filter):
    """Cuts every text argument of a record at its `?`; the shape of the arguments stays, formatters need it."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Change the record in place, and let it through."""
        args = record.args
        if isinstance(args, tuple):
            record.args = tuple([_cut(value) for value in args])
        elif isinstance(args, dict):
            record.args = _cut_values(args)
        return True


def _cut_values(values: Mapping[str, Any]) -> dict[str, Any]:
    """Hypercorn's atoms by name, or a scope, which uvicorn logs at its trace level."""
    return {name: "…" if name in ("q", "query_string", "raw_path") else _cut(value) for name, value in values.items()}


LOST_CONNECTION = "Unhandled exception in client_connected_cb"
"""What asyncio says of a connection that the system has given up while Hypercorn was closing it."""


class WithoutBreaks(logging.Filter):
    """Drops the traceback that a server logs when we break a connection off: our own log has the reason."""

    def filter(self, record: logging.LogRecord) -> bool:
        """False for what was raised only to break off, by the end of the server itself, or by a lost connection."""
        error = record.exc_info[1] if record.exc_info else None
        if isinstance(error, TimeoutError | ConnectionError):
            return not record.getMessage().startswith(LOST_CONNECTION)
        return not isinstance(error, BrokenOff | asyncio.CancelledError)


def _cut(value: Any) -> Any:
    if isinstance(value, dict):
        return _cut_values(value)
    if not isinstance(value, str) or (bare := without_key(value)) == value:
        return value
    _, blank, after = value[len(bare) :].partition(" ")  # a request line goes on: "GET /path?query HTTP/1.1"
    return bare + blank + after


class Lines(logging.Formatter):
    """Writes what `LINE` says, in a third of the time: a busy service writes thousands of lines a second."""

    def __init__(self) -> None:
        super().__init__(LINE)
        self._second = -1
        self._date = ""

    def format(self, record: logging.LogRecord) -> str:
        """The record as one line; with its traceback below where it has one."""
        if record.exc_info or record.exc_text or record.stack_info:
            return super().format(record)
        second = int(record.created)
        if second != self._second:
            self._second, self._date = second, time.strftime(self.default_time_format, time.localtime(second))
        milliseconds = int(record.msecs)
        return f"{self._date},{milliseconds:03d} {record.levelname} {record.name} {record.getMessage()}"


def set_up_logs() -> None:
    """Install both, once; calling it again changes nothing."""
    for name in SERVER_LOGGERS:
        logger = logging.getLogger(name)
        if not any(isinstance(found, WithoutQueries) for found in logger.filters):
            logger.addFilter(WithoutQueries())
            logger.addFilter(WithoutBreaks())
    ours = logging.getLogger("asgi_export")
    if ours.level == logging.NOTSET:
        ours.setLevel(logging.INFO)
    if not ours.hasHandlers():
        handler = logging.StreamHandler()
        handler.setFormatter(Lines())
        ours.addHandler(handler)
        ours.propagate = False
