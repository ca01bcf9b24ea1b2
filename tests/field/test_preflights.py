"""`OPTIONS` costs nothing: no hit, no key, no lease, no source. A browser sends one before each request of a page."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from asgi_export import ExportApp, RateLimit, SimulatedDataset
from asgi_export.service import make_service
from asgi_export.settings import Settings
from tests.doubles import Client, Recorded
from tests.openapi.described import ALICE, KEYS, with_keys

PREFLIGHT = [
    (b"origin", b"https://app.example"),
    (b"access-control-request-method", b"GET"),
    (b"access-control-request-headers", b"x-api-key"),
]
CSV = "/api/v1/exports/csv"


def asked(app: Any, method: str = "OPTIONS", path: str = CSV, **scope: Any) -> Client:
    client = Client()
    asyncio.run(client.ask(app, path=path, method=method, **scope))
    return client


@pytest.mark.parametrize("path", [CSV, "/api/v1/exports/", "/openapi.json", "/healthz", "/nowhere"])
def test_an_options_request_counts_no_hit(path: str) -> None:
    app = RateLimit(ExportApp([SimulatedDataset()]), limit=1)
    for _ in range(5):
        answer = asked(app, path=path, headers=PREFLIGHT)
        assert answer.status == (404 if path == "/nowhere" else 204)
        assert b"ratelimit" not in answer.headers
    assert asked(app, "GET", headers=[], query="total=1").headers[b"ratelimit"].startswith(b'"default";r=0;')
    assert asked(app, "GET").status == 429
    assert asked(app, headers=PREFLIGHT).status == 204


def test_an_options_request_needs_no_key_and_tells_nothing_of_one(tmp_path: Path) -> None:
    """It is not counted, so that a wrong key must look like a right one."""
    app = with_keys(ExportApp([SimulatedDataset()]), tmp_path, limit=1)
    answers = [
        asked(app, headers=[*PREFLIGHT, *headers, (b"x-request-id", b"1")])
        for headers in ([], ALICE["headers"], [(b"x-api-key", b"guess")], [(b"authorization", b"Bearer guess")])
    ]
    assert [answer.status for answer in answers] == [204] * 4
    assert len({str(answer.headers) for answer in answers}) == 1


def test_an_options_request_opens_nothing_and_takes_no_lease(tmp_path: Path) -> None:
    source = Recorded(rows=10)
    app = with_keys(ExportApp([source]), tmp_path)
    for _ in range(5):  # alice may run one export at once
        assert asked(app, headers=[*PREFLIGHT, *ALICE["headers"]]).status == 204
    assert source.events == []


@pytest.mark.parametrize("query", ["total=x", "nope=1", "dataset=nope", "%ff=1"])
def test_the_query_of_an_options_request_is_not_looked_at(query: str) -> None:
    assert asked(ExportApp([SimulatedDataset()]), query=query).status == 204


def test_an_options_request_about_the_server_as_a_whole() -> None:
    answer = asked(ExportApp([SimulatedDataset()]), path="*")
    assert (answer.status, answer.headers[b"allow"]) == (204, b"GET, HEAD, OPTIONS")
    assert asked(ExportApp([SimulatedDataset()]), path="/nowhere").status == 404
    assert asked(ExportApp([SimulatedDataset()]), method="GET", path="*").status == 404


def test_an_options_request_in_the_whole_service(tmp_path: Path) -> None:
    (tmp_path / "keys.toml").write_text(KEYS)
    service = make_service(Settings(api_keys=str(tmp_path / "keys.toml")))
    answer = asked(service, headers=PREFLIGHT)
    assert (answer.status, answer.headers[b"allow"]) == (204, b"GET, HEAD, OPTIONS")
    assert asked(service, query="x" * 9000).status == 414
    assert asked(service, headers=[(b"x", b"x" * 40_000)]).status == 431
