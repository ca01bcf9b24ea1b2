"""The command line: what it prints, how it ends, and what it refuses in one line."""

from __future__ import annotations

import re
import signal
import socket
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from asgi_export.serving.listening import bind
from asgi_export.settings import Settings
from tests.conformance.servers import ENVIRONMENT, ROOT, ask, eventually, get, running
from tests.issuer import AUDIENCE, ISSUER, SECRET, jwks_server, token
from tests.ports import free_port
from tests.starts import starts

CSV = "/api/v1/exports/csv"
SERVERS = pytest.mark.parametrize("server_name", ["uvicorn", "hypercorn"])


def run(*arguments: str, stdin: str = "", **environ: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "asgi_export", *arguments],
        cwd=ROOT,
        env={**ENVIRONMENT, **environ},
        input=stdin,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.fixture
def shop(tmp_path: Path) -> Path:
    path = tmp_path / "my shop.db"
    connection = sqlite3.connect(path)
    connection.executescript("CREATE TABLE orders (id INTEGER, note TEXT); INSERT INTO orders VALUES (1, 'a,b');")
    connection.close()
    return path


@SERVERS
def test_serve_prints_a_curl_line_that_works(shop: Path, tmp_path: Path, server_name: str) -> None:
    command = ["asgi_export", "serve", str(shop), "--port", "0", "--server", server_name]
    with running(command, tmp_path / "output") as server:
        line = re.search(r"curl .*", server.log())
        assert line
        subprocess.run(line[0], shell=True, cwd=tmp_path, check=True, timeout=60, capture_output=True)
        assert (tmp_path / "export.csv").read_bytes() == b'id,note\n1,"a,b"\n'
        assert "orders (2 columns)" in server.log()
        assert "every client that reaches the port" in server.log()


@SERVERS
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it_with_0_and_without_a_traceback(
    tmp_path: Path, server_name: str, number: signal.Signals
) -> None:
    command = ["asgi_export", "serve", "--port", "0", "--server", server_name, "--drain-seconds", "1"]
    with running(command, tmp_path / "output") as server:
        with ask(server, f"{CSV}?total=1000000000") as client:
            assert client.recv(1000)
            assert server.stop(number) == 0
        assert "Traceback" not in server.log()
        assert 'ending="cut off"' in server.log() or 'ending="client left"' in server.log()


REFUSED = [
    (["nope.db"], "nope.db: No such file"),
    (["nope.xyz"], "nope.xyz: no such file; expected a SQLite file"),
    (["LICENSE"], "LICENSE: not a kind that can be served"),
    (["pyproject.db=tests"], "tests"),
    (["postgresqll://me:s3cret@host/db"], "no such file"),
    (["postgresql://me:s3cret@127.0.0.1:1/db"], "cannot be reached"),
    (["--port", "99999"], "--port=99999: expected a port from 0 to 65535"),
    (["--limit", "60"], "--limit=60: expected HITS/WINDOW"),
    (["--limit", "0/1s"], "--limit=0/1s: expected HITS/WINDOW"),
    (["--server", "gunicorn"], "--server=gunicorn: expected uvicorn or hypercorn"),
    (["--stall-seconds", "0"], "--stall-seconds=0: expected a number of seconds above 0"),
    (["--stall-seconds", "nan"], "--stall-seconds=nan: expected a number of seconds above 0"),
    (["--config", "nope.toml"], "nope.toml: No such file"),
    (["--config", "LICENSE"], "LICENSE: not TOML"),
    (["--config", "pyproject.toml"], "pyproject.toml: unknown setting"),
    (["--api-keys", "nope.toml"], "nope.toml: No such file"),
    (["--api-keys", ""], "--api-keys=: expected a TOML file"),
    (["--jwt-keys", "nope.json", "--jwt-issuer", "x"], "nope.json: No such file"),
    (["--jwt-keys", "LICENSE", "--jwt-issuer", "x"], "LICENSE: not JSON; expected a JSON Web Key Set"),
    (["--jwt-keys", "http://127.0.0.1:1/j", "--jwt-issuer", "x"], "Connection refused"),
    (["--jwt-keys", "http://me:s3cret@id/j", "--jwt-issuer", "x"], "expected a file, or an address http(s)://"),
    (["--jwt-issuer", "x"], "expected jwt_keys or jwt_secret with them"),
    (["--host", ""], "--host=: expected an address"),
    (["new\nline.db"], "line.db: No such file"),
    (["x" * 5000], "no such file"),
    (["--workers", "2"], "--limiter redis://HOST:PORT/DB"),
    (["--host", "192.0.2.1"], "cannot listen on 192.0.2.1:3000"),
]


def test_what_cannot_be_served_stops_the_start_with_one_line() -> None:
    results = starts([["serve", *arguments] for arguments, _ in REFUSED])
    for (arguments, message), result in zip(REFUSED, results, strict=True):
        assert result.returncode == 2, arguments
        assert message in result.stderr
        assert len(result.stderr.splitlines()) == 1, result.stderr
        assert "s3cret" not in result.stderr + result.stdout


def test_a_file_that_is_no_database_stops_the_start(tmp_path: Path) -> None:
    (tmp_path / "bad.db").write_bytes(b"no database" * 100)
    (tmp_path / "bad.parquet").write_bytes(b"no parquet" * 100)
    names = ("bad.db", "bad.parquet")
    for name, result in zip(names, starts([["serve", str(tmp_path / name)] for name in names]), strict=True):
        assert (result.returncode, len(result.stderr.splitlines())) == (2, 1), result.stderr
        assert name in result.stderr


def test_a_port_in_use_stops_the_start() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        result = run("serve", "--port", str(taken.getsockname()[1]))
    assert result.returncode == 2
    assert result.stderr.startswith("asgi-export: cannot listen on 127.0.0.1:")


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere the system has no such bounds")
def test_connections_inherit_the_system_s_own_bounds() -> None:
    """Linux counts its own overhead in a receive buffer, so it doubles what it is told. socket(7)"""
    with bind(Settings(port=0, stall_seconds=7.0)) as listening, socket.socket() as client:
        client.connect(listening.getsockname())
        with listening.accept()[0] as accepted:
            assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == 12_000
            assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT) == 128 * 1024
            assert accepted.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF) == 2 * 16 * 1024


def test_a_missing_extra_is_named(tmp_path: Path) -> None:
    """A module of that name that cannot be imported is like one that is not there."""
    (tmp_path / "hypercorn.py").write_text("raise ModuleNotFoundError(name='hypercorn')")
    result = run("serve", "--server", "hypercorn", PYTHONPATH=str(tmp_path))
    assert (result.returncode, result.stderr) == (
        2,
        "asgi-export: hypercorn is missing: pip install 'asgi-export[hypercorn]'\n",
    )


def test_flags_win_over_environment_and_environment_over_file(tmp_path: Path, shop: Path) -> None:
    config = tmp_path / "config.toml"
    config.write_text(f'sources = [{str(shop)!r}]\nlimit = "7/60s"\nport = 1\nstall_seconds = 5\n')
    command = ["asgi_export", "serve", "--config", str(config), "--port", "0"]
    with running(command, tmp_path / "output", environ={"ASGI_EXPORT_LIMIT": "8/60s", "PORT": "2"}) as server:
        answer = get(server, f"{CSV}?dataset=orders")
        assert answer.headers["ratelimit-policy"] == '"default";q=8;w=60'


def test_sources_of_the_environment_are_blank_separated_and_may_be_quoted(tmp_path: Path, shop: Path) -> None:
    environ = {"ASGI_EXPORT_SOURCES": f"'{shop}' simulated x={str(shop).replace(' ', chr(92) + ' ')}"}
    with running(["asgi_export", "serve", "--port", "0"], tmp_path / "output", environ=environ) as server:
        assert [line.split()[0] for line in server.log().splitlines()[1:4]] == ["orders", "simulated", "x.orders"]


@pytest.mark.parametrize("name", ["uvicorn", "hypercorn"])
def test_no_log_holds_a_key_not_even_the_server_s_own(tmp_path: Path, name: str) -> None:
    port = free_port()
    options = {
        "uvicorn": ["--port", str(port), "--log-level", "trace"],
        "hypercorn": ["--bind", f"127.0.0.1:{port}", "--access-logfile", "-", "--error-logfile", "-"],
    }[name]
    output = tmp_path / "output"
    with running([name, "asgi_export.service:app", *options], output, port=port) as server:
        assert get(server, f"{CSV}?apiKey=s3cret&total=1").status == 200
        assert get(server, f"{CSV}?apiKey=s3cret&total=x").status == 400
        assert get(server, f"{CSV}?total=1", headers="X-API-Key: s3cret\r\n").status == 200
        assert eventually(lambda: server.log().count("asgi_export.access") >= 3)
        line = next(line for line in server.log().splitlines() if "status=200" in line and "exports" in line)
        fields = "request_id= method=GET path= status=200 rows=1 bytes= seconds= ending="
        assert all(field in line for field in fields.split())
    assert "s3cret" not in output.read_text()


def test_settings_that_are_wrong_fail_the_start_of_a_plain_server(tmp_path: Path) -> None:
    result = subprocess.run(
        [sys.executable, "-m", "uvicorn", "asgi_export.service:app", "--port", str(free_port())],
        cwd=ROOT,
        env={**ENVIRONMENT, "ASGI_EXPORT_SOURCES": "nope.db"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert result.returncode == 3
    assert "nope.db: No such file" in result.stderr
    assert "Traceback" not in result.stderr


def test_a_new_key_is_printed_once_with_what_the_file_needs(tmp_path: Path) -> None:
    printed = run("key", "new", "--plan", "basic", "--owner", "alice").stdout
    key = re.search(r"ax_\S+", printed)
    assert key
    digest = run("key", "hash", stdin=key[0] + "\n").stdout.strip()
    assert f'sha256 = "{digest}"' in printed
    (tmp_path / "keys.toml").write_text("[plans.basic]\n" + printed)
    command = ["asgi_export", "serve", "--port", "0", "--api-keys", str(tmp_path / "keys.toml")]
    with running(command, tmp_path / "output") as server:
        assert get(server, f"{CSV}?total=1").status == 401
        assert get(server, f"{CSV}?total=1&apiKey={key[0]}").status == 200
        assert "whoever" not in server.log()
        assert server.logged("owner=alice")
        assert key[0] not in server.log()


def test_tokens_open_a_service_and_are_in_no_log(shop: Path, tmp_path: Path) -> None:
    """Keys from an address, the secret from the environment."""
    flags = ["--jwt-issuer", ISSUER, "--jwt-audience", AUDIENCE]
    with jwks_server() as issuer:
        command = ["asgi_export", "serve", str(shop), "--port", "0", "--jwt-keys", issuer.url, *flags]
        with running(command, tmp_path / "output", environ={"ASGI_EXPORT_JWT_SECRET": SECRET}) as server:
            assert get(server, CSV).status == 401
            good, by_secret, bad = token(), token("HS256", None, key=SECRET), token(exp=1)
            statuses = []
            for text in (good, by_secret, bad):
                statuses.append(get(server, CSV, headers=f"Authorization: Bearer {text}\r\n").status)
                statuses.append(get(server, f"{CSV}?apiKey={text}").status)
            assert statuses == [200, 200, 200, 200, 401, 401]
            line = re.search(r"curl .*", server.log())
            assert line
            environ = {**ENVIRONMENT, "TOKEN": good}
            subprocess.run(
                line[0], shell=True, cwd=tmp_path, check=True, timeout=60, capture_output=True, env=environ
            )
            assert (tmp_path / "export.csv").read_bytes() == b'id,note\n1,"a,b"\n'
            assert server.logged("owner=alice dataset=orders")
            assert not any(part in server.log() for text in (good, by_secret, bad) for part in text.split("."))


def test_a_key_to_hash_must_be_there() -> None:
    assert run("key", "hash").returncode == 2


def test_python_m_and_the_version() -> None:
    assert re.fullmatch(r"asgi-export \d+\.\d+\.\d+\n", run("--version").stdout)
    assert [result.returncode for result in starts([[], ["serve", "--bogus"]])] == [2, 2]
