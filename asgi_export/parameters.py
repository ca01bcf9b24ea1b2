"""The query parameters of an export: one table that parses them, names them in errors, and documents them."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

from asgi_export.asgi.request import Pairs
from asgi_export.errors import BadRequest

MAX_TOTAL = 10**18 - 1
MAX_FILENAME_CHARACTERS = 200
MAX_SHOWN_CHARACTERS = 80
SECRET = "apiKey"  # noqa: S105 - a name, not a secret
"""The parameter whose value no error and no log repeats."""


@dataclass(frozen=True, slots=True)
class Parameters:
    """What the client asked for; None and empty where it did not."""

    columns: tuple[str, ...] = ()
    api_key: str = ""
    total: int | None = None
    dataset: str = ""
    header: bool = True
    delimiter: str = ""
    quote: Literal["minimal", "all"] = "minimal"
    null: str = ""
    newline: Literal["\n", "\r\n"] = "\n"
    bom: bool = False
    escape_formulas: bool = False
    filename: str = ""


@dataclass(frozen=True, slots=True)
class Parameter:
    """One row of the table: `parse` raises ValueError or KeyError for what is not `expected`."""

    name: str
    field: str
    expected: str
    meaning: str
    parse: Callable[[str], Any]


def _choice(*choices: str) -> Callable[[str], str]:
    return {choice: choice for choice in choices}.__getitem__


def _total(text: str) -> int:
    if not re.fullmatch(r"[0-9]{1,18}", text, re.ASCII):
        raise ValueError(text)
    return int(text)


def _columns(text: str) -> tuple[str, ...]:
    return tuple(text.split(",")) if text.strip() else ()


def _delimiter(text: str) -> str:
    if text == "tab":
        return "\t"
    if len(text) != 1 or text in '"\r\n\0':
        raise ValueError(text)
    return text


def _filename(text: str) -> str:
    if not 1 <= len(text) <= MAX_FILENAME_CHARACTERS:
        raise ValueError(text)
    return text


_BOOLEAN = {"true": True, "false": False}.__getitem__
_TRUE_OR_FALSE = "true or false"
_NAME_LENGTH = f"1 to {MAX_FILENAME_CHARACTERS} characters"

PARAMETERS = (
    Parameter("columns", "columns", "comma-separated column names", "which columns, in that order", _columns),
    Parameter(SECRET, "api_key", "a key", "who is asking, for limits and access", str),
    Parameter("total", "total", f"a whole number from 0 to {MAX_TOTAL}", "at most so many rows", _total),
    Parameter("dataset", "dataset", "the name of a dataset", "which dataset", str),
    Parameter("header", "header", _TRUE_OR_FALSE, "whether the first line holds the names", _BOOLEAN),
    Parameter("delimiter", "delimiter", "tab, or a character but quote and line ends", "between fields", _delimiter),
    Parameter("quote", "quote", "minimal or all", "which fields are quoted", _choice("minimal", "all")),
    Parameter("null", "null", "any text", "the text of a missing value", str),
    Parameter("newline", "newline", "lf or crlf", "how lines end", {"lf": "\n", "crlf": "\r\n"}.__getitem__),
    Parameter("bom", "bom", _TRUE_OR_FALSE, "whether a UTF-8 byte order mark comes first", _BOOLEAN),
    Parameter("escapeFormulas", "escape_formulas", _TRUE_OR_FALSE, "prefix ' to text like a formula", _BOOLEAN),
    Parameter("filename", "filename", _NAME_LENGTH, "the name in Content-Disposition", _filename),
)

_BY_NAME = {parameter.name: parameter for parameter in PARAMETERS}


def parse_parameters(pairs: Pairs) -> Parameters:
    """The parameters of an export.

    Raises `BadRequest` naming the parameter, the value and what was expected, for an unknown parameter, one
    given twice, and a value outside its range. Names are case-sensitive.
    """
    values: dict[str, Any] = {}
    for name, text in pairs:
        parameter = _BY_NAME.get(name)
        if parameter is None:
            raise BadRequest(f"{shown(name)}: unknown parameter; expected one of {', '.join(_BY_NAME)}")
        if parameter.field in values:
            raise BadRequest(f"{_pair(name, text)}: given twice; expected once")
        values[parameter.field] = _parsed(parameter, text)
    return Parameters(**values)


def _parsed(parameter: Parameter, text: str) -> Any:
    try:
        return parameter.parse(text)
    except (ValueError, KeyError):
        raise BadRequest(f"{_pair(parameter.name, text)}: expected {parameter.expected}") from None


def _pair(name: str, text: str) -> str:
    return name if name == SECRET else f"{name}={shown(text)}"


def shown(text: str) -> str:
    """A client's text as an error repeats it: bounded, control characters as escapes."""
    cut = text if len(text) <= MAX_SHOWN_CHARACTERS else text[:MAX_SHOWN_CHARACTERS] + "…"
    return cut if cut.isprintable() else ascii(cut)[1:-1]
