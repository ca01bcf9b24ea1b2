"""Parse the options of a location, which follow a `?`: ``people.csv?delimiter=;&encoding=latin-1``.

If a file with the `?` in its name exists, there are no options. The options of a remote file system stay in place.
"""

from __future__ import annotations

import codecs
import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote

from asgi_export.declared import Kind
from asgi_export.errors import StartupError

UTF8 = "utf-8"

_NAMED_KINDS: Mapping[str, Kind] = {
    "number": "number",
    "text": "text",
    "boolean": "boolean",
    "date": "date",
    "time": "time",
    "timestamp": "timestamp",
}
Pairs = tuple[tuple[str, str], ...]

_LOCAL = re.compile(r"(.+)\?((?:delimiter|encoding|null|scan|kinds)=.*|[A-Za-z_]+=[^/]*)", re.DOTALL)
"""Not a glob: its `?` is not followed by a name and an equals sign."""


def split_options(location: str, *, remote: bool) -> tuple[str, Pairs]:
    """Split a location from its options; values are percent-decoded."""
    if remote:
        return _split_remote(location)
    match = _LOCAL.fullmatch(location)
    if match is None or os.path.lexists(location):
        return location, ()
    return match[1], tuple(_pair(part) for part in match[2].split("&"))


def _split_remote(location: str) -> tuple[str, Pairs]:
    base, mark, query = location.partition("?")
    parts = query.split("&")
    ours = tuple(_pair(part) for part in parts if part.partition("=")[0] in OPTIONS)
    rest = "&".join([part for part in parts if part.partition("=")[0] not in OPTIONS])
    return (f"{base}?{rest}" if rest else base), ours if mark else ()


def _pair(part: str) -> tuple[str, str]:
    name, _, value = part.partition("=")
    return name, unquote(value)


def read_options(pairs: Pairs, kind: str) -> Mapping[str, Any]:
    """Read the options of a kind. Raises `StartupError` for an unknown option or a value out of its range."""
    allowed = KIND_OPTIONS.get(kind, ())
    found: dict[str, Any] = {}
    for name, text in pairs:
        if name not in allowed:
            expected = f"expected {', '.join(allowed)}" if allowed else f"{kind} files have no options"
            raise StartupError(f"unknown option {name!r}; {expected}")
        if name in found:
            raise StartupError(f"option {name} is given twice")
        try:
            found[name] = OPTIONS[name].parse(text)
        except (ValueError, LookupError):
            raise StartupError(f"{name}={text!r}: expected {OPTIONS[name].expected}") from None
    return found


@dataclass(frozen=True, slots=True)
class Option:
    """One row of the table. `parse` raises `ValueError`."""

    expected: str
    parse: Callable[[str], Any]


def _delimiter(text: str) -> str:
    found = {"tab": "\t", "\\t": "\t"}.get(text, text)
    if len(found) != 1 or not found.isascii() or found in '"\r\n\0':
        raise ValueError(text)
    return found


def _encoding(text: str) -> str:
    """Return Python's own name of a text encoding."""
    try:
        "x".encode(text)
        name = codecs.lookup(text).name
    except LookupError:
        raise ValueError(text) from None
    return UTF8 if name == "utf-8-sig" else name


def _kinds(text: str) -> Mapping[str, Kind]:
    found: dict[str, Kind] = {}
    for item in text.split(","):
        name, _, kind = item.rpartition(":")
        found[name] = _NAMED_KINDS[kind]
    return found


OPTIONS = {
    "delimiter": Option("one ASCII character that is no quote and no line end, or tab", _delimiter),
    "encoding": Option("a text encoding that Python knows, such as utf-8, utf-16, latin-1 or cp1252", _encoding),
    "null": Option("a text", str),
    "kinds": Option(f"COLUMN:KIND with commas between, each one of {', '.join(_NAMED_KINDS)}", _kinds),
    "scan": Option("all", {"all": "all"}.__getitem__),
}
KIND_OPTIONS: Mapping[str, tuple[str, ...]] = {
    "csv": ("delimiter", "encoding", "null", "kinds"),
    "tsv": ("delimiter", "encoding", "null", "kinds"),
    "jsonl": ("encoding", "scan"),
}
