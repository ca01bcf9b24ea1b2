"""SQL that is common to all dialects, and text of databases that hold any bytes as text."""

from __future__ import annotations


def quoted(identifier: str) -> str:
    """Quote an identifier. SQL:1992 §5.2, delimited identifier.

    >>> quoted('6" pipe')
    '"6"" pipe"'
    """
    return '"' + identifier.replace('"', '""') + '"'


LAST_CHARACTER = "\U0010ffff"


def after_prefix(prefix: str) -> str | None:
    r"""Return the least text by code point that is greater than every text with the prefix; None if there is none.

    >>> after_prefix("name"), after_prefix("z\ud7ff"), after_prefix("a\U0010ffff"), after_prefix("")
    ('namf', 'z\ue000', 'b', None)
    """
    kept = prefix.rstrip(LAST_CHARACTER)
    if not kept:
        return None
    code = ord(kept[-1]) + 1
    return kept[:-1] + chr(0xE000 if 0xD800 <= code <= 0xDFFF else code)


def text_or_bytes(value: bytes) -> str | bytes:
    """Decode a text value without loss: `str` if it is UTF-8, else the bytes that the database holds."""
    try:
        return value.decode()
    except UnicodeDecodeError:
        return value
