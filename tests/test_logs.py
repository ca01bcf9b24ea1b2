"""What the service takes out of logs: query strings, because keys are in them, and tracebacks of no fault."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator

import pytest

from asgi_export.asgi.stream import BrokenOff
from asgi_export.logs import LINE, LOST_CONNECTION, SERVER_LOGGERS, Lines, WithoutBreaks, WithoutQueries, set_up_logs


class Records(logging.Handler):
    """Keeps what comes, as text."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(record.getMessage())


@pytest.fixture
def records() -> Iterator[tuple[logging.Logger, Records]]:
    """A logger like a server's, with both filters."""
    logger, handler = logging.getLogger("tests.server"), Records()
    logger.setLevel(logging.DEBUG)
    logger.addHandler(handler)
    logger.filters[:] = [WithoutQueries(), WithoutBreaks()]
    logger.propagate = False
    yield logger, handler
    logger.removeHandler(handler)


@pytest.mark.parametrize(
    ("message", "args", "line"),
    [
        (
            '%s - "%s %s HTTP/%s" %d',
            ("1.2.3.4:5", "GET", "/csv?apiKey=K", "1.1", 200),
            '1.2.3.4:5 - "GET /csv HTTP/1.1" 200',
        ),
        ("%s", ("GET /csv?apiKey=K&x=? HTTP/1.1",), "GET /csv HTTP/1.1"),
        ("%(r)s %(q)s %(s)d", ({"r": "GET /csv?apiKey=K 1.1", "q": "apiKey=K", "s": 200},), "GET /csv 1.1 … 200"),
        ("%s", ({"path": "/csv", "query_string": b"apiKey=K"},), "{'path': '/csv', 'query_string': '…'}"),
        ("no arguments", (), "no arguments"),
        ("why? %s", ("/a",), "why? /a"),
    ],
)
def test_queries_are_cut_out_of_arguments_and_nothing_else(
    records: tuple[logging.Logger, Records], message: str, args: tuple[object, ...], line: str
) -> None:
    logger, handler = records
    logger.info(message, *args)
    assert handler.lines == [line]


@pytest.mark.parametrize(
    ("error", "kept"), [(BrokenOff("x"), False), (asyncio.CancelledError(), False), (RuntimeError("x"), True)]
)
def test_only_what_was_raised_to_break_off_is_dropped(
    records: tuple[logging.Logger, Records], error: BaseException, kept: bool
) -> None:
    logger, handler = records
    logger.error("Exception in ASGI application", exc_info=error)
    assert bool(handler.lines) is kept


@pytest.mark.parametrize(
    ("message", "error", "kept"),
    [
        (f"{LOST_CONNECTION}\ntransport: x", TimeoutError(110, "Connection timed out"), False),
        (f"{LOST_CONNECTION}\ntransport: x", ConnectionResetError(), False),
        (f"{LOST_CONNECTION}\ntransport: x", ValueError(), True),
        ("socket.accept() out of system resource", OSError(24, "Too many open files"), True),
        ("Task exception was never retrieved", TimeoutError(), True),
    ],
)
def test_a_connection_that_was_lost_is_no_failure(
    records: tuple[logging.Logger, Records], message: str, error: BaseException, kept: bool
) -> None:
    logger, handler = records
    logger.error(message, exc_info=error)
    assert bool(handler.lines) is kept


@pytest.mark.parametrize("created", [1790000000.0, 1790000000.0004, 1790000000.9999, 1790000001.25, 5.5])
def test_a_line_is_what_the_standard_formatter_writes(created: float) -> None:
    """Also when the second of the line before was another one, and with a traceback below."""
    lines, standard = Lines(), logging.Formatter(LINE)
    for moment in (created, created + 1, created):
        for error in (None, ValueError("x")):
            exc_info = (ValueError, error, None) if error else None
            record = logging.LogRecord("a.b", logging.WARNING, "file", 1, "%s of %d", ("one", 2), exc_info)
            record.created, record.msecs = moment, (moment - int(moment)) * 1000
            assert lines.format(record) == standard.format(record)


def test_setting_up_twice_changes_nothing_more() -> None:
    set_up_logs()
    before = {name: list(logging.getLogger(name).filters) for name in SERVER_LOGGERS}
    handlers = list(logging.getLogger("asgi_export").handlers)
    set_up_logs()
    assert {name: list(logging.getLogger(name).filters) for name in SERVER_LOGGERS} == before
    assert logging.getLogger("asgi_export").handlers == handlers
    assert all(any(isinstance(found, WithoutQueries) for found in filters) for filters in before.values())
