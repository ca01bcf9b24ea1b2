"""The context of one request: its id, and that everything that asks gets the same one."""

from __future__ import annotations

import asyncio
import re
from typing import Any

import pytest

from asgi_export.asgi.context import context_of
from asgi_export.asgi.request import read_request
from asgi_export.service import make_service
from asgi_export.settings import Settings
from tests.doubles import Client, http_scope

OURS = re.compile("[0-9a-f]{16}")


@pytest.mark.parametrize("value", ["a", "abc-1", "A/b+c=d@e:f.g_h", "0" * 128])
@pytest.mark.parametrize("name", [b"x-request-id", b"X-Request-Id", b"X-REQUEST-ID"])
def test_a_sane_id_of_the_client_is_kept(name: bytes, value: str) -> None:
    assert context_of(http_scope(headers=[(b"a", b"b"), (name, value.encode())])).request_id == value


@pytest.mark.parametrize(
    "value",
    [b"", b" ", b"a b", b"a\r\nb", b"a\n", b"\0", b"\xff", "é".encode(), b"a;b", b'a"b', b"%0a", b"0" * 129],
)
def test_an_id_that_could_break_a_head_or_a_log_is_replaced(value: bytes) -> None:
    assert OURS.fullmatch(context_of(http_scope(headers=[(b"x-request-id", value)])).request_id)


def test_the_first_sane_id_counts() -> None:
    scope = http_scope(headers=[(b"x-request-id", b"a b"), (b"x-request-id", b"second"), (b"x-request-id", b"third")])
    assert context_of(scope).request_id == "second"


@pytest.mark.parametrize("headers", [None, [], ()])
def test_without_one_it_is_made_up_and_never_the_same(headers: Any) -> None:
    ids = {context_of(http_scope(headers=headers)).request_id for _ in range(100)}
    assert len(ids) == 100
    assert all(OURS.fullmatch(found) for found in ids)


def test_everybody_gets_the_record_of_this_request_and_of_no_other() -> None:
    one, other = http_scope(extensions={}), http_scope(extensions={})
    assert context_of(one) is context_of(one)
    assert context_of(one) is not context_of(other)


def test_a_framework_that_copies_the_scope_keeps_the_record() -> None:
    """Starlette's Mount hands on a copy."""
    outer = http_scope()
    found = context_of(outer)
    inner: Any = {**outer, "root_path": "/x"}
    assert context_of(inner) is found


def test_a_foreign_entry_of_that_name_is_no_record() -> None:
    assert context_of(http_scope(asgi_export="somebody else's")).request_id


def test_a_request_is_read_once_whatever_is_around_the_application(monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[Any] = []

    def counting(scope: Any) -> Any:
        read.append(scope["path"])
        return read_request(scope)

    async def scenario() -> None:
        app = make_service(Settings(sources=("simulated",)))
        for path in ("/api/v1/exports/csv", "/api/v1/exports/", "/metrics", "/healthz", "/nowhere"):
            client = Client()
            await client.ask(app, "total=1" if path.endswith("csv") else "", path=path)

    monkeypatch.setattr("asgi_export.asgi.context.read_request", counting)
    asyncio.run(scenario())
    assert read == ["/api/v1/exports/csv", "/api/v1/exports/", "/metrics", "/healthz", "/nowhere"]


def test_a_mount_inside_is_seen_by_the_paths_of_its_own_scope() -> None:
    outer = http_scope("/reports/csv")
    found = context_of(outer)
    assert found.request.below == ("reports", "csv")
    inner: Any = {**outer, "root_path": "/reports"}
    assert context_of(inner).request.below == ("csv",)
    assert found.request.request_id == context_of(inner).request_id
