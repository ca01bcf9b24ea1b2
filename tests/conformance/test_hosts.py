"""Mounted in FastAPI, Starlette, Litestar and Django (channels), each with a middleware of its own."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conformance.servers import Server, ask, curl, eventually, get, running
from tests.ports import free_port

SERVERS = ("uvicorn", "hypercorn")
HOSTS = ("fastapi", "starlette", "litestar", "django")
FORMATS = ("csv", "tsv", "ndjson", "parquet", "arrow")


@pytest.fixture(scope="module", params=[f"{name}{prefix}" for prefix in ("", " below /proxy") for name in SERVERS])
def server(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, slow_db: Path
) -> Iterator[Server]:
    """Below /proxy the server is told `--root-path`, and the proxy has cut that off, as nginx does."""
    name, _, prefix = request.param.partition(" below ")
    port, folder = free_port(), tmp_path_factory.mktemp("hosts")
    (folder / "events").touch()
    bound = {"uvicorn": ["--port", str(port)], "hypercorn": ["--bind", f"127.0.0.1:{port}"]}[name]
    command = [name, "tests.conformance.hosts:app", *bound, *(["--root-path", prefix] if prefix else [])]
    environ = {"MOUNTED_DB": str(slow_db), "HOST_EVENTS": str(folder / "events")}
    with running(command, folder / "output", port=port, environ=environ) as found:
        found.name = request.param
        yield found
        assert found.stop() in (0, -15)


@pytest.fixture(params=[f"/{host}{path}" for host in HOSTS for path in ("/api/v1/exports", "/data")])
def mount(request: pytest.FixtureRequest, server: Server) -> str:
    found: str = request.param
    if found.startswith("/django") and server.name == "hypercorn below /proxy":
        pytest.skip("channels itself wants the root path in the path")
    return found


def host_of(mount: str) -> str:
    return mount.split("/")[1]


def test_the_host_has_its_own_pages_and_its_middleware(server: Server, mount: str) -> None:
    own = get(server, f"/{host_of(mount)}/own")
    assert (own.status, own.body.strip(b'"'), own.headers["x-host"]) == (200, b"own", host_of(mount))
    assert get(server, f"{mount}/csv").headers["x-host"] == host_of(mount)


@pytest.mark.parametrize("name", FORMATS)
def test_every_format_is_there_by_both_addresses(server: Server, mount: str, name: str) -> None:
    by_query = get(server, f"{mount}/{name}?dataset=my%20people")
    by_path = get(server, f"{mount}/my%20people.{name}")
    assert by_query.status == by_path.status == 200
    assert by_query.headers["content-type"] == by_path.headers["content-type"]
    assert by_query.body == by_path.body


def test_rows_errors_and_probes(server: Server, mount: str) -> None:
    assert get(server, f"{mount}/csv").body == b"id,name\n0,n0\n1,n1\n2,n2\n"
    assert get(server, f"{mount}/csv/?total=0").body == b"id,name\n"
    assert get(server, f"{mount}/shop.csv?columns=id").body == b"id\n1\n2\n3\n"
    for target, status in (("xlsx", 404), ("nope.csv", 404), ("csv/csv", 404), ("csv?total=x", 400)):
        answer = get(server, f"{mount}/{target}")
        assert (answer.status, answer.headers["content-type"]) == (status, "application/problem+json")
    if host_of(mount) != "django":  # where the prefix is said, they are at the root
        assert get(server, f"{mount}/readyz").status == 200


def test_the_document_says_where_it_is(server: Server, mount: str) -> None:
    """Each address that it names is one that answers, through the proxy that adds its prefix."""
    document = json.loads(get(server, f"{mount}/openapi.json").body)
    (where,) = document["servers"]
    proxy = "/proxy" if "proxy" in server.name else ""
    for template in document["paths"]:
        path = template.replace("{dataset}", "my%20people")
        if path not in ("/healthz", "/readyz", "/metrics"):
            whole = (where["url"].rstrip("/") + path).removeprefix(proxy)
            assert whole.startswith(mount)
            assert get(server, whole).status == 200
        assert where["url"].startswith(proxy or "/")


def test_a_failure_is_seen_and_is_one_line(server: Server, mount: str) -> None:
    before, name = len(server.log()), f"failing{mount.replace('/', '-')}"
    result = curl(f"{server.url}{mount}/failing.csv", "-H", f"X-Request-Id: {name}")
    assert result.returncode == 18
    assert result.stdout.endswith(b'\n"__ERROR__","internal_server_error"\n')
    assert eventually(lambda: server.access_lines(name))
    assert server.log()[before:].count("Traceback") == 1


def test_a_client_that_leaves_stops_the_source(server: Server, mount: str) -> None:
    events = server.output.parent / "events"
    closed = events.read_text().count("closed")
    client = ask(server, f"{mount}/endless.csv")
    assert client.recv(1000)
    client.close()
    assert eventually(lambda: events.read_text().count("closed") > closed)
