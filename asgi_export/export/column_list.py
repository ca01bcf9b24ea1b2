"""Lists of column names in a parameter: one line of CSV. RFC 4180 §2.

Blanks and tabs around a name are dropped, unless they are inside its quotes.
"""

from __future__ import annotations

import re

EXPECTED = 'names with commas between, in double quotes where a name holds a comma, a quote or a line end ("a,b",c)'

_ITEM = re.compile(r'[ \t]*+(?:"((?:[^"]|"")*+)"[ \t]*+|([^",\r\n]*+))(,|\Z)')
"""Possessive, so that each character is read once. RFC 4180 has no quotes inside an unquoted field."""

_PLAIN = re.compile(r'(?![ \t])[^",\r\n]+(?<![ \t])')


def parse_column_list(text: str) -> tuple[str, ...]:
    """Parse names, in order; none if there are only blanks. Raises `ValueError` for bad quoting.

    >>> parse_column_list('id, name ,"a,b"," odd "')
    ('id', 'name', 'a,b', ' odd ')
    """
    names: list[str] = []
    place, more = 0, bool(text.strip(" \t"))
    while more:
        item = _ITEM.match(text, place)
        if item is None:
            raise ValueError(text)
        quoted, plain, comma = item.groups()
        names.append(plain.rstrip(" \t") if quoted is None else quoted.replace('""', '"'))
        place, more = item.end(), bool(comma)
    return tuple(names)


def column_text(name: str) -> str:
    """Write a name as the list takes it.

    >>> print(column_text("id"), column_text("a,b"))
    id "a,b"
    """
    if _PLAIN.fullmatch(name):
        return name
    return '"' + name.replace('"', '""') + '"'
