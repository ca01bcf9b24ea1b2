"""Set up the connection of an export: read-only, bounded, one text form for each type, and exact values.

Settings belong to the transaction of an export (`SET LOCAL`), not to the session: a pooler such as PgBouncer refuses
or ignores them at the start of a session, and gives each transaction another session. A source checks once, at its
start, whether they hold.

asyncpg's own codecs turn `infinity` into 9999-12-31 and refuse `24:00`, BC and years past 9999; so the server gives
dates and times as text, which `fromisoformat` reads in half the time of asyncpg's binary codecs; what it cannot
read stays text. JSON stays text, too: a number in it may have more digits than Python parses, and its depth has no
bound.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import date, datetime, time
from typing import Any

from asgi_export.errors import StartupError
from asgi_export.sources.postgres.driver import Connection, refusal, socket_of
from asgi_export.sources.postgres.dsn import Target
from asgi_export.table import JsonText

INT4_MAX = 2**31 - 1
"""The largest number that a setting of PostgreSQL holds."""

CLIENT_CHECK = "client_connection_check_interval"

END = "ROLLBACK; SELECT pg_catalog.pg_advisory_unlock_all()"
"""Resets a session: a transaction of an export has nothing to commit, but a view may take advisory locks."""

IN_OWN_ORDER = "; SET LOCAL enable_indexonlyscan TO off"
"""For the transaction of a table's export: the server reads few columns of a wide table from an index that holds
them, in its order, and with a limit other rows. A view may need such scans to be fast, and has no order of its own.
"""

IN_OWN_ORDER_FILTERED = (
    f"{IN_OWN_ORDER}; SET LOCAL enable_indexscan TO off; SET LOCAL max_parallel_workers_per_gather TO 0"
)
"""For rows of a table that filters choose: a bitmap of an index gives them as they are stored."""


def transaction_settings(*, statement_seconds: float, lock_seconds: float) -> dict[str, str]:
    """Return the settings of the transaction of an export, as `pg_settings` shows them.

    https://www.postgresql.org/docs/current/runtime-config-client.html
    """
    return {
        "statement_timeout": _milliseconds(statement_seconds),
        "idle_in_transaction_session_timeout": _milliseconds(statement_seconds),
        "lock_timeout": _milliseconds(lock_seconds),
        "datestyle": "ISO, MDY",
        "intervalstyle": "iso_8601",
        "timezone": "UTC",
        "bytea_output": "hex",
        "extra_float_digits": "1",  # the shortest text that reads back the same
        "standard_conforming_strings": "on",
        "synchronize_seqscans": "off",  # the same rows in the same order again, as pg_dump has it
    }


def _milliseconds(seconds: float) -> str:
    """Write a bound, which 0 would switch off."""
    return str(max(1, min(INT4_MAX, round(seconds * 1000))))


async def client_check_settings(connection: Connection) -> dict[str, str]:
    """Return the setting that makes the server check its client once a second, if it has one.

    Otherwise a query that sends no rows outlives a killed process. PostgreSQL 14 has the setting, on systems that
    report a closed socket; elsewhere this is empty, as an unknown setting would break every export.
    """
    settings = {CLIENT_CHECK: "1000"}
    try:
        async with connection.transaction(readonly=True):
            await connection.execute(_set_local(settings))
    except refusal():
        return {}
    return settings


def begin(settings: Mapping[str, str]) -> str:
    """Return the statements that open the transaction of an export, in one round trip."""
    return f"BEGIN READ ONLY; {_set_local(settings)}"


def _set_local(settings: Mapping[str, str]) -> str:
    return "; ".join([f"SET LOCAL {name} = '{value}'" for name, value in settings.items()])


async def check_settings(connection: Connection, place: str, settings: Mapping[str, str]) -> None:
    """Raise `StartupError` if the open transaction does not have the settings of `begin`."""
    expected = {**settings, "transaction_read_only": "on"}
    # no others: in a database of the encoding SQL_ASCII one may hold text that is not UTF-8
    names = ", ".join(f"'{name}'" for name in expected)
    lowered = "(SELECT pg_catalog.lower(name) AS name, setting FROM pg_catalog.pg_settings)"
    sql = f"SELECT name, setting FROM {lowered} settings WHERE name IN ({names})"
    found = {row["name"]: row["setting"] for row in await connection.fetch(sql)}
    for name, value in expected.items():
        if found.get(name) != value:
            raise StartupError(
                f"{place}: {name} is {found.get(name)!r} in a transaction that has set it to {value!r};"
                " expected a pooler that keeps a transaction on one session"
            )


def _or_text(parse: Callable[[str], Any]) -> Callable[[str], Any]:
    def decode(text: str) -> Any:
        try:
            return parse(text)
        except ValueError:
            return text

    return decode


def _time(text: str) -> time | str:
    """Parse a time; `24:00` stays text, as Python 3.14 would read it as `00:00`, which is another value."""
    return text if text.startswith("24") else time.fromisoformat(text)


CODECS: dict[str, Callable[[str], Any]] = {
    "date": _or_text(date.fromisoformat),
    "time": _time,
    "timestamp": _or_text(datetime.fromisoformat),
    "timestamptz": _or_text(datetime.fromisoformat),
    "float4": float,  # asyncpg would widen it bit by bit: 0.1 to 0.10000000149011612
    "json": JsonText,
    "jsonb": JsonText,
}
"""What reads the text of a base type, with the settings of an export: ISO dates, UTC."""


async def prepare(connection: Connection, *, target: Target) -> None:
    """Turn on keepalives and set codecs that decode from text; makes no round trip."""
    target.keep_alive(socket_of(connection))
    for name, decoder in CODECS.items():
        await connection.set_type_codec(name, schema="pg_catalog", encoder=str, decoder=decoder, format="text")
