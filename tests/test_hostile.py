"""Whatever comes in, one answer below 500 goes out, and never an exception."""

from __future__ import annotations

import asyncio
import json
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from asgi_export import ExportApp, Observe, RateLimit, SimulatedDataset
from asgi_export.middleware.metrics import Metrics
from asgi_export.parameters import PARAMETERS
from tests.doubles import Client

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
HEADERS = st.lists(st.tuples(HEADER_NAMES, st.binary(max_size=40) | st.just(b"Bearer x")), max_size=5)
MISSING = st.sets(st.sampled_from(["raw_path", "root_path", "client", "server", "headers"]))
SCOPES = st.fixed_dictionaries(
    {
        "type": st.just("http"),
        "asgi": st.just({"version": "3.0"}),
        "http_version": st.sampled_from(["1", "1.0", "1.1", "2", "3"]),
        "method": st.sampled_from(["GET", "get", "HEAD", "OPTIONS", "POST", "DELETE", "", "é"]) | st.text(max_size=8),
        "path": PATHS,
        "raw_path": st.none() | st.binary(max_size=30) | PATHS.map(lambda path: path.encode("utf-8", "replace")),
        "root_path": st.none() | st.sampled_from(["", "/", "/api/v1/exports", "/mount"]) | st.text(max_size=8),
        "query_string": QUERIES,
        "headers": HEADERS,
        "client": st.none() | st.just(("192.0.2.1", 0)) | st.just(["::1", "80"]),
        "server": st.none(),
    }
)


async def answer(scope: Any) -> Client:
    client = Client()
    app = Observe(RateLimit(ExportApp([SimulatedDataset()]), limit=10**6), metrics=Metrics())
    await app(scope, client.receive, client.send)
    return client


@settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(SCOPES, MISSING)
def test_any_request_gets_one_answer_below_500(scope: dict[str, Any], missing: set[str]) -> None:
    client = asyncio.run(answer({name: value for name, value in scope.items() if name not in missing}))
    starts = [message for message in client.sent if message["type"] == "http.response.start"]
    assert len(starts) == 1
    assert 200 <= client.status < 500
    assert client.complete
    for name, value in client.sent[0]["headers"]:
        assert isinstance(name, bytes)
        assert isinstance(value, bytes)
        assert name == name.lower()
        assert not set(value) & {0, 10, 13}
    assert client.headers[b"x-request-id"]
    if client.headers.get(b"content-type") == b"application/problem+json" and scope["method"].upper() != "HEAD":
        problem = json.loads(client.body)
        assert {"type", "title", "status", "detail", "error"} <= problem.keys()
        assert problem["status"] == client.status


@given(st.binary(min_size=3, max_size=30))
def test_no_answer_repeats_a_key(key: bytes) -> None:
    """Not even one that is given twice, or badly encoded."""
    secret = b"sEcReT" + key.hex().encode()
    query = b"apiKey=" + secret + b"&apiKey=" + secret + b"&columns=%ff"
    scope = {"type": "http", "method": "GET", "path": "/api/v1/exports/csv", "query_string": query, "headers": []}
    client = asyncio.run(answer(scope))
    assert client.status == 400
    assert secret not in client.body
