"""The metrics of `/metrics`, in the Prometheus text format, by prometheus-client (the extra `metrics`).

With several workers each process writes its metrics into `PROMETHEUS_MULTIPROC_DIR`, which must be set before the
first import, and any of them answers for all. The counters of a dead process remain; its gauges do not.
"""

from __future__ import annotations

import asyncio
import os
from collections import Counter as Tally
from collections.abc import Sequence
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import NamedTuple

from asgi_export.asgi.context import RequestContext
from asgi_export.errors import StartupError
from asgi_export.export.plan import EXPORT, Export
from asgi_export.export.receipt import RECEIPT, Receipt
from asgi_export.measure import Measured
from asgi_export.middleware.metrics_live import LiveMetrics
from asgi_export.middleware.rate_limit import ADMISSION, Admission

try:
    from prometheus_client import (
        CONTENT_TYPE_LATEST,
        CollectorRegistry,
        Counter,
        Gauge,
        Histogram,
        generate_latest,
        multiprocess,
    )
except ImportError:  # the service then has no /metrics
    CollectorRegistry = None  # type: ignore[assignment,misc]

MULTIPROCESS = "PROMETHEUS_MULTIPROC_DIR"
REFRESH_SECONDS = 1.0
"""Scrapes come every ten seconds or less often."""

MOST_ENDED = 64
"""Ended requests are counted in batches of this size, which takes half the time: 0.3 ms."""

EXPORT_LABELS = ("dataset", "format")
EXPORT_SECONDS = (0.01, 0.05, 0.1, 0.5, 1, 5, 10, 60, 300, 3600)
FIRST_BYTE_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.5, 1, 5)
LIMITER_SECONDS = (0.00001, 0.00005, 0.0001, 0.0005, 0.001, 0.005, 0.01, 0.05, 0.1)


def metrics_available() -> bool:
    """Return whether prometheus-client is installed."""
    return CollectorRegistry is not None


def expect_folder() -> None:
    """Raise `StartupError` if `PROMETHEUS_MULTIPROC_DIR` is set and is no writable folder."""
    folder = os.environ.get(MULTIPROCESS)
    if folder is None or (os.path.isdir(folder) and os.access(folder, os.W_OK | os.X_OK)):
        return
    raise StartupError(f"{MULTIPROCESS}={folder}: expected a folder that can be written to, or no such variable")


class _Ended(NamedTuple):
    """An ended request that waits to be counted."""

    status: int
    seconds: float
    admission: Admission | None
    export: Export | None
    receipt: Receipt | None


class Metrics:
    """The metrics of one service. Labels come from the catalogue and from fixed sets, never from a client.

    The metrics of `measured` are read before an answer, and every `refresh_seconds` between `start` and `stop`.
    Raises `StartupError` if `PROMETHEUS_MULTIPROC_DIR` is set and is no writable folder.
    """

    def __init__(self, measured: Sequence[Measured] = (), *, refresh_seconds: float = REFRESH_SECONDS) -> None:
        expect_folder()
        self._registry = CollectorRegistry()
        self._responses = self._counter("responses", "Answers by status", ("status",))
        self._exports = self._counter("exports", "Exports that ended, by how", (*EXPORT_LABELS, "ending"))
        self._rows = self._counter("rows", "Rows encoded", EXPORT_LABELS)
        self._bytes = self._counter("body_bytes", "Bytes of export bodies sent", EXPORT_LABELS)
        self._decisions = self._counter("limiter_decisions", "Requests by what the limiter said", ("decision",))
        self._seconds = self._histogram("export_seconds", "Time of an export", EXPORT_LABELS, EXPORT_SECONDS)
        self._first_byte = self._histogram(
            "first_byte_seconds", "Time to the first byte of a body", EXPORT_LABELS, FIRST_BYTE_SECONDS
        )
        self._limiter = self._histogram("limiter_seconds", "Time of a limiter decision", (), LIMITER_SECONDS)
        self._running = Gauge(
            "asgi_export_running_exports",
            "Exports that have a head and no end",
            registry=self._registry,
            multiprocess_mode="livesum",
        )
        self._status = cache(self._responses.labels)  # there are few, and `labels` takes longer than counting
        self._decision = cache(self._decisions.labels)
        self._series = cache(self._series_of)
        self._live = LiveMetrics(self._registry, measured)
        self._refresh_seconds = refresh_seconds
        self._refreshing: asyncio.Task[None] | None = None
        self._running_here = 0
        self._ended: list[_Ended] = []

    async def start(self) -> None:
        """Begin to refresh the metrics."""
        self._refreshing = asyncio.create_task(self._refresh(), name="asgi-export metrics")

    async def stop(self) -> None:
        """Refresh once more, and stop. May be called twice."""
        task, self._refreshing = self._refreshing, None
        if task is None:
            return
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task
        self._look()

    async def _refresh(self) -> None:
        while True:
            self._look()
            await asyncio.sleep(self._refresh_seconds)

    def _look(self) -> None:
        self._count_ended()
        self._running.set(self._running_here)
        self._live.refresh()

    def _counter(self, name: str, meaning: str, labels: tuple[str, ...]) -> Counter:
        return Counter(f"asgi_export_{name}", meaning, labels, registry=self._registry)

    def _histogram(self, name: str, meaning: str, labels: tuple[str, ...], buckets: tuple[float, ...]) -> Histogram:
        return Histogram(f"asgi_export_{name}", meaning, labels, buckets=buckets, registry=self._registry)

    def export_started(self) -> None:
        """Count an export whose head has been sent."""
        self._running_here += 1

    def export_stopped(self) -> None:
        """Count an export whose body has ended."""
        self._running_here -= 1

    def answered(self, context: RequestContext, status: int, seconds: float) -> None:
        """Count an ended request; `status` is 0 if there was no answer."""
        self._ended.append(_Ended(status, seconds, context.get(ADMISSION), context.get(EXPORT), context.get(RECEIPT)))
        if len(self._ended) >= MOST_ENDED:
            self._count_ended()

    def _count_ended(self) -> None:
        ended, self._ended = self._ended, []
        admissions = [found.admission for found in ended if found.admission]
        for status, number in Tally(found.status for found in ended).items():
            self._status(status).inc(number)
        for decision, number in Tally(admission.decision for admission in admissions).items():
            self._decision(decision).inc(number)
        for admission in admissions:
            self._limiter.observe(admission.seconds)
        self._count_exports(ended)

    def _count_exports(self, ended: Sequence[_Ended]) -> None:
        alike: dict[tuple[str, str, str], list[tuple[Receipt, float]]] = {}
        for _, seconds, _, export, receipt in ended:
            if export and receipt:
                key = (export.dataset.name, export.format.name, str(receipt.ending))
                alike.setdefault(key, []).append((receipt, seconds))
        for key, found in alike.items():
            exports, rows, sent, export_seconds, first_byte = self._series(*key)
            exports.inc(len(found))
            rows.inc(sum([receipt.rows for receipt, _ in found]))
            sent.inc(sum([receipt.bytes for receipt, _ in found]))
            for receipt, seconds in found:
                export_seconds.observe(seconds)
                if receipt.first_byte_seconds is not None:
                    first_byte.observe(receipt.first_byte_seconds)

    def _series_of(
        self, dataset: str, name: str, ending: str
    ) -> tuple[Counter, Counter, Counter, Histogram, Histogram]:
        """Return the series that an export with this ending adds to."""
        labels = (dataset, name)
        return (
            self._exports.labels(*labels, ending),
            self._rows.labels(*labels),
            self._bytes.labels(*labels),
            self._seconds.labels(*labels),
            self._first_byte.labels(*labels),
        )

    def render(self) -> tuple[bytes, bytes]:
        """Return the media type and the text, for all processes if there are several."""
        self._look()
        registry = self._registry
        folder = os.environ.get(MULTIPROCESS)
        if folder is not None:
            forget_the_dead(Path(folder))
            registry = CollectorRegistry()
            multiprocess.MultiProcessCollector(registry)  # type: ignore[no-untyped-call]
        return CONTENT_TYPE_LATEST.encode(), generate_latest(registry)


def forget_the_dead(folder: Path) -> None:
    """Remove the gauges of ended processes from the folder, however they ended."""
    for file in folder.glob("gauge_live*_*.db"):
        pid = file.stem.rpartition("_")[2]
        if pid.isdecimal() and not _is_alive(int(pid)):
            file.unlink(missing_ok=True)  # another worker may have removed it


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:  # it belongs to another user
        return True
    return True
