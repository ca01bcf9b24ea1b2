"""ExportApp: everything from scope to body.

    scope → request → route → parameters → plan → open source → encode → send, until the end or the client leaves

The middleware around it identifies callers and limits requests.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

from asgi_export.access.identity import IDENTITY, access_of
from asgi_export.asgi.coding import CompressionLevels
from asgi_export.asgi.conditions import Refused, decide
from asgi_export.asgi.context import METRICS_SERVED, Disconnect, RequestContext, context_of
from asgi_export.asgi.lifespan import answer_lifespan
from asgi_export.asgi.message import HTTPScope, Receive, Send, send_head, send_whole
from asgi_export.asgi.problem import common_headers, send_problem
from asgi_export.asgi.pump import Bounds, BrokenOff, Ending
from asgi_export.asgi.readiness import CHECKS, failing
from asgi_export.asgi.request import MAX_HEADER_BYTES, MAX_QUERY_BYTES, RequestBounds, probe_of
from asgi_export.errors import (
    BadRequest,
    ExportError,
    InternalError,
    MethodNotAllowed,
    NotFound,
    SourceFailed,
    StartupError,
    Unavailable,
)
from asgi_export.export.catalogue import CATALOGUE_SECONDS, MAX_COLUMNS, MAX_FILTERS, Catalogue, ExportBounds
from asgi_export.export.catalogue_page import catalogue_page
from asgi_export.export.meter import describe_quota
from asgi_export.export.parameters import OF_DOCUMENT, Parameters, parse_parameters, shown
from asgi_export.export.plan import EXPORT, Export, plan_export
from asgi_export.export.receipt import RECEIPT
from asgi_export.export.routes import CATALOGUE, DOCUMENT, Route, find_route, is_in_place_of, path_of
from asgi_export.export.runner import MAX_EXPORTS, RunningExports, log_failure
from asgi_export.formats import FORMATS
from asgi_export.limiter.byte_quota import ByteQuotas, MemoryByteQuotas
from asgi_export.limiter.leases import Leases, MemoryLeases
from asgi_export.limiter.rules import RULES, describe_rules
from asgi_export.measure import Metric
from asgi_export.openapi.cache import Documents, rights_of
from asgi_export.openapi.document import View, describe
from asgi_export.openapi.visibility import visible_to
from asgi_export.table import Dataset, Source

logger = logging.getLogger("asgi_export")

PREFIX = "/api/v1/exports"
ALLOW = (b"allow", b"GET, HEAD, OPTIONS")
CLOSE_CONNECTION = (b"connection", b"close")
"""Makes the client's next request find another process. RFC 9112 §9.6; HTTP/2 has no such field."""


class ExportApp:
    """An ASGI 3 application that streams datasets.

    `sources` are datasets (as `asgi_export.dataset` makes them) and sources of several datasets; the first dataset
    is the default. The application runs alone or mounted anywhere: below a `root_path`, `/csv` and
    `/api/v1/exports/csv` both work. Start-up opens the sources, or the first request does if the server sends no
    lifespan; shut-down ends running exports and closes the sources.

    `bounds` bounds each export; so do `max_columns`, `max_filters`, `max_rows` and `max_bytes` (before
    compression), under every plan. The catalogue is read again by a request that comes `catalogue_seconds` after
    the last time, and by an export that fails. More than `max_exports` at once are answered 503. `levels` are those
    of the content codings. `leases` count the running exports of a key, and `quotas` its bytes of a day, if its
    plan bounds them; both are started and closed with the sources.
    """

    def __init__(
        self,
        sources: Sequence[Source | Dataset],
        *,
        prefix: str = PREFIX,
        bounds: Bounds | None = None,
        max_columns: int = MAX_COLUMNS,
        max_filters: int = MAX_FILTERS,
        max_rows: int | None = None,
        max_bytes: int | None = None,
        max_exports: int = MAX_EXPORTS,
        catalogue_seconds: float = CATALOGUE_SECONDS,
        max_query_bytes: int = MAX_QUERY_BYTES,
        max_header_bytes: int = MAX_HEADER_BYTES,
        levels: CompressionLevels | None = None,
        leases: Leases | None = None,
        quotas: ByteQuotas | None = None,
    ) -> None:
        export_bounds = ExportBounds(max_columns, max_filters, max_rows, max_bytes)
        self._catalogue = Catalogue(sources, export_bounds, seconds=catalogue_seconds)
        self._prefix = tuple([segment for segment in prefix.split("/") if segment])
        self._leases: Leases = leases if leases is not None else MemoryLeases()
        self._quotas: ByteQuotas = quotas if quotas is not None else MemoryByteQuotas()
        self._exports = RunningExports(
            bounds=bounds or Bounds(),
            max_exports=max_exports,
            levels=levels or CompressionLevels(),
            leases=self._leases,
            quotas=self._quotas,
        )
        self._request_bounds = RequestBounds(max_query_bytes, max_header_bytes)
        self._documents = Documents()
        self._closing = False
        self._pages = {
            CATALOGUE: self._list,
            DOCUMENT: self._describe,
            "healthz": self._live,
            "readyz": self._readiness,
            "metrics": self._no_metrics,
        }

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "http":
            await self._answer(scope, receive, send)
        elif scope["type"] == "lifespan":
            self._closing = False
            await answer_lifespan(receive, send, start=self.start, stop=self.stop)
        else:
            raise ValueError(f"scope type {scope['type']!r}: expected 'http' or 'lifespan'")

    async def start(self) -> None:
        """Open the sources and the leases, once. Raises `StartupError` with one line for the operator."""
        await self._catalogue.start()
        await self._leases.start()
        await self._quotas.start()

    @property
    def datasets(self) -> Sequence[Dataset]:
        """The datasets that can be exported now; empty before the start."""
        return tuple(self._catalogue.now.by_name.values())

    async def refresh(self) -> None:
        """Read the catalogue of every source again, as after a migration. Running exports go on; never raises."""
        await self._catalogue.refresh()

    def metrics(self) -> Iterable[Metric]:
        """Yield the use of worker threads and of the pools of sources."""
        yield from self._exports.metrics()
        yield from self._catalogue.metrics()

    def drain(self) -> None:
        """Answer new requests 503 from now on, but for `/healthz`; running exports go on. Before `stop`, or never."""
        self._closing = True

    async def idle(self) -> None:
        """Wait until no export is running."""
        await self._exports.idle()

    async def stop(self) -> None:
        """Break off the running exports, wait until they have left their sources, and close the sources."""
        self._closing = True
        await self._exports.stop()
        await self._leases.close()
        await self._quotas.close()
        await self._catalogue.close()
        self._documents = Documents()  # those of the next start may be others

    async def _answer(self, scope: HTTPScope, receive: Receive, send: Send) -> None:
        """Answer one request; the only place where an error becomes an answer."""
        context = context_of(scope)
        watching = context.disconnect is not None  # a middleware around this application watches, and ends it
        disconnect = context.watch(receive)
        try:
            await self._route(context, disconnect, send)
        except BrokenOff:
            raise
        except SourceFailed as error:
            await send_problem(context, send, _internal_error(context, error))
        except ExportError as error:
            await send_problem(context, send, error)
        except Exception:
            logger.exception("request %s failed", context.request_id)
            await send_problem(context, send, InternalError("the service failed; the log has the reason"))
        finally:
            if not watching:
                await disconnect.close()

    async def _route(self, context: RequestContext, disconnect: Disconnect, send: Send) -> None:
        request, identity = context.request, context.get(IDENTITY)
        self._request_bounds.check(request)
        if request.method == "OPTIONS":  # not counted, so it must not reveal whether a key is valid
            if request.below != ("*",):  # which asks about the server as a whole. RFC 9110 §9.3.7
                find_route(request, self._prefix)
            await send_whole(send, 204, [ALLOW, *common_headers(context.request_id)], b"", method="OPTIONS")
            return
        route = find_route(request, self._prefix)
        if identity is not None and identity.refusal is not None and not probe_of(request):
            raise identity.refusal  # reached only without a limiter, which refuses earlier
        if request.method not in ("GET", "HEAD"):
            raise MethodNotAllowed(f"{shown(request.method)}: expected GET, HEAD or OPTIONS", headers=(ALLOW,))
        if route.page in FORMATS:
            await self._export(context, disconnect, send, route)
        else:
            status, body = await self._pages[route.page](context)
            await _send_page(context, send, status, body)

    async def _export(self, context: RequestContext, disconnect: Disconnect, send: Send, route: Route) -> None:
        parameters = _name_dataset(parse_parameters(context.parameters()), route.dataset)
        await self._open_sources(context)
        export = plan_export(self._catalogue.now, parameters, FORMATS[route.page], context)
        decision = decide(context.request.header)
        if isinstance(decision, Refused):  # last, as a bad request gets its own error. RFC 9110 §13.2.1
            raise decision.error
        context.set(EXPORT, export)
        if context.request.method == "HEAD":
            await send_head(send, export.head())
            return
        try:
            await self._exports.run(export, context, disconnect, send)
        except SourceFailed as error:
            again = await self._plan_again(export, parameters, context, error)
            await self._exports.run(again, context, disconnect, send)

    async def _plan_again(
        self, export: Export, parameters: Parameters, context: RequestContext, error: SourceFailed
    ) -> Export:
        """Plan an export that failed before its head again, with the catalogue as it is now.

        Raises the error to answer with if the request asks for something that has gone, and `error` if nothing has
        changed.
        """
        if not await self._catalogue.recheck(export.dataset):
            log_failure(export, Ending.FAILED, error)
            raise Unavailable(f"dataset {export.dataset.name} cannot be read now", retry_after_seconds=5)
        receipt = context.drop(RECEIPT)
        again = plan_export(self._catalogue.now, parameters, export.format, context)
        if again.dataset is export.dataset:
            if receipt is not None:
                context.set(RECEIPT, receipt)
            raise error
        context.set(EXPORT, again)
        return again

    async def _list(self, context: RequestContext) -> tuple[int, bytes]:
        """Build the page of the catalogue; in a thread, as thousands of tables take a second."""
        await self._open_sources(context)
        access = access_of(context.get(IDENTITY))
        rules = context.get(RULES)
        limits = list(describe_rules(rules)) if rules else []
        if access.bytes_a_day is not None:
            limits.append(describe_quota(access.bytes_a_day))
        formats = [
            {"name": name, "media_type": found.media_type} for name, found in FORMATS.items() if found.available
        ]
        now = self._catalogue.now
        return 200, await asyncio.to_thread(lambda: catalogue_page(now, access, formats=formats, limits=limits))

    async def _describe(self, context: RequestContext) -> tuple[int, bytes]:
        """Build the OpenAPI document of what the caller may ask for."""
        asked = parse_parameters(context.parameters(), table=OF_DOCUMENT)
        await self._open_sources(context)
        request, identity = context.request, context.get(IDENTITY)
        access = access_of(identity)
        view = View(
            server=path_of(request.root),
            prefix="" if is_in_place_of(self._prefix, request) else path_of(self._prefix),
            keys=identity is not None,
            by_key=identity is None or identity.by_key,
            limited=context.get(RULES) is not None,
            metrics=context.get(METRICS_SERVED) is True,
            max_query_bytes=self._request_bounds.max_query_bytes,
        )
        now = self._catalogue.now
        return 200, await self._documents.get(
            (view, asked.dataset, rights_of(access), now.version),
            lambda: json_body(describe(view, visible_to(now, asked.dataset, access))),
        )

    async def _live(self, _context: RequestContext) -> tuple[int, bytes]:
        return 200, json_body({"status": "ok"})

    async def _readiness(self, context: RequestContext) -> tuple[int, bytes]:
        await self._open_sources(context)
        own = {"leases": self._leases.check, "quotas": self._quotas.check}
        around = context.get(CHECKS)
        failed = await failing({**self._catalogue.checks(), **own, **(around or {})})
        if failed:
            return 503, json_body({"status": "unavailable", "error": Unavailable.error, "failing": failed})
        return 200, json_body({"status": "ok"})

    async def _no_metrics(self, _context: RequestContext) -> tuple[int, bytes]:
        raise NotFound("metrics is not served here")

    async def _open_sources(self, context: RequestContext) -> None:
        """Open the sources if no lifespan has done so, and refresh the catalogue if that is due.

        Raises `Unavailable`; only the log has the reason.
        """
        self._expect_open(context)
        try:
            await self.start()
        except StartupError as error:
            logger.error("the sources were not opened: %s", error)
            raise Unavailable("the sources cannot be opened now", retry_after_seconds=5) from None
        await self._catalogue.keep_fresh()
        self._expect_open(context)  # again: the shut-down may have begun during the awaits above

    def _expect_open(self, context: RequestContext) -> None:
        """Raise `Unavailable` if the shut-down has begun."""
        if self._closing:
            headers = (CLOSE_CONNECTION,) if context.request.http_version.startswith("1") else ()
            raise Unavailable("the service is shutting down", retry_after_seconds=5, headers=headers)


async def _send_page(context: RequestContext, send: Send, status: int, body: bytes) -> None:
    headers = [(b"content-type", b"application/json"), *common_headers(context.request_id)]
    if status == Unavailable.status:
        headers.append((b"retry-after", b"1"))
    await send_whole(send, status, headers, body, method=context.request.method)


def _name_dataset(parameters: Parameters, dataset: str) -> Parameters:
    """Add the dataset that the path names to the parameters; then the query must not name one, even the same."""
    if not dataset:
        return parameters
    if parameters.dataset:
        raise BadRequest(
            f"dataset={shown(parameters.dataset)}: given twice; expected once, and the path names {shown(dataset)}"
        )
    return replace(parameters, dataset=dataset)


def _internal_error(context: RequestContext, error: SourceFailed) -> InternalError:
    """Log the failure of an export, and make the answer to its client, without the reason."""
    export = context.get(EXPORT)
    assert export is not None  # noqa: S101 - only exports read sources
    log_failure(export, Ending.FAILED, error)
    return InternalError(f"dataset {export.dataset.name}: {error.answer}")


def json_body(document: object) -> bytes:
    """Encode a JSON page. With indentation Python code writes it, bit by bit, and other threads get their turns."""
    return json.dumps(document, indent=2).encode() + b"\n"
