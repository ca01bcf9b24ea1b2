"""Columns of Arrow fields, for every source that hands over batches of columns."""

from __future__ import annotations

import pyarrow as pa

from asgi_export.declared import Kind, kind_of
from asgi_export.table import Column

_EXTENSIONS: dict[str, Kind] = {"arrow.uuid": "text", "arrow.bool8": "boolean", "arrow.json": "nested"}


def column_of(field: pa.Field) -> Column:
    """Return the column of a field, with Arrow's name of its type."""
    return Column(field.name, str(field.type), kind_of_type(field.type), field)


def kind_of_type(kind: pa.DataType) -> Kind:
    """Return the kind of the values of a type, however they are laid out.

    >>> [kind_of_type(found) for found in (pa.dictionary(pa.int8(), pa.string()), pa.decimal128(9, 2))]
    ['text', 'number']
    """
    if isinstance(kind, pa.BaseExtensionType):
        return _EXTENSIONS.get(kind.extension_name) or kind_of_type(kind.storage_type)
    if pa.types.is_dictionary(kind) or pa.types.is_run_end_encoded(kind):
        return kind_of_type(kind.value_type)
    if pa.types.is_nested(kind):
        return "nested"
    return kind_of(str(kind))
