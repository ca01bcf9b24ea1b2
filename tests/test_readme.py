"""README, CONTRIBUTING and docs are true: their commands, their output, their programs, their tables, their links."""

from __future__ import annotations

import configparser
import re
import shlex
import sqlite3
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import pytest

import asgi_export
from asgi_export import errors
from asgi_export.access.key_file import KeyFile
from asgi_export.cli import parser
from asgi_export.export.parameters import PARAMETERS, Parameter
from asgi_export.formats import FORMATS
from asgi_export.settings import TABLE, Setting, Settings, load_settings
from tests.conformance.servers import ROOT, Server, running

PAGES = {
    path.relative_to(ROOT).as_posix(): path.read_text(encoding="utf-8")
    for path in (ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md")))
}
ERRORS = [found for found in vars(errors).values() if isinstance(found, type) and found.__dict__.get("status")]


@dataclass(frozen=True, slots=True)
class Block:
    """A fenced block of a page."""

    page: str
    language: str
    text: str


BLOCKS = [
    Block(page, *found)
    for page, text in PAGES.items()
    for found in re.findall(r"^```(\w*)\n(.*?)^```$", text, re.M | re.S)
]


def blocks(*languages: str) -> list[Block]:
    return [block for block in BLOCKS if block.language in languages]


def page_of(block: Block) -> str:
    return block.page


def rows_of_tables() -> set[tuple[str, ...]]:
    return {
        tuple(cell.strip() for cell in line.strip("|").split(" | "))
        for text in PAGES.values()
        for line in text.splitlines()
        if line.startswith("| ")
    }


def test_every_block_is_of_a_language_that_is_tested() -> None:
    """`nginx` is tested by `conformance/test_behind_nginx.py`, with a real nginx."""
    tested = {"sh", "console", "python", "toml", "ini", "nginx", "text"}
    assert {block.language for block in BLOCKS} == tested
    assert all(text.count("```") % 2 == 0 for text in PAGES.values())


def make_files(folder: Path) -> None:
    """Write what the pages serve: two tables, and a file."""
    with closing(sqlite3.connect(folder / "shop.db")) as connection:
        connection.executescript(
            "CREATE TABLE customers (id INTEGER, name TEXT); INSERT INTO customers VALUES (1, '=1+1');"
            "CREATE TABLE orders (id INTEGER, total NUMERIC, note TEXT); INSERT INTO orders VALUES (1, 9.5, 'x');"
        )
    (folder / "people.csv").write_text("id,name\n1,Ada\n", encoding="utf-8")


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """What the curl lines ask for: a first table, and `orders` with its columns."""
    folder = tmp_path_factory.mktemp("readme")
    make_files(folder)
    with running(["asgi_export", "serve", str(folder / "shop.db"), "--port", "0"], folder / "output") as server:
        yield server


@pytest.fixture(scope="module")
def bounded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Generated rows; an export has 5,000 of them at most."""
    output = tmp_path_factory.mktemp("readme") / "output"
    with running(["asgi_export", "serve", "--port", "0"], output, environ={"ASGI_EXPORT_MAX_ROWS": "5000"}) as server:
        yield server


SHELL_LINES = [(block.page, line) for block in blocks("sh") for line in block.text.splitlines()]
CURL_LINES = [(page, line) for page, line in SHELL_LINES if line.startswith("curl")]


@pytest.mark.parametrize(("page", "line"), CURL_LINES)
def test_every_curl_line_works(served: Server, tmp_path: Path, page: str, line: str) -> None:
    command = line.replace("localhost:3000", f"127.0.0.1:{served.port}")
    result = subprocess.run(command, shell=True, cwd=tmp_path, capture_output=True, timeout=30, check=True)
    downloaded = [path.read_bytes() for path in tmp_path.iterdir()]
    assert result.stdout or downloaded[0]


@pytest.mark.parametrize("block", blocks("console"), ids=page_of)
def test_every_session_prints_what_the_page_says(bounded: Server, tmp_path: Path, block: Block) -> None:
    """An ellipsis stands for what differs from run to run, and curl words its errors as it likes."""
    for command, expected in re.findall(r"^\$ (.*)\n((?:(?!\$ ).*\n)*)", block.text, re.M):
        result = subprocess.run(
            command.replace("localhost:3000", f"127.0.0.1:{bounded.port}"),
            shell=True,
            cwd=tmp_path,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=30,
            check=False,
        )
        pattern = re.sub(r"(curl: \(\d+\)) .*", r"\1 …", expected)
        assert re.fullmatch(".*".join(map(re.escape, pattern.split("…"))), result.stdout.rstrip("\n") + "\n")


COMMANDS = [
    (page, command)
    for page, text in PAGES.items()
    for command in re.findall(
        r"(?:^|/|&& |`)asgi-export (serve\b[^#`\n]*|key [^>#`\n]*)|^ExecStart=\S*asgi-export (.*)", text, re.M
    )
]


@pytest.mark.parametrize(("page", "command"), [(page, "".join(found)) for page, found in COMMANDS])
def test_every_command_is_one(page: str, command: str) -> None:
    assert callable(parser().parse_args(shlex.split(command.replace("…", "FILE"))).run)


def test_there_are_commands_and_curl_lines() -> None:
    assert len(COMMANDS) > 8
    assert len(CURL_LINES) == 9


def development_commands() -> dict[str, str]:
    """The commands of a checkout, without those that only make the environment, and their pages."""
    lines = [
        (page, line) for page, line in SHELL_LINES if line.startswith((".venv", "python3")) and "serve" not in line
    ]
    return {
        command: page for page, line in lines for command in line.split(" && ") if command != "python3 -m venv .venv"
    }


@pytest.mark.parametrize("command", development_commands())
def test_every_command_of_a_checkout_is_known(command: str) -> None:
    """Continuous integration runs lint and types; the others are asked here as far as that takes a second."""
    words = shlex.split(command)
    if words[1:3] == ["-m", "pytest"]:
        asked = [
            sys.executable,
            *words[1:],
            "--collect-only",
            "-q",
            "-p",
            "no:cacheprovider",
            "-n0",  # the last one counts, and workers that are started are not what is asked
            "tests/test_declared.py",
        ]
        assert subprocess.run(asked, cwd=ROOT, capture_output=True, timeout=60, check=False).returncode == 0
    elif words[1:2] == ["-m"]:
        assert (ROOT / f"{words[2].replace('.', '/')}.py").is_file()
    elif words[1:2] == ["install"]:
        extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
        assert set(re.findall(r"[\w]+", words[-1])) <= set(extras)
    else:
        assert command in (ROOT / ".ci" / "run").read_text().splitlines()


def test_every_line_of_a_shell_block_is_tested() -> None:
    def tested(line: str) -> bool:
        return line.startswith(("curl ", "asgi-export ")) or line.split(" && ", maxsplit=1)[0] in (
            "python3 -m venv .venv",
            *development_commands(),
        )

    assert [line for _, line in SHELL_LINES if not tested(line)] == []


def test_continuous_integration_finds_the_test_command() -> None:
    """One line of the README, which is what CONTRIBUTING says in two."""
    (found,) = re.findall(r"^python3 -m venv .* -m pytest .*$", PAGES["README.md"], re.M)
    ours = [line for page, line in SHELL_LINES if page == "CONTRIBUTING.md"]
    assert found == f"{ours[0]} && {ours[2]}"


BEFORE = """
async def cursor(columns, limit):
    yield tuple({"id": 1, "name": "Ada"}[name] for name in columns)

"""

AFTER = """
import asyncio

async def ask(app, path, query):
    sent = []
    scope = {"type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "method": "GET", "scheme": "http",
             "path": "/api/v1/exports/" + path, "raw_path": b"/api/v1/exports/" + path.encode(), "root_path": "",
             "query_string": query, "headers": [], "state": {},
             "client": ("127.0.0.1", 1), "server": ("127.0.0.1", 80)}

    async def receive():
        await asyncio.Event().wait()

    async def send(message):
        sent.append(message)

    await app(scope, receive, send)
    return b"".join(message.get("body", b"") for message in sent)

assert asyncio.run(ask(api, "csv", b"columns=name,id")) == b"name,id\\nAda,1\\n"
"""

ASKED = """
own = ExportApp([rows_of_prices, people_in_memory])
assert asyncio.run(ask(own, "csv", b"columns=price,id&total=2")) == b"price,id\\n9.50,0\\n9.50,1\\n"
assert asyncio.run(ask(own, "people_in_memory.csv", b"columns=name")) == b"name\\nAda\\nGrace\\nJean\\n"
assert asyncio.run(ask(exports, "csv", b"")).startswith(b'{"type": "about:blank", "title": "Unauthorized"')
"""

PROGRAMS = {"README.md": AFTER, "docs/python.md": AFTER + ASKED}


WHOLE_PROGRAMS = "docs/logins.md"
"""Each of its blocks is a program; `test_logins.py` runs them."""


@pytest.mark.parametrize("page", sorted({block.page for block in blocks("python")} - {WHOLE_PROGRAMS}))
def test_the_examples_are_a_program(tmp_path: Path, page: str) -> None:
    """With a cursor to read from and files to serve, one after the other, as they stand."""
    make_files(tmp_path)
    examples = "\n".join([block.text for block in blocks("python") if block.page == page])
    (tmp_path / "example.py").write_text(BEFORE + examples + PROGRAMS[page], encoding="utf-8")
    result = subprocess.run(
        [sys.executable, "example.py"], cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False
    )
    assert result.returncode == 0, result.stderr


@pytest.mark.parametrize("name", asgi_export.__all__)
def test_every_public_name_is_on_the_page_of_python(name: str) -> None:
    assert any(f"`{name}`" in row[0] for row in rows_of_tables())


@pytest.mark.parametrize("block", blocks("toml"), ids=page_of)
def test_every_file_of_settings_or_keys_is_read(tmp_path: Path, block: Block) -> None:
    path = tmp_path / "file.toml"
    path.write_text(block.text, encoding="utf-8")
    if "[plans." in block.text:
        assert len(KeyFile(path).ring()) == 1
    else:
        assert load_settings({"config": str(path)}, {}) != Settings()


@pytest.mark.parametrize("block", blocks("ini"), ids=page_of)
def test_the_unit_of_systemd_sets_variables_that_are_read(block: Block) -> None:
    """Its command is tested with the others."""
    unit = configparser.ConfigParser()
    unit.optionxform = str  # type: ignore[assignment,method-assign]
    unit.read_string(block.text)
    names = {pair.partition("=")[0] for pair in unit["Service"]["Environment"].split()}
    assert names <= {setting.variable for setting in TABLE} | {"FORWARDED_ALLOW_IPS"}
    assert int(unit["Service"]["TimeoutStopSec"]) >= Settings().drain_seconds + 20


def test_the_line_of_the_access_log_is_one(bounded: Server) -> None:
    (block,) = blocks("text")
    request_id = "the-line-of-the-page"
    url = f"{bounded.url}/api/v1/exports/csv?total=1"
    subprocess.run(["curl", "-sSf", "-H", f"X-Request-Id: {request_id}", url], capture_output=True, check=True)
    assert bounded.logged(f"request_id={request_id} ")
    (line,) = bounded.access_lines(request_id)
    names = re.findall(r" (\w+)=", block.text)
    names.remove("owner")  # of a key, which this service does not want
    assert re.findall(r" (\w+)=", line) == names
    assert line.split()[2:4] == block.text.split()[2:4]


def anchors(page: str) -> set[str]:
    """The anchors of headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.*)$", PAGES[page], re.M)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES)
def test_every_link_leads_somewhere(page: str) -> None:
    for target in re.findall(r"\]\(([^)]+)\)", re.sub(r"^```.*?^```$", "", PAGES[page], flags=re.M | re.S)):
        path, _, anchor = target.partition("#")
        found = ((ROOT / page).parent / path).resolve() if path else ROOT / page
        assert found.is_file(), target
        assert not anchor or anchor in anchors(found.relative_to(ROOT).as_posix()), target


def test_the_readme_is_short_and_names_every_page() -> None:
    readme = PAGES["README.md"]
    assert len(readme.splitlines()) <= 140
    assert [page for page in PAGES if page != "README.md" and f"({page})" not in readme] == []


@pytest.mark.parametrize("parameter", PARAMETERS, ids=lambda parameter: parameter.name)
def test_every_parameter_is_in_the_table(parameter: Parameter) -> None:
    assert any(row[0] == f"`{parameter.name}`" for row in rows_of_tables())


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: error.__name__)
def test_every_status_is_in_the_table(error: type[errors.ExportError]) -> None:
    assert any((row[0], row[-1].strip("` |")) == (str(error.status), error.error) for row in rows_of_tables())


@pytest.mark.parametrize("name", FORMATS)
def test_every_format_is_in_the_table_with_its_media_type(name: str) -> None:
    assert any(row[:2] == (f"`{name}`", f"`{FORMATS[name].media_type}`") for row in rows_of_tables())


@pytest.mark.parametrize("setting", TABLE, ids=lambda setting: setting.name)
def test_every_setting_is_in_the_table_with_its_default(setting: Setting) -> None:
    name, variable = setting.name, setting.variable
    flag = f"`--{name.replace('_', '-')}`" if setting.flag else f"`{name}`"
    (row,) = [row for row in rows_of_tables() if len(row) > 2 and f"`{variable}`" in row[1]]
    assert flag in row[0]
    default = getattr(Settings(), name)
    if isinstance(default, int | float) and not isinstance(default, bool) and default:
        assert f"{default:g}".replace("e+05", "00000") in row[2].replace("`", "") or str(default) in row[2]
