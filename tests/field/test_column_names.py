"""Column names that hold a comma, a quote, blanks or line ends: each can be asked for, and a bad list says so."""

from __future__ import annotations

import asyncio
import csv
import json
from io import StringIO
from urllib.parse import quote

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from asgi_export import ExportApp, dataset
from asgi_export.errors import BadRequest
from asgi_export.export.column_list import column_text, parse_column_list
from asgi_export.export.parameters import parse_parameters
from tests.doubles import Client
from tests.openapi.described import document_of, parameters_at

NAMES = ["a,b", "c", 'say "hi"', " odd ", "", "two\nlines", "\u00a0", "'", "日本,語", "a;b", '"', "\r\n", "\u2028"]
ODD = dataset(lambda: [tuple(range(len(NAMES)))], columns=NAMES, name="odd")


def asked(query: str) -> Client:
    client = Client()
    asyncio.run(client.ask(ExportApp([ODD]), query))
    return client


def csv_line(names: list[str]) -> str:
    """What another writer of CSV makes of it."""
    file = StringIO()
    csv.writer(file, lineterminator="", quoting=csv.QUOTE_ALL).writerow(names)
    return file.getvalue()


@pytest.mark.parametrize("name", NAMES)
def test_every_column_can_be_named(name: str) -> None:
    answer = asked(f"header=false&columns={quote(column_text(name))},c" if name != "c" else "header=false&columns=c")
    assert (answer.status, answer.body.split(b",")[0].strip()) == (200, str(NAMES.index(name)).encode())


def test_the_line_of_the_contract() -> None:
    assert asked("header=false&columns=%22a%2Cb%22,c").body == b"0,1\n"
    assert asked("header=false&columns=+c+,%22+odd+%22").body == b"1,3\n"


@pytest.mark.parametrize(
    "text", ['"', '"a', 'a"', 'a"b"', '"a"b', '"a"b"', '"a""', '"a","b', 'a,"b"c', "a\nb", "a\r", 'a""b']
)
def test_bad_quoting_is_refused_with_what_was_expected(text: str) -> None:
    with pytest.raises(BadRequest, match=r'^columns=.*: expected names with commas between, .* \("a,b",c\)$'):
        parse_parameters((("columns", text),))


def test_the_names_of_an_error_can_be_pasted_into_the_next_request() -> None:
    detail = json.loads(asked("columns=nope").body)["detail"]
    assert 'there are "a,b", c, "say ""hi""", " odd ", "", ' in detail


@pytest.mark.parametrize("names", [["id"], ["a,b", "c"], [" x", "x "], ['"', '""'], ["", ""], ["a\r\nb"]])
def test_a_line_that_a_csv_writer_made_is_read_back(names: list[str]) -> None:
    assert parse_column_list(csv_line(names)) == tuple(names)
    assert parse_column_list(",".join([column_text(name) for name in names])) == tuple(names)


@given(
    st.lists(st.text(st.sampled_from('ab", \t\r\n;\u00e9'), max_size=6) | st.text(max_size=4), min_size=1, max_size=5)
)
@example([""])
def test_any_names_survive(names: list[str]) -> None:
    assert parse_column_list(" , ".join([column_text(name) for name in names])) == tuple(names)


@given(st.text(st.sampled_from('a", \t\r\n'), max_size=12))
def test_any_text_is_read_or_refused(text: str) -> None:
    try:
        names = parse_column_list(text)
    except ValueError:
        return
    assert parse_column_list(",".join([column_text(name) for name in names])) == names


@pytest.mark.parametrize("junk", [" ", '"', '""', " \t", 'a"', " a", ",", '",'])
def test_a_long_list_of_junk_is_read_in_one_pass(junk: str) -> None:
    """A thousand times as long is a thousand times the time, not a million."""
    for tail in "", '"', "x", '"x':
        try:
            parse_column_list(junk * (400_000 // len(junk)) + tail)
        except ValueError:
            continue


def test_the_description_names_them_as_they_are_asked_for() -> None:
    schema = parameters_at(document_of(ExportApp([ODD])), "/api/v1/exports/csv")["columns"]["schema"]
    assert schema["items"]["enum"] == [column_text(name) for name in NAMES]
    answer = asked("header=false&columns=" + quote(",".join(schema["items"]["enum"])))
    assert answer.body == (",".join(map(str, range(len(NAMES)))) + "\n").encode()
