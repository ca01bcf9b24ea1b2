"""The adapter of asyncpg: its import, connections and pools, and the mapping of its errors.

No text of a server or a driver reaches a client. Of a DSN only host, port and database are shown to anyone: if a
password was not percent-encoded, any part of the parsed DSN may hold it.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeAlias

from asgi_export.errors import BadRequest, ExportError, Forbidden, SourceFailed, StartupError, Unavailable, ViewFailed
from asgi_export.sources.postgres.dsn import MISREAD, UNKNOWN_PLACE, Target

try:
    import asyncpg  # type: ignore[import-untyped, unused-ignore]
except ImportError:  # the extra is not installed
    asyncpg = None

log = logging.getLogger("asgi_export.sources.postgres")

Connection: TypeAlias = Any
"""asyncpg has no types of its own."""

Pool: TypeAlias = Any

_PASSING = (
    "08",  # the connection
    "25P03",  # idle in a transaction for too long
    "28",  # the role or its password has changed since the start
    "3D000",  # the database is gone
    "40",  # a deadlock, or on a standby a conflict with recovery
    "53",  # too many connections, out of memory, disk full
    "55P03",  # lock_timeout
    "57",  # shut down, starting up, statement_timeout
    "58",  # a file or a disk below the server
    "HV00N",  # no connection to a foreign server
)
"""How SQLSTATEs begin that a client may try again. https://www.postgresql.org/docs/current/errcodes-appendix.html

The others come again: 22, values that cannot be computed; 42, tables, columns, functions and rights that are gone;
P0, what a function raises; XX, damage.
"""


_HARMLESS = ("None of the hosts match", "root certificate file")
"""Words of asyncpg that quote nothing which may be a password."""


async def connect(target: Target) -> Connection:
    """Open a single connection; the caller closes it.

    Raises `StartupError` if asyncpg is missing, and what asyncpg raises, a `ValueError` for a bad DSN.
    """
    if asyncpg is None:
        raise StartupError("PostgreSQL needs asyncpg: pip install 'asgi-export[postgres]'")
    return await asyncpg.connect(
        target.dsn, timeout=target.connect_seconds, statement_cache_size=0, server_settings=target.startup
    )


async def create_pool(
    target: Target,
    *,
    max_connections: int,
    prepare: Callable[[Connection], Awaitable[None]],
) -> Pool:
    """Make a pool that opens connections on demand and prepares each once; the caller closes it."""
    return await asyncpg.create_pool(
        target.dsn,
        min_size=0,
        max_size=max_connections,
        timeout=target.connect_seconds,
        # A cached statement would break when its table is altered, and in a pooler that gives another server to
        # each transaction; without a cache statements have no name, and so none that another client has taken.
        statement_cache_size=0,
        server_settings=target.startup,
        init=prepare,
        reset=_leave_as_it_is,
    )


async def _leave_as_it_is(_: Connection) -> None:
    """Do nothing: the end of its transaction has reset the session (`session.END`)."""


def socket_of(connection: Connection) -> Any:
    """Return the socket of a connection, which asyncpg has no public name for; None where there is none."""
    transport = getattr(connection, "_transport", None)
    return None if transport is None else transport.get_extra_info("socket")


@contextmanager
def reading_paused(connection: Connection) -> Iterator[None]:
    """Keep the driver from getting more of what the server sends, but for what it has got already."""
    transport = None if is_lost(connection) else getattr(connection, "_transport", None)
    if transport is not None:
        transport.pause_reading()
    try:
        yield
    finally:
        if transport is not None:
            transport.resume_reading()


def refusal() -> type[Exception]:
    """Return what a statement raises that the server refuses."""
    refused: type[Exception] = asyncpg.PostgresError
    return refused


def startup_failure(place: str, error: Exception) -> StartupError:
    """Make the error for the operator, one line with the place and the reason.

    For a doubtful DSN even the server's message is dropped: it quotes names, which may be a part of the password.
    """
    return StartupError(f"{place}: {MISREAD if place == UNKNOWN_PLACE else _reason(error)}")


@dataclass(frozen=True, slots=True)
class Blame:
    """What may be at fault besides the server: the SQL of a view, the arguments of a query, the role of a caller."""

    view: bool = False
    arguments: bool = False
    role: bool = False


NO_BLAME = Blame()


_NO_ROLE = (
    "22023",  # the role does not exist
    "22021",  # its name is no text in the encoding of the database
    "22P05",
)


def failure(
    dataset: str, error: Exception, *, lost: bool = False, blame: Blame = NO_BLAME, begins: bool = False
) -> ExportError:
    """Make the error that an export raises for an error of the driver; its cause has the text, for the log.

    `lost` means that the connection is gone, which asyncpg may report as an error of its own state; `begins` that the
    transaction was being opened.
    """
    kind = type(error).__name__
    if lost or is_outage(error):
        return Unavailable(f"{dataset}: PostgreSQL does not answer ({kind}); try again")
    if blame.role and _is_refusal(error, begins=begins):
        log.warning("%s: PostgreSQL refuses the role of a caller, or what it reads (%s)", dataset, kind)
        return Forbidden(f"{dataset}: the role of this caller may not read it, or not all of these columns")
    if blame.arguments and isinstance(error, asyncpg.DataError):
        log.warning("%s: the query fails with its arguments (%s)", dataset, kind)
        return BadRequest(f"{dataset}: the query cannot be computed with these parameters; expected other values")
    return (ViewFailed if blame.view else SourceFailed)(f"{dataset}: PostgreSQL could not deliver it ({kind})")


def _is_refusal(error: Exception, *, begins: bool) -> bool:
    """Return whether the server refuses a role, or what it asks for."""
    state = getattr(error, "sqlstate", None)
    return state == "42501" or (begins and state in _NO_ROLE)


def cause_of(error: Exception) -> Exception | None:
    """Return the error itself, for the log; None if its words quote values of rows: class 22, and its like here.

    https://www.postgresql.org/docs/current/errcodes-appendix.html
    """
    return None if isinstance(error, (asyncpg.DataError, ValueError)) else error


def is_lost(connection: Connection) -> bool:
    """Return whether a connection of the pool is closed; the pool takes it back then from its holder."""
    try:
        return bool(connection.is_closed())
    except asyncpg.InterfaceError:
        return True


def is_outage(error: Exception) -> bool:
    """Return whether the error may pass: network, shut-down, exhaustion, a time-out."""
    if isinstance(error, asyncpg.PostgresError):
        return (error.sqlstate or "").startswith(_PASSING)
    return isinstance(error, (OSError, asyncpg.InterfaceError))  # of the driver: closed is a connection or the pool


def _reason(error: Exception) -> str:
    if isinstance(error, TimeoutError):
        return "does not answer in time"
    if isinstance(error, asyncpg.PostgresError):
        return str(error).partition("\n")[0]
    if isinstance(error, OSError):
        return "cannot be reached: " + str(error).partition("\n")[0]
    if isinstance(error, (asyncpg.TargetServerAttributeNotMatched, asyncpg.ClientConfigurationError)):
        words = str(error).partition("\n")[0]
        return words if words.startswith(_HARMLESS) else MISREAD
    return MISREAD
