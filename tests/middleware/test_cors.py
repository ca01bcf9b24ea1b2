"""Cross-origin resource sharing in raw ASGI: who may read what, and what a preflight costs."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from asgi_export import Cors, ExportApp, Observe, Outermost, RateLimit, SimulatedDataset
from asgi_export.app import ALLOW
from asgi_export.asgi.message import send_whole
from asgi_export.errors import StartupError
from asgi_export.middleware.cors import METHODS, parse_origins
from asgi_export.service import make_service
from asgi_export.settings import Settings, load_settings
from tests.doubles import Client, Recorded
from tests.openapi.described import KEYS

APP, OTHER = "https://app.example", "http://localhost:5173"
ASKS = (b"access-control-request-method", b"GET")
SHARED = (b"access-control-allow-origin", b"access-control-allow-credentials", b"access-control-expose-headers")


def asked(app: Any, origin: bytes | None = APP.encode(), method: str = "GET", *fields: Any, **scope: Any) -> Client:
    client = Client()
    origins = [] if origin is None else [(b"origin", origin)]
    scope.setdefault("query", "total=1")
    asyncio.run(client.ask(app, method=method, headers=[*origins, *fields], **scope))
    return client


def exports(*origins: str) -> Cors:
    return Cors(RateLimit(ExportApp([SimulatedDataset()]), limit=100), origins=origins or [APP, OTHER])


@pytest.mark.parametrize("origin", [APP, OTHER])
def test_a_listed_origin_may_read(origin: str) -> None:
    headers = asked(exports(), origin.encode()).headers
    assert headers[b"access-control-allow-origin"] == origin.encode()
    assert headers[b"access-control-allow-credentials"] == b"true"
    exposed = headers[b"access-control-expose-headers"].split(b", ")
    for name in (
        b"Content-Disposition",
        b"RateLimit",
        b"RateLimit-Policy",
        b"Retry-After",
        b"X-Request-Id",
        b"ETag",
        b"Accept-Ranges",
        b"Content-Range",
        b"Link",
    ):
        assert name in exposed


HOSTILE = [
    b"",
    b"null",
    b"*",
    b"https://app.example/",
    b"https://app.example.evil.example",
    b"https://evil.example#https://app.example",
    b"https://app.example, https://evil.example",
    b"https://evil.example https://app.example",
    b"https://app.example:443",
    b"https://APP.example",
    b"HTTPS://app.example",
    b"http://app.example",
    b"https://app.exampl\xc3\xa9",
    b"https://app.example\r\nset-cookie: a=b",
    b"https://app.example\x00",
    b"\xff\xfe",
    b"https://" + b"a" * 100_000,
    b"app.example",
    b"https://app-example",
]


@pytest.mark.parametrize("origin", HOSTILE, ids=range(len(HOSTILE)))
@pytest.mark.parametrize("method", ["GET", "OPTIONS"])
def test_no_other_origin_may_and_none_is_sent_back(origin: bytes, method: str) -> None:
    answer = asked(exports(), origin, method, ASKS)
    assert not any(name.startswith(b"access-control-allow-origin") for name in answer.headers)
    assert b"access-control-allow-credentials" not in answer.headers
    assert b"access-control-expose-headers" not in answer.headers
    assert not origin or origin == b"*" or all(origin not in value for value in answer.headers.values())


def test_an_answer_varies_by_origin_whoever_asks() -> None:
    """Else a cache hands the answer without the fields to a page that may read it."""
    for origin in (None, APP.encode(), b"https://evil.example"):
        assert asked(exports(), origin).headers[b"vary"] == b"Accept-Encoding, Origin"


def test_any_origin_reads_without_cookies_and_nothing_varies() -> None:
    for origin in (None, b"https://anybody.example", b"null"):
        for method in ("GET", "OPTIONS"):
            headers = asked(exports("*"), origin, method, ASKS).headers
            assert headers[b"access-control-allow-origin"] == b"*"
            assert b"access-control-allow-credentials" not in headers
            assert headers[b"vary"] == b"Accept-Encoding"


@pytest.mark.parametrize(
    ("given", "vary"),
    [
        ([], b"Origin"),
        ([(b"vary", b"*")], b"*"),
        ([(b"Vary", b"accept , ORIGIN")], b"accept, ORIGIN"),
        ([(b"vary", b"Accept"), (b"vary", b"Cookie,")], b"Accept, Cookie, Origin"),
    ],
)
def test_one_vary_has_all_that_the_application_said(given: Any, vary: bytes) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        theirs = [(b"Access-Control-Allow-Origin", b"https://evil.example"), (b"x", b"1")]
        await send_whole(send, 200, [*given, *theirs], b"", method="GET")

    sent = asked(Cors(app, origins=[APP])).sent[0]["headers"]
    assert [value for name, value in sent if name.lower() == b"vary"] == [vary]
    assert [value for name, value in sent if name.lower() == SHARED[0]] == [APP.encode()]
    assert (b"x", b"1") in sent


def test_a_preflight_says_what_may_be_asked() -> None:
    answer = asked(exports(), APP.encode(), "OPTIONS", ASKS, (b"access-control-request-headers", b"x-api-key"))
    assert (answer.status, answer.body) == (204, b"")
    assert answer.headers[b"access-control-allow-methods"] == b"GET, HEAD"
    allowed = answer.headers[b"access-control-allow-headers"].lower().split(b", ")
    for name in b"authorization x-api-key range if-range if-match if-none-match x-request-id accept".split():
        assert name in allowed
    assert b"ratelimit" not in answer.headers


def test_a_page_may_ask_by_every_method_that_is_answered() -> None:
    assert {*METHODS.split(b", "), b"OPTIONS"} == {*ALLOW[1].split(b", ")}


def test_a_preflight_never_reaches_the_application() -> None:
    """No bounds, no limits, no keys, no source: in the whole service, whatever comes with it."""
    source = Recorded(rows=10)
    app = Cors(RateLimit(ExportApp([source]), limit=1), origins=[APP])
    for query in ("", "total=x", "%ff=1", "x" * 9000):
        answer = asked(app, APP.encode(), "OPTIONS", ASKS, (b"x-api-key", b"x" * 40_000), query=query)
        assert answer.status == 204
    assert source.events == []
    assert asked(app, APP.encode()).headers[b"ratelimit"].startswith(b'"default";r=0;')


@pytest.mark.parametrize("fields", [(), (ASKS,)])
def test_an_options_request_that_is_no_preflight_is_the_application_s(fields: Any) -> None:
    """Without an origin, or without a method that is asked for."""
    app = exports()
    answer = asked(app, None if fields else APP.encode(), "OPTIONS", *fields)
    assert (answer.status, answer.headers[b"allow"]) == (204, b"GET, HEAD, OPTIONS")
    assert b"access-control-allow-methods" not in answer.headers
    assert (SHARED[0] in answer.headers) is not fields


def test_errors_are_read_too(tmp_path: Path) -> None:
    (tmp_path / "keys.toml").write_text(KEYS)
    service = make_service(Settings(api_keys=str(tmp_path / "keys.toml"), cors_origins=(APP,)))
    failing = Cors(ExportApp([Recorded(rows=1, fail_at=0, error=RuntimeError("on fire"))]), origins=[APP])
    limited = Cors(RateLimit(ExportApp([SimulatedDataset()]), limit=1), origins=[APP])
    asked(limited)
    for status, answer in (
        (401, asked(service)),
        (404, asked(exports(), path="/nowhere", query="")),
        (414, asked(service, query="x" * 9000)),
        (429, asked(limited)),
        (500, asked(failing, query="")),
    ):
        assert answer.status == status
        assert answer.headers[SHARED[0]] == APP.encode()
        assert answer.headers[b"vary"] == b"Accept-Encoding, Origin"


def test_what_is_no_http_passes() -> None:
    seen: list[str] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        seen.append(scope["type"])

    asyncio.run(Cors(app, origins=["*"])({"type": "lifespan"}, None, None))
    assert seen == ["lifespan"]


def test_it_stands_in_a_service_of_one_s_own() -> None:
    app = Outermost(Observe(Cors(ExportApp([SimulatedDataset()]), origins=[APP])))
    assert asked(app).headers[SHARED[0]] == APP.encode()


@pytest.mark.parametrize(
    ("text", "origins"),
    [
        ("*", ("*",)),
        ("https://app.example", (APP,)),
        (f"{APP} , {OTHER},{APP}", (APP, OTHER)),
        ("http://[::1]:8000,capacitor://localhost", ("http://[::1]:8000", "capacitor://localhost")),
    ],
)
def test_origins_are_read(text: str, origins: tuple[str, ...]) -> None:
    assert parse_origins(text) == origins
    assert load_settings({"cors_origins": text}, {}).cors_origins == origins


@pytest.mark.parametrize(
    "text",
    [
        "",
        " ",
        "null",
        f"*,{APP}",
        f"{APP},",
        f"{APP}/",
        "https://*.app.example",
        "https://app.example:443",
        "http://app.example:80",
        "https://App.example",
        "app.example",
        "https://",
        "https://user@app.example",
        "https://bücher.example",
        "https://app.example\n",
        "https://app.example:",
        "https://app.example:0",
    ],
)
def test_what_no_browser_sends_stops_the_start(text: str) -> None:
    with pytest.raises(ValueError, match="expected origins"):
        Cors(ExportApp([SimulatedDataset()]), origins=text.split(","))
    with pytest.raises(StartupError, match=r"^--cors-origins=.*: expected origins such as") as raised:
        load_settings({"cors_origins": text.strip("\n") + "/" * text.endswith("\n")}, {})
    assert "\n" not in str(raised.value)


def test_a_settings_file_has_them_as_text(tmp_path: Path) -> None:
    (tmp_path / "s.toml").write_text(f'cors_origins = "{APP},{OTHER}"\n')
    assert load_settings({"config": str(tmp_path / "s.toml")}, {}).cors_origins == (APP, OTHER)
    (tmp_path / "s.toml").write_text("cors_origins = []\n")
    with pytest.raises(StartupError, match="cors_origins"):
        load_settings({"config": str(tmp_path / "s.toml")}, {})
