"""How SQLite finds rows that are filtered and sorted: by indexes where it can, within bounds, interruptible."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
from contextlib import closing
from datetime import UTC, date, datetime, time
from pathlib import Path
from typing import Any

import pytest

from asgi_export.sources.sqlite import statement as statements
from asgi_export.sources.sqlite.cursor import SqliteCursor, open_read_only
from asgi_export.sources.sqlite.source import SqliteDataset
from asgi_export.sources.sqlite.statement import Question, Statement
from asgi_export.table import Filter, Operator, Selection, Sort
from tests.sources.test_sqlite import datasets, make
from tests.sources.test_sqlite_cursor import ENDLESS, MANY, Call, Looked

COLUMNS = "name TEXT, code VARCHAR(9), price DECIMAL(9,2), day DATE, at TIMESTAMP, clock TIME, key BLOB, n INT, free"
SHUFFLED = "n * 7919 % 10007"
ROWS = f"""INSERT INTO {{table}} SELECT {{key}}'name ' || ({SHUFFLED}), 'c' || (n % 10), {SHUFFLED} / 10.0,
 date('2020-01-01', '+' || ({SHUFFLED}) || ' days'), datetime('2020-01-01', '+' || ({SHUFFLED}) || ' hours'),
 time(({SHUFFLED}) * 8.64, 'unixepoch'), CAST({SHUFFLED} AS BLOB), {SHUFFLED}, NULL
 FROM ({MANY.format(rows=10_000)})"""


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Ten thousand rows whose order by any column is not that of the table."""
    path = tmp_path_factory.mktemp("plans") / "shop.db"
    names = [word.split()[0] for word in COLUMNS.replace("(9,2)", "").split(", ")]
    return make(
        path,
        f"CREATE TABLE t(id INTEGER PRIMARY KEY, {COLUMNS})",
        ROWS.format(table="t", key="n, "),
        f"CREATE TABLE k(k INTEGER, {COLUMNS}, PRIMARY KEY(k DESC)) WITHOUT ROWID",
        ROWS.format(table="k", key="n, "),
        "CREATE VIEW v AS SELECT * FROM t WHERE id > 0",
        *(f"CREATE INDEX {table}_{name} ON {table}({name})" for name in names for table in "tk"),
    )


def prepared(table: SqliteDataset, **asked: Any) -> tuple[Statement, list[str]]:
    """The statement and its plan."""
    with closing(open_read_only(table.path)) as connection:
        found = Question(table.relation, Selection(("name", "free"), **asked)).prepare(connection)
        plan = connection.execute(f"EXPLAIN QUERY PLAN {found.sql}", found.values).fetchall()
    return found, [step[3].replace(" main.", " ") for step in plan]


def rows(table: SqliteDataset, *columns: str, **asked: Any) -> list[Any]:
    with table.open(Selection(columns, **asked)) as batches:
        return [row for batch in batches for row in batch]


SELECTIVE: list[tuple[str, Operator, Any]] = [
    ("name", "exact", "name 5"),
    ("name", "in", ("name 5", "name 50")),
    ("name", "startswith", "name 99"),
    ("name", "gte", "name 998"),
    ("name", "lt", "name 10"),
    ("code", "exact", "5"),
    ("price", "exact", 5),
    ("price", "gt", 1000),
    ("n", "in", (1, 2, 2**53 + 1)),
    ("n", "lt", 2**70),
    ("day", "exact", date(2020, 5, 5)),
    ("day", "lte", date(2020, 5, 5)),
    ("at", "exact", datetime(2020, 5, 5, tzinfo=UTC)),
    ("at", "lt", datetime(2020, 1, 5, tzinfo=UTC)),
    ("clock", "exact", time(12, 30)),
    ("key", "exact", b"50"),
    ("free", "isnull", False),
]


@pytest.mark.parametrize(("column", "operator", "value"), SELECTIVE)
def test_an_index_finds_the_rows(shop: Path, column: str, operator: Operator, value: Any) -> None:
    found, plan = prepared(datasets(shop)["t"], filters=(Filter(column, operator, value),))
    assert any(f"INDEX t_{column} (" in step for step in plan), (found.sql, plan)


@pytest.mark.parametrize("table", ["v", "k"])
@pytest.mark.parametrize(
    ("column", "operator", "value"), [entry for entry in SELECTIVE if entry[1] in ("exact", "in")]
)
def test_an_index_finds_the_rows_of_a_view_and_of_a_table_without_rowids(
    shop: Path, table: str, column: str, operator: Operator, value: Any
) -> None:
    found, plan = prepared(datasets(shop)[table], filters=(Filter(column, operator, value),))
    assert any(f"INDEX {table.replace('v', 't')}_{column} (" in step for step in plan), (found.sql, plan)


@pytest.mark.parametrize("table", ["t", "k"])
@pytest.mark.parametrize(("column", "operator", "value"), SELECTIVE)
@pytest.mark.parametrize("limit", [None, 3])
def test_rows_that_an_index_finds_are_in_the_order_of_the_table(
    shop: Path, table: str, column: str, operator: Operator, value: Any, limit: int | None
) -> None:
    found = rows(datasets(shop)[table], "id" if table == "t" else "k", filters=(Filter(column, operator, value),))
    assert found == sorted(found, reverse=table == "k")
    limited = rows(
        datasets(shop)[table], "id" if table == "t" else "k", filters=(Filter(column, operator, value),), limit=limit
    )
    assert limited == found[:limit]


def test_equal_values_of_an_index_are_streamed_and_not_collected(shop: Path) -> None:
    found, plan = prepared(datasets(shop)["t"], filters=(Filter("code", "exact", "c5"),))
    assert found.steps is None
    assert plan == ["SEARCH t USING INDEX t_code (code=?)"]


def test_a_range_of_an_index_is_collected_as_rowids_not_as_rows(shop: Path) -> None:
    found, plan = prepared(datasets(shop)["t"], filters=(Filter("price", "lt", 3),))
    assert found.steps is not None
    assert [step for step in plan if "SUBQUERY" not in step] == [
        "SEARCH t USING INTEGER PRIMARY KEY (rowid=?)",
        "SEARCH t USING COVERING INDEX t_price (price<?)",
    ]


@pytest.mark.parametrize(
    ("column", "least", "most"),
    [
        ("n", 10, 20),
        ("price", 1, 2),
        ("name", "name 5", "name 6"),
        ("day", date(2020, 5, 5), date(2020, 5, 9)),
        ("at", datetime(2020, 5, 5, tzinfo=UTC), datetime(2020, 5, 6, tzinfo=UTC)),
        ("clock", time(12, 30), time(12, 31)),
    ],
)
def test_two_filters_bound_the_range_of_an_index_at_both_ends(shop: Path, column: str, least: Any, most: Any) -> None:
    """Of two upper ends SQLite takes the first, which may be one that bounds nothing."""
    filters = (Filter(column, "gte", least), Filter(column, "lt", most))
    found, plan = prepared(datasets(shop)["t"], filters=filters)
    assert any(f"INDEX t_{column} ({column}>? AND {column}<?)" in step for step in plan), plan
    assert (
        found.sql.count(f'"t"."{column}" COLLATE BINARY <')
        == found.sql.count(f'"t"."{column}" COLLATE BINARY >')
        == 1
    )


def test_a_filter_that_no_index_serves_scans_the_table_in_its_order(shop: Path) -> None:
    for found in (Filter("name", "contains", "9"), Filter("name", "not", "x"), Filter("name", "notin", ("x",))):
        _, plan = prepared(datasets(shop)["t"], filters=(found,))
        assert plan == ["SCAN t"]
    _, plan = prepared(datasets(shop)["t"], filters=(Filter("id", "in", (3, 1, 2)),))
    assert plan == ["SEARCH t USING INTEGER PRIMARY KEY (rowid=?)"]
    assert rows(datasets(shop)["t"], "id", filters=(Filter("id", "in", (3, 1, 2)),)) == [(1,), (2,), (3,)]


def test_an_index_that_finds_most_rows_is_given_up_for_a_scan(shop: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Collecting the rowids of a whole table takes longer than reading it."""
    monkeypatch.setattr(statements, "LEAST_STEPS", 1000)
    monkeypatch.setattr("asgi_export.sources.sqlite.cursor.STEPS_BETWEEN_LOOKS", 1000)
    executed: list[str] = []

    def prepare(connection: sqlite3.Connection) -> Statement:
        connection.set_trace_callback(executed.append)
        return Question(datasets(shop)["t"].relation, selection).prepare(connection)

    selection = Selection(("id",), filters=(Filter("price", "gte", 0),))
    with SqliteCursor(shop, prepare, width=1, small_cache=False, busy_timeout_seconds=5) as batches:
        found = [row for batch in batches for row in batch]
    assert found == [(number,) for number in range(1, 10_001)]
    assert " IN (SELECT" in executed[-2]
    assert "NOT INDEXED" in executed[-1]


@pytest.mark.parametrize("table", ["t", "v"])
@pytest.mark.parametrize(
    "sort", [Sort("name"), Sort("price", descending=True), Sort("day", descending=True), Sort("id")]
)
def test_a_sort_reads_few_rows_from_an_index(shop: Path, table: str, sort: Sort) -> None:
    _, plan = prepared(datasets(shop)[table], sort=(sort,), limit=5)
    assert not any("TEMP B-TREE FOR ORDER BY" in step for step in plan), plan


def test_a_filter_on_another_column_than_the_selected_ones_and_the_limit_0(shop: Path) -> None:
    for table in datasets(shop).values():
        asked = Filter("n", "exact", 7919)
        assert rows(table, "code", filters=(asked,)) == [("c1",)]
        assert rows(table, "code", filters=(asked,), limit=0) == []
        assert rows(table, "code", sort=(Sort("n"),), limit=0) == []


def test_an_export_without_filters_and_sort_has_the_statement_that_it_had(shop: Path) -> None:
    sql = {name: prepared(table)[0].sql for name, table in datasets(shop).items()}
    assert sql["t"] == 'SELECT "t"."name", "t"."free" FROM main."t" NOT INDEXED LIMIT ?1'
    assert sql["k"].startswith('SELECT "k"."name", "k"."free" FROM main."k" WHERE ?1 OR ?1 IN ("k"."k", ')


def test_generated_columns_and_columns_with_any_name_are_filtered_and_sorted(tmp_path: Path) -> None:
    make(
        tmp_path / "t.db",
        """CREATE TABLE "t""?1"(":v0" INTEGER, "a"" '" AS (":v0" * 2), stored AS (-":v0") STORED)""",
        """INSERT INTO "t""?1"(":v0") VALUES (1), (2), (3)""",
    )
    table = datasets(tmp_path / "t.db")['t"?1']
    assert rows(table, ":v0", filters=(Filter("a\" '", "gte", 4),), sort=(Sort("stored"),)) == [(3,), (2,)]


def test_a_virtual_table_is_filtered_without_its_own_idea_of_comparisons(tmp_path: Path) -> None:
    """An R*Tree compares with 32 bits, and a full-text table takes `=` for a search."""
    path = make(
        tmp_path / "t.db",
        "CREATE VIRTUAL TABLE tree USING rtree(id, low REAL, high REAL)",
        "INSERT INTO tree VALUES (1, 0.1, 0.2), (2, 0.5, 0.6)",
        "CREATE VIRTUAL TABLE words USING fts5(title, body)",
        "INSERT INTO words VALUES ('one', 'two three'), ('four', 'two')",
    )
    tree, words = (datasets(path)[name] for name in ("tree", "words"))
    ((low,), *_) = rows(tree, "low")
    assert rows(tree, "id", filters=(Filter("id", "gte", 2),)) == [(2,)]
    assert rows(tree, "low", filters=(Filter("low", "lte", low),)) == [(low,)]
    assert rows(words, "title", filters=(Filter("body", "exact", "two"),)) == [("four",)]
    assert rows(words, "title", sort=(Sort("title"),)) == [("four",), ("one",)]


def test_a_collation_that_is_not_there_is_not_needed(tmp_path: Path) -> None:
    with closing(sqlite3.connect(tmp_path / "t.db")) as connection, connection:
        connection.create_collation("german", lambda a, b: (a > b) - (a < b))
        connection.execute("CREATE TABLE t(id INTEGER PRIMARY KEY, name TEXT COLLATE german)")
        connection.execute("CREATE INDEX i ON t(name)")
        connection.execute("INSERT INTO t(name) VALUES ('b'), ('a')")
    table = datasets(tmp_path / "t.db")["t"]
    operators: tuple[Operator, ...] = ("exact", "gte", "startswith")
    for operator in operators:
        assert rows(table, "name", filters=(Filter("name", operator, "b"),)) == [("b",)]
    assert rows(table, "name", sort=(Sort("name", descending=True),)) == [("b",), ("a",)]


# Bounds


def test_more_values_than_sqlite_has_parameters_are_no_error(shop: Path) -> None:
    table = datasets(shop)["t"]
    numbers = tuple(range(1, 10_000, 10))
    filters = tuple([Filter("id", "in", numbers)] * 50 + [Filter("name", "notin", tuple(map(str, numbers)))])

    def prepare(connection: sqlite3.Connection) -> Statement:
        connection.setlimit(sqlite3.SQLITE_LIMIT_VARIABLE_NUMBER, 999)
        return Question(table.relation, Selection(("id",), filters=filters)).prepare(connection)

    with SqliteCursor(shop, prepare, width=1, small_cache=False, busy_timeout_seconds=5) as batches:
        assert [row[0] for batch in batches for row in batch] == list(numbers)


def test_a_filter_that_matches_nothing_ends_when_it_is_interrupted(tmp_path: Path) -> None:
    """The first batch may take hours; a function of Python is in the loop."""
    make(tmp_path / "t.db", ENDLESS.format(below=10**15))
    endless = datasets(tmp_path / "t.db")["endless"]
    for asked in (Filter("n", "lt", 0), Filter("n", "contains", "x")):
        cursor = endless.open(Selection(("n",), filters=(asked,)))
        expect_interruptible(cursor._cursor)


def test_a_sort_that_thinks_ends_when_it_is_interrupted(tmp_path: Path) -> None:
    make(tmp_path / "t.db", ENDLESS.format(below=10**15))
    cursor = datasets(tmp_path / "t.db")["endless"].open(Selection(("n",), sort=(Sort("n", descending=True),)))
    expect_interruptible(cursor._cursor)


def expect_interruptible(cursor: SqliteCursor) -> None:
    looked = cursor._interrupted = Looked()
    entering = Call(cursor.__enter__)
    assert looked.running.wait(10)
    cursor.interrupt()
    with pytest.raises(sqlite3.OperationalError, match="interrupted"):
        entering.result()
    cursor.__exit__(None, None, None)


FULL_DISK = """
import resource, signal, sys
from pathlib import Path
from asgi_export.errors import Unavailable
from asgi_export.table import Selection, Sort
from tests.sources.test_sqlite import datasets, read
table = datasets(Path(sys.argv[1]))["t"]
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, 1 << 20))
try:
    with table.open(Selection(("a", "b"), sort=(Sort("b"),))) as batches:
        print(len([row for batch in batches for row in batch]))
except Unavailable as error:
    print(error.__cause__.sqlite_errorname)
"""


def test_a_sort_for_which_the_disk_has_no_room_is_unavailable_and_leaves_no_file(tmp_path: Path) -> None:
    """Sorting needs memory for some megabytes of rows, and temporary files for the rest."""
    rows = MANY.format(rows=50_000)
    make(tmp_path / "t.db", "CREATE TABLE t(a, b)", f"INSERT INTO t SELECT n, hex(randomblob(100)) FROM ({rows})")
    folder = tmp_path / "temporary"
    folder.mkdir()
    program = [sys.executable, "-c", FULL_DISK, str(tmp_path / "t.db")]
    environment = {"SQLITE_TMPDIR": str(folder), "PYTHONPATH": ":".join(sys.path)}
    done = subprocess.run(program, capture_output=True, text=True, check=False, env=environment)
    assert done.stdout.strip() in ("SQLITE_FULL", "SQLITE_IOERR_WRITE"), done.stderr
    assert list(folder.iterdir()) == []
