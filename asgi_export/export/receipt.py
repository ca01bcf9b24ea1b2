"""The result of an export, made once at its end, for the log, the metrics and the client."""

from __future__ import annotations

from dataclasses import dataclass

from asgi_export.asgi.context import Key
from asgi_export.asgi.pump import Ending


@dataclass(frozen=True, slots=True)
class Receipt:
    """How an export ended, with rows encoded, bytes of the body sent, and seconds from its start.

    `first_byte_seconds` is None if nothing was sent. `error` is the type of the exception of the source or the
    encoder; its message, which may quote values of rows, is only in the log.
    """

    ending: Ending
    rows: int
    bytes: int
    seconds: float
    first_byte_seconds: float | None = None
    error: str = ""


RECEIPT: Key[Receipt] = Key("receipt")
"""Set when the export has ended; never for a request that was refused."""
