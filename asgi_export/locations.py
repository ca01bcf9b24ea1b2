"""Parse locations, and make the sources that serve them."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote

from asgi_export.addresses import redacted
from asgi_export.errors import StartupError
from asgi_export.sources.files.location import is_file_location
from asgi_export.sources.files.source import FileSource
from asgi_export.sources.postgres.source import STATEMENT_SECONDS, PostgresSource
from asgi_export.sources.simulated import SimulatedDataset
from asgi_export.sources.sqlite.source import SqliteSource
from asgi_export.table import Column, Cursor, Dataset, Selection, Source

_NAMED = re.compile(r"([^=:/\\?]+)=(.+)", re.DOTALL)
_FILE_URL = re.compile(r"file:(?://(?:localhost)?(?=/)|(?!//))(/[^?]*)(\?.*)?", re.DOTALL | re.IGNORECASE)
"""RFC 8089 §2"""

_SQLITE_URL = re.compile(r"sqlite:///([^?]+)", re.DOTALL | re.IGNORECASE)
SQLITE_SUFFIXES = (".db", ".db3", ".sqlite", ".sqlite3")
POSTGRES_SCHEMES = ("postgresql://", "postgres://")
EXPECTED = f"a SQLite file ({', '.join(SQLITE_SUFFIXES)}), a Parquet, Arrow, CSV, TSV or JSON lines file, or postgresql://USER@HOST/DB"
SQLITE_MAGIC = b"SQLite format 3\0"


def open_locations(locations: Sequence[str], *, max_seconds: float = STATEMENT_SECONDS) -> list[Source | Dataset]:
    """Make one source a location, not started yet; `simulated` without locations. Raises `StartupError`.

    `max_seconds` bounds a statement in a database server.
    """
    return [open_location(text, max_seconds=max_seconds) for text in locations] or [SimulatedDataset()]


def open_location(text: str, *, max_seconds: float = STATEMENT_SECONDS) -> Source | Dataset:
    """Make the source of ``NAME=LOCATION`` or of a location alone. Raises `StartupError`: which, why, what to do."""
    match = _NAMED.fullmatch(text)
    if match and not os.path.exists(text):  # Path.exists raises where it may not look
        name, location = match.groups()
    else:
        name, location = "", text
    if location == "simulated":
        return SimulatedDataset(name or "simulated")
    location = _without_scheme(location)
    if "\0" in location:
        raise StartupError(f"{redacted(location)}: no such file; expected a name without NUL")
    source = _database(location, max_seconds, written=text)
    if source is None:
        return FileSource(location, name=name or None)
    return Prefixed(source, name) if name else source


def _without_scheme(location: str) -> str:
    """Return the path of a `file` or `sqlite` URL, percent-decoded, with its options; other locations unchanged."""
    scheme = location.partition(":")[0].lower()
    if scheme not in _URL_PATHS or os.path.lexists(location):
        return location
    return _URL_PATHS[scheme](location)


def _file_path(location: str) -> str:
    match = _FILE_URL.fullmatch(location)
    if match is None:
        raise StartupError(f"{redacted(location)}: expected file:///PATH, or a path")
    return unquote(match[1]) + (match[2] or "")


def _sqlite_path(location: str) -> str:
    """Return the relative path, as SQLAlchemy reads it, or the absolute one, as a URL means it, if that exists."""
    match = _SQLITE_URL.fullmatch(location)
    if match is None or match[1] == ":memory:":
        raise StartupError(f"{redacted(location)}: expected sqlite:///FILE, without options")
    path = unquote(match[1])
    path = f"/{path}" if not os.path.exists(path) and os.path.exists(f"/{path}") else path
    if not path.lower().endswith(SQLITE_SUFFIXES) and not _is_sqlite(Path(path)):
        reason = "not a SQLite file" if os.path.exists(path) else "no such file"
        raise StartupError(f"{redacted(path)}: {reason}; expected one")
    return path


_URL_PATHS = {"file": _file_path, "sqlite": _sqlite_path}


def _database(location: str, max_seconds: float, *, written: str) -> Source | None:
    """Make a source of several datasets; None if the location is no database, and so a file of rows."""
    path = Path(location)
    if location.startswith(POSTGRES_SCHEMES):
        return PostgresSource(location, statement_seconds=max_seconds)
    if path.suffix.lower() in SQLITE_SUFFIXES or _is_sqlite(path):
        return SqliteSource(path)
    if is_file_location(location):
        return None
    reason = "not a kind that can be served" if os.path.exists(path) else "no such file"
    raise StartupError(f"{redacted(written)}: {reason}; expected {EXPECTED}")


def _is_sqlite(path: Path) -> bool:
    try:
        if not path.is_file():  # opening a pipe waits for its other end
            return False
        with path.open("rb") as file:
            return file.read(len(SQLITE_MAGIC)) == SQLITE_MAGIC
    except OSError:
        return False


@dataclass(frozen=True, slots=True)
class RenamedDataset:
    """A dataset under another name."""

    name: str
    dataset: Dataset

    @property
    def columns(self) -> Sequence[Column]:
        return self.dataset.columns

    @property
    def default_limit(self) -> int | None:
        return self.dataset.default_limit

    def open(self, selection: Selection) -> Cursor:
        return self.dataset.open(selection)


@dataclass(frozen=True, slots=True)
class Prefixed:
    """A source whose datasets are called ``PREFIX.NAME``, so that two files may hold the same table."""

    source: Source
    prefix: str

    @property
    def name(self) -> str:
        return self.prefix

    async def start(self) -> Sequence[Dataset]:
        return self._renamed(await self.source.start())

    async def refresh(self) -> Sequence[Dataset] | None:
        found = await self.source.refresh()
        return None if found is None else self._renamed(found)

    async def check(self) -> None:
        await self.source.check()

    async def close(self) -> None:
        await self.source.close()

    def _renamed(self, datasets: Sequence[Dataset]) -> Sequence[Dataset]:
        return [RenamedDataset(f"{self.prefix}.{found.name}", found) for found in datasets]
