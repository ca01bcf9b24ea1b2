"""JSON lines: an object a line, RFC 8259 in UTF-8. Its rows are Python's own values, each exactly what was written.

Whole numbers have any size. A fraction is a float if the shortest text of that is the same number; a number that
Python cannot hold is passed on as written. Nested values stay JSON. A missing key is null; a key that occurs twice in
an object breaks the export, as one of its values would be lost.

Only the lines tell the columns, so the first `SCAN_BYTES` of each file are read at the start. A new key after that
breaks the export, unless the location has ``?scan=all``.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from decimal import Decimal
from math import isfinite
from types import NoneType
from typing import Any, ClassVar

import pyarrow as pa

from asgi_export.sources.files.cursor import FileCursor
from asgi_export.sources.files.listing import Entry, OpenFile, Place
from asgi_export.sources.files.text import Readable, open_text
from asgi_export.table import Column, JsonText, Row, Selection

READ_BYTES = 64 * 1024
SCAN_BYTES = 16 * 1024 * 1024
MAX_LINE_BYTES = 4 * 1024 * 1024
"""Python's values of a line take up to twenty times as much memory as its text."""

MAX_COLUMNS = 100_000
_INT64 = range(-(2**63), 2**63)
_NESTED = (dict, list)

_DECLARED: tuple[tuple[frozenset[type], str], ...] = (
    (frozenset({int}), "bigint"),
    (frozenset({int, float}), "double"),
    (frozenset({int, float, JsonText}), "numeric"),
    (frozenset({bool}), "boolean"),
    (frozenset({str}), "text"),
    (frozenset({dict}), "json"),
)
"""The type name of a column that has only values of these types."""


@dataclass(frozen=True, slots=True)
class JsonLines:
    """How a file is written."""

    encoding: str = ""
    scan: str = ""

    def scan_types(self, file: Readable) -> dict[str, set[type]]:
        """Return the keys of the first lines, or of all, with the types of their values."""
        found: dict[str, set[type]] = {}
        size = 0
        for block, records in _blocks(file, self.encoding):
            size += block
            for record in records:
                for key, value in record.items():
                    found.setdefault(key, set()).add(_type_of(value))
            if len(found) > MAX_COLUMNS:
                raise pa.ArrowInvalid(f"it has more than {MAX_COLUMNS} keys")
            if size >= SCAN_BYTES and self.scan != "all":
                break
        if any(not _is_text(key) for key in found):
            raise pa.ArrowInvalid("a key holds a lone surrogate, which is no text")
        return found


def declared_type(types: set[type]) -> str:
    """Return the type name of a column of values of these types."""
    found = types - {NoneType}
    return next((name for kinds, name in _DECLARED if found and found <= kinds), "text")


@dataclass(frozen=True, slots=True)
class JsonDataset:
    """The rows of all files of a place, by path. `open` gives a cursor over lists of tuples."""

    name: str
    place: Place
    kind: JsonLines
    columns: Sequence[Column]
    partitions: Mapping[str, type]
    remarks: tuple[str, ...] = ()
    same_for_all: ClassVar[bool] = True
    sort_needs: ClassVar[str] = "JSON lines are not sorted; expected a Parquet, Arrow or CSV file"

    @property
    def default_limit(self) -> int | None:
        """All rows."""
        return None

    def open(self, selection: Selection) -> FileCursor:
        """Return a cursor over the selected columns, in the order of the selection."""
        known = frozenset(column.name for column in self.columns)
        reader = JsonReader(self.kind, selection.columns, known, self.partitions)
        return FileCursor(self.name, self.place, reader, selection.limit)


@dataclass(frozen=True, slots=True)
class JsonReader:
    """The rows of one file."""

    kind: JsonLines
    names: Sequence[str]
    known: frozenset[str]
    partitions: Mapping[str, type]

    def wants(self, _: Entry) -> bool:
        """Any file may have any row: a key of a line may be that of a folder too."""
        return True

    def open(self, file: OpenFile, limit: int | None) -> tuple[set[str], Iterator[list[Row]]]:
        """Return the names that a line may have, and the rows, one block of lines after another."""
        return set(self.names), self._rows(file)

    def _rows(self, file: OpenFile) -> Iterator[list[Row]]:
        filled = self._fill_partitions(dict(file.entry.partition))
        for _, records in _blocks(file.content(), self.kind.encoding):
            rows: list[Row] = []
            for record in records:
                if not self.known.issuperset(record):
                    reason = f"a key that the first {SCAN_BYTES} bytes do not have; put ?scan=all behind the location"
                    raise pa.ArrowInvalid(f"a line has {reason}")
                row = (filled | record if filled else record).get
                rows.append(tuple(map(row, self.names)))
            yield rows

    def _fill_partitions(self, partition: Mapping[str, str | None]) -> dict[str, Any]:
        """Return the values of the file's partition; keys of its lines override them."""
        found = ((name, kind, partition.get(name)) for name, kind in self.partitions.items())
        return {name: None if text is None else kind(text) for name, kind, text in found}


def _blocks(file: Readable, encoding: str) -> Iterator[tuple[int, list[dict[str, Any]]]]:
    """Yield the size of each block of lines, and its objects. Raises `pa.ArrowInvalid` with line and reason."""
    number = 0
    decode = _Decoder().decode
    for block in _lines(open_text(file, encoding)[0]):
        try:
            lines = str(block, "utf-8").split("\n")
        except UnicodeDecodeError:
            raise pa.ArrowInvalid("it is not UTF-8; put ?encoding=… behind the location") from None
        records = []
        for line in lines:
            number += 1
            if text := line.strip(" \t\r"):
                try:
                    records.append(decode(text))
                except (ValueError, RecursionError) as error:
                    raise pa.ArrowInvalid(f"line {number}: {_reason(error)}") from None
        number -= 1  # behind the last line feed
        yield len(block), records


def _lines(file: Readable) -> Iterator[bytes]:
    """Cut the file into pieces of whole lines, each as small as that allows."""
    rest = b""
    while data := file.read(READ_BYTES):
        end = data.rfind(b"\n") + 1
        if end:
            yield rest + data[:end]
            rest = b""
        rest += data[end:]
        if len(rest) > MAX_LINE_BYTES:
            raise pa.ArrowInvalid(f"a line has more than {MAX_LINE_BYTES} bytes")
    if rest:
        yield rest


class _Decoder:
    """Decode one line exactly, nested values as JSON. Raises `ValueError` and `RecursionError`."""

    def __init__(self) -> None:
        hooks: dict[str, Any] = {"object_pairs_hook": _unique, "parse_float": self._number}
        self._decoder = json.JSONDecoder(**hooks)
        self._patient = json.JSONDecoder(**hooks, parse_int=self._whole_number)
        self._verbatim = False  # whether the line has a number that is passed on as written

    def decode(self, line: str) -> dict[str, Any]:
        self._verbatim = False
        try:
            found, end = self._decoder.raw_decode(line)
        except ValueError as error:
            if type(error) is not ValueError:
                raise
            found, end = self._patient.raw_decode(line)  # a number has more digits than Python converts
        if end != len(line):
            raise pa.ArrowInvalid("more than one JSON value in a line")
        if type(found) is not dict:
            raise pa.ArrowInvalid("expected a JSON object in each line")
        for key, value in found.items():
            if isinstance(value, _NESTED):
                found[key] = JsonText(self._nested(value))
        return found

    def _nested(self, value: Any) -> str:
        if not self._verbatim:
            with suppress(ValueError):  # NaN
                return _dumps(value)
        return _text(value)

    def _number(self, text: str) -> float | JsonText:
        """Convert to a float if that is the same number, else keep the text."""
        number = float(text)
        shortest = repr(number)
        if shortest == text or _is_same(shortest, text):
            return number
        self._verbatim = True
        return JsonText(text)

    def _whole_number(self, text: str) -> int | JsonText:
        try:
            return int(text)
        except ValueError:
            self._verbatim = True
            return JsonText(text)


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise pa.ArrowInvalid("a key occurs twice in an object")
    return found


def _is_same(shortest: str, text: str) -> bool:
    try:
        return Decimal(shortest) == Decimal(text)
    except ArithmeticError:  # an exponent that Decimal does not have
        return False


_dumps = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"), allow_nan=False).encode


def _text(value: Any) -> str:
    """Write a nested value as JSON; NaN and the infinities, which JSON lacks, as null."""
    if isinstance(value, JsonText):
        return value
    if isinstance(value, dict):
        return "{" + ",".join([f"{_dumps(key)}:{_text(item)}" for key, item in value.items()]) + "}"
    if isinstance(value, list):
        return "[" + ",".join([_text(item) for item in value]) + "]"
    if isinstance(value, float) and not isfinite(value):
        return "null"
    return _dumps(value)


def _type_of(value: Any) -> type:
    """Return the type of a value: `dict` for any nested one, `JsonText` for a number that only text holds exactly."""
    kind = type(value)
    if kind is JsonText:
        return dict if value[0] in "{[" else JsonText
    return JsonText if kind is int and value not in _INT64 else kind


def _is_text(name: str) -> bool:
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


def _reason(error: Exception) -> str:
    if isinstance(error, RecursionError):
        return "it is nested too deeply"
    if isinstance(error, json.JSONDecodeError):
        return f"no JSON: {error.msg} at character {error.pos + 1}; was it cut off?"
    return str(error)
