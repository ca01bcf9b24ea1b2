"""The query parameters of an export: one table to parse them and to name them in errors.

`openapi/document.json` describes them to clients, and the tests compare it with this table.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from asgi_export.asgi.request import Pairs
from asgi_export.errors import BadRequest
from asgi_export.export.column_list import EXPECTED, SORT_EXPECTED, parse_column_list, parse_sort_list
from asgi_export.table import Sort

MAX_TOTAL = 10**18 - 1
MAX_FILENAME_CHARACTERS = 200
MAX_SHOWN_CHARACTERS = 80
NO_DELIMITERS = '"\r\n\0'
FILTER_MARK = "__"
"""Stands between the column and the operator of a filter; no other parameter has it in its name."""

SECRET = "apiKey"  # noqa: S105 - a name, not a secret
"""The parameter whose value no error and no log repeats."""


@dataclass(frozen=True, slots=True)
class Parameters:
    """The parsed parameters of an export; None or empty if the client did not give one.

    `filters` are names and values as they came, as only the dataset tells which columns and kinds there are; so are
    `arguments`, the parameters of a query, among them all that nobody knows.
    """

    columns: tuple[str, ...] = ()
    filters: Pairs = ()
    arguments: Pairs = ()
    sort: tuple[Sort, ...] = ()
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
    """The values of a parameter; `parse` raises ValueError or KeyError for any other than `expected`."""

    parse: Callable[[str], Any]
    expected: str


@dataclass(frozen=True, slots=True)
class Parameter:
    """One row of the table. `of_text` marks those of text formats; other formats check and ignore them."""

    name: str
    field: str
    values: Values
    of_text: bool = False


def _choice(choices: Mapping[str, object]) -> Values:
    """Make the values of a choice of words."""
    return Values(choices.__getitem__, " or ".join(choices))


def _whole(most: int) -> Values:
    digits = re.compile(rf"[0-9]{{1,{len(str(most))}}}", re.ASCII)

    def parse(text: str) -> int:
        if not digits.fullmatch(text) or int(text) > most:
            raise ValueError(text)
        return int(text)

    return Values(parse, f"a whole number from 0 to {most}")


def _text(expected: str, shortest: int = 0, longest: int | None = None) -> Values:
    """Make the values of a text, bounded in length."""

    def parse(text: str) -> str:
        if len(text) < shortest or (longest is not None and len(text) > longest):
            raise ValueError(text)
        return text

    return Values(parse, expected)


def _delimiter() -> Values:
    def parse(text: str) -> str:
        if text == "tab":
            return "\t"
        if len(text) != 1 or text in NO_DELIMITERS:
            raise ValueError(text)
        return text

    return Values(parse, "tab, or a character but quote and line ends")


_NAME_LENGTH = f"1 to {MAX_FILENAME_CHARACTERS} characters"

_BOOLEAN = _choice({"true": True, "false": False})

PARAMETERS = (
    Parameter("columns", "columns", Values(parse_column_list, EXPECTED)),
    Parameter("sort", "sort", Values(parse_sort_list, SORT_EXPECTED)),
    Parameter(SECRET, "api_key", _text("a key")),
    Parameter("total", "total", _whole(MAX_TOTAL)),
    Parameter("dataset", "dataset", _text("the name of a dataset", 1)),
    Parameter("header", "header", _BOOLEAN, of_text=True),
    Parameter("delimiter", "delimiter", _delimiter(), of_text=True),
    Parameter("quote", "quote", _choice({"minimal": "minimal", "all": "all"}), of_text=True),
    Parameter("null", "null", _text("any text"), of_text=True),
    Parameter("newline", "newline", _choice({"lf": "\n", "crlf": "\r\n"}), of_text=True),
    Parameter("bom", "bom", _BOOLEAN, of_text=True),
    Parameter("escapeFormulas", "escape_formulas", _BOOLEAN, of_text=True),
    Parameter("filename", "filename", _text(_NAME_LENGTH, 1, MAX_FILENAME_CHARACTERS)),
)

OF_DOCUMENT = tuple([parameter for parameter in PARAMETERS if parameter.name in ("dataset", SECRET)])
"""The parameters of the OpenAPI document."""

_BY_NAME = {parameter.name: parameter for parameter in PARAMETERS}


def parse_parameters(pairs: Sequence[tuple[str, str]], *, table: Sequence[Parameter] = PARAMETERS) -> Parameters:
    """Parse the parameters of an export, or those of another page by its `table`.

    Names are case-sensitive. Raises `BadRequest` with the parameter, its value and what was expected: for one given
    twice, and a value out of its range; on another page also for an unknown one.
    """
    known = _BY_NAME if table is PARAMETERS else {parameter.name: parameter for parameter in table}
    values: dict[str, Any] = {}
    arguments = []
    if known is _BY_NAME:
        values["filters"] = tuple([pair for pair in pairs if FILTER_MARK in pair[0]])
        pairs = [pair for pair in pairs if FILTER_MARK not in pair[0]]
    for name, text in pairs:
        parameter = known.get(name)
        if parameter is None and known is _BY_NAME:
            arguments.append((name, text))
            continue
        if parameter is None:
            raise BadRequest(f"{shown(name)}: unknown parameter; expected one of {', '.join(known)}")
        if parameter.field in values:
            raise BadRequest(f"{_pair(name, text)}: given twice; expected once")
        values[parameter.field] = _parse(parameter, text)
    if arguments:
        values["arguments"] = tuple(arguments)
    return Parameters(**values)


def unknown_parameter(name: str, arguments: Iterable[str]) -> BadRequest:
    """Make the error for a name that is no parameter of an export, nor one of the `arguments` of its dataset."""
    known = ", ".join([*_BY_NAME, *arguments])
    return BadRequest(f"{shown(name)}: unknown parameter; expected one of {known}, or COLUMN__OPERATOR")


def _parse(parameter: Parameter, text: str) -> Any:
    try:
        return parameter.values.parse(text)
    except (ValueError, KeyError):
        raise BadRequest(f"{_pair(parameter.name, text)}: expected {parameter.values.expected}") from None


def _pair(name: str, text: str) -> str:
    return name if name == SECRET else f"{name}={shown(text)}"


def blank_hint(text: str) -> str:
    """Return what to add to an error if the value has a blank, which may have been a plus."""
    return "; a + in a query is a blank, write %2B" if " " in text else ""


def shown(text: str) -> str:
    """Quote a client's text in an error: bounded, control characters as escapes."""
    cut = text if len(text) <= MAX_SHOWN_CHARACTERS else text[:MAX_SHOWN_CHARACTERS] + "…"
    return cut if cut.isprintable() else ascii(cut)[1:-1]
