"""SQL that is the same in every dialect."""

from __future__ import annotations


def quoted(identifier: str) -> str:
    """The identifier in double quotes, whatever it holds. SQL:1992 §5.2, delimited identifier.

    >>> quoted('6" pipe')
    '"6"" pipe"'
    """
    return '"' + identifier.replace('"', '""') + '"'
