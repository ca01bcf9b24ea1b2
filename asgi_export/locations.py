"""From a location, as a user writes it, to the source that serves it."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from asgi_export.errors import StartupError
from asgi_export.sources.files.location import is_file_location
from asgi_export.sources.files.source import FileSource
from asgi_export.sources.postgres.source import PostgresSource
from asgi_export.sources.simulated import SimulatedDataset
from asgi_export.sources.sqlite.source import SqliteSource
from asgi_export.table import Column, Cursor, Dataset, Selection, Source

_NAMED = re.compile(r"([^=:/\\]+)=(.+)", re.DOTALL)
_CREDENTIALS = re.compile(r"//.*@", re.DOTALL)
SQLITE_SUFFIXES = (".db", ".db3", ".sqlite", ".sqlite3")
POSTGRES_SCHEMES = ("postgresql://", "postgres://")
EXPECTED = f"a SQLite file ({', '.join(SQLITE_SUFFIXES)}), a Parquet, CSV or Arrow file, or postgresql://USER@HOST/DB"
MAX_SECONDS = 3600.0
SQLITE_MAGIC = b"SQLite format 3\0"


def open_locations(locations: Sequence[str], *, max_seconds: float = MAX_SECONDS) -> list[Source | Dataset]:
    """One source a location, not yet started; `simulated` where there is none. Raises `StartupError`.

    `max_seconds` bounds a statement in a database server.
    """
    return [open_location(text, max_seconds=max_seconds) for text in locations] or [SimulatedDataset()]


def open_location(text: str, *, max_seconds: float = MAX_SECONDS) -> Source | Dataset:
    """The source of ``NAME=LOCATION`` or of a location alone. Raises `StartupError`: which, why, what to do."""
    if "\0" in text:
        raise StartupError(f"{text!r}: no such file; expected a name without NUL")
    match = _NAMED.fullmatch(text)
    if match and not os.path.exists(text):  # Path.exists raises where it may not look
        name, location = match.groups()
    else:
        name, location = "", text
    if location == "simulated":
        return SimulatedDataset(name or "simulated")
    source = _database(location, max_seconds)
    if source is None:
        return FileSource(location, name=name or None)
    return Prefixed(source, name) if name else source


def _database(location: str, max_seconds: float) -> Source | None:
    """A source of several datasets; None where the location is no database, and so a file of rows."""
    path = Path(location)
    if location.startswith(POSTGRES_SCHEMES):
        return PostgresSource(location, statement_seconds=max_seconds)
    if path.suffix.lower() in SQLITE_SUFFIXES or _is_sqlite(path):
        return SqliteSource(path)
    if is_file_location(location):
        return None
    reason = "not a kind that can be served" if os.path.exists(path) else "no such file"
    raise StartupError(f"{_CREDENTIALS.sub('//…@', location)}: {reason}; expected {EXPECTED}")


def _is_sqlite(path: Path) -> bool:
    try:
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
        return [RenamedDataset(f"{self.prefix}.{found.name}", found) for found in await self.source.start()]

    async def check(self) -> None:
        await self.source.check()

    async def close(self) -> None:
        await self.source.close()
