"""redis-py: where it is imported, and how a client is made that never waits longer than it may."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlsplit

from asgi_export.errors import StartupError

try:
    from redis.asyncio import BlockingConnectionPool, Redis, Sentinel
    from redis.asyncio.retry import Retry
    from redis.backoff import NoBackoff
    from redis.exceptions import NoScriptError, RedisError
except ImportError:  # the extra is not installed
    Redis = None  # type: ignore[assignment,misc]

MAX_CONNECTIONS = 64
SENTINEL_SCHEME = "redis+sentinel"
SCHEMES = ("redis://", "rediss://", "unix://", f"{SENTINEL_SCHEME}://")


def place_of(url: str) -> str:
    """The URL without user, password and query, for logs and errors."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"


def connect(url: str, *, bound_seconds: float) -> Any:
    """A client; nothing is sent yet. Raises `StartupError` where redis-py is missing or the URL is none.

    redis-py's own defaults retry for seconds: here there is no retry, and connecting takes the bound at most.
    Sentinels are ``redis+sentinel://HOST:PORT,HOST:PORT/SERVICE/DB``.
    """
    if Redis is None:
        raise StartupError("the Redis store needs redis-py: pip install 'asgi-export[redis]'")
    options: dict[str, Any] = {
        "socket_connect_timeout": bound_seconds,
        "retry": Retry(NoBackoff(), 0),
        "retry_on_timeout": False,
    }
    try:
        if url.startswith(f"{SENTINEL_SCHEME}://"):
            return _by_sentinel(url, options)
        pool = BlockingConnectionPool.from_url(url, max_connections=MAX_CONNECTIONS, timeout=bound_seconds, **options)
    except (ValueError, IndexError) as error:
        raise StartupError(f"{place_of(url)}: not a URL of Redis: {error}") from None
    return Redis(connection_pool=pool)


def _by_sentinel(url: str, options: dict[str, Any]) -> Any:
    parts = urlsplit(url)
    credentials, _, hosts = parts.netloc.rpartition("@")
    service, _, database = parts.path.strip("/").partition("/")
    places = [(host.partition(":")[0], int(host.partition(":")[2] or 26379)) for host in hosts.split(",")]
    password = credentials.partition(":")[2] or None
    sentinel: Any = Sentinel
    return sentinel(places).master_for(service, db=int(database or 0), password=password, **options)


def failures() -> tuple[type[Exception], ...]:
    """What a server that is gone, slow or confused makes of a call."""
    return (RedisError, OSError, TimeoutError)


def unknown_script(error: Exception) -> bool:
    """Whether the server has lost its scripts: it was restarted or flushed."""
    return isinstance(error, NoScriptError)
