"""Escape text that a spreadsheet may run as a formula, by an apostrophe.

The same list serves rows, whose values are matched here, and columns, which pyarrow matches. OWASP, CSV Injection;
spreadsheets also accept the full-width forms of the ASCII characters.

Text that is a number is no formula, and with an apostrophe it would no longer be a number.
"""

from __future__ import annotations

import re

STARTS = ("=", "+", "-", "@", "\t", "\r", "\n", "＝", "＋", "－", "＠")

NUMBER = r"[+-]?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][+-]?[0-9]+)?"
"""A whole text, in the syntax that `re` and RE2 share."""

_is_number = re.compile(NUMBER).fullmatch


def guarded(text: str) -> str:
    """Put `'` before a text that a spreadsheet may run.

    >>> [guarded(text) for text in ("=1+1", "-5.00", "+1e3", "-5+1", "a=b")]
    ["'=1+1", '-5.00', '+1e3', "'-5+1", 'a=b']
    """
    return f"'{text}" if text.startswith(STARTS) and not _is_number(text) else text
