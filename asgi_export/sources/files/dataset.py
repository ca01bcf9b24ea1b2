"""The dataset of a file location: its columns, found out at the start."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from asgi_export.errors import StartupError
from asgi_export.sources.arrow_types import column_of
from asgi_export.sources.files.cursor import FileCursor
from asgi_export.sources.files.damage import DAMAGE
from asgi_export.sources.files.kinds import KINDS
from asgi_export.sources.files.listing import Entry, Place, find_place
from asgi_export.sources.files.location import SUFFIXES
from asgi_export.table import Column, Selection

_INTEGER = re.compile(r"0|-?[1-9][0-9]{0,17}")
"""A partition's value that loses nothing as a number; 01 would."""


@dataclass(frozen=True, slots=True)
class FileDataset:
    """The rows of all files of a place, by path. `open` gives a cursor over Arrow record batches."""

    name: str
    place: Place
    kind: str
    schema: Any

    @property
    def columns(self) -> Sequence[Column]:
        """Columns of the files with their Arrow types, then those of the folders."""
        return tuple(column_of(field) for field in self.schema)

    @property
    def default_limit(self) -> int | None:
        """All rows."""
        return None

    def open(self, selection: Selection) -> FileCursor:
        """A cursor over the selected columns, in the order of the selection."""
        fields = pa.schema([self.schema.field(name) for name in selection.columns])
        return FileCursor(self.name, self.place, KINDS[self.kind], fields, selection.limit)


def open_dataset(location: str, name: str) -> FileDataset:
    """List the files of a location and read the columns of each. Raises `StartupError`: why, what to do."""
    try:
        place = find_place(location)
        entries = place.entries()
    except (OSError, ValueError) as error:
        raise StartupError(f"{_line(error)}; expected a file, a folder or a glob that can be read") from error
    kind = _kind(entries)
    schemas = [(entry, _schema(place, entry, kind)) for entry in entries]
    return FileDataset(name, place, kind, _with_partitions(_unified(schemas), entries))


def _kind(entries: Sequence[Entry]) -> str:
    kinds = {entry.kind for entry in entries}
    if "" in kinds:
        raise StartupError(f"not a kind that can be served; expected {', '.join(SUFFIXES)}")
    if len(kinds) > 1:
        raise StartupError(f"holds files of several kinds ({', '.join(sorted(kinds))}); name one: folder/*.parquet")
    return kinds.pop()


def _schema(place: Place, entry: Entry, kind: str) -> pa.Schema:
    try:
        with place.open(entry) as file:
            schema = KINDS[kind].schema(file.handle)
        names = Counter(schema.names)
        str(schema)  # a name within a type may be no UTF-8, and is not looked at before
    except DAMAGE as error:
        raise StartupError(f"{entry.path} cannot be read as {kind}: {_line(error)}") from error
    for name, count in names.items():
        if count > 1:
            raise StartupError(f"{entry.path} has two columns {name!r}; expected each name once")
    if not names:
        raise StartupError(f"{entry.path} has no columns")
    return pa.schema([field.with_nullable(True).remove_metadata() for field in schema])


def _unified(schemas: Sequence[tuple[Entry, pa.Schema]]) -> pa.Schema:
    whole = schemas[0][1]
    for entry, schema in schemas[1:]:
        try:
            whole = pa.unify_schemas([whole, schema], promote_options="permissive")
        except pa.ArrowException as error:
            raise StartupError(f"{entry.path} does not fit the files before it: {_line(error)}") from error
    return whole


def _with_partitions(schema: pa.Schema, entries: Sequence[Entry]) -> pa.Schema:
    """A column that the files hold themselves is theirs."""
    keys = [tuple(key for key, _ in entry.partition) for entry in entries]
    for entry, found in zip(entries, keys, strict=True):
        if set(found) != set(keys[0]):
            raise StartupError(f"{entry.path} lies in folders {list(found)}; expected {list(keys[0])} as before it")
    for key in keys[0]:
        if key not in schema.names:
            schema = schema.append(pa.field(key, _partition_type(dict(entry.partition)[key] for entry in entries)))
    return schema


def _partition_type(values: Iterable[str | None]) -> pa.DataType:
    integers = all(value is None or _INTEGER.fullmatch(value) for value in values)
    return pa.int64() if integers else pa.string()


def _line(error: Exception) -> str:
    """The error as one line."""
    return " ".join(str(error).split()) or type(error).__name__
