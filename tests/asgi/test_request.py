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
        found = find_route(read_request(http_scope(path, **scope)), PREFIX)
    except NotFound:
        return "404"
    return f"{found.dataset} as {found.page}" if found.dataset else found.page


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


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("orders.csv", "orders as csv"),
        ("orders.csv/", "orders as csv"),
        ("orders.2024.q1.parquet", "orders.2024.q1 as parquet"),
        ("csv.csv", "csv as csv"),  # a dataset that is named like a format
        ("orders.csv.ndjson", "orders.csv as ndjson"),
        ("openapi.json.csv", "openapi.json as csv"),
        ("healthz.csv", "healthz as csv"),
        ("..csv", ". as csv"),
        ("my orders.csv", "my orders as csv"),
        ("größe.tsv", "größe as tsv"),
        (".csv", "404"),
        ("orders.", "404"),
        ("orders.CSV", "404"),
        ("orders.xlsx", "404"),
        ("orders.csv.gz", "404"),
        ("a/b.csv", "404"),
    ],
)
def test_a_path_names_a_dataset_and_a_format(name: str, found: str) -> None:
    """The last dot parts them."""
    assert route(f"/api/v1/exports/{name}") == found
    assert route(f"/data/{name}", root_path="/data") == found


def test_a_dataset_in_the_path_is_percent_encoded() -> None:
    path, raw_path = "/api/v1/exports/a/b ö+?.csv", b"/api/v1/exports/a%2Fb%20%C3%B6+%3F.csv"
    assert route(path, raw_path=raw_path) == "a/b ö+? as csv"


@pytest.mark.parametrize(
    ("path", "raw_path", "root_path", "found", "root"),
    [
        ("/csv/", b"/data/csv", "", "csv", ("data",)),  # Litestar: cut off, and normalised
        ("/csv", b"/api/v1/exports/csv", "", "csv", ("api", "v1", "exports")),
        ("/", b"/data/", "", CATALOGUE, ("data",)),
        ("/", b"/data", "", CATALOGUE, ("data",)),
        ("/healthz/", b"/data/healthz", "", "healthz", ("data",)),
        ("/a/b.csv/", b"/da%20ta/a%2Fb.csv", "", "a/b as csv", ("da ta",)),
        ("/csv/", b"/proxy/data/csv", "/proxy", "csv", ("proxy", "data")),  # below uvicorn's root path
        ("/csv/", b"/data/csv", "/proxy", "csv", ("proxy", "data")),  # below Hypercorn's
        ("/csv", b"/data/csv", "/data", "csv", ("data",)),  # Starlette before 0.33
        ("/csv", b"/data/csv", "/proxy/data", "csv", ("proxy", "data")),
        ("/csv/", b"/data/csv%2F", "", "404", ("data",)),
        ("base/", b"/database", "", "404", ()),
        ("/csv", b"/data/tsv", "", "404", ()),
        ("/csv", b"csv/csv/csv"[3:], "", "csv", ("csv",)),
    ],
)
def test_a_mount_that_was_cut_off_the_path_is_found_in_the_raw_path(
    path: str, raw_path: bytes, root_path: str, found: str, root: tuple[str, ...]
) -> None:
    scope: dict[str, Any] = {"raw_path": raw_path, "root_path": root_path}
    assert route(path, **scope) == found
    assert read_request(http_scope(path, **scope)).root == root


def test_a_path_of_many_slashes_is_read_in_one_pass() -> None:
    """Squares of its length would be minutes."""
    slashes = "/" * 300_000
    assert route(slashes + "x", raw_path=(slashes + "%78").encode()) == "404"
    assert route(slashes, raw_path=(slashes + "%2F").encode()) == "404"


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
