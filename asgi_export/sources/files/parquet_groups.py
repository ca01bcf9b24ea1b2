"""Read the wanted rows of Parquet files, and as little else as possible.

A row group without a wanted row is not read, as far as its statistics tell that. Of the others the columns of the
filters are read first, and the rest up to the last wanted row.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from asgi_export.columns.ranges import Range
from asgi_export.sources.files.damage import check_batch
from asgi_export.sources.files.footer import GroupStatistics, read_statistics
from asgi_export.sources.files.parquet_columns import ColumnBatches, places_of
from asgi_export.sources.files.statistics import range_of
from asgi_export.sources.files.where import NO_ROWS, Where, kept


def wanted_batches(
    file: Any, parquet: pq.ParquetFile, names: Sequence[str], where: Where
) -> Iterator[pa.RecordBatch]:
    """Iterate batches with these columns of the wanted rows; some have no row."""
    flat = {name: places[0] for name in where.names if len(places := places_of(parquet, [name])) == 1}
    statistics = read_statistics(file, flat.values())
    for group in range(parquet.num_row_groups):
        known = statistics[group] if len(statistics) == parquet.num_row_groups else {}
        rows = parquet.metadata.row_group(group).num_rows
        if where.may_hold(_ranges(parquet, where, flat, known, rows)):
            yield from _Group(file, parquet, group, names, where).batches()
        else:
            yield NO_ROWS


def _ranges(
    parquet: pq.ParquetFile, where: Where, flat: Mapping[str, int], known: GroupStatistics, rows: int
) -> Mapping[str, Range]:
    schema = parquet.metadata.schema
    return {
        name: range_of(schema.column(place), known[place], where.fields.field(name).type, rows)
        for name, place in flat.items()
        if place in known
    }


class _Group:
    """One row group: the columns of the filters, and the others, which follow as far as they are needed."""

    def __init__(self, file: Any, parquet: pq.ParquetFile, group: int, names: Sequence[str], where: Where) -> None:
        self._where = where
        self._shown = [name for name in where.names if name in names]
        self._rest = [name for name in names if name not in where.names]
        self._filters = ColumnBatches(file, parquet, where.names, [group])
        self._others = ColumnBatches(file, parquet, self._rest, [group]) if self._rest else None
        self._read = 0

    def batches(self) -> Iterator[pa.RecordBatch]:
        """Iterate the wanted rows."""
        start = 0
        while (batch := self._filters.next()) is not None:
            mask = self._where.mask(check_batch(batch))
            if not mask.true_count:
                yield NO_ROWS
            elif self._others is None:
                yield from kept(batch.select(self._shown), mask)
            else:
                yield from self._joined(batch.select(self._shown), mask, start, self._others)
            start += batch.num_rows

    def _joined(
        self, batch: pa.RecordBatch, mask: Any, start: int, others: ColumnBatches
    ) -> Iterator[pa.RecordBatch]:
        """Iterate the wanted rows of a batch that begins at the row `start` of the group, with the other columns."""
        wanted = pc.indices_nonzero(mask)
        first, end = start + wanted[0].as_py(), start + wanted[-1].as_py() + 1
        while self._read < end:
            found = others.next(end - self._read)
            if found is None:
                raise pa.ArrowInvalid("the columns of a row group have not the same number of rows")
            begin, self._read = max(first, self._read), self._read + found.num_rows
            if begin < self._read:
                rows = self._read - begin
                late = check_batch(found.slice(found.num_rows - rows).select(self._rest))
                early = batch.slice(begin - start, rows)
                whole = pa.RecordBatch.from_arrays([*early.columns, *late.columns], [*self._shown, *self._rest])
                yield from kept(whole, mask.slice(begin - start, rows))
            else:
                yield NO_ROWS
