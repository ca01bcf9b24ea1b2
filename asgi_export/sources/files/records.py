"""Where records of delimited text end: RFC 4180 §2, in bytes, for any delimiter of one byte.

A line feed ends a record where it is outside of quotes. A quote at the start of a field opens a quoted field, and
what follows its closing quote must be a delimiter or a line end: other text there is the mark of a quote that was
not closed where it should have been, and that has swallowed records. Any other quote is a character.

Two expressions know this. The fast one knows fields without such other quotes: what it matches holds an even number
of quotes before every line feed that ends a record. The exact one goes record by record and takes twice as long.
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
    """Finds the ends of records, given the delimiter."""

    def __init__(self, delimiter: str) -> None:
        def compiled(pattern: bytes) -> re.Pattern[bytes]:
            whole = pattern.replace(b"Q", _QUOTED).replace(b"L", _LONE).replace(b"O", _OPEN)
            return re.compile(whole.replace(b"D", re.escape(delimiter.encode())), re.VERBOSE)

        self._regular = compiled(rb'(?: [^"]*+ Q )*+ [^"]*+')
        self._open = compiled(_OPEN)
        self._first = compiled(_RECORD)
        self._records = compiled(rb"(?:" + _RECORD + rb")*+")
        self._partial = compiled(_PARTIAL)

    def first(self, block: bytes) -> int:
        """Where the first record of a block ends; 0 where the block does not hold all of it."""
        match = self._first.match(block)
        return match.end() if match else 0

    def end(self, block: bytes) -> int:
        """Where the last whole record of a block ends, which starts with a record; 0 where none does.

        Raises `pa.ArrowInvalid` where text follows a closing quote.
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
    """Behind the last line feed that has an even number of quotes before it, where `stop` has one."""
    inside = False
    while (place := block.rfind(b"\n", 0, stop)) >= 0:
        inside ^= block.count(b'"', place, stop) % 2 == 1
        if not inside:
            break
        stop = place
    return place + 1
