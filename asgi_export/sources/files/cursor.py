"""Export files, one open at a time, and conform their batches to the dataset's columns."""

from __future__ import annotations

import errno
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import chain
from typing import Any, Protocol

import pyarrow as pa

from asgi_export.columns.shared_values import cut
from asgi_export.errors import LASTING, SourceFailed, Unavailable
from asgi_export.sources.files.damage import DAMAGE
from asgi_export.sources.files.kinds import Kind
from asgi_export.sources.files.listing import Entry, FileChanged, OpenFile, Place
from asgi_export.sources.files.where import NOWHERE, Where, conformed


class Reader(Protocol):
    """Read one file of an export, for the selected `names`.

    `open` returns which columns the file has, and its batches; empty batches are skipped. Files that `wants` refuses
    are not opened.
    """

    @property
    def names(self) -> Sequence[str]: ...
    def wants(self, entry: Entry) -> bool: ...
    def open(self, file: OpenFile, limit: int | None) -> tuple[set[str], Iterator[Any]]: ...


class FileCursor:
    """Iterate the rows of the files of a place, in the batches of a reader; a `BlockingCursor`.

    The files are listed on entry. Raises `Unavailable` if a file is missing, does not answer or was written to
    meanwhile. Raises `SourceFailed` if it is damaged, if its values do not fit the dataset's types, if no file has a
    column any more, and after `interrupt`.
    """

    def __init__(self, name: str, place: Place, reader: Reader, limit: int | None) -> None:
        self._name = name
        self._place = place
        self._reader = reader
        self._left = limit
        self._missing = set(reader.names)
        self._interrupted = threading.Event()
        self._waiting: list[Entry] = []
        self._open = ExitStack()
        self._file: OpenFile | None = None
        self._batches: Iterator[Any] = iter(())

    def __enter__(self) -> Iterator[Any]:
        try:
            entries = self._place.entries()
        except OSError as error:
            raise self._failure(error) from error
        self._waiting = [entry for entry in reversed(entries) if self._reader.wants(entry)]
        if len(self._waiting) < len(entries):
            self._missing = set()  # the others may have it
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._waiting = []
        self._end()

    def __iter__(self) -> Iterator[Any]:
        return self

    def __next__(self) -> Any:
        """Return the next batch, of at least one row, and hold no reference to it."""
        try:
            batch = self._next_batch()
        except DAMAGE as error:
            raise self._failure(error) from error
        return batch

    def interrupt(self) -> None:
        """Make the next batch fail; the current one is small, and ends soon."""
        self._interrupted.set()

    def _next_batch(self) -> Any:
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
            elif len(batch):
                return self._limit_batch(batch, file)
        raise StopIteration

    def _begin(self) -> OpenFile | None:
        if not self._waiting:
            return None
        file = self._open.enter_context(self._place.open(self._waiting.pop()))
        found, self._batches = self._reader.open(file, self._left)
        self._expect_columns(found.union(dict(file.entry.partition)))
        self._file = file
        return file

    def _expect_columns(self, found: set[str]) -> None:
        """Raise `SourceFailed` for a column that no file has any more; some files may lack it."""
        self._missing -= found
        if self._missing and not self._waiting:
            raise SourceFailed(f"{self._name}: no file has a column {min(self._missing)!r} any more")

    def _end(self) -> None:
        self._batches, self._file = iter(()), None
        self._open.close()

    def _limit_batch(self, batch: Any, file: OpenFile) -> Any:
        """Cut a batch to the rest of the limit, and check the file; a remote one at the end, by one request."""
        if self._left is not None:
            batch = batch[: self._left] if self._left < len(batch) else batch
            self._left -= len(batch)
        if self._place.is_local or self._left == 0:
            file.check()
        return batch

    def _failure(self, error: Exception) -> Exception:
        """Make the error for the client; its cause, which names the file, is for the log."""
        reason = "a file changed while it was read" if isinstance(error, FileChanged) else "a file could not be read"
        passes = may_pass(error, local=self._place.is_local)
        return (Unavailable if passes else SourceFailed)(f"{self._name}: {reason}")


def may_pass(error: Exception, *, local: bool) -> bool:
    """Return whether another try may help: a file that was replaced or is being copied, no answer, no memory.

    pyarrow raises `OSError` for damage too, without an errno; errors of a remote place have none either.
    """
    if isinstance(error, FileChanged | MemoryError):
        return True
    if not isinstance(error, OSError):
        return False
    if error.errno is None:
        return not local or isinstance(error, FileNotFoundError)
    return error.errno == errno.ENOENT or error.errno not in LASTING


@dataclass(frozen=True, slots=True)
class ColumnReader:
    """Read record batches of `fields`, of the rows that are wanted.

    A column that a file lacks is null, or the value of its partition. A timestamp that its field cannot hold has
    another type, which can. The values of `folders` are those of a file's partition, whatever is in the file.
    """

    kind: Kind
    fields: pa.Schema
    where: Where | None = None
    folders: frozenset[str] = frozenset()

    @property
    def names(self) -> Sequence[str]:
        return [*dict.fromkeys([*self.fields.names, *(self.where.names if self.where else ())])]

    def wants(self, entry: Entry) -> bool:
        """Return whether a file may have a wanted row, by its folders."""
        return self.where is None or self.where.beside(self.folders, dict(entry.partition)) is not NOWHERE

    def open(self, file: OpenFile, limit: int | None) -> tuple[set[str], Iterator[pa.RecordBatch]]:
        """Return the columns and batches of one file. Raises `pa.ArrowInvalid` if a value does not fit its field."""
        found = set(self.kind.schema(file.content()).names)
        partition = dict(file.entry.partition)
        where = self.where and self.where.beside(set(self.where.names) - found, partition)
        if where is NOWHERE:
            return found, iter(())
        wanted = [name for name in self.fields.names if name in found]
        some = wanted or (list(where.names) if where else sorted(found)[:1])
        batches = self.kind.batches(file.content(), some, None if where else limit, where)
        return found, self._conform(batches, partition)

    def _conform(
        self, batches: Iterator[pa.RecordBatch], partition: Mapping[str, str | None]
    ) -> Iterator[pa.RecordBatch]:
        for batch in chain.from_iterable(map(cut, batches)):
            if not batch.num_rows:
                yield batch
                continue
            columns = [conformed(batch, field, partition) for field in self.fields]
            fields = [field.with_type(column.type) for field, column in zip(self.fields, columns, strict=True)]
            yield pa.RecordBatch.from_arrays(columns, schema=pa.schema(fields))
