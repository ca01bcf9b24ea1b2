"""How asgi_export has a connection: values that Python holds exactly, or their text.

asyncpg's own codecs turn `infinity` into 9999-12-31 and refuse `24:00`, BC and years past 9999; so the server gives
dates and times as text, which `fromisoformat` reads in half the time of asyncpg's binary codecs; what it cannot
read stays text. JSON stays text, too: a number in it may have more digits than Python parses, and its depth is
the client's affair.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import date, datetime, time
from typing import Any

from asgi_export.sources.postgres.driver import Connection
from asgi_export.table import JsonText


def _or_text(parse: Callable[[str], Any]) -> Callable[[str], Any]:
    def decode(text: str) -> Any:
        try:
            return parse(text)
        except ValueError:
            return text

    return decode


def _time(text: str) -> time | str:
    """`24:00`, which PostgreSQL keeps apart from `00:00`, Python 3.14 would read as that."""
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


async def prepare(connection: Connection) -> None:
    """Have these types decoded from their text; asyncpg knows their OIDs, so that nothing is asked for."""
    for name, decoder in CODECS.items():
        await connection.set_type_codec(name, schema="pg_catalog", encoder=str, decoder=decoder, format="text")
