"""Access log and metrics: one log line for every request.

    request_id=… method=GET path=/api/v1/exports/csv status=200 bytes=50667 seconds=0.351 dataset=flights
    format=csv rows=1000 ending="complete"

The line never has the query string, which may hold a key. The path is percent-encoded, so no client can forge a line.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any
from urllib.parse import quote

from asgi_export.access.credentials import without_key
from asgi_export.access.identity import IDENTITY
from asgi_export.asgi.break_off import is_break
from asgi_export.asgi.context import METRICS_SERVED, RequestContext, context_of
from asgi_export.asgi.lifespan import AroundLifespan
from asgi_export.asgi.message import ASGIApp, ASGISendEvent, HTTPScope, Send, send_whole
from asgi_export.asgi.problem import common_headers
from asgi_export.asgi.request import probe_of
from asgi_export.export.plan import EXPORT
from asgi_export.export.receipt import RECEIPT
from asgi_export.middleware.metrics import Metrics

logger = logging.getLogger("asgi_export.access")
diagnostics = logging.getLogger("asgi_export")

MAX_PATH_CHARACTERS = 500


class Observe:
    """Log each request of an ASGI application when its answer has ended.

    With `metrics` it also counts them, and answers `/metrics`.
    """

    def __init__(self, app: ASGIApp, *, metrics: Metrics | None = None) -> None:
        self._app = app
        self._metrics = metrics

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan" and self._metrics:
            around = AroundLifespan(receive, send, start=self._metrics.start, stop=self._metrics.stop)
            await self._app(scope, around.receive, around.send)
            return
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        context = context_of(scope)
        answer = _Answer(send, context, self._metrics)
        try:
            if self._metrics and _asks_for_metrics(context):
                await _send_metrics(context, answer.send, self._metrics)
            else:
                context.set(METRICS_SERVED, self._metrics is not None)
                await self._app(scope, receive, answer.send)
        finally:
            answer.end()
            if logger.isEnabledFor(logging.INFO):  # `info` would also look up the line of the source
                line = access_line(scope, context, answer.status, answer.bytes, answer.seconds)
                logger.handle(logger.makeRecord(logger.name, logging.INFO, __file__, 0, line, (), None))


def _asks_for_metrics(context: RequestContext) -> bool:
    return context.request.method in ("GET", "HEAD") and probe_of(context.request) == "metrics"


async def _send_metrics(context: RequestContext, send: Send, metrics: Metrics) -> None:
    media_type, text = metrics.render()
    headers = [(b"content-type", media_type), *common_headers(context.request_id)]
    await send_whole(send, 200, headers, text, method=context.request.method)


class _Answer:
    """Measure one answer as it passes: its status, its bytes, its time."""

    def __init__(self, send: Send, context: RequestContext, metrics: Metrics | None) -> None:
        self._context = context
        self.status = 0
        self.bytes = 0
        self.seconds = 0.0
        self._send = send
        self._metrics = metrics
        self._begun = time.monotonic()
        self._export_running = False

    async def send(self, message: ASGISendEvent) -> None:
        """Pass a message on. Raises only `OSError`, which applications take for a client that has left.

        If the body of a request turns out to be malformed, uvicorn answers it itself, and exceptions of h11 come out
        of `send`: that is no fault of the application.
        """
        try:
            await self._send(message)
        except OSError:
            raise
        except Exception as error:
            if is_break(message):
                raise
            diagnostics.warning("request %s: the server takes no answer: %r", self._context.request_id, error)
            raise ConnectionError("the server takes no answer") from error
        if is_break(message):
            return
        if message["type"] == "http.response.start":
            self.status = message["status"]
            if self._metrics and self.status == 200 and self._context.get(EXPORT):
                self._export_running = True
                self._metrics.export_started()
        elif message["type"] == "http.response.body":
            self.bytes += len(message.get("body", b""))

    def end(self) -> None:
        self.seconds = time.monotonic() - self._begun
        if self._metrics is None:
            return
        if self._export_running:
            self._metrics.export_stopped()
        self._metrics.answered(self._context, self.status, self.seconds)


@dataclass(frozen=True, slots=True)
class AccessLine:
    """The access log line of one request, as the message of a log record; `str` formats it, on demand.

    It has only what may be logged, so any handler may show all of it.
    """

    fields: Mapping[str, str | int | float]

    def __str__(self) -> str:
        found = self.fields
        text = (
            f"request_id={found['request_id']} method={found['method']} path={found['path']} status={found['status']}"
            f" bytes={found['bytes']} seconds={found['seconds']:.3f}"
        )
        if "owner" in found:
            text += f" owner={_owner(str(found['owner']))}"
        if "dataset" in found:
            text += f" dataset={_word(str(found['dataset']))} format={found['format']}"
        if "ending" in found:
            text += f' rows={found["rows"]} ending="{found["ending"]}"'
        return text


def access_line(scope: HTTPScope, context: RequestContext, status: int, sent: int, seconds: float) -> AccessLine:
    """Build the line of one request; `status` is 0 if the client left before there was an answer."""
    fields: dict[str, str | int | float] = {
        "request_id": context.request_id,
        "method": _word(scope["method"][:20]),
        "path": _path(scope["path"][:MAX_PATH_CHARACTERS]),
        "status": status,
        "bytes": sent,
        "seconds": round(seconds, 6),
    }
    identity, export, receipt = context.get(IDENTITY), context.get(EXPORT), context.get(RECEIPT)
    if identity and identity.caller:
        fields["owner"] = identity.caller.id
    if export:
        fields["dataset"], fields["format"] = export.dataset.name, export.format.name
    if receipt:
        fields["rows"], fields["ending"] = receipt.rows, str(receipt.ending)
    return AccessLine(fields)


@lru_cache(maxsize=256)
def _word(text: str) -> str:
    return quote(text, errors="replace")


@lru_cache(maxsize=256)
def _owner(caller_id: str) -> str:
    """Encode the id of a caller as one word, legible for the usual ones."""
    return quote(caller_id, safe="@+:/|,")


@lru_cache(maxsize=256)
def _path(path: str) -> str:
    """Encode a path for the log: as one word, and without a key."""
    return quote(without_key(path), safe="/", errors="replace")
