"""The real data set has what an export must be tried on, and is the same wherever it is made."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from tests.flights import COLUMNS, REMARKS, ROWS, main


@pytest.fixture
def connection(flights_db: Path) -> Iterator[sqlite3.Connection]:
    """A read-only connection."""
    with closing(sqlite3.connect(f"{flights_db.as_uri()}?mode=ro", uri=True)) as opened:
        yield opened


def count(connection: sqlite3.Connection, condition: str, *values: Any) -> int:
    return int(connection.execute(f"SELECT count(*) FROM flights WHERE {condition}", values).fetchone()[0])


def test_it_has_every_flight_of_the_year(connection: sqlite3.Connection) -> None:
    assert count(connection, "true") == ROWS >= 300_000


def test_its_columns_are_declared_with_their_types(connection: sqlite3.Connection) -> None:
    found = {name: kind for _, name, kind, *_ in connection.execute("PRAGMA table_info(flights)")}
    assert found == COLUMNS
    assert len(found) >= 15


def test_numbers_are_stored_as_numbers_and_missing_ones_as_null(connection: sqlite3.Connection) -> None:
    (types,) = connection.execute("SELECT group_concat(DISTINCT typeof(dep_time)) FROM flights")
    assert sorted(types[0].split(",")) == ["integer", "null"]
    assert count(connection, "dep_time IS NULL") == 8255
    assert count(connection, "dep_delay < 0") > 100_000
    assert count(connection, "'NA' IN (dep_time, arr_time, tailnum, air_time)") == 0


def test_names_are_joined_on_and_null_where_there_is_none(connection: sqlite3.Connection) -> None:
    first = "SELECT airline, origin_name, dest_name FROM flights WHERE rowid = 1"
    names = ("United Air Lines Inc.", "Newark Liberty Intl", "George Bush Intercontinental")
    assert connection.execute(first).fetchone() == names
    assert count(connection, "dest_name IS NULL AND dest IN ('BQN', 'PSE', 'SJU', 'STT')") == 7602
    assert count(connection, "dest_name IS NULL OR airline IS NULL") == 7602


@pytest.mark.parametrize("text", ['"', ",", "\n", "\r\n", "ä", "東", "✈"], ids=ascii)
def test_thousands_of_remarks_hold_what_csv_must_quote_or_encode(connection: sqlite3.Connection, text: str) -> None:
    assert count(connection, "instr(remark, ?)", text) > 5000


def test_empty_text_and_null_are_both_there(connection: sqlite3.Connection) -> None:
    assert count(connection, "remark = ''") > 5000
    assert count(connection, "remark IS NULL") > 200_000
    assert count(connection, "remark IS NOT NULL") == -(-ROWS // 5)
    assert {text for (text,) in connection.execute("SELECT DISTINCT remark FROM flights")} == {None, *REMARKS}


@pytest.mark.slow
def test_making_it_again_gives_the_same_rows(flights_db: Path, tmp_path: Path) -> None:
    again = tmp_path / "again.db"
    with closing(sqlite3.connect(again)) as connection:
        connection.execute("CREATE TABLE flights (of_an_earlier_one TEXT)")
    assert main([str(again)]) == 0
    with closing(sqlite3.connect(again)) as connection:
        connection.execute("ATTACH ? AS first", (str(flights_db),))
        joined = "flights AS a JOIN first.flights AS b ON a.rowid = b.rowid"
        same = " AND ".join(f'a."{name}" IS b."{name}"' for name in COLUMNS)
        assert connection.execute(f"SELECT count(*) FROM {joined} WHERE {same}").fetchone() == (ROWS,)


def test_without_a_path_it_says_how_to_call_it(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 2
    assert capsys.readouterr().err == "usage: python -m tests.flights flights.db\n"
