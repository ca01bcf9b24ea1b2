"""A bucket that is not named, that refuses, or that never answers stops the start with one line."""

from __future__ import annotations

import os
import re
import socket
import subprocess
import sys
from collections.abc import Iterator
from urllib.parse import quote

import pytest

from asgi_export.errors import StartupError
from asgi_export.sources.files import object_store
from tests.sources.test_files import started

CLOSED = quote("http://127.0.0.1:9", safe="")


@pytest.mark.parametrize(
    "location", ["s3://", "s3:///x.csv", "gs://", "gs://?x=y", "abfs://", "s3://me:secret@/x.csv"]
)
def test_a_location_without_a_bucket_is_refused_at_once(location: str) -> None:
    with pytest.raises(StartupError, match="names no bucket") as raised:
        started(location)
    assert "secret" not in str(raised.value)


@pytest.fixture
def silent() -> Iterator[str]:
    """A server that takes connections and says nothing."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        yield quote(f"http://127.0.0.1:{listening.getsockname()[1]}", safe="")


def test_a_store_that_says_nothing_is_given_up(silent: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(object_store, "ANSWER_SECONDS", 0.2)
    location = f"s3://me:secret@lake/x.csv?region=us-east-1&endpoint_override={silent}"
    with pytest.raises(StartupError, match=r"^s3://lake/x.csv: no answer within 0.2 seconds") as raised:
        started(location)
    assert "secret" not in str(raised.value)


def test_the_process_ends_with_one_line_while_the_store_is_still_being_asked(silent: str) -> None:
    command = [sys.executable, "-m", "asgi_export", "serve", f"s3://lake/x.csv?endpoint_override={silent}&region=x"]
    result = subprocess.run(
        command,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env={**os.environ, "AWS_ACCESS_KEY_ID": "x", "AWS_SECRET_ACCESS_KEY": "y"},
    )
    assert result.returncode == 2
    assert re.fullmatch(r"asgi-export: s3://lake/x.csv: .*\n", result.stderr)


def test_options_of_files_and_of_the_store_stand_in_one_query() -> None:
    with pytest.raises(StartupError, match=r"^s3://lake/x.csv: Unexpected query parameter"):
        started("s3://lake/x.csv?region=us-east-1&delimiter=;&nonsense=x")
