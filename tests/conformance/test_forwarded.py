"""Behind a proxy: whose window a request without a key takes, and whose word on it is believed."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from asgi_export.access.plans import digest_of
from tests.conformance.servers import Server, get, running
from tests.conformance.test_behind_nginx import NGINX, running_nginx

KEYS = f'plans.basic = {{}}\nkeys.alice = {{ sha256 = "{digest_of("K").hex()}", plan = "basic" }}\n'


@contextmanager
def guarded(folder: Path, server_name: str, environ: dict[str, str]) -> Iterator[Server]:
    """A service with keys, whose strangers are limited to two guesses an hour."""
    (folder / "keys.toml").write_text(KEYS)
    options = ["--server", server_name, "--limit", "2/1h", "--api-keys", str(folder / "keys.toml")]
    with running(["asgi_export", "serve", "--port", "0", *options], folder / "output", environ=environ) as server:
        yield server


def ask(server: Server, said: str) -> int:
    """The status for a request without a key whose X-Forwarded-For says this, from 127.0.0.1."""
    return get(server, "/api/v1/exports/csv", headers=f"X-Forwarded-For: {said}\r\n").status


@pytest.mark.parametrize("environ", [{}, {"FORWARDED_ALLOW_IPS": "192.0.2.1,127.0.0.1"}])
def test_clients_behind_a_trusted_proxy_have_windows_of_their_own(tmp_path: Path, environ: dict[str, str]) -> None:
    """What a client itself has put in front of the proxy's word changes nothing."""
    with guarded(tmp_path, "uvicorn", environ) as server:
        assert [ask(server, "198.51.100.1") for _ in range(3)] == [401, 401, 429]
        assert [ask(server, "198.51.100.2") for _ in range(3)] == [401, 401, 429]
        assert ask(server, "203.0.113.9, 198.51.100.1") == 429


@pytest.mark.parametrize(
    ("server_name", "environ"), [("uvicorn", {"FORWARDED_ALLOW_IPS": "192.0.2.1"}), ("hypercorn", {})]
)
def test_nobody_else_is_believed(tmp_path: Path, server_name: str, environ: dict[str, str]) -> None:
    """A stranger who says to be another one with each guess is the same to us."""
    with guarded(tmp_path, server_name, environ) as server:
        assert [ask(server, f"198.51.100.{number}") for number in range(4)] == [401, 401, 429, 429]


@pytest.mark.skipif(NGINX is None, reason="no nginx: the proxy is the operator's, and no wheel has it")
def test_a_client_of_the_readmes_nginx_cannot_say_to_be_another_one(tmp_path: Path) -> None:
    """The service believes nginx here, which must not pass on what a client says."""
    with guarded(tmp_path, "uvicorn", {}) as server, running_nginx(tmp_path, (server, server)) as nginx:
        assert [ask(nginx, f"198.51.100.{number}") for number in range(4)] == [401, 401, 429, 429]
        assert ask(server, "127.0.0.2") == 401
