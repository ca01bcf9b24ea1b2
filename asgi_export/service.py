"""The composition root: make sources, a store, middleware and the application from settings.

`app` is made from the environment, for ``uvicorn asgi_export.service:app`` and the like. Wrong settings do not fail
the import, which would print a traceback: the application reports them when it is started.
"""

from __future__ import annotations

import logging
import os
import sys
from pathlib import Path
from typing import Any

from asgi_export.access.key_file import KeyFile
from asgi_export.access.tokens import Tokens
from asgi_export.app import ExportApp
from asgi_export.asgi.coding import CompressionLevels
from asgi_export.asgi.context import context_of
from asgi_export.asgi.lifespan import answer_lifespan
from asgi_export.asgi.message import ASGIApp
from asgi_export.asgi.problem import send_problem
from asgi_export.asgi.pump import Bounds
from asgi_export.errors import StartupError, Unavailable
from asgi_export.limiter.byte_quota import ByteQuotas, MemoryByteQuotas
from asgi_export.limiter.leases import Leases, MemoryLeases
from asgi_export.limiter.memory_store import MemoryStore
from asgi_export.limiter.redis_byte_quota import RedisByteQuotas
from asgi_export.limiter.redis_leases import RedisLeases
from asgi_export.limiter.redis_store import RedisStore
from asgi_export.limiter.store import Store
from asgi_export.locations import open_locations
from asgi_export.logs import set_up_logs
from asgi_export.measure import Measured
from asgi_export.middleware.callers import ApiKeys
from asgi_export.middleware.cors import Cors
from asgi_export.middleware.hang_up import Action, OnHangUp
from asgi_export.middleware.metrics import Metrics, metrics_available
from asgi_export.middleware.observe import Observe
from asgi_export.middleware.outermost import Outermost
from asgi_export.middleware.rate_limit import RateLimit
from asgi_export.settings import Settings, load_settings

logger = logging.getLogger("asgi_export")


def make_export_app(settings: Settings, store: Store | None = None) -> ExportApp:
    """Make the application without middleware. It counts running exports where `store` counts requests.

    Raises `StartupError` for a location that cannot be served.
    """
    return ExportApp(
        open_locations(
            settings.sources,
            queries=settings.queries,
            max_seconds=settings.max_seconds,
            role_claim=settings.role_claim,
        ),
        bounds=Bounds(
            stall_seconds=settings.stall_seconds,
            max_seconds=settings.max_seconds,
            head_after_seconds=settings.head_after_seconds,
        ),
        max_columns=settings.max_columns,
        max_filters=settings.max_filters,
        max_rows=settings.max_rows,
        max_bytes=settings.max_bytes,
        max_exports=settings.max_exports,
        catalogue_seconds=settings.catalogue_seconds,
        levels=CompressionLevels(gzip=settings.gzip_level, zstd=settings.zstd_level),
        max_query_bytes=settings.max_query_bytes,
        max_header_bytes=settings.max_header_bytes,
        leases=make_leases(settings, store),
        quotas=make_quotas(store),
    )


def make_store(settings: Settings) -> Store:
    """Make the limit store. Raises `StartupError` for a store whose extra is not installed."""
    if settings.limiter == "memory":
        return MemoryStore(max_keys=settings.max_keys)
    return RedisStore(
        settings.limiter,
        bound_seconds=settings.store_bound_seconds,
        on_failure=settings.on_store_failure,
        instances=settings.instances or settings.workers,
        max_keys=settings.max_keys,
    )


def make_leases(settings: Settings, store: Store | None) -> Leases:
    """Make the leases: in the Redis of the store and over its connection, if it has one, else in memory."""
    if isinstance(store, RedisStore):
        return RedisLeases(store.redis, lease_seconds=settings.lease_seconds)
    return MemoryLeases()


def make_quotas(store: Store | None) -> ByteQuotas:
    """Make the byte quotas: in the Redis of the store and over its connection, if it has one, else in memory."""
    return RedisByteQuotas(store.redis) if isinstance(store, RedisStore) else MemoryByteQuotas()


def make_tokens(settings: Settings, keys: KeyFile | None) -> Tokens | None:
    """Make what verifies tokens, if the settings have keys or a secret for them; their plans are those of `keys`.

    Raises `StartupError` for settings that cannot work, and for those that would verify nothing.
    """
    if not (settings.jwt_keys or settings.jwt_secret):
        if settings.jwt_issuer or settings.jwt_audience or settings.jwt_default_plan:
            raise StartupError(
                "jwt_issuer, jwt_audience, jwt_default_plan: expected jwt_keys or jwt_secret with them"
            )
        return None
    plan = settings.jwt_default_plan
    if plan is not None and (keys is None or plan not in keys.plans):
        raise StartupError(f"jwt_default_plan={plan}: expected a plan of the file of --api-keys")
    return Tokens(
        settings.jwt_keys,
        secret=settings.jwt_secret,
        issuer=settings.jwt_issuer,
        audience=settings.jwt_audience,
        caller_claim=settings.jwt_caller_claim,
        plan_claim=settings.jwt_plan_claim,
        default_plan=plan,
    )


def make_service(settings: Settings, exports: ExportApp | None = None, store: Store | None = None) -> ASGIApp:
    """Make the application with its store and all middleware; `exports` and `store` may be given.

    Raises `StartupError`.
    """
    store = store or make_store(settings)
    exports = exports or make_export_app(settings, store)
    app: ASGIApp = RateLimit(
        exports,
        store=store,
        rules=settings.limit,
        max_query_bytes=settings.max_query_bytes,
        max_header_bytes=settings.max_header_bytes,
    )
    actions: list[Action] = [exports.refresh]
    keys = KeyFile(Path(settings.api_keys)) if settings.api_keys else None
    tokens = make_tokens(settings, keys)
    if keys is not None or tokens is not None:
        app = ApiKeys(app, keys=keys, tokens=tokens)
    actions += [found.reload for found in (keys, tokens) if found is not None]
    if settings.cors_origins:
        app = Cors(app, origins=settings.cors_origins)
    metrics = None
    if settings.metrics and metrics_available():
        metrics = Metrics([found for found in (exports, store) if isinstance(found, Measured)])
    app = Observe(app, metrics=metrics)
    return Outermost(OnHangUp(app, actions))


class NotStarted:
    """Serve wrong settings: fail the start-up with the reason, and answer requests 503."""

    def __init__(self, error: StartupError) -> None:
        self._error = error

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            await answer_lifespan(receive, send, start=self._fail, stop=self._fail)
        elif scope["type"] == "http":
            context = context_of(scope)  # before the log line, which has the request's id
            logger.error("the service was not started: %s", self._error)
            await send_problem(context, send, Unavailable("the service was not started", retry_after_seconds=60))
        else:
            raise ValueError(f"scope type {scope['type']!r}: expected 'http' or 'lifespan'")

    async def _fail(self) -> None:
        raise self._error


def service_from_environment() -> ASGIApp:
    """Make `app` from the environment."""
    if sys.platform == "linux":  # read when pyarrow is loaded: a stalled Parquet export holds 8 MB, not 13
        os.environ.setdefault("ARROW_DEFAULT_MEMORY_POOL", "jemalloc")
    try:
        settings = load_settings({}, os.environ)
        set_up_logs(settings.log_format)
        return make_service(settings)
    except StartupError as error:
        set_up_logs()  # the format of the settings may be unknown
        return NotStarted(error)


app = service_from_environment()
