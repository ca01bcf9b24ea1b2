"""Which `:name` in SQL is a parameter, and which is text, an identifier, a comment or a cast."""

from __future__ import annotations

import re

import pytest

from asgi_export.sources.query_text import POSTGRES, SQLITE, parse_query


@pytest.mark.parametrize("syntax", [SQLITE, POSTGRES])
@pytest.mark.parametrize(
    "around",
    [
        "SELECT ':x' WHERE {}",
        "SELECT 'it''s :x' WHERE {}",
        'SELECT ":x", "a"":x" WHERE {}',
        "SELECT 1 -- :x and 'open\nWHERE {}",
        "SELECT 1 /* :x ' */ WHERE {}",
        "SELECT {} -- the end",
        "SELECT {}, {}",
        "SELECT {};\n ",
        "SELECT {}; -- the end; of it\n/* and\nmore */",
        "SELECT 1 AS é WHERE {}",
    ],
)
def test_only_a_parameter_is_replaced(syntax: re.Pattern[str], around: str) -> None:
    found = parse_query(around.replace("{}", ":a"), ["a"], syntax)
    assert found.sql(lambda _: "?1") == around.replace("{}", "?1").partition(";")[0]


@pytest.mark.parametrize(
    ("sql", "replaced"),
    [
        ("SELECT $$ :x ' $$, :a", "SELECT $$ :x ' $$, $1"),
        ("SELECT $t$ $$ :x $t$, :a", "SELECT $t$ $$ :x $t$, $1"),
        ("SELECT E'\\':x', :a", "SELECT E'\\':x', $1"),
        ("SELECT x::text, :a::date", "SELECT x::text, $1::date"),
        ("SELECT 1 /* /* */ :x */, :a", "SELECT 1 /* /* */ :x */, $1"),
        ("SELECT a[:a:2]", "SELECT a[$1:2]"),
    ],
)
def test_postgres_has_more_kinds_of_text(sql: str, replaced: str) -> None:
    assert parse_query(sql, ["a"], POSTGRES).sql(lambda _: "$1") == replaced


def test_sqlite_has_more_kinds_of_identifiers() -> None:
    sql = "SELECT `:x`, [:x], :a"
    assert parse_query(sql, ["a"], SQLITE).sql(lambda _: "?") == "SELECT `:x`, [:x], ?"


@pytest.mark.parametrize("syntax", [SQLITE, POSTGRES])
@pytest.mark.parametrize(
    ("sql", "names", "said"),
    [
        ("SELECT :b", [], ":b is no parameter"),
        ("SELECT :a", ["a", "b"], "parameter b is not used"),
        ("SELECT 1; SELECT 2", [], "two statements"),
        ("SELECT 1;;", [], "two statements"),
        ("SELECT 'a", [], "' is not closed"),
        ('SELECT "a', [], '" is not closed'),
        ("SELECT 1 /* a", [], r"/\* is not closed"),
        ("SELECT $1", [], "expected parameters by name"),
    ],
)
def test_what_cannot_be_one_statement_is_refused(
    syntax: re.Pattern[str], sql: str, names: list[str], said: str
) -> None:
    with pytest.raises(ValueError, match=said):
        parse_query(sql, names, syntax)


@pytest.mark.parametrize("sql", ["SELECT ?", "SELECT ?1", "SELECT @a", "SELECT $a"])
def test_sqlite_would_bind_null_to_other_parameters(sql: str) -> None:
    with pytest.raises(ValueError, match="expected parameters by name"):
        parse_query(sql, [], SQLITE)
