"""The set-up of docs/operating.md: two instances, one Redis, and nginx in front as that page configures it."""

from __future__ import annotations

import contextlib
import re
import shutil
import sqlite3
import subprocess
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.conformance.servers import ROOT, Server, connect, curl, eventually, get, running
from tests.ports import free_port
from tests.redis_server import RedisServer

NGINX = shutil.which("nginx", path="/usr/sbin:/usr/bin:/usr/local/bin:/opt/homebrew/bin")
LIMIT = 40

pytestmark = pytest.mark.skipif(NGINX is None, reason="no nginx: the proxy is the operator's, and no wheel has it")


@dataclass(frozen=True, slots=True)
class Behind:
    """nginx, which is asked as if it were the server, and the instances behind it."""

    nginx: Server
    instances: tuple[Server, Server]


def configuration(folder: Path, port: int, instances: tuple[Server, Server]) -> str:
    """The page's block with our ports, and what nginx needs to run in a folder of ours."""
    page = (ROOT / "docs" / "operating.md").read_text(encoding="utf-8")
    found = re.search(r"```nginx\n(.*?)```", page, re.DOTALL)
    assert found
    block = found[1].replace("listen 80;", f"listen 127.0.0.1:{port};")
    for number, instance in enumerate(instances, 1):
        block = block.replace(f"10.0.0.{number}:3000", f"127.0.0.1:{instance.port}")
    kinds = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    places = " ".join([f"{kind}_temp_path {folder / kind};" for kind in kinds])
    return f"""
        daemon off; pid {folder / "pid"}; error_log {folder / "error"};
        events {{}}
        http {{ access_log off; {places} {block} }}
    """


@contextlib.contextmanager
def running_nginx(folder: Path, instances: tuple[Server, Server]) -> Iterator[Server]:
    port = free_port()
    (folder / "nginx.conf").write_text(configuration(folder, port, instances))
    arguments = ["-p", str(folder), "-c", str(folder / "nginx.conf"), "-e", str(folder / "error")]
    process = subprocess.Popen([str(NGINX), *arguments])
    server = Server(port, process, folder / "error", "nginx")
    try:
        assert eventually(lambda: process.poll() is not None or _listens(server)), server.log()
        assert process.poll() is None, server.log()
        yield server
    finally:
        process.terminate()
        process.wait(10)


def _listens(server: Server) -> bool:
    with contextlib.suppress(OSError), connect(server):
        return True
    return False


@contextlib.contextmanager
def set_up(redis_server: RedisServer, folder: Path) -> Iterator[Behind]:
    path = folder / "shop.db"
    with contextlib.closing(sqlite3.connect(path)) as connection:
        connection.executescript(
            """
            CREATE TABLE orders (id INTEGER); INSERT INTO orders VALUES (1);
            CREATE VIEW broken AS
            WITH RECURSIVE n(id) AS (SELECT 1 UNION ALL SELECT id + 1 FROM n WHERE id < 200000)
            SELECT CASE id WHEN 200000 THEN abs(-9223372036854775807 - (id > 0)) ELSE id END AS id FROM n;
            """
        )
    options = ["--workers", "2", "--limit", f"{LIMIT}/1h", "--limiter", redis_server.url, "--drain-seconds", "5"]
    command = ["asgi_export", "serve", str(path), "simulated", "--port", "0", *options]
    environ = {"ASGI_EXPORT_STORE_BOUND_SECONDS": "5", "ASGI_EXPORT_INSTANCES": "4"}
    with (
        running(command, folder / "one", environ=environ) as one,
        running(command, folder / "other", environ=environ) as other,
        running_nginx(folder, (one, other)) as nginx,
    ):
        yield Behind(nginx, (one, other))


@pytest.fixture(scope="module")
def behind(redis_server: RedisServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Behind]:
    """Shared: each test asks with keys of its own."""
    with set_up(redis_server, tmp_path_factory.mktemp("behind")) as found:
        yield found


@pytest.mark.slow
def test_one_limit_holds_over_both_instances(behind: Behind) -> None:
    target = "/api/v1/exports/csv?dataset=orders&apiKey=behind-nginx"
    statuses = Counter(get(behind.nginx, target).status for _ in range(LIMIT + 20))
    assert statuses == {200: LIMIT, 429: 20}
    assert all("/api/v1/exports/csv" in instance.log() for instance in behind.instances)


@pytest.mark.slow
@pytest.mark.parametrize("coding", ["identity", "gzip"])
def test_a_broken_export_is_broken_behind_the_proxy_too(behind: Behind, coding: str) -> None:
    result = curl(
        f"{behind.nginx.url}/api/v1/exports/csv?dataset=broken&apiKey=broken-{coding}",
        *("-H", f"Accept-Encoding: {coding}", "-w", "%{stderr}%{http_code}"),
    )
    assert (result.returncode, result.stderr) == (18, b"200")


@pytest.mark.slow
def test_a_restart_is_not_seen_by_clients(redis_server: RedisServer, tmp_path: Path) -> None:
    """The other instance is asked where one is ending, or gone."""
    with set_up(redis_server, tmp_path) as behind:
        first, _ = behind.instances
        with connect(behind.nginx, receive_buffer=4096) as slow:  # keeps the first or the other draining for a while
            slow.sendall(b"GET /api/v1/exports/csv?dataset=simulated&total=100000000 HTTP/1.1\r\nHost: x\r\n\r\n")
            slow.recv(100)
            first.process.terminate()
            target = "/api/v1/exports/csv?dataset=orders&apiKey=restart"
            statuses = Counter(get(behind.nginx, target).status for _ in range(20))
        assert statuses == {200: 20}
        first.stopped = True
        assert first.process.wait(20) == 0
        assert get(behind.nginx, target).status == 200
