"""What can be exported: the datasets of all sources, read again while they live."""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any, cast

from asgi_export.access.plans import OPEN, AccessPlan
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
"""As many as a table of SQLite has at most, and more than the 1600 of PostgreSQL."""

CATALOGUE_SECONDS = 60.0
"""How old a catalogue may be before a request has it read again."""

PATIENCE_SECONDS = 1.0
"""What such a request waits for it at most; most sources answer within milliseconds."""

RECHECK_SECONDS = 5.0
"""What an export that failed waits for it."""


@dataclass(frozen=True, slots=True)
class ExportBounds:
    """What one export may have, whoever asks; None is no bound. `max_bytes` are those before compression."""

    max_columns: int = MAX_COLUMNS
    max_rows: int | None = None
    max_bytes: int | None = None


class Catalogue:
    """Opens sources and knows their datasets by name, in the order of the sources.

    `now` is the catalogue as it was read last. It is read again, source by source, when a request comes
    `seconds` after the last time, when `refresh` is called, and when `recheck` asks after one dataset. Between
    requests nothing runs. A source that cannot be read keeps its datasets and is not ready.
    """

    def __init__(
        self,
        sources: Sequence[Source | Dataset],
        bounds: ExportBounds | None = None,
        *,
        seconds: float = CATALOGUE_SECONDS,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._given = tuple(sources)
        self._bounds = bounds or ExportBounds()
        self._seconds = seconds
        self._clock = clock
        self._due_at = 0.0
        self._held: list[LiveSource | Dataset] = []
        self._started = False
        self._clashes: frozenset[str] = frozenset()
        self._lock = asyncio.Lock()
        self.now = Datasets({}, (), self._bounds)

    async def start(self) -> None:
        """Open all sources, once. Raises `StartupError`; what was opened before is closed then."""
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
        for given in self._given:
            if hasattr(given, "open"):
                self._held.append(cast("Dataset", given))
                continue
            live = LiveSource(given, self._merge)
            self._held.append(live)
            await live.start()
        found, clashes = _merged(self._held)
        if clashes:
            raise StartupError(f"two datasets are named {clashes[0]!r}; name one by NAME=LOCATION")
        if not found:
            raise StartupError("there is no dataset to export")
        return found

    async def close(self) -> None:
        """Close the sources; every one is tried, a failure is logged."""
        self._started = False
        self.now = Datasets({}, (), self._bounds)
        held, self._held = self._held, []
        for live in _live(held[::-1]):
            await live.close()

    async def keep_fresh(self) -> None:
        """Read the catalogue again where that is due, for `PATIENCE_SECONDS` at most: a slow one reads on."""
        if self._clock() >= self._due_at:
            self._due_at = self._clock() + self._seconds
            await self.refresh()

    async def refresh(self) -> None:
        """Read the catalogue again, for `PATIENCE_SECONDS` at most: a slow one reads on. Never raises."""
        if live := _live(self._held):
            await asyncio.gather(*[found.refresh(PATIENCE_SECONDS) for found in live])

    async def recheck(self, dataset: Dataset) -> bool:
        """Read the catalogue of this dataset's source again. False where it cannot be read now."""
        for live in _live(self._held):
            if dataset in live.datasets:
                return await live.refresh(RECHECK_SECONDS)
        return True

    def _merge(self) -> None:
        """Publish what the sources hold now, if that is other than before."""
        if not self._started:
            return
        found, clashes = _merged(self._held)
        for name in set(clashes) - self._clashes:
            logger.error("a second dataset named %r is left out; name one by NAME=LOCATION", name)
        self._clashes = frozenset(clashes)
        if list(found.values()) != list(self.now.by_name.values()):
            self.now = Datasets(found, self.now.defaults, self._bounds, self.now.version + 1)

    def checks(self) -> Mapping[str, Callable[[], Awaitable[None]]]:
        """What must answer for the process to be ready."""
        return {live.name: live.check for live in _live(self._held)}

    def metrics(self) -> Iterable[Metric]:
        """Of those sources that can be measured."""
        for live in _live(self._held):
            if isinstance(live.source, Measured):
                yield from live.source.metrics()


def _live(held: Iterable[LiveSource | Dataset]) -> list[LiveSource]:
    return [found for found in held if isinstance(found, LiveSource)]


def _merged(held: Iterable[LiveSource | Dataset]) -> tuple[dict[str, Dataset], list[str]]:
    """All datasets by name, and the names that a later source gives again."""
    found: dict[str, Dataset] = {}
    clashes = []
    for source in held:
        for dataset in source.datasets if isinstance(source, LiveSource) else [source]:
            if dataset.name in found:
                clashes.append(dataset.name)
            found.setdefault(dataset.name, dataset)
    return found, clashes


@dataclass(frozen=True, slots=True)
class Datasets:
    """The catalogue as it was at one moment.

    `defaults` are the names that there were at the start, in their order: the first that a caller may read is the
    default, and stays it when it is gone, as another table is not what was asked for. `version` differs from one
    catalogue to the next.
    """

    by_name: Mapping[str, Dataset]
    defaults: tuple[str, ...]
    bounds: ExportBounds
    version: int = 0

    def describe(self, access: AccessPlan = OPEN) -> list[dict[str, Any]]:
        """The datasets as the catalogue lists them: what `access` may read."""
        return [
            {
                "name": dataset.name,
                "columns": [
                    {"name": column.name, "type": column.type, "kind": column.kind}
                    for column in readable(dataset, access)
                ],
                "default_total": dataset.default_limit,
            }
            for dataset in self.readable(access).values()
        ]

    def bounded(self, access: AccessPlan) -> AccessPlan:
        """The plan under the bounds of every export."""
        return access.within(max_rows=self.bounds.max_rows, max_bytes=self.bounds.max_bytes)

    def readable(self, access: AccessPlan) -> Mapping[str, Dataset]:
        """The datasets that `access` may read, by name; the first is the default."""
        return {name: dataset for name, dataset in self.by_name.items() if access.reads(name)}

    def dataset(self, name: str, access: AccessPlan) -> Dataset:
        """The dataset of that name, or the default where it is empty. Raises `NotFound` and `Forbidden`."""
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
        """The name of the dataset that is exported where none is named; empty where `access` may read none."""
        return next((name for name in self.defaults if access.reads(name)), "") or next(
            iter(self.readable(access)), ""
        )


def readable(dataset: Dataset, access: AccessPlan) -> list[Column]:
    """The columns of a dataset that `access` may read."""
    return [column for column in dataset.columns if access.reads_column(dataset.name, column.name)]


def listed_columns(names: Iterable[str]) -> str:
    """Names of columns as `columns` takes them, in one line."""
    return listed([column_text(name) for name in names])


def listed(names: Collection[str]) -> str:
    """Names in one line, not more than `MAX_LISTED` of them."""
    first = [shown(name) for name in islice(names, MAX_LISTED)]
    rest = len(names) - len(first)
    return ", ".join(first) + (f" and {rest} more" if rest > 0 else "")
