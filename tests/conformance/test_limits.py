"""What is refused for who asks, how often and how much at once: over real sockets, through the command line."""

from __future__ import annotations

import json
import re
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from asgi_export.access.plans import digest_of
from tests.conformance.servers import Answer, Server, ask, eventually, get, readable, running

CSV = "/api/v1/exports/csv"
ENDLESS = f"{CSV}?total=100000000000"
SERVERS = pytest.mark.parametrize("server_name", ["uvicorn", "hypercorn"])

KEYS = f"""
[plans.basic]
limits = ["1000/1h"]
exports_at_once = 1
max_rows = 100
datasets = ["simulated", "shop"]
columns = {{ shop = ["id"] }}

[keys.alice]
sha256 = "{digest_of("alice-s3cret").hex()}"
plan = "basic"

[keys.late]
sha256 = "{digest_of("late-s3cret").hex()}"
plan = "basic"
expires = 2020-01-01
"""


def problem_of(answer: Answer) -> dict[str, Any]:
    assert answer.headers["content-type"] == "application/problem+json"
    problem: dict[str, Any] = json.loads(answer.body)
    assert problem["status"] == answer.status
    assert problem.keys() >= {"type", "title", "status", "detail", "error"}
    return problem


def figures(answer: Answer) -> tuple[int, int]:
    """`r` and `t` of the RateLimit head."""
    match = re.fullmatch(r'"default";r=(\d+);t=(\d+)', answer.headers["ratelimit"])
    assert match, answer.headers
    return int(match[1]), int(match[2])


@SERVERS
def test_over_the_limit_is_429_with_when_to_come_again(tmp_path: Path, server_name: str) -> None:
    """Whoever waits as long as `Retry-After` says is admitted."""
    command = ["asgi_export", "serve", "--port", "0", "--server", server_name, "--limit", "3/2s"]
    with running(command, tmp_path / "output") as server:
        one = f"{CSV}?total=1&apiKey=one"
        begun = time.monotonic()
        admitted = [get(server, one) for _ in range(3)]
        assert [(answer.status, figures(answer)[0]) for answer in admitted] == [(200, 2), (200, 1), (200, 0)]
        assert {answer.headers["ratelimit-policy"] for answer in admitted} == {'"default";q=3;w=2'}
        refused = get(server, one)
        assert time.monotonic() - begun < 2, "too slow to tell anything"
        assert refused.status == 429
        assert figures(refused)[0] == 0
        assert refused.headers["ratelimit-policy"] == '"default";q=3;w=2'
        assert refused.headers["retry-after"] in ("1", "2")
        problem = problem_of(refused)
        assert problem["error"] == "Too many requests - rate limit exceeded"
        assert problem["type"].endswith("#quota-exceeded")
        free_at = time.monotonic() + int(refused.headers["retry-after"])
        assert get(server, f"{CSV}?total=1&apiKey=other").status == 200
        assert eventually(lambda: time.monotonic() >= free_at)
        assert get(server, one).status == 200


@pytest.fixture(scope="module")
def limited(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Five requests an hour for each key."""
    output = tmp_path_factory.mktemp("limited") / "output"
    with running(["asgi_export", "serve", "--port", "0", "--limit", "5/1h"], output) as server:
        yield server


def test_the_key_is_the_parameter_else_the_header_else_the_bearer_else_anonymous(limited: Server) -> None:
    header, bearer = "X-API-Key: of-header\r\n", "Authorization: Bearer of-bearer\r\n"

    def left(query: str = "", headers: str = "") -> int:
        return figures(get(limited, f"{CSV}?total=1{query}", headers=headers))[0]

    assert left("&apiKey=of-query", header + bearer) == 4
    assert left("&apiKey=of-query") == 3
    assert left("", header + bearer) == 4
    assert left("", header) == 3
    assert left("", bearer) == 4
    assert left("&apiKey=of-bearer") == 3
    assert left() == 4
    assert left("&apiKey=") == 3
    assert left("&apiKey=anonymous") == 2


def test_every_request_below_the_prefix_counts_one_and_probes_none(limited: Server) -> None:
    key = "X-API-Key: counted\r\n"
    for path in ("/healthz", "/readyz", "/metrics"):
        assert "ratelimit" not in get(limited, path, headers=key).headers
    requests = [
        ("GET", "/api/v1/exports/", 200),
        ("HEAD", f"{CSV}?total=1", 200),
        ("GET", f"{CSV}?total=x", 400),
        ("GET", "/api/v1/exports/xlsx", 404),
        ("POST", CSV, 405),
        ("GET", f"{CSV}?total=1", 429),
        ("GET", f"{CSV}?total=1", 429),
    ]
    for count, (method, target, status) in enumerate(requests, start=1):
        answer = get(limited, target, method=method, headers=key + "Content-Length: 0\r\n")
        assert (answer.status, figures(answer)[0]) == (status, max(0, 5 - count)), (method, target)


@SERVERS
def test_too_many_exports_at_once_in_the_process_are_503(tmp_path: Path, server_name: str) -> None:
    """The place is free again when the client of the running one has left; all else is served meanwhile."""
    command = ["asgi_export", "serve", "--port", "0", "--server", server_name]
    with running(command, tmp_path / "output", environ={"ASGI_EXPORT_MAX_EXPORTS": "1"}) as server:
        with ask(server, ENDLESS) as client:
            assert readable(client)
            refused = get(server, f"{CSV}?total=1")
            assert refused.status == 503
            assert int(refused.headers["retry-after"]) >= 1
            assert problem_of(refused)["error"] == "unavailable"
            assert "ratelimit" in refused.headers
            assert get(server, "/api/v1/exports/").status == 200
            assert get(server, "/readyz").status == 200
        assert eventually(lambda: get(server, f"{CSV}?total=1").status == 200, 2.0)


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A service with keys, made-up rows, and two tables of which a key may read one column."""
    folder = tmp_path_factory.mktemp("guarded")
    with closing(sqlite3.connect(folder / "my.db")) as connection:
        connection.executescript(
            "CREATE TABLE shop (id INTEGER, secret TEXT); INSERT INTO shop VALUES (1, 'x');"
            "CREATE TABLE wages (name TEXT);"
        )
    (folder / "keys.toml").write_text(KEYS)
    sources = ["simulated", str(folder / "my.db")]
    command = ["asgi_export", "serve", *sources, "--port", "0", "--api-keys", str(folder / "keys.toml")]
    with running(command, folder / "output") as server:
        yield server


ALICE = "X-API-Key: alice-s3cret\r\n"


@pytest.mark.parametrize("headers", ["", "X-API-Key: wrong-s3cret\r\n", "Authorization: Bearer late-s3cret\r\n"])
def test_a_missing_unknown_or_expired_key_is_401(guarded: Server, headers: str) -> None:
    answer = get(guarded, f"{CSV}?total=1", headers=headers)
    assert answer.status == 401
    assert problem_of(answer)["error"] == "unauthorized"
    assert answer.headers["www-authenticate"].startswith("Bearer")
    assert "ratelimit" in answer.headers
    assert b"s3cret" not in answer.body
    assert get(guarded, "/api/v1/exports/", headers=headers).status == 401
    assert get(guarded, "/healthz").status == get(guarded, "/readyz").status == 200


@pytest.mark.parametrize(
    ("query", "status"),
    [
        ("dataset=wages", 403),
        ("dataset=shop&columns=secret", 403),
        ("dataset=shop&columns=id,secret", 403),
        ("dataset=simulated&total=101", 403),
        ("dataset=shop&columns=nope", 400),
        ("dataset=nope", 404),
        ("dataset=shop&columns=id", 200),
        ("dataset=shop", 200),
    ],
)
def test_what_a_key_may_not_read_is_403(guarded: Server, query: str, status: int) -> None:
    answer = get(guarded, f"{CSV}?{query}", headers=ALICE)
    assert answer.status == status
    if status == 200:
        assert answer.body == b"id\n1\n"
    else:
        error = {403: "forbidden", 400: "bad_request", 404: "not_found"}[status]
        assert problem_of(answer)["error"] == error


def test_the_catalogue_shows_what_the_key_may_read(guarded: Server) -> None:
    listed = json.loads(get(guarded, "/api/v1/exports/", headers=ALICE).body)
    found = {dataset["name"]: [column["name"] for column in dataset["columns"]] for dataset in listed["datasets"]}
    assert found["shop"] == ["id"]
    assert "wages" not in found
    assert listed["limits"] == [{"name": "default", "limit": 1000, "window_seconds": 3600}]


def test_no_key_is_in_the_log_of_a_guarded_service(guarded: Server) -> None:
    for headers in (ALICE, "Authorization: Bearer alice-s3cret\r\n", "X-API-Key: wrong-s3cret\r\n"):
        get(guarded, f"{CSV}?total=1&apikey=typo-s3cret", headers=headers + "X-Request-Id: keys-1\r\n")
    get(guarded, f"{CSV}?total=1&apiKey=alice-s3cret", headers="Referer: http://x/?apiKey=alice-s3cret\r\n")
    assert guarded.logged("request_id=keys-1")
    assert guarded.logged("owner=alice")
    assert "s3cret" not in guarded.log()
