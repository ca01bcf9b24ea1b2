"""Run the exports of this process: bound their number, and end each one."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Iterable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager
from dataclasses import replace

from asgi_export.asgi.coding import CODINGS, CompressionLevels
from asgi_export.asgi.context import Disconnect, RequestContext
from asgi_export.asgi.message import Send
from asgi_export.asgi.negotiate import UNCODED
from asgi_export.asgi.pump import Bounds, BrokenOff, Ending, Outcome, Pump
from asgi_export.errors import (
    OverQuota,
    TooManyRequests,
    Unavailable,
    as_export_error,
)
from asgi_export.export.bounds import bounded
from asgi_export.export.chunks import ChunkWriter, open_chunks
from asgi_export.export.meter import Meter, meter_chunks
from asgi_export.export.narrow import open_selection
from asgi_export.export.plan import Export
from asgi_export.export.receipt import RECEIPT, Receipt
from asgi_export.limiter.byte_quota import ByteQuotas
from asgi_export.limiter.leases import Leases
from asgi_export.measure import Metric
from asgi_export.memory import MemoryReturn
from asgi_export.table import Encoder
from asgi_export.threads import Workers

logger = logging.getLogger("asgi_export")

MAX_EXPORTS = 1000

FULL_RETRY_SECONDS = 5

HOLD_SECONDS = 1.0
"""A typed format knows only after some thousand rows whether they have one type, so the head waits for that; but not
for long, as proxies give up on an answer without a head, nginx after 60 seconds."""


class RunningExports:
    """Run at most `max_exports` at once, and fewer of a caller if its plan says so."""

    def __init__(
        self,
        *,
        bounds: Bounds,
        max_exports: int,
        levels: CompressionLevels,
        leases: Leases,
        quotas: ByteQuotas,
    ) -> None:
        self._bounds = bounds
        self._levels = levels
        self._max_exports = max_exports
        self._leases = leases
        self._quotas = quotas
        self._workers = Workers()
        self._running: set[Pump] = set()
        self._idle = asyncio.Event()
        self._memory = MemoryReturn()

    async def idle(self) -> None:
        """Wait until no export is running and each has released its lease."""
        while self._running:
            await self._idle.wait()

    async def stop(self) -> None:
        """Break off all exports, and wait until they have left their sources."""
        running = list(self._running)
        for pump in running:
            pump.stop(Ending.CUT_OFF)
        for pump in running:
            await pump.ended.wait()
        self._memory.close()
        self._workers.close()
        self._workers = Workers()

    def metrics(self) -> Iterable[Metric]:
        """Yield the number of jobs in worker threads."""
        yield Metric("worker_jobs", self._workers.jobs)

    async def run(self, export: Export, context: RequestContext, disconnect: Disconnect, send: Send) -> None:
        """Stream one export; return when it is complete or its client has left. `context` gets the receipt.

        Raises the error to answer with if the head has not been sent, else `BrokenOff`.
        """
        if len(self._running) >= self._max_exports:
            raise Unavailable(
                f"{self._max_exports} exports are running; expected fewer", retry_after_seconds=FULL_RETRY_SECONDS
            )
        encoder = bounded(export.format.encoder(export.columns, export.dialect), export.access)
        writer = ChunkWriter(encoder, CODINGS[export.coding](self._levels) if export.coding != UNCODED else None)
        pump = Pump(
            disconnect,
            send,
            head=export.head(),
            open_chunks=lambda: self._open_chunks(export, writer),
            error_marker=lambda: writer.error_marker(export.format.error_marker(export.dialect)),
            bounds=self._bounds,
            hold_seconds=HOLD_SECONDS if export.format.in_threads else 0.0,
        )
        try:
            # Counted before anything is awaited, so that no other request passes the bound meanwhile. The lease is
            # inside: `idle` waits until it has been given back.
            with self._count_running(pump):
                async with self._hold_lease(export):
                    _raise_ending(export, await _run_pump(pump, encoder, context))
        except BrokenOff:
            # After count and lease: this may take as long as the client does, and must hold no place.
            await pump.break_off()
            raise
        except asyncio.CancelledError:
            await pump.break_off(cancelled=True)
            raise

    @contextmanager
    def _count_running(self, pump: Pump) -> Iterator[None]:
        if not self._running:
            self._idle = asyncio.Event()
        self._running.add(pump)
        self._memory.changed(len(self._running))
        try:
            yield
        finally:
            self._running.discard(pump)
            self._memory.changed(len(self._running))
            pump.ended.set()
            if not self._running:
                self._idle.set()

    def _open_chunks(self, export: Export, writer: ChunkWriter) -> AbstractAsyncContextManager[AsyncIterator[bytes]]:
        """Open the chunks to send; with a meter if the caller's plan bounds the bytes of a day."""
        cursor = open_selection(export.dataset, export.selection)
        chunks = open_chunks(cursor, writer, self._workers, in_threads=export.format.in_threads)
        identity, limit = export.identity, export.access.bytes_a_day
        if identity is None or limit is None:
            return chunks
        return meter_chunks(chunks, Meter(self._quotas, identity.window_key, limit))

    @asynccontextmanager
    async def _hold_lease(self, export: Export) -> AsyncIterator[None]:
        """Hold a lease if the plan bounds the exports of a key at once. Raises `TooManyRequests` without one left."""
        identity, most = export.identity, export.access.exports_at_once
        if identity is None or most is None:
            yield
            return
        lease = await self._leases.take(identity.window_key, most)
        if lease is None:
            raise TooManyRequests(
                f"this key may run {most} exports at once, and does",
                headers=((b"retry-after", str(FULL_RETRY_SECONDS).encode()),),
            )
        try:
            yield
        finally:
            await asyncio.shield(self._leases.give_back(identity.window_key, lease))


async def _run_pump(pump: Pump, encoder: Encoder, context: RequestContext) -> Outcome:
    """Run the pump and set the receipt, also if the request is cancelled; a refused request has no receipt."""
    outcome = Outcome(Ending.CUT_OFF, head_sent=False, first_byte_seconds=None, error=None)
    begun = time.monotonic()
    try:
        outcome = await pump.run()
        if isinstance(outcome.error, OverQuota):  # a bound of the caller's plan is not a failure
            outcome = replace(outcome, ending=Ending.CUT_OFF)
        return outcome
    finally:
        if not isinstance(outcome.error, TooManyRequests):
            context.set(RECEIPT, _receipt(outcome, encoder.rows, pump.bytes, time.monotonic() - begun))


def _receipt(outcome: Outcome, rows: int, sent: int, seconds: float) -> Receipt:
    error = type(outcome.error).__name__ if outcome.error else ""
    return Receipt(outcome.ending, rows, sent, seconds, outcome.first_byte_seconds, error)


def _raise_ending(export: Export, outcome: Outcome) -> None:
    """Return if the export is complete or its client has left; else raise the error to answer with, or `BrokenOff`.

    A `SourceFailed` before the head is not logged here: the catalogue may be out of date, and a second try may work.
    """
    ending, error = outcome.ending, outcome.error
    left = ending in (Ending.COMPLETE, Ending.CLIENT_LEFT)
    if error is not None and (outcome.head_sent or left):
        log_failure(export, ending, error)
    if left:
        return
    if outcome.head_sent:
        raise BrokenOff(f"export {export.request_id}: {ending}; the connection is broken off") from None
    if error is None:
        raise Unavailable(f"dataset {export.dataset.name} cannot be read now", retry_after_seconds=5)
    answer = as_export_error(export.dataset.name, error)
    if isinstance(answer, Unavailable):
        _log_outage(export, answer, error)
    raise answer from (error.__cause__ if answer is error else error)


def _log_outage(export: Export, answer: Unavailable, error: BaseException) -> None:
    """Log one line, as there may be many, with the error of the driver or the system, which the client never sees."""
    cause = answer.__cause__ if answer is error else error
    words = (export.request_id, export.dataset.name, answer)
    logger.warning(
        "export %s of %s: %s%s", *words, f" ({type(cause).__name__}: {cause})" if cause is not None else ""
    )


def log_failure(export: Export, ending: Ending, error: BaseException) -> None:
    """Log why an export failed, with a traceback unless a bound of the plan was reached."""
    words = (export.request_id, export.dataset.name, ending)
    if isinstance(error, OverQuota):
        logger.warning("export %s of %s: %s: %s", *words, error)
    else:
        logger.error("export %s of %s: %s", *words, exc_info=error)
