"""Read the statistics of row groups out of the footer of a Parquet file, in Thrift's compact protocol.

pyarrow has them too, but it ends the process over those of an encrypted column, and over a bound that is shorter than
its type. Of the bounds only `min_value` and `max_value` are used, in the order of the column's type: the older fields
hold wrong ones by some writers.

https://github.com/apache/parquet-format/blob/master/src/main/thrift/parquet.thrift
https://github.com/apache/thrift/blob/master/doc/specs/thrift-compact-protocol.md
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

MAX_FOOTER_BYTES = 1024 * 1024
"""A quarter of a second; no statistics are read of a larger one."""

MAX_DEPTH = 32
_TAIL_BYTES = 8
_MAGIC = b"PAR1"

_TRUE, _BYTE, _DOUBLE, _BINARY, _LIST, _SET, _MAP, _STRUCT = 1, 3, 7, 8, 9, 10, 11, 12
_INTEGERS = (4, 5, 6)


@dataclass(frozen=True, slots=True)
class Statistics:
    """What a footer says of one column in one row group: bounds in the bytes of the physical type, and its nulls."""

    least: bytes | None = None
    most: bytes | None = None
    nulls: int | None = None


NOTHING = Statistics()

GroupStatistics = Mapping[int, Statistics]
"""By the place of the column among those of the file."""


def read_statistics(file: Any, columns: Collection[int]) -> Sequence[GroupStatistics]:
    """Return the statistics of these columns for each row group; none if the footer cannot be read."""
    size = file.size()
    file.seek(max(0, size - _TAIL_BYTES))
    tail = file.read(_TAIL_BYTES)
    length = int.from_bytes(tail[:4], "little")
    if tail[4:] != _MAGIC or not 0 < length <= min(MAX_FOOTER_BYTES, size - _TAIL_BYTES):
        return ()
    file.seek(size - _TAIL_BYTES - length)
    try:
        return _statistics(_Compact(bytes(file.read(length))), frozenset(columns))
    except (IndexError, ValueError):  # the footer is damaged, which the reader of the file will report
        return ()


def _statistics(footer: _Compact, columns: frozenset[int]) -> Sequence[GroupStatistics]:
    groups: list[GroupStatistics] = []
    ordered: frozenset[int] = frozenset()
    for number, kind in footer.fields():
        if number == 4 and kind == _LIST:
            groups = [_group(footer, columns) for _ in footer.items()]
        elif number == 7 and kind == _LIST:
            ordered = frozenset([place for place, _ in enumerate(footer.items()) if _has_order_of_type(footer)])
        else:
            footer.skip(kind)
    return [{place: found if place in ordered else NOTHING for place, found in group.items()} for group in groups]


def _has_order_of_type(footer: _Compact) -> bool:
    """Return whether a `ColumnOrder` is `TypeDefinedOrder`, field 1 of the union; later versions have others."""
    found = False
    for number, kind in footer.fields():
        found = number == 1
        footer.skip(kind)
    return found


def _group(footer: _Compact, columns: frozenset[int]) -> GroupStatistics:
    found: dict[int, Statistics] = {}
    for number, kind in footer.fields():
        if number == 1 and kind == _LIST:
            for place, item in enumerate(footer.items()):
                if place in columns:
                    found[place] = _chunk(footer)
                else:
                    footer.skip(item)
        else:
            footer.skip(kind)
    return found


def _chunk(footer: _Compact) -> Statistics:
    return _within(footer, 3, lambda: _within(footer, 12, lambda: _bounds(footer)))


def _within(footer: _Compact, wanted: int, read: Callable[[], Statistics]) -> Statistics:
    """Read the field with a number, which is a structure, and skip the others."""
    found = NOTHING
    for number, kind in footer.fields():
        if number == wanted and kind == _STRUCT:
            found = read()
        else:
            footer.skip(kind)
    return found


def _bounds(footer: _Compact) -> Statistics:
    texts: dict[int, bytes] = {}
    nulls = None
    for number, kind in footer.fields():
        if number in (5, 6) and kind == _BINARY:
            texts[number] = footer.binary()
        elif number == 3 and kind in _INTEGERS:
            nulls = footer.integer()
        else:
            footer.skip(kind)
    return Statistics(texts.get(6), texts.get(5), nulls)


class _Compact:
    """Values of Thrift's compact protocol, one after another. Raises `IndexError` and `ValueError` if damaged.

    What is read is never longer than the text, and every item takes a byte at least.
    """

    def __init__(self, text: bytes) -> None:
        self._text = text
        self._place = 0
        self._depth = 0

    def fields(self) -> Iterator[tuple[int, int]]:
        """Iterate the numbers and types of a structure's fields; each is to be read or skipped before the next."""
        self._depth += 1
        if self._depth > MAX_DEPTH:
            raise ValueError("nested too deeply")
        number = 0
        while head := self._byte():
            number = number + (head >> 4) if head >> 4 else self.integer()
            yield number, head & 15
        self._depth -= 1

    def items(self) -> Iterator[int]:
        """Iterate the type of each item of a list."""
        head = self._byte()
        count = head >> 4 if head >> 4 < 15 else self._varint()
        for _ in range(count):
            yield head & 15

    def integer(self) -> int:
        """Read an integer, whose sign is its last bit."""
        found = self._varint()
        return (found >> 1) ^ -(found & 1)

    def binary(self) -> bytes:
        """Read bytes."""
        start = self._advance(self._varint())
        return self._text[start : self._place]

    def skip(self, kind: int) -> None:
        """Leave out a value of a field; booleans of fields are in their types."""
        if kind in _INTEGERS:
            self._varint()
        elif kind == _BINARY:
            self._advance(self._varint())
        elif kind == _STRUCT:
            for _, found in self.fields():
                self.skip(found)
        elif kind in (_LIST, _SET):
            self._skip_list()
        elif kind == _BYTE:
            self._advance(1)
        elif kind == _DOUBLE:
            self._advance(8)
        elif kind > _TRUE + 1 or not kind:
            raise ValueError(f"a field of type {kind}")

    def _skip_list(self) -> None:
        self._depth += 1
        if self._depth > MAX_DEPTH:
            raise ValueError("nested too deeply")
        for kind in self.items():
            self.skip(_BYTE if kind <= _TRUE + 1 else kind)
        self._depth -= 1

    def _byte(self) -> int:
        found = self._text[self._place]
        self._place += 1
        return found

    def _varint(self) -> int:
        found = shift = 0
        while (byte := self._byte()) > 127:
            found |= (byte & 127) << shift
            shift += 7
            if shift > 63:
                raise ValueError("an integer of more than 64 bits")
        return found | byte << shift

    def _advance(self, size: int) -> int:
        start, self._place = self._place, self._place + size
        if self._place > len(self._text):
            raise IndexError("past the end")
        return start
