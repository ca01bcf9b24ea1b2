"""PostgreSQL databases in other encodings than UTF-8: the server converts, or, for SQL_ASCII, keeps any bytes."""

from __future__ import annotations

import asyncio
import csv
import io
import json
from typing import Any

import pytest

from asgi_export.sources.postgres.catalogue import Relation
from asgi_export.sources.postgres.source import PostgresSource
from asgi_export.values.text import text_of
from tests.field.typed_exports import export, exported, table_of
from tests.postgres_server import PostgresServer
from tests.sources.postgres_shop import READER, Shop, make_shop

LATIN = "e9"
"""An é of Latin-1, which no UTF-8 text has before a blank."""

FORMATS = ("csv", "tsv", "ndjson", "parquet", "arrow")


def raw(hexadecimal: str) -> str:
    """SQL of a text that has these bytes."""
    return f"convert_from('\\x{hexadecimal}', 'SQL_ASCII')"


ASCII_SQL = f"""
CREATE TYPE mood AS ENUM ('calm');
DO $$ BEGIN EXECUTE format('ALTER TYPE mood ADD VALUE %L', {raw("c3a9" + LATIN)}); END $$;
CREATE DOMAIN word AS varchar(20);
CREATE TYPE entry AS (name text, number int);
CREATE TABLE mixed (id int, a text, b varchar(20), c char(4), d name, e word, f mood, g json, h jsonb, i text[],
  j entry, k bytea, l numeric, m timestamptz, n bool);
INSERT INTO mixed VALUES
  (1, 'naïve 東京', 'x', 'x', 'x', 'x', 'calm', '{{"a": 1}}', '1', '{{x,NULL}}', '(x,1)', '\\xe9', 1.50,
    '2024-01-01 00:00+00', true),
  (2, {raw(LATIN)}, {raw(LATIN)}, {raw(LATIN)}, {raw(LATIN)}::name, {raw(LATIN)},
    (enum_range(NULL::mood))[2], ('"' || {raw(LATIN)} || '"')::json, ('"' || {raw(LATIN)} || '"')::jsonb,
    ARRAY[{raw(LATIN)}], ROW({raw(LATIN)}, 1)::entry, NULL, NULL, NULL, NULL),
  (3, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL),
  (4, '', '', '', '', '', NULL, '""', '""', '{{}}', '(,)', '', 0, 'infinity', false);
CREATE TABLE late AS SELECT g AS id, CASE WHEN g > 5000 THEN {raw(LATIN)} ELSE 'plain' END AS note
  FROM generate_series(1, 5010) g;
CREATE TABLE alone AS SELECT note FROM late WHERE id > 4998;
DO $$ BEGIN
  EXECUTE format('CREATE TABLE %I (id int)', 'table ' || {raw(LATIN)});
  EXECUTE format('CREATE TABLE half (id int, %I int)', {raw(LATIN)});
  EXECUTE format('CREATE SCHEMA %I', {raw(LATIN)});
  EXECUTE format('CREATE TABLE %I.inner (id int)', {raw(LATIN)});
  EXECUTE format('GRANT USAGE ON SCHEMA %I TO {READER}', {raw(LATIN)});
  EXECUTE format('GRANT SELECT ON ALL TABLES IN SCHEMA %I TO {READER}', {raw(LATIN)});
  EXECUTE format('ALTER DATABASE %I SET shop.title = %L', current_database(), {raw(LATIN)});
END $$;
CREATE TABLE "Größe" ("Länge" int);
INSERT INTO "Größe" VALUES (7);
INSERT INTO half VALUES (7);
GRANT SELECT ON ALL TABLES IN SCHEMA public TO {READER};
"""


def make(server: PostgresServer, name: str, encoding: str, sql: str) -> Shop:
    make_shop(server, name, "SELECT")
    server.execute(f'DROP DATABASE "{name}"')
    server.execute(f"CREATE DATABASE \"{name}\" ENCODING '{encoding}' TEMPLATE template0 LOCALE 'C'")
    server.execute(sql, name)
    return Shop(server, name)


@pytest.fixture(scope="module")
def ascii_shop(postgres_server: PostgresServer) -> Shop:
    return make(postgres_server, "anything", "SQL_ASCII", ASCII_SQL)


def rows_of(body: bytes, name: str) -> list[dict[str, Any]]:
    if name in ("parquet", "arrow"):
        found: list[dict[str, Any]] = table_of(body, name).to_pylist()
        return found
    if name == "ndjson":
        return [json.loads(line) for line in body.decode().splitlines()]
    return list(csv.DictReader(io.StringIO(body.decode(), newline=""), delimiter="\t" if name == "tsv" else ","))


def read(shop: Shop, name: str, query: str) -> list[dict[str, Any]]:
    return rows_of(export(shop.source(), name, query), name)


FIRST = {
    "a": "naïve 東京",
    "b": "x",
    "c": "x   ",
    "d": "x",
    "e": "x",
    "f": "calm",
    "g": '{"a": 1}',
    "h": "1",
    "i": '["x",null]',
    "j": '{"name":"x","number":1}',
    "k": "\\xe9",
    "l": "1.50",
    "n": "true",
}

SECOND = {
    **dict.fromkeys("abde", "\\xe9"),
    "c": "\\xe9202020",
    "f": "\\xc3a9e9",
    "g": "\\x22e922",
    "h": "\\x22e922",
    "i": "\\x5b22e9225d",
    "j": "\\x" + b'{"name":"\xe9","number":1}'.hex(),
    "l": "",
    "n": "",
}


def csv_text(value: Any) -> str:
    """A value of any format as CSV has it."""
    if value is None:
        return ""
    return json.dumps(value, separators=(",", ":")) if isinstance(value, (dict, list)) else str(text_of(value))


@pytest.mark.parametrize(
    ("name", "dialect"), [*[(name, "") for name in FORMATS], ("csv", "&quote=all"), ("tsv", "&null=%E2%88%85")]
)
def test_text_that_is_not_utf_8_is_its_bytes_in_every_format(ascii_shop: Shop, name: str, dialect: str) -> None:
    first, second, third, fourth = read(ascii_shop, name, f"dataset=mixed{dialect}")
    for row, expected in ((first, FIRST), (second, SECOND)):
        for column, text in expected.items():
            found = csv_text(row[column]).replace("∅", "")
            assert found == (text.replace(": ", ":") if isinstance(row[column], dict) else text), column
    assert {csv_text(value).replace("∅", "") for column, value in third.items() if column != "id"} == {""}
    assert (fourth["a"], fourth["c"], csv_text(fourth["i"])) == ("", "    ", "[]")


def test_json_that_is_utf_8_is_a_structure_in_ndjson(ascii_shop: Shop) -> None:
    first = read(ascii_shop, "ndjson", "dataset=mixed")[0]
    found = [first[name] for name in "ghij"]
    assert found == [{"a": 1}, 1, ["x", None], {"name": "x", "number": 1}]


@pytest.mark.parametrize("name", FORMATS)
def test_bytes_behind_the_first_rows_are_as_those_within(ascii_shop: Shop, name: str) -> None:
    found = [row["note"] for row in read(ascii_shop, name, "dataset=late")]
    assert found == ["plain"] * 5000 + ["\\xe9"] * 10


@pytest.mark.parametrize("query", ["", "&null=-", "&quote=all", "&escapeFormulas=true"])
def test_a_column_alone_has_the_same_text(ascii_shop: Shop, query: str) -> None:
    found = read(ascii_shop, "csv", f"dataset=alone{query}")
    assert [row["note"] for row in found] == ["plain"] * 2 + ["\\xe9"] * 10


def test_names_that_are_not_utf_8_are_left_out_with_one_line(
    ascii_shop: Shop, caplog: pytest.LogCaptureFixture
) -> None:
    async def names(source: PostgresSource) -> dict[str, list[str]]:
        found = {dataset.name: [column.name for column in dataset.columns] for dataset in await source.start()}
        await source.close()
        return found

    found = asyncio.run(names(ascii_shop.source()))
    assert {name: found[name] for name in ("half", "Größe")} == {"half": ["id"], "Größe": ["Länge"]}
    assert set(found) == {"mixed", "late", "alone", "half", "Größe"}
    (warning,) = [record.getMessage() for record in caplog.records]
    assert warning.startswith("3 columns are left out: ")
    assert read(ascii_shop, "csv", "dataset=half") == [{"id": "7"}]
    assert read(ascii_shop, "csv", "dataset=Gr%C3%B6%C3%9Fe&columns=L%C3%A4nge") == [{"Länge": "7"}]


def test_names_are_read_again(ascii_shop: Shop) -> None:
    async def scenario() -> list[Relation]:
        source = ascii_shop.source()
        await source.start()
        ascii_shop.execute("ALTER TABLE half ADD COLUMN fresh text")
        found = await source.refresh()
        await source.close()
        assert found is not None
        return [dataset.relation for dataset in found]

    relations = {relation.name: relation for relation in asyncio.run(scenario())}
    assert [forms.column.name for forms in relations["half"].columns] == ["id", "fresh"]


ENCODED_SQL = f"""
CREATE TABLE "Größe" ("Länge" text, words text[], kind text);
INSERT INTO "Größe" VALUES ('{{0}}', ARRAY['{{0}}', NULL], NULL), ('', '{{{{}}}}', 'x');
GRANT SELECT ON ALL TABLES IN SCHEMA public TO {READER};
"""

ENCODINGS = {
    "LATIN1": ("Größe", "naïve ½ £"),
    "WIN1252": ("Größe", "naïve € „“"),
    "EUC_JP": ("寸法", "東京 ミカン"),
    "KOI8R": ("Размер", "Привет, мир"),
}


FOREIGN = "null=%C3%A4&delimiter=%C2%B7"
"""A null text and a delimiter that no COPY writes."""


@pytest.fixture(scope="module", params=ENCODINGS)
def encoded(request: pytest.FixtureRequest, postgres_server: PostgresServer) -> tuple[Shop, str, str]:
    name, words = ENCODINGS[request.param]
    sql = ENCODED_SQL.format(words).replace("Größe", name).replace("Länge", name)
    return make(postgres_server, f"in {request.param}", request.param, sql), name, words


@pytest.mark.parametrize(
    ("name", "query"),
    [*[(name, "") for name in FORMATS], *[("csv", query) for query in ("quote=all", "null=%E2%88%85", FOREIGN)]],
)
def test_the_server_converts_to_utf_8(encoded: tuple[Shop, str, str], name: str, query: str) -> None:
    """A null text that the database's own encoding lacks is written here."""
    shop, column, words = encoded
    body = export(shop.source(), name, query)
    if query == FOREIGN:
        assert body.decode().splitlines()[1] == f'{words}·"[""{words}"",null]"·ä'
        return
    first, second = rows_of(body, name)
    assert (first[column], second[column]) == (words, "")
    nested = first["words"]
    assert (nested if isinstance(nested, list) else json.loads(nested)) == [words, None]
    assert first["kind"] in (None, "", "∅")


def test_a_byte_that_has_no_character_is_a_broken_export(postgres_server: PostgresServer) -> None:
    """0x81 is not assigned in Windows-1252: never another character, never a shorter file."""
    sql = f"""CREATE TABLE odd AS SELECT 1 AS id, convert_from('\\x81', 'WIN1252') AS note;
    GRANT SELECT ON odd TO {READER}"""
    shop = make(postgres_server, "odd", "WIN1252", sql)
    for name in FORMATS:
        client = exported(shop.source(), name, "dataset=odd")
        assert client.status == 500
        assert b"retry-after" not in client.headers
