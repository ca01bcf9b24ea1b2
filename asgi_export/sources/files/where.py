"""Which rows of a file are wanted, by the filters of a selection."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from asgi_export.columns.matching import ColumnFilter, keep, matches
from asgi_export.columns.ranges import Range, may_hold
from asgi_export.columns.shared_values import cut
from asgi_export.sources.files.int96 import differ_in_units_only
from asgi_export.table import Filter


@dataclass(frozen=True, slots=True)
class Where:
    """The rows for which all filters hold, by values of the dataset's types. `fields` are those of the filters."""

    filters: tuple[Filter, ...]
    fields: pa.Schema

    @property
    def names(self) -> Sequence[str]:
        return list(self.fields.names)

    def beside(self, names: Collection[str], partition: Mapping[str, str | None]) -> Where | None:
        """Return what is left where these columns have one value in all of a file; `NOWHERE` if a filter fails.

        None is left if all filters hold for all rows.
        """
        for found in self.filters:
            if found.column in names:
                value = pa.repeat(_value(self.fields.field(found.column), partition), 1)
                if not matches(value, found)[0].as_py():
                    return NOWHERE
        return where_of([found for found in self.filters if found.column not in names], self.fields)

    def may_hold(self, ranges: Mapping[str, Range]) -> bool:
        """Return whether rows with columns of these ranges may be wanted."""
        return all(may_hold(found, ranges[found.column]) for found in self.filters if found.column in ranges)

    def mask(self, batch: pa.RecordBatch) -> Any:
        """Return which rows of a batch that has the columns are wanted."""
        columns = [conformed(batch, field, {}) for field in self.fields]
        pieces = cut(pa.RecordBatch.from_arrays(columns, self.names))
        wanted = ColumnFilter(self.filters, self.names)
        return pa.concat_arrays([wanted.mask(piece) for piece in pieces])

    def rows(self, batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        """Iterate the wanted rows of batches that have the columns."""
        for batch in batches:
            yield from kept(batch, self.mask(batch))


NOWHERE = Where((), pa.schema([]))
"""No row is wanted."""


NO_ROWS = pa.RecordBatch.from_arrays([], names=[])
"""A turn for the cursor, which may have been interrupted."""


def where_of(filters: Sequence[Filter], schema: pa.Schema) -> Where | None:
    """Return which rows filters want, given the types of their columns; None if they want all."""
    names = dict.fromkeys(found.column for found in filters)
    return Where(tuple(filters), pa.schema([schema.field(name) for name in names])) if filters else None


def kept(batch: pa.RecordBatch, mask: Any) -> Iterator[pa.RecordBatch]:
    """Iterate the rows of a batch for which a mask holds, in pieces if the rows share large values."""
    if not mask.true_count:
        yield NO_ROWS
        return
    start = 0
    for piece in cut(batch):
        yield keep(piece, mask.slice(start, piece.num_rows))
        start += piece.num_rows


def conformed(batch: pa.RecordBatch, field: pa.Field, partition: Mapping[str, str | None]) -> pa.Array:
    """Convert one column to the dataset's type; if that cannot hold a timestamp, to a type that can.

    Raises `pa.ArrowInvalid` if a value would be lost.
    """
    place = batch.schema.get_field_index(field.name)
    if place < 0:
        return pa.repeat(_value(field, partition), batch.num_rows)
    column = batch.column(place)
    if column.type == field.type:
        return column
    try:
        return column.cast(field.type)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError):  # the message quotes the value
        if differ_in_units_only(column.type, field.type):
            return column
        raise pa.ArrowInvalid(f"{field.name!r}: a value of {column.type} does not fit {field.type}") from None


def _value(field: pa.Field, partition: Mapping[str, str | None]) -> pa.Scalar:
    """Return the value of a column that a file lacks."""
    return pa.scalar(partition.get(field.name), pa.string()).cast(field.type)
