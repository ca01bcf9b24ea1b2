"""Set up logging: a handler for our loggers if they have none, and filters that keep keys out of servers' logs."""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections.abc import Callable, Mapping
from typing import Any

from asgi_export.access.credentials import without_key
from asgi_export.asgi.break_off import BrokenOff
from asgi_export.asgi.context import REQUEST_ID
from asgi_export.middleware.observe import AccessLine

SERVER_LOGGERS = ("uvicorn.access", "uvicorn.error", "uvicorn.asgi", "hypercorn.access", "hypercorn.error", "asyncio")
"""Loggers that write targets with the query string, which may hold `apiKey`, or tracebacks of intended breaks."""

LINE = "%(asctime)s %(levelname)s %(name)s %(message)s"


class WithoutQueries(logging.Filter):
    """Cut every text argument of a record at its `?`; formatters need the shape of the arguments, so it stays."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Change the record in place, and let it through."""
        args = record.args
        if isinstance(args, tuple):
            record.args = tuple([_cut(value) for value in args])
        elif isinstance(args, dict):
            record.args = _cut_values(args)
        return True


def _cut_values(values: Mapping[str, Any]) -> dict[str, Any]:
    """Cut the values of Hypercorn's atoms, or of a scope, which uvicorn logs at its trace level."""
    return {name: "…" if name in ("q", "query_string", "raw_path") else _cut(value) for name, value in values.items()}


LOST_CONNECTION = "Unhandled exception in client_connected_cb"
"""Logged by asyncio for a connection that the system dropped while Hypercorn was closing it."""


UNWANTED_CONNECTION = "unexpected connection_lost() call"
"""Raised in asyncpg when the client left while a connection was being made."""


class WithoutBreaks(logging.Filter):
    """Drop the traceback that a server logs when we break a connection off: our own log has the reason."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Return False for an error of a break, of the server's own shut-down, or of a lost connection."""
        error = record.exc_info[1] if record.exc_info else None
        if isinstance(error, TimeoutError | ConnectionError):
            return str(error) != UNWANTED_CONNECTION and not record.getMessage().startswith(LOST_CONNECTION)
        return not (isinstance(error, asyncio.CancelledError) or _is_break(error))


def _is_break(error: BaseException | None) -> bool:
    """Return whether an error is a break, also inside the group of a task group or as the cause of another error."""
    if isinstance(error, BaseExceptionGroup):
        return all(_is_break(found) for found in error.exceptions)
    return isinstance(error, BrokenOff) or (error is not None and _is_break(error.__cause__))


def _cut(value: Any) -> Any:
    if isinstance(value, dict):
        return _cut_values(value)
    if not isinstance(value, str) or (bare := without_key(value)) == value:
        return value
    _, blank, after = value[len(bare) :].partition(" ")  # a request line goes on: "GET /path?query HTTP/1.1"
    return bare + blank + after


class RequestIds(logging.Filter):
    """Give each record the `request_id` of its request; empty if there is none.

    For handlers: `handler.addFilter(RequestIds())`. A filter of a logger would not see the records of its children.
    """

    def filter(self, record: logging.LogRecord) -> bool:
        """Change the record in place, and let it through."""
        if not hasattr(record, "request_id"):
            record.request_id = REQUEST_ID.get()
        return True


class _Seconds:
    """Format a moment to the second, cached, as many records share it."""

    def __init__(self, form: str, broken_down: Callable[[float], time.struct_time]) -> None:
        self._form = form
        self._broken_down = broken_down
        self._second = -1
        self._text = ""

    def text(self, created: float) -> str:
        second = int(created)
        if second != self._second:
            self._second, self._text = second, time.strftime(self._form, self._broken_down(second))
        return self._text


class Lines(logging.Formatter):
    """Format records as `LINE` does, in a third of the time: a busy service writes thousands of lines a second.

    The id of the request comes before the message, unless the message is an access line, which has it.
    """

    def __init__(self) -> None:
        super().__init__(LINE)
        self._seconds = _Seconds(self.default_time_format, time.localtime)

    def format(self, record: logging.LogRecord) -> str:
        """Format the record as one line, with its traceback below if it has one."""
        if record.exc_info or record.exc_text or record.stack_info:
            return super().format(record)
        return self.formatMessage(record)

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 - it is logging's name
        """Format the line without a traceback."""
        begun = f"{self._seconds.text(record.created)},{int(record.msecs):03d} {record.levelname} {record.name}"
        if isinstance(record.msg, AccessLine):
            return f"{begun} {record.msg}"
        message, request_id = record.getMessage(), getattr(record, "request_id", "")
        if not message.isprintable():  # for example the name of a table in an untrusted file
            message = _on_one_line(message)
        return f"{begun} request_id={request_id} {message}" if request_id else f"{begun} {message}"


def _on_one_line(text: str) -> str:
    return "".join([sign if sign.isprintable() else sign.encode("unicode_escape").decode() for sign in text])


class JsonLines(logging.Formatter):
    """Format a record as one JSON object on one line, with its exception. RFC 8259; the time by RFC 3339, in UTC.

    Members are `time`, `level`, `logger`, `message`; `request_id` if there is a request, `exception` if there is one;
    and the fields of an access line, numbers as numbers.
    """

    def __init__(self) -> None:
        super().__init__()
        self._seconds = _Seconds("%Y-%m-%dT%H:%M:%S", time.gmtime)

    def format(self, record: logging.LogRecord) -> str:
        """Format the record as one line."""
        document: dict[str, object] = {
            "time": f"{self._seconds.text(record.created)}.{int(record.msecs):03d}Z",
            "level": record.levelname,
            "logger": record.name,
        }
        if isinstance(record.msg, AccessLine):
            fields = record.msg.fields
            document["message"] = f"{fields['method']} {fields['path']} {fields['status']}"
            document |= fields
        else:
            document["message"] = _sendable(record.getMessage())
            if request_id := getattr(record, "request_id", ""):
                document["request_id"] = request_id
        if exception := self._exception(record):
            document["exception"] = _sendable(exception)
        return json.dumps(document)

    def _exception(self, record: logging.LogRecord) -> str:
        parts = [self.formatException(record.exc_info)] if record.exc_info else [record.exc_text]
        return "\n".join([part for part in (*parts, record.stack_info) if part])


def _sendable(text: str) -> str:
    """Escape lone surrogates, which many readers of JSON refuse. RFC 8259 §8.2."""
    return text if text.isascii() else text.encode(errors="backslashreplace").decode()


class Diverted(logging.Filter):
    """Pass the records of a server's logger to our handler, whichever handlers the server adds later."""

    def __init__(self, handler: logging.Handler) -> None:
        super().__init__()
        self._handler = handler

    def filter(self, record: logging.LogRecord) -> bool:
        """Handle the record; return False, so that no other handler gets it."""
        self._handler.handle(record)
        return False


FORMATS: Mapping[str, Callable[[], logging.Formatter]] = {"text": Lines, "json": JsonLines}


def set_up_logs(log_format: str = "text") -> None:
    """Install filters and handlers, once; a second call changes nothing.

    As text, our loggers get a handler if they have none, and servers log in their own format. As JSON, one handler
    gets the records of our loggers, of the servers', and of all loggers without a handler of their own.
    """
    handler = logging.StreamHandler()
    handler.setFormatter(FORMATS[log_format]())
    handler.addFilter(RequestIds())
    for name in SERVER_LOGGERS:
        logger = logging.getLogger(name)
        if not any(isinstance(found, WithoutQueries) for found in logger.filters):
            logger.addFilter(WithoutQueries())
            logger.addFilter(WithoutBreaks())
            if log_format == "json":
                logger.addFilter(Diverted(handler))
    ours = logging.getLogger("asgi_export")
    if ours.level == logging.NOTSET:
        ours.setLevel(logging.INFO)
    if not (ours.handlers if log_format == "json" else ours.hasHandlers()):
        ours.addHandler(handler)
        ours.propagate = False
    if log_format == "json" and not logging.root.handlers:
        logging.root.addHandler(handler)
