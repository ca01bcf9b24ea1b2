"""What an operator may write by mistake: one line that says so and exit code 2, never a traceback or a hang."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from typing import Any

import pytest

from asgi_export.access.key_file import KeyFile
from asgi_export.cli import look, main
from asgi_export.errors import StartupError
from asgi_export.limiter.redis_store import RedisStore
from asgi_export.locations import open_location
from asgi_export.serving.listening import bind
from asgi_export.settings import Settings, load_settings

REDIS = [
    ("rediss://h/0?ssl_cert_reqs=CERT_NONE", "option ssl_cert_reqs: expected none, optional or required"),
    ("redis://h?nope=1", "unknown option nope; expected "),
    ("redis://h?connection_class=x", "unknown option connection_class"),
    ("redis://h?maint_notifications_config=x", "unknown option maint_notifications_config"),
    ("redis://h?decode_responses=true", "unknown option decode_responses"),
    ("redis://h?ssl_cert_reqs=none", "unknown option ssl_cert_reqs"),
    ("redis://h?socket_timeout=nan", "option socket_timeout: expected a number of seconds"),
    ("redis://h?max_connections=0", "option max_connections: expected a whole number from 1"),
    ("redis://h?client_name=a%20b", "option client_name: expected a name without blanks"),
    ("rediss://h?ssl_ca_certs=/nope", "TLS: No such file"),
    ("rediss://h?ssl_ciphers=nope", "TLS: "),
    ("rediss://h?ssl_min_version=5", "TLS: "),
    ("redis://h/abc", "the database: expected a whole number from 0"),
    ("redis://h/1/2", "the database: expected a whole number from 0"),
    ("redis://a..b/0", "expected redis://HOST:PORT/DB"),
    ("redis://h%00", "expected redis://HOST:PORT/DB"),
    ("unix:///run/%00", "expected redis://HOST:PORT/DB"),
    ("redis://\udce9@h", "expected redis://HOST:PORT/DB"),
    ("redis+sentinel://h/s/-1", "expected redis://HOST:PORT/DB"),
    ("redis+sentinel://h/s?nope=1", "unknown option nope"),
    ("redis+sentinel://a..b/s", "expected redis://HOST:PORT/DB"),
]


@pytest.mark.parametrize(("url", "words"), REDIS, ids=[ascii(url) for url, _ in REDIS])
def test_an_address_of_redis_that_cannot_be_meant_stops_the_start(url: str, words: str) -> None:
    with pytest.raises(StartupError) as caught:
        RedisStore(url)
    assert words in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1


@pytest.mark.parametrize(
    "url",
    ["redis://h?s3cret!=1", "redis://:p?s3cret=1@h", "rediss://h?ssl_password=s3cret&x=1"],
)
def test_what_is_wrong_is_told_without_what_may_be_a_password(url: str) -> None:
    with pytest.raises(StartupError) as caught:
        RedisStore(url)
    assert "s3" not in str(caught.value)


@pytest.mark.parametrize("scheme", ["redis+sentinel", "rediss+sentinel"])
def test_sentinels_may_be_named_with_and_without_tls(scheme: str) -> None:
    assert load_settings({"limiter": f"{scheme}://h/s/0"}, {}).limiter.startswith(scheme)


def test_a_login_is_not_repeated_by_the_settings() -> None:
    with pytest.raises(StartupError) as caught:
        load_settings({"limiter": "memcached://me:s3cret@h\n"}, {})
    assert str(caught.value) == r"--limiter=memcached://…@h\n: expected memory or redis://HOST:PORT/DB"


@pytest.mark.parametrize("host", ["a..b", "é" * 300, "x" * 70, "\udce9", "a\0b", "[::1", "no.such.host.invalid"])
def test_a_host_that_is_none_stops_the_start(host: str) -> None:
    with pytest.raises(StartupError, match="cannot listen on "):
        bind(Settings(host=host, port=0))


@pytest.mark.parametrize("text", ["x=" + "[" * 5000, "port=" + "9" * 5000, "x=" + "{a=" * 5000, "port=1\0", "port="])
@pytest.mark.parametrize("read", [lambda path: load_settings({"config": str(path)}, {}), KeyFile])
def test_toml_that_cannot_be_read_stops_the_start(text: str, read: Any, tmp_path: Path) -> None:
    path = tmp_path / "file.toml"
    path.write_text(text)
    with pytest.raises(StartupError, match="not TOML"):
        read(path)


@pytest.mark.parametrize("read", [lambda path: load_settings({"config": str(path)}, {}), KeyFile])
def test_a_path_with_nul_stops_the_start(read: Any) -> None:
    with pytest.raises(StartupError, match="null byte"):
        read(Path("a\0b"))


@pytest.mark.parametrize("folder", ["", "nope", "file"])
def test_a_folder_of_metrics_that_is_not_there_stops_the_start(
    folder: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("PROMETHEUS_MULTIPROC_DIR", str(tmp_path / folder) if folder else "")
    assert main(["serve", "--port", "0"]) == 2
    error = capsys.readouterr().err
    assert error.startswith("asgi-export: PROMETHEUS_MULTIPROC_DIR=")
    assert len(error.splitlines()) == 1


def test_the_folder_does_not_matter_where_no_metrics_are_served(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PROMETHEUS_MULTIPROC_DIR", "/nope")
    assert asyncio.run(look(Settings(metrics=False)))


def test_a_pipe_is_refused_and_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.zzz")
    with pytest.raises(StartupError, match="not a kind that can be served"):
        open_location(str(tmp_path / "pipe.zzz"))
