"""Errors as answers: RFC 9457, whatever the client sent and the error says."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from asgi_export import errors
from asgi_export.asgi.context import context_of
from asgi_export.asgi.problem import MAX_DETAIL_CHARACTERS, problem_body, send_problem
from asgi_export.errors import BadRequest, ExportError, TooManyRequests, Unavailable
from tests.doubles import Client, http_scope


def all_errors() -> list[type[ExportError]]:
    found = [value for value in vars(errors).values() if isinstance(value, type) and issubclass(value, ExportError)]
    return sorted(found, key=lambda error: error.__name__)


def answer(error: ExportError, **scope: Any) -> Client:
    client = Client()
    asyncio.run(send_problem(context_of(http_scope(**scope)), client.send, error))
    assert client.violations == []
    return client


@pytest.mark.parametrize("error", all_errors())
def test_every_error_knows_its_answer(error: type[ExportError]) -> None:
    client = answer(error("what came"), headers=[(b"x-request-id", b"abc")])
    problem = json.loads(client.body)
    assert client.status == problem["status"] == error.status >= 400
    assert client.headers[b"content-type"] == b"application/problem+json"
    assert client.headers[b"cache-control"] == b"no-store"
    assert client.headers[b"content-length"] == str(len(client.body)).encode()
    assert client.headers[b"x-request-id"] == b"abc"
    assert problem == {
        "type": error.type,
        "title": error.title,
        "status": error.status,
        "detail": "what came",
        "error": error.error,
        "request_id": "abc",
    }


def test_every_error_but_the_root_is_a_builtin_too() -> None:
    """Code that knows nothing of HTTP can catch it."""
    for error in all_errors():
        builtins = [base for base in error.__mro__ if base.__module__ == "builtins"]
        assert error is ExportError or len(builtins) > 4 or builtins[0] is not Exception, error


def test_an_error_s_own_heads_and_members_are_in_the_answer() -> None:
    client = answer(TooManyRequests("x", headers=((b"retry-after", b"7"),), members={"violated-policies": ["day"]}))
    assert client.headers[b"retry-after"] == b"7"
    assert json.loads(client.body)["violated-policies"] == ["day"]


def test_what_is_unavailable_says_when_to_come_again() -> None:
    assert answer(Unavailable("x")).headers[b"retry-after"] == b"1"
    assert answer(Unavailable("x", retry_after_seconds=5)).headers[b"retry-after"] == b"5"


@pytest.mark.parametrize("method", ["HEAD", "head"])
def test_a_head_request_gets_the_head_alone(method: str) -> None:
    whole, client = answer(BadRequest("x")), answer(BadRequest("x"), method=method)
    assert client.body == b""
    assert client.status == 400
    assert client.headers[b"content-length"] == whole.headers[b"content-length"]


def test_a_long_detail_is_cut() -> None:
    assert len(problem_body(BadRequest("x" * 10**6), "id")) < MAX_DETAIL_CHARACTERS + 300
    assert json.loads(problem_body(BadRequest("x" * MAX_DETAIL_CHARACTERS), "id"))["detail"][-1] == "x"


@given(st.text(st.characters(exclude_categories=()), max_size=50))
def test_any_text_gets_through_as_ascii_json(detail: str) -> None:
    body = problem_body(BadRequest(detail), "id")
    assert body.isascii()
    assert body.count(b"\n") == 1
    assert json.loads(body)["detail"] == detail


def test_a_client_that_has_left_already_is_no_error() -> None:
    async def broken(message: Any) -> None:
        raise BrokenPipeError

    asyncio.run(send_problem(context_of(http_scope()), broken, BadRequest("x")))
