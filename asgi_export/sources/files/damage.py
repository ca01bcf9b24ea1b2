"""Validate the batches of a file before their values are used."""

from __future__ import annotations

import pyarrow as pa

DAMAGE = (OSError, ValueError, LookupError, OverflowError, MemoryError, pa.ArrowException)
"""Errors that pyarrow raises for damaged files and files of another kind: more than its own."""


def check_batch(batch: pa.RecordBatch) -> pa.RecordBatch:
    """Validate a batch and return it. Raises `pa.ArrowInvalid` if a column is not what its type says.

    pyarrow does not check offsets, lengths, indices and the encoding of text of an Arrow file, nor text of Parquet.
    Later code trusts them, and would read memory outside of the file. The check costs 3 to 10 % of an export
    (bench/damage.py). The error names the column and no value.
    """
    for field, column in zip(batch.schema, batch.columns, strict=True):
        if len(column) != batch.num_rows or not _is_valid(column):
            raise pa.ArrowInvalid(f"column {field.name[:100]!r} is damaged: it is no valid {str(field.type)[:100]}")
    return batch


def _is_valid(column: pa.Array) -> bool:
    try:
        column.validate(full=True)
    except pa.ArrowInvalid:  # the message may quote a value
        return False
    return True
