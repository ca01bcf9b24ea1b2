"""JSON lines on real servers: every line that a process logs is one object, the servers' own too."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from tests.conformance.servers import Server, get, raw, running
from tests.ports import free_port

CSV = "/api/v1/exports/csv"
SERVERS = pytest.mark.parametrize("name", ["uvicorn", "hypercorn"])


def lines_of(server: Server, banner: int) -> Sequence[Mapping[str, Any]]:
    """What was logged, behind the lines that `serve` prints."""
    return [json.loads(line) for line in server.log().splitlines()[banner:]]


@SERVERS
def test_serve_logs_objects_and_numbers(name: str, tmp_path: Path) -> None:
    command = ["asgi_export", "serve", "--port", "0", "--server", name, "--log-format", "json"]
    with running(command, tmp_path / "output") as server:
        get(server, f"{CSV}?total=7&apiKey=s3cret", headers="X-Request-Id: seven-1\r\n")
        raw(server, b"\0garbage\r\n\r\n")
        assert server.logged('"seven-1"')
        assert server.stop() == 0
        (line,) = [found for found in lines_of(server, 4) if found.get("request_id") == "seven-1"]
        assert (line["status"], line["rows"], line["format"], line["ending"]) == (200, 7, "csv", "complete")
        assert type(line["seconds"]) is float
        assert "s3cret" not in server.log()
        if name == "uvicorn":
            assert "uvicorn.error" in {found["logger"] for found in lines_of(server, 4)}


@SERVERS
def test_a_plain_server_s_own_logs_are_objects_too(name: str, tmp_path: Path) -> None:
    port = free_port()
    options = {
        "uvicorn": ["--port", str(port), "--log-level", "debug"],
        "hypercorn": ["--bind", f"127.0.0.1:{port}", "--access-logfile", "-", "--log-level", "debug"],
    }[name]
    environ = {"ASGI_EXPORT_LOG_FORMAT": "json"}
    command = [name, "asgi_export.service:app", *options]
    with running(command, tmp_path / "output", port=port, environ=environ) as server:
        get(server, f"{CSV}?total=7&apiKey=s3cret", headers="X-Request-Id: seven-1\r\n")
        assert server.logged('"seven-1"')
        server.stop()
        text = [line for line in server.log().splitlines() if not line.startswith("{")]
        found = [json.loads(line) for line in server.log().splitlines() if line.startswith("{")]
        assert {f"{name}.access", f"{name}.error", "asgi_export.access"} <= {line["logger"] for line in found}
        assert not [line for line in text if "INFO" not in line], "what a server says before it has loaded us"
        assert "s3cret" not in server.log()
