"""Metrics that are read, not counted as requests pass: the use of pools, the decisions of the limiter.

A process that answers `/metrics` can read its own state only; that of other processes must be in their files by then.
So each process reads its own every second, and again before it answers.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from types import MappingProxyType
from typing import Any

from asgi_export.measure import Measured, Metric

with suppress(ImportError):  # then no `LiveMetrics` is made
    from prometheus_client import CollectorRegistry, Counter, Gauge

logger = logging.getLogger("asgi_export")


@dataclass(frozen=True, slots=True)
class Kind:
    """The meaning of a metric; `grows` marks one that never falls, a counter of Prometheus."""

    meaning: str
    grows: bool = False
    by_source: bool = False


KINDS: Mapping[str, Kind] = MappingProxyType(
    {
        "limiter_fallbacks": Kind("Decisions made without Redis, since it did not answer", grows=True),
        "limiter_kept_refusals": Kind("Refusals that were known without asking Redis", grows=True),
        "limiter_overflow_hits": Kind("Hits of keys that had to share a window: max_keys was reached", grows=True),
        "limiter_keys": Kind("Keys with a window in memory"),
        "limiter_store_down": Kind("Processes that leave Redis alone, since it did not answer"),
        "worker_jobs": Kind("Jobs that run in worker threads or wait for one"),
        "pool_connections": Kind("Open connections of a pool", by_source=True),
        "pool_connections_busy": Kind("Connections of a pool that serve an export", by_source=True),
        "pool_waiting": Kind("Exports that wait for a connection of a pool", by_source=True),
        "pool_timeouts": Kind("Exports that got no connection of a pool in time", grows=True, by_source=True),
    }
)


class LiveMetrics:
    """Write the metrics of `measured` into a registry; metrics of the same name and source are summed."""

    def __init__(self, registry: CollectorRegistry, measured: Sequence[Measured]) -> None:
        def metric(name: str, kind: Kind) -> Any:
            labels = ("source",) if kind.by_source else ()
            if kind.grows:
                return Counter(f"asgi_export_{name}", kind.meaning, labels, registry=registry)
            return Gauge(f"asgi_export_{name}", kind.meaning, labels, registry=registry, multiprocess_mode="livesum")

        self._measured = list(measured)
        self._metrics = {name: metric(name, kind) for name, kind in KINDS.items()} if measured else {}
        self._child = cache(self._child_of)
        self._written: dict[tuple[str, str], float] = {}

    def refresh(self) -> None:
        """Read all metrics, and write those that have changed."""
        sums: dict[tuple[str, str], float] = {}
        for metric in self._series():
            if metric.name in KINDS:
                place = (metric.name, metric.source)
                sums[place] = sums.get(place, 0.0) + metric.value
        for place, value in sums.items():
            before = self._written.get(place, 0.0)
            if value != before:
                self._write(*place, value, before)
                self._written[place] = value

    def _series(self) -> Iterator[Metric]:
        """Yield all metrics. An object whose metrics raise is not asked again; the others go on."""
        for measured in list(self._measured):
            try:
                yield from measured.metrics()
            except Exception:
                logger.exception("the metrics of %s are left out from now on", type(measured).__name__)
                self._measured.remove(measured)

    def _write(self, name: str, source: str, value: float, before: float) -> None:
        child = self._child(name, source)
        if not KINDS[name].grows:
            child.set(value)
        elif value > before:
            child.inc(value - before)

    def _child_of(self, name: str, source: str) -> Any:
        metric = self._metrics[name]
        return metric.labels(source) if KINDS[name].by_source else metric
