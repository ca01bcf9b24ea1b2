"""One export of a SQLite file: its snapshot, its batches, how it is stopped and what it leaves."""

from __future__ import annotations

import shutil
import sqlite3
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from itertools import islice
from pathlib import Path
from sys import getsizeof
from typing import Any

import pytest

from asgi_export.errors import SourceFailed, Unavailable, ViewFailed
from asgi_export.sources.sqlite.cursor import (
    LARGE_ROW_BYTES,
    MOST_BYTES,
    SLICE_ROWS,
    SqliteCursor,
    open_read_only,
    patiently,
)
from asgi_export.sources.sqlite.statement import Statement
from asgi_export.table import Selection
from tests.sources.test_sqlite import datasets, make, read

ENDLESS = """CREATE VIEW endless AS
WITH RECURSIVE c(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM c) SELECT n FROM c WHERE n < {below}"""
MANY = "WITH RECURSIVE c(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM c LIMIT {rows}) SELECT n FROM c"

WRITER = """
import sqlite3, sys
connection = sqlite3.connect(sys.argv[1], isolation_level=None, timeout=20)
connection.execute("PRAGMA synchronous=OFF")
for generation in range(1, 10**9):
    connection.execute("BEGIN IMMEDIATE")
    connection.execute("UPDATE t SET generation = ?", (generation,))
    connection.execute("INSERT INTO t SELECT max(id) + 1, ? FROM t", (generation,))
    connection.execute("COMMIT")
    print(generation, flush=True)
"""


@pytest.fixture
def db(tmp_path: Path) -> Path:
    return tmp_path / "shop.db"


def cursor(path: Path, sql: str, *, width: int = 1, **options: Any) -> SqliteCursor:
    """A cursor whose clock stands still, so that a slow machine does not change the size of a batch."""
    settings: dict[str, Any] = {"small_cache": True, "busy_timeout_seconds": 5, "clock": lambda: 0.0}
    return SqliteCursor(path, lambda _: Statement(sql, ()), width=width, **{**settings, **options})


class Call(threading.Thread):
    """A call in a thread of its own: `result()` waits for it, and raises what it raised."""

    def __init__(self, call: Callable[[], Any]) -> None:
        super().__init__(daemon=True)
        self._call = call
        self._value: Any = None
        self._error: BaseException | None = None
        self.start()

    def run(self) -> None:
        try:
            self._value = self._call()
        except BaseException as error:
            self._error = error

    def result(self) -> Any:
        self.join(10)
        assert not self.is_alive(), "the call goes on"
        if self._error is not None:
            raise self._error
        return self._value


class Looked(threading.Event):
    """An event that tells when it was looked at for the second time: by a statement that runs."""

    def __init__(self) -> None:
        super().__init__()
        self.looks = 0
        self.running = threading.Event()

    def is_set(self) -> bool:
        self.looks += 1
        if self.looks > 1:
            self.running.set()
        return super().is_set()


@contextmanager
def writing(path: Path) -> Iterator[Iterator[str]]:
    """Another process that commits until the end of the block; gives a line after each commit."""
    with subprocess.Popen([sys.executable, "-c", WRITER, str(path)], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            yield process.stdout
        finally:
            process.kill()


@contextmanager
def locked(path: Path) -> Iterator[None]:
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("BEGIN EXCLUSIVE")
        yield


def lock_is_free(path: Path) -> bool:
    with closing(sqlite3.connect(path, isolation_level=None, timeout=0)) as connection:
        try:
            connection.execute("BEGIN EXCLUSIVE")
        except sqlite3.OperationalError:
            return False
        return True


# The snapshot


def test_an_export_sees_one_state_while_another_process_commits(db: Path) -> None:
    make(db, "PRAGMA journal_mode=WAL", "CREATE TABLE t(id INTEGER PRIMARY KEY, generation)")
    make(db, f"INSERT INTO t SELECT n, 0 FROM ({MANY.format(rows=5000)})")
    table = datasets(db)["t"]
    with writing(db) as commits:
        next(commits)
        with table.open(Selection(("id", "generation"))) as batches:
            rows = list(next(batches))
            for batch in batches:
                rows += batch
                assert len(list(islice(commits, 2))) == 2
        assert next(commits)
    assert len({generation for _, generation in rows}) == 1
    assert [number for number, _ in rows] == list(range(1, 5001 + rows[0][1]))
    assert len(read(table)) > len(rows)


def test_an_export_goes_on_in_the_file_it_opened_when_that_is_replaced(db: Path, tmp_path: Path) -> None:
    make(db, "CREATE TABLE t(a)", f"INSERT INTO t {MANY.format(rows=50_000)}")
    new = make(tmp_path / "new.db", "CREATE TABLE t(a)", "INSERT INTO t VALUES ('new')")
    table = datasets(db)["t"]
    with table.open(Selection(("a",))) as batches:
        rows = list(next(batches))
        new.replace(db)
        rows += [row for batch in batches for row in batch]
    assert [value for (value,) in rows] == list(range(1, 50_001))
    assert read(table) == [("new",)]


def test_a_writers_lock_that_lasts_fails_the_export_before_its_first_batch(db: Path) -> None:
    make(db, "CREATE TABLE t(a)")
    table = datasets(db, busy_timeout_seconds=0.02)["t"]
    with locked(db), pytest.raises(Unavailable) as failed:
        read(table)
    assert "locked" in str(failed.value.__cause__)
    assert read(table) == []


def busy(code: int) -> sqlite3.OperationalError:
    error = sqlite3.OperationalError("database is locked")
    error.sqlite_errorcode = code
    return error


@pytest.mark.parametrize("code", [sqlite3.SQLITE_BUSY, sqlite3.SQLITE_BUSY_RECOVERY])
def test_a_lock_that_passes_is_waited_for(code: int) -> None:
    failures = [busy(code), busy(code)]

    def act() -> str:
        if failures:
            raise failures.pop()
        return "done"

    assert patiently(act, 60, threading.Event()) == "done"


def test_other_failures_are_not_waited_for() -> None:
    failures = [busy(sqlite3.SQLITE_IOERR)]
    with pytest.raises(sqlite3.OperationalError):
        patiently(lambda: (_ for _ in ()).throw(failures.pop()), 60, threading.Event())
    assert failures == []


SEALED = """
import asyncio, os, sys
from asgi_export.sources.sqlite.source import SqliteSource
asyncio.run(SqliteSource(sys.argv[2]).start())  # imports what may be out of reach in a moment
os.getuid() or os.setuid(65534)  # root may write anywhere
try:
    asyncio.run(SqliteSource(sys.argv[1]).start())
except Exception as error:
    print(error)
"""


def test_a_wal_file_in_a_read_only_folder_is_refused_with_what_to_do(db: Path) -> None:
    """SQLite must make a -shm file there; `immutable=1` would not see that another user writes."""
    make(db, "CREATE TABLE t(a)")
    with tempfile.TemporaryDirectory() as folder:
        path = make(Path(folder) / "shop.db", "PRAGMA journal_mode=WAL", "CREATE TABLE t(a)")
        path.chmod(0o644)
        Path(folder).chmod(0o555)
        done = subprocess.run(
            [sys.executable, "-c", SEALED, str(path), str(db)], capture_output=True, text=True, check=False
        )
        Path(folder).chmod(0o755)
    assert "make the folder writable" in done.stdout, done.stderr
    assert done.stdout.count("\n") == 1


# Read-only by construction


@pytest.mark.parametrize(
    "sql",
    [
        "INSERT INTO t VALUES (1)",
        "DROP TABLE t",
        "PRAGMA user_version=1",
        "SELECT load_extension('x')",
    ],
)
@pytest.mark.parametrize("query_only", ["ON", "OFF"])
def test_the_connection_of_an_export_can_change_nothing(db: Path, sql: str, query_only: str) -> None:
    make(db, "CREATE TABLE t(a)")
    before = db.read_bytes()
    with closing(open_read_only(db)) as connection:
        connection.execute(f"PRAGMA query_only={query_only}")
        with pytest.raises(sqlite3.OperationalError, match=r"readonly|not authorized"):
            connection.execute(sql)
    assert db.read_bytes() == before


@pytest.mark.parametrize("harm", ["SELECT load_extension('evil') AS a", "SELECT file AS a FROM pragma_database_list"])
def test_a_view_made_to_do_harm_is_refused(db: Path, harm: str) -> None:
    """The view is changed after the start, so that the catalogue has taken it for an honest one."""
    make(db, "CREATE TABLE t(a)", "CREATE VIEW v AS SELECT 1 AS a")
    view = datasets(db)["v"]
    make(db, "DROP VIEW v", f"CREATE VIEW v AS {harm}")
    with pytest.raises(ViewFailed, match="unsafe use of"):
        read(view)


# Batches


def test_batches_grow_from_one_row_to_a_bound_and_every_row_comes_once(db: Path) -> None:
    make(db, "CREATE TABLE t(a)", f"INSERT INTO t {MANY.format(rows=5000)}")
    with cursor(db, "SELECT a FROM t") as batches:
        got = list(batches)
    assert [len(batch) for batch in got] == [1, 8, 64, *[500] * 9, 427]
    assert [value for batch in got for (value,) in batch] == list(range(1, 5001))


def test_a_wide_row_makes_a_batch_of_fewer_rows(db: Path) -> None:
    columns = [f"c{number}" for number in range(2000)]
    make(db, f"CREATE TABLE t({','.join(columns)})", f"INSERT INTO t(c0) {MANY.format(rows=20)}")
    with cursor(db, "SELECT * FROM t", width=2000) as batches:
        assert {len(batch) for batch in batches} == {1, 2}


def test_rows_too_large_for_a_batch_come_one_by_one(db: Path) -> None:
    make(db, "CREATE TABLE t(a)", f"INSERT INTO t SELECT zeroblob({MOST_BYTES}) FROM ({MANY.format(rows=20)})")
    with cursor(db, "SELECT a FROM t") as batches:
        assert [len(batch) for batch in batches] == [1] * 20


def test_large_rows_behind_small_ones_are_bounded_after_one_slice(db: Path) -> None:
    size = 2 * LARGE_ROW_BYTES
    make(
        db,
        "CREATE TABLE t(a)",
        f"INSERT INTO t {MANY.format(rows=3000)}",
        f"INSERT INTO t SELECT zeroblob({size}) FROM ({MANY.format(rows=2000)})",
    )
    with cursor(db, "SELECT a FROM t") as batches:
        sizes = [sum(getsizeof(value) for (value,) in batch) for batch in batches]
    row_bytes = getsizeof(bytes(size))
    assert max(sizes) <= MOST_BYTES + SLICE_ROWS * row_bytes
    assert len([total for total in sizes if total > MOST_BYTES + row_bytes]) <= 1
    assert sum(sizes) > 2000 * size


@pytest.mark.parametrize("period", [2, 10, 64, 100])
def test_large_rows_that_return_regularly_are_found(db: Path, period: int) -> None:
    blob = MOST_BYTES // 4
    make(
        db,
        "CREATE TABLE t(a)",
        f"INSERT INTO t SELECT CASE n % {period} WHEN 0 THEN zeroblob({blob}) END"
        f" FROM ({MANY.format(rows=200 * period)})",
    )
    with cursor(db, "SELECT a FROM t") as batches:
        sizes = [sum(getsizeof(value) for (value,) in batch) for batch in batches]
    assert max(sizes[-3:]) <= MOST_BYTES + getsizeof(bytes(blob))


def test_a_cursor_keeps_the_pace_of_its_clock(db: Path) -> None:
    make(db, "CREATE TABLE t(a)", f"INSERT INTO t {MANY.format(rows=100)}")
    ticks = iter([0.0, 0.0, 0.0, 0.0, 0.0, 9.0, *[9.0] * 50])
    with cursor(db, "SELECT a FROM t", clock=lambda: next(ticks)) as batches:
        assert [len(batch) for batch in batches] == [1, 8, 64, 8, 19]


def test_no_batch_is_kept_by_the_cursor(db: Path) -> None:
    make(db, "CREATE TABLE t(a TEXT)", f"INSERT INTO t SELECT 'text ' || n FROM ({MANY.format(rows=10)})")
    with cursor(db, "SELECT a FROM t") as batches:
        next(batches)
        batch = next(batches)
        assert sys.getrefcount(batch) == 2


def test_each_call_may_come_from_another_thread(db: Path) -> None:
    make(db, "CREATE TABLE t(a)", f"INSERT INTO t {MANY.format(rows=100)}")
    export = cursor(db, "SELECT a FROM t")
    batches = Call(export.__enter__).result()
    got = []
    while batch := Call(lambda: next(batches, None)).result():
        got += batch
    Call(lambda: export.__exit__(None, None, None)).result()
    assert len(got) == 100
    assert lock_is_free(db)


# Stopping


def test_an_interrupt_ends_a_statement_that_runs(db: Path) -> None:
    make(db, ENDLESS.format(below=0))
    export = cursor(db, "SELECT n FROM endless")
    looked = export._interrupted = Looked()
    entering = Call(export.__enter__)
    assert looked.running.wait(10)
    export.interrupt()
    export.interrupt()
    with pytest.raises(sqlite3.OperationalError, match="interrupted"):
        entering.result()
    export.__exit__(None, None, None)


def test_an_interrupt_between_the_last_look_and_the_statement_is_not_lost(db: Path) -> None:
    """SQLite forgets an interrupt when a statement starts; so the flag alone must end it too."""
    make(db, ENDLESS.format(below=0))
    export = cursor(db, "SELECT n FROM endless")
    looked = export._interrupted = Looked()
    entering = Call(export.__enter__)
    assert looked.running.wait(10)
    looked.set()
    with pytest.raises(sqlite3.OperationalError, match="interrupted"):
        entering.result()


def test_an_interrupt_ends_a_batch_that_waits_for_its_rows(db: Path) -> None:
    make(db, ENDLESS.format(below=3))
    export = cursor(db, "SELECT n FROM endless")
    batches = export.__enter__()
    assert next(batches) == [(1,)]
    waiting = Call(lambda: next(batches))
    export.interrupt()
    with pytest.raises(sqlite3.OperationalError, match="interrupted"):
        waiting.result()
    export.__exit__(None, None, None)


def test_an_interrupt_before_the_cursor_is_entered_stops_it_there(db: Path) -> None:
    make(db, ENDLESS.format(below=0))
    export = cursor(db, "SELECT n FROM endless")
    export.interrupt()
    with pytest.raises(sqlite3.OperationalError, match="interrupted"):
        export.__enter__()


def test_an_interrupt_ends_the_wait_for_a_lock(db: Path) -> None:
    make(db, "CREATE TABLE t(a)")
    export = cursor(db, "SELECT a FROM t", busy_timeout_seconds=3600)
    looked = export._interrupted = Looked()
    with locked(db):
        entering = Call(export.__enter__)
        assert looked.running.wait(10)
        export.interrupt()
        with pytest.raises(sqlite3.OperationalError, match="interrupted"):
            entering.result()


def test_a_cursor_that_was_interrupted_gives_no_further_batch(db: Path) -> None:
    make(db, "CREATE TABLE t(a)", f"INSERT INTO t {MANY.format(rows=100)}")
    export = cursor(db, "SELECT a FROM t")
    with export as batches:
        next(batches)
        export.interrupt()
        for _ in range(2):
            with pytest.raises(sqlite3.OperationalError, match="interrupted"):
                next(batches)


# Leaving


def test_leaving_gives_the_lock_back_and_may_be_done_twice(db: Path) -> None:
    make(db, "CREATE TABLE t(a)", f"INSERT INTO t {MANY.format(rows=5000)}")
    export = cursor(db, "SELECT a FROM t")
    batches = export.__enter__()
    next(batches)
    assert not lock_is_free(db)
    export.__exit__(None, None, None)
    assert lock_is_free(db)
    export.__exit__(None, None, None)
    export.interrupt()
    assert next(batches, None) is None


def test_a_cursor_that_could_not_be_entered_leaves_nothing_open(db: Path) -> None:
    make(db, "CREATE TABLE t(a)")
    export = cursor(db, "SELECT gone FROM t")
    with pytest.raises(sqlite3.OperationalError, match="no such column"):
        export.__enter__()
    assert export._connection is None
    assert lock_is_free(db)
    export.__exit__(None, None, None)


def test_a_cursor_on_a_file_that_is_gone_raises_when_it_is_entered(db: Path) -> None:
    make(db, "CREATE TABLE t(a)")
    table = datasets(db)["t"]
    db.unlink()
    with pytest.raises(Unavailable) as failed:
        read(table)
    assert "unable to open" in str(failed.value.__cause__)
    assert not db.exists()


def test_a_damaged_page_breaks_the_export_off_and_leaving_still_works(db: Path, tmp_path: Path) -> None:
    make(db, "CREATE TABLE t(a)", f"INSERT INTO t SELECT hex(zeroblob(500)) FROM ({MANY.format(rows=2000)})")
    damaged = tmp_path / "damaged.db"
    shutil.copy(db, damaged)
    with damaged.open("r+b") as file:
        file.seek(damaged.stat().st_size // 2)
        file.write(b"\xff" * 65536)
    with pytest.raises(SourceFailed, match="malformed"):
        read(datasets(damaged)["t"])
    assert lock_is_free(damaged)
