"""Which content coding is chosen. RFC 9110 §12.5.3."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from asgi_export.asgi.negotiate import choose_coding

OFFERED = ["zstd", "gzip"]


@pytest.mark.parametrize(
    ("accept", "coding"),
    [
        ("", "identity"),
        ("gzip", "gzip"),
        ("GZip", "gzip"),
        ("x-gzip", "gzip"),
        ("zstd, gzip", "zstd"),
        ("gzip, deflate, br, zstd", "zstd"),
        ("gzip;q=1.0, zstd;q=0.9", "gzip"),
        ("gzip; q=0.5 , zstd ; Q=0.6", "zstd"),
        ("gzip;q=0", "identity"),
        ("gzip;q=0.000", "identity"),
        ("*", "gzip"),
        ("*;q=0.5", "gzip"),
        ("br, *", "gzip"),
        ("zstd, *", "zstd"),
        ("zstd;q=0.5, *", "gzip"),
        ("zstd;q=0.5, *;q=0.1", "zstd"),
        ("gzip;q=0, *", "zstd"),
        ("*;q=0", "identity"),
        ("zstd;q=0, *", "gzip"),
        ("gzip;q=0.5, *;q=0.1", "gzip"),
        ("identity", "identity"),
        ("identity;q=1, gzip;q=0.5", "identity"),
        ("identity;q=0.5, gzip;q=1", "gzip"),
        ("identity;q=0", "identity"),
        ("identity;q=0, gzip", "gzip"),
        ("br, deflate", "identity"),
        ("agzip", "identity"),
        ("gzip;q=2", "identity"),
        ("gzip;q=0.1234", "identity"),
        ("gzip;q=x, zstd", "zstd"),
        ("gzip;level=9", "identity"),
        ("gzip;q=0, gzip;q=1", "identity"),
        (",,gzip,,", "gzip"),
        ("gzip;q=1.0000", "identity"),
        ("gzip;q=nan", "identity"),
        ("gzip;q=inf", "identity"),
        ("gzip;q=-1", "identity"),
        ("gzip;q=1e0", "identity"),
        ("gzip;q=", "identity"),
        ("gzip;q=0.", "identity"),
        ("gzip;q=1.", "gzip"),
        ("gzip;q=\u0661", "identity"),
        ("identity;q=0, *;q=0", "identity"),
        ("identity;q=0, gzip;q=0, zstd;q=0", "identity"),
        ("identity;q=0, *", "gzip"),
        ("*, gzip;q=0, zstd;q=0", "identity"),
    ],
)
def test_the_highest_weight_that_is_offered_wins(accept: str, coding: str) -> None:
    assert choose_coding(accept, OFFERED) == coding


@pytest.mark.parametrize(
    ("accept", "coding"),
    [
        ("", "identity"),
        ("gzip, zstd", "identity"),
        ("gzip, deflate, br, zstd", "identity"),
        ("*", "identity"),
        ("gzip;q=1, identity;q=0.001", "identity"),
        ("gzip, *;q=0.1", "identity"),
        ("identity;q=0, *;q=0", "identity"),
        ("identity;q=0, gzip", "gzip"),
        ("identity;q=0, gzip;q=0.5, zstd;q=0.6", "zstd"),
        ("gzip, *;q=0", "gzip"),
        ("*;q=0, identity, gzip", "identity"),
    ],
)
def test_what_no_coding_makes_smaller_is_sent_as_it_is_unless_just_that_is_refused(accept: str, coding: str) -> None:
    """RFC 9110 §12.5.3: `identity` is acceptable unless `identity;q=0` or `*;q=0` excludes it."""
    assert choose_coding(accept, OFFERED, useful=False) == coding


def test_a_long_list_is_read_up_to_its_bound() -> None:
    assert choose_coding(", ".join([*["br"] * 40, "gzip"]), OFFERED) == "identity"


@pytest.mark.parametrize(
    "junk", ["x", " ", "\t", ";", ",", "x;", "x;q=", " ;", "gzip;q=0 ", "\0", "\u00e9", '"', "gzip;q=1.0000,", "é,"]
)
def test_a_long_header_of_junk_is_read_in_time_and_leaves_it_as_it_is(junk: str) -> None:
    """Each item is read in one pass: a thousand times as long is a thousand times the time, not a million."""
    assert choose_coding(junk * (32_768 // len(junk)), OFFERED) == "identity"


def test_what_is_not_offered_is_not_chosen() -> None:
    assert choose_coding("zstd", ["gzip"]) == "identity"
    assert choose_coding("gzip", []) == "identity"


@given(st.text(st.sampled_from('gziptsd*;,=q01. \tidentity"\\'), max_size=60))
def test_any_header_gives_an_answer(accept: str) -> None:
    assert choose_coding(accept, OFFERED) in (*OFFERED, "identity")
