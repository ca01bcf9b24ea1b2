"""The values that a statement binds, and the functions of Python that it calls."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from asgi_export.declared import Kind
from asgi_export.table import Column, Filter
from asgi_export.values.literals import parse_date, parse_time, parse_timestamp
from asgi_export.values.matching import test_of

PREFIX = "asgi_export_"


class Bindings:
    """Named parameters, and functions on the connection, which is one export's own.

    A statement need not use all of them. `arguments` are those that it has already.

    SQLite has a bound on parameters (999 before 3.32): what does not fit below it is not bound but asked of the
    reference. Functions get text as its bytes and raise nothing. https://www.sqlite.org/limits.html §9
    """

    def __init__(self, connection: sqlite3.Connection, arguments: Mapping[str, Any]) -> None:
        (encoding,) = connection.execute("PRAGMA main.encoding").fetchone()
        self.encoding = str(encoding)
        self.utf_16 = self.encoding != "UTF-8"
        self.values: dict[str, Any] = dict(arguments)
        self._connection = connection
        self._most = connection.getlimit(sqlite3.SQLITE_LIMIT_VARIABLE_NUMBER)
        self._functions = 0

    def has_room_for(self, count: int) -> bool:
        """Return whether so many values can still be bound."""
        return len(self.values) + count <= self._most

    def bind(self, value: Any) -> str:
        """Bind a value and return its parameter."""
        name = f"v{len(self.values)}"
        self.values[name] = value
        return f":{name}"

    def bind_all(self, values: Sequence[Any]) -> str:
        """Bind values and return their parameters with commas between."""
        return ", ".join(map(self.bind, values))

    def call(self, function: Callable[[bytes], Any], name: str) -> str:
        """Return a call of a function with the bytes of a text column; null for other values."""
        return f"{self._register(1, function)}(CASE typeof({name}) WHEN 'text' THEN CAST({name} AS BLOB) END)"

    def is_utf_8(self, name: str) -> str:
        """Return a call that holds for text of UTF-8."""
        return self.call(_is_utf_8, name)

    def decoded(self, text: bytes) -> str | None:
        """Return the text of a database of this encoding, None if it is invalid."""
        try:
            return text.decode(self.encoding)
        except UnicodeDecodeError:
            return None

    def reference(self, found: Filter, column: Column) -> str:
        """Return the name of a function of a value, and whether it is text, that holds where the filter holds."""
        holds = test_of(found)
        read = _OF_TEXT.get(column.kind, str)

        def asked(value: Any, is_text: int) -> bool:
            text = self.decoded(value) if is_text else None
            return holds(value if text is None else _read(read, text))

        return self._register(2, asked)

    def _register(self, arguments: int, function: Callable[..., Any]) -> str:
        self._functions += 1
        name = f"{PREFIX}{self._functions}"
        self._connection.create_function(name, arguments, function, deterministic=True)
        return name


def _no_number(text: str) -> bytes:
    return b""


_OF_TEXT: Mapping[Kind, Callable[[str], Any]] = {
    "number": _no_number,
    "date": parse_date,
    "time": parse_time,
    "timestamp": parse_timestamp,
}
"""What text is in a column of a kind; bytes are a value of another kind."""


def _read(read: Callable[[str], Any], text: str) -> Any:
    try:
        return read(text)
    except ValueError:
        return b""


def _is_utf_8(text: bytes | None) -> bool:
    try:
        return text is not None and bool(text.decode() or True)
    except UnicodeDecodeError:
        return False
