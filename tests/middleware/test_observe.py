"""One access line a request: what it says, what it never says, and that nobody can forge one."""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from asgi_export import Bounds, Caller, ExportApp, Observe, RateLimit, SimulatedDataset
from asgi_export.access.identity import IDENTITY, Identity
from asgi_export.asgi.context import context_of
from asgi_export.asgi.pump import BrokenOff, Ending
from asgi_export.export.plan import EXPORT
from asgi_export.export.receipt import RECEIPT, Receipt
from asgi_export.middleware.metrics import Metrics
from asgi_export.middleware.observe import MAX_PATH_CHARACTERS, access_line
from tests.doubles import Client, Recorded, http_scope, planned

LINE = re.compile(
    r"request_id=[0-9a-f]{16} method=\S* path=\S* status=\d+ bytes=\d+ seconds=\d+\.\d{3}"
    r"(?: owner=\S+)?(?: dataset=\S+ format=\S+)?(?: rows=\d+ ending=\"[a-z ]+\")?"
)


class Lines(logging.Handler):
    """Keeps the messages of the access log."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.found.append(record.getMessage())


@pytest.fixture
def lines() -> Iterator[list[str]]:
    handler, logger = Lines(), logging.getLogger("asgi_export.access")
    before = logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    yield handler.found
    logger.removeHandler(handler)
    logger.setLevel(before)


def asked(app: Any, query: str = "", *, client: Client | None = None, **scope: Any) -> Client:
    async def scenario() -> Client:
        found = client or Client()
        await found.ask(app, query, **scope)
        return found

    return asyncio.run(scenario())


def service(*datasets: Any, **options: Any) -> Observe:
    return Observe(RateLimit(ExportApp(datasets or [SimulatedDataset()], **options)))


def test_an_export_is_one_line_with_its_rows_and_its_end(lines: list[str]) -> None:
    client = asked(service(), "total=5", headers=[(b"x-request-id", b"abc-1")])
    (line,) = lines
    assert line.startswith("request_id=abc-1 method=GET path=/api/v1/exports/csv status=200 ")
    assert f" bytes={len(client.body)} " in line
    assert line.endswith(' dataset=simulated format=csv rows=5 ending="complete"')


@pytest.mark.parametrize(
    ("scope", "status"),
    [
        ({"query": "total=x"}, 400),
        ({"path": "/nowhere"}, 404),
        ({"method": "POST"}, 405),
        ({"query": "x" * 9000}, 414),
        ({"headers": [(b"a", b"x" * 40_000)]}, 431),
        ({"path": "/healthz"}, 200),
        ({"method": "OPTIONS"}, 204),
        ({"query": "apiKey=%ff"}, 400),
    ],
)
def test_every_answer_has_one_line(lines: list[str], scope: dict[str, Any], status: int) -> None:
    client = asked(service(), **scope)
    (line,) = lines
    assert client.status == status
    assert f" status={status} " in line
    assert LINE.fullmatch(line)


@pytest.mark.parametrize(
    ("caller_id", "written"),
    [
        ("auth0|5f+a@example.org", "auth0|5f+a@example.org"),
        ('a b" status=500', "a%20b%22%20status%3D500"),
        ("é", "%C3%A9"),
    ],
)
def test_no_id_of_a_caller_forges_a_line(lines: list[str], caller_id: str, written: str) -> None:
    app = service()

    async def known(scope: Any, receive: Any, send: Any) -> None:
        context_of(scope).set(IDENTITY, Identity("caller:x", caller=Caller(caller_id)))
        await app(scope, receive, send)

    asked(known, "total=5")
    (line,) = lines
    assert f" owner={written} dataset=simulated " in line
    assert LINE.fullmatch(line)


@pytest.mark.parametrize(
    ("source", "ending", "bounds"),
    [
        (Recorded(fail_at=4), "failed", Bounds()),
        (Recorded(hang_at=4), "cut off", Bounds(max_seconds=0.02)),
    ],
)
def test_an_export_that_is_broken_off_has_its_line_too(
    lines: list[str], source: Recorded, ending: str, bounds: Bounds
) -> None:
    with pytest.raises(BrokenOff):
        asked(service(source, bounds=bounds))
    (line,) = lines
    assert line.endswith(f' rows=2000 ending="{ending}"')
    assert " status=200 " in line


def test_a_client_that_left_before_the_answer_has_status_0(lines: list[str]) -> None:
    async def scenario() -> None:
        source, client = Recorded(hang_at=0), Client()
        task = asyncio.create_task(client.ask(service(source)))
        await source.hanging.wait()
        client.leave()
        await task

    asyncio.run(scenario())
    (line,) = lines
    assert " status=0 bytes=0 " in line
    assert line.endswith('ending="client left"')


def test_a_request_that_is_cancelled_has_its_line(lines: list[str]) -> None:
    async def scenario() -> None:
        source = Recorded(hang_at=2)
        task = asyncio.create_task(Client().ask(service(source)))
        await source.hanging.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(scenario())
    (line,) = lines
    assert line.endswith('ending="cut off"')


@pytest.mark.parametrize(
    "scope",
    [
        {"query": "apiKey=s3cret&total=1"},
        {"query": "apiKey=s3cret&apiKey=s3cret"},
        {"query": "apiKey=s3cret&columns=%ff"},
        {"query": "total=1", "headers": [(b"x-api-key", b"s3cret"), (b"authorization", b"Bearer s3cret")]},
        {"path": "/api/v1/exports/csv?apiKey=s3cret", "query": ""},
        {"path": "http://host/api/v1/exports/csv?apiKey=s3cret", "query": ""},
        {"query": "apikey=x", "headers": [(b"cookie", b"s3cret"), (b"referer", b"http://x/?apiKey=s3cret")]},
    ],
)
def test_no_log_holds_a_key_a_query_or_a_header(scope: dict[str, Any], caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    asked(service(), **scope)
    assert "request_id=" in caplog.text
    assert "s3cret" not in caplog.text


@given(
    st.text(st.characters(exclude_categories=()), max_size=40),
    st.text(st.characters(exclude_categories=()), max_size=40),
    st.text(st.characters(exclude_categories=()), max_size=40),
)
@example("/x\nrequest_id=1 status=200", "GET\r\n", "a b\n")
@example("/x status=200 ending=\x1b[31m", "G T", "\u2028")
@example("/\ud800", "\ud800", "\ud800")
def test_nobody_forges_a_line(path: str, method: str, name: str) -> None:
    scope = http_scope(path, method=method)
    context = context_of(http_scope(headers=[(b"x-request-id", b"0" * 16)]))
    context.set(EXPORT, planned(SimulatedDataset(name or "x")))
    context.set(RECEIPT, Receipt(Ending.COMPLETE, rows=1, bytes=1, seconds=0.5))
    line = str(access_line(scope, context, 200, 1, 0.5))
    assert line.isascii()
    assert line.isprintable()
    assert LINE.fullmatch(line)
    assert line.count(" status=") == line.count(" path=") == 1


def test_an_access_record_holds_no_more_than_its_line_says(caplog: pytest.LogCaptureFixture) -> None:
    """Whatever a handler does with it: some show the record as it is."""
    caplog.set_level(logging.INFO)
    asked(service(), "apiKey=s3cret&total=1", headers=[(b"cookie", b"s3cret")])
    (record,) = [found for found in caplog.records if found.name == "asgi_export.access"]
    assert "s3cret" not in repr(vars(record)) + repr(record.msg)
    assert record.args == ()


def test_a_line_is_made_only_where_the_access_log_is_wanted(monkeypatch: pytest.MonkeyPatch) -> None:
    async def plain(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body"})

    made: list[Any] = []
    monkeypatch.setattr("asgi_export.middleware.observe.access_line", lambda *given: made.append(given))
    logger = logging.getLogger("asgi_export.access")
    before = logger.level
    logger.setLevel(logging.WARNING)
    try:
        asked(Observe(plain), path="/x")
    finally:
        logger.setLevel(before)
    assert made == []


def test_a_long_path_is_cut(lines: list[str]) -> None:
    asked(service(), path="/" + "x" * 10**6)
    assert len(lines[0]) < MAX_PATH_CHARACTERS + 200


@pytest.mark.parametrize(
    ("given_id", "kept"),
    [
        (b"abc-1", True),
        (b"a b", False),
        (b"a\nb", False),
        (b"a\r\nSet-Cookie: x=1", False),
        (b"x" * 129, False),
        (b"x" * 10_000, False),
        ("é".encode(), False),
        (b"\x1b[31m", False),
    ],
)
@pytest.mark.parametrize("scope", [{}, {"path": "/nowhere"}, {"query": "x" * 9000}])
def test_every_answer_has_an_id_and_it_is_the_client_s_where_it_is_sane(
    given_id: bytes, kept: bool, scope: dict[str, Any]
) -> None:
    answer = asked(service(), headers=[(b"X-Request-Id", given_id)], **scope)
    assert (answer.headers[b"x-request-id"] == given_id) is kept
    assert answer.headers[b"x-request-id"].isalnum() or kept


def test_any_application_can_be_observed(lines: list[str]) -> None:
    async def plain(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 203, "headers": []})
        await send({"type": "http.response.body"})

    asked(Observe(plain))
    assert " status=203 bytes=0 " in lines[0]


def test_what_an_application_raises_goes_on_and_has_its_line(lines: list[str]) -> None:
    async def broken(scope: Any, receive: Any, send: Any) -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        asked(Observe(broken))
    assert len(lines) == 1


@pytest.mark.parametrize("kind", ["lifespan", "websocket"])
def test_what_is_no_http_passes_without_a_line(lines: list[str], kind: str) -> None:
    seen: list[Any] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        seen.append((scope, receive, send))

    client, scope = object(), {"type": kind}
    asyncio.run(Observe(app)(scope, client, client))
    assert seen == [(scope, client, client)]
    assert lines == []


@pytest.mark.parametrize(("method", "status"), [("GET", 200), ("HEAD", 200), ("POST", 405)])
def test_metrics_are_answered_where_there_are_some(method: str, status: int) -> None:
    answer = asked(Observe(ExportApp([SimulatedDataset()]), metrics=Metrics()), path="/metrics", method=method)
    assert answer.status == status
    assert bool(answer.body) is (method != "HEAD")
    assert asked(service(), path="/metrics").status == 404


def test_metrics_count_exports_by_how_they_ended_and_none_runs_on() -> None:
    async def scenario() -> str:
        app = Observe(ExportApp([Recorded(1000)]), metrics=Metrics())
        await Client().ask(app)
        await Client().ask(app, "total=x")
        reader = Client()
        await reader.ask(app, path="/metrics")
        return reader.body.decode()

    text = asyncio.run(scenario())
    assert 'asgi_export_exports_total{dataset="recorded",ending="complete",format="csv"} 1.0' in text
    assert 'asgi_export_rows_total{dataset="recorded",format="csv"} 1000.0' in text
    assert 'asgi_export_responses_total{status="400"} 1.0' in text
    assert "asgi_export_running_exports 0.0" in text
