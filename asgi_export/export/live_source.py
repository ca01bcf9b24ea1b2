"""A started source with its datasets as last read, which can be read again."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from contextlib import suppress

from asgi_export.errors import Unavailable
from asgi_export.table import Dataset, Source

logger = logging.getLogger("asgi_export")

CHECK_PATIENCE_SECONDS = 4.0
"""Less than a readiness check may take, so that this failure is reported with its reason."""


class LiveSource:
    """Hold a source and its datasets; a dataset that has not changed stays the same object.

    One reading at a time. It serves all callers of `refresh` that came before it began. The first of several failed
    readings is logged. `on_change` is called when the datasets have changed.
    """

    def __init__(self, source: Source, on_change: Callable[[], None]) -> None:
        self.source = source
        self._on_change = on_change
        self.datasets: Sequence[Dataset] = ()
        self._failure = ""
        self._readings = 0
        self._reading: asyncio.Task[None] | None = None
        self._lock = asyncio.Lock()

    @property
    def name(self) -> str:
        return self.source.name

    async def start(self) -> None:
        """Open the source. Raises `StartupError`."""
        self.datasets = await self.source.start()

    async def refresh(self, seconds: float) -> bool:
        """Wait at most `seconds` for a reading that begins after this call; a late one reads on.

        Returns False if it is late or fails. Never raises.
        """
        readings = self._readings
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds), self._lock:
                # The lock serialises callers, but one whose time was up has released it and left its reading running.
                await self._wait_for_reading()
                # If the number has changed while this caller waited, a reading has begun after the call: it serves.
                if self._readings == readings:
                    self._readings += 1
                    self._reading = asyncio.create_task(self._read(), name="asgi-export catalogue")
                    await self._wait_for_reading()
            return not self._failure
        return False

    async def check(self) -> None:
        """Raise if the source does not answer, or if its catalogue could not be read and still cannot."""
        await self.source.check()
        if self._failure:
            await self.refresh(CHECK_PATIENCE_SECONDS)
        if self._failure:
            raise Unavailable(f"the catalogue cannot be read: {self._failure}")

    async def close(self) -> None:
        """Close the source; a failure is logged."""
        if self._reading is not None:
            self._reading.cancel()
            await self._wait_for_reading()
        try:
            await self.source.close()
        except Exception:
            logger.exception("source %s was not closed", self.name)

    async def _wait_for_reading(self) -> None:
        """Wait for the running reading, if any; a cancellation ends the wait, not the reading."""
        if self._reading is not None and not self._reading.done():
            await asyncio.wait([self._reading])

    async def _read(self) -> None:
        try:
            found = await self.source.refresh()
        except Exception as error:
            if not self._failure:
                logger.error("source %s: the catalogue cannot be read, the one before holds: %s", self.name, error)
            self._failure = str(error) or type(error).__name__
            return
        if self._failure:
            logger.info("source %s: the catalogue can be read again", self.name)
        self._failure = ""
        if found is not None:
            before = {dataset.name: dataset for dataset in self.datasets}
            self.datasets = [_reuse_unchanged(before.get(dataset.name), dataset) for dataset in found]
            self._on_change()


def _reuse_unchanged(before: Dataset | None, now: Dataset) -> Dataset:
    return before if before is not None and before == now else now
