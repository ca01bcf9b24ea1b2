"""Pages of other origins, as a browser lets them read, against the whole service on real servers."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from asgi_export import digest_of
from tests.conformance.conftest import SERVERS, command
from tests.conformance.fetching import NetworkError, Page
from tests.conformance.servers import Server, eventually, get, raw, running
from tests.ports import free_port

CSV = "/api/v1/exports/csv?total=1&columns=id"
APP = Page("https://app.example")
OTHER = Page("http://localhost:5173")
EVIL = Page("https://evil.example")
KEY = {"X-API-Key": "alice"}
PREFLIGHT = "Origin: https://app.example\r\nAccess-Control-Request-Method: GET\r\n"


@pytest.fixture(scope="module", params=SERVERS)
def server(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """The service with keys, for two origins."""
    folder, port = tmp_path_factory.mktemp("cors"), free_port()
    (folder / "keys.toml").write_text(f'[plans.p]\n[keys.alice]\nsha256 = "{digest_of("alice").hex()}"\nplan = "p"\n')
    environ = {
        "ASGI_EXPORT_CORS_ORIGINS": f"{APP.origin}, {OTHER.origin}",
        "ASGI_EXPORT_API_KEYS": str(folder / "keys.toml"),
        "ASGI_EXPORT_LIMIT": "6/1h",
    }
    asked = command(request.param, "asgi_export.service:app", port)
    with running(asked, folder / "output", port=port, environ=environ) as found:
        yield found


def test_a_page_downloads_with_a_key_and_reads_the_heads(server: Server) -> None:
    for page, key in ((APP, KEY), (OTHER, {"Authorization": "Bearer alice"})):
        for credentials in (False, True):
            answer = page.fetch(server, CSV, headers={**key, "Range": "bytes=0-"}, credentials=credentials)
            assert (answer.status, answer.body) == (200, b"id\n1\n")
            assert answer.headers["content-disposition"] == 'attachment; filename="export.csv"'
            assert answer.headers["ratelimit"]
            assert answer.headers["x-request-id"]


def test_a_page_of_another_origin_reads_nothing(server: Server) -> None:
    with pytest.raises(NetworkError):
        EVIL.fetch(server, CSV, headers=KEY)
    with pytest.raises(NetworkError):
        EVIL.fetch(server, CSV)


def test_a_page_reads_why_it_was_refused(server: Server) -> None:
    refused = APP.fetch(server, CSV)
    assert refused.status == 401
    assert b"no API key" in refused.body
    wrong = APP.fetch(server, "/api/v1/exports/csv?total=x", headers=KEY)
    assert (wrong.status, b"total=x" in wrong.body) == (400, True)
    answers = [APP.fetch(server, CSV, headers={"X-API-Key": "guess"}) for _ in range(7)]
    assert answers[-1].status == 429
    assert int(answers[-1].headers["retry-after"]) > 0


def test_a_page_may_not_ask_with_other_methods_or_fields(server: Server) -> None:
    with pytest.raises(NetworkError, match="PATCH"):
        APP.fetch(server, CSV, method="PATCH", headers=KEY)
    with pytest.raises(NetworkError, match="x-evil"):
        APP.fetch(server, CSV, headers={**KEY, "X-Evil": "1"})


def test_a_preflight_is_in_the_access_log_and_in_nothing_else(server: Server) -> None:
    for _ in range(10):
        answer = get(server, CSV, method="OPTIONS", headers=f"{PREFLIGHT}X-Request-Id: before\r\n")
        assert (answer.status, answer.body) == (204, b"")
        assert "ratelimit" not in answer.headers
        assert answer.headers["vary"] == "Accept-Encoding, Origin"
    assert eventually(lambda: len(server.access_lines("before")) == 10)
    assert "status=204" in server.access_lines("before")[0]


@pytest.mark.parametrize("name", SERVERS)
def test_a_broken_export_is_still_broken(tmp_path: Path, name: str) -> None:
    port = free_port()
    environ = {"NASTY_EVENTS": str(tmp_path / "events"), "NASTY_DB": "unused"}
    (tmp_path / "events").touch()
    asked = command(name, "tests.conformance.behind_cors:app", port)
    with running(asked, tmp_path / "output", port=port, environ=environ) as found:
        request = "GET /api/v1/exports/csv?dataset=failing HTTP/1.1\r\nHost: x\r\nOrigin: https://app.example\r\n\r\n"
        broken = raw(found, request.encode())
        assert b" 200 " in broken.partition(b"\r\n")[0]
        assert b"access-control-allow-origin: https://app.example\r\n" in broken.lower()
        assert not broken.endswith(b"0\r\n\r\n")  # the final chunk of RFC 9112 §7.1
        whole = APP.fetch(found, "/api/v1/exports/csv?dataset=failing&total=1")
        assert whole.status == 200
