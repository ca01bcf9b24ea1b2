"""Parse a DSN as psql does: the options of libpq that asyncpg knows, those it lacks, and those without meaning here.

https://www.postgresql.org/docs/current/libpq-connect.html, Parameter Key Words and Connection URIs. asyncpg hands
every option that it does not know to the server, which refuses the connection, or to a pooler, which does so too.
"""

from __future__ import annotations

import os
import re
import socket
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote, unquote, urlsplit

from asgi_export import addresses
from asgi_export.errors import StartupError

UNKNOWN_PLACE = "postgresql"

_MEANT = re.compile("postgres(?:ql)?://[^/]*(?:/[^/]*)?")

MISREAD = (
    "cannot be used: expected postgresql://USER:PASSWORD@HOST:PORT/DATABASE, with what is special in the password"
    " percent-encoded"
)

APPLICATION = "asgi_export"

_ASYNCPG = frozenset(
    {"host", "port", "dbname", "database", "user", "password", "passfile", "service", "sslmode", "sslnegotiation"}
    | {"sslcert", "sslkey", "sslrootcert", "sslcrl", "sslpassword", "ssl_min_protocol_version"}
    | {"ssl_max_protocol_version", "target_session_attrs", "krbsrvname", "gsslib"}
)
"""Options that asyncpg reads from a DSN itself."""

_STARTUP = frozenset({"application_name", "options"})
"""Options that are sent to the server at the start of a session."""

_NUMBERS = frozenset(
    {
        "connect_timeout",
        "keepalives",
        "keepalives_idle",
        "keepalives_interval",
        "keepalives_count",
        "tcp_user_timeout",
    }
)

_ANY = frozenset[str]()

_AS_IT_IS: Mapping[str, frozenset[str]] = {
    "channel_binding": frozenset({"disable", "prefer"}),
    "client_encoding": _ANY,  # an export is UTF-8
    "fallback_application_name": _ANY,
    "gssdelegation": frozenset({"0"}),
    "gssencmode": frozenset({"disable", "prefer"}),
    "load_balance_hosts": frozenset({"disable"}),
    "max_protocol_version": frozenset({"3.0", "3.2", "latest"}),
    "min_protocol_version": frozenset({"3.0"}),
    "replication": frozenset({"false", "off", "no", "0"}),
    "sslcertmode": frozenset({"allow"}),
    "sslcompression": _ANY,  # without a meaning since PostgreSQL 14
    "sslsni": frozenset({"1"}),
}
"""Options with the values that asyncpg implements anyway; other values would have no effect, so they are refused."""

_BEYOND = frozenset(
    {"hostaddr", "require_auth", "requirepeer", "scram_client_key", "scram_server_key", "sslcrldir", "sslkeylogfile"}
    | {"servicefile", "oauth_issuer", "oauth_client_id", "oauth_client_secret", "oauth_scope"}
)
"""Options of libpq that asyncpg does not have."""

_CHOICES: Mapping[str, tuple[str, ...]] = {
    "sslmode": ("disable", "allow", "prefer", "require", "verify-ca", "verify-full"),
    "sslnegotiation": ("postgres", "direct"),
    "target_session_attrs": ("any", "read-write", "read-only", "primary", "standby", "prefer-standby"),
}

_FILES = ("sslcert", "sslkey", "sslrootcert", "sslcrl")

_KEEPALIVE = {
    "keepalives_idle": "TCP_KEEPIDLE",
    "keepalives_interval": "TCP_KEEPINTVL",
    "keepalives_count": "TCP_KEEPCNT",
    "tcp_user_timeout": "TCP_USER_TIMEOUT",
}


@dataclass(frozen=True, slots=True)
class Target:
    """Where and how to connect: a DSN for asyncpg, the settings of the session, and the bounds of its socket."""

    dsn: str = field(repr=False)
    connect_seconds: float
    startup: dict[str, str]
    numbers: Mapping[str, int]

    def keep_alive(self, connected: Any) -> None:
        """Set keepalives of the socket as libpq does, unless they are off."""
        if connected is None or connected.family == getattr(socket, "AF_UNIX", None):
            return
        wanted = self.numbers.get("keepalives", 1) != 0
        connected.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, int(wanted))
        for name, constant in _KEEPALIVE.items():
            seconds = self.numbers.get(name, 0)
            if wanted and seconds > 0 and hasattr(socket, constant):
                connected.setsockopt(socket.IPPROTO_TCP, getattr(socket, constant), seconds)


def read_target(dsn: str, *, connect_seconds: float) -> Target:
    """Read a DSN as psql does. `connect_seconds` applies if it has no positive `connect_timeout`.

    Raises `StartupError`: one line that names the place and the option.
    """
    place = place_of(dsn)
    base, _, query = dsn.partition("?")
    given = _with_ssl(dict(_options(place, query)))
    for name, value in given.items():
        reason = _refusal(name, value)
        if reason:
            raise StartupError(f"{place}: {MISREAD if place == UNKNOWN_PLACE else reason}")
    numbers = {name: int(given[name]) for name in _NUMBERS & given.keys()}
    timeout = numbers.get("connect_timeout", 0)
    options = "&".join([f"{name}={quote(value, safe='')}" for name, value in given.items() if name in _ASYNCPG])
    return Target(
        f"{base}?{options}" if options else base,
        timeout if timeout > 0 else connect_seconds,
        {"application_name": APPLICATION, **{name: given[name] for name in _STARTUP & given.keys()}},
        numbers,
    )


def _options(place: str, query: str) -> Iterator[tuple[str, str]]:
    """Yield names and values as libpq decodes them: a plus is a plus, and a name stands once."""
    for pair in filter(None, query.split("&")):
        name, equals, value = pair.partition("=")
        if not equals:
            raise StartupError(f"{place}: {MISREAD}")
        yield unquote(name), unquote(value)


def _with_ssl(given: dict[str, str]) -> dict[str, str]:
    """Replace JDBC's `ssl=true` by `sslmode=require`, as libpq does."""
    if given.get("ssl") == "true":
        return {"sslmode": "require", **{name: value for name, value in given.items() if name != "ssl"}}
    return given


def _refusal(name: str, value: str) -> str:
    """Return why an option is refused; empty if it is accepted. The value of a secret option is never shown."""
    if name in _NUMBERS:
        return "" if re.fullmatch(r"-?[0-9]{1,9}", value) else f"{name}={value}: expected a whole number"
    if name in _CHOICES:
        return "" if value in _CHOICES[name] else f"{name}={value}: expected one of {', '.join(_CHOICES[name])}"
    if name in _FILES:
        return "" if os.path.exists(value) else f"{name}={value}: no such file"
    if name in _AS_IT_IS:
        taken = _AS_IT_IS[name]
        return "" if not taken or value in taken else f"{name}={value}: expected one of {', '.join(sorted(taken))}"
    if name in _ASYNCPG | _STARTUP:
        return ""
    if name in _BEYOND:
        return f"{name}: asyncpg does not have this option"
    return f"unknown option {name!r}; expected one of libpq's, such as sslmode or connect_timeout"


def place_of(dsn: str) -> str:
    """Return scheme, host, port and database of a DSN: never the user, the password, or anything doubtful.

    >>> place_of("postgresql://shop:secret@db.example:5432/shop?sslmode=require")
    'postgresql://db.example:5432/shop'
    >>> place_of("postgresql://shop:se/cret@db.example/shop")
    'postgresql'
    """
    place = addresses.place_of(dsn)
    login = dsn.partition("://")[2].rpartition("@")[0]
    return place if _MEANT.fullmatch(place) and not re.search(r"[][/]", login) else UNKNOWN_PLACE


def database_of(dsn: str) -> str:
    """Return the database's name if the DSN has it, else `postgresql`."""
    return unquote(urlsplit(place_of(dsn)).path.strip("/")) or UNKNOWN_PLACE
