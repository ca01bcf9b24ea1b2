"""Small answers: one start, one body, and the right length."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from asgi_export.asgi.message import body, head, send_head, send_whole
from tests.doubles import Client


def whole(status: int = 200, data: bytes = b"data", method: str = "GET") -> Client:
    client = Client()
    asyncio.run(send_whole(client.send, status, [(b"a", b"b")], data, method=method))
    assert client.violations == []
    return client


def test_the_messages_are_those_of_the_norm() -> None:
    """ASGI HTTP 2.5, Response Start and Response Body."""
    assert head(200, iter([(b"a", b"b")])) == {
        "type": "http.response.start",
        "status": 200,
        "headers": [(b"a", b"b")],
        "trailers": False,
    }
    assert body(b"x", more=True) == {"type": "http.response.body", "body": b"x", "more_body": True}
    assert body(b"", more=False)["more_body"] is False


def test_a_small_answer_says_its_length() -> None:
    client = whole()
    assert (client.status, client.body, client.complete) == (200, b"data", True)
    assert client.headers == {b"a": b"b", b"content-length": b"4"}


def test_the_answer_to_head_says_the_length_that_get_would_have() -> None:
    """RFC 9110 §9.3.2."""
    client = whole(method="HEAD")
    assert (client.body, client.headers[b"content-length"]) == (b"", b"4")


def test_204_has_no_length() -> None:
    """RFC 9110 §8.6."""
    assert b"content-length" not in whole(204, b"").headers


def test_the_head_of_a_stream_says_no_length() -> None:
    client = Client()
    asyncio.run(send_head(client.send, head(200, [(b"a", b"b")])))
    assert (client.headers, client.body, client.complete) == ({b"a": b"b"}, b"", True)


@pytest.mark.parametrize("fail_at", [1, 2])
@pytest.mark.parametrize("error", [BrokenPipeError(), OSError()], ids=repr)
def test_a_client_that_has_left_is_no_error(error: OSError, fail_at: int) -> None:
    async def scenario() -> None:
        sent: list[Any] = []

        async def send(message: Any) -> None:
            sent.append(message)
            if len(sent) % 2 == fail_at % 2:
                raise error

        await send_whole(send, 200, [], b"", method="GET")
        assert len(sent) == fail_at
        sent.clear()
        await send_head(send, head(200, []))
        assert len(sent) == fail_at

    asyncio.run(scenario())
