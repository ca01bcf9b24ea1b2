"""Decide on a request's `Range` and its preconditions. Pure: header fields in, a decision out. RFC 9110 §13, §14.

An export has no validator: two exports of one address may differ in every byte. Command line tools resume a broken
download with a bare `Range` and append the answer to their file: wget skips the first bytes of a 200, and takes a 416
for the end of the file. One kind of answer makes all of them fail without touching the file: a 4xx other than 416
with a body and no `Content-Range`. Every other request for a part is answered with the whole, as RFC 9110 §14.2
allows.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

from asgi_export.errors import ExportError, PreconditionRequired

RANGE = b"range"
IF_RANGE = b"if-range"

_FROM_LATER = re.compile(
    r"bytes[ \t]*+=[ \t,]*+0*+[1-9][0-9]*+[ \t]*+-[ \t]*+[0-9]*+[ \t,]*+", re.ASCII | re.IGNORECASE
)
"""One range of bytes that does not begin at 0. The list may have empty elements, and blanks where the norm has none:
RFC 9110 §14.1.2, §5.6.1. Possessive, so that each character is read once."""


@dataclass(frozen=True, slots=True)
class Whole:
    """Send the whole export, with 200."""


@dataclass(frozen=True, slots=True)
class Refused:
    """Answer with `error`, before anything is opened or read."""

    error: ExportError


Decision: TypeAlias = Whole | Refused


def decide(header: Callable[[bytes], str | None]) -> Decision:
    """Decide what to send; `header` finds a field by its lower-case name.

    `If-Range` compares with a validator; there is none, so it does not match and the range is ignored (RFC 9110
    §13.1.5).

    >>> decide({b"range": "bytes=0-"}.get)
    Whole()
    >>> decide({b"range": "bytes=1000-", b"if-range": '"x"'}.get)
    Whole()
    >>> decide({b"range": "bytes=1000-"}.get).error.status
    428
    """
    wanted = header(RANGE)
    if wanted is None or header(IF_RANGE) is not None or not _FROM_LATER.fullmatch(wanted):
        return Whole()
    return Refused(
        PreconditionRequired(
            "Range: each export is another snapshot, and what you have may be part of an older one; expected a"
            " request for the whole, without Range"
        )
    )
