"""Parquet files, read a few pages at a time in the calling thread, without read-ahead."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import pyarrow as pa

from asgi_export.sources.files.damage import DAMAGE, check_batch
from asgi_export.sources.files.int96 import differ_in_units_only
from asgi_export.sources.files.parquet_columns import FIRST_ROWS, ColumnBatches, int96_names, open_parquet
from asgi_export.sources.files.parquet_groups import wanted_batches
from asgi_export.sources.files.where import Where


class Parquet:
    """Read row group after row group. Raises `pa.ArrowException` or `OSError` for a damaged file."""

    def schema(self, file: Any) -> pa.Schema:
        """Return the columns as Arrow types; INT96 has microseconds unless the first rows need nanoseconds."""
        parquet = open_parquet(file)
        moments = int96_names(parquet, parquet.schema_arrow.names)
        if not moments:
            return parquet.schema_arrow
        schema = open_parquet(file, "us").schema_arrow
        for field in self._first_types(file, moments):
            place = schema.get_field_index(field.name)
            if differ_in_units_only(schema.field(place).type, field.type):  # it is no ExactText
                schema = schema.set(place, schema.field(place).with_type(field.type))
        return schema

    def batches(
        self, file: Any, names: Sequence[str], limit: int | None, where: Where | None = None
    ) -> Iterator[pa.RecordBatch]:
        """Read batches of these columns, rarely with others: if a column `a.b` is beside a column `a` with a `b`.

        The first batch is small; the size of the others is adapted to earlier batches and the file's metadata. Row
        groups without a wanted row are not read, as far as their statistics tell that; of the others the columns of
        the filters are read first.
        """
        parquet = open_parquet(file)
        if where:
            yield from wanted_batches(file, parquet, names, where)
            return
        columns = ColumnBatches(file, parquet, names)
        while (batch := columns.next(limit)) is not None:
            yield check_batch(batch)

    def _first_types(self, file: Any, names: Sequence[str]) -> pa.Schema:
        """Return the types of the first batch; none if it cannot be read, which the export will report."""
        try:
            return next((batch.schema for batch in self.batches(file, names, FIRST_ROWS)), pa.schema([]))
        except DAMAGE:
            return pa.schema([])
