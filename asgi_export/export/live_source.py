"""A source that runs: its datasets as they were read last, read again on demand."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from contextlib import suppress

from asgi_export.errors import Unavailable
from asgi_export.table import Dataset, Source

logger = logging.getLogger("asgi_export")

CHECK_PATIENCE_SECONDS = 4.0
"""Less than a check for readiness may take, so that it is this one which says why."""


class LiveSource:
    """A source and its datasets; a dataset that has not changed stays the same object.

    However many ask for a refresh at once, one reading serves all of those who asked before it began, and no two
    readings run at the same time. A reading that fails is logged once, until one succeeds again. `on_change` is
    called when there are other datasets than before.
    """

    def __init__(self, source: Source, on_change: Callable[[], None]) -> None:
        self.source = source
        self._on_change = on_change
        self.datasets: Sequence[Dataset] = ()
        self._failure = ""
        self._begun = 0
        self._reading: asyncio.Task[None] | None = None
        self._turn = asyncio.Lock()

    @property
    def name(self) -> str:
        return self.source.name

    async def start(self) -> None:
        """Open the source. Raises `StartupError`."""
        self.datasets = await self.source.start()

    async def refresh(self, seconds: float) -> bool:
        """Wait so long at most for a reading that begins after this call; a late one reads on.

        False where it is late or fails. Never raises.
        """
        begun = self._begun
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds), self._turn:
                await self._end_of_reading()  # one that was late for whoever had it begun
                if self._begun == begun:
                    self._begun += 1
                    self._reading = asyncio.create_task(self._read(), name="asgi-export catalogue")
                    await self._end_of_reading()
            return not self._failure
        return False

    async def check(self) -> None:
        """Raise where the source does not answer, or where its catalogue could not be read and still cannot."""
        await self.source.check()
        if self._failure:
            await self.refresh(CHECK_PATIENCE_SECONDS)
        if self._failure:
            raise Unavailable(f"the catalogue cannot be read: {self._failure}")

    async def close(self) -> None:
        """Close the source; a failure is logged."""
        if self._reading is not None:
            self._reading.cancel()
            await self._end_of_reading()
        try:
            await self.source.close()
        except Exception:
            logger.exception("source %s was not closed", self.name)

    async def _end_of_reading(self) -> None:
        """Wait for the reading that runs; being cancelled ends the wait, not the reading."""
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
            self.datasets = [_same(before.get(dataset.name), dataset) for dataset in found]
            self._on_change()


def _same(before: Dataset | None, now: Dataset) -> Dataset:
    return before if before is not None and before == now else now
