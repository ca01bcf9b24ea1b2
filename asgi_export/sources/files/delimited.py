"""CSV files, read in blocks of whole records.

A CSV file has no types, so all of its columns are text: 007 stays 007, and what was written is read. A field
that is empty and unquoted is null; a quoted one is empty text.

pyarrow parses the blocks, and we cut them: its own streaming reader holds 32 blocks that a thread of its own
has read ahead, and fails at a record that is larger than a block. A cut needs the end of a record, which is a
line feed outside of quotes; where a block holds quotes, one regular expression runs over it from its start,
which is the start of a record.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Any

import pyarrow as pa
from pyarrow import csv

BLOCK_BYTES = 512 * 1024
MAX_RECORD_BYTES = 16 * 1024 * 1024
"""A quote that is never closed makes the rest of a file one record."""

_RECORD = rb"""
    (?: [^"\n]++                                # text and delimiters
      | (?<![^,\r\n]) " (?: [^"]++ | "" )*+ "    # a quote at the start of a field opens a quoted one
      | (?<=[^,\r\n]) "                         # any other quote is a character
    )*+ \n"""
"""One record: RFC 4180 §2, and what pyarrow makes of quotes that it does not allow."""

_FIRST_RECORD = re.compile(_RECORD, re.VERBOSE)
_RECORDS = re.compile(rb"(?:" + _RECORD + rb")*+", re.VERBOSE)

_QUOTED_ROW = re.compile(r"(Expected \d+ columns, got \d+): .*", re.DOTALL)


class Csv:
    """RFC 4180 in UTF-8 with a header line. Raises `pa.ArrowInvalid` for a row with another number of fields."""

    def schema(self, file: Any) -> pa.Schema:
        """All columns text. Raises `pa.ArrowInvalid` where the first block cannot be parsed."""
        names, rest = _header(_blocks(file))
        _parsed(rest, names, names)
        return pa.schema([(name, pa.string()) for name in names])

    def batches(self, file: Any, names: Sequence[str], limit: int | None) -> Iterator[pa.RecordBatch]:
        """A block after the other; no more of them are read than are asked for."""
        blocks = _blocks(file)
        header, rest = _header(blocks)
        yield from _parsed(rest, header, names)
        for block in blocks:
            yield from _parsed(block, header, names)


def _blocks(file: Any) -> Iterator[bytes]:
    """The file in pieces that end where a record ends, each as small as that allows."""
    rest = file.read(BLOCK_BYTES)
    while data := file.read(BLOCK_BYTES):
        end = _end_of_records(rest)
        if end:
            yield rest[:end]
        elif len(rest) > MAX_RECORD_BYTES:
            raise pa.ArrowInvalid(f"a record has more than {MAX_RECORD_BYTES} bytes; is a quote never closed?")
        rest = rest[end:] + data
    yield rest if rest.endswith(b"\n") else rest + b"\n"


def _end_of_records(block: bytes) -> int:
    """Where the last whole record of a block ends, which starts with a record; 0 where none does."""
    if b'"' not in block:
        return block.rfind(b"\n") + 1
    match = _RECORDS.match(block)
    return match.end() if match else 0


def _header(blocks: Iterator[bytes]) -> tuple[list[str], bytes]:
    """The names in the first record that is no empty line, and what comes after it in its block."""
    block = next((found for block in blocks if (found := block.lstrip(b"\r\n"))), b"")
    match = _FIRST_RECORD.match(block)
    header = _read(match.group() if match else block, _options(block))
    if header.num_rows:
        raise pa.ArrowInvalid("a lone carriage return ends a line; expected a line feed")
    return header.column_names, block[match.end() :] if match else b""


def _parsed(block: bytes, header: Sequence[str], names: Sequence[str]) -> list[pa.RecordBatch]:
    """The named columns of whole records, as text."""
    if not block.strip(b"\r\n"):
        return []
    options = csv.ConvertOptions(
        include_columns=list(names),
        column_types={name: pa.string() for name in names},
        strings_can_be_null=True,
        quoted_strings_can_be_null=False,
        null_values=[""],
    )
    read = _options(block, column_names=list(header))
    table = _read(block, read, csv.ParseOptions(newlines_in_values=True), options)
    batches: list[pa.RecordBatch] = table.to_batches()
    return batches


def _read(block: bytes, *options: Any) -> pa.Table:
    """What pyarrow makes of it. Raises `pa.ArrowInvalid` without the row that pyarrow quotes: logs hold no values."""
    try:
        return csv.read_csv(pa.BufferReader(block), *options)
    except pa.ArrowInvalid as error:
        raise pa.ArrowInvalid(_QUOTED_ROW.sub(r"\1", str(error))) from None


def _options(block: bytes, **options: Any) -> csv.ReadOptions:
    """One block is one block to pyarrow too, parsed in the thread that asks."""
    return csv.ReadOptions(use_threads=False, block_size=len(block) + 1, **options)
