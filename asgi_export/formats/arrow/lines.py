"""Write record batches as lines of JSON or delimited text, with the same bytes as `csv.writer`.

polars writes the lines. It differs from `csv.writer` in four points, which are put right beforehand, a column
at a time and only where a batch has them: it quotes empty text, does not quote a null's text or a number that
holds the delimiter, and writes `NaN`. A fifth is left: the exponent of small floats, `1e-7` for `1e-07`.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from io import BytesIO
from typing import Any

import polars as pl
import pyarrow as pa
import pyarrow.compute as pc

from asgi_export.columns.plain import is_nested, plain
from asgi_export.formats.formulas import NUMBER, STARTS
from asgi_export.table import Dialect

_FORMULA_START = f"^(?:{'|'.join(map(re.escape, STARTS))})"
_WHOLE_NUMBER = rf"^(?:{NUMBER})\z"
_IN_NUMBERS = re.compile(r"[0-9A-Za-z+.-]")
"""Delimiters that occur in the text of numbers and booleans."""


class ArrowLines:
    """Write record batches in one dialect, whose delimiter is one ASCII character. Has no state."""

    def __init__(self, dialect: Dialect, width: int) -> None:
        self._dialect = dialect
        self._names = [str(place) for place in range(width)]
        self._minimal = dialect.quote == "minimal"
        self._keep_empty = width == 1 or not self._minimal
        self._fill_nulls = bool(dialect.null) or self._keep_empty
        self._all_text = bool(_IN_NUMBERS.fullmatch(dialect.delimiter))

    def lines(self, batch: pa.RecordBatch) -> bytes:
        """Return whole lines, no header."""
        columns = [self._field(column) for column in batch.columns]
        file = BytesIO()
        pl.DataFrame(pa.RecordBatch.from_arrays(columns, self._names)).write_csv(
            file,
            include_header=False,
            separator=self._dialect.delimiter,
            line_terminator=self._dialect.newline,
            quote_style="necessary" if self._minimal else "always",
        )
        return file.getvalue()

    def _field(self, array: pa.Array) -> pa.Array:
        array = plain(array)
        guarded = self._dialect.escape_formulas and _is_text(array.type)
        array = _no_nan(array)
        if not _is_text(array.type):
            if not (self._all_text or (self._fill_nulls and array.null_count)):
                return array
            array = pl.Series(array).cast(pl.String).to_arrow()
        return self._text(array, guarded=guarded)

    def _text(self, array: pa.Array, *, guarded: bool) -> pa.Array:
        if guarded:
            array = _guarded(array)
        if self._fill_nulls and array.null_count:
            array = array.fill_null(self._dialect.null)
        return array if self._keep_empty else _null_for_empty(array)


def json_lines(batch: pa.RecordBatch, names: Sequence[str]) -> bytes | None:
    """Write one JSON object a line; None if a column is nested, as polars writes its leaves differently."""
    if any(is_nested(column.type) for column in batch.columns):
        return None
    file = BytesIO()
    pl.DataFrame(pa.RecordBatch.from_arrays([plain(column) for column in batch.columns], list(names))).write_ndjson(
        file
    )
    return file.getvalue()


def _is_text(kind: Any) -> bool:
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind))


def _no_nan(array: pa.Array) -> pa.Array:
    """Write NaN as `nan`: a column with one becomes text."""
    if not pa.types.is_floating(array.type):
        return array
    places = pc.is_nan(array)
    if not pc.any(places).as_py():
        return array
    text = pl.Series(array).cast(pl.String).to_arrow()
    return pc.if_else(places, pa.scalar("nan", text.type), text)


def _null_for_empty(array: pa.Array) -> pa.Array:
    """Make empty text null: polars writes nulls as nothing, and empty text as `""`."""
    empty = pc.equal(array, "")
    return pc.if_else(empty, pa.scalar(None, array.type), array) if pc.any(empty).as_py() else array


def _guarded(array: pa.Array) -> pa.Array:
    """Put `'` before text that a spreadsheet would run; see `formulas`."""
    places = pc.match_substring_regex(array, _FORMULA_START)
    if not pc.any(places).as_py():
        return array
    places = pc.and_not(places, pc.match_substring_regex(array, _WHOLE_NUMBER))
    marks = pc.if_else(places, pa.scalar("'", array.type), pa.scalar("", array.type))
    return pc.binary_join_element_wise(marks, array, pa.scalar("", array.type))
