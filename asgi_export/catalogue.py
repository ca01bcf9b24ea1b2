"""What can be exported: the datasets of all sources, and the plan of one export."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

from asgi_export.dataset import Column, Dataset, Dialect, Selection, Source
from asgi_export.errors import BadRequest, NotFound, StartupError
from asgi_export.formats import Format
from asgi_export.parameters import Parameters, shown

logger = logging.getLogger("asgi_export")

MAX_LISTED = 200
"""Names in an error message."""


@dataclass(frozen=True, slots=True)
class Plan:
    """One export, understood: which part of which dataset, in which format and dialect, under which file name."""

    dataset: Dataset
    columns: tuple[Column, ...]
    selection: Selection
    format: Format
    dialect: Dialect
    filename: str


class Catalogue:
    """Opens sources and knows their datasets by name, in the order of the sources."""

    def __init__(self, sources: Sequence[Source | Dataset]) -> None:
        self._given = tuple(sources)
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

    def describe(self) -> list[dict[str, Any]]:
        """The datasets as the catalogue lists them."""
        return [
            {
                "name": dataset.name,
                "columns": [{"name": column.name, "type": column.type} for column in dataset.columns],
                "default_total": dataset.default_limit,
            }
            for dataset in self._datasets.values()
        ]

    def plan(self, parameters: Parameters, found: Format) -> Plan:
        """What these parameters ask for. Raises `NotFound` and `BadRequest`."""
        dataset = self._dataset(parameters.dataset)
        columns = _pick(dataset, parameters.columns)
        dialect = Dialect(
            delimiter=_delimiter(parameters, found),
            header=parameters.header,
            quote=parameters.quote,
            null=parameters.null,
            newline=parameters.newline,
            bom=parameters.bom,
            escape_formulas=parameters.escape_formulas,
        )
        selection = Selection(
            columns=tuple([column.name for column in columns]),
            limit=dataset.default_limit if parameters.total is None else parameters.total,
            dialect=dialect if found.delimited else None,
        )
        filename = parameters.filename or f"export.{found.name}"
        return Plan(dataset, columns, selection, found, dialect, filename)

    def _dataset(self, name: str) -> Dataset:
        if not name:
            return next(iter(self._datasets.values()))
        if name not in self._datasets:
            raise NotFound(f"dataset={shown(name)}: no such dataset; there are {listed(self._datasets)}")
        return self._datasets[name]


def _delimiter(parameters: Parameters, found: Format) -> str:
    if found.name == "tsv" and parameters.delimiter not in ("", "\t"):
        raise BadRequest(
            f"delimiter={shown(parameters.delimiter)}: expected tab, as tsv has no other; or take csv"
        )
    return parameters.delimiter or found.delimiter or ","


def _pick(dataset: Dataset, names: Sequence[str]) -> tuple[Column, ...]:
    """The columns of these names, blanks around a name dropped unless the column itself has them."""
    known = {column.name: column for column in dataset.columns}
    if not names:
        return tuple(known.values())
    picked: dict[str, Column] = {}
    for given in names:
        name = given if given in known else given.strip()
        if name not in known:
            raise BadRequest(f"columns={shown(name)}: unknown column; there are {listed(known)}")
        if name in picked:
            raise BadRequest(f"columns={shown(name)}: given twice; there are {listed(known)}")
        picked[name] = known[name]
    return tuple(picked.values())


def listed(names: Mapping[str, object]) -> str:
    """Names in one line, not more than `MAX_LISTED` of them."""
    first = [shown(name) for name in list(names)[:MAX_LISTED]]
    rest = len(names) - len(first)
    return ", ".join(first) + (f" and {rest} more" if rest > 0 else "")
