"""`filename=` that would write elsewhere, to a device, or under a name that is not what it seems."""

from __future__ import annotations

import asyncio
import re
import subprocess
from pathlib import Path, PurePosixPath, PureWindowsPath
from unicodedata import category
from urllib.parse import quote, unquote

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from asgi_export import ExportApp, SimulatedDataset
from asgi_export.asgi.disposition import safe_filename
from tests.conformance.conftest import command
from tests.conformance.servers import running
from tests.doubles import Client
from tests.field.programs import program
from tests.ports import free_port

DEVICES = ["CON", "con", "NUL.csv", "aux.tar.gz", "Com1", "LPT9.csv", "COM¹", "lpt³.x", "CONIN$", "prn .csv"]


def offered(filename: str) -> tuple[str, str]:
    """Both forms of the name in the head; the same where there is but one."""
    client = Client()
    asyncio.run(client.ask(ExportApp([SimulatedDataset()]), f"total=0&filename={quote(filename, safe='')}"))
    assert client.status == 200
    found = re.fullmatch(
        r"attachment; filename=\"([^\"]*)\"(?:; filename\*=UTF-8''(.*))?",
        client.headers[b"content-disposition"].decode("ascii"),
    )
    assert found
    return found[1], unquote(found[2]) if found[2] else found[1]


def is_safe(name: str) -> bool:
    hidden = name.startswith(".")
    paths = PurePosixPath(name).name == name and PureWindowsPath(name).name == name
    return bool(name) and paths and not hidden and not PureWindowsPath(name).is_reserved()


@pytest.mark.parametrize(
    ("filename", "plain", "extended"),
    [
        ("../../x", "_._.._x", "_._.._x"),
        ("..\\..\\x", "_._.._x", "_._.._x"),
        ("/etc/passwd", "_etc_passwd", "_etc_passwd"),
        ("C:\\x.csv", "C__x.csv", "C__x.csv"),
        ("x.csv:stream", "x.csv_stream", "x.csv_stream"),
        ("..", "__", "__"),
        (".bashrc", "_bashrc", "_bashrc"),
        ("x.exe. .", "x.exe___", "x.exe___"),
        ("vsc.\u202eexe", "vsc._exe", "vsc._exe"),
        ("größe/\u2067x.csv", "gr__e__x.csv", "größe__x.csv"),
        ("a\u2028b\u0085c\x7f\0d", "a_b_c__d", "a_b_c__d"),
        ("\ufeffx.csv", "_x.csv", "_x.csv"),
        ('50 % "off".csv', "50 _ _off_.csv", '50 % "off".csv'),
        ("👩\u200d👧.csv", "___.csv", "👩\u200d👧.csv"),
        ("می\u200cخواهم.csv", "________.csv", "می\u200cخواهم.csv"),
        ("2026-11-25 (1) & more, [final] = ok.csv", "2026-11-25 (1) & more, [final] = ok.csv", None),
    ],
)
def test_both_forms_are_made_safe_alike(filename: str, plain: str, extended: str | None) -> None:
    assert offered(filename) == (plain, extended or plain)


@pytest.mark.parametrize("filename", DEVICES)
def test_a_device_of_windows_is_no_file(filename: str) -> None:
    assert safe_filename(filename) == f"_{filename}"
    assert offered(filename)[1] == f"_{filename}"


@pytest.mark.parametrize("filename", ["console.csv", "com.csv", "com10.csv", "nul_.csv", "a.nul", "-rf", "~"])
def test_other_names_are_left_alone(filename: str) -> None:
    assert safe_filename(filename) == filename


@given(
    st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=20)
    | st.text(st.sampled_from("./\\: \u202e\u200d\0nulcoNaux1"), min_size=1, max_size=8)
)
@example("nul ")
@example(". .")
def test_any_name_becomes_a_safe_one(filename: str) -> None:
    name = safe_filename(filename)
    assert is_safe(name)
    assert safe_filename(name) == name
    assert len(filename) <= len(name) <= len(filename) + 1
    assert not [
        found for found in name if category(found) in ("Cc", "Zl", "Zp") or found in "\u202e\u2066\u061c\ufeff"
    ]


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        (["curl", "-sfOJ"], "_._.._evil.csv"),
        (["wget", "-q", "--content-disposition"], "_._.._evil.csv"),
        (["aria2c", "-q", "--no-conf"], "_._.._evil.csv"),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else "",
)
def test_real_clients_write_into_the_folder_they_are_in(tmp_path: Path, line: list[str], expected: str) -> None:
    folder, port = tmp_path / "a" / "b", free_port()
    folder.mkdir(parents=True)
    application = command("uvicorn-h11", "asgi_export.service:app", port)
    with running(application, tmp_path / "output", port=port) as server:
        url = f"{server.url}/api/v1/exports/csv?total=1&filename=..%2F..%2Fevil.csv"
        subprocess.run([program(line[0]), *line[1:], url], cwd=folder, check=True, timeout=60)
    assert [file.name for file in folder.iterdir()] == [expected]
    assert sorted(file.name for file in tmp_path.iterdir()) == ["a", "output"]
