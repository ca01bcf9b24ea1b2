"""Select columns from the batches of a user's function, and cut the batches into slices.

pyarrow is imported with the first batch; polars, DuckDB, ADBC and pandas share theirs by the Arrow PyCapsule
interface.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import chain
from typing import Any

from asgi_export.errors import SourceFailed
from asgi_export.extras import extra
from asgi_export.table import ArrowArray, ArrowStream

SLICE_CELLS = 64 * 1024
"""About a megabyte of text, encoded between two sends."""

_ROWS = frozenset({tuple, dict, list})
"""The types of most items: checking for a protocol takes ten times as long."""


def is_columns(item: object) -> bool:
    """Return whether an item is a batch of columns, not a row or a list of rows."""
    return type(item) not in _ROWS and isinstance(item, ArrowArray | ArrowStream)


def column_slices(item: Any, columns: Sequence[str], limit: int | None) -> Iterator[Any]:
    """Iterate the record batches of an item, `limit` rows at most, with exactly `columns`, in that order.

    A stream is read as it is asked for. Raises `SourceFailed` if a column is missing, and `StartupError` if
    pyarrow is.
    """
    with extra("files"):
        from asgi_export.columns.shared_values import cut
    left = limit
    step = max(1, SLICE_CELLS // len(columns))
    for batch in _record_batches(item):
        picked = _pick(batch, columns)
        steps = (picked.slice(start, step) for start in range(0, picked.num_rows, step))
        for found in chain.from_iterable(map(cut, steps)):
            yield found if left is None else found.slice(0, left)
            if left is not None:
                left -= min(left, found.num_rows)
                if not left:
                    return


def _record_batches(item: Any) -> Iterator[Any]:
    with extra("files"):
        import pyarrow as pa
    if isinstance(item, ArrowArray):
        yield pa.record_batch(item)
    else:
        with pa.RecordBatchReader.from_stream(item) as reader:
            yield from reader


def _pick(batch: Any, columns: Sequence[str]) -> Any:
    missing = [name for name in columns if name not in batch.schema.names]
    if missing:
        raise SourceFailed(f"a batch lacks the column {missing[0]!r}; it has {batch.schema.names!r}")
    return batch.select(list(columns))
