"""Declared types are parsed as a whole: a word inside a name says nothing."""

from __future__ import annotations

import pytest

from asgi_export.declared import MAX_CHARACTERS, arrow_of, is_fractional, kind_of
from asgi_export.table import Column


@pytest.mark.parametrize(
    ("declared", "kind", "arrow"),
    [
        ("INTEGER", "number", "int64"),
        ("bigint(20) unsigned", "number", "int64"),
        ("double precision", "number", "double"),
        ("NUMERIC ( 10 , 2 )", "number", "decimal128(10, 2)"),
        ("decimal(60)", "number", "decimal256(60, 0)"),
        ("numeric(3,-2)", "number", "decimal128(5, 0)"),
        ("numeric(2,5)", "number", "decimal128(5, 5)"),
        ("numeric(1000,2)", "number", "string"),
        ("numeric", "number", "string"),
        ("Boolean", "boolean", "bool"),
        ("date", "date", "date32"),
        ("date32[day]", "date", "date32"),
        ("time(3) without time zone", "time", "time64[us]"),
        ("time with time zone", "time", "string"),
        ("DATETIME", "timestamp", "timestamp[us]"),
        ("timestamp(3) with time zone", "timestamp", "timestamp[us, tz=UTC]"),
        ("timestamp[ns, tz=Europe/Berlin]", "timestamp", "timestamp[us, tz=UTC]"),
        ("bytea", "bytes", "binary"),
        ("VARCHAR(20)", "text", "string"),
        ("character varying(5)", "text", "string"),
        ("", "text", "string"),
        ("uuid", "text", "string"),
        ("jsonb", "nested", "string"),
        ("integer[]", "nested", "string"),
        ("numeric(10,2)[][]", "nested", "string"),
        ("int array[4]", "nested", "string"),
        ("list<item: int64>", "nested", "string"),
        ("real_estate_kind", "text", "string"),
        ("date of birth", "text", "string"),
        ("public.date", "text", "string"),
        ('"my int"', "text", "string"),
        ("listing", "text", "string"),
        ("POINT", "text", "string"),
        ("interval", "text", "string"),
        ("daterange", "text", "string"),
        ("integer\nnull,", "text", "string"),
        ("int " * MAX_CHARACTERS, "text", "string"),
    ],
)
def test_the_whole_type_says_the_kind(declared: str, kind: str, arrow: str) -> None:
    assert (kind_of(declared), arrow_of(declared)) == (kind, arrow)


def test_a_type_of_any_length_is_looked_at_in_a_moment() -> None:
    """It may come out of a file; a pattern that goes back and forth over it would hold the process."""
    for text in ("a" * 10**6 + "!", "[" * 10**6, "a " * 10**6, "1" * 10**6 + "[", "int" + "[1" * 10**6):
        assert kind_of(text) == "text"


def test_fractions_come_from_the_type_and_not_from_a_word_in_it() -> None:
    assert is_fractional("DECIMAL(10,2)")
    assert is_fractional("double precision")
    assert not is_fractional("real_estate_kind")
    assert not is_fractional("INTEGER")


def test_a_column_has_the_kind_of_its_type_unless_its_source_says_another() -> None:
    assert Column("a", "bigint").kind == "number"
    assert Column("a").kind == "text"
    assert Column("a", "price", "number").kind == "number"
    assert Column("a", "int", arrow="int64") == Column("a", "int")
