"""What the catalogue of PostgreSQL says of a column's values: by the type that it rests on, not by a name."""

from __future__ import annotations

import pytest

from asgi_export.sources.postgres.source import PostgresDataset
from tests.postgres_server import PostgresServer
from tests.sources.postgres_shop import READER, Monitor, Shop, make_shop, run

TYPES = {
    "int2": ("number", "int64"),
    "oid": ("number", "int64"),
    "float4": ("number", "double"),
    "numeric": ("number", "string"),
    "numeric(10,2)": ("number", "decimal128(10, 2)"),
    "money": ("text", "string"),
    "bool": ("boolean", "bool"),
    "date": ("date", "date32"),
    "time(3)": ("time", "time64[us]"),
    "timetz": ("time", "string"),
    "timestamp(0)": ("timestamp", "timestamp[us]"),
    "timestamptz": ("timestamp", "timestamp[us, tz=UTC]"),
    "bytea": ("bytes", "binary"),
    "text": ("text", "string"),
    "char(3)": ("text", "string"),
    '"char"': ("text", "string"),
    "uuid": ("text", "string"),
    "interval": ("text", "string"),
    "daterange": ("text", "string"),
    "jsonb": ("nested", "string"),
    "date[]": ("nested", "string"),
    "real_estate_kind": ("text", "string"),
    "integer_pair": ("nested", "string"),
    "whatever": ("number", "decimal128(12, 3)"),
    "whatever_else": ("number", "decimal128(12, 3)"),
    "date_text": ("text", "string"),
    "whatever[]": ("nested", "string"),
    "kinds.date": ("text", "string"),
    "kinds.bool": ("text", "string"),
}


@pytest.fixture(scope="module")
def kinds(postgres_server: PostgresServer) -> Shop:
    columns = ", ".join(f"c{place} {name}" for place, name in enumerate(TYPES))
    sql = f"""
        CREATE SCHEMA kinds;
        CREATE TYPE real_estate_kind AS ENUM ('house', 'land');
        CREATE TYPE integer_pair AS (a int, b int);
        CREATE DOMAIN whatever AS numeric(12,3);
        CREATE DOMAIN whatever_else AS whatever CHECK (value > 0);
        CREATE DOMAIN date_text AS varchar(10);
        CREATE TYPE kinds.date AS ENUM ('some day');
        CREATE DOMAIN kinds.bool AS text;
        CREATE TABLE t ({columns});
        GRANT SELECT ON t TO {READER};
    """
    return make_shop(postgres_server, "kinds", sql)


def test_kinds_and_arrow_types_are_those_of_what_a_type_rests_on(kinds: Shop) -> None:
    async def test(datasets: dict[str, PostgresDataset], _: Monitor) -> None:
        columns = datasets["t"].columns
        found = {name: (column.kind, column.arrow) for name, column in zip(TYPES, columns, strict=True)}
        assert found == TYPES

    run(kinds, test)
