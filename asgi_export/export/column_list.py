"""Lists of column names in a parameter: one line of CSV. RFC 4180 §2.

Blanks and tabs around a name are dropped, unless they are inside its quotes.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from asgi_export.table import Sort

EXPECTED = 'names with commas between, in double quotes where a name holds a comma, a quote or a line end ("a,b",c)'

SORT_EXPECTED = f"{EXPECTED}; - before a name is descending"

_NAME = r'(?:"((?:[^"]|"")*+)"[ \t]*+|([^",\r\n]*+))(,|\Z)'
_ITEM = re.compile(rf"[ \t]*+(){_NAME}")
_SORT_ITEM = re.compile(rf"[ \t]*+(-?){_NAME}")
"""Possessive, so that each character is read once. RFC 4180 has no quotes inside an unquoted field."""

_PLAIN = re.compile(r'(?![ \t])[^",\r\n]+(?<![ \t])')


def parse_column_list(text: str) -> tuple[str, ...]:
    """Parse names, in order; none if there are only blanks. Raises `ValueError` for bad quoting.

    >>> parse_column_list('id, name ,"a,b"," odd "')
    ('id', 'name', 'a,b', ' odd ')
    """
    return tuple([name for _, name in _items(text, _ITEM)])


def parse_sort_list(text: str) -> tuple[Sort, ...]:
    """Parse the columns to sort by; a minus that belongs to a name is in its quotes. Raises `ValueError`.

    >>> [(found.column, found.descending) for found in parse_sort_list('-created_at,id,"-odd"')]
    [('created_at', True), ('id', False), ('-odd', False)]
    """
    return tuple([Sort(name, bool(minus)) for minus, name in _items(text, _SORT_ITEM)])


def _items(text: str, pattern: re.Pattern[str]) -> Iterator[tuple[str, str]]:
    """Yield each name with the sign before it."""
    place, more = 0, bool(text.strip(" \t"))
    while more:
        item = pattern.match(text, place)
        if item is None:
            raise ValueError(text)
        sign, quoted, plain, comma = item.groups()
        yield sign, plain.rstrip(" \t") if quoted is None else quoted.replace('""', '"')
        place, more = item.end(), bool(comma)


def column_text(name: str) -> str:
    """Write a name as the list takes it.

    >>> print(column_text("id"), column_text("a,b"))
    id "a,b"
    """
    return name if _PLAIN.fullmatch(name) else _quoted(name)


def sort_text(name: str, *, descending: bool) -> str:
    """Write a column to sort by as the list takes it.

    >>> print(sort_text("id", descending=True), sort_text("-id", descending=False))
    -id "-id"
    """
    return ("-" if descending else "") + (_quoted(name) if name.startswith("-") else column_text(name))


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'
