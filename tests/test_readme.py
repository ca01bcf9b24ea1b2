"""The README is true: its commands, its tables, its example."""

from __future__ import annotations

import ast
import re
import shlex
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from asgi_export import errors
from asgi_export.cli import parser
from asgi_export.export.parameters import PARAMETERS, Parameter
from asgi_export.formats import FORMATS
from asgi_export.settings import TABLE, Setting, Settings
from tests.conformance.servers import ROOT, Server, running

README = (ROOT / "README.md").read_text(encoding="utf-8")
ERRORS = [found for found in vars(errors).values() if isinstance(found, type) and found.__dict__.get("status")]


def block(language: str, containing: str) -> str:
    """The one fenced block of that language with that text in it."""
    found = [text for text in re.findall(rf"```{language}\n(.*?)```", README, re.DOTALL) if containing in text]
    assert len(found) == 1, f"{len(found)} blocks have {containing!r}"
    return str(found[0])


def rows_of_tables() -> set[tuple[str, ...]]:
    return {
        tuple(cell.strip() for cell in line.strip("|").split(" | "))
        for line in README.splitlines()
        if line.startswith("| ")
    }


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """What the README's curl lines ask for: a first table, and `orders` with its columns."""
    folder = tmp_path_factory.mktemp("readme")
    with closing(sqlite3.connect(folder / "shop.db")) as connection:
        connection.executescript(
            "CREATE TABLE customers (id INTEGER, name TEXT); INSERT INTO customers VALUES (1, '=1+1');"
            "CREATE TABLE orders (id INTEGER, total NUMERIC, note TEXT); INSERT INTO orders VALUES (1, 9.5, 'x');"
        )
    with running(["asgi_export", "serve", str(folder / "shop.db"), "--port", "0"], folder / "output") as server:
        yield server


CURL_LINES = block("sh", "--remote-header-name").strip().splitlines()


@pytest.mark.parametrize("line", CURL_LINES, ids=range(len(CURL_LINES)))
def test_every_curl_line_works(served: Server, tmp_path: Path, line: str) -> None:
    command = line.replace("localhost:3000", f"127.0.0.1:{served.port}")
    result = subprocess.run(command, shell=True, cwd=tmp_path, capture_output=True, timeout=30, check=True)
    downloaded = [path.read_bytes() for path in tmp_path.iterdir()]
    assert result.stdout or downloaded[0]


COMMANDS = re.findall(r"(?:^|/|&& )asgi-export (serve\b[^#`\n]*|key\b[^>#`\n]*)", README, re.MULTILINE)


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_is_one(command: str) -> None:
    assert callable(parser().parse_args(shlex.split(command)).run)


def test_there_are_commands_and_curl_lines() -> None:
    assert len(COMMANDS) > 4
    assert len(CURL_LINES) == 5


def test_the_example_is_a_program(tmp_path: Path) -> None:
    """With a cursor to read from and a file to serve, as it stands."""
    example = block("python", "api.mount")
    ast.parse(example)
    with closing(sqlite3.connect(tmp_path / "shop.db")) as connection:
        connection.execute("CREATE TABLE orders (id INTEGER)")
    asking = """
import asyncio

async def cursor(columns, limit):
    yield tuple({"id": 1, "name": "Ada"}[name] for name in columns)

async def ask():
    sent = []
    scope = {"type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "method": "GET", "scheme": "http",
             "path": "/api/v1/exports/csv", "raw_path": b"/api/v1/exports/csv", "query_string": b"columns=name,id",
             "root_path": "", "headers": [], "client": ("127.0.0.1", 1), "server": ("127.0.0.1", 80)}

    async def receive():
        await asyncio.Event().wait()

    async def send(message):
        sent.append(message)

    await api(scope, receive, send)
    return b"".join(message.get("body", b"") for message in sent)

assert asyncio.run(ask()) == b"name,id\\nAda,1\\n"
"""
    (tmp_path / "example.py").write_text(example + asking)
    result = subprocess.run(
        [sys.executable, "example.py"], cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False
    )
    assert result.returncode == 0, result.stderr


@pytest.mark.parametrize("parameter", PARAMETERS, ids=lambda parameter: parameter.name)
def test_every_parameter_is_in_the_table(parameter: Parameter) -> None:
    assert any(row[0] == f"`{parameter.name}`" for row in rows_of_tables())


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: error.__name__)
def test_every_status_is_in_the_table(error: type[errors.ExportError]) -> None:
    assert any((row[0], row[-1].strip("` |")) == (str(error.status), error.error) for row in rows_of_tables())


@pytest.mark.parametrize("name", ["csv", "tsv", "ndjson", "parquet", "arrow"])
def test_every_format_is_in_the_table_with_its_media_type(name: str) -> None:
    assert any(row[:2] == (f"`{name}`", f"`{FORMATS[name].media_type}`") for row in rows_of_tables())


@pytest.mark.parametrize("setting", TABLE, ids=lambda setting: setting.name)
def test_every_setting_is_in_the_table_with_its_default(setting: Setting) -> None:
    name, variable = setting.name, setting.variable
    flag = f"`--{name.replace('_', '-')}`" if setting.flag else f"`{name}`"
    (row,) = [row for row in rows_of_tables() if f"`{variable}`" in row[1]]
    assert flag in row[0]
    default = getattr(Settings(), name)
    if isinstance(default, int | float) and not isinstance(default, bool) and default:
        assert f"{default:g}".replace("e+05", "00000") in row[2].replace("`", "") or str(default) in row[2]
