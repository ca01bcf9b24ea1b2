"""The catalogue: the datasets of all sources, which can change while the service runs."""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import cast

from asgi_export.access.plans import AccessPlan
from asgi_export.errors import Forbidden, NotFound, StartupError
from asgi_export.export.column_list import column_text
from asgi_export.export.live_source import LiveSource
from asgi_export.export.parameters import shown
from asgi_export.measure import Measured, Metric
from asgi_export.table import Column, Dataset, Source

logger = logging.getLogger("asgi_export")

MAX_LISTED = 200
"""Names in an error message."""

MAX_COLUMNS = 2000
"""The most that a table of SQLite has; PostgreSQL has 1600."""

MAX_FILTERS = 50

CATALOGUE_SECONDS = 60.0
"""The age of a catalogue from which on a request refreshes it."""

PATIENCE_SECONDS = 1.0
"""The longest wait of such a request; most sources answer within milliseconds."""

RECHECK_SECONDS = 5.0
"""The longest wait of an export that failed."""


@dataclass(frozen=True, slots=True)
class ExportBounds:
    """The bounds of one export, for every caller; None is no bound. `max_bytes` counts before compression."""

    max_columns: int = MAX_COLUMNS
    max_filters: int = MAX_FILTERS
    max_rows: int | None = None
    max_bytes: int | None = None


class Catalogue:
    """Open sources, and find their datasets by name, in the order of the sources.

    `now` is the catalogue as last read. Each source is read again when a request comes `seconds` after the last time,
    when `refresh` is called, and when `recheck` is called for one of its datasets. Nothing runs between requests. A
    source that cannot be read keeps its datasets and is not ready.
    """

    def __init__(
        self,
        sources: Sequence[Source | Dataset],
        bounds: ExportBounds | None = None,
        *,
        seconds: float = CATALOGUE_SECONDS,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._sources = tuple(sources)
        self._bounds = bounds or ExportBounds()
        self._seconds = seconds
        self._clock = clock
        self._due_at = 0.0
        self._opened: list[LiveSource | Dataset] = []
        self._started = False
        self._clashes: frozenset[str] = frozenset()
        self._lock = asyncio.Lock()
        self.now = Datasets({}, (), self._bounds)

    async def start(self) -> None:
        """Open all sources, once. Raises `StartupError`, after the sources opened so far have been closed."""
        async with self._lock:
            if self._started:
                return
            try:
                found = await self._open()
            except BaseException:
                await self.close()
                raise
            self.now = Datasets(found, tuple(found), self._bounds)
            self._started = True
            self._due_at = self._clock() + self._seconds * random.random()  # noqa: S311 - not all workers at once

    async def _open(self) -> dict[str, Dataset]:
        for source in self._sources:
            if hasattr(source, "open"):
                self._opened.append(cast("Dataset", source))
                continue
            live = LiveSource(source, self._publish)
            self._opened.append(live)
            await live.start()
        found, clashes = _merge(self._opened)
        if clashes:
            raise StartupError(f"two datasets are named {clashes[0]!r}; name one by NAME=LOCATION")
        if not found:
            raise StartupError("there is no dataset to export")
        return found

    async def close(self) -> None:
        """Close all sources, also after one has failed to close, which is logged."""
        self._started = False
        self.now = Datasets({}, (), self._bounds)
        opened, self._opened = self._opened, []
        for live in _live(opened[::-1]):
            await live.close()

    async def keep_fresh(self) -> None:
        """Refresh the catalogue if that is due; wait `PATIENCE_SECONDS` at most, a slow source reads on."""
        if self._clock() >= self._due_at:
            self._due_at = self._clock() + self._seconds
            await self.refresh()

    async def refresh(self) -> None:
        """Read the catalogue again; wait `PATIENCE_SECONDS` at most, a slow source reads on. Never raises."""
        if live := _live(self._opened):
            await asyncio.gather(*[found.refresh(PATIENCE_SECONDS) for found in live])

    async def recheck(self, dataset: Dataset) -> bool:
        """Read the catalogue of this dataset's source again; return False if it cannot be read now."""
        for live in _live(self._opened):
            if dataset in live.datasets:
                return await live.refresh(RECHECK_SECONDS)
        return True

    def _publish(self) -> None:
        """Publish the datasets of all sources, if they have changed."""
        if not self._started:
            return
        found, clashes = _merge(self._opened)
        for name in set(clashes) - self._clashes:
            logger.error("a second dataset named %r is left out; name one by NAME=LOCATION", name)
        self._clashes = frozenset(clashes)
        if list(found.values()) != list(self.now.by_name.values()):
            self.now = Datasets(found, self.now.defaults, self._bounds, self.now.version + 1)

    def checks(self) -> Mapping[str, Callable[[], Awaitable[None]]]:
        """Return the checks that must pass for the process to be ready."""
        return {live.name: live.check for live in _live(self._opened)}

    def metrics(self) -> Iterable[Metric]:
        """Yield the metrics of the sources that have some."""
        for live in _live(self._opened):
            if isinstance(live.source, Measured):
                yield from live.source.metrics()


def _live(opened: Iterable[LiveSource | Dataset]) -> list[LiveSource]:
    return [found for found in opened if isinstance(found, LiveSource)]


def _merge(opened: Iterable[LiveSource | Dataset]) -> tuple[dict[str, Dataset], list[str]]:
    """Return all datasets by name, and the names that a later source repeats."""
    found: dict[str, Dataset] = {}
    clashes = []
    for source in opened:
        for dataset in source.datasets if isinstance(source, LiveSource) else [source]:
            if dataset.name in found:
                clashes.append(dataset.name)
            found.setdefault(dataset.name, dataset)
    return found, clashes


@dataclass(frozen=True, slots=True)
class Datasets:
    """The catalogue at one moment.

    `defaults` has the names at the start, in order. The first that a caller may read is its default dataset, even
    after that has gone: the client did not ask for another table. `version` differs from one catalogue to the next.
    """

    by_name: Mapping[str, Dataset]
    defaults: tuple[str, ...]
    bounds: ExportBounds
    version: int = 0

    def bounded(self, access: AccessPlan) -> AccessPlan:
        """Return the plan narrowed to the bounds of every export."""
        return access.within(max_rows=self.bounds.max_rows, max_bytes=self.bounds.max_bytes)

    def readable(self, access: AccessPlan) -> Mapping[str, Dataset]:
        """Return the datasets that `access` may read, by name; the first is the default."""
        return {name: dataset for name, dataset in self.by_name.items() if access.reads(name)}

    def dataset(self, name: str, access: AccessPlan) -> Dataset:
        """Find the dataset of that name, or the default if it is empty. Raises `NotFound` and `Forbidden`."""
        there = self.readable(access)
        if name and name not in self.by_name:
            raise NotFound(f"dataset={shown(name)}: no such dataset; there are {listed(there)}")
        if name and name not in there:
            raise Forbidden(f"dataset={shown(name)}: this key may not read it; it may read {listed(there)}")
        if name:
            return there[name]
        default = self.default(access)
        if not default:
            raise Forbidden("this key may not read any dataset")
        if default not in there:
            raise NotFound(
                f"{shown(default)}, the default dataset, is gone; by dataset=NAME there are {listed(there)}"
            )
        return there[default]

    def default(self, access: AccessPlan) -> str:
        """Return the name of the default dataset; empty if `access` may read none."""
        return next((name for name in self.defaults if access.reads(name)), "") or next(
            iter(self.readable(access)), ""
        )


def readable(dataset: Dataset, access: AccessPlan) -> list[Column]:
    """Return the columns of a dataset that `access` may read."""
    return [column for column in dataset.columns if access.reads_column(dataset.name, column.name)]


def listed_columns(names: Iterable[str]) -> str:
    """Join names of columns into one line, written as `columns` takes them."""
    return listed([column_text(name) for name in names])


def listed(names: Collection[str]) -> str:
    """Join names into one line, `MAX_LISTED` of them at most."""
    first = [shown(name) for name in islice(names, MAX_LISTED)]
    rest = len(names) - len(first)
    return ", ".join(first) + (f" and {rest} more" if rest > 0 else "")
