"""Which coding a client gets: never one that it did not mean, and none where nothing is gained."""

from __future__ import annotations

import asyncio
import gzip

import pytest

from asgi_export import ExportApp, SimulatedDataset
from asgi_export.formats import FORMATS
from tests.doubles import Client

BROWSER = "gzip, deflate, br, zstd"


def asked(name: str, accept: str, method: str = "GET") -> Client:
    client = Client()
    headers = [(b"accept-encoding", accept.encode())]
    app = ExportApp([SimulatedDataset()])
    asyncio.run(client.ask(app, "total=100", path=f"/api/v1/exports/{name}", headers=headers, method=method))
    return client


@pytest.mark.parametrize("name", ["csv", "tsv", "ndjson"])
def test_whoever_takes_anything_gets_gzip(name: str) -> None:
    """`*` comes from programs that can do little: zstd is for those that name it."""
    answer = asked(name, "*")
    assert answer.headers[b"content-encoding"] == b"gzip"
    assert gzip.decompress(answer.body) == asked(name, "").body


@pytest.mark.parametrize("name", ["parquet", "arrow"])
@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_parquet_and_arrow_come_as_they_are_to_browsers(name: str, method: str) -> None:
    for accept in BROWSER, "*", "gzip", "zstd;q=1, identity;q=0.1":
        answer = asked(name, accept, method)
        assert b"content-encoding" not in answer.headers
        assert answer.headers[b"vary"] == b"Accept-Encoding"


@pytest.mark.parametrize("name", ["parquet", "arrow"])
def test_a_client_that_refuses_identity_gets_what_it_takes(name: str) -> None:
    answer = asked(name, "identity;q=0, gzip")
    assert answer.headers[b"content-encoding"] == b"gzip"
    assert gzip.decompress(answer.body)[:4] == asked(name, "").body[:4]


@pytest.mark.parametrize("name", FORMATS)
def test_a_client_that_takes_nothing_gets_it_as_it_is(name: str) -> None:
    """RFC 9110 §12.4.1."""
    answer = asked(name, "identity;q=0, *;q=0")
    assert (answer.status, b"content-encoding" in answer.headers) == (200, False)
