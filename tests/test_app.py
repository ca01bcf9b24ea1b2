"""The application without a server: the lifespan, pages, methods, and how errors are answered."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from asgi_export import Column, ExportApp, Query, QueryParameter, SimulatedDataset, dataset
from asgi_export.access.plans import digest_of
from asgi_export.asgi.pump import BrokenOff
from asgi_export.errors import SourceFailed, StartupError, Unavailable
from asgi_export.limiter.rules import parse_rules
from asgi_export.service import make_service
from asgi_export.settings import Settings
from asgi_export.table import Dataset
from tests.doubles import Client, Recorded, communicator, run

ALLOW = b"GET, HEAD, OPTIONS"


class Place:
    """A source of one dataset that notes what is asked of it, and fails where it is told to."""

    def __init__(self, name: str = "place", *, fails: str = "", error: Exception | None = None) -> None:
        self.name = name
        self.events: list[str] = []
        self.fails = fails
        self._error = error or StartupError("shop.db: no such file")

    async def start(self) -> Sequence[Dataset]:
        await asyncio.sleep(0)
        self._note("start")
        return [dataset(lambda: [(1,)], columns=["a"], name=self.name)]

    async def refresh(self) -> Sequence[Dataset] | None:
        return None

    async def check(self) -> None:
        self._note("check")

    async def close(self) -> None:
        self._note("close")

    def _note(self, event: str) -> None:
        self.events.append(event)
        if event == self.fails:
            raise self._error


async def ask(app: Any, query: str = "", **scope: Any) -> Client:
    client = Client()
    await client.ask(app, query, **scope)
    return client


def asked(app: Any, query: str = "", **scope: Any) -> Client:
    return asyncio.run(ask(app, query, **scope))


@pytest.mark.parametrize("kind", ["websocket", "http2", ""])
def test_an_unknown_scope_raises(kind: str) -> None:
    with pytest.raises(ValueError, match="expected 'http' or 'lifespan'"):
        asked(ExportApp([SimulatedDataset()]), type=kind)


def test_start_up_opens_the_sources_and_shut_down_closes_them() -> None:
    async def scenario() -> None:
        place = Place()
        app = ExportApp([place])
        assert len(app.datasets) == 0
        server = communicator(app, {"type": "lifespan"})
        await server.send_input({"type": "lifespan.startup"})
        assert await server.receive_output() == {"type": "lifespan.startup.complete"}
        assert [found.name for found in app.datasets] == ["place"]
        await ask(app)
        await server.send_input({"type": "lifespan.shutdown"})
        assert await server.receive_output() == {"type": "lifespan.shutdown.complete"}
        await server.wait()
        assert place.events == ["start", "close"]

    run(scenario())


def test_a_start_that_fails_says_why_and_closes_what_it_had_opened() -> None:
    async def scenario() -> None:
        fine, broken = Place("fine"), Place("broken", fails="start")
        server = communicator(ExportApp([fine, broken]), {"type": "lifespan"})
        await server.send_input({"type": "lifespan.startup"})
        assert await server.receive_output() == {
            "type": "lifespan.startup.failed",
            "message": "shop.db: no such file",
        }
        await server.wait()
        assert fine.events == ["start", "close"]

    run(scenario())


def test_without_a_lifespan_the_first_request_opens_the_sources_once() -> None:
    """Daphne sends none, and a mounted application often gets none."""

    async def scenario() -> None:
        place = Place()
        app = ExportApp([place])
        answers = await asyncio.gather(*[ask(app) for _ in range(10)])
        assert {answer.status for answer in answers} == {200}
        assert place.events == ["start"]

    run(scenario())


def test_sources_that_cannot_be_opened_are_a_503_whose_reason_is_in_the_log_alone(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def scenario() -> None:
        place = Place(fails="start")
        app = ExportApp([place])
        answer = await ask(app)
        assert answer.status == 503
        assert answer.headers[b"retry-after"] == b"5"
        assert b"shop.db" not in answer.body
        place.fails = ""
        assert (await ask(app)).status == 200

    run(scenario())
    assert "shop.db: no such file" in caplog.text


def test_after_a_shut_down_it_can_be_started_again() -> None:
    """A test client enters the lifespan more than once."""

    async def scenario() -> None:
        app = ExportApp([Place()])
        for _ in range(2):
            server = communicator(app, {"type": "lifespan"})
            await server.send_input({"type": "lifespan.startup"})
            await server.receive_output()
            assert (await ask(app)).status == 200
            await server.send_input({"type": "lifespan.shutdown"})
            await server.receive_output()
            assert (await ask(app)).status == 503
            await server.wait()

    run(scenario())


def test_a_source_that_does_not_close_keeps_no_other_open(caplog: pytest.LogCaptureFixture) -> None:
    async def scenario() -> None:
        fine, broken = Place("fine"), Place("broken", fails="close")
        app = ExportApp([fine, broken])
        await app.start()
        await app.stop()
        assert fine.events == ["start", "close"]

    run(scenario())
    assert "source broken was not closed" in caplog.text


@pytest.mark.parametrize("sources", [[], [Place("a"), Place("a")], [Place("simulated"), SimulatedDataset()]])
def test_no_dataset_and_two_of_a_name_stop_the_start(sources: Any) -> None:
    with pytest.raises(StartupError, match=r"no dataset|named '"):
        asyncio.run(ExportApp(sources).start())


@pytest.mark.parametrize("path", ["/api/v1/exports/csv", "/api/v1/exports/", "/healthz", "/readyz"])
@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "TRACE", "post", "", "BREW\r\n"])
def test_other_methods_are_405(path: str, method: str) -> None:
    answer = asked(ExportApp([SimulatedDataset()]), path=path, method=method)
    assert answer.status == 405
    assert answer.headers[b"allow"] == ALLOW
    assert json.loads(answer.body)["error"] == "method_not_allowed"


@pytest.mark.parametrize("path", ["/api/v1/exports/csv", "/api/v1/exports/", "/healthz"])
def test_options_say_what_is_allowed(path: str) -> None:
    answer = asked(ExportApp([SimulatedDataset()]), path=path, method="OPTIONS")
    assert (answer.status, answer.headers[b"allow"], answer.body) == (204, ALLOW, b"")
    assert b"content-length" not in answer.headers


@pytest.mark.parametrize("path", ["/api/v1/exports/csv", "/api/v1/exports/", "/healthz", "/readyz", "/nowhere"])
def test_head_is_the_head_of_get_without_a_body(path: str) -> None:
    app = ExportApp([SimulatedDataset()])
    ids = [(b"x-request-id", b"same")]
    get, head = (asked(app, path=path, method=method, headers=ids) for method in ("GET", "HEAD"))
    assert (head.status, head.headers, head.body) == (get.status, get.headers, b"")


def test_head_refuses_what_get_refuses() -> None:
    assert asked(ExportApp([SimulatedDataset()]), "total=x", method="HEAD").status == 400
    assert asked(ExportApp([SimulatedDataset()]), "dataset=x", method="HEAD").status == 404


def test_a_200_has_the_head_that_is_promised() -> None:
    answer = asked(ExportApp([SimulatedDataset()]), "total=1&filename=a.csv", headers=[(b"x-request-id", b"1")])
    assert answer.headers == {
        b"content-type": b"text/csv; charset=utf-8",
        b"content-disposition": b'attachment; filename="a.csv"',
        b"cache-control": b"no-store",
        b"vary": b"Accept-Encoding",
        b"x-content-type-options": b"nosniff",
        b"x-accel-buffering": b"no",
        b"x-request-id": b"1",
    }


COMPARED = ["exact", "not", "gt", "gte", "lt", "lte", "in", "notin", "isnull"]
PARTS = ["contains", "startswith", "endswith"]


class Sorted(Recorded):
    """A dataset that sorts."""

    columns: Any = (Column("id", "integer"), Column("tags", "text[]"), Column('q"é\ud800', "\n"))
    applies = frozenset({"sort"})


def test_the_catalogue_says_of_each_column_how_rows_can_be_asked_for() -> None:
    body = asked(ExportApp([Sorted(), SimulatedDataset()]), path="/api/v1/exports/").body
    sorted_columns, others = [found["columns"] for found in json.loads(body)["datasets"]]
    assert [(found["name"], found["operators"], found["sortable"]) for found in sorted_columns] == [
        ("id", COMPARED, True),
        ("tags", ["isnull"], False),
        ('q"é\ud800', [*COMPARED, *PARTS], True),
    ]
    assert not any(found["sortable"] for found in others)
    for line in body.decode().splitlines()[3:6]:  # one that a person can read and grep can find
        assert json.loads(line.strip().rstrip(","))["name"] in {found["name"] for found in sorted_columns}


class Asked(Recorded):
    """A query with parameters."""

    query = Query("q", "SELECT 1", (QueryParameter("since", "date"), QueryParameter("low", "integer", 0)), "About it")


def test_the_catalogue_says_what_a_query_takes() -> None:
    (found,) = json.loads(asked(ExportApp([Asked()]), path="/api/v1/exports/").body)["datasets"]
    assert found["description"] == "About it"
    assert found["parameters"] == [
        {"name": "since", "type": "date", "required": True},
        {"name": "low", "type": "integer", "required": False, "default": "0"},
    ]


def test_the_catalogue_lists_datasets_columns_and_formats() -> None:
    shop = dataset(list, columns=[("id", "integer"), Column("name")], name="shop")
    answer = asked(ExportApp([SimulatedDataset(), shop]), path="/api/v1/exports/")
    listed = json.loads(answer.body)
    assert answer.headers[b"content-type"] == b"application/json"
    assert [found["name"] for found in listed["datasets"]] == ["simulated", "shop"]
    assert [found["default_total"] for found in listed["datasets"]] == [10_000, None]
    assert listed["datasets"][1]["columns"] == [
        {"name": "id", "type": "integer", "kind": "number", "operators": COMPARED, "sortable": False},
        {"name": "name", "type": "", "kind": "text", "operators": [*COMPARED, *PARTS], "sortable": False},
    ]
    assert {"name": "csv", "media_type": "text/csv; charset=utf-8"} in listed["formats"]
    assert listed["limits"] == []


def test_it_lives_though_its_sources_do_not_open() -> None:
    broken = ExportApp([Place(fails="start")])
    assert asked(broken, path="/healthz").status == 200
    assert asked(broken, path="/readyz").status == 503


def test_a_source_that_does_not_answer_is_named_by_readyz() -> None:
    app = ExportApp([Place("fine"), Place("broken", fails="check", error=OSError("db.internal:5432"))])
    answer = asked(app, path="/readyz")
    assert answer.status == 503
    assert answer.headers[b"retry-after"] == b"1"
    assert json.loads(answer.body)["failing"] == ["broken"]
    assert b"5432" not in answer.body


def test_a_failure_of_ours_is_a_500_that_tells_nothing(caplog: pytest.LogCaptureFixture) -> None:
    answer = asked(ExportApp([Place(fails="start", error=ZeroDivisionError("secret"))]))
    assert answer.status == 500
    assert json.loads(answer.body)["error"] == "internal_server_error"
    assert b"secret" not in answer.body
    assert "secret" in caplog.text


@pytest.mark.parametrize("error", [SourceFailed("payroll"), ValueError("payroll"), StartupError("payroll")], ids=repr)
def test_what_a_source_says_is_for_the_operator_alone(error: Exception, caplog: pytest.LogCaptureFixture) -> None:
    """Also what it finds out late, such as a driver that is not installed; another try would not help."""
    answer = asked(ExportApp([Recorded(fail_at=0, error=error)]))
    assert answer.status == 500
    assert b"retry-after" not in answer.headers
    assert b"payroll" not in answer.body
    assert "payroll" in caplog.text


def test_an_error_of_the_source_that_is_meant_for_the_client_is_the_answer() -> None:
    answer = asked(ExportApp([Recorded(fail_at=0, error=Unavailable("no connection is free"))]))
    assert answer.status == 503
    assert b"no connection is free" in answer.body


def broken(app: Any, query: str) -> Client:
    """The client of an export that is broken off after its head."""
    client = Client()
    with pytest.raises(BrokenOff):
        asyncio.run(client.ask(app, query))
    assert (client.status, client.complete) == (200, False)
    return client


@pytest.mark.parametrize("form", ["csv", "ndjson", "arrow"])
def test_an_export_past_the_rows_of_the_service_is_broken_off_and_one_of_just_as_many_is_whole(form: str) -> None:
    app = make_service(Settings(max_rows=9000))
    path = f"/api/v1/exports/{form}"
    assert asked(app, "total=9000", path=path).complete
    assert asked(app, "total=9001", path=path).status == 403
    client = Client()
    with pytest.raises(BrokenOff):
        asyncio.run(client.ask(app, path=path))  # ten thousand by default
    assert not client.complete


@pytest.mark.parametrize("coding", ["", "gzip"])
def test_the_bytes_of_the_service_are_those_before_compression(coding: str) -> None:
    headers = [(b"accept-encoding", coding.encode())]
    whole = asked(make_service(Settings()), "total=5000").body
    assert asked(make_service(Settings(max_bytes=len(whole))), "total=5000", headers=headers).complete
    client = Client()
    with pytest.raises(BrokenOff):
        asyncio.run(client.ask(make_service(Settings(max_bytes=len(whole) - 1)), "total=5000", headers=headers))


def test_an_export_past_a_bound_ends_with_the_error_line() -> None:
    client = broken(make_service(Settings(max_rows=9000)), "")
    assert client.body.endswith(b'\n"__ERROR__","internal_server_error"\n')


def test_more_columns_than_the_service_has_are_400() -> None:
    app = make_service(Settings(max_columns=3))
    assert asked(app, "columns=id,name,value").status == 200
    for query in ("", "columns=id,name,value,created_at"):
        refused = asked(app, query)
        assert refused.status == 400
        assert b"columns: 4 of them; expected at most 3" in refused.body


def test_answers_of_the_middleware_vary_as_well(tmp_path: Path) -> None:
    keys = tmp_path / "keys.toml"
    keys.write_text("")
    service = make_service(Settings(limit=parse_rules("1/60s"), api_keys=str(keys)))
    answers = [asked(service, path=path) for path in ("/api/v1/exports/csv", "/api/v1/exports/csv", "/metrics")]
    assert [answer.status for answer in answers] == [401, 429, 200]
    assert {answer.headers[b"vary"] for answer in answers} == {b"Accept-Encoding"}


@pytest.mark.parametrize("api_keys", [False, True])
def test_the_bounds_of_the_settings_hold_in_the_whole_service(api_keys: bool, tmp_path: Path) -> None:
    keys = tmp_path / "keys.toml"
    keys.write_text(f'[plans.all]\n[keys.me]\nplan = "all"\nsha256 = "{digest_of("k").hex()}"\n')
    service = make_service(
        Settings(max_query_bytes=12_000, max_header_bytes=50_000, api_keys=str(keys) if api_keys else "")
    )
    large: dict[str, Any] = {"query": "total=1&apiKey=k&null=" + "x" * 9000, "headers": [(b"a", b"x" * 40_000)]}
    assert asked(service, **large).status == 200
    assert asked(service, "x" * 12_001).status == 414
    assert asked(service, headers=[(b"a", b"x" * 50_000)]).status == 431


@pytest.mark.parametrize(
    ("prefix", "path", "status"),
    [
        ("/", "/csv", 200),
        ("", "/csv", 200),
        ("/data//", "/data/csv", 200),
        ("/data", "/csv", 404),
        ("/", "/api/v1/exports/csv", 404),
    ],
)
def test_exports_lie_below_the_prefix_which_may_be_the_root(prefix: str, path: str, status: int) -> None:
    async def scenario() -> None:
        client = Client()
        await client.ask(ExportApp([SimulatedDataset()], prefix=prefix), query="total=1", path=path)
        assert client.status == status

    run(scenario())
