"""An encoder that stops at what a plan allows."""

from __future__ import annotations

from asgi_export.access.plans import AccessPlan
from asgi_export.errors import OverQuota
from asgi_export.table import Batch, Encoder


class BoundedEncoder:
    """The encoder within, up to `max_rows` and `max_bytes` of one export; `OverQuota` past either.

    An export that ends there is never ended politely: a table cut short would look whole.
    """

    def __init__(self, encoder: Encoder, plan: AccessPlan) -> None:
        self._encoder = encoder
        self._max_rows = plan.max_rows
        self._max_bytes = plan.max_bytes
        self._bytes = 0

    @property
    def rows(self) -> int:
        return self._encoder.rows

    def head(self) -> bytes:
        return self._counted(self._encoder.head())

    def feed(self, batch: Batch) -> bytes:
        return self._counted(self._encoder.feed(batch))

    def flush(self) -> bytes:
        return self._counted(self._encoder.flush())

    def tail(self) -> bytes:
        return self._counted(self._encoder.tail())

    def _counted(self, data: bytes) -> bytes:
        self._bytes += len(data)
        if self._max_rows is not None and self.rows > self._max_rows:
            raise OverQuota(f"there are more than the {self._max_rows} rows that one export may have; ask by total")
        if self._max_bytes is not None and self._bytes > self._max_bytes:
            raise OverQuota(f"there are more than the {self._max_bytes} bytes that one export may have")
        return data


def bounded(encoder: Encoder, plan: AccessPlan) -> Encoder:
    """The encoder itself where the plan has no bound."""
    return encoder if plan.max_rows is None and plan.max_bytes is None else BoundedEncoder(encoder, plan)
