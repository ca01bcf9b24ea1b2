"""What can be exported: the datasets of all sources."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any, cast

from asgi_export.access.plans import OPEN, AccessPlan
from asgi_export.errors import Forbidden, NotFound, StartupError
from asgi_export.export.column_list import column_text
from asgi_export.export.parameters import shown
from asgi_export.measure import Figure, Measured
from asgi_export.table import Column, Dataset, Source

logger = logging.getLogger("asgi_export")

MAX_LISTED = 200
"""Names in an error message."""

MAX_COLUMNS = 2000
"""As many as a table of SQLite has at most, and more than the 1600 of PostgreSQL."""


@dataclass(frozen=True, slots=True)
class ExportBounds:
    """What one export may have, whoever asks; None is no bound. `max_bytes` are those before compression."""

    max_columns: int = MAX_COLUMNS
    max_rows: int | None = None
    max_bytes: int | None = None


class Catalogue:
    """Opens sources and knows their datasets by name, in the order of the sources."""

    def __init__(self, sources: Sequence[Source | Dataset], bounds: ExportBounds | None = None) -> None:
        self._given = tuple(sources)
        self._bounds = bounds or ExportBounds()
        self._started: list[Source] = []
        self._datasets: dict[str, Dataset] = {}
        self._lock = asyncio.Lock()

    @property
    def datasets(self) -> Sequence[Dataset]:
        return tuple(self._datasets.values())

    async def start(self) -> None:
        """Open all sources, once. Raises `StartupError`; what was opened before is closed then."""
        async with self._lock:
            if self._datasets:
                return
            try:
                self._datasets = await self._open()
            except BaseException:
                await self.close()
                raise

    async def _open(self) -> dict[str, Dataset]:
        found: dict[str, Dataset] = {}
        for given in self._given:
            for dataset in await self._datasets_of(given):
                if dataset.name in found:
                    raise StartupError(f"two datasets are named {dataset.name!r}; name one by NAME=LOCATION")
                found[dataset.name] = dataset
        if not found:
            raise StartupError("there is no dataset to export")
        return found

    async def _datasets_of(self, given: Source | Dataset) -> Sequence[Dataset]:
        if hasattr(given, "open"):
            return [cast("Dataset", given)]
        source = given
        self._started.append(source)
        return await source.start()

    async def close(self) -> None:
        """Close the sources; every one is tried, a failure is logged."""
        self._datasets = {}
        while self._started:
            source = self._started.pop()
            try:
                await source.close()
            except Exception:
                logger.exception("source %s was not closed", source.name)

    def checks(self) -> Mapping[str, Callable[[], Awaitable[None]]]:
        """What must answer for the process to be ready."""
        return {source.name: source.check for source in self._started}

    def figures(self) -> Iterable[Figure]:
        """Of those sources that can be measured."""
        for source in self._started:
            if isinstance(source, Measured):
                yield from source.figures()

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

    @property
    def bounds(self) -> ExportBounds:
        """Those of every export."""
        return self._bounds

    def bounded(self, access: AccessPlan) -> AccessPlan:
        """The plan under the bounds of every export."""
        return access.within(max_rows=self._bounds.max_rows, max_bytes=self._bounds.max_bytes)

    def readable(self, access: AccessPlan) -> Mapping[str, Dataset]:
        """The datasets that `access` may read, by name; the first is the default."""
        return {name: dataset for name, dataset in self._datasets.items() if access.reads(name)}

    def dataset(self, name: str, access: AccessPlan) -> Dataset:
        """The dataset of that name, or the default where it is empty. Raises `NotFound` and `Forbidden`."""
        there = self.readable(access)
        if name and name not in self._datasets:
            raise NotFound(f"dataset={shown(name)}: no such dataset; there are {listed(there)}")
        if name and name not in there:
            raise Forbidden(f"dataset={shown(name)}: this key may not read it; it may read {listed(there)}")
        if not there:
            raise Forbidden("this key may not read any dataset")
        return there[name] if name else next(iter(there.values()))


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
