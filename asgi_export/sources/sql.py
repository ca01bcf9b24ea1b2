"""SQL that is common to all dialects."""

from __future__ import annotations


def quoted(identifier: str) -> str:
    """Quote an identifier. SQL:1992 §5.2, delimited identifier.

    >>> quoted('6" pipe')
    '"6"" pipe"'
    """
    return '"' + identifier.replace('"', '""') + '"'
