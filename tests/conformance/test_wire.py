"""Requests as they really come: in single bytes, encoded in every way, too long, or not HTTP at all."""

from __future__ import annotations

import json
import socket

import pytest

from tests.conformance.servers import Server, connect, get, raw

CSV = "/api/v1/exports/csv"
ONE_ROW = f"{CSV}?dataset=shop&columns=id&total=1"


@pytest.mark.parametrize(
    ("target", "body"),
    [
        ("/api/v1/exports/%63sv?dataset=%73hop&columns=id&%74otal=1", "id\n1\n"),
        (f"{CSV}/?dataset=shop&columns=id&total=1", "id\n1\n"),
        (f"http://example.org{ONE_ROW}", "id\n1\n"),
        (f"{CSV}?dataset=shop&columns=id%2C+name+&total=1", 'id,name\n1,"a,b"\n'),
        (f"{CSV}?dataset=shop&columns=name&null=a+b%2Bc", 'name\n"a,b"\na b+c\n"say ""é"""\n'),
        (
            f"{CSV}?dataset=shop&columns=name,id&null=%E6%9D%B1&delimiter=%C3%A9",
            'name\xe9id\na,b\xe91\n東\xe92\n"say ""\xe9"""\xe93\n',
        ),
        (f"{CSV}?&dataset=shop&&columns=id&total=1&", "id\n1\n"),
        (f"{CSV}?dataset=shop&columns=&total=1&columns", None),
        (f"{CSV}?dataset=shop&total=1&apiKey=", 'id,name,price\n1,"a,b",1.5\n'),
    ],
)
def test_a_target_is_read_as_urls_are(nasty: Server, target: str, body: str | None) -> None:
    answer = get(nasty, target)
    assert answer.status == (400 if body is None else 200), answer.body
    assert body is None or answer.body.decode() == body


@pytest.mark.parametrize("path", ["/api/v1/exports%2Fcsv", "/api/v1/exports/csv%3Ftotal=1", "/api/v1/exports/csv//"])
def test_what_only_looks_like_a_path_is_404(nasty: Server, path: str) -> None:
    assert get(nasty, path).status == 404


@pytest.mark.parametrize("query", ["null=%ff", "null=%ed%a0%80", "%c3=1", "dataset=shop&filename=%fe"])
def test_a_query_that_is_not_utf_8_is_400(nasty: Server, query: str) -> None:
    problem = json.loads(get(nasty, f"{CSV}?{query}").body)
    assert (problem["status"], problem["error"]) == (400, "bad_request")
    assert "not UTF-8" in problem["detail"]


@pytest.mark.parametrize(
    ("given", "value"),
    [
        ("a%20b.csv", 'attachment; filename="a b.csv"'),
        ("gr%C3%B6%C3%9Fe.csv", "attachment; filename=\"gr__e.csv\"; filename*=UTF-8''gr%C3%B6%C3%9Fe.csv"),
        (
            "%0d%0aX-Evil:%201%22%5C",
            "attachment; filename=\"__X-Evil_ 1__\"; filename*=UTF-8''__X-Evil_%201%22_",
        ),
        ("../../etc/passwd", 'attachment; filename="_._.._etc_passwd"'),
    ],
)
def test_a_file_name_cannot_break_out_of_its_header(nasty: Server, given: str, value: str) -> None:
    answer = get(nasty, f"{ONE_ROW}&filename={given}")
    assert answer.status == 200
    assert answer.headers["content-disposition"] == value
    assert "x-evil" not in answer.headers


@pytest.mark.parametrize("length", [8192, 8193, 20_000])
def test_a_query_past_the_bound_is_414(nasty: Server, length: int) -> None:
    query = "dataset=shop&columns=id&total=1&null="
    answer = get(nasty, f"{CSV}?{query}{'x' * (length - len(query))}")
    assert answer.status == (200 if length == 8192 else 414)
    if answer.status == 414:
        assert json.loads(answer.body)["error"] == "uri_too_long"
        assert len(answer.body) < 1000


def test_a_query_past_every_bound_harms_nobody(nasty: Server) -> None:
    """Servers have bounds of their own, and answers of their own, of 4xx."""
    with connect(nasty) as client:
        try:
            client.sendall(f"GET {CSV}?null={'x' * 300_000} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
            assert client.recv(12).startswith(b"HTTP/1.1 4")
        except (BrokenPipeError, ConnectionResetError):
            pass  # closed before all of it was sent
    assert get(nasty, ONE_ROW).status == 200


def dribbled(server: Server, request: bytes, step: int) -> bytes:
    """What comes back for a request that is sent in pieces of `step` bytes, each a segment of its own."""
    with connect(server) as client:
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for start in range(0, len(request), step):
            client.sendall(request[start : start + step])
        parts: list[bytes] = []
        while part := client.recv(65536):
            parts.append(part)
        return b"".join(parts)


def test_a_request_in_single_bytes_is_the_same_request(nasty: Server) -> None:
    request = f"GET {ONE_ROW} HTTP/1.1\r\nHost: x\r\nX-Request-Id: dribbled\r\nConnection: close\r\n\r\n".encode()
    data = dribbled(nasty, request, 1)
    assert data.startswith(b"HTTP/1.1 200")
    assert b"id\n1\n" in data


@pytest.mark.parametrize(("kilobytes", "status"), [(30, 200), (33, 431)])
def test_header_fields_up_to_the_bound_pass_however_they_come(service: Server, kilobytes: int, status: int) -> None:
    """The server that the command line starts lets them through, so the answer past the bound is ours."""
    fields = "".join(f"X-{number}: {'y' * 1015}\r\n" for number in range(kilobytes))
    request = f"GET {ONE_ROW} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n{fields}\r\n".encode()
    data = dribbled(service, request, 1000)
    head, _, body = data.partition(b"\r\n\r\n")
    assert int(head.split()[1]) == status
    if status == 431:
        assert json.loads(body)["error"] == "request_header_fields_too_large"


@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_a_client_of_http_1_0_gets_no_chunks(service: Server, method: str) -> None:
    """RFC 9112 §6.1: no Transfer-Encoding for a client that has not said 1.1."""
    data = raw(service, f"{method} {ONE_ROW} HTTP/1.0\r\n\r\n".encode())
    head, _, body = data.partition(b"\r\n\r\n")
    assert b"200" in head.splitlines()[0]
    assert b"transfer-encoding" not in head.lower()
    assert body == (b"id\n1\n" if method == "GET" else b"")


@pytest.mark.parametrize(("method", "status"), [("GET", 200), ("POST", 405)])
def test_the_body_of_a_request_is_dropped_and_the_connection_goes_on(nasty: Server, method: str, status: int) -> None:
    body = b"x" * 300_000
    first = f"{method} {ONE_ROW} HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body
    with connect(nasty) as client:
        client.sendall(first)
        answer = client.recv(65536)
        assert answer.startswith(f"HTTP/1.1 {status}".encode())
    assert get(nasty, ONE_ROW).status == 200


@pytest.mark.parametrize(
    "request_bytes",
    [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n",
        b"GET\r\n\r\n",
        b"GET /healthz HTTP/9.9\r\nHost: x\r\n\r\n",
        b"GET " + CSV.encode() + b"?null=\xc3\xa9 HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET /\xff HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET /healthz HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"GET /healthz HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n",
        b"OPTIONS * HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
        b"CONNECT x:80 HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
    ],
)
def test_what_is_no_request_for_us_is_no_failure_of_ours(nasty: Server, request_bytes: bytes) -> None:
    before = len(nasty.log())
    with connect(nasty) as client:
        client.sendall(request_bytes)
        answer = client.recv(12)
    assert answer == b"" or 200 <= int(answer.split()[1]) < 500
    assert get(nasty, ONE_ROW).status == 200
    assert "Traceback" not in nasty.log()[before:]


def test_header_fields_that_are_not_text_are_read_all_the_same(nasty: Server) -> None:
    headers = (
        "X-API-Key: \xff\xe9\r\nAuthorization: Bearer \xe9\r\nAccept-Encoding: ;;q=,\xff\r\nX-Request-Id: \xe9\r\n"
    )
    answer = get(nasty, ONE_ROW, headers=headers)
    assert (answer.status, answer.body) == (200, b"id\n1\n")
    assert "content-encoding" not in answer.headers
