"""Every type of PostgreSQL with extreme values: exact in CSV and NDJSON, exact or refused in Parquet and Arrow."""

from __future__ import annotations

import asyncio
import csv
import io
import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from asgi_export.errors import SourceFailed
from asgi_export.formats.columnar import ArrowEncoder, ParquetEncoder
from asgi_export.formats.json_lines import JsonLinesEncoder
from asgi_export.table import Column, Dialect, Row
from asgi_export.values.text import text_of
from tests.postgres_server import PostgresServer
from tests.sources.postgres_shop import READER, Shop, make_shop, rows, text

TABLES = ["alone", "late", "first"]

SAMPLE_ROWS = 4200
"""More rows than those that a schema is made of."""

WIDE = "9" * 4301
DEEP = "[" * 1000 + "]" * 1000
DIGITS = "1" + "0" * 131071 + "." + "0" * 16382 + "1"


@dataclass(frozen=True, slots=True)
class Example:
    """A type, a literal of it, its text in CSV, its JSON in NDJSON (a string of the text where it is not given),
    and an ordinary literal of the type.
    """

    type: str
    literal: str
    csv: str
    ordinary: str
    ndjson: str = ""

    @property
    def json(self) -> str:
        return self.ndjson or json.dumps(self.csv, ensure_ascii=False)


E = Example

EXAMPLES = (
    # dates and times beyond those of Python
    E("date", "infinity", "infinity", "2024-01-01"),
    E("date", "-infinity", "-infinity", "2024-01-01"),
    E("date", "9999-12-31", "9999-12-31", "2024-01-01"),
    E("date", "10000-01-01", "10000-01-01", "2024-01-01"),
    E("date", "5874897-12-31", "5874897-12-31", "2024-01-01"),
    E("date", "4713-01-01 BC", "4713-01-01 BC", "2024-01-01"),
    E("timestamp", "infinity", "infinity", "2024-01-01 00:00"),
    E("timestamp", "-infinity", "-infinity", "2024-01-01 00:00"),
    E("timestamp", "0044-03-15 12:00 BC", "0044-03-15 12:00:00 BC", "2024-01-01 00:00"),
    E("timestamp", "10000-01-01", "10000-01-01 00:00:00", "2024-01-01 00:00"),
    E("timestamp", "294276-12-31 23:59:59.999999", "294276-12-31 23:59:59.999999", "2024-01-01 00:00"),
    E(
        "timestamp",
        "9999-12-31 23:59:59.999999",
        "9999-12-31 23:59:59.999999",
        "2024-01-01 00:00",
        '"9999-12-31T23:59:59.999999"',
    ),
    E("timestamp", "0001-01-01", "0001-01-01 00:00:00", "2024-01-01 00:00", '"0001-01-01T00:00:00"'),
    E("timestamptz", "infinity", "infinity", "2024-01-01 00:00+00"),
    E("timestamptz", "-infinity", "-infinity", "2024-01-01 00:00+00"),
    E(
        "timestamptz",
        "0001-12-31 23:00-02 BC",
        "0001-01-01 01:00:00+00",
        "2024-01-01 00:00+00",
        '"0001-01-01T01:00:00+00:00"',
    ),
    E("timestamptz", "0001-12-31 20:00-02 BC", "0001-12-31 22:00:00+00 BC", "2024-01-01 00:00+00"),
    E("timestamptz", "9999-12-31 23:00-02", "10000-01-01 01:00:00+00", "2024-01-01 00:00+00"),
    E("time", "24:00", "24:00:00", "12:00"),
    E("time", "23:59:59.999999", "23:59:59.999999", "12:00"),
    E("time", "00:00", "00:00:00", "12:00"),
    E("timetz", "24:00-15:59:59", "24:00:00-15:59:59", "12:00+02"),
    E("interval", "178000000 years", "P178000000Y", "1 day"),
    E("interval", "1 mon -1 day 00:00:00.000001", "P1M-1DT0.000001S", "1 day"),
    E("a_date", "infinity", "infinity", "2024-01-01"),
    E("a_later_date", "0044-03-15 BC", "0044-03-15 BC", "2024-01-01"),
    # numbers
    E("int8", "-9223372036854775808", "-9223372036854775808", "1", "-9223372036854775808"),
    E("oid", "4294967295", "4294967295", "1", "4294967295"),
    E("float4", "0.1", "0.1", "1", "0.1"),
    E("float4", "1e-45", "1e-45", "1", "1e-45"),
    E("float4", "3.4028235e38", "3.4028235e+38", "1", "3.4028235e+38"),
    E("float8", "5e-324", "5e-324", "1", "5e-324"),
    E("float8", "1.7976931348623157e308", "1.7976931348623157e+308", "1", "1.7976931348623157e+308"),
    E("float8", "-0", "-0", "1", "-0.0"),
    E("float8", "NaN", "NaN", "1", "null"),
    E("float8", "-Infinity", "-Infinity", "1", "null"),
    E("numeric", "NaN", "NaN", "1.5"),
    E("numeric", "-Infinity", "-Infinity", "1.5"),
    E("numeric", "1e-1000", "0." + "0" * 999 + "1", "1.5"),
    E("numeric", DIGITS, DIGITS, "1.5"),
    E("numeric(5,2)", "NaN", "NaN", "1.5"),
    E("numeric(5,2)", "-999.99", "-999.99", "1.5"),
    E("numeric(5,-2)", "1234567", "1234600", "1200"),
    E("numeric(3,5)", "0.00999", "0.00999", "0.001"),
    E("numeric(1000,500)", "1", "1." + "0" * 500, "2"),
    E("money", "-92233720368547758.08", "-$92,233,720,368,547,758.08", "1"),
    # text
    E("text", 'a,"b"\r\n\\. naïve 東京 🙂', 'a,"b"\r\n\\. naïve 東京 🙂', "x"),
    E("varchar(3)", "abc", "abc", "x"),
    E("char(5)", "a", "a    ", "x"),
    E('"char"', "\\377", "\\377", "x"),
    E('"char"', "x", "x", "y"),
    E("name", "n" * 63, "n" * 63, "x"),
    E("citext", "MiXed", "MiXed", "x"),
    E("real_estate_kind", "integer", "integer", "flat"),
    E("tsvector", "'a b':1A,16383 c", "'a b':1A,16383 'c'", "x"),
    E("tsquery", "a & !b <-> c", "'a' & !'b' <-> 'c'", "x"),
    # bits, bytes, names
    E("bytea", "\\x00ff0a80", "\\x00ff0a80", "\\x00"),
    E("bytea", "", "\\x", "\\x00"),
    E("bit(3)", "101", "101", "000"),
    E("varbit", "1" * 65, "1" * 65, "0"),
    E("uuid", "00000000-0000-0000-0000-000000000000", "00000000-0000-0000-0000-000000000000", "1" * 32),
    E("inet", "192.168.0.1", "192.168.0.1", "::1"),
    E("inet", "::ffff:1.2.3.4/128", "::ffff:1.2.3.4", "::1"),
    E("inet", "10.1.2.3/8", "10.1.2.3/8", "::1"),
    E("cidr", "::/0", "::/0", "10.0.0.0/8"),
    E("macaddr8", "08:00:2b:01:02:03:04:05", "08:00:2b:01:02:03:04:05", "00:00:00:00:00:00:00:00"),
    E("pg_lsn", "FFFFFFFF/FFFFFFFF", "FFFFFFFF/FFFFFFFF", "0/0"),
    E("xid8", "18446744073709551615", "18446744073709551615", "1"),
    E("tid", "(4294967295,65535)", "(4294967295,65535)", "(0,1)"),
    E("regclass", "pg_class", "pg_class", "pg_type"),
    E("regtype", "timestamp with time zone", "timestamp with time zone", "date"),
    E("int2vector", "1 -2", "1 -2", "1"),
    E("pg_snapshot", "10:20:10,14", "10:20:10,14", "1:1:"),
    E("hstore", '"a b"=>NULL, c=>"d\\"e"', '"c"=>"d\\"e", "a b"=>NULL', "x=>1"),
    # geometry
    E("point", "(1e300,-0)", "(1e+300,-0)", "(0,0)"),
    E("point", "(NaN,Infinity)", "(NaN,Infinity)", "(0,0)"),
    E("line", "{1,-1,0.1}", "{1,-1,0.1}", "{1,1,1}"),
    E("lseg", "[(0,0),(1,1)]", "[(0,0),(1,1)]", "[(0,0),(0,0)]"),
    E("box", "(1,1),(0,0)", "(1,1),(0,0)", "(0,0),(0,0)"),
    E("path", "[(0,0),(1,1)]", "[(0,0),(1,1)]", "((0,0))"),
    E("polygon", "((0,0),(1,1))", "((0,0),(1,1))", "((0,0))"),
    E("circle", "<(0,0),1>", "<(0,0),1>", "<(0,0),0>"),
    # ranges
    E("int4range", "empty", "empty", "[1,2)"),
    E("int8range", "(,)", "(,)", "[1,2)"),
    E("numrange", "[NaN,NaN]", "[NaN,NaN]", "[1,2)"),
    E("tsrange", "(-infinity,infinity)", "(-infinity,infinity)", "[2024-01-01,2024-01-02)"),
    E("daterange", "[infinity,]", "[infinity,)", "[2024-01-01,2024-01-02)"),
    E("tsmultirange", "{[0044-03-15 BC,infinity)}", '{["0044-03-15 00:00:00 BC",infinity)}', "{}"),
    # JSON: numbers, depth, line ends and keys as they were written
    E("json", WIDE, WIDE, "1", WIDE),
    E("jsonb", WIDE, WIDE, "1", WIDE),
    E("json", DEEP, DEEP, "1", DEEP),
    E("jsonb", DEEP, DEEP, "1", DEEP),
    E("jsonb", "1.10", "1.10", "1", "1.10"),
    E("jsonb", "1e400", "1" + "0" * 400, "1", "1" + "0" * 400),
    E("jsonb", "null", "null", "1", "null"),
    E("json", '{"a": 1,\r\n"a": 0.10}', '{"a": 1,\r\n"a": 0.10}', "1", '{"a": 1,  "a": 0.10}'),
    E("json", r'"\ud800\u0000"', r'"\ud800\u0000"', "1", r'"\ud800\u0000"'),
    E("jsonpath", "$.a[*]", '$."a"[*]', "$"),
    # arrays and composite values
    E("int4[]", "{1,NULL,3}", "[1,null,3]", "{1}", "[1,null,3]"),
    E("int4[]", "{}", "[]", "{1}", "[]"),
    E("int4[]", "[0:1]={1,2}", '"[0:1]={1,2}"', "{1}", '"[0:1]={1,2}"'),
    E("int4[]", "[1:2][5:5]={{1},{2}}", '"[1:2][5:5]={{1},{2}}"', "{1}", '"[1:2][5:5]={{1},{2}}"'),
    E("int8[]", "{{9223372036854775807},{1}}", "[[9223372036854775807],[1]]", "{1}", "[[9223372036854775807],[1]]"),
    E("numeric[]", "{NaN,-Infinity,1.50,1e30}", '["NaN","-Infinity",1.50,1' + "0" * 30 + "]", "{1}"),
    E("float8[]", "{NaN,-Infinity,5e-324}", '["NaN","-Infinity",5e-324]', "{1}"),
    E("float4[]", "{0.1}", "[0.1]", "{1}", "[0.1]"),
    E("text[]", '{NULL,"NULL","",a}', '[null,"NULL","","a"]', "{1}", '[null,"NULL","","a"]'),
    E("bool[]", "{t,f}", "[true,false]", "{t}", "[true,false]"),
    E("bytea[]", '{"\\\\x00ff"}', '["\\\\x00ff"]', '{"\\\\x00"}', '["\\\\x00ff"]'),
    E("date[]", "{infinity,10000-01-01}", '["infinity","10000-01-01"]', "{2024-01-01}"),
    E("timestamptz[]", '{-infinity,"0044-03-15 00:00+00 BC"}', '["-infinity","0044-03-15T00:00:00+00:00 BC"]', "{}"),
    E("time[]", "{24:00}", '["24:00:00"]', "{12:00}"),
    E("interval[]", "{1 mon -1 day}", '["P1M-1D"]', "{1 day}"),
    E("json[]", '{"[1.10, {}]"}', "[[1.10, {}]]", "{1}", "[[1.10, {}]]"),
    E("jsonb[]", "{" + WIDE + "}", f"[{WIDE}]", "{1}", f"[{WIDE}]"),
    E("tsrange[]", '{"(-infinity,infinity)"}', '["(-infinity,infinity)"]', "{}"),
    E("a_date[]", "{infinity}", '["infinity"]', "{2024-01-01}"),
    E("some_dates", "{infinity}", '["infinity"]', "{2024-01-01}"),
    E("real_estate_kind[]", "{integer,flat}", '["integer","flat"]', "{flat}"),
    E("entry", "(infinity,24:00,1.50,)", '{"day":"infinity","at":"24:00:00","price":1.50,"tags":null}', "(,,,)"),
    E(
        "entry",
        '("0044-03-15 BC",,NaN,"{NULL,x}")',
        '{"day":"0044-03-15 BC","at":null,"price":"NaN","tags":[null,"x"]}',
        "(,,,)",
    ),
    E("entry[]", '{"(infinity,,,)"}', '[{"day":"infinity","at":null,"price":null,"tags":null}]', "{}"),
    E("an_entry", "(infinity,,,)", '{"day":"infinity","at":null,"price":null,"tags":null}', "(,,,)"),
)

NESTED = ("[]", "entry", "some_dates")

IDS = [f"{example.type}-{example.literal[:20]}" for example in EXAMPLES]
"""As pytest names them, but for what is too long for a name."""

SCHEMA = """
CREATE EXTENSION hstore; CREATE EXTENSION citext;
CREATE TYPE real_estate_kind AS ENUM ('flat', 'integer');
CREATE DOMAIN a_date AS date;
CREATE DOMAIN a_later_date AS a_date;
CREATE DOMAIN some_dates AS date[];
CREATE TYPE entry AS (day date, at time, price numeric, tags text[]);
CREATE DOMAIN an_entry AS entry;
ALTER DATABASE extremes SET lc_monetary = 'C';
"""


def _literal(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


def _value(text: str, example: Example) -> str:
    return f"{_literal(text)}::{example.type}"


def _views() -> str:
    """Every value alone, behind many ordinary ones, and behind many nulls: a column an example."""
    alone = [f"{_value(example.literal, example)} AS c{number}" for number, example in enumerate(EXAMPLES)]
    behind = f"CASE WHEN g < {SAMPLE_ROWS} THEN {{}} ELSE a.c{{}} END AS c{{}}"
    late = [behind.format("o.c{0}", number, number).format(number) for number in range(len(EXAMPLES))]
    first = [behind.format("NULL", number, number) for number in range(len(EXAMPLES))]
    ordinary = [f"{_value(example.ordinary, example)} AS c{number}" for number, example in enumerate(EXAMPLES)]
    return f"""
        CREATE TABLE alone AS SELECT {", ".join(alone)};
        CREATE TABLE ordinary AS SELECT {", ".join(ordinary)};
        CREATE VIEW late AS SELECT {", ".join(late)} FROM generate_series(1, {SAMPLE_ROWS}) g, ordinary o, alone a;
        CREATE VIEW first AS SELECT {", ".join(first)} FROM generate_series(1, {SAMPLE_ROWS}) g, alone a;
    """


@pytest.fixture(scope="module")
def kinds(postgres_server: PostgresServer) -> Shop:
    grant = f"GRANT SELECT ON ALL TABLES IN SCHEMA public TO {READER};"
    return make_shop(postgres_server, "extremes", SCHEMA + _views() + grant)


@dataclass(frozen=True, slots=True)
class Exports:
    """What came of each table."""

    columns: dict[str, Sequence[Column]]
    rows: dict[str, list[Row]]
    csv: dict[Dialect, list[str]]

    def column(self, table: str, number: int) -> tuple[Sequence[Column], list[Row]]:
        """A table of the one column."""
        return self.columns[table][number : number + 1], [row[number : number + 1] for row in self.rows[table]]


DIALECTS = [Dialect(), Dialect(quote="all")]
"""Written by COPY, and by rows."""


@pytest.fixture(scope="module")
def exports(kinds: Shop) -> Exports:
    async def main() -> Exports:
        async with kinds.datasets() as datasets:
            texts = {dialect: fields(await text(datasets["alone"], dialect)) for dialect in DIALECTS}
            return Exports(
                {name: datasets[name].columns for name in TABLES},
                {name: await rows(datasets[name]) for name in TABLES},
                {dialect: found for dialect, [found] in texts.items()},
            )

    return asyncio.run(main())


def fields(written: bytes) -> list[list[str]]:
    csv.field_size_limit(1_000_000)
    return list(csv.reader(io.StringIO(written.decode(), newline=""), strict=True))


def exact(value: Any, example: Example) -> bool:
    if isinstance(value, float):
        return value == float(example.csv) or (math.isnan(value) and example.csv == "NaN")
    text = str(text_of(value))
    return text in (example.csv, example.json) or json.dumps(text, ensure_ascii=False) == example.json


def ndjson_of(example: Example) -> str:
    """Nested values are JSON in both."""
    return example.csv if example.type.endswith(NESTED) else example.json


@pytest.mark.parametrize("dialect", DIALECTS, ids=["copy", "rows"])
def test_csv_has_the_text_of_the_server(exports: Exports, dialect: Dialect) -> None:
    assert exports.csv[dialect] == [example.csv for example in EXAMPLES]


@pytest.mark.parametrize("table", TABLES)
def test_ndjson_has_the_same_value(exports: Exports, table: str) -> None:
    for number, example in enumerate(EXAMPLES):
        columns, found = exports.column(table, number)
        lines = JsonLinesEncoder(columns).feed(found).decode().split("\n")
        assert lines[-2:] == [f'{{"c{number}":{ndjson_of(example)}}}', ""], IDS[number]
        assert len(lines) == len(found) + 1, IDS[number]


def slices(found: list[Row]) -> Iterator[list[Row]]:
    """In batches, so that the last row comes when the schema has been fixed."""
    for start in range(0, len(found), 1000):
        yield found[start : start + 1000]


def parquet(columns: Sequence[Column], found: list[Row]) -> Any:
    encoder = ParquetEncoder(columns)
    written = encoder.head() + b"".join(map(encoder.feed, slices(found))) + encoder.tail()
    return pq.read_table(io.BytesIO(written))


def arrow(columns: Sequence[Column], found: list[Row]) -> Any:
    encoder = ArrowEncoder(columns)
    written = encoder.head() + b"".join(map(encoder.feed, slices(found))) + encoder.tail()
    return pa.ipc.open_stream(written).read_all()


@pytest.mark.parametrize("write", [parquet, arrow])
@pytest.mark.parametrize("table", TABLES)
def test_typed_formats_have_the_same_value_or_refuse_it(exports: Exports, table: str, write: Any) -> None:
    refused = set()
    for number, example in enumerate(EXAMPLES):
        try:
            written = write(*exports.column(table, number))
        except SourceFailed:
            refused.add(example.type)
        else:
            assert exact(written.column(0)[-1].as_py(), example), IDS[number]
    assert refused <= {"date", "timestamp", "timestamptz", "time", "a_date", "a_later_date", "numeric(5,2)"}


def test_ordinary_values_keep_their_types(kinds: Shop) -> None:
    """That extremes are text makes no column of ordinary values a column of text."""
    clock = "now()::date AS a, now() AS b, now()::timestamp AS c, localtime AS d, 1.5::float4 AS e"
    kinds.execute(f"CREATE VIEW clock AS SELECT {clock}; GRANT SELECT ON clock TO {READER}")

    async def main() -> Any:
        async with kinds.datasets() as datasets:
            return parquet(datasets["clock"].columns, await rows(datasets["clock"]))

    types = [str(field.type) for field in asyncio.run(main()).schema]
    kinds.execute("DROP VIEW clock")
    assert types == ["date32[day]", "timestamp[us, tz=UTC]", "timestamp[us]", "time64[us]", "double"]
