"""Which requests for a part are refused, and which are answered with the whole. RFC 9110 §14."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from asgi_export.asgi.conditions import Refused, Whole, decide

ZEROS = "0" * 400


def decided(**fields: str) -> Whole | Refused:
    return decide({name.replace("_", "-").encode(): value for name, value in fields.items()}.get)


@pytest.mark.parametrize(
    "wanted",
    [
        "bytes=1-",
        "bytes=1-1",
        "bytes=1000-1999",
        "bytes=1000-9007199254740991",
        "Bytes=1000-",
        "bytes=0001-",
        f"bytes={ZEROS}1-",
        f"bytes=1{ZEROS}-",
        f"bytes=1{ZEROS}-2{ZEROS}",
        "bytes=5-3",  # no range at all, but what begins above 0 is not answered with a whole
        "bytes= 5-",
        "bytes=\t5 -\t",
        "bytes = 5 - 7",
        "bytes=,5-,,",
    ],
)
def test_a_range_that_begins_above_0_is_refused(wanted: str) -> None:
    decision = decided(range=wanted)
    assert isinstance(decision, Refused)
    assert decision.error.status == 428
    assert decided(range=wanted, if_range='"any"') == Whole()
    assert decided(range=wanted, if_range="Wed, 25 Nov 2026 09:00:00 GMT") == Whole()


@pytest.mark.parametrize(
    "wanted",
    [
        "bytes=0-",
        "bytes=0-0",
        "bytes=000-99",
        f"bytes={ZEROS}-",
        "bytes=-5",
        "bytes=-0",
        f"bytes=-{ZEROS}1",
        "bytes=5-6,8-9",
        "bytes=0-1, 5-",
        "rows=5-",
        "kilobytes=5-",
        "bytes=5",
        "bytes=a-",
        "bytes=5-x",
        "bytes=5-6-7",
        "bytes=+5-",
        "bytes=5.0-",
        "bytes=\u0665-",
        "bytes=\u00b2-",
        "bytes:5-",
        "bytes",
        "=",
        "5-",
        "bytes=5-\n",
    ],
)
def test_everything_else_is_ignored(wanted: str) -> None:
    assert decided(range=wanted) == Whole()


def test_without_a_range_there_is_nothing_to_decide() -> None:
    assert (
        decided() == decided(if_range='"any"') == decided(if_match='"any"') == decided(if_none_match="*") == Whole()
    )


@pytest.mark.parametrize("junk", ["0", "1", " ", ",", "1-", "\t,", "-"])
def test_a_long_header_of_junk_is_read_in_one_pass(junk: str) -> None:
    """A thousand times as long is a thousand times the time, not a million."""
    for tail in "", "x", "-x", "1-x":
        assert decided(range="bytes=" + junk * (32_000 // len(junk)) + tail) is not None


@given(st.text(st.sampled_from("bytes=0123456789-, \t\u0661x"), max_size=30))
def test_any_header_gives_an_answer(wanted: str) -> None:
    decided(range=wanted)
    decided(range="bytes=" + wanted)
