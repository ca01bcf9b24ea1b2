"""SQL that is common to all dialects, and text of databases that hold any bytes as text."""

from __future__ import annotations


def quoted(identifier: str) -> str:
    """Quote an identifier. SQL:1992 §5.2, delimited identifier.

    >>> quoted('6" pipe')
    '"6"" pipe"'
    """
    return '"' + identifier.replace('"', '""') + '"'


def text_or_bytes(value: bytes) -> str | bytes:
    """Decode a text value without loss: `str` if it is UTF-8, else the bytes that the database holds."""
    try:
        return value.decode()
    except UnicodeDecodeError:
        return value
