"""Mounted in FastAPI and Starlette, below a proxy's prefix, opened by the first request."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conformance.servers import Server, curl, get, running
from tests.ports import free_port

APPLICATION = "tests.conformance.mounted:app"


@pytest.fixture(params=["/api/v1/exports", "/data", "/deep/er"])
def mount(request: pytest.FixtureRequest, server: Server) -> str:
    found: str = request.param
    if found == "/deep/er" and server.name == "hypercorn below /proxy":
        pytest.skip("Starlette itself does not find a mount in a mount where the path lacks the root path")
    return found


@pytest.fixture(scope="module", params=["uvicorn", "uvicorn below /proxy", "hypercorn", "hypercorn below /proxy"])
def server(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, slow_db: Path
) -> Iterator[Server]:
    """Below /proxy the server is told `--root-path`, and the proxy has cut that off, as nginx does."""
    name, _, prefix = request.param.partition(" below ")
    port = free_port()
    bound = {"uvicorn": ["--port", str(port)], "hypercorn": ["--bind", f"127.0.0.1:{port}"]}[name]
    command = [name, APPLICATION, *bound, *(["--root-path", prefix] if prefix else [])]
    output = tmp_path_factory.mktemp("mounted") / "output"
    with running(command, output, port=port, environ={"MOUNTED_DB": str(slow_db)}) as found:
        found.name = request.param
        yield found
        assert found.stop() in (0, -15)
        assert "Traceback" not in found.log()


def test_every_source_is_opened_by_the_first_request(server: Server, mount: str) -> None:
    assert get(server, f"{mount}/csv").body == b"id,name\n0,n0\n1,n1\n2,n2\n"
    assert get(server, f"{mount}/csv?dataset=shop&columns=id").body == b"id\n1\n2\n3\n"
    assert get(server, f"{mount}/tsv?columns=name,id&total=1").body == b"name\tid\nn0\t0\n"
    assert get(server, f"{mount}/csv/?total=0").body == b"id,name\n"


def test_the_catalogue_and_the_errors_are_below_the_mount(server: Server, mount: str) -> None:
    listed = json.loads(get(server, f"{mount}/").body)
    assert [found["name"] for found in listed["datasets"]] == ["people", "shop", "forever"]
    assert listed["limits"][0]["limit"] == 1000
    for target, status in ((f"{mount}/xlsx", 404), (f"{mount}/csv/csv", 404), (f"{mount}/csv?total=x", 400)):
        answer = get(server, target)
        assert answer.status == json.loads(answer.body)["status"] == status
        assert answer.headers["content-type"] == "application/problem+json"
        assert "ratelimit" in answer.headers
    assert get(server, f"{mount}/csv", method="DELETE").headers["allow"] == "GET, HEAD, OPTIONS"


def test_probes_answer_below_the_mount(server: Server, mount: str) -> None:
    assert get(server, f"{mount}/healthz").status == 200
    assert get(server, f"{mount}/readyz").status == 200


def test_the_host_s_own_pages_are_its_own(server: Server) -> None:
    assert get(server, "/healthz").body == b'"the host\'s own"'
    assert get(server, "/nowhere").headers["content-type"] == "application/json"
    assert curl(f"{server.url}/data/csv", "--fail").returncode == 0


@pytest.mark.parametrize(("name", "prefixes"), [("uvicorn", [""]), ("hypercorn", ["", "/proxy"])])
def test_the_service_itself_works_below_a_root_path(tmp_path: Path, name: str, prefixes: list[str]) -> None:
    """One server puts the root path before every path; Hypercorn leaves paths alone, with the prefix or without."""
    port = free_port()
    bound = {"uvicorn": ["--port", str(port)], "hypercorn": ["--bind", f"127.0.0.1:{port}"]}[name]
    command = [name, "asgi_export.service:app", *bound, "--root-path", "/proxy"]
    with running(command, tmp_path / "output", port=port) as server:
        for prefix in prefixes:
            assert get(server, f"{prefix}/api/v1/exports/csv?total=1&columns=id").body == b"id\n1\n"
            assert get(server, f"{prefix}/healthz").status == 200
            assert get(server, f"{prefix}/metrics").status == 200
