"""An encoder that enforces the bounds of a plan."""

from __future__ import annotations

from asgi_export.access.plans import AccessPlan
from asgi_export.errors import OverQuota
from asgi_export.table import Batch, Encoder


class BoundedEncoder:
    """Wrap an encoder; raise `OverQuota` past `max_rows` or `max_bytes` of one export.

    The export is then broken off, not ended: a table cut short would look complete.
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
        return self._count(self._encoder.head())

    def feed(self, batch: Batch) -> bytes:
        return self._count(self._encoder.feed(batch))

    def flush(self) -> bytes:
        return self._count(self._encoder.flush())

    def tail(self) -> bytes:
        return self._count(self._encoder.tail())

    def _count(self, data: bytes) -> bytes:
        self._bytes += len(data)
        if self._max_rows is not None and self.rows > self._max_rows:
            raise OverQuota(f"there are more than the {self._max_rows} rows that one export may have; ask by total")
        if self._max_bytes is not None and self._bytes > self._max_bytes:
            raise OverQuota(f"there are more than the {self._max_bytes} bytes that one export may have")
        return data


def bounded(encoder: Encoder, plan: AccessPlan) -> Encoder:
    """Return the encoder under the plan's bounds; the encoder itself if there are none."""
    return encoder if plan.max_rows is None and plan.max_bytes is None else BoundedEncoder(encoder, plan)
