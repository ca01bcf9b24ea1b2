"""Parse locations, and make the sources that serve them."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from asgi_export.addresses import redacted
from asgi_export.errors import StartupError
from asgi_export.export.queries import QuerySetting
from asgi_export.sources.files.location import is_file_location
from asgi_export.sources.files.source import FileSource
from asgi_export.sources.postgres.source import STATEMENT_SECONDS, PostgresSource
from asgi_export.sources.simulated import SimulatedDataset
from asgi_export.sources.sqlite.source import SqliteSource
from asgi_export.table import Column, Cursor, Dataset, Query, Selection, Source, query_of

_NAMED = re.compile(r"([^=:/\\?]+)=(.+)", re.DOTALL)
_FILE_URL = re.compile(r"file:(?://(?:localhost)?(?=/)|(?!//))(/[^?]*)(\?.*)?", re.DOTALL | re.IGNORECASE)
"""RFC 8089 §2"""

_SQLITE_URL = re.compile(r"sqlite:///([^?]+)", re.DOTALL | re.IGNORECASE)
SQLITE_SUFFIXES = (".db", ".db3", ".sqlite", ".sqlite3")
POSTGRES_SCHEMES = ("postgresql://", "postgres://")
EXPECTED = f"a SQLite file ({', '.join(SQLITE_SUFFIXES)}), a Parquet, Arrow, CSV, TSV or JSON lines file, or postgresql://USER@HOST/DB"
SQLITE_MAGIC = b"SQLite format 3\0"


def open_locations(
    locations: Sequence[str],
    *,
    queries: Sequence[QuerySetting] = (),
    max_seconds: float = STATEMENT_SECONDS,
    role_claim: str = "",
) -> list[Source | Dataset]:
    """Make one source a location, not started yet; `simulated` without locations. Raises `StartupError`.

    `max_seconds` bounds a statement in a database server, `role_claim` names the claim with a caller's role there.
    Each query becomes a dataset of the location that it names.
    """
    left = list(queries)
    sources = []
    for text in locations:
        own = [found for found in left if _is_source_of(found, text, alone=len(locations) == 1)]
        left = [found for found in left if found not in own]
        own_queries = [found.query for found in own]
        sources.append(open_location(text, queries=own_queries, max_seconds=max_seconds, role_claim=role_claim))
    for found in left:
        raise StartupError(f"queries.{found.query.name}: source={found.source!r}: expected the NAME of a location")
    return sources or [SimulatedDataset()]


def _is_source_of(found: QuerySetting, text: str, *, alone: bool) -> bool:
    """Whether a query runs in this location: by its NAME, else that of the file or the database."""
    if not found.source:
        return alone
    name, location = _split_name(text)
    if name:
        return found.source == name
    file = Path(location.partition("?")[0]).name
    return found.source in (file, Path(file).stem)


def _split_name(text: str) -> tuple[str, str]:
    match = _NAMED.fullmatch(text)
    if match and not os.path.exists(text):  # Path.exists raises where it may not look
        return match[1], match[2]
    return "", text


def open_location(
    text: str, *, queries: Sequence[Query] = (), max_seconds: float = STATEMENT_SECONDS, role_claim: str = ""
) -> Source | Dataset:
    """Make the source of ``NAME=LOCATION`` or of a location alone. Raises `StartupError`: which, why, what to do."""
    name, location = _split_name(text)
    if location == "simulated":
        _expect_no_queries(queries, location)
        return SimulatedDataset(name or "simulated")
    location = _without_scheme(location)
    if "\0" in location:
        raise StartupError(f"{redacted(location)}: no such file; expected a name without NUL")
    if location.startswith(POSTGRES_SCHEMES):
        database = PostgresSource(location, queries=queries, statement_seconds=max_seconds, role_claim=role_claim)
        return Prefixed(database, name) if name else database
    source = _database(location, queries, written=text)
    if source is None:
        _expect_no_queries(queries, location)
        return FileSource(location, name=name or None)
    return Prefixed(source, name) if name else source


def _expect_no_queries(queries: Sequence[Query], location: str) -> None:
    for query in queries:
        raise StartupError(
            f"queries.{query.name}: {redacted(location)} runs no queries; expected SQLite or PostgreSQL"
        )


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


def _database(location: str, queries: Sequence[Query], *, written: str) -> Source | None:
    """Make the source of a file that is a database; None for a file of rows."""
    path = Path(location)
    if path.suffix.lower() in SQLITE_SUFFIXES or _is_sqlite(path):
        return SqliteSource(path, queries=queries)
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

    def __getattr__(self, name: str) -> Any:
        """Return what only some datasets have, such as what they apply of a selection themselves."""
        return getattr(self.dataset, name)

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
    """A source whose tables are called ``PREFIX.NAME``, so that two may hold the same; queries keep their names."""

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
        names = [found.name if query_of(found) else f"{self.prefix}.{found.name}" for found in datasets]
        return [RenamedDataset(name, found) for name, found in zip(names, datasets, strict=True)]
