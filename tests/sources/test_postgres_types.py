"""What each type of PostgreSQL becomes: as text by COPY, as text by rows, and as a value."""

from __future__ import annotations

import csv
import io
import math
from dataclasses import dataclass
from datetime import UTC, date, datetime, time
from decimal import Decimal
from typing import Any
from uuid import UUID

import pytest

from asgi_export.sources.postgres.source import PostgresDataset
from asgi_export.table import Dialect, JsonText
from tests.postgres_server import PostgresServer
from tests.sources.postgres_shop import READER, Monitor, Shop, make_shop, rows, run, text

SOME_UUID = "123e4567-e89b-12d3-a456-426614174000"


@dataclass(frozen=True, slots=True)
class Example:
    """A type, a literal of it, its text, and its value where that is not the text."""

    type: str
    literal: str
    text: str
    value: Any = ...


E = Example

EXAMPLES = (
    E("bool", "t", "true", True),
    E("bool", "f", "false", False),
    E("int2", "-32768", "-32768", -32768),
    E("int4", "2147483647", "2147483647", 2147483647),
    E("int8", "-9223372036854775808", "-9223372036854775808", -(2**63)),
    E("oid", "4294967295", "4294967295", 2**32 - 1),
    E("float4", "0.1", "0.1", 0.1),
    E("float4", "3.4028235e38", "3.4028235e+38", 3.4028235e38),
    E("float8", "1", "1", 1.0),
    E("float8", "0.1", "0.1", 0.1),
    E("float8", "5e-324", "5e-324", 5e-324),
    E("float8", "-Infinity", "-Infinity", -math.inf),
    E("numeric", "1" + "0" * 100 + ".50", "1" + "0" * 100 + ".50", Decimal("1" + "0" * 100 + ".50")),
    E("numeric(12,2)", "-0.5", "-0.50", Decimal("-0.50")),
    E("numeric", "1e-50", "0." + "0" * 49 + "1", Decimal("1e-50")),
    E("numeric", "Infinity", "Infinity", Decimal("Infinity")),
    E("money", "-1234.5", "-$1,234.50"),
    E("text", 'naïve 東京 🙂, "x"\r\n\'', 'naïve 東京 🙂, "x"\r\n\''),
    E("text", "", ""),
    E("varchar(5)", "abc", "abc"),
    E("char(5)", "ab", "ab   "),
    E('"char"', "x", "x"),
    E("name", "n", "n"),
    E("bytea", "\\x00ff80", "\\x00ff80", b"\x00\xff\x80"),
    E("bytea", "", "\\x", b""),
    E("date", "2024-02-29", "2024-02-29", date(2024, 2, 29)),
    E("date", "0001-01-01", "0001-01-01", date(1, 1, 1)),
    E("date", "infinity", "infinity"),
    E("date", "-infinity", "-infinity"),
    E("timestamp", "2024-02-29 12:00:00.5", "2024-02-29 12:00:00.5", datetime.fromisoformat("2024-02-29T12:00:00.5")),
    E("timestamp", "infinity", "infinity"),
    E("timestamp", "-infinity", "-infinity"),
    E("timestamptz", "2024-02-29 12:00+02", "2024-02-29 10:00:00+00", datetime(2024, 2, 29, 10, tzinfo=UTC)),
    E("timestamptz", "infinity", "infinity"),
    E("timestamptz", "-infinity", "-infinity"),
    E("time", "23:59:59.999999", "23:59:59.999999", time(23, 59, 59, 999999)),
    E("timetz", "12:00+02", "12:00:00+02"),
    E("interval", "1 year 2 mons -3 days 04:05:06.7", "P1Y2M-3DT4H5M6.7S"),
    E("interval", "0", "PT0S"),
    E("uuid", SOME_UUID, SOME_UUID, UUID(SOME_UUID)),
    E(
        "json",
        '{"b": 1.50,  "a": [1, null]}',
        '{"b": 1.50,  "a": [1, null]}',
        JsonText('{"b": 1.50,  "a": [1, null]}'),
    ),
    E("jsonb", '{"b":1,"a":"ü"}', '{"a": "ü", "b": 1}', JsonText('{"a": "ü", "b": 1}')),
    E("jsonb", "null", "null", JsonText("null")),
    E("inet", "192.168.0.1", "192.168.0.1"),
    E("inet", "::1/64", "::1/64"),
    E("cidr", "10.0.0.0/8", "10.0.0.0/8"),
    E("macaddr", "08:00:2b:01:02:03", "08:00:2b:01:02:03"),
    E("bit(3)", "101", "101"),
    E("varbit", "1", "1"),
    E("point", "(1.5,2)", "(1.5,2)"),
    E("int4range", "[1,5]", "[1,6)"),
    E("datemultirange", "{[2024-01-01,2024-02-01)}", "{[2024-01-01,2024-02-01)}"),
    E("tsvector", "a b", "'a' 'b'"),
    E("pg_lsn", "16/B374D848", "16/B374D848"),
    E("int2vector", "1 2", "1 2"),
    E("mood", "so so", "so so"),
    E("positive", "7", "7", 7),
    E("pair", "(1,two)", '{"a":1,"b":"two"}', JsonText('{"a":1,"b":"two"}')),
    E("int4[]", "{1,NULL,3}", "[1,null,3]", JsonText("[1,null,3]")),
    E(
        "int8[]",
        "{{1,2},{3,9223372036854775807}}",
        "[[1,2],[3,9223372036854775807]]",
        JsonText("[[1,2],[3,9223372036854775807]]"),
    ),
    E("text[]", '{"a,b",ü}', '["a,b","ü"]', JsonText('["a,b","ü"]')),
    E("bool[]", "{t,f}", "[true,false]", JsonText("[true,false]")),
    E("numeric[]", "{1.50}", "[1.50]", JsonText("[1.50]")),
    E("timestamptz[]", "{infinity}", '["infinity"]', JsonText('["infinity"]')),
    E("timestamp[]", "{2024-01-01 00:00}", '["2024-01-01T00:00:00"]', JsonText('["2024-01-01T00:00:00"]')),
    E("mood[]", "{so so}", '["so so"]', JsonText('["so so"]')),
    E("pair[]", '{"(1,x)"}', '[{"a":1,"b":"x"}]', JsonText('[{"a":1,"b":"x"}]')),
    E("positive[]", "{1}", "[1]", JsonText("[1]")),
)

NAMES = [f"c{number}" for number in range(len(EXAMPLES))]
ESCAPED = {"=", "+", "-", "@"}


@pytest.fixture(scope="module")
def types(postgres_server: PostgresServer) -> Shop:
    """A database with a column an example: a row of them, and a row of nulls; and with what is beyond Python."""
    columns = ", ".join(f"{name} {example.type}" for name, example in zip(NAMES, EXAMPLES, strict=True))
    literals = ", ".join("'" + example.literal.replace("'", "''") + "'" for example in EXAMPLES)
    sql = f"""
        CREATE TYPE mood AS ENUM ('sad', 'so so');
        CREATE DOMAIN positive AS int CHECK (value > 0);
        CREATE TYPE pair AS (a int, b text);
        CREATE TABLE types ({columns});
        INSERT INTO types VALUES ({literals});
        INSERT INTO types (c0) VALUES (NULL);
        CREATE VIEW nan AS SELECT 'NaN'::float4 AS a, 'NaN'::float8 AS b, 'NaN'::numeric AS c;
        CREATE VIEW beyond AS
          SELECT '10000-01-01'::date AS year, '0044-03-15 BC'::timestamp AS bc, '24:00'::time AS midnight;
        GRANT SELECT ON ALL TABLES IN SCHEMA public TO {READER};
    """
    return make_shop(postgres_server, "types", sql)


def fields(written: bytes) -> list[list[str]]:
    return list(csv.reader(io.StringIO(written.decode(), newline=""), strict=True))


def test_copy_writes_each_type_as_documented(types: Shop) -> None:
    async def test(datasets: dict[str, PostgresDataset], _: Monitor) -> None:
        texts, nulls = fields(await text(datasets["types"], Dialect()))
        assert texts == [example.text for example in EXAMPLES]
        assert nulls == [""] * len(EXAMPLES)

    run(types, test)


@pytest.mark.parametrize("dialect", [Dialect(quote="all"), Dialect(newline="\r\n")], ids=["quote", "crlf"])
def test_rows_carry_the_text_that_copy_writes(types: Shop, dialect: Dialect) -> None:
    async def test(datasets: dict[str, PostgresDataset], _: Monitor) -> None:
        copied = fields(await text(datasets["types"], Dialect()))
        assert fields(await text(datasets["types"], dialect)) == copied

    run(types, test)


def test_escaped_text_is_that_of_copy_but_for_floats_and_what_a_sheet_would_run(types: Shop) -> None:
    floats = {"-Infinity": "-inf", "1": "1.0"}

    async def test(datasets: dict[str, PostgresDataset], _: Monitor) -> None:
        texts, _nulls = fields(await text(datasets["types"], Dialect(escape_formulas=True)))
        for written, example in zip(texts, EXAMPLES, strict=True):
            number = isinstance(example.value, int | float | Decimal)
            expected = floats.get(example.text, example.text) if example.type == "float8" else example.text
            assert written == (expected if number or example.text[:1] not in ESCAPED else f"'{expected}")

    run(types, test)


def test_values_are_python_s_where_python_has_an_equal(types: Shop) -> None:
    async def test(datasets: dict[str, PostgresDataset], _: Monitor) -> None:
        values, nulls = await rows(datasets["types"])
        expected = [example.text if example.value is ... else example.value for example in EXAMPLES]
        assert list(values) == expected
        assert [isinstance(one, type(other)) for one, other in zip(values, expected, strict=True)] == [True] * len(
            values
        )
        assert set(nulls) == {None}

    run(types, test)


def test_not_a_number_is_kept(types: Shop) -> None:
    async def test(datasets: dict[str, PostgresDataset], _: Monitor) -> None:
        assert await text(datasets["nan"], Dialect()) == b"NaN,NaN,NaN\n"
        [values] = await rows(datasets["nan"])
        assert all(math.isnan(value) for value in values)
        assert [type(value) for value in values] == [float, float, Decimal]

    run(types, test)


@pytest.mark.parametrize(
    ("column", "copied"), [("year", "10000-01-01"), ("bc", "0044-03-15 00:00:00 BC"), ("midnight", "24:00:00")]
)
def test_a_time_that_python_cannot_hold_is_its_text(types: Shop, column: str, copied: str) -> None:
    async def test(datasets: dict[str, PostgresDataset], _: Monitor) -> None:
        assert await text(datasets["beyond"], Dialect(), columns=[column]) == f"{copied}\n".encode()
        assert await rows(datasets["beyond"], columns=[column]) == [(copied,)]

    run(types, test)
