"""The kinds of columns of CSV files, by which they are filtered; the values stay the text that they are."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from asgi_export import FileSource
from asgi_export.errors import StartupError
from asgi_export.table import Dataset

FILE = (
    "n,money,zip,flag,day,clock,moment,mixed,word,empty\n"
    "1,-1.50,007,true,2026-01-31,13:45,2026-01-31T13:45:00Z,1,a,\n"
    '20,1e3,10115,false,2026-02-01,13:45:00.5,2026-01-31 13:45+01:00,x,"",\n'
)


def start(location: str) -> Dataset:
    (found,) = asyncio.run(FileSource(location).start())
    return found


def kinds(location: str) -> dict[str, str]:
    return {column.name: column.kind for column in start(location).columns}


def test_a_column_is_of_a_kind_if_all_values_of_the_sample_have_its_form(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text(FILE)
    assert kinds(str(tmp_path / "a.csv")) == {
        "n": "number",
        "money": "number",
        "zip": "text",
        "flag": "boolean",
        "day": "date",
        "clock": "time",
        "moment": "timestamp",
        "mixed": "text",
        "word": "text",
        "empty": "text",
    }


def test_the_operator_may_name_kinds(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text(FILE)
    found = kinds(f"{tmp_path / 'a.csv'}?kinds=n:text,empty:number")
    assert (found["n"], found["empty"], found["money"]) == ("text", "number", "number")


@pytest.mark.parametrize(
    ("option", "said"),
    [
        ("kinds=x:text", "there is no such column"),
        ("kinds=n:int", "expected COLUMN:KIND"),
        ("kinds=n", "COLUMN:KIND"),
    ],
)
def test_a_kind_that_cannot_be_stops_the_start(tmp_path: Path, option: str, said: str) -> None:
    (tmp_path / "a.csv").write_text(FILE)
    with pytest.raises(StartupError, match=said):
        start(f"{tmp_path / 'a.csv'}?{option}")


def test_files_that_differ_have_text_in_common(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("n,m\n1,\n")
    (tmp_path / "b.csv").write_text("n,m\nx,2\n")
    assert kinds(str(tmp_path)) == {"n": "text", "m": "number"}
