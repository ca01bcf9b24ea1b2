"""List the files of a place, open one, and detect changes."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any
from urllib.parse import unquote

import pyarrow as pa
from pyarrow import fs

from asgi_export.sources.files.location import GLOB_CHARACTERS, SERVED, is_remote, kind_of

NULL_PARTITION = "__HIVE_DEFAULT_PARTITION__"

Partition = tuple[tuple[str, str | None], ...]


class FileChanged(OSError):
    """A file has changed since it was listed."""


class NotPlainFiles(OSError):
    """A folder of a table format with a log, which decides which rows of its files count."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One listed file: its stamp is size and time of change; `partition` has the values of its folders."""

    path: str
    stamp: tuple[int, int | None]
    partition: Partition = ()

    @property
    def kind(self) -> str:
        """`parquet`, `csv`, `arrow` and the like; empty where the name does not say."""
        return kind_of(self.path)[0]


@dataclass(frozen=True, slots=True)
class Place:
    """A file, or the files that match `patterns` below a folder."""

    filesystem: Any
    base: str
    patterns: tuple[str, ...] = ()

    @property
    def is_local(self) -> bool:
        return isinstance(self.filesystem, fs.LocalFileSystem)

    def exists(self) -> bool:
        """Return whether anything is at its beginning. Raises `OSError` if that cannot be determined."""
        return bool(self.filesystem.get_file_info(self.base).type != fs.FileType.NotFound)

    def entries(self) -> list[Entry]:
        """List the files that exist now, by path. Raises `OSError` if there are none."""
        info = self.filesystem.get_file_info(self.base)
        if info.type == fs.FileType.NotFound:
            raise FileNotFoundError("no such file or folder")
        if info.is_file and not self.patterns:
            return [Entry(info.path, _stamp(info))]
        found = [] if info.is_file else sorted(self._below(), key=lambda entry: entry.path)
        if not found:
            raise FileNotFoundError(f"holds no file that can be served ({SERVED})")
        return found

    def _below(self) -> list[Entry]:
        found: list[Entry] = []
        tables: dict[str, str] = {}
        for info in self.filesystem.get_file_info(fs.FileSelector(self.base, recursive=True)):
            parts = info.path.removeprefix(self.base).strip("/").split("/")
            tables.update(_table_of(parts))
            entry = Entry(info.path, _stamp(info), _partition(parts[:-1]))
            if info.is_file and entry.kind and not _is_hidden(parts) and _matches(parts, self.patterns):
                found.append(entry)
        _expect_plain(self.base, [entry.path.removeprefix(self.base).strip("/") for entry in found], tables)
        return found

    def expect_no_table_around(self) -> None:
        """Raises `NotPlainFiles` for a partition, or Iceberg's folder of data, of a table that has a log."""
        if self.filesystem.get_file_info(self.base).is_file:
            return
        folder = self.base.rstrip("/")
        while "=" in (last := os.path.basename(folder)) or last == "data":
            folder = os.path.dirname(folder)
            tables: dict[str, str] = {}
            for name in TABLE_FORMATS:
                selector = fs.FileSelector(f"{folder}/{name}", allow_not_found=True)
                for info in self.filesystem.get_file_info(selector):
                    tables.update(_table_of([name, os.path.basename(info.path)]))
            _expect_plain(folder, [last], tables)

    @contextmanager
    def open(self, entry: Entry) -> Iterator[OpenFile]:
        """Open the listed file, to read from any place in it. Raises `OSError`, `FileChanged` among them."""
        with self._open_file(entry) as file:
            opened = OpenFile(file, entry, self)
            opened.check()
            yield opened

    def _open_file(self, entry: Entry) -> Any:
        return pa.OSFile(entry.path) if self.is_local else self.filesystem.open_input_file(entry.path)

    def stamp(self, entry: Entry, file: Any) -> tuple[int, int | None]:
        """Return the stamp of an open file, locally by its descriptor: a file replaced by name has not changed."""
        if self.is_local:
            status = os.fstat(file.fileno())
            return status.st_size, status.st_mtime_ns
        return _stamp(self.filesystem.get_file_info(entry.path))


@dataclass(frozen=True, slots=True)
class OpenFile:
    """An open file. `handle` reads it; `check` is cheap if `place` is local."""

    handle: Any
    entry: Entry
    place: Place

    def content(self) -> Any:
        """Return what the file holds, from its start and decompressed; one reading at a time.

        Raises `OSError` when it is read where it is compressed and cut off, or damaged.
        """
        self.handle.seek(0)
        codec = kind_of(self.entry.path)[1]
        return pa.CompressedInputStream(_Kept(self.handle), codec) if codec else self.handle

    def check(self) -> None:
        """Raise `FileChanged` if it was written to since it was listed."""
        if self.place.stamp(self.entry, self.handle) != self.entry.stamp:
            raise FileChanged(f"{self.entry.path} has changed since it was listed")


class _Kept:
    """A file that stays open when the stream around it is closed."""

    closed = False

    def __init__(self, file: Any) -> None:
        self._file = file

    def read(self, size: int) -> Any:
        return self._file.read(size)

    def close(self) -> None:
        """Do nothing: the file stays open for the next reading."""

    def readable(self) -> bool:
        return True

    def writable(self) -> bool:
        return False

    def seekable(self) -> bool:
        return False


def find_place(location: str) -> Place:
    """Find the place of a location. Raises `OSError` or `ValueError`."""
    if is_remote(location):
        filesystem, path = fs.FileSystem.from_uri(location)
    else:
        filesystem, path = fs.LocalFileSystem(), location
        if os.path.lexists(path):  # a name may hold any character
            return Place(filesystem, path)
    parts = path.split("/")
    plain = next((place for place, part in enumerate(parts) if GLOB_CHARACTERS & set(part)), len(parts))
    return Place(filesystem, "/".join(parts[:plain]) or "/", tuple(part for part in parts[plain:] if part))


def _stamp(info: Any) -> tuple[int, int | None]:
    return info.size, info.mtime_ns


def _is_hidden(parts: Sequence[str]) -> bool:
    """Return whether Spark, Hive or an editor left a file beside the data; `_loc=1` is a partition."""
    return any(part.startswith(".") or (part.startswith("_") and "=" not in part) for part in parts)


TABLE_FORMATS = {
    "_delta_log": "a Delta Lake table",
    ".hoodie": "an Apache Hudi table",
    "metadata": "an Iceberg table",
}


def _table_of(parts: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Return the folder of a table whose log a path belongs to, and what it is called."""
    for place, part in enumerate(parts):
        if part in TABLE_FORMATS and (part != "metadata" or ".metadata.json" in parts[-1]):
            yield "/".join(parts[:place]), TABLE_FORMATS[part]


def _expect_plain(base: str, paths: Sequence[str], tables: Mapping[str, str]) -> None:
    """Raise `NotPlainFiles` if a file lies in the folder of a table."""
    for folder, kind in tables.items():
        if any(path.startswith(f"{folder}/" if folder else "") for path in paths):
            shown = f"{base}/{folder}".rstrip("/")
            raise NotPlainFiles(
                f"{shown} is {kind}, whose files hold deleted rows too; expected a folder of plain files"
            )


def _matches(parts: Sequence[str], patterns: Sequence[str]) -> bool:
    """Return whether a path, or a folder that it lies in, matches; ``**`` is any number of folders."""
    if not patterns:
        return True
    if patterns[0] == "**":
        return _matches(parts, patterns[1:]) or (bool(parts) and _matches(parts[1:], patterns))
    return bool(parts) and fnmatchcase(parts[0], patterns[0]) and _matches(parts[1:], patterns[1:])


def _partition(folders: Sequence[str]) -> Partition:
    pairs = [folder.split("=", 1) for folder in folders if "=" in folder]
    return tuple((unquote(key), None if value == NULL_PARTITION else unquote(value)) for key, value in pairs)
