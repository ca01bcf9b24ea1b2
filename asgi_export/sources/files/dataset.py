"""The dataset of a file location, whose columns are read at the start."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from importlib.util import find_spec
from typing import Any, ClassVar

import pyarrow as pa

from asgi_export.declared import Kind as ValueKind
from asgi_export.errors import StartupError
from asgi_export.sources.arrow_types import column_of
from asgi_export.sources.files.cursor import ColumnReader, FileCursor
from asgi_export.sources.files.damage import DAMAGE
from asgi_export.sources.files.delimited import Delimited
from asgi_export.sources.files.json_lines import JsonDataset, JsonLines, declared_type
from asgi_export.sources.files.kinds import KINDS, TEXT_KINDS, Kind
from asgi_export.sources.files.listing import Entry, NotPlainFiles, Place, find_place
from asgi_export.sources.files.location import SERVED
from asgi_export.sources.files.options import Pairs, read_options
from asgi_export.sources.files.sorting import SORT_MEMORY_MB, Order, SortedCursor
from asgi_export.sources.files.text_kinds import common_kinds
from asgi_export.sources.files.where import where_of
from asgi_export.table import Column, Selection, Task

SAMPLED_FILES = 20
"""Files whose first records tell the kinds of the columns."""

_INTEGER = re.compile(r"0|-?[1-9][0-9]{0,17}")
"""A partition's value that loses nothing as a number; 01 would."""


@dataclass(frozen=True, slots=True)
class FileDataset:
    """The rows of all files of a place, by path. `open` gives a cursor over Arrow record batches."""

    name: str
    place: Place
    kind: Kind
    schema: Any
    remarks: tuple[str, ...] = ()
    """What was found out about the files and not told, for the operator."""
    kinds: Mapping[str, ValueKind] = field(default_factory=dict)
    """The kinds of columns of text, where they are not that of their type."""
    folders: frozenset[str] = frozenset()
    """Columns that only folders have."""
    sort_memory_mb: int = SORT_MEMORY_MB
    same_for_all: ClassVar[bool] = True
    sort_needs: ClassVar[str] = "sorting files needs DuckDB; install asgi-export[duckdb]"

    @property
    def applies(self) -> frozenset[Task]:
        """Filters, and a sort if DuckDB is installed."""
        return frozenset({"filters", "sort"} if find_spec("duckdb") else {"filters"})

    @property
    def columns(self) -> Sequence[Column]:
        """Columns of the files with their Arrow types, then those of the folders."""
        found = map(column_of, self.schema)
        return tuple([replace(column, kind=self.kinds.get(column.name, column.kind)) for column in found])

    @property
    def default_limit(self) -> int | None:
        """All rows."""
        return None

    def open(self, selection: Selection) -> FileCursor | SortedCursor:
        """Return a cursor over the selected columns, in their order, and the rows that the filters want."""
        names = list(dict.fromkeys([*selection.columns, *(found.column for found in selection.sort)]))
        fields = pa.schema([self.schema.field(name) for name in names])
        reader = ColumnReader(self.kind, fields, where_of(selection.filters, self.schema), self.folders)
        if not selection.sort:
            return FileCursor(self.name, self.place, reader, selection.limit)
        by = [found.column for found in selection.sort]
        kinds = {column.name: column.kind for column in self.columns}
        order = Order(
            selection.sort,
            [names.index(name) for name in by],
            [kinds[name] for name in by],
            selection.limit,
            self.sort_memory_mb,
        )
        cursor = FileCursor(self.name, self.place, reader, None)
        return SortedCursor(self.name, cursor, fields, len(selection.columns), order)


def open_dataset(location: str, name: str, options: Pairs = ()) -> FileDataset | JsonDataset:
    """List the files of a location and read the columns of each. Raises `StartupError` with what to do."""
    try:
        place = find_place(location)
        place.expect_no_table_around()
        entries = place.entries()
    except NotPlainFiles as error:
        raise StartupError(str(error)) from error
    except DAMAGE as error:
        raise StartupError(f"{_line(error)}; expected a file, a folder or a glob that can be read") from error
    kind = _kind(entries, options)
    if isinstance(kind, JsonLines):
        return _json_dataset(name, place, entries, kind)
    schemas = [(entry, _schema(place, entry, kind)) for entry in entries]
    schema = _unify(place, schemas)
    whole = _with_partitions(place, schema, entries)
    found = FileDataset(name, place, kind, whole, folders=frozenset(whole.names).difference(schema.names))
    if not isinstance(kind, Delimited):
        return found
    return replace(found, remarks=_remarks(place, entries, kind), kinds=_kinds(place, entries, kind, whole))


def _kinds(place: Place, entries: Sequence[Entry], kind: Delimited, schema: pa.Schema) -> Mapping[str, ValueKind]:
    """Find the kinds of the columns by the first files; those that the operator names are as he says."""
    unknown = kind.kinds.keys() - set(schema.names)
    if unknown:
        raise StartupError(f"kinds={min(unknown)}: there is no such column; there are {', '.join(schema.names[:20])}")
    samples = []
    for entry in entries[:SAMPLED_FILES]:
        with _reading(place, entry), place.open(entry) as file:
            samples.append(kind.find_kinds(file.content()))
    return common_kinds(samples) | dict(kind.kinds)


def _json_dataset(name: str, place: Place, entries: Sequence[Entry], kind: JsonLines) -> JsonDataset:
    """Make the dataset: its columns are the keys of all files, as they first appear, then those of the folders."""
    types: dict[str, set[type]] = {}
    for entry in entries:
        with _reading(place, entry), place.open(entry) as file:
            for key, found in kind.scan_types(file.content()).items():
                types.setdefault(key, set()).update(found)
    keys = pa.schema([(key, pa.null()) for key in types])
    folders = list(_with_partitions(place, keys, entries))[len(types) :]
    columns = [Column(key, declared_type(found)) for key, found in types.items()]
    columns += [Column(field.name, str(field.type)) for field in folders]
    if not columns:
        raise StartupError("has no columns; expected a line of JSON at least")
    return JsonDataset(name, place, kind, columns, {field.name: _PYTHON[field.type] for field in folders})


_PYTHON: dict[pa.DataType, type] = {pa.int64(): int, pa.string(): str}


def _kind(entries: Sequence[Entry], options: Pairs) -> Kind | JsonLines:
    kinds = {entry.kind for entry in entries}
    if "" in kinds:
        raise StartupError(f"not a kind that can be served; expected {SERVED}")
    if len(kinds) > 1:
        raise StartupError(f"holds files of several kinds ({', '.join(sorted(kinds))}); name one: folder/*.parquet")
    kind = kinds.pop()
    found = read_options(options, kind)
    if kind == "jsonl":
        return JsonLines(**found)
    return TEXT_KINDS[kind](**found) if kind in TEXT_KINDS else KINDS[kind]


def _remarks(place: Place, entries: Sequence[Entry], kind: Delimited) -> tuple[str, ...]:
    """Return one line, whatever the number of files."""
    found = {}
    for entry in entries:
        with place.open(entry) as file:
            if remark := kind.remark(file.content()):
                found[entry] = remark
    if not found:
        return ()
    entry, remark = next(iter(found.items()))
    label = f"{_label(place, entry).rstrip()}: " if _label(place, entry) else ""
    others = f" (and the like for {len(found) - 1} more)" if len(found) > 1 else ""
    return (f"{label}{remark}{others}",)


def _label(place: Place, entry: Entry) -> str:
    """Name one of several files; the source's own message names the location already."""
    return "" if entry.path == place.base else f"{entry.path.removeprefix(place.base).strip('/')} "


@contextmanager
def _reading(place: Place, entry: Entry) -> Iterator[None]:
    """Raise a `StartupError` for the errors of a file that is damaged or of another kind."""
    try:
        yield
    except DAMAGE as error:
        raise StartupError(f"{_label(place, entry)}cannot be read as {entry.kind}: {_line(error)}") from error


def _schema(place: Place, entry: Entry, kind: Kind) -> pa.Schema:
    label = _label(place, entry)
    with _reading(place, entry):
        with place.open(entry) as file:
            schema = kind.schema(file.content())
        names = Counter(schema.names)
        str(schema)  # raises if a name within a type is not UTF-8, which nothing has checked yet
    for name, count in names.items():
        if count > 1:
            raise StartupError(f"{label}has two columns {name!r}; expected each name once")
    if not names:
        raise StartupError(f"{label}has no columns")
    return pa.schema([field.with_nullable(True).remove_metadata() for field in schema])


def _unify(place: Place, schemas: Sequence[tuple[Entry, pa.Schema]]) -> pa.Schema:
    whole = schemas[0][1]
    for entry, schema in schemas[1:]:
        try:
            whole = pa.unify_schemas([whole, schema], promote_options="permissive")
        except pa.ArrowException as error:
            raise StartupError(f"{_label(place, entry)}does not fit the files before it: {_line(error)}") from error
    return whole


def _with_partitions(place: Place, schema: pa.Schema, entries: Sequence[Entry]) -> pa.Schema:
    """Add the columns of partitions, except those that the files have themselves."""
    keys = [tuple(key for key, _ in entry.partition) for entry in entries]
    for entry, found in zip(entries, keys, strict=True):
        if set(found) != set(keys[0]):
            label = _label(place, entry)
            raise StartupError(f"{label}lies in folders {list(found)}; expected {list(keys[0])} as before it")
    for key in keys[0]:
        if key not in schema.names:
            schema = schema.append(pa.field(key, _partition_type(dict(entry.partition)[key] for entry in entries)))
    return schema


def _partition_type(values: Iterable[str | None]) -> pa.DataType:
    integers = all(value is None or _INTEGER.fullmatch(value) for value in values)
    return pa.int64() if integers else pa.string()


def _line(error: Exception) -> str:
    """Write the error on one line, without the path that pyarrow adds."""
    if isinstance(error, OSError) and error.errno:
        return os.strerror(error.errno)
    return " ".join(str(error).split()) or type(error).__name__
