"""Every parameter: what it takes, and what its errors say."""

from __future__ import annotations

from typing import Any

import pytest

from asgi_export import SimulatedDataset
from asgi_export.asgi.disposition import content_disposition
from asgi_export.errors import BadRequest
from asgi_export.export.parameters import PARAMETERS, parse_parameters
from asgi_export.export.queries import read_arguments


@pytest.mark.parametrize(
    ("name", "text", "field", "value"),
    [
        ("columns", "id, name ,x", "columns", ("id", "name", "x")),
        ("columns", '"a,b",c', "columns", ("a,b", "c")),
        ("columns", "", "columns", ()),
        ("columns", "  ", "columns", ()),
        ("apiKey", "k", "api_key", "k"),
        ("total", "0", "total", 0),
        ("total", "007", "total", 7),
        ("total", "999999999999999999", "total", 10**18 - 1),
        ("dataset", "Straße", "dataset", "Straße"),
        ("header", "false", "header", False),
        ("delimiter", "tab", "delimiter", "\t"),
        ("delimiter", "\t", "delimiter", "\t"),
        ("delimiter", ";", "delimiter", ";"),
        ("delimiter", " ", "delimiter", " "),
        ("delimiter", "é", "delimiter", "é"),
        ("quote", "all", "quote", "all"),
        ("null", "", "null", ""),
        ("null", "NULL", "null", "NULL"),
        ("newline", "crlf", "newline", "\r\n"),
        ("bom", "true", "bom", True),
        ("escapeFormulas", "true", "escape_formulas", True),
        ("filename", "a b.csv", "filename", "a b.csv"),
    ],
)
def test_a_value_in_range_is_taken(name: str, text: str, field: str, value: Any) -> None:
    assert getattr(parse_parameters(((name, text),)), field) == value


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("total", "-1"),
        ("total", "+1"),
        ("total", "1.0"),
        ("total", "1e3"),
        ("total", ""),
        ("total", " 1"),
        ("total", "1_000"),
        ("total", "٣"),
        ("total", "1" * 19),
        ("dataset", ""),
        ("header", "True"),
        ("header", "1"),
        ("header", ""),
        ("delimiter", ""),
        ("delimiter", ",,"),
        ("delimiter", '"'),
        ("delimiter", "\n"),
        ("delimiter", "\r"),
        ("delimiter", "\0"),
        ("quote", "none"),
        ("newline", "\n"),
        ("bom", "yes"),
        ("escapeFormulas", "TRUE"),
        ("filename", ""),
        ("filename", "x" * 201),
    ],
)
def test_a_value_out_of_range_is_named_with_what_was_expected(name: str, text: str) -> None:
    with pytest.raises(BadRequest, match=f"^{name}=.*: expected ") as caught:
        parse_parameters(((name, text),))
    assert caught.value.detail.isprintable()
    assert len(caught.value.detail) < 300


@pytest.mark.parametrize("parameter", [parameter.name for parameter in PARAMETERS])
def test_a_parameter_given_twice_is_refused(parameter: str) -> None:
    value = {"total": "1", "delimiter": ";", "quote": "all", "newline": "lf"}.get(parameter, "true")
    with pytest.raises(BadRequest, match=f"^{parameter}.*given twice"):
        parse_parameters(((parameter, value), (parameter, value)))


@pytest.mark.parametrize("name", ["", "Columns", "apikey", "x\n\x1b[31m", "x" * 1000])
def test_an_unknown_parameter_is_named_with_those_there_are(name: str) -> None:
    unknown = parse_parameters(((name, "1"),)).arguments
    with pytest.raises(BadRequest, match="unknown parameter; expected one of columns, sort, apiKey, total") as caught:
        read_arguments(unknown, SimulatedDataset())
    assert caught.value.detail.isprintable()


def test_a_key_is_never_repeated() -> None:
    with pytest.raises(BadRequest) as caught:
        parse_parameters((("apiKey", "s3cret"), ("apiKey", "s3cret")))
    assert "s3cret" not in caught.value.detail


@pytest.mark.parametrize(
    ("filename", "value"),
    [
        ("export.csv", 'attachment; filename="export.csv"'),
        ("a b (1).csv", 'attachment; filename="a b (1).csv"'),
        ("größe.csv", "attachment; filename=\"gr__e.csv\"; filename*=UTF-8''gr%C3%B6%C3%9Fe.csv"),
        ('a"b.csv', "attachment; filename=\"a_b.csv\"; filename*=UTF-8''a%22b.csv"),
        (
            "a\r\nSet-Cookie: x",
            'attachment; filename="a__Set-Cookie_ x"',
        ),
        ("../../etc/passwd", 'attachment; filename="_._.._etc_passwd"'),
        ("a\\b;c%41.csv", "attachment; filename=\"a_b;c_41.csv\"; filename*=UTF-8''a_b%3Bc%2541.csv"),
        ("'quoted'*", "attachment; filename=\"'quoted'_\"; filename*=UTF-8''%27quoted%27%2A"),
    ],
)
def test_a_file_name_is_safe_in_its_header(filename: str, value: str) -> None:
    """RFC 6266 and RFC 8187."""
    assert content_disposition(filename) == (b"content-disposition", value.encode())
