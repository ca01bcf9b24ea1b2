"""What the service takes out of logs: query strings, because keys are in them, and tracebacks of no fault."""

from __future__ import annotations

import asyncio
import io
import json
import logging
import re
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from contextvars import Context
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from asgi_export import ExportApp, Observe, RateLimit
from asgi_export.asgi.context import REQUEST_ID
from asgi_export.asgi.pump import BrokenOff
from asgi_export.logs import (
    LINE,
    LOST_CONNECTION,
    SERVER_LOGGERS,
    UNWANTED_CONNECTION,
    Diverted,
    JsonLines,
    Lines,
    RequestIds,
    WithoutBreaks,
    WithoutQueries,
    set_up_logs,
)
from asgi_export.middleware.observe import AccessLine
from tests.doubles import Client, Recorded


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


def caused(error: BaseException, cause: BaseException) -> BaseException:
    error.__cause__ = cause
    return error


@pytest.mark.parametrize(
    ("error", "kept"),
    [
        (BrokenOff("x"), False),
        (asyncio.CancelledError(), False),
        (RuntimeError("x"), True),
        (ExceptionGroup("of a task group", [BrokenOff("x")]), False),
        (ExceptionGroup("of a task group", [BrokenOff("x"), RuntimeError("x")]), True),
        (caused(RuntimeError("of a framework"), BrokenOff("x")), False),
        (caused(RuntimeError("of a framework"), caused(RuntimeError("of its router"), BrokenOff("x"))), False),
        (caused(RuntimeError("of a framework"), ValueError("x")), True),
    ],
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
        ("Future exception was never retrieved", ConnectionError(UNWANTED_CONNECTION), False),
        ("Future exception was never retrieved", ConnectionError("x"), True),
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


def record_of(
    message: object, *args: object, error: BaseException | None = None, **changes: Any
) -> logging.LogRecord:
    exc_info = (type(error), error, error.__traceback__) if error else None
    record = logging.LogRecord("a.b", logging.ERROR, "file", 1, message, args, exc_info)
    vars(record).update(changes)
    return record


def raised() -> BaseException:
    try:
        raise ZeroDivisionError("one\ntwo")
    except ZeroDivisionError as error:
        return error


def test_a_json_line_is_one_object_with_the_time_in_utc() -> None:
    record = record_of("%s is %d", "x", 7, created=1790000000.25, msecs=250.0)
    text = JsonLines().format(record)
    assert json.loads(text) == {
        "time": "2026-09-21T14:13:20.250Z",
        "level": "ERROR",
        "logger": "a.b",
        "message": "x is 7",
    }


def test_the_time_of_a_json_line_is_now_wherever_it_is_written(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "Asia/Kolkata")
    time.tzset()
    monkeypatch.undo()
    found = datetime.fromisoformat(json.loads(JsonLines().format(record_of("x")))["time"])
    time.tzset()
    assert abs(found - datetime.now(UTC)) < timedelta(seconds=10)


def test_an_exception_is_one_member_of_one_line() -> None:
    text = JsonLines().format(record_of("failed", error=raised(), stack_info="Stack (most recent call last)"))
    assert "\n" not in text
    exception = json.loads(text)["exception"]
    assert exception.startswith("Traceback (most recent call last)")
    assert "ZeroDivisionError: one\ntwo" in exception
    assert exception.endswith("Stack (most recent call last)")


@given(st.text(st.characters(exclude_categories=())), st.text(st.characters(exclude_categories=())))
@example("\ud800", "\udfff")
def test_nobody_forges_a_json_line(message: str, argument: str) -> None:
    """Strict readers take it too: it is ASCII, and its escapes make whole characters."""
    text = JsonLines().format(record_of("%s" + message.replace("%", "%%"), argument, request_id="id-1"))
    assert text.isascii()
    assert min(text) >= " "
    found = json.loads(text)
    assert found.keys() == {"time", "level", "logger", "message", "request_id"}
    assert found["message"].encode().decode() == found["message"]


def test_an_access_line_has_its_fields_in_json_with_numbers_as_numbers() -> None:
    fields: dict[str, str | int | float] = {
        "request_id": "r",
        "method": "GET",
        "path": "/x",
        "status": 200,
        "bytes": 5,
        "seconds": 0.25,
        "rows": 1,
    }
    found = json.loads(JsonLines().format(record_of(AccessLine(fields), request_id="other")))
    assert {name: found[name] for name in fields} == fields
    assert found["message"] == "GET /x 200"


@pytest.mark.parametrize("error", [None, ValueError("x")])
def test_a_text_line_begins_with_the_id_of_its_request(error: BaseException | None) -> None:
    record = record_of("it failed", error=error, request_id="id-1")
    first = Lines().format(record).splitlines()[0]
    assert first.endswith(" ERROR a.b request_id=id-1 it failed")
    fields: dict[str, str | int | float] = {
        "request_id": "id-2",
        "method": "GET",
        "path": "/",
        "status": 200,
        "bytes": 0,
        "seconds": 0.5,
    }
    assert Lines().format(record_of(AccessLine(fields), request_id="id-2")).count("request_id=") == 1


@given(st.text(st.characters(exclude_categories=())))
@example("a\n2026-11-23 00:00:00,000 INFO asgi_export.access request_id=x")
@example("\x1b[31m\u2028\ud800")
def test_nobody_forges_a_text_line(name: str) -> None:
    """With the name of a table, say; and it can be written in any encoding of Unicode."""
    line = Lines().format(record_of("export of %s failed", name))
    assert line.isprintable()
    assert line.encode()
    assert not name.isprintable() or line.endswith(f"export of {name} failed")


def test_a_record_has_the_id_of_the_request_in_whose_context_it_was_made() -> None:
    def scenario() -> None:
        record = record_of("x")
        assert RequestIds().filter(record)
        assert vars(record)["request_id"] == ""
        REQUEST_ID.set("id-1")
        assert RequestIds().filter(record)
        assert vars(record)["request_id"] == "", "it was made before"
        assert RequestIds().filter(later := record_of("x"))
        assert vars(later)["request_id"] == "id-1"

    Context().run(scenario)


@pytest.mark.parametrize("formatter", [Lines(), JsonLines()])
def test_every_line_of_a_request_has_its_id(formatter: logging.Formatter) -> None:
    """Those of the pump, of worker threads and of the server too: all that is logged while two requests fail."""
    stream = io.StringIO()
    handler, logger = logging.StreamHandler(stream), logging.getLogger("asgi_export")
    handler.setFormatter(formatter)
    handler.addFilter(RequestIds())
    app = Observe(RateLimit(ExportApp([Recorded(fail_at=2)])))

    async def ask(request_id: str) -> None:
        try:
            await Client().ask(app, headers=[(b"x-request-id", request_id.encode())])
        except BrokenOff:
            await asyncio.to_thread(logging.getLogger("asgi_export.limiter").error, "from a thread")
            logger.error("as a server does")

    async def scenario() -> None:
        await asyncio.gather(ask("one-1"), ask("two-2"))

    level = logger.level
    logger.setLevel(logging.DEBUG)
    logger.addHandler(handler)
    try:
        with closing(handler):
            asyncio.run(scenario())
    finally:
        logger.removeHandler(handler)
        logger.setLevel(level)
    lines = [line for line in stream.getvalue().splitlines() if re.match(r"\d{4}-|\{", line)]
    ids = [re.findall(r"request_id(?:=|\": \")([\w-]+)", line) for line in lines]
    assert sorted(ids) == [["one-1"]] * 4 + [["two-2"]] * 4


def test_a_diverted_record_reaches_our_handler_alone(records: tuple[logging.Logger, Records]) -> None:
    logger, theirs = records
    ours = Records()
    logger.addFilter(Diverted(ours))
    logger.error("%s", "GET /csv?apiKey=K")
    assert ours.lines == ["GET /csv"]
    assert theirs.lines == []


@contextmanager
def untouched_logging() -> Iterator[None]:
    """Loggers as they are without us, and no request; afterwards they are as they were."""
    token = REQUEST_ID.set("")
    loggers = [logging.root, *map(logging.getLogger, ["asgi_export", *SERVER_LOGGERS])]
    before = [(logger, list(logger.handlers), list(logger.filters), logger.propagate) for logger in loggers]
    for logger in loggers:
        logger.handlers[:], logger.filters[:], logger.propagate = [], [], True
    try:
        yield
    finally:
        REQUEST_ID.reset(token)
        for logger, handlers, filters, propagate in before:
            logger.handlers[:], logger.filters[:], logger.propagate = handlers, filters, propagate


def test_json_is_for_all_loggers_and_set_up_once(capsys: pytest.CaptureFixture[str]) -> None:
    names = ["asgi_export", "uvicorn.error", "hypercorn.error", "asyncio", "somebody.else"]
    with untouched_logging():
        set_up_logs("json")
        set_up_logs("json")
        logging.getLogger("uvicorn.error").addHandler(logging.StreamHandler())  # the server's own, which comes later
        for name in names:
            logging.getLogger(name).error("%s says", name)
    found = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    assert [line["logger"] for line in found] == names


def test_text_leaves_servers_their_handlers(capsys: pytest.CaptureFixture[str]) -> None:
    theirs = Records()
    with untouched_logging():
        set_up_logs()
        logging.getLogger("uvicorn.error").addHandler(theirs)
        logging.getLogger("uvicorn.error").error("x")
        logging.getLogger("asgi_export").error("y")
    assert theirs.lines == ["x"]
    assert capsys.readouterr().err.endswith(" ERROR asgi_export y\n")


def test_no_key_is_in_a_json_line() -> None:
    """Neither of ours nor of a server's."""
    stream = io.StringIO()
    with untouched_logging():
        set_up_logs("json")
        handler = logging.getLogger("asgi_export").handlers[0]
        assert isinstance(handler, logging.StreamHandler)
        handler.setStream(stream)
        app = Observe(RateLimit(ExportApp([Recorded(10)])))
        headers = [(b"x-api-key", b"s3cret"), (b"authorization", b"Bearer s3cret")]
        asyncio.run(Client().ask(app, "apiKey=s3cret&total=1", headers=headers))
        asyncio.run(Client().ask(app, path="/csv?apiKey=s3cret"))
        logging.getLogger("hypercorn.error").error("%s", "GET /csv?apiKey=s3cret HTTP/1.1")
    lines = [json.loads(line) for line in stream.getvalue().splitlines()]
    assert [line["logger"] for line in lines] == ["asgi_export.access", "asgi_export.access", "hypercorn.error"]
    assert "s3cret" not in stream.getvalue()
