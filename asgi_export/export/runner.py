"""The exports that run in this process: their number, their bounds, and how each one ends."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Iterable
from contextlib import AbstractAsyncContextManager, asynccontextmanager

from asgi_export.access.callers import caller_of
from asgi_export.access.plans import AccessPlan
from asgi_export.asgi.coding import CODINGS, CompressionLevels
from asgi_export.asgi.exchange import Exchange, exchange_of
from asgi_export.asgi.message import HTTPScope, Receive, Send, head
from asgi_export.asgi.negotiate import IDENTITY
from asgi_export.asgi.pump import Bounds, BrokenOff, Ending, Outcome, Pump
from asgi_export.errors import (
    ExportError,
    Header,
    OverQuota,
    SourceFailed,
    StartupError,
    TooManyRequests,
    Unavailable,
)
from asgi_export.export.bounds import bounded
from asgi_export.export.catalogue import Plan
from asgi_export.export.chunks import ChunkWriter, open_chunks
from asgi_export.export.meter import Meter, metered
from asgi_export.limiter.byte_quota import ByteQuotas
from asgi_export.limiter.leases import Leases
from asgi_export.measure import Figure
from asgi_export.table import Encoder
from asgi_export.threads import Workers

logger = logging.getLogger("asgi_export")

FULL_RETRY_SECONDS = 5

FOR_OPERATOR = (SourceFailed, StartupError)
"""Errors whose words belong into the log, not to the client."""


class RunningExports:
    """Runs at most `max_exports` at once; a caller whose plan says so, fewer."""

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

    async def idle(self) -> None:
        """Wait until none is running, and each has given back what it held."""
        while self._running:
            await self._idle.wait()

    async def stop(self) -> None:
        """Break all of them off, and wait until they have left their sources."""
        running = list(self._running)
        for pump in running:
            pump.stop(Ending.CUT_OFF)
        for pump in running:
            await pump.ended.wait()
        self._workers.close()
        self._workers = Workers()

    def figures(self) -> Iterable[Figure]:
        """What the worker threads have to do."""
        yield Figure("worker_jobs", self._workers.jobs)

    async def run(
        self, scope: HTTPScope, receive: Receive, send: Send, plan: Plan, headers: list[Header], coding: str
    ) -> None:
        """Stream one export in that content coding; return when it is over for its client.

        Raises what answers it, where the head is not out, else `BrokenOff`.
        """
        if len(self._running) >= self._max_exports:
            raise Unavailable(
                f"{self._max_exports} exports are running; expected fewer", retry_after_seconds=FULL_RETRY_SECONDS
            )
        encoder = bounded(plan.format.encoder(plan.columns, plan.dialect), plan.access)
        writer = ChunkWriter(encoder, CODINGS[coding](self._levels) if coding != IDENTITY else None)
        pump = Pump(
            receive,
            send,
            head=head(200, headers),
            open_chunks=lambda: self._open_chunks(scope, plan, writer),
            last_words=lambda: writer.last_words(plan.format.last_words(plan.dialect)),
            bounds=self._bounds,
        )
        if not self._running:
            self._idle = asyncio.Event()
        self._running.add(pump)  # before anything is awaited, so that the bound holds
        try:
            async with self._leased(scope, plan.access):
                await self._pumped(pump, encoder, exchange_of(scope))
        finally:
            self._running.discard(pump)
            pump.ended.set()
            if not self._running:
                self._idle.set()

    def _open_chunks(
        self, scope: HTTPScope, plan: Plan, writer: ChunkWriter
    ) -> AbstractAsyncContextManager[AsyncIterator[bytes]]:
        """What is sent, paid for where the caller's plan bounds the bytes of a day."""
        cursor = plan.dataset.open(plan.selection)
        chunks = open_chunks(cursor, writer, self._workers, in_threads=plan.format.in_threads)
        caller, limit = caller_of(scope), plan.access.bytes_a_day
        if caller is None or limit is None:
            return chunks
        return metered(chunks, Meter(self._quotas, caller.window_key, limit))

    @asynccontextmanager
    async def _leased(self, scope: HTTPScope, access: AccessPlan) -> AsyncIterator[None]:
        """Hold one of the exports that a key may have at once. Raises `TooManyRequests` where it has them all."""
        caller = caller_of(scope)
        if caller is None or access.exports_at_once is None:
            yield
            return
        lease = await self._leases.take(caller.window_key, access.exports_at_once)
        if lease is None:
            raise TooManyRequests(
                f"this key may run {access.exports_at_once} exports at once, and does",
                headers=((b"retry-after", str(FULL_RETRY_SECONDS).encode()),),
            )
        try:
            yield
        finally:
            await asyncio.shield(self._leases.give_back(caller.window_key, lease))

    async def _pumped(self, pump: Pump, encoder: Encoder, exchange: Exchange) -> None:
        try:
            outcome = await pump.run()
        except asyncio.CancelledError:
            exchange.ending = Ending.CUT_OFF
            raise
        finally:
            exchange.rows, exchange.bytes = encoder.rows, pump.bytes
        exchange.ending = _ending(outcome)
        _conclude(outcome, exchange)


def _ending(outcome: Outcome) -> str:
    """A bound of the caller's cuts an export off; a request that is refused is none."""
    if isinstance(outcome.error, OverQuota):
        return Ending.CUT_OFF
    return "" if isinstance(outcome.error, TooManyRequests) else outcome.ending


def _conclude(outcome: Outcome, exchange: Exchange) -> None:
    """Return for an export that is over for its client; raise what answers it, or what breaks it off."""
    exchange.first_byte_seconds = outcome.first_byte_seconds
    ending, error = exchange.ending, outcome.error
    for_client = isinstance(error, ExportError) and not isinstance(error, FOR_OPERATOR)
    answered = for_client and not outcome.head_sent
    if error is not None and not answered:
        _log(exchange, error)
    if ending in (Ending.COMPLETE, Ending.CLIENT_LEFT):
        return
    if outcome.head_sent:
        raise BrokenOff(f"export {exchange.request_id}: {ending}; the connection is broken off") from None
    if isinstance(error, ExportError) and for_client:
        raise error
    raise Unavailable(f"dataset {exchange.dataset} cannot be read now", retry_after_seconds=5) from None


def _log(exchange: Exchange, error: BaseException) -> None:
    """A traceback is for what somebody has to mend."""
    words = (exchange.request_id, exchange.dataset, exchange.ending)
    if isinstance(error, OverQuota):
        logger.warning("export %s of %s: %s: %s", *words, error)
    else:
        logger.error("export %s of %s: %s", *words, exc_info=error)
