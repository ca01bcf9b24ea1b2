"""Every kind of address leads to a store, and no address tells its password."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
from redis.asyncio.connection import SSLConnection

from asgi_export.errors import StartupError
from asgi_export.limiter.redis_store import RedisStore
from asgi_export.limiter.sliding_window import NANOSECONDS, Rule
from asgi_export.redis_client.driver import Redis, StoreDown, _secrets, place_of
from tests.redis_server import RedisServer, running

RULES = (Rule(3, 60 * NANOSECONDS),)


def use(url: str) -> list[int]:
    """Hits through the address; what remained after each, and nothing decided without the store."""

    async def run() -> list[int]:
        store = RedisStore(url, bound_seconds=5.0)
        await store.start()
        await store.check()
        decisions = [await store.hit("k", RULES) for _ in range(3)]
        assert store.fallbacks == 0
        await store.close()
        return [decision.states[0].remaining for decision in decisions]

    return asyncio.run(run())


def options_of(url: str) -> dict[str, Any]:
    found: dict[str, Any] = Redis(url)._pool.connection_kwargs
    return found


def test_a_password_and_a_database_are_passed_on() -> None:
    with running(password="s3cret/of:the@test") as server:
        url = f"redis://:s3cret%2Fof%3Athe%40test@127.0.0.1:{server.port}/3"
        assert use(url) == [2, 1, 0]
        assert list(server.call("INFO", "keyspace")) == ["db3"]


def test_a_unix_socket_is_an_address(tmp_path: Path) -> None:
    path = tmp_path / "redis.sock"
    with running("--save", "", "--unixsocket", str(path)):
        assert use(f"unix://{path}") == [2, 1, 0]


def test_tls_is_passed_on() -> None:
    pool = Redis("rediss://cache:6380/0?ssl_cert_reqs=none")._pool
    assert issubclass(pool.connection_class, SSLConnection)
    assert pool.connection_kwargs["ssl_cert_reqs"] == "none"


def test_sentinels_are_asked_where_the_master_is(tmp_path: Path) -> None:
    """One of them does not answer."""
    with running() as master:
        sentinel = RedisServer(tmp_path)
        file = tmp_path / "sentinel.conf"
        file.write_text(f"sentinel monitor shop 127.0.0.1 {master.port} 1\n")
        sentinel.start(sentinel_file=file)
        try:
            assert use(f"redis+sentinel://127.0.0.1:1,127.0.0.1:{sentinel.port}/shop/0") == [2, 1, 0]
        finally:
            sentinel.kill()


def test_the_passwords_of_a_master_and_of_its_sentinels_are_told_apart() -> None:
    url = "rediss+sentinel://me:p%40ss@one,two:7/shop/2?sentinel_password=their%20own"
    redis = Redis(url)
    options = redis._pool.connection_kwargs
    assert (options["username"], options["password"], options["db"]) == ("me", "p@ss", 2)
    assert redis._pool.service_name == "shop"
    theirs = [client.connection_pool.connection_kwargs for client in redis._sentinels]
    assert [(found["host"], found["port"], found["password"]) for found in theirs] == [
        ("one", 26379, "their own"),
        ("two", 7, "their own"),
    ]


def test_nothing_is_retried() -> None:
    assert options_of("redis://cache:6379/0")["retry"]._retries == 0


@pytest.mark.parametrize(
    ("url", "place"),
    [
        ("redis://cache:6379/0", "redis://cache:6379/0"),
        ("rediss://user:s3cret@cache", "rediss://cache"),
        ("redis://:s3/cr@et@[::1]:6379/0", "redis://[::1]:6379/0"),
        ("redis://:s3?cret@cache/0", "redis://"),
        ("unix://s3cret@/run/redis.sock?password=s3cret", "unix:///run/redis.sock"),
        ("unix:///run/redis.sock?password=s3@cret", "unix://"),
        ("redis+sentinel://:s3cret@one:1,two:2/shop/0", "redis+sentinel://one:1,two:2/shop/0"),
        ("s3cret!", "redis://"),
    ],
)
def test_a_place_is_shown_without_what_is_secret(url: str, place: str) -> None:
    assert place_of(url) == place


@pytest.mark.parametrize(
    "url",
    [
        "nonsense://:s3cret@cache",
        "redis://:s3cret@cache:port/0",
        "redis://:s3/cret@cache/0",
        "redis://cache/0?socket_timeout=s3cret",
        "redis+sentinel://:s3cret@one",
        "redis+sentinel://:s3cret@one:x/shop",
        "redis+sentinel://:s3cret@one/shop/x",
        "redis+sentinel://:s3cret@one/shop/0?password=s3cret",
        "redis+sentinel://:s3cret@,/shop/0",
    ],
)
def test_an_address_that_cannot_be_read_stops_the_start_in_one_line(url: str) -> None:
    """It says what was expected, and quotes nothing that may be the password."""
    with pytest.raises(StartupError, match="expected ") as caught:
        Redis(url)
    assert "s3" not in str(caught.value)
    assert "\n" not in str(caught.value)
    assert caught.value.__cause__ is None


def test_what_the_driver_says_is_told_without_the_password() -> None:
    """redis-py shows a sentinel that does not answer with all its options."""
    redis = Redis("redis+sentinel://:s3cret%21@127.0.0.1:1/shop/0?sentinel_password=th3irs")

    async def run() -> str:
        wire = redis.wire()
        with pytest.raises(StoreDown) as caught:
            await wire.connect()
        await wire.close()
        await redis.close()
        return str(caught.value)

    reason = asyncio.run(run())
    assert "MasterNotFoundError" in reason
    assert "th3irs" not in reason
    assert redis._reason(ValueError("s3cret! and s3cret%21")) == "ValueError: *** and ***"
    assert _secrets("redis://cache") == []
