"""Find the named parameters in an operator's SQL, and refuse more than one statement.

Only as much of SQL is read as is needed to know what is text, an identifier or a comment, where `:name` is no
parameter. SQLite: https://www.sqlite.org/lang_expr.html#varparam; PostgreSQL: Lexical Structure.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass

_STRING = r"'(?:[^']|'')*'"
_NAME = r'"(?:[^"]|"")*"'
_LINE = r"--[^\n]*"
_PARAMETER = r"(?<!:):(?P<name>[A-Za-z_][A-Za-z0-9_]*)"

SQLITE = re.compile(
    rf"{_STRING}|{_NAME}|`(?:[^`]|``)*`|\[[^\]]*\]|{_LINE}|/\*.*?\*/|{_PARAMETER}"
    r"|(?P<foreign>[@$#?][A-Za-z0-9_]*)|(?P<open>['\"`\[]|/\*)|(?P<end>;)",
    re.DOTALL,
)
POSTGRES = re.compile(
    rf"(?<![A-Za-z0-9_$])[eE]'(?:[^'\\]|\\.|'')*'|{_STRING}|{_NAME}|{_LINE}|(?P<comment>/\*)"
    r"|(?<![A-Za-z0-9_$])\$(?P<tag>(?:[A-Za-z_][A-Za-z0-9_]*)?)\$.*?\$(?P=tag)\$"
    rf"|::|{_PARAMETER}|(?P<foreign>\$[0-9]+)|(?P<open>['\"])|(?P<end>;)",
    re.DOTALL,
)
_COMMENTS = re.compile(rf"{_LINE}|/\*.*?\*/", re.DOTALL)
_IN_COMMENT = re.compile(r"/\*|\*/")


@dataclass(frozen=True, slots=True)
class QueryText:
    """SQL cut at its parameters: `texts` has one more item than `names`, and they alternate."""

    texts: tuple[str, ...]
    names: tuple[str, ...]

    def sql(self, replace: Callable[[str], str]) -> str:
        """Return the SQL with what `replace` gives for each name in its place."""
        parts = [self.texts[0]]
        for name, text in zip(self.names, self.texts[1:], strict=True):
            parts += [replace(name), text]
        return "".join(parts)


def parse_query(sql: str, names: Collection[str], syntax: re.Pattern[str]) -> QueryText:
    """Find the parameters of these names. `syntax` is `SQLITE` or `POSTGRES`.

    Raises `ValueError` for a parameter that is not among the names or of another form, a name without a parameter, an
    open quote or comment, and a second statement; a semicolon at the end is dropped, and comments after it.

    >>> parse_query("SELECT ':a' FROM t WHERE d >= :since;", ["since"], SQLITE)
    QueryText(texts=("SELECT ':a' FROM t WHERE d >= ", ''), names=('since',))
    """
    cuts = list(_cuts(sql, syntax))
    found = [name for name, _, _ in cuts if name]
    for name in found:
        if name not in names:
            raise ValueError(f":{name} is no parameter; expected one of parameters = {{ {name} = TYPE, … }}")
    for name in names:
        if name not in found:
            raise ValueError(f"parameter {name} is not used; expected :{name} in the SQL")
    return QueryText(tuple(_texts(sql, cuts)), tuple(found))


def _texts(sql: str, cuts: list[tuple[str, int, int]]) -> Iterator[str]:
    start = 0
    for name, begin, after in cuts:
        if not name:
            if _COMMENTS.sub("", sql[after:]).strip():
                raise ValueError("two statements; expected one")
            yield sql[start:begin]
            return
        yield sql[start:begin]
        start = after
    yield sql[start:]


def _cuts(sql: str, syntax: re.Pattern[str]) -> Iterator[tuple[str, int, int]]:
    """Yield name, begin and end of each parameter, and of the first semicolon, whose name is empty."""
    place = 0
    while match := syntax.search(sql, place):
        groups = match.groupdict()
        place = match.end()
        if groups.get("comment"):
            place = _after_comment(sql, place)
        elif groups["foreign"]:
            raise ValueError(f"{match[0]}: expected parameters by name, :name")
        elif groups["open"]:
            raise ValueError(f"{match[0]} is not closed")
        elif groups["end"]:
            yield "", match.start(), place
            return
        elif groups["name"]:
            yield groups["name"], match.start(), place


def _after_comment(sql: str, place: int) -> int:
    """Return the end of a comment of PostgreSQL, in which others may lie."""
    depth = 1
    while depth:
        match = _IN_COMMENT.search(sql, place)
        if match is None:
            raise ValueError("/* is not closed")
        depth += 1 if match[0] == "/*" else -1
        place = match.end()
    return place
