"""The adapter of redis-py: its import, the parsing of addresses, and the mapping of its errors.

Logs and errors show only scheme, host, port and database of an address: if a password was not percent-encoded, any
part of the parsed address may hold it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any, Protocol, TypeAlias
from urllib.parse import parse_qsl, unquote, urlsplit

from asgi_export import addresses
from asgi_export.errors import StartupError
from asgi_export.redis_client.options import BadAddress, expect_address, expect_host

Reply: TypeAlias = Any
"""A whole number, bytes, a list of those, or None; or a `ReplyError`."""

CONNECT_SECONDS = 1.0
"""For a connection that no request waits for: at the start, and for probes."""

EXPECTED = (
    "expected redis://HOST:PORT/DB, rediss://…, unix:///PATH or redis+sentinel://HOST:PORT,HOST:PORT/SERVICE/DB"
)

_SENTINEL_SCHEMES: dict[str, dict[str, bool]] = {"redis+sentinel": {}, "rediss+sentinel": {"ssl": True}}
_SENTINEL_PORT = 26379


class StoreDown(ConnectionError):
    """The store does not answer, or with an error. Calls that fail together have the same `occasion`."""

    def __init__(self, reason: str, occasion: object = None) -> None:
        super().__init__(reason)
        self.occasion = occasion if occasion is not None else self


class ReplyError(StoreDown):
    """The store answers with an error."""


class UnknownScript(ReplyError):
    """EVALSHA of a script that the store does not have: it was restarted, or its scripts were flushed."""


class Wire(Protocol):
    """One connection. `receive` returns replies in the order of the commands; errors are `StoreDown`."""

    async def connect(self) -> None: ...
    async def send(self, commands: bytes) -> None: ...
    async def receive(self) -> Reply: ...
    async def close(self) -> None: ...


class RedisWire:
    """A connection of redis-py without its pool: no retries, and no time-out but that of the connect."""

    def __init__(self, connection: Any, reason: Callable[[Exception], str]) -> None:
        from redis import exceptions

        self._errors = exceptions
        self._connection = connection
        self._reason = reason

    async def connect(self) -> None:
        """Connect, authenticate and select the database; for Sentinel, ask where the master is."""
        try:
            await self._connection.connect()
        except (self._errors.RedisError, OSError) as error:
            raise StoreDown(self._reason(error)) from None

    async def send(self, commands: bytes) -> None:
        """Send packed commands; wait while the store reads none."""
        try:
            await self._connection.send_packed_command(commands, check_health=False)
        except (self._errors.RedisError, OSError) as error:
            raise StoreDown(self._reason(error)) from None

    async def receive(self) -> Reply:
        """Return the next reply; an error reply is returned as a `ReplyError`, not raised."""
        try:
            return await self._connection.read_response()
        except self._errors.NoScriptError as error:
            return UnknownScript(self._reason(error))
        except self._errors.ResponseError as error:
            return ReplyError(self._reason(error))
        except (self._errors.RedisError, OSError) as error:
            raise StoreDown(self._reason(error)) from None

    async def close(self) -> None:
        """Close the socket without waiting for the other side."""
        await self._connection.disconnect(nowait=True)


class Redis:
    """Make connections to one address; none connects before `Wire.connect`.

    Raises `StartupError` if redis-py is missing or the address cannot be parsed.
    """

    def __init__(self, url: str) -> None:
        try:
            import redis.asyncio  # noqa: F401
        except ImportError:
            raise StartupError(
                f"limit store {place_of(url)} needs redis-py: pip install 'asgi-export[redis]'"
            ) from None
        self._secrets = _secrets(url)
        self._sentinels: Sequence[Any] = ()
        try:
            expect_address(url)
            self._pool = self._open(url)
            connection = self._pool.make_connection()  # its constructor looks at most of the options
        except BadAddress as error:
            raise StartupError(f"limit store {place_of(url)}: {error}") from None
        except Exception:  # redis-py raises of any kind, and its messages may quote a part of the address
            raise StartupError(f"limit store {place_of(url)}: {EXPECTED}") from None
        _expect_certificates(url, connection)

    def wire(self) -> Wire:
        """Make a new connection, not connected yet; the caller closes it."""
        return RedisWire(self._pool.make_connection(), self._reason)

    async def close(self) -> None:
        """Close the connections to sentinels."""
        for client in self._sentinels:
            await client.aclose()

    def _open(self, url: str) -> Any:
        from redis.asyncio.connection import ConnectionPool
        from redis.asyncio.retry import Retry
        from redis.backoff import NoBackoff

        options: dict[str, Any] = {
            "protocol": 2,  # RESP 3 costs a HELLO, and nothing here needs it
            # Each call has its own bound, which allows for a loop that was held up; no time-out of the socket.
            "socket_timeout": None,
            "socket_connect_timeout": CONNECT_SECONDS,
            "socket_keepalive": True,
            "retry": Retry(NoBackoff(), 0),
        }
        scheme = url.partition("://")[0]
        if scheme in _SENTINEL_SCHEMES:
            return self._open_sentinel(url, {**options, **_SENTINEL_SCHEMES[scheme]})
        if scheme == "unix":
            del options["socket_keepalive"]
        pool = ConnectionPool.from_url(url, **options)
        expect_host(pool.connection_kwargs.get("host", ""))
        return pool

    def _open_sentinel(self, url: str, options: dict[str, Any]) -> Any:
        """Make the pool of a service's master; the login is that of the master, sentinels have options for theirs."""
        from redis.asyncio.sentinel import Sentinel

        parts = urlsplit(url)
        service, _, database = parts.path.strip("/").partition("/")
        asked = dict(parse_qsl(parts.query, strict_parsing=bool(parts.query)))
        login, _, hosts = parts.netloc.rpartition("@")
        if not service or not re.fullmatch("[0-9]{0,9}", database, re.ASCII):
            raise ValueError(EXPECTED)
        places = [_sentinel_address(host) for host in hosts.split(",")]
        # A sentinel that is down must not use up the time of the next one, nor of the master.
        seconds = CONNECT_SECONDS / (len(places) + 1)
        bounds = {**options, "socket_timeout": seconds, "socket_connect_timeout": seconds}
        theirs = {name.removeprefix("sentinel_"): value for name, value in asked.items()}
        make_sentinel: Any = Sentinel  # its constructor has no types
        found = make_sentinel(places, sentinel_kwargs={**bounds, **theirs})
        self._sentinels = found.sentinels
        user, _, password = (unquote(text) or None for text in login.partition(":"))
        master = found.master_for(
            unquote(service), db=int(database or 0), username=user, password=password, **options
        )
        return master.connection_pool

    def _reason(self, error: Exception) -> str:
        """Describe an error for the log, without secrets: redis-py shows a sentinel with all its options."""
        text = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
        for secret in self._secrets:
            text = text.replace(secret, "***")
        return text


def _expect_certificates(url: str, connection: Any) -> None:
    """Read the files of TLS now; redis-py would read them at the first connect."""
    context = getattr(connection, "ssl_context", None)
    try:
        if context is not None:
            context.get()
    except Exception as error:  # of the system, of OpenSSL, or of redis-py
        reason = getattr(error, "strerror", None) or "its ssl_… options cannot be used"
        raise StartupError(f"limit store {place_of(url)}: TLS: {reason}") from None


def place_of(url: str) -> str:
    """Return the address without user, password and options; the scheme alone if the rest may hold a secret.

    >>> place_of("redis://user:secret@cache:6379/0?timeout=1")
    'redis://cache:6379/0'
    >>> place_of("redis://:sec?ret@cache:6379/0")
    'redis://'
    """
    scheme, mark, _ = url.partition("://")
    return addresses.place_of(url) or (
        f"{scheme}://" if mark and re.fullmatch("[a-z+]{1,20}", scheme) else "redis://"
    )


def _secrets(url: str) -> list[str]:
    """Return the secrets of an address, longest first, both as written and decoded."""
    rest = url.partition("://")[2]
    login, found, _ = rest.rpartition("@")
    options = parse_qsl(rest.partition("?")[2])
    texts = [login.partition(":")[2]] if found else []
    texts += [value for name, value in options if "password" in name]
    return sorted({form for text in texts for form in (text, unquote(text)) if form}, key=len, reverse=True)


def _sentinel_address(text: str) -> tuple[str, int]:
    parts = urlsplit(f"//{text}")
    if not parts.hostname:
        raise ValueError(EXPECTED)
    expect_host(parts.hostname)
    return parts.hostname, parts.port or _SENTINEL_PORT
