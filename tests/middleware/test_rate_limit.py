"""The limiter in front of any application: who is counted as whom, and what every answer says."""

from __future__ import annotations

import asyncio
import re
from typing import Any

import pytest

from asgi_export import ExportApp, MemoryStore, Observe, RateLimit, Rule, SimulatedDataset
from asgi_export.errors import Unavailable
from asgi_export.limiter.sliding_window import Decision
from asgi_export.middleware.rate_limit import stored_key
from tests.doubles import Client, http_scope, lifespan_of

ITEM = r'"[ !#-\[\]-~]*"(?:;[a-z]+=\d+)+'
"""A string item with integer parameters. RFC 9651 §4.2."""


async def call(app: Any, *, path: str = "/api/v1/exports/csv", query: str = "total=1", **scope: Any) -> Client:
    client = Client()
    await app(http_scope(path, query, **scope), client.receive, client.send)
    return client


def limited(limit: int = 2, **options: Any) -> RateLimit:
    return RateLimit(ExportApp([SimulatedDataset()]), limit=limit, window_seconds=60, **options)


def statuses(app: Any, *requests: dict[str, Any]) -> list[int]:
    async def scenario() -> list[int]:
        return [(await call(app, **request)).status for request in requests]

    return asyncio.run(scenario())


def test_a_key_is_refused_past_its_limit_and_others_are_not() -> None:
    requests = [{"query": f"total=1&apiKey={key}"} for key in "aaaba"]
    assert statuses(limited(), *requests) == [200, 200, 429, 200, 429]


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ({"query": "apiKey=k"}, {"query": "", "headers": [(b"x-api-key", b"k")]}),
        ({"query": "apiKey=k"}, {"query": "", "headers": [(b"authorization", b"Bearer k")]}),
        ({"query": "apiKey=k", "headers": [(b"x-api-key", b"z")]}, {"query": "apiKey=k"}),
        ({"headers": [(b"x-api-key", b"k"), (b"authorization", b"Bearer z")]}, {"query": "apiKey=k"}),
        ({"query": ""}, {"query": "apiKey=anonymous"}),
        ({"query": "apiKey="}, {"query": ""}),
        ({"headers": [(b"authorization", b"Basic k")]}, {"query": ""}),
        ({"query": "apiKey=a%2Bb"}, {"headers": [(b"x-api-key", b"a+b")]}),
        ({"query": "apiKey=" + "k" * 999}, {"headers": [(b"x-api-key", b"k" * 999)]}),
    ],
)
def test_one_caller_is_one_window_wherever_the_key_stands(one: dict[str, Any], other: dict[str, Any]) -> None:
    assert statuses(limited(1), one, other)[1] == 429


def test_every_answer_carries_the_limits() -> None:
    async def scenario() -> list[Client]:
        app = limited(4)
        return [
            await call(app),
            await call(app, query="total=x"),
            await call(app, path="/nowhere"),
            await call(app, method="POST"),
            await call(app),
        ]

    answers = asyncio.run(scenario())
    assert [answer.status for answer in answers] == [200, 400, 404, 405, 429]
    assert {answer.headers[b"ratelimit-policy"] for answer in answers} == {b'"default";q=4;w=60'}
    assert [answer.headers[b"ratelimit"] for answer in answers] == [
        b'"default";r=%d;t=60' % left for left in (3, 2, 1, 0, 0)
    ]


def test_a_refusal_says_when_to_come_back() -> None:
    async def scenario() -> Client:
        app = limited(1)
        await call(app)
        return await call(app)

    answer = asyncio.run(scenario())
    assert answer.headers[b"retry-after"] == b"60"
    assert answer.headers[b"content-type"] == b"application/problem+json"
    assert b'"error": "Too many requests - rate limit exceeded"' in answer.body
    assert b"http-problem-types#quota-exceeded" in answer.body


def test_the_heads_are_structured_fields() -> None:
    rules = [Rule(5, 60 * 10**9), Rule(7, 10**9, "a b!")]
    answer = asyncio.run(call(limited(rules=rules)))
    policy, limit = answer.headers[b"ratelimit-policy"].decode(), answer.headers[b"ratelimit"].decode()
    assert re.fullmatch(f"{ITEM}(?:, {ITEM})*", policy)
    assert re.fullmatch(ITEM, limit)
    assert limit.startswith('"default";r=4')


@pytest.mark.parametrize("path", ["/healthz", "/readyz", "/metrics"])
def test_probes_are_not_limited(path: str) -> None:
    requests = [{"path": path, "query": ""}] * 5
    assert 429 not in statuses(limited(1), *requests)


def test_what_is_too_large_to_be_read_is_answered() -> None:
    assert statuses(limited(), {"query": "a" * 9000}) == [414]
    assert statuses(limited(), {"headers": [(b"a", b"x" * 40_000)]}) == [431]


def test_a_query_that_cannot_be_read_counts_as_nobody_s() -> None:
    assert statuses(limited(1), {"query": "apiKey=%ff"}, {"query": ""}) == [400, 429]


def test_a_thousand_body_messages_pass_one_by_one() -> None:
    """One start, nothing held back, nothing changed but the headers of the start."""

    async def talkative(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": [(b"a", b"b")]})
        for number in range(1000):
            await send({"type": "http.response.body", "body": b"%d" % number, "more_body": True})
            assert len(client.sent) == number + 2
        await send({"type": "http.response.body", "body": b"", "more_body": False})

    client = Client()
    asyncio.run(RateLimit(talkative)(http_scope(), client.receive, client.send))
    assert len(client.sent) == 1002
    assert [name for name, _ in client.sent[0]["headers"]] == [b"a", b"ratelimit-policy", b"ratelimit"]


def test_what_is_no_http_passes() -> None:
    async def scenario() -> None:
        with pytest.raises(ValueError, match="websocket"):
            await limited()({"type": "websocket"}, None, None)

    asyncio.run(scenario())


class StoreWithEvents(MemoryStore):
    """Notes what is asked of it; fails to start when told so."""

    def __init__(self, *, broken: bool = False) -> None:
        super().__init__()
        self.events: list[str] = []
        self._broken = broken

    async def start(self) -> None:
        self.events.append("start")
        if self._broken:
            raise RuntimeError("no store")

    async def close(self) -> None:
        self.events.append("close")

    async def hit(self, key: str, rules: Any) -> Decision:
        if self._broken:
            raise Unavailable("the limit store does not answer")
        return await super().hit(key, rules)


def test_the_store_lives_with_the_application() -> None:
    store = StoreWithEvents()
    answers = lifespan_of(Observe(limited(store=store)))
    assert [message["type"] for message in answers] == ["lifespan.startup.complete", "lifespan.shutdown.complete"]
    assert store.events == ["start", "close"]


def test_a_store_that_cannot_start_fails_the_start_with_its_reason() -> None:
    answers = lifespan_of(limited(store=StoreWithEvents(broken=True)))
    assert answers == [{"type": "lifespan.startup.failed", "message": "no store"}]


def test_a_store_that_does_not_answer_is_a_503() -> None:
    assert statuses(limited(store=StoreWithEvents(broken=True)), {}) == [503]


def test_long_keys_cost_no_more_than_short_ones() -> None:
    assert stored_key("k" * 64) == "k" * 64
    assert len(stored_key("k" * 10**6)) < 64 + 10
    assert stored_key("k" * 65) != stored_key("k" * 66)
