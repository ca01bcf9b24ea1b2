"""What a PostgreSQL source lists, refuses and reads."""

from __future__ import annotations

import asyncio
import csv
import io
import os
import subprocess
import sys

import pytest

from asgi_export.errors import SourceFailed, StartupError, Unavailable
from asgi_export.sources.postgres.dsn import database_of, place_of
from asgi_export.sources.postgres.source import PostgresDataset, PostgresSource
from asgi_export.sources.postgres.statement import copy_can_write
from asgi_export.table import Dialect, Selection
from tests.postgres_server import PASSWORD
from tests.sources.postgres_shop import (
    DATABASE,
    NASTY_COLUMNS,
    NASTY_NAME,
    ORDERS,
    Monitor,
    Shop,
    batches,
    rows,
    run,
    text,
)

Datasets = dict[str, PostgresDataset]

COPIED = [
    Dialect(),
    Dialect(delimiter=";"),
    Dialect(delimiter="\t"),
    Dialect(delimiter="|", null="NULL"),
    Dialect(delimiter="'"),
    Dialect(delimiter="x"),
    Dialect(null="\\N"),
    Dialect(null="∅ 'none'"),
    Dialect(header=False, bom=True),
]

WRITTEN = [
    Dialect(newline="\r\n"),
    Dialect(quote="all"),
    Dialect(quote="all", null="NULL", newline="\r\n", delimiter=";"),
    Dialect(escape_formulas=True),
    Dialect(delimiter="·"),
    Dialect(null="n,a"),
    Dialect(null='"'),
    Dialect(null="a\nb"),
]


def columns(dataset: PostgresDataset) -> list[tuple[str, str]]:
    return [(column.name, column.type) for column in dataset.columns]


def read(written: bytes, dialect: Dialect) -> list[list[str]]:
    reader = csv.reader(io.StringIO(written.decode(), newline=""), delimiter=dialect.delimiter, strict=True)
    return list(reader)


def test_lists_every_kind_of_relation_public_first_then_by_schema_and_name(shop: Shop) -> None:
    async def test(datasets: Datasets, _: Monitor) -> None:
        assert list(datasets) == [
            *("Open.staff", "asleep", "breaking", "broken", "dear", "dozing", "empty", "events", "events_2023"),
            *("events_2024", "imported", "many", "nasty", "notes", "orders", "totals"),
            f"Lager Süd.{NASTY_NAME}",
        ]

    run(shop, test)


def test_names_types_as_the_server_does(shop: Shop) -> None:
    async def test(datasets: Datasets, _: Monitor) -> None:
        assert columns(datasets["orders"]) == [
            ("id", "bigint"),
            ("item", "text"),
            ("price", "numeric(12,2)"),
            ("paid", "boolean"),
            ("at", "timestamp with time zone"),
        ]
        assert datasets["orders"].default_limit is None

    run(shop, test)


def test_a_name_that_two_tables_come_to_is_the_public_one_s_and_the_other_is_warned_of(
    shop: Shop, caplog: pytest.LogCaptureFixture
) -> None:
    async def test(datasets: Datasets, _: Monitor) -> None:
        assert columns(datasets["Open.staff"]) == [("mine", "integer")]

    run(shop, test)
    assert '"Open"."staff" is left out' in caplog.text


def test_leaves_out_columns_and_tables_that_the_role_may_not_read(shop: Shop) -> None:
    async def main() -> None:
        shop.execute('DROP TABLE public."Open.staff"')
        try:
            async with shop.datasets() as datasets:
                assert columns(datasets["Open.staff"]) == [("id", "integer"), ("name", "text")]
                assert await text(datasets["Open.staff"], Dialect()) == b"1,Ann\n"
                assert not {"closed.door", "Open.secrets"} & set(datasets)
        finally:
            sql = 'CREATE TABLE public."Open.staff" (mine int); GRANT SELECT ON public."Open.staff" TO reader'
            shop.execute(sql)

    asyncio.run(main())


@pytest.mark.parametrize("dialect", [Dialect(), Dialect(quote="all"), None], ids=["copy", "text", "values"])
def test_quotes_names_of_tables_and_columns_whatever_they_hold(shop: Shop, dialect: Dialect | None) -> None:
    async def test(datasets: Datasets, _: Monitor) -> None:
        dataset = datasets[f"Lager Süd.{NASTY_NAME}"]
        assert tuple(column.name for column in dataset.columns) == NASTY_COLUMNS
        backwards = tuple(reversed(NASTY_COLUMNS))
        if dialect is None:
            assert await rows(dataset, columns=backwards) == [(5, 4, 3, 2, 1)]
        else:
            assert read(await text(dataset, dialect, columns=backwards), dialect) == [list("54321")]

    run(shop, test)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("dear", b"994,1491.00\n"),
        ("totals", b"false,375000.00\n"),
        ("events", b"1,2023-05-05\n2,2024-05-05\n"),
        ("events_2024", b"2,2024-05-05\n"),
        ("imported", b"1,one\n2,two\n"),
        ("orders", b"1,item 1,1.50,false,2024-01-01 00:00:01+00\n2,item 2,3.00,true,2024-01-01 00:00:02+00\n"),
    ],
)
def test_reads_every_kind_of_relation(shop: Shop, name: str, expected: bytes) -> None:
    async def test(datasets: Datasets, _: Monitor) -> None:
        assert (await text(datasets[name], Dialect())).startswith(expected)

    run(shop, test)


def test_copy_gives_the_bytes_that_psql_gives(shop: Shop) -> None:
    async def test(datasets: Datasets, _: Monitor) -> None:
        for name in ("nasty", "many", "imported"):
            copied = shop.server.text(f"COPY (SELECT * FROM {name}) TO STDOUT (FORMAT csv)", DATABASE)
            assert await text(datasets[name], Dialect()) == copied

    run(shop, test)


def test_text_batches_are_whole_lines(shop: Shop) -> None:
    async def test(datasets: Datasets, _: Monitor) -> None:
        texts = await batches(datasets["many"], dialect=Dialect())
        assert len(texts) > 2
        assert all(isinstance(batch, bytes) and batch.endswith(b"\n") for batch in texts)

    run(shop, test)


@pytest.mark.parametrize("dialect", COPIED + WRITTEN, ids=repr)
def test_every_dialect_reads_back_to_the_same_table(shop: Shop, dialect: Dialect) -> None:
    def expected(value: str | None) -> str:
        if value is None:
            return dialect.null
        escaped = dialect.escape_formulas and value[:1] in ("=", "-", "\t") and value != "-5"
        return f"'{value}" if escaped else value

    async def test(datasets: Datasets, _: Monitor) -> None:
        values = await rows(datasets["nasty"])
        written = await text(datasets["nasty"], dialect)
        assert read(written, dialect) == [[str(number), expected(value)] for number, value in values]
        line = f"13{dialect.delimiter}naïve 東京 🙂{dialect.newline}".encode()
        assert (line in written) is (dialect.quote == "minimal")

    run(shop, test)


def test_copy_writes_the_dialects_that_it_knows_and_rows_carry_the_others(shop: Shop) -> None:
    assert [copy_can_write(dialect) for dialect in COPIED] == [True] * len(COPIED)
    assert [copy_can_write(dialect) for dialect in WRITTEN] == [False] * len(WRITTEN)

    async def test(datasets: Datasets, _: Monitor) -> None:
        assert {type(batch) for batch in await batches(datasets["orders"], dialect=COPIED[1])} == {bytes}
        assert {type(batch) for batch in await batches(datasets["orders"], dialect=WRITTEN[0])} == {list}

    run(shop, test)


@pytest.mark.parametrize("dialect", [Dialect(), Dialect(newline="\r\n"), Dialect(null="-")], ids=repr)
def test_a_row_of_one_null_or_empty_field_is_not_an_empty_line(shop: Shop, dialect: Dialect) -> None:
    async def test(datasets: Datasets, _: Monitor) -> None:
        fields = read(await text(datasets["notes"], dialect), dialect)
        assert fields == [["x"], [dialect.null], [""], ["\\."], ['"'], ["a\nb"]]

    run(shop, test)


@pytest.mark.parametrize("dialect", [Dialect(), Dialect(quote="all"), None], ids=["copy", "text", "values"])
@pytest.mark.parametrize(("limit", "count"), [(0, 0), (1, 1), (7, 7), (None, ORDERS), (2**80, ORDERS)])
def test_a_limit_is_kept(shop: Shop, dialect: Dialect | None, limit: int | None, count: int) -> None:
    async def test(datasets: Datasets, _: Monitor) -> None:
        dataset = datasets["orders"]
        if dialect is None:
            assert len(await rows(dataset, limit=limit)) == count
        else:
            assert len((await text(dataset, dialect, limit=limit)).splitlines()) == count

    run(shop, test)


@pytest.mark.parametrize("dialect", [Dialect(), Dialect(quote="all"), None], ids=["copy", "text", "values"])
def test_an_empty_table_has_no_batch(shop: Shop, dialect: Dialect | None) -> None:
    async def test(datasets: Datasets, _: Monitor) -> None:
        assert await batches(datasets["empty"], dialect=dialect) == []

    run(shop, test)


@pytest.mark.parametrize("dialect", [Dialect(), Dialect(quote="all"), None], ids=["copy", "text", "values"])
def test_a_query_that_the_server_refuses_is_our_fault_and_the_connection_is_good_again(
    shop: Shop, dialect: Dialect | None
) -> None:
    async def test(datasets: Datasets, monitor: Monitor) -> None:
        with pytest.raises(SourceFailed, match=r"^broken: .*\(DivisionByZeroError\)$"):
            await batches(datasets["broken"], dialect=dialect)
        assert await monitor.states() == ["idle"]
        assert await rows(datasets["orders"], limit=1, columns=["id"]) == [(1,)]

    run(shop, test, max_connections=1)


def test_exports_are_read_only_and_bounded(shop: Shop) -> None:
    names = ("transaction_read_only", "statement_timeout", "lock_timeout", "application_name")
    shop.execute("CREATE VIEW settings AS SELECT name, setting FROM pg_settings; GRANT SELECT ON settings TO reader")

    async def test(datasets: Datasets, _: Monitor) -> None:
        for dialect in (Dialect(quote="all"), None):
            settings = dict(await rows(datasets["settings"], dialect=dialect))
            assert [settings[name] for name in names] == ["on", "7000", "500", "asgi_export"]

    try:
        run(shop, test, statement_seconds=7, wait_seconds=0.5)
    finally:
        shop.execute("DROP VIEW settings")


def test_a_statement_past_its_bound_is_unavailable(shop: Shop) -> None:
    async def test(datasets: Datasets, monitor: Monitor) -> None:
        with pytest.raises(Unavailable, match="QueryCanceledError"):
            await batches(datasets["asleep"], dialect=Dialect())
        assert await monitor.states() == ["idle"]

    run(shop, test, statement_seconds=0.2)


def test_a_table_that_is_locked_is_unavailable_after_the_bound(shop: Shop) -> None:
    async def test(datasets: Datasets, monitor: Monitor) -> None:
        async with monitor.connection.transaction():
            await monitor.connection.execute("LOCK TABLE empty IN ACCESS EXCLUSIVE MODE")
            with pytest.raises(Unavailable, match="LockNotAvailableError"):
                await batches(datasets["empty"], dialect=Dialect())

    run(shop, test, wait_seconds=0.2)


@pytest.mark.parametrize(
    ("user", "password", "database", "reason"),
    [
        ("reader", "wr0ng/secret", DATABASE, 'password authentication failed for user "reader"'),
        ("nobody", PASSWORD, DATABASE, 'password authentication failed for user "nobody"'),
        ("reader", PASSWORD, "nowhere", 'database "nowhere" does not exist'),
        ("reader", PASSWORD, "template1", "holds no table or view that the role may read"),
    ],
)
def test_a_refused_start_is_one_line_without_the_password(
    shop: Shop, user: str, password: str, database: str, reason: str
) -> None:
    source = PostgresSource(shop.server.dsn(database, user=user, password=password))
    with pytest.raises(StartupError) as refused:
        asyncio.run(source.start())
    assert reason in refused.value.detail
    assert refused.value.detail.startswith(f"postgresql://127.0.0.1:{shop.server.port}/")
    assert "\n" not in refused.value.detail
    assert "secret" not in refused.value.detail
    assert "s3cret" not in f"{refused.value.detail} {source.name} {source!r}"


@pytest.mark.parametrize(
    ("dsn", "place", "reason"),
    [
        ("postgresql://u:s3cret@127.0.0.1:1/db", "postgresql://127.0.0.1:1/db", "cannot be reached"),
        ("postgresql://u:s3/cret@127.0.0.1:1/db", "postgresql", "percent-encoded"),
        ("postgresql://u:s3#cret@127.0.0.1:1/db", "postgresql", "percent-encoded"),
        ("postgresql://u:s3[cret@127.0.0.1:1/db", "postgresql", "percent-encoded"),
        ("postgresql://127.0.0.1:1/db?user=u&password=s3cret", "postgresql://127.0.0.1:1/db", "cannot be reached"),
        ("host=127.0.0.1 password=s3cret", "postgresql", "percent-encoded"),
        ("postgresql://u:s3cret@nowhere.invalid/db", "postgresql://nowhere.invalid/db", "cannot be reached"),
    ],
)
def test_a_location_that_cannot_be_used_is_one_line_without_the_password(dsn: str, place: str, reason: str) -> None:
    with pytest.raises(StartupError) as refused:
        asyncio.run(PostgresSource(dsn).start())
    assert refused.value.detail.startswith(f"{place}: ")
    assert reason in refused.value.detail
    assert "\n" not in refused.value.detail
    assert "cret" not in refused.value.detail


def test_a_server_that_accepts_and_says_nothing_is_given_up_after_the_bound() -> None:
    async def main() -> None:
        hung_up = asyncio.Event()

        async def say_nothing(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.read()
            writer.close()
            await writer.wait_closed()
            hung_up.set()

        async with await asyncio.start_server(say_nothing, "127.0.0.1") as server:
            port = server.sockets[0].getsockname()[1]
            with pytest.raises(StartupError, match="does not answer in time"):
                await PostgresSource(f"postgresql://u:p@127.0.0.1:{port}/db", connect_seconds=0.2).start()
            await hung_up.wait()

    asyncio.run(main())


def test_a_missing_driver_is_named_with_what_to_install() -> None:
    program = """
import asyncio, sys
sys.modules["asyncpg"] = None
from asgi_export.sources.postgres.source import PostgresSource
from asgi_export.errors import StartupError
try:
    asyncio.run(PostgresSource("postgresql://127.0.0.1/db").start())
except StartupError as error:
    print(error)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, env=os.environ)
    assert done.stdout == "PostgreSQL needs asyncpg: pip install 'asgi-export[postgres]'\n"


def test_check_asks_the_server_and_close_may_come_twice(shop: Shop) -> None:
    async def main() -> None:
        source = shop.source(max_connections=1, wait_seconds=0.2)
        dataset = (await source.start())[0]
        await source.check()
        async with dataset.open(Selection(("mine",))):
            await source.check()
        await source.close()
        await source.close()
        with pytest.raises(Unavailable):
            await source.check()
        with pytest.raises(Unavailable):
            await batches(dataset)

    asyncio.run(main())


@pytest.mark.parametrize(
    ("dsn", "place", "database"),
    [
        ("postgresql://u:p@db:5432/shop", "postgresql://db:5432/shop", "shop"),
        ("postgres://db1:1,db2:2/shop", "postgres://db1:1,db2:2/shop", "shop"),
        ("postgresql://[::1]:5432/shop", "postgresql://[::1]:5432/shop", "shop"),
        ("postgresql:///shop?host=/run", "postgresql:///shop", "shop"),
        ("postgresql://db", "postgresql://db", "postgresql"),
        ("postgresql://u:a?b@db/shop", "postgresql", "postgresql"),
        ("postgresql://u:secret/shop", "postgresql", "postgresql"),
        ("postgresql://db/Shop%20f%C3%BCr%20alle", "postgresql://db/Shop%20f%C3%BCr%20alle", "Shop für alle"),
        ("", "postgresql", "postgresql"),
    ],
)
def test_a_place_is_named_by_host_and_database(dsn: str, place: str, database: str) -> None:
    assert place_of(dsn) == place
    assert database_of(dsn) == database
