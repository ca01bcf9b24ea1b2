"""Byte for byte what npm's csv-stringify 6 writes for text, whole numbers and nulls, under the same dialect."""

from __future__ import annotations

import pytest

from asgi_export.formats.delimited import DelimitedEncoder
from asgi_export.table import Column, Dialect
from tests.formats.csv_stringify import Case, load_cases

DEFAULT = Dialect()
CASES = [case for case in load_cases() if not case.has_blank_line]


@pytest.mark.parametrize("case", CASES, ids=[case.name for case in CASES])
def test_we_write_what_csv_stringify_writes(case: Case) -> None:
    encoder = DelimitedEncoder([Column(name) for name in case.columns], case.dialect)
    assert encoder.head() + encoder.feed(list(case.rows)) + encoder.tail() == case.expected


def test_the_defaults_are_among_the_cases() -> None:
    assert sum(case.dialect == DEFAULT for case in CASES) >= 5


def test_a_row_whose_only_field_is_empty_is_the_known_difference() -> None:
    """csv-stringify writes an empty line, which readers drop."""
    assert DelimitedEncoder([Column("a")], DEFAULT).feed([("",), (None,)]) == b'""\n""\n'
