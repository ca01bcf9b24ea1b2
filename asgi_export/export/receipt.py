"""What came of an export, made once at its end: the log, the metrics and the client are told by it."""

from __future__ import annotations

from dataclasses import dataclass

from asgi_export.asgi.context import Key
from asgi_export.asgi.pump import Ending


@dataclass(frozen=True, slots=True)
class Receipt:
    """How an export ended: rows encoded, bytes of the body sent, seconds from its start.

    `first_byte_seconds` is None if nothing was sent. `error` is the type of what the source or the encoder raised;
    its message, which may hold values of rows, is in the log alone.
    """

    ending: Ending
    rows: int
    bytes: int
    seconds: float
    first_byte_seconds: float | None = None
    error: str = ""


RECEIPT: Key[Receipt] = Key("receipt")
"""Set when the export has ended; never for a request that was refused."""
