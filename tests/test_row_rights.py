"""Two tenants of one table: each sees its rows, and nothing that it asks tells what others there are.

The rule that the tests hold every answer to: over the table of all tenants, a tenant with a right by row is answered
exactly as one who may read everything is over a table that never had other rows.
"""

from __future__ import annotations

import asyncio
import csv
import json
import sqlite3
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from asgi_export import AccessPlan, ApiKeys, Caller, Callers, Column, ExportApp, KeyFile, Selection, dataset
from asgi_export.access.plans import digest_of
from asgi_export.formats import FORMATS
from asgi_export.locations import open_location
from tests.doubles import Client
from tests.postgres_server import PostgresServer

PREFIX = "/api/v1/exports"
TYPES = {"id": "integer", "tenant": "integer", "note": "text", "total": "integer"}
NORTH, SOUTH = 1, 2
ROWS: list[tuple[Any, ...]] = [
    (1, NORTH, "north", 5),
    (2, SOUTH, "south", 7),
    (3, None, "nobody's", 5),
    (4, NORTH, None, None),
    (5, SOUTH, "a,b", None),
    (6, NORTH, "a,b", 7),
    (7, SOUTH, "north", 5),
    (8, NORTH, "", -3),
    (9, 11, "eleven", 5),
]
PLANS = {
    "own": AccessPlan("own", rows={"orders": {"tenant": "$tenant"}}),
    "narrow": AccessPlan(
        "narrow", rows={"orders": {"tenant": "$tenant"}}, columns={"orders": frozenset({"id", "note"})}
    ),
    "all": AccessPlan("all"),
    "some": AccessPlan("some", columns={"orders": frozenset({"id", "note"})}),
}


def rows_of(tenant: object) -> list[tuple[Any, ...]]:
    return [row for row in ROWS if row[1] == tenant]


Make = Callable[[Sequence[tuple[Any, ...]]], Any]


def function_of_selection(rows: Sequence[tuple[Any, ...]]) -> Any:
    @dataset(columns=[*TYPES.items()])
    async def orders(selection: Selection) -> AsyncIterator[Any]:
        for row in rows:
            yield tuple([dict(zip(TYPES, row, strict=True))[name] for name in selection.columns])

    return orders


def function(rows: Sequence[tuple[Any, ...]]) -> Any:
    @dataset(columns=[*TYPES.items()])
    def orders() -> Iterator[Any]:
        yield list(rows)

    return orders


def sqlite_file(path: Path, rows: Sequence[tuple[Any, ...]]) -> Any:
    with sqlite3.connect(path) as database:
        database.execute(f"CREATE TABLE orders ({', '.join(f'{name} {kind}' for name, kind in TYPES.items())})")
        database.executemany("INSERT INTO orders VALUES (?, ?, ?, ?)", rows)
    database.close()
    return open_location(str(path))


def csv_file(path: Path, rows: Sequence[tuple[Any, ...]]) -> Any:
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([tuple(TYPES), *rows])
    return open_location(f"orders={path}")


def parquet_file(path: Path, rows: Sequence[tuple[Any, ...]]) -> Any:
    types = [pa.string() if kind == "text" else pa.int32() for kind in TYPES.values()]
    columns = [pa.array(values, kind) for values, kind in zip(zip(*rows, strict=True), types, strict=True)]
    pq.write_table(pa.table(columns, names=list(TYPES)), path, row_group_size=2)
    return open_location(f"orders={path}")


def postgres_table(server: PostgresServer, name: str, rows: Sequence[tuple[Any, ...]]) -> Any:
    def literal(value: object) -> str:
        return "NULL" if value is None else f"'{str(value).replace(chr(39), 2 * chr(39))}'"

    values = ", ".join(f"({', '.join(map(literal, row))})" for row in rows)
    columns = ", ".join(f"{name} {kind}" for name, kind in TYPES.items())
    server.make_database(name, f"CREATE TABLE orders ({columns}); INSERT INTO orders VALUES {values}")
    return open_location(server.dsn(name))


@dataclass(slots=True)
class Service:
    """One kind of source: with all rows, and with those of each tenant, each application opened on one loop."""

    runner: asyncio.Runner
    all_rows: ExportApp
    own_rows: Mapping[int, ExportApp]

    def ask(self, app: ExportApp, claims: Mapping[str, object], plan: str, path: str, **scope: Any) -> Client:
        async def identify(scope: Any) -> Caller:
            return Caller("somebody", plan, claims)

        client = Client()
        self.runner.run(client.ask(Callers(app, identify, PLANS), path=f"{PREFIX}/{path}", **scope))
        return client


KINDS = ["function_of_selection", "function", "sqlite", "csv", "parquet", "postgres"]


@pytest.fixture(scope="module", params=KINDS)
def service(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    folder = tmp_path_factory.mktemp("tenants")

    def make(name: str, rows: Sequence[tuple[Any, ...]]) -> ExportApp:
        if request.param == "postgres":
            server = request.getfixturevalue("postgres_server")
            return ExportApp([postgres_table(server, f"tenants_{name}", rows)])
        if request.param.startswith("function"):
            return ExportApp([globals()[request.param](rows)])
        suffix = {"sqlite": "db"}.get(request.param, request.param)
        return ExportApp([globals()[f"{request.param}_file"](folder / f"{name}.{suffix}", rows)])

    with asyncio.Runner() as runner:
        apps = {tenant: make(f"of_{tenant}", rows_of(tenant)) for tenant in (NORTH, SOUTH)}
        found = Service(runner, make("all", ROWS), apps)
        yield found
        for app in (found.all_rows, *apps.values()):
            runner.run(app.stop())


def seen(client: Client) -> tuple[Any, ...]:
    """What a client sees of an answer, but for the name of the request."""
    body: Any = client.body
    if client.headers[b"content-type"] == b"application/problem+json":
        body = {**json.loads(body), "request_id": ""}
    head = {name: value for name, value in client.headers.items() if name != b"x-request-id"}
    return client.status, head, body


NAMES = [f"{column}__{operator}" for column in TYPES for operator in ("exact", "not", "gt", "lte", "in", "notin")]
NAMES += [f"{column}__{operator}" for column in TYPES for operator in ("isnull", "contains", "startswith")]
VALUES = st.sampled_from(
    ["1", "2", "11", "1,2", "[1,2]", "[]", "true", "false", "north", "south", "", "o", "$tenant", "5", "-3", "x" * 99]
)
PARAMETERS: Mapping[str, st.SearchStrategy[str]] = {
    "columns": st.sampled_from(["", "id", "note,id", "tenant", "id,tenant,total", "nope", "id,id"]),
    "total": st.sampled_from(["0", "1", "2", "3", "100"]),
    "sort": st.sampled_from(["id", "-id", "tenant,id", "-note,id", "nope"]),
    "null": st.just("-"),
    "header": st.just("false"),
    "tenant": st.just("2"),
    "claims": st.just("2"),
    "rows": st.just("all"),
}
QUESTIONS = st.tuples(
    st.lists(st.tuples(st.sampled_from([*NAMES, "nope__exact", "tenant__", "__"]), VALUES), max_size=3),
    st.fixed_dictionaries({}, optional=PARAMETERS),
)
FORMS = st.sampled_from(["csv", "csv", "ndjson"])


@settings(max_examples=60)
@given(QUESTIONS, FORMS, st.sampled_from([NORTH, SOUTH]), st.sampled_from(["own", "narrow"]))
def test_no_question_tells_a_tenant_that_there_are_others(
    service: Service, question: Any, form: str, tenant: int, plan: str
) -> None:
    filters, others = question
    query = urlencode([*filters, *others.items()])
    narrowed = service.ask(service.all_rows, {"tenant": tenant}, plan, f"orders.{form}", query=query)
    alone = service.ask(
        service.own_rows[tenant], {}, {"own": "all", "narrow": "some"}[plan], f"orders.{form}", query=query
    )
    assert narrowed.status < 500
    assert seen(narrowed) == seen(alone)


@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_every_format_and_method_is_narrowed(service: Service, form: str, method: str) -> None:
    for tenant in NORTH, SOUTH:
        narrowed = service.ask(service.all_rows, {"tenant": tenant}, "own", form, method=method)
        alone = service.ask(service.own_rows[tenant], {}, "all", form, method=method)
        assert narrowed.status == 200
        assert seen(narrowed) == seen(alone)


def ids(client: Client) -> list[int]:
    assert client.status == 200, client.body
    return [int(json.loads(line)["id"]) for line in client.body.splitlines()]


NOBODY: list[object] = [[], "", None, "x", 3, 1.5, True, {"a": 1}, 2**80]
"""Claims that are empty, of another kind, or nobody's."""


@pytest.mark.parametrize(
    ("claims", "found"),
    [
        ({"tenant": NORTH}, [1, 4, 6, 8]),
        ({"tenant": str(SOUTH)}, [2, 5, 7]),
        ({"tenant": [SOUTH, "11"]}, [2, 5, 7, 9]),
        ({"tenant": 2.0}, [2, 5, 7]),
        *[({"tenant": claim}, []) for claim in NOBODY],
        ({}, []),
        ({"Tenant": NORTH}, []),
    ],
)
@pytest.mark.parametrize("plan", ["own", "narrow"])
def test_a_claim_says_whose_rows_they_are(
    service: Service, claims: dict[str, object], found: list[int], plan: str
) -> None:
    """Also where the tenant's column itself may not be read."""
    assert ids(service.ask(service.all_rows, claims, plan, "orders.ndjson")) == found


def test_rows_without_rights_are_all(service: Service) -> None:
    assert len(ids(service.ask(service.all_rows, {"tenant": NORTH}, "all", "orders.ndjson"))) == len(ROWS)


def test_a_right_counts_not_as_a_filter_of_the_request() -> None:
    app = ExportApp([function(ROWS)], max_filters=1)
    with asyncio.Runner() as runner:
        service = Service(runner, app, {})
        assert ids(service.ask(app, {"tenant": NORTH}, "own", "orders.ndjson", query="id__gt=4")) == [6, 8]
        refused = service.ask(app, {"tenant": NORTH}, "own", "orders.ndjson", query="id__gt=4&id__gt=5")
    assert json.loads(refused.body)["detail"] == "2 filters: expected at most 1"


def test_a_function_sees_the_rights_among_its_filters() -> None:
    """So one that applies filters itself has to apply nothing else."""
    asked: list[Selection] = []

    @dataset(columns=[Column("id", "integer"), Column("tenant", "integer")])
    def orders(selection: Selection) -> Iterator[Any]:
        asked.append(selection)
        yield from ()

    with asyncio.Runner() as runner:
        service = Service(runner, ExportApp([orders]), {})
        service.ask(service.all_rows, {"tenant": NORTH}, "own", "orders.csv", query="id__gt=4")
    (selection,) = asked
    assert [(found.column, found.operator, found.value) for found in selection.filters] == [
        ("tenant", "exact", 1),
        ("id", "gt", 4),
    ]


def test_a_column_that_a_migration_takes_away_closes_the_dataset(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """For HEAD as well, and at the first export that meets it."""
    path = tmp_path / "shop.db"
    app = ExportApp([sqlite_file(path, ROWS)])
    with asyncio.Runner() as runner:
        service = Service(runner, app, {})
        assert ids(service.ask(app, {"tenant": NORTH}, "own", "orders.ndjson")) == [1, 4, 6, 8]
        with sqlite3.connect(path) as database:
            database.execute("ALTER TABLE orders RENAME COLUMN tenant TO customer")
        database.close()
        for method in "GET", "HEAD":
            refused = service.ask(app, {"tenant": NORTH}, "own", "orders.ndjson", method=method)
            assert refused.status == 403
            assert b"tenant" not in refused.body
        runner.run(app.stop())
    assert "plan own: rows of orders: there is no column 'tenant'" in caplog.text


def test_a_key_file_gives_rows_by_claims(tmp_path: Path) -> None:
    (tmp_path / "keys.toml").write_text(
        "\n".join(
            [
                '[plans.own]\nrows = { orders = { tenant = "$tenant", total = [5, 7] } }',
                f'[keys.ann]\nsha256 = "{digest_of("ann").hex()}"\nplan = "own"\nclaims = {{ tenant = 1 }}',
                f'[keys.bob]\nsha256 = "{digest_of("bob").hex()}"\nplan = "own"\nclaims = {{ tenant = [2, 11] }}',
                f'[keys.eve]\nsha256 = "{digest_of("eve").hex()}"\nplan = "own"',
            ]
        )
    )
    app = ApiKeys(ExportApp([function(ROWS)]), keys=KeyFile(tmp_path / "keys.toml"))
    for key, found in ("ann", [1, 6]), ("bob", [2, 7, 9]), ("eve", []):
        client = Client()
        asyncio.run(client.ask(app, path=f"{PREFIX}/orders.ndjson", headers=[(b"x-api-key", key.encode())]))
        assert ids(client) == found


ODD = {
    "uuid": ("uuid", "'c0ffee00-0000-4000-8000-000000000001'"),
    "jsonb": ("jsonb", "'{}'"),
    "list": ("int[]", "'{1}'"),
    "zoned": ("timetz", "'13:45+01'"),
    "address": ("inet", "'10.0.0.1'"),
    "bytes": ("bytea", "'x'"),
    "small": ("smallint", "7"),
    "price": ("numeric(5,2)", "7.00"),
    "single": ("real", "0.1"),
    "day": ("date", "'2026-01-31'"),
    "moment": ("timestamptz", "'2026-01-31 13:45+01'"),
    "flag": ("boolean", "'true'"),
}
FITS: dict[str, list[object]] = {
    "uuid": ["c0ffee00-0000-4000-8000-000000000001"],
    "address": ["10.0.0.1"],
    "small": [7, "7", 7.0, [2**80, 7]],
    "price": [7, "7.000", [1, 7.0]],
    "single": [0.1, "0.1"],
    "day": ["2026-01-31"],
    "moment": ["2026-01-31T12:45:00Z"],
    "flag": [True, "true"],
}
MISFITS: list[object] = ["x", "a\0b", "9999-12-31", -(2**70), 1e300, [], {}, ["\0"], "{ }", "10.0.0.01", "$tenant"]


@pytest.fixture(scope="module", params=["sqlite", "postgres"])
def odd(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """One row of a table with columns of many types."""
    columns = ", ".join([f"{name} {kind}" for name, (kind, _) in ODD.items()])
    sql = f"CREATE TABLE orders (id integer, {columns})"
    row = f"INSERT INTO orders VALUES (1, {', '.join([value for _, value in ODD.values()])})"
    if request.param == "postgres":
        server = request.getfixturevalue("postgres_server")
        server.make_database("tenants_odd", f"{sql}; {row}")
        place = server.dsn("tenants_odd")
    else:
        place = str(tmp_path_factory.mktemp("odd") / "shop.db")
        with sqlite3.connect(place) as database:
            database.execute(sql)
            database.execute(row)
        database.close()
    with asyncio.Runner() as runner:
        app = ExportApp([open_location(place)])
        yield Service(runner, app, {})
        runner.run(app.stop())


@pytest.mark.parametrize("form", ["csv", "ndjson"])
@pytest.mark.parametrize("column", ODD)
def test_a_claim_that_no_value_of_a_column_equals_is_nobody_s(odd: Service, column: str, form: str) -> None:
    """Whatever the type of the column is, and whatever the database thinks of the value."""

    def rows(claim: object) -> int:
        PLANS["odd"] = AccessPlan("odd", rows={"orders": {column: "$claim"}})
        answer = odd.ask(odd.all_rows, {"claim": claim}, "odd", f"orders.{form}", query="columns=id&header=false")
        assert answer.status == 200, (claim, answer.body)
        return len(answer.body.splitlines())

    assert [claim for claim in MISFITS if rows(claim)] == []
    assert [claim for claim in FITS.get(column, []) if not rows(claim)] == []


def test_a_caller_may_have_thousands_of_tenants(service: Service) -> None:
    for claims in list(range(2, 10_002)), [str(number) for number in range(10_001, 1, -1)]:
        assert ids(service.ask(service.all_rows, {"tenant": claims}, "own", "orders.ndjson")) == [2, 5, 7, 9]
