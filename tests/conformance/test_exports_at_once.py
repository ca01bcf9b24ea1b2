"""Exports at once, over two instances of two workers on one Redis: a key's own bound, and that of a process."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import socket
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path

import pytest

from asgi_export.access.plans import digest_of
from tests.conformance.servers import Server, ask, eventually, get, readable, running
from tests.redis_server import RedisServer

CSV = "/api/v1/exports/csv"
ENDLESS = f"{CSV}?total=100000000000"
ALICE = "X-API-Key: alice-s3cret\r\n"
BOB = "X-API-Key: bob-s3cret\r\n"
LIFE_SECONDS = 2
LEASES = "ax:*:leases"
SERVERS = pytest.mark.parametrize("server_name", [pytest.param("uvicorn", marks=pytest.mark.slow), "hypercorn"])

KEYS = "[plans.basic]\nlimits = ['100000/1h']\nexports_at_once = 2\n" + "".join(
    f'[keys.{owner}]\nsha256 = "{digest_of(f"{owner}-s3cret").hex()}"\nplan = "basic"\n' for owner in ("alice", "bob")
)


@contextlib.contextmanager
def instance(
    redis: RedisServer,
    folder: Path,
    name: str,
    server_name: str,
    settings: Mapping[str, str] = {},
) -> Iterator[Server]:
    """One of several that share a Redis."""
    if not (folder / "keys.toml").exists():
        (folder / "keys.toml").write_text(KEYS)
    options = ["--server", server_name, "--workers", "2", "--limiter", redis.url]
    command = ["asgi_export", "serve", "--port", "0", "--api-keys", str(folder / "keys.toml"), *options]
    environ = {"ASGI_EXPORT_STORE_BOUND_SECONDS": "5", "ASGI_EXPORT_LEASE_SECONDS": str(LIFE_SECONDS), **settings}
    with running(command, folder / name, environ=environ) as server:
        yield server


def held(redis: RedisServer) -> int:
    """Leases in Redis, of all keys."""
    return sum(redis.call("ZCARD", key.decode()) for key in redis.call("KEYS", LEASES))


def begin(stack: ExitStack, server: Server, key: str) -> socket.socket:
    """An export that runs until its client leaves."""
    client = stack.enter_context(ask(server, ENDLESS, headers=key))
    assert readable(client)
    assert b" 200 " in client.recv(64)
    return client


def refused(server: Server, key: str) -> None:
    answer = get(server, f"{CSV}?total=1", headers=key)
    assert answer.status == 429
    assert int(answer.headers["retry-after"]) >= 1
    assert answer.headers["content-type"] == "application/problem+json"
    assert json.loads(answer.body)["status"] == 429


def admitted(server: Server, key: str) -> bool:
    return get(server, f"{CSV}?total=1", headers=key).status == 200


def worker_of(client: socket.socket) -> int:
    """The process at the other end of a connection of this machine, by its open files. proc(5)."""
    theirs = "{:08X}:{:04X}".format(int.from_bytes(socket.inet_aton("127.0.0.1"), "little"), client.getpeername()[1])
    mine = f"{theirs[:8]}:{client.getsockname()[1]:04X}"
    table = Path("/proc/net/tcp").read_text()
    (inode,) = re.findall(rf"{theirs} {mine} \S+ \S+ \S+ \S+ +\d+ +\d+ (\d+)", table)
    for link in Path("/proc").glob("[0-9]*/fd/*"):
        with contextlib.suppress(OSError):
            if os.readlink(link) == f"socket:[{inode}]":
                return int(link.parts[2])
    raise AssertionError("no process has the connection")


@SERVERS
def test_a_key_has_its_bound_over_all_instances_and_workers(
    empty_redis: RedisServer, tmp_path: Path, server_name: str
) -> None:
    """Another key has its own; and a place is free as soon as a client has left, though it never read on."""
    with (
        instance(empty_redis, tmp_path, "one", server_name) as one,
        instance(empty_redis, tmp_path, "other", server_name) as other,
        ExitStack() as stack,
    ):
        first = begin(stack, one, ALICE)
        begin(stack, other, ALICE)
        for server in (one, other) * 4:
            refused(server, ALICE)
        assert admitted(one, BOB)
        first.close()
        assert eventually(lambda: admitted(other, ALICE))
        stack.close()
        assert eventually(lambda: held(empty_redis) == 0)
        assert empty_redis.call("KEYS", LEASES) == []
    for name in ("one", "other"):
        assert "Traceback" not in (tmp_path / name).read_text()


@SERVERS
def test_an_export_keeps_its_lease_and_a_killed_worker_gives_it_back_a_life_later(
    empty_redis: RedisServer, tmp_path: Path, server_name: str
) -> None:
    """While the body runs it counts, for several lives; nobody gives back what a killed process held."""
    with (
        instance(empty_redis, tmp_path, "one", server_name) as one,
        instance(empty_redis, tmp_path, "other", server_name) as other,
        ExitStack() as stack,
    ):
        clients = [begin(stack, one, ALICE) for _ in range(2)]
        ends = redis_seconds(empty_redis) + 2 * LIFE_SECONDS
        while redis_seconds(empty_redis) < ends:
            refused(other, ALICE)
            time.sleep(0.02)  # often in the life of a lease, and not as often as can be
        workers = {worker_of(client) for client in clients}
        assert one.process.pid not in workers
        for worker in workers:
            os.kill(worker, signal.SIGKILL)
        assert held(empty_redis) == 2
        assert eventually(lambda: admitted(other, ALICE), LIFE_SECONDS + 10)
        assert eventually(lambda: held(empty_redis) == 0)
        one.process.kill()  # what its supervisor makes of killed workers is its own affair


def redis_seconds(redis: RedisServer) -> float:
    seconds, microseconds = redis.call("TIME")
    return float(seconds + microseconds / 1e6)


@SERVERS
def test_a_service_that_ends_gives_its_leases_back(
    empty_redis: RedisServer, tmp_path: Path, server_name: str
) -> None:
    """Those of exports that it breaks off too; without waiting for the life of a lease."""
    settings = {"ASGI_EXPORT_LEASE_SECONDS": "600", "ASGI_EXPORT_DRAIN_SECONDS": "1"}
    with instance(empty_redis, tmp_path, "one", server_name, settings) as one, ExitStack() as stack:
        begin(stack, one, ALICE)
        begin(stack, one, BOB)
        assert held(empty_redis) == 2
        one.stop()
        assert eventually(lambda: held(empty_redis) == 0)


@SERVERS
def test_the_bound_of_a_process_is_503_and_takes_no_lease(
    empty_redis: RedisServer, tmp_path: Path, server_name: str
) -> None:
    """Of two workers each runs one; which of them answers is the system's choice."""
    with (
        instance(empty_redis, tmp_path, "one", server_name, {"ASGI_EXPORT_MAX_EXPORTS": "1"}) as one,
        ExitStack() as stack,
    ):
        begin(stack, one, ALICE)
        answers = [get(one, f"{CSV}?total=1", headers=BOB) for _ in range(40)]
        full = [answer for answer in answers if answer.status == 503]
        assert full, "no request met the worker that is full"
        assert {answer.status for answer in answers} <= {200, 503}
        for answer in full:
            assert int(answer.headers["retry-after"]) >= 1
            assert answer.headers["content-type"] == "application/problem+json"
        assert eventually(lambda: held(empty_redis) == 1)


def test_exports_go_on_and_begin_without_redis_and_the_probe_says_so(
    empty_redis: RedisServer, tmp_path: Path
) -> None:
    """Each process counts its own then; when Redis is back it is told of what runs."""
    settings = {"ASGI_EXPORT_STORE_BOUND_SECONDS": "0.2"}
    with instance(empty_redis, tmp_path, "one", "uvicorn", settings) as one, ExitStack() as stack:
        client = begin(stack, one, ALICE)
        empty_redis.kill()
        began = begin(stack, one, BOB)
        assert eventually(lambda: b"leases" in get(one, "/readyz").body)
        assert client.recv(4096)
        assert began.recv(4096)
        empty_redis.start()
        assert eventually(lambda: held(empty_redis) == 2, 20)
        assert eventually(lambda: get(one, "/readyz").status == 200)
        assert "Traceback" not in one.log()
