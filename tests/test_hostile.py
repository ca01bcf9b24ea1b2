"""Whatever comes in, one answer below 500 goes out, and never an exception."""

from __future__ import annotations

import asyncio
import json
from typing import Any

from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from asgi_export import ExportApp, Observe, RateLimit, SimulatedDataset
from asgi_export.export.parameters import PARAMETERS
from asgi_export.middleware.metrics import Metrics
from tests.doubles import Client, Recorded, http_scope

NAMES = [parameter.name for parameter in PARAMETERS]
WORDS = [
    "",
    "csv",
    "tsv",
    "ndjson",
    "arrow",
    "true",
    "id",
    "id,name",
    "simulated",
    "-1",
    "0",
    "5",
    "tab",
    ";",
    "é",
    "%ff",
]

ANY_TEXT = st.text(st.characters(exclude_categories=()), max_size=20)
"""With lone surrogates, which a careless server or framework makes of bytes that are not UTF-8."""

PATHS = st.one_of(
    st.sampled_from(
        [
            "/",
            "",
            "*",
            "//",
            "/healthz",
            "/readyz",
            "/metrics",
            "/api/v1/exports",
            "/api/v1/exports/",
            "/api/v1/exports//csv",
        ]
    ),
    st.builds("/api/v1/exports/{}".format, st.sampled_from(WORDS) | st.text(max_size=10)),
    st.text(max_size=30),
    ANY_TEXT,
    st.builds("http://host{}".format, st.text(max_size=10)),
)
PAIRS = st.lists(
    st.tuples(st.sampled_from([*NAMES, "x"]), st.sampled_from(WORDS) | st.text(max_size=12)).map(
        lambda pair: f"{pair[0]}={pair[1]}".encode("utf-8", "surrogatepass")
    ),
    max_size=5,
).map(b"&".join)
QUERIES = st.one_of(PAIRS, st.binary(max_size=60), st.just(b"a" * 9000), st.just(b"apiKey=" + b"k" * 5000))
HEADER_NAMES = st.sampled_from(
    [b"accept-encoding", b"X-API-Key", b"authorization", b"x-request-id", b"HOST", b"range"]
) | st.binary(max_size=12)
HEADER_VALUES = st.one_of(
    st.binary(max_size=40),
    st.sampled_from([b"Bearer x", b"gzip", b"zstd;q=0.1, gzip;q=x", b"*;q=0", b"identity;q=0", b"x" * 40_000]),
)
HEADERS = st.lists(st.tuples(HEADER_NAMES, HEADER_VALUES), max_size=5)
MISSING = st.sets(
    st.sampled_from(
        ["asgi", "http_version", "raw_path", "root_path", "query_string", "client", "server", "headers", "extensions"]
    )
)
SCOPES = st.fixed_dictionaries(
    {
        "type": st.just("http"),
        "asgi": st.just({"version": "3.0"}),
        "http_version": st.sampled_from(["1", "1.0", "1.1", "2", "3"]),
        "method": st.sampled_from(["GET", "get", "HEAD", "OPTIONS", "POST", "DELETE", "", "é"])
        | st.text(max_size=8)
        | ANY_TEXT,
        "path": PATHS,
        "raw_path": st.none() | st.binary(max_size=30) | PATHS.map(lambda path: path.encode("utf-8", "replace")),
        "root_path": st.none() | st.sampled_from(["", "/", "/api/v1/exports", "/mount"]) | ANY_TEXT,
        "query_string": QUERIES,
        "headers": st.none() | HEADERS | HEADERS.map(tuple),
        "extensions": st.none() | st.just({}),
        "client": st.none() | st.just(("192.0.2.1", 0)) | st.just(["::1", "80"]),
        "server": st.none(),
    }
)


async def answer(scope: Any, dataset: Any) -> Client:
    client = Client()
    app = Observe(RateLimit(ExportApp([dataset]), limit=10**6), metrics=Metrics())
    await app(scope, client.receive, client.send)
    assert client.violations == []
    return client


def without(scope: dict[str, Any], missing: set[str]) -> dict[str, Any]:
    return {name: value for name, value in scope.items() if name not in missing}


@settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(SCOPES, MISSING)
@example(http_scope("/\ud800", raw_path=b"/%ed%a0%80"), set())
@example(http_scope("/\udcff", raw_path=b"/\xff"), set())
@example(http_scope("/", root_path="\ud800"), set())
@example(http_scope(method="\ud800"), set())
@example(http_scope("/metrics", method="GET\n"), set())
@example(http_scope(query="filename=%0d%0aSet-Cookie:x"), set())
@example(http_scope(query="filename=%ed%a0%80"), set())
@example(http_scope(query="total=" + "9" * 4400), set())
def test_any_request_gets_one_answer_below_500(scope: dict[str, Any], missing: set[str]) -> None:
    client = asyncio.run(answer(without(scope, missing), SimulatedDataset()))
    assert 200 <= client.status < 500
    check(client, scope["method"])


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(SCOPES, MISSING)
@example(http_scope(), set())
def test_a_source_s_own_failure_is_a_500_and_nothing_else(scope: dict[str, Any], missing: set[str]) -> None:
    client = asyncio.run(answer(without(scope, missing), Recorded(fail_at=0)))
    assert 200 <= client.status <= 500
    check(client, scope["method"])


def check(client: Client, method: str) -> None:
    """What holds for every answer."""
    assert client.complete
    for name, value in client.sent[0]["headers"]:
        assert isinstance(name, bytes)
        assert isinstance(value, bytes)
        assert name == name.lower()
        assert not set(value) & {0, 10, 13}
    assert client.headers[b"x-request-id"]
    if client.headers.get(b"content-type") == b"application/problem+json" and method.upper() != "HEAD":
        problem = json.loads(client.body)
        assert {"type", "title", "status", "detail", "error"} <= problem.keys()
        assert problem["status"] == client.status


@given(st.binary(min_size=3, max_size=30))
def test_no_answer_repeats_a_key(key: bytes) -> None:
    """Not even one that is given twice, or badly encoded."""
    secret = b"sEcReT" + key.hex().encode()
    query = b"apiKey=" + secret + b"&apiKey=" + secret + b"&columns=%ff"
    scope = {"type": "http", "method": "GET", "path": "/api/v1/exports/csv", "query_string": query, "headers": []}
    client = asyncio.run(answer(scope, SimulatedDataset()))
    assert client.status == 400
    assert secret not in client.body
