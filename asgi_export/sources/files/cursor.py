"""One export of files: one file open at a time, its batches brought to the dataset's columns."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from contextlib import ExitStack

import pyarrow as pa

from asgi_export.errors import SourceFailed, Unavailable
from asgi_export.sources.files.damage import DAMAGE
from asgi_export.sources.files.kinds import Kind
from asgi_export.sources.files.listing import Entry, FileChanged, OpenFile, Place


class FileCursor:
    """The rows of the files of a place as record batches of exactly `fields`; a `BlockingCursor`.

    The files are those that there are when it is entered. Raises `Unavailable` where the first batch cannot be
    read and `SourceFailed` where a later one cannot, where a file was written to meanwhile, where its values
    do not fit the dataset's types, and after `interrupt`.
    """

    def __init__(self, name: str, place: Place, kind: Kind, fields: pa.Schema, limit: int | None) -> None:
        self._name = name
        self._place = place
        self._kind = kind
        self._fields = fields
        self._left = limit
        self._started = False
        self._interrupted = threading.Event()
        self._waiting: list[Entry] = []
        self._open = ExitStack()
        self._file: OpenFile | None = None
        self._batches: Iterator[pa.RecordBatch] = iter(())

    def __enter__(self) -> Iterator[pa.RecordBatch]:
        try:
            self._waiting = self._place.entries()[::-1]
        except OSError as error:
            raise self._failure(error) from error
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._waiting = []
        self._end()

    def __iter__(self) -> Iterator[pa.RecordBatch]:
        return self

    def __next__(self) -> pa.RecordBatch:
        """The next batch, of one row at least. No reference to it is kept."""
        try:
            batch = self._next_batch()
        except DAMAGE as error:
            raise self._failure(error) from error
        self._started = True
        return batch

    def interrupt(self) -> None:
        """Makes the next batch a failure; the one that is being read is small."""
        self._interrupted.set()

    def _next_batch(self) -> pa.RecordBatch:
        while self._left != 0:
            if self._interrupted.is_set():
                raise SourceFailed(f"{self._name}: interrupted")
            file = self._file or self._begin()
            if file is None:
                break
            batch = next(self._batches, None)
            if batch is None:
                file.check()
                self._end()
            elif batch.num_rows:
                return self._limited(self._conformed(batch, file), file)
        raise StopIteration

    def _begin(self) -> OpenFile | None:
        if not self._waiting:
            return None
        file = self._open.enter_context(self._place.open(self._waiting.pop()))
        found = set(self._kind.schema(file.content()).names)
        wanted = [name for name in self._fields.names if name in found]
        self._batches = self._kind.batches(file.content(), wanted or sorted(found)[:1], self._left)
        self._file = file
        return file

    def _end(self) -> None:
        self._batches, self._file = iter(()), None
        self._open.close()

    def _limited(self, batch: pa.RecordBatch, file: OpenFile) -> pa.RecordBatch:
        """At most the rows that are left; elsewhere than here, a look at the file is a request, made at the end."""
        if self._left is not None:
            batch = batch.slice(0, min(self._left, batch.num_rows))
            self._left -= batch.num_rows
        if self._place.is_local or self._left == 0:
            file.check()
        return batch

    def _conformed(self, batch: pa.RecordBatch, file: OpenFile) -> pa.RecordBatch:
        partition = dict(file.entry.partition)
        columns = [_column(batch, field, partition) for field in self._fields]
        return pa.RecordBatch.from_arrays(columns, schema=self._fields)

    def _failure(self, error: Exception) -> Exception:
        """What a client may know; the cause, which names the file, is for the log."""
        reason = "a file changed while it was read" if isinstance(error, FileChanged) else "a file could not be read"
        return (SourceFailed if self._started else Unavailable)(f"{self._name}: {reason}")


def _column(batch: pa.RecordBatch, field: pa.Field, partition: Mapping[str, str | None]) -> pa.Array:
    """One column in the dataset's type. Raises `pa.ArrowInvalid` where a value would be lost."""
    place = batch.schema.get_field_index(field.name)
    if place >= 0:
        column = batch.column(place)
        try:
            return column if column.type == field.type else column.cast(field.type)
        except pa.ArrowInvalid:  # its words quote the value
            raise pa.ArrowInvalid(f"{field.name!r}: a value of {column.type} does not fit {field.type}") from None
    value = pa.scalar(partition.get(field.name), pa.string()).cast(field.type)
    return pa.repeat(value, batch.num_rows)
