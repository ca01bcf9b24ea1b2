"""Record batches as lines of delimited text, byte for byte what `csv.writer` makes of the same texts.

polars writes the lines. It differs from `csv.writer` in four points, which are put right beforehand, a column
at a time and only where a batch has them: it quotes empty text, does not quote a null's text or a number that
holds the delimiter, and writes `NaN`. A fifth is left: the exponent of small floats, `1e-7` for `1e-07`.
"""

from __future__ import annotations

import re
from io import BytesIO
from typing import Any

import polars as pl
import pyarrow as pa  # type: ignore[import-untyped, unused-ignore]
import pyarrow.compute as pc  # type: ignore[import-untyped, unused-ignore]

from asgi_export.dataset import Dialect
from asgi_export.formats.arrow.values import plain

FORMULA_START = r"^[=+\-@\t\r]"
_IN_NUMBERS = re.compile(r"[0-9A-Za-z+.-]")
"""Delimiters that occur in the text of numbers and booleans."""


class ArrowLines:
    """Writes record batches in one dialect, whose delimiter is one ASCII character. Holds nothing."""

    def __init__(self, dialect: Dialect, *, one_column: bool) -> None:
        self._dialect = dialect
        self._minimal = dialect.quote == "minimal"
        self._keep_empty = one_column or not self._minimal
        self._all_text = bool(_IN_NUMBERS.fullmatch(dialect.delimiter))

    def lines(self, batch: pa.RecordBatch) -> bytes:
        """Whole lines, no header."""
        columns = [self._field(column) for column in batch.columns]
        frame = pl.DataFrame([pl.Series(str(place), column) for place, column in enumerate(columns)])
        file = BytesIO()
        frame.write_csv(
            file,
            include_header=False,
            separator=self._dialect.delimiter,
            line_terminator=self._dialect.newline,
            quote_style="necessary" if self._minimal else "always",
        )
        return file.getvalue()

    def _field(self, array: pa.Array) -> pl.Series:
        is_number = _is_number(array.type)
        series = pl.Series(_no_nan(plain(array)))
        if series.dtype != pl.String:
            if not (self._all_text or (series.null_count() and (self._dialect.null or self._keep_empty))):
                return series
            series = series.cast(pl.String)
        return self._text(series, guarded=self._dialect.escape_formulas and not is_number)

    def _text(self, series: pl.Series, *, guarded: bool) -> pl.Series:
        if guarded:
            series = _guarded(series)
        if series.null_count() and (self._dialect.null or self._keep_empty):
            series = series.fill_null(self._dialect.null)
        empty = series == ""
        return series if self._keep_empty or not empty.any() else series.set(empty, None)


def _is_number(kind: Any) -> bool:
    """Decimals are text by now, and are no formulas."""
    types = pa.types
    return bool(types.is_integer(kind) or types.is_floating(kind) or types.is_decimal(kind) or types.is_boolean(kind))


def _no_nan(array: pa.Array) -> pa.Array:
    """NaN as `nan`: a column that has one becomes text."""
    if not pa.types.is_floating(array.type):
        return array
    places = pc.is_nan(array)
    if not pc.any(places).as_py():
        return array
    text = pl.Series(array).cast(pl.String).to_arrow()
    return pc.if_else(places, pa.scalar("nan", text.type), text)


def _guarded(series: pl.Series) -> pl.Series:
    """`'` before text that a spreadsheet would run. OWASP, CSV Injection."""
    places = series.str.contains(FORMULA_START)
    if not places.any():
        return series
    return pl.select(pl.when(places).then("'" + series).otherwise(series)).to_series()
