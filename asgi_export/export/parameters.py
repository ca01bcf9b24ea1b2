"""The query parameters of an export: one table to parse them, to name them in errors, and to document them."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from asgi_export.asgi.request import Pairs
from asgi_export.errors import BadRequest
from asgi_export.export.column_list import EXPECTED, parse_column_list

MAX_TOTAL = 10**18 - 1
MAX_FILENAME_CHARACTERS = 200
MAX_SHOWN_CHARACTERS = 80
NO_DELIMITERS = '"\r\n\0'
SECRET = "apiKey"  # noqa: S105 - a name, not a secret
"""The parameter whose value no error and no log repeats."""


@dataclass(frozen=True, slots=True)
class Parameters:
    """The parsed parameters of an export; None or empty if the client did not give one."""

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
class Values:
    """The values of a parameter; `parse` raises ValueError or KeyError for any other than `expected`.

    `schema` is the same as JSON Schema 2020-12, as in OpenAPI 3.1.
    """

    parse: Callable[[str], Any]
    expected: str
    schema: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Parameter:
    """One row of the table. `of_text` marks those of text formats; other formats check and ignore them."""

    name: str
    field: str
    meaning: str
    values: Values
    of_text: bool = False


def _boolean(*, default: bool) -> Values:
    choices = {"true": True, "false": False}
    return Values(choices.__getitem__, " or ".join(choices), {"type": "boolean", "default": default})


def _choice(choices: Mapping[str, str]) -> Values:
    """Make the values of a choice of words; the first is the default."""
    words = list(choices)
    return Values(choices.__getitem__, " or ".join(words), {"type": "string", "enum": words, "default": words[0]})


def _whole(most: int) -> Values:
    digits = re.compile(rf"[0-9]{{1,{len(str(most))}}}", re.ASCII)

    def parse(text: str) -> int:
        if not digits.fullmatch(text) or int(text) > most:
            raise ValueError(text)
        return int(text)

    return Values(parse, f"a whole number from 0 to {most}", {"type": "integer", "minimum": 0, "maximum": most})


def _text(expected: str, shortest: int = 0, longest: int | None = None) -> Values:
    """Make the values of a text, bounded in length."""

    def parse(text: str) -> str:
        if len(text) < shortest or (longest is not None and len(text) > longest):
            raise ValueError(text)
        return text

    bounds = {"minLength": shortest} if longest is None else {"minLength": shortest, "maxLength": longest}
    return Values(parse, expected, {"type": "string", **bounds})


def _names() -> Values:
    """Make the values of a list of names: one value with commas, so `explode` is false in OpenAPI."""
    schema = {"type": "array", "items": {"type": "string"}, "uniqueItems": True}
    return Values(parse_column_list, EXPECTED, schema)


def _delimiter() -> Values:
    def parse(text: str) -> str:
        if text == "tab":
            return "\t"
        if len(text) != 1 or text in NO_DELIMITERS:
            raise ValueError(text)
        return text

    character = {"minLength": 1, "maxLength": 1, "not": {"enum": list(NO_DELIMITERS)}}
    schema = {"type": "string", "anyOf": [{"const": "tab"}, character]}
    return Values(parse, "tab, or a character but quote and line ends", schema)


_NAME_LENGTH = f"1 to {MAX_FILENAME_CHARACTERS} characters"

PARAMETERS = (
    Parameter("columns", "columns", "which columns, in that order; none is all", _names()),
    Parameter(SECRET, "api_key", "who is asking, for limits and access", _text("a key")),
    Parameter("total", "total", "at most so many rows", _whole(MAX_TOTAL)),
    Parameter("dataset", "dataset", "which dataset", _text("the name of a dataset", 1)),
    Parameter("header", "header", "whether the first line holds the names", _boolean(default=True), True),
    Parameter("delimiter", "delimiter", "what stands between fields; `tab` is a tab", _delimiter(), True),
    Parameter("quote", "quote", "which fields are quoted", _choice({"minimal": "minimal", "all": "all"}), True),
    Parameter("null", "null", "the text of a missing value", _text("any text"), True),
    Parameter("newline", "newline", "how lines end", _choice({"lf": "\n", "crlf": "\r\n"}), True),
    Parameter("bom", "bom", "whether a UTF-8 byte order mark comes first", _boolean(default=False), True),
    Parameter("escapeFormulas", "escape_formulas", "prefix ' to text like a formula", _boolean(default=False), True),
    Parameter(
        "filename", "filename", "the name in Content-Disposition", _text(_NAME_LENGTH, 1, MAX_FILENAME_CHARACTERS)
    ),
)

OF_DOCUMENT = tuple([parameter for parameter in PARAMETERS if parameter.name in ("dataset", SECRET)])
"""The parameters of the OpenAPI document."""

_BY_NAME = {parameter.name: parameter for parameter in PARAMETERS}


def parse_parameters(pairs: Pairs, *, table: Sequence[Parameter] = PARAMETERS) -> Parameters:
    """Parse the parameters of an export, or those of another page by its `table`.

    Names are case-sensitive. Raises `BadRequest` with the parameter, its value and what was expected: for an unknown
    parameter, one given twice, and a value out of its range.
    """
    known = _BY_NAME if table is PARAMETERS else {parameter.name: parameter for parameter in table}
    values: dict[str, Any] = {}
    for name, text in pairs:
        parameter = known.get(name)
        if parameter is None:
            raise BadRequest(f"{shown(name)}: unknown parameter; expected one of {', '.join(known)}")
        if parameter.field in values:
            raise BadRequest(f"{_pair(name, text)}: given twice; expected once")
        values[parameter.field] = _parse(parameter, text)
    return Parameters(**values)


def _parse(parameter: Parameter, text: str) -> Any:
    try:
        return parameter.values.parse(text)
    except (ValueError, KeyError):
        raise BadRequest(f"{_pair(parameter.name, text)}: expected {parameter.values.expected}") from None


def _pair(name: str, text: str) -> str:
    return name if name == SECRET else f"{name}={shown(text)}"


def shown(text: str) -> str:
    """Quote a client's text in an error: bounded, control characters as escapes."""
    cut = text if len(text) <= MAX_SHOWN_CHARACTERS else text[:MAX_SHOWN_CHARACTERS] + "…"
    return cut if cut.isprintable() else ascii(cut)[1:-1]
