"""CSV and TSV files, read in blocks of whole records.

Such a file has no types, so all columns are text: 007 stays 007. An empty field without quotes is null; with quotes
it is empty text.

pyarrow parses the blocks, but they are cut here. Its own streaming reader has a thread that reads 32 blocks ahead,
fails at a record that is larger than a block, and accepts a file that ends inside quotes. `records` finds the ends of
records.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain, islice

import pyarrow as pa
from pyarrow import csv

from asgi_export.declared import Kind
from asgi_export.sources.files.options import UTF8
from asgi_export.sources.files.records import Records
from asgi_export.sources.files.text import Readable, open_text
from asgi_export.sources.files.text_kinds import kinds_of
from asgi_export.sources.files.where import Where

BLOCK_BYTES = 512 * 1024
MAX_RECORD_BYTES = 16 * 1024 * 1024
"""A quote that is never closed makes the rest of a file one record."""

MAX_COLUMNS = 100_000

DELIMITERS = (",", ";", "\t", "|")
"""Delimiters to look for in a header, if the location names none."""

DELIMITER_NAMES = {"\t": "a tab"}

_NOT_UTF8 = "it is not UTF-8; put ?encoding=latin-1, or what it is, behind the location"
_LONE_CR = "a lone carriage return ends a line; expected a line feed"

_EXCEL_LINE = re.compile(rb'"?sep=([^"\r\n])"?\r?\n')
"""Excel writes a line with the delimiter before the header, and skips it when it reads."""

_FIRST_LINE = re.compile(rb'(?:[^"\r\n]++|"[^"]*+"?+)*+')
_QUOTED_TEXT = re.compile(rb'"[^"]*+"?+')
_QUOTED_ROW = re.compile(r"(Expected \d+ columns, got \d+): .*", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Delimited:
    """RFC 4180 with a header line. Raises `pa.ArrowInvalid` for what is no whole table.

    An empty `delimiter` is the one that the header has: `usual`, or, where `usual` is nowhere in it, the most
    frequent other of `DELIMITERS`. An empty `encoding` is that of the byte order mark, else UTF-8. `null` is the
    text that means no value where it is not quoted. `kinds` has columns whose kind the operator knows.
    """

    usual: str = ","
    delimiter: str = ""
    encoding: str = ""
    null: str = ""
    kinds: Mapping[str, Kind] = field(default_factory=dict)

    def schema(self, file: Readable) -> pa.Schema:
        """Read the columns, all text. Raises if the first records, or all of a small file, cannot be parsed."""
        reader = _Reader(self, file)
        for block in islice(reader.blocks, 2):  # the first may hold the header alone
            if any(batch.num_rows for batch in reader.parse(block, reader.names)):
                break
        return pa.schema([(name, pa.string()) for name in reader.names])

    def batches(
        self, file: Readable, names: Sequence[str], limit: int | None, where: Where | None = None
    ) -> Iterator[pa.RecordBatch]:
        """Read block after block, each one on demand."""
        reader = _Reader(self, file)
        columns = list(dict.fromkeys([*names, *(where.names if where else ())]))
        batches = chain.from_iterable(reader.parse(block, columns) for block in reader.blocks)
        yield from where.rows(batches) if where else batches

    def find_kinds(self, file: Readable) -> dict[str, Kind]:
        """Find the kinds of the columns by the first records."""
        reader = _Reader(self, file)
        for block in islice(reader.blocks, 2):  # the first may hold the header alone
            found = kinds_of(reader.parse(block, reader.names))
            if found:
                return found
        return {}

    def remark(self, file: Readable) -> str:
        """Tell the operator what was detected in the file and not configured; empty if it is the usual."""
        reader = _Reader(self, file)
        found = []
        if reader.delimiter != (self.delimiter or self.usual):
            shown = DELIMITER_NAMES.get(reader.delimiter, repr(reader.delimiter))
            found.append(f"the delimiter is {shown}, by its header")
        if reader.encoding != (self.encoding or UTF8):
            found.append(f"the encoding is {reader.encoding}, by its byte order mark")
        return "; ".join(found)


class _Reader:
    """Read a file once: its names, and `blocks`, which begin after the header and end where a record ends."""

    def __init__(self, kind: Delimited, file: Readable) -> None:
        self._file, self.encoding = open_text(file, kind.encoding)
        self._nulls = [kind.null]
        start = _start(self._file)
        self.delimiter, start = _delimiter(kind, start)
        self._records = Records(self.delimiter)
        self._parsing = csv.ParseOptions(delimiter=self.delimiter, newlines_in_values=True)
        blocks = self._blocks(start)
        block = next(blocks)
        end = self._records.first(block)
        self.names = self._header(block[:end])
        self.blocks = chain([block[end:]], blocks)

    def parse(self, block: bytes, names: Sequence[str]) -> list[pa.RecordBatch]:
        """Parse the named columns of whole records, as text; empty lines make no rows."""
        if not block.strip(b"\r\n"):
            return [pa.record_batch([pa.array([], pa.string())] * len(names), names=list(names))]
        converting = csv.ConvertOptions(
            include_columns=list(names),
            column_types={name: pa.string() for name in names},
            strings_can_be_null=True,
            quoted_strings_can_be_null=False,
            null_values=self._nulls,
        )
        table = self._read(block, csv.ReadOptions(column_names=self.names), converting)
        batches: list[pa.RecordBatch] = table.to_batches()
        return batches

    def _blocks(self, rest: bytes) -> Iterator[bytes]:
        """Cut the file into pieces that end where a record ends, each as small as that allows."""
        while data := self._file.read(BLOCK_BYTES):
            end = self._records.end(rest)
            if end:
                yield rest[:end]
            elif len(rest) > MAX_RECORD_BYTES:
                raise pa.ArrowInvalid(f"a record has more than {MAX_RECORD_BYTES} bytes; is a quote never closed?")
            rest = rest[end:] + data
        yield self._whole(rest)

    def _whole(self, rest: bytes) -> bytes:
        """Complete the last piece, whose line feed may be missing. Raises `pa.ArrowInvalid` if more is missing."""
        if rest.endswith(b"\0"):
            raise pa.ArrowInvalid("it ends with NUL bytes; was it cut off?")
        rest = rest if rest.endswith(b"\n") else rest + b"\n"
        if self._records.end(rest) < len(rest):
            raise pa.ArrowInvalid("it ends inside quotes; was it cut off, or is a quote never closed?")
        return rest

    def _header(self, record: bytes) -> list[str]:
        header = self._read(record, csv.ReadOptions(), csv.ConvertOptions())
        try:
            names: list[str] = header.column_names
        except UnicodeDecodeError:
            raise pa.ArrowInvalid(_NOT_UTF8) from None
        if header.num_rows:
            raise pa.ArrowInvalid(_LONE_CR)
        if len(names) > MAX_COLUMNS:
            raise pa.ArrowInvalid(f"it has {len(names)} columns; expected {MAX_COLUMNS} at most")
        return names

    def _read(self, block: bytes, reading: csv.ReadOptions, converting: csv.ConvertOptions) -> pa.Table:
        """Parse one block, in the calling thread. Raises without the row that pyarrow quotes."""
        reading.use_threads = False
        reading.block_size = len(block) + 1
        try:
            return csv.read_csv(pa.BufferReader(block), reading, self._parsing, converting)
        except pa.ArrowInvalid as error:
            if "invalid UTF8" in str(error):
                raise pa.ArrowInvalid(_NOT_UTF8) from None
            raise pa.ArrowInvalid(_QUOTED_ROW.sub(r"\1", str(error))) from None


def _start(file: Readable) -> bytes:
    """Return the file from its first line that is not empty, and to the end of that line at least."""
    start, size = b"", 0
    while data := file.read(BLOCK_BYTES):
        size += len(data)
        start = (start + data).lstrip(b"\r\n")
        end = _first_line(start)
        if end + 1 < len(start):
            if start[end : end + 1] == b"\r" and start[end + 1 : end + 2] != b"\n":
                raise pa.ArrowInvalid(_LONE_CR)
            break
        if size > MAX_RECORD_BYTES:
            raise pa.ArrowInvalid(f"its first {MAX_RECORD_BYTES} bytes hold no header; is a quote never closed?")
    if b"\0" in start[: _first_line(start)]:
        raise pa.ArrowInvalid("its header holds NUL bytes; for UTF-16, put ?encoding=utf-16-le behind the location")
    return start


def _first_line(start: bytes) -> int:
    match = _FIRST_LINE.match(start)
    return match.end() if match else 0


def _delimiter(kind: Delimited, start: bytes) -> tuple[str, bytes]:
    """Return the delimiter, and the text from its header on."""
    if not kind.delimiter and (match := _EXCEL_LINE.match(start)):
        return match[1].decode("latin-1"), start[match.end() :]
    return kind.delimiter or _delimiter_of(start[: _first_line(start)], kind.usual), start


def _delimiter_of(header: bytes, usual: str) -> str:
    """Choose the delimiter of a header. Raises `pa.ArrowInvalid` if two are as likely."""
    bare = _QUOTED_TEXT.sub(b"", header).decode("latin-1")
    if usual in bare:
        return usual
    counts = sorted(((bare.count(delimiter), delimiter) for delimiter in DELIMITERS), reverse=True)
    (most, found), (second, other) = counts[:2]
    if most and most == second:
        raise pa.ArrowInvalid(f"its header has {found!r} as often as {other!r}; put ?delimiter=… behind the location")
    return found if most else usual
