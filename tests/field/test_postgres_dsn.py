"""Options in the DSN of PostgreSQL mean what they mean to psql, and one that is not taken is one clear line."""

from __future__ import annotations

import asyncio
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from asgi_export.errors import StartupError
from asgi_export.sources.postgres.driver import socket_of
from asgi_export.sources.postgres.dsn import read_target
from asgi_export.sources.postgres.source import PostgresSource
from asgi_export.table import Dialect
from tests.ports import free_port
from tests.postgres_server import PASSWORD, PostgresServer
from tests.sources.postgres_shop import READER, Shop, make_shop, rows, text


@pytest.fixture(scope="module")
def small(postgres_server: PostgresServer) -> Shop:
    sql = f"""
        CREATE TABLE ones AS SELECT 1 AS id, 'x' AS text;
        CREATE VIEW settings AS SELECT name, setting FROM pg_settings;
        GRANT SELECT ON ALL TABLES IN SCHEMA public TO {READER};
    """
    return make_shop(postgres_server, "small", sql)


@pytest.fixture
def dead_port() -> Iterator[int]:
    """A port at which nobody listens."""
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        yield int(held.getsockname()[1])


def psql_connects(server: PostgresServer, dsn: str) -> bool:
    program = [str(server.binaries / "psql"), "-X", "-q", "-c", "SELECT 1", dsn]
    return subprocess.run(program, capture_output=True, check=False).returncode == 0


async def first_row(dsn: str) -> bytes:
    source = PostgresSource(dsn)
    try:
        datasets = {dataset.name: dataset for dataset in await source.start()}
        return await text(datasets["ones"], Dialect())
    finally:
        await source.close()


TAKEN = [
    "channel_binding=prefer",
    "channel_binding=disable",
    "connect_timeout=10",
    "connect_timeout=0",
    "keepalives=1&keepalives_idle=30&keepalives_interval=5&keepalives_count=3&tcp_user_timeout=20000",
    "keepalives=0",
    "target_session_attrs=read-write",
    "target_session_attrs=any",
    "target_session_attrs=primary",
    "target_session_attrs=prefer-standby",
    "sslmode=disable",
    "sslmode=allow",
    "sslmode=prefer",
    "sslmode=prefer&sslnegotiation=postgres",
    "gssencmode=prefer",
    "application_name=nightly&fallback_application_name=x",
    "options=-c%20geqo%3Doff%20-c%20work_mem%3D1MB",
    "client_encoding=auto",
    "client_encoding=LATIN1",
    "load_balance_hosts=disable",
    "sslcompression=0&sslsni=1",
    "passfile=/nowhere",
]


@pytest.mark.parametrize("options", TAKEN)
def test_what_psql_takes_is_taken(small: Shop, options: str) -> None:
    dsn = f"{small.dsn}?{options}"
    assert psql_connects(small.server, dsn)
    assert asyncio.run(first_row(dsn)) == b"1,x\n"


REFUSED = {
    "chanel_binding=prefer": "unknown option 'chanel_binding'",
    "search_path=x": "unknown option 'search_path'",
    "statement_timeout=1": "unknown option 'statement_timeout'",
    "sslmode=on": "sslmode=on: expected one of disable, allow, prefer, require, verify-ca, verify-full",
    "target_session_attrs=writable": "target_session_attrs=writable: expected one of any, read-write",
    "connect_timeout=soon": "connect_timeout=soon: expected a whole number",
    "keepalives_idle=": "keepalives_idle=: expected a whole number",
    "sslmode": "cannot be used: expected postgresql://",
    "sslmode=require": "rejected SSL upgrade",
    "sslmode=verify-full&sslrootcert=/no/where.crt": "sslrootcert=/no/where.crt: no such file",
    "target_session_attrs=standby": "None of the hosts match the target attribute requirement",
    "service=nowhere&ssl=yes": "unknown option 'ssl'",
}


@pytest.mark.parametrize("options", REFUSED)
def test_what_psql_refuses_is_one_line(small: Shop, options: str) -> None:
    dsn = f"{small.dsn}?{options}"
    assert not psql_connects(small.server, dsn)
    assert REFUSED[options] in refusal(dsn)


BEYOND = {
    "channel_binding=require": "channel_binding=require: expected one of disable, prefer",
    "require_auth=scram-sha-256": "require_auth: asyncpg does not have this option",
    "hostaddr=127.0.0.1": "hostaddr: asyncpg does not have this option",
}


@pytest.mark.parametrize("options", BEYOND)
def test_a_promise_that_asyncpg_cannot_keep_is_one_line(small: Shop, options: str) -> None:
    """Psql takes these: to take them and do nothing would be weaker than what was asked for."""
    assert BEYOND[options] in refusal(f"{small.dsn}?{options}")


def refusal(dsn: str) -> str:
    with pytest.raises(StartupError) as refused:
        asyncio.run(first_row(dsn))
    line = refused.value.detail
    assert "\n" not in line
    assert PASSWORD not in line
    assert line.startswith("postgresql://127.0.0.1:")
    return line


def test_options_that_a_password_was_spilt_into_are_not_told() -> None:
    """An unquoted question mark in the password makes options of its rest."""
    with pytest.raises(StartupError) as refused:
        asyncio.run(first_row("postgresql://me:se?cr=et@127.0.0.1/db"))
    assert refused.value.detail.startswith("postgresql: cannot be used: expected postgresql://")
    assert "cr" not in refused.value.detail.replace("percent-encoded", "")


def test_the_first_host_that_answers_is_taken(small: Shop, dead_port: int) -> None:
    port = small.server.port
    several = small.dsn.replace(f"127.0.0.1:{port}", f"127.0.0.1:{dead_port},127.0.0.1:{port}")
    several += "?target_session_attrs=read-write&connect_timeout=3"
    assert psql_connects(small.server, several)
    assert asyncio.run(first_row(several)) == b"1,x\n"


def test_a_password_file_and_a_service_are_read(small: Shop, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    passwords = tmp_path / "passwords"
    small.execute("DROP ROLE IF EXISTS plain; CREATE ROLE plain LOGIN PASSWORD 'plain' IN ROLE reader")
    passwords.write_text(f"127.0.0.1:{small.server.port}:*:plain:plain\n")
    passwords.chmod(0o600)
    services = tmp_path / "services"
    services.write_text(f"[shop]\nhost=127.0.0.1\nport={small.server.port}\ndbname=small\nuser=plain\n")
    monkeypatch.setenv("PGSERVICEFILE", str(services))
    for dsn in (
        f"postgresql://plain@127.0.0.1:{small.server.port}/small?passfile={passwords}",
        f"postgresql://?service=shop&passfile={passwords}",
    ):
        assert psql_connects(small.server, dsn)
        assert asyncio.run(first_row(dsn)) == b"1,x\n"


def test_options_reach_the_session_and_its_socket(small: Shop) -> None:
    """But not past what an export sets itself."""
    options = "application_name=nightly&options=-c%20geqo%3Doff%20-c%20timezone%3DAsia/Tokyo"
    options += "&keepalives_idle=30&keepalives_count=3"

    async def main() -> None:
        source = PostgresSource(f"{small.dsn}?{options}")
        datasets = {dataset.name: dataset for dataset in await source.start()}
        settings = dict(await rows(datasets["settings"]))
        assert [settings[name] for name in ("application_name", "geqo", "TimeZone")] == ["nightly", "off", "UTC"]
        async with source._pool.acquire() as connection:  # type: ignore[union-attr]
            kept = socket_of(connection._con)
            assert kept.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 1
            assert kept.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE) == 30
            assert kept.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT) == 3
        await source.close()

    asyncio.run(main())


def test_a_bound_for_connecting_is_that_of_the_dsn() -> None:
    assert read_target("postgresql://db/x?connect_timeout=17", connect_seconds=5).connect_seconds == 17
    assert read_target("postgresql://db/x?connect_timeout=0", connect_seconds=5).connect_seconds == 5


def test_a_plus_is_a_plus() -> None:
    """As libpq reads it; `parse_qs` would make it a blank."""
    assert read_target("postgresql://db/x?password=a+b%2Bc", connect_seconds=5).dsn.endswith("password=a%2Bb%2Bc")


def test_a_port_at_which_nobody_listens_is_one_line() -> None:
    with pytest.raises(StartupError, match="cannot be reached"):
        asyncio.run(first_row(f"postgresql://me@127.0.0.1:{free_port()}/db?connect_timeout=3"))
