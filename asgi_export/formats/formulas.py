"""Text that a spreadsheet may run as a formula, and the apostrophe that keeps it from doing so.

One list for batches of rows, whose values are looked at here, and for batches of columns, where pyarrow looks. OWASP,
CSV Injection; the full-width forms are what spreadsheets take for the ASCII ones.

A text that reads as a number is no formula, and with an apostrophe it would be no number any more.
"""

from __future__ import annotations

import re

STARTS = ("=", "+", "-", "@", "\t", "\r", "\n", "＝", "＋", "－", "＠")

NUMBER = r"[+-]?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][+-]?[0-9]+)?"
"""A whole text, in the syntax that `re` and RE2 share."""

_is_number = re.compile(NUMBER).fullmatch


def guarded(text: str) -> str:
    """The text, with `'` before it where a spreadsheet may run it.

    >>> [guarded(text) for text in ("=1+1", "-5.00", "+1e3", "-5+1", "a=b")]
    ["'=1+1", '-5.00', '+1e3', "'-5+1", 'a=b']
    """
    return f"'{text}" if text.startswith(STARTS) and not _is_number(text) else text
