"""Arrow files and Arrow streams, read a record batch at a time, in the calling thread.

https://arrow.apache.org/docs/format/Columnar.html#serialization-and-interprocess-communication-ipc
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import pyarrow as pa
from pyarrow import ipc

from asgi_export.sources.files.batch_bounds import batch_rows
from asgi_export.sources.files.damage import check_batch
from asgi_export.sources.files.where import NO_ROWS, Where, kept


class ArrowIpc:
    """The file format and the stream format. A record batch is read whole, so its writer bounds the memory.

    It is not mapped into memory: a file that is cut off meanwhile would end the process. Every batch is checked
    before a row of it is used. Raises `pa.ArrowException` or `OSError` for a damaged file.
    """

    def schema(self, file: Any) -> pa.Schema:
        """Return the columns as the file declares them."""
        return _reader(file, []).schema

    def batches(
        self, file: Any, names: Sequence[str], limit: int | None, where: Where | None = None
    ) -> Iterator[pa.RecordBatch]:
        """Return the record batches, cut into bounded ones without a copy.

        In the file format the columns of the filters are read first, and the others of a record batch only if one of
        its rows is wanted.
        """
        rows = batch_rows(len(names), 1, limit)
        found = _wanted(file, names, where) if where else map(check_batch, _batches(_reader(file, names)))
        for batch in found:
            for start in range(0, max(1, batch.num_rows), rows):
                yield batch.slice(start, rows)


def _wanted(file: Any, names: Sequence[str], where: Where) -> Iterator[pa.RecordBatch]:
    first = _reader(file, where.names)
    if not isinstance(first, ipc.RecordBatchFileReader):
        yield from where.rows(map(check_batch, first))
        return
    then = _reader(file, names)
    for place in range(first.num_record_batches):
        mask = where.mask(check_batch(first.get_batch(place)))
        if mask.true_count:
            yield from kept(check_batch(then.get_batch(place)), mask)
        else:
            yield NO_ROWS


def _reader(file: Any, names: Sequence[str]) -> Any:
    file.seek(0)
    if file.read(6) != b"ARROW1":
        file.seek(0)
        return ipc.open_stream(file)
    schema = ipc.open_file(file).schema
    places = [schema.get_field_index(name) for name in names]
    return ipc.open_file(file, options=ipc.IpcReadOptions(included_fields=places, use_threads=False))


def _batches(reader: Any) -> Iterator[pa.RecordBatch]:
    if isinstance(reader, ipc.RecordBatchFileReader):
        return (reader.get_batch(place) for place in range(reader.num_record_batches))
    return iter(reader)
