"""Find the ends of records of delimited text, in bytes, for any delimiter of one byte. RFC 4180 §2.

A line feed outside of quotes ends a record. A quote at the start of a field opens a quoted field. After its closing
quote a delimiter or a line end must follow: other text means that an earlier quote was not closed and has swallowed
records. Any other quote is a plain character.

There are two expressions. The fast one is for text without such other quotes, where the number of quotes before every
line feed that ends a record is even. The exact one matches record by record, and takes twice as long.
"""

from __future__ import annotations

import re

import pyarrow as pa

_QUOTED = rb'(?<![^D\r\n]) " [^"]*+ (?: "" [^"]*+ )*+ " (?= [D\r\n] | \Z )'
_LONE = rb'(?<= [^D\r\n] ) "'
_OPEN = rb'(?<![^D\r\n]) " [^"]*+ (?: "" [^"]*+ )*+ "?+ \Z'
_RECORD = rb'[^"\n]*+ (?: (?: Q | L ) [^"\n]*+ )*+ \n'
_PARTIAL = rb'[^"\n]*+ (?: (?: Q | L ) [^"\n]*+ )*+ (?: O )?+ \Z'


class Records:
    """Find the ends of records, given the delimiter."""

    def __init__(self, delimiter: str) -> None:
        def compile_pattern(pattern: bytes) -> re.Pattern[bytes]:
            whole = pattern.replace(b"Q", _QUOTED).replace(b"L", _LONE).replace(b"O", _OPEN)
            return re.compile(whole.replace(b"D", re.escape(delimiter.encode())), re.VERBOSE)

        self._regular = compile_pattern(rb'(?: [^"]*+ Q )*+ [^"]*+')
        self._open = compile_pattern(_OPEN)
        self._first = compile_pattern(_RECORD)
        self._records = compile_pattern(rb"(?:" + _RECORD + rb")*+")
        self._partial = compile_pattern(_PARTIAL)

    def first(self, block: bytes) -> int:
        """Return where the first record of a block ends; 0 where the block does not hold all of it."""
        match = self._first.match(block)
        return match.end() if match else 0

    def end(self, block: bytes) -> int:
        """Return where the last whole record of a block ends, which starts with a record; 0 where none does.

        Raises `pa.ArrowInvalid` if text follows a closing quote.
        """
        if b'"' not in block:
            return block.rfind(b"\n") + 1
        stop = _end_of(self._regular.match(block))
        if stop == len(block) or self._open.match(block, stop):
            return _outside_of_quotes(block, stop)
        end = _end_of(self._records.match(block))
        if not self._partial.match(block, end):
            raise pa.ArrowInvalid("text follows a closing quote; is a quote before it never closed?")
        return end


def _end_of(match: re.Match[bytes] | None) -> int:
    return match.end() if match else 0


def _outside_of_quotes(block: bytes, stop: int) -> int:
    """Find the place behind the last line feed that has an even number of quotes before it, where `stop` has one."""
    inside = False
    while (place := block.rfind(b"\n", 0, stop)) >= 0:
        inside ^= block.count(b'"', place, stop) % 2 == 1
        if not inside:
            break
        stop = place
    return place + 1
