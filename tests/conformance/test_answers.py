"""Every line of the error table, and the heads, over real sockets."""

from __future__ import annotations

import gzip
import json

import pytest

from tests.conformance.servers import Server, curl, get, raw

CSV = "/api/v1/exports/csv"

ERRORS = {
    400: "bad_request",
    404: "not_found",
    405: "method_not_allowed",
    414: "uri_too_long",
    431: "request_header_fields_too_large",
}


def test_a_200_has_the_head_that_is_promised(service: Server) -> None:
    answer = get(service, f"{CSV}?dataset=shop")
    assert answer.status == 200
    assert answer.headers["content-type"] == "text/csv; charset=utf-8"
    assert answer.headers["content-disposition"] == 'attachment; filename="export.csv"'
    assert answer.headers["cache-control"] == "no-store"
    assert answer.headers["vary"] == "Accept-Encoding"
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["x-accel-buffering"] == "no"
    assert answer.headers["x-request-id"]
    assert answer.headers["ratelimit-policy"] == '"default";q=100000;w=1'
    assert answer.headers["ratelimit"].startswith('"default";r=')
    assert "content-encoding" not in answer.headers
    assert answer.body.decode() == 'id,name,price\n1,"a,b",1.5\n2,,2\n3,"say ""é""",\n'


@pytest.mark.parametrize(
    ("query", "body"),
    [
        ("columns=name,id&header=false&total=1", '"a,b",1\n'),
        ("columns=%20id%20,%20price&total=1", "id,price\n1,1.5\n"),
        ("columns=id&null=-&delimiter=tab", "id\n1\n2\n3\n"),
        ("columns=price&null=NULL", "price\n1.5\n2\nNULL\n"),
        ("columns=id,price&delimiter=%3B&newline=crlf&total=1", "id;price\r\n1;1.5\r\n"),
        ("columns=id,price&quote=all&total=2", '"id","price"\n"1","1.5"\n"2","2"\n'),
        ("columns=id&bom=true&total=1", "\ufeffid\n1\n"),
        ("total=0", "id,name,price\n"),
        ("total=0&header=false", ""),
    ],
)
def test_the_dialect_is_the_one_that_is_asked_for(service: Server, query: str, body: str) -> None:
    assert get(service, f"{CSV}?dataset=shop&{query}").body.decode() == body


@pytest.mark.parametrize(
    ("target", "status", "detail"),
    [
        (f"{CSV}?tatal=1", 400, "tatal: unknown parameter; expected one of columns, sort, apiKey, total"),
        (f"{CSV}?total=-1", 400, "total=-1: expected a whole number from 0"),
        (f"{CSV}?total=1&total=2", 400, "total=2: given twice"),
        (f"{CSV}?dataset=shop&columns=id,nope", 400, "columns=nope: unknown column; there are id, name, price"),
        (f"{CSV}?dataset=shop&columns=id,id", 400, "columns=id: given twice; there are id, name, price"),
        (f"{CSV}?header=ja", 400, "header=ja: expected true or false"),
        (f"{CSV}?null=%ff", 400, "not UTF-8"),
        ("/api/v1/exports/tsv?delimiter=%3B", 400, "expected tab"),
        (f"{CSV}?dataset=nope", 404, "dataset=nope: no such dataset; there are shop, forever, simulated"),
        ("/api/v1/exports/xlsx", 404, "no such path"),
        ("/nowhere", 404, "no such path"),
        ("//api/v1/exports/csv", 404, "no such path"),
        (f"{CSV}?null={'x' * 8200}", 414, "8192"),
    ],
)
def test_a_bad_request_is_a_problem_that_says_what_was_expected(
    service: Server, target: str, status: int, detail: str
) -> None:
    answer = get(service, target)
    problem = json.loads(answer.body)
    assert answer.status == problem["status"] == status
    assert answer.headers["content-type"] == "application/problem+json"
    assert {"type", "title", "status", "detail", "error"} <= problem.keys()
    assert problem["error"] == ERRORS[status]
    assert detail in problem["detail"]
    assert problem["request_id"] == answer.headers["x-request-id"]


def test_large_header_fields_are_431(nasty: Server) -> None:
    """Where the server itself lets them through: h11 and Hypercorn have bounds of their own below ours."""
    answer = get(nasty, CSV, headers="".join(f"X-{number}: {'y' * 1000}\r\n" for number in range(40)))
    assert answer.status in (431, 400)
    if answer.status == 431:
        assert json.loads(answer.body)["error"] == ERRORS[431]


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "PROPFIND"])
def test_other_methods_are_405_with_allow(service: Server, method: str) -> None:
    answer = get(service, CSV, method=method, headers="Content-Length: 0\r\n")
    assert answer.status == 405
    assert answer.headers["allow"] == "GET, HEAD, OPTIONS"


def test_options_tell_what_is_allowed(service: Server) -> None:
    answer = get(service, CSV, method="OPTIONS")
    assert (answer.status, answer.headers["allow"], answer.body) == (204, "GET, HEAD, OPTIONS", b"")


def test_head_is_the_same_head_without_a_body_and_the_connection_goes_on(service: Server) -> None:
    request = f"%s {CSV}?dataset=shop HTTP/1.1\r\nHost: x\r\n%s\r\n"
    data = raw(service, ((request % ("HEAD", "")) + (request % ("GET", "Connection: close\r\n"))).encode())
    first, second = data.split(b"HTTP/1.1 200")[1:]
    assert first.split(b"\r\n\r\n")[1] == b""
    for line in (b"content-type: text/csv", b"content-disposition", b"x-accel-buffering"):
        assert line in first
        assert line in second
    assert b"say" in second


def test_a_client_of_http_1_0_is_served(service: Server) -> None:
    answer = get(service, f"{CSV}?dataset=shop&columns=id", version="1.0")
    assert (answer.status, answer.body) == (200, b"id\n1\n2\n3\n")


def test_two_requests_on_one_connection(service: Server) -> None:
    one = f"GET {CSV}?dataset=shop&columns=id HTTP/1.1\r\nHost: x\r\n%s\r\n"
    data = raw(service, ((one % "") + (one % "Connection: close\r\n")).encode())
    assert data.count(b"HTTP/1.1 200") == 2


@pytest.mark.parametrize("target", ["/api/v1/exports/", "/api/v1/exports"])
def test_the_catalogue_lists_everything(service: Server, target: str) -> None:
    listed = json.loads(get(service, target).body)
    assert [found["name"] for found in listed["datasets"]] == ["shop", "forever", "simulated"]
    assert listed["datasets"][0]["columns"][2] == {
        "name": "price",
        "type": "NUMERIC",
        "kind": "number",
        "operators": ["exact", "not", "gt", "gte", "lt", "lte", "in", "notin", "isnull"],
        "sortable": True,
    }
    assert {found["name"] for found in listed["formats"]} >= {"csv", "tsv"}
    assert listed["limits"] == [{"name": "default", "limit": 100000, "window_seconds": 1}]


def test_probes_answer(service: Server) -> None:
    assert get(service, "/healthz").status == 200
    assert get(service, "/readyz").status == 200
    assert "ratelimit" not in get(service, "/healthz").headers


def test_gzip_is_sent_where_it_is_asked_for(service: Server) -> None:
    answer = get(service, f"{CSV}?dataset=simulated&total=5000", headers="Accept-Encoding: br, gzip;q=0.5\r\n")
    assert answer.headers["content-encoding"] == "gzip"
    assert gzip.decompress(answer.body).count(b"\n") == 5001
    assert curl(f"{service.url}{CSV}?dataset=shop", "--compressed").stdout.startswith(b"id,name")


def test_the_request_id_is_the_client_s_where_it_is_sane(service: Server) -> None:
    assert get(service, "/healthz", headers="X-Request-Id: abc-1\r\n").headers["x-request-id"] == "abc-1"
    assert get(service, "/healthz", headers="X-Request-Id: a b\r\n").headers["x-request-id"] != "a b"
