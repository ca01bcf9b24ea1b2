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


class ArrowIpc:
    """The file format and the stream format. A record batch is read whole, so its writer bounds the memory.

    It is not mapped into memory: a file that is cut off meanwhile would end the process. Every batch is checked
    before a row of it is used. Raises `pa.ArrowException` or `OSError` for a damaged file.
    """

    def schema(self, file: Any) -> pa.Schema:
        """Return the columns as the file declares them."""
        return _reader(file, []).schema

    def batches(self, file: Any, names: Sequence[str], limit: int | None) -> Iterator[pa.RecordBatch]:
        """Return the record batches, cut into bounded ones without a copy."""
        rows = batch_rows(len(names), 1, limit)
        for batch in _batches(_reader(file, names)):
            check_batch(batch)
            for start in range(0, batch.num_rows, rows):
                yield batch.slice(start, rows)


def _reader(file: Any, names: Sequence[str]) -> Any:
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
