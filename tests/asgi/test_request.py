"""What a request says, on servers and mounts that say it differently."""

from __future__ import annotations

from typing import Any

import pytest

from asgi_export.asgi.request import MAX_HEADER_BYTES, MAX_QUERY_BYTES, RequestBounds, parse_query, read_request
from asgi_export.errors import BadRequest, HeadersTooLarge, NotFound, QueryTooLong
from asgi_export.export.routes import CATALOGUE, find_route
from tests.doubles import http_scope

PREFIX = ("api", "v1", "exports")


def route(path: str, **scope: Any) -> str:
    try:
        return find_route(read_request(http_scope(path, **scope)), PREFIX)
    except NotFound:
        return "404"


@pytest.mark.parametrize(
    ("path", "found"),
    [
        ("/api/v1/exports/csv", "csv"),
        ("/api/v1/exports/csv/", "csv"),
        ("/api/v1/exports/tsv", "tsv"),
        ("/api/v1/exports/", CATALOGUE),
        ("/api/v1/exports", CATALOGUE),
        ("/", CATALOGUE),
        ("", CATALOGUE),
        ("/healthz", "healthz"),
        ("/readyz/", "readyz"),
        ("/api/v1/exports/healthz", "404"),
        ("/api/v1/exports/xlsx", "404"),
        ("/api/v1/exports/CSV", "404"),
        ("/api/v1/exports/csv/x", "404"),
        ("/api/v1/exports//csv", "404"),
        ("//api/v1/exports/csv", "404"),
        ("/api/v1/../v1/exports/csv", "404"),
        ("/api/v1/exportscsv", "404"),
        ("/csv", "404"),
        ("*", "404"),
        ("http://host:80/api/v1/exports/csv", "csv"),
        ("http://host", CATALOGUE),
        ("/http://host/api/v1/exports/csv", "404"),
    ],
)
def test_a_path_names_a_page(path: str, found: str) -> None:
    assert route(path) == found


@pytest.mark.parametrize(
    ("path", "root_path", "found"),
    [
        ("/api/v1/exports/csv", "/api/v1/exports", "csv"),  # Starlette's Mount: path holds root_path
        ("/csv", "/api/v1/exports", "csv"),  # a server that strips it
        ("/api/v1/exports", "/api/v1/exports", CATALOGUE),
        ("/", "/api/v1/exports", CATALOGUE),
        ("/data/csv", "/data", "csv"),
        ("/data/csv", "/data/", "csv"),
        ("/data/api/v1/exports/csv", "/data", "csv"),
        ("/api/v1/exports/csv", "/data", "csv"),  # a proxy that strips its prefix
        ("/datacsv", "/data", "404"),
        ("/data/healthz", "/data", "healthz"),
        ("/healthz", "/data", "healthz"),
        ("/data/xlsx", "/data", "404"),
    ],
)
def test_a_mount_is_honoured_at_a_boundary(path: str, root_path: str, found: str) -> None:
    assert route(path, root_path=root_path) == found


@pytest.mark.parametrize(
    ("path", "raw_path", "found"),
    [
        ("/api/v1/exports/csv", b"/api/v1/exports/csv", "csv"),
        ("/api/v1/exports/csv", b"/api/v1/exports/%63sv", "csv"),
        ("/api/v1/exports/csv", b"/api/v1/exports/csv?total=1", "csv"),
        ("/api/v1/exports/csv", b"/api/v1/exports%2Fcsv", "404"),
        ("/api/v1/exports/csv/", b"/api/v1/exports/csv%2F", "404"),
        ("/api/v1/exports/csv", b"/somewhere/else", "csv"),
        ("/api/v1/exports/csv", None, "csv"),
    ],
)
def test_an_encoded_slash_is_no_separator(path: str, raw_path: bytes | None, found: str) -> None:
    assert route(path, raw_path=raw_path) == found


@pytest.mark.parametrize("raw_path", [b"/caf%C3%A9/a", "/café/a".encode(), "/café/%61".encode()])
def test_a_raw_path_is_utf_8_however_much_of_it_is_encoded(raw_path: bytes) -> None:
    """Clients that encode nothing, or a half."""
    assert read_request(http_scope("/café/a", raw_path=raw_path)).full == ("café", "a")


def test_what_a_scope_may_lack_is_made_up() -> None:
    request = read_request({"type": "http", "method": "get", "path": "/", "query_string": b"", "headers": iter([])})  # type: ignore[typeddict-item]
    assert (request.method, request.client, request.mounted) == ("GET", "", False)
    request = read_request(http_scope(raw_path=None, root_path=None, client=None, headers=None, query_string=None))
    assert (request.query, request.client) == (b"", "")


def test_header_names_are_found_in_any_case_and_the_first_counts() -> None:
    request = read_request(http_scope(headers=[(b"X-API-Key", b" a "), (b"x-api-key", b"b")]))
    assert request.header(b"x-api-key") == "a"
    assert request.header(b"authorization") is None


def test_a_list_may_come_in_several_lines() -> None:
    """Only Accept-Encoding is read as one. RFC 9110 §5.3."""
    lines = [(b"Accept-Encoding", b"br"), (b"a", b"b"), (b"accept-encoding", b"gzip;q=0.5"), (b"a", b"c")]
    request = read_request(http_scope(headers=lines))
    assert request.header(b"accept-encoding") == "br, gzip;q=0.5"
    assert request.header(b"a") == "b"


@pytest.mark.parametrize(
    ("query", "pairs"),
    [
        (b"", ()),
        (b"a=1&b=2&a=3", (("a", "1"), ("b", "2"), ("a", "3"))),
        (b"a=b+c%2B%20d", (("a", "b c+ d"),)),
        (b"na%6De=%C3%A9", (("name", "é"),)),
        ("name=é".encode(), (("name", "é"),)),
        ("name=é+&%6E=é".encode(), (("name", "é "), ("n", "é"))),
        (b"a=b=c&&flag&=x", (("a", "b=c"), ("flag", ""), ("", "x"))),
        (b"a=%zz%", (("a", "%zz%"),)),
        (b"a=1;b=2", (("a", "1;b=2"),)),
    ],
)
def test_a_query_is_read_from_its_bytes(query: bytes, pairs: tuple[tuple[str, str], ...]) -> None:
    assert parse_query(query) == pairs


@pytest.mark.parametrize("query", [b"a=%ff", b"%c3=1", b"a=\xff", b"a=%ed%a0%80"])
def test_a_query_that_is_not_utf_8_is_a_bad_request(query: bytes) -> None:
    with pytest.raises(BadRequest, match="UTF-8"):
        parse_query(query)


def test_queries_and_headers_are_bounded() -> None:
    check = RequestBounds().check
    check(
        read_request(http_scope(query_string=b"a" * MAX_QUERY_BYTES, headers=[(b"a", b"x" * (MAX_HEADER_BYTES - 1))]))
    )
    with pytest.raises(QueryTooLong):
        check(read_request(http_scope(query_string=b"a" * (MAX_QUERY_BYTES + 1))))
    with pytest.raises(HeadersTooLarge):
        check(read_request(http_scope(headers=[(b"a", b"x" * MAX_HEADER_BYTES)])))
