"""NDJSON: one JSON object a line, RFC 8259, UTF-8.

Numbers are written in full, including integers past 2^53, which readers with doubles round; decimals are text, so
that no reader rounds them. NaN and the infinities, which JSON does not have, are null. Nested values keep their
structure, and JSON from the source is passed on unchanged; every other value is its text in CSV.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from json.encoder import encode_basestring
from math import isfinite
from types import NoneType
from typing import Any, cast

from asgi_export.errors import SourceFailed
from asgi_export.extras import extra
from asgi_export.table import Batch, Column, Dialect, JsonText, Rows, flatten
from asgi_export.values.python import is_foreign, to_python
from asgi_export.values.text import is_nested, json_text, text_of


class JsonLinesEncoder:
    """Encode rows and columns as JSON objects by column name; chunks end at line ends.

    Raises `SourceFailed` for a batch with another number of fields. Memory: about three times the text of a batch.
    """

    def __init__(self, columns: Sequence[Column], dialect: Dialect | None = None) -> None:
        self.rows = 0
        self._width = len(columns)
        self._names = [column.name for column in columns]
        names = [json.dumps(column.name, ensure_ascii=False).replace("%", "%%") for column in columns]
        self._line = "{" + ",".join([f"{name}:%s" for name in names]) + "}\n"

    def head(self) -> bytes:
        """Return nothing: every line has the names."""
        return b""

    def feed(self, batch: Batch) -> bytes:
        """Encode the lines of a batch."""
        if isinstance(batch, bytes):
            raise SourceFailed("a batch of ready text cannot become JSON; expected rows or columns")
        if not isinstance(batch, Sequence):
            return b"".join(self._lines_of_columns(batch))
        return self._lines(cast("Rows", batch))

    def flush(self) -> bytes:
        """Return nothing: `feed` holds nothing back."""
        return b""

    def tail(self) -> bytes:
        """Return nothing."""
        return b""

    def _lines_of_columns(self, batch: Batch) -> Iterator[bytes]:
        with extra("files"):
            from asgi_export.columns.plain import jsonable
            from asgi_export.formats.arrow.batches import record_batches
            from asgi_export.formats.arrow.lines import json_lines
        for part in record_batches(batch, self._width):
            text = json_lines(part, self._names)
            if text is None:
                text = self._lines(list(zip(*map(jsonable, part.columns), strict=True)))
            else:
                self.rows += part.num_rows
            yield text

    def _lines(self, rows: Rows) -> bytes:
        flat = flatten(rows, self._width)
        self.rows += len(rows)
        text = self._line * len(rows) % tuple([_JSON[type(value)](value) for value in flat])
        return text.encode("utf-8", "backslashreplace")  # \udXXX is JSON's own escape


class _Writers(dict[type, Callable[[Any], str]]):
    """Type → JSON text, filled as types are met; how many types a process has is bounded by its code."""

    def __missing__(self, kind: type) -> Callable[[Any], str]:
        found: Callable[[Any], str] = json_text if is_nested(kind) else _as_text
        if is_foreign({kind}):
            found = _of_python
        self[kind] = found
        return found


def _of_python(value: Any) -> str:
    found = to_python(value)
    return _JSON[type(found)](found)


def _as_text(value: Any) -> str:
    text = text_of(value)
    return encode_basestring(text) if isinstance(text, str) else json_text(text)


def _float(value: float) -> str:
    return repr(value) if isfinite(value) else "null"


def _spliced(value: str) -> str:
    """Put JSON on one line: a line end in valid JSON is white space. RFC 8259 §2."""
    return value.replace("\n", " ").replace("\r", " ")


_JSON = _Writers(
    {
        NoneType: lambda _: "null",
        bool: {True: "true", False: "false"}.__getitem__,
        int: str,
        float: _float,
        str: encode_basestring,
        JsonText: _spliced,
    }
)
