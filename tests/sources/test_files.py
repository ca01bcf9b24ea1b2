"""Files as a source: what is listed, what is refused, and what an export reads back."""

from __future__ import annotations

import asyncio
import os
import re
import threading
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.feather as feather
import pyarrow.parquet as pq
import pytest

from asgi_export.errors import SourceFailed, StartupError, Unavailable
from asgi_export.sources.files import batch_bounds
from asgi_export.sources.files.location import dataset_name, is_file_location
from asgi_export.sources.files.source import FileSource
from asgi_export.table import Column, Dataset, Selection

TABLE = pa.table({"id": pa.array(range(10)), "name": [f"user {place}" for place in range(10)]})


def started(location: str | Path, name: str | None = None) -> Dataset:
    (found,) = asyncio.run(FileSource(location, name=name).start())
    return found


def cursor(dataset: Dataset, *columns: str, limit: int | None = None) -> Any:
    names = columns or tuple(column.name for column in dataset.columns)
    return dataset.open(Selection(names, limit))


def read(dataset: Dataset, *columns: str, limit: int | None = None) -> list[tuple[Any, ...]]:
    with cursor(dataset, *columns, limit=limit) as batches:
        tables = [batch.columns for batch in batches]
    return [row for columns_ in tables for row in zip(*[column.to_pylist() for column in columns_], strict=True)]


def write(path: Path, table: pa.Table = TABLE, **options: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(table, path, **options)
    return path


def open_files() -> set[str]:
    found = set()
    for place in os.listdir("/proc/self/fd"):
        try:
            found.add(os.readlink(f"/proc/self/fd/{place}"))
        except FileNotFoundError:  # that of the listing itself
            continue
    return found


def write_csv(path: Path) -> None:
    path.write_text("id,name\n" + "".join([f"{place},user {place}\n" for place in range(10)]))


def write_stream(path: Path) -> None:
    with path.open("wb") as file, pa.ipc.new_stream(file, TABLE.schema) as writer:
        writer.write_table(TABLE, max_chunksize=4)


WRITERS: dict[str, Callable[[Path], object]] = {
    "t.parquet": write,
    "t.PARQUET": write,
    "t.csv": write_csv,
    "t.arrow": lambda path: feather.write_feather(TABLE, str(path), chunksize=4),
    "t.feather": lambda path: feather.write_feather(TABLE, str(path), compression="uncompressed"),
    "t.ipc": write_stream,
}


@pytest.mark.parametrize("name", WRITERS)
def test_each_kind_of_file_is_one_dataset_named_after_it(tmp_path: Path, name: str) -> None:
    WRITERS[name](tmp_path / name)
    dataset = started(tmp_path / name)
    assert dataset.name == "t"
    assert [column.name for column in dataset.columns] == ["id", "name"]
    assert dataset.default_limit is None
    assert [(int(number), text) for number, text in read(dataset)] == [
        *zip(range(10), TABLE["name"].to_pylist(), strict=True)
    ]
    assert started(tmp_path / name, name="other").name == "other"


@pytest.mark.parametrize("name", WRITERS)
def test_columns_come_in_the_order_of_the_selection_and_the_limit_holds(tmp_path: Path, name: str) -> None:
    WRITERS[name](tmp_path / name)
    dataset = started(tmp_path / name)
    assert [str(row[1]) for row in read(dataset, "name", "id", limit=7)] == list("0123456")
    assert read(dataset, "name", limit=2) == [("user 0",), ("user 1",)]
    assert read(dataset, "id", limit=0) == []
    assert len(read(dataset, limit=10**30)) == 10


def test_types_are_those_of_the_file_and_their_names_arrows(tmp_path: Path) -> None:
    table = pa.table({"a": pa.array([1], pa.int16()), "b": pa.array([None], pa.timestamp("us", "UTC"))})
    dataset = started(write(tmp_path / "t.parquet", table))
    assert dataset.columns == (Column("a", "int16"), Column("b", "timestamp[us, tz=UTC]"))
    with cursor(dataset) as batches:
        assert pa.Table.from_batches(batches).cast(table.schema) == table


@pytest.mark.parametrize("name", ["a.b", "a b", "a,b", "", "naïve 名", "*", "a"])
def test_a_column_may_have_any_name_and_is_not_taken_for_a_part_of_another(tmp_path: Path, name: str) -> None:
    struct = pa.array([{"b": 1}], pa.struct([("b", pa.int8())]))
    columns: dict[str, Any] = {"z": [0], "a": struct, name: ["it"], "a.b.c": [2]}
    dataset = started(write(tmp_path / "t.parquet", pa.table(columns)))
    assert read(dataset, "a.b.c", name) == [(2, "it")]


def test_a_folder_is_one_dataset_of_the_files_below_it_by_path(tmp_path: Path) -> None:
    write(tmp_path / "sales" / "b.parquet", TABLE.slice(5))
    write(tmp_path / "sales" / "a" / "1.parquet", TABLE.slice(0, 5))
    write(tmp_path / "sales" / "_temporary" / "x.parquet")
    write(tmp_path / "sales" / ".hidden.parquet")
    (tmp_path / "sales" / "_SUCCESS").touch()
    (tmp_path / "sales" / "readme.txt").touch()
    dataset = started(tmp_path / "sales")
    assert dataset.name == "sales"
    assert [row[0] for row in read(dataset)] == [*range(10)]
    assert [row[0] for row in read(dataset, limit=7)] == [*range(7)]


def test_hive_partitions_are_columns_and_lose_no_zeros(tmp_path: Path) -> None:
    for year, zone in ((2023, "01"), (2024, "a%20b"), (2024, "__HIVE_DEFAULT_PARTITION__")):
        write(tmp_path / "s" / f"year={year}" / f"zone={zone}" / "0.parquet", TABLE.slice(0, 1))
    dataset = started(tmp_path / "s")
    assert dataset.columns[2:] == (Column("year", "int64"), Column("zone", "string"))
    assert read(dataset, "zone", "id", "year") == [("01", 0, 2023), (None, 0, 2024), ("a b", 0, 2024)]
    assert read(dataset, "year") == [(2023,), (2024,), (2024,)]


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("*.parquet", [0, 1]),
        ("[b-z].parquet", [1]),
        ("?.parquet", [0, 1]),
        ("**/*.parquet", [0, 1, 2, 3]),
        ("d/*/*.parquet", [3]),
        ("d*", [2, 3]),
        ("d/**", [2, 3]),
    ],
)
def test_a_glob_is_one_dataset_of_what_it_matches(tmp_path: Path, pattern: str, expected: list[int]) -> None:
    for place, name in enumerate(("a", "b", "d/c", "d/e/f")):
        write(tmp_path / "in" / f"{name}.parquet", pa.table({"n": [place]}))
    dataset = started(str(tmp_path / "in" / pattern))
    assert dataset.name == ("d" if pattern.startswith("d/") else "in")
    assert [row[0] for row in read(dataset)] == expected


def test_a_name_that_looks_like_a_glob_is_a_file_where_there_is_one(tmp_path: Path) -> None:
    write(tmp_path / "a[1].parquet")
    assert len(read(started(tmp_path / "a[1].parquet"))) == 10


def test_several_files_have_the_columns_of_all_widened_without_loss(tmp_path: Path) -> None:
    write(tmp_path / "s" / "1.parquet", pa.table({"a": pa.array([1], pa.int8()), "b": ["x"]}))
    write(tmp_path / "s" / "2.parquet", pa.table({"c": [True], "a": pa.array([2**40], pa.int64())}))
    dataset = started(tmp_path / "s")
    assert dataset.columns == (Column("a", "int64"), Column("b", "string"), Column("c", "bool"))
    assert read(dataset) == [(1, "x", None), (2**40, None, True)]
    assert read(dataset, "c") == [(None,), (True,)]


def test_a_value_that_widening_would_change_is_a_failure(tmp_path: Path) -> None:
    write(tmp_path / "s" / "1.parquet", pa.table({"a": [0.5]}))
    write(tmp_path / "s" / "2.parquet", pa.table({"a": [2**53 + 1]}))
    with pytest.raises(SourceFailed, match="could not be read"):
        read(started(tmp_path / "s"))


def test_files_without_rows_give_no_batch(tmp_path: Path) -> None:
    assert read(started(write(tmp_path / "t.parquet", TABLE.slice(0, 0)))) == []


def test_batches_are_bounded_in_cells_and_in_bytes(tmp_path: Path) -> None:
    write(tmp_path / "wide.parquet", pa.table({f"c{place}": pa.array(range(9000)) for place in range(100)}))
    write(tmp_path / "large.parquet", pa.table({"a": [f"{place}" * 100_000 for place in range(1, 40)]}))
    feather.write_feather(pa.table({"a": pa.array(range(50_000))}), str(tmp_path / "long.arrow"), chunksize=50_000)
    for name in ("wide.parquet", "large.parquet", "long.arrow"):
        with cursor(started(tmp_path / name)) as batches:
            for batch in batches:
                assert batch.num_rows * batch.num_columns <= batch_bounds.BATCH_CELLS
                assert batch.num_rows <= batch_bounds.BATCH_ROWS
                assert batch.slice(0).nbytes < 2 * batch_bounds.BATCH_BYTES


def test_a_reader_that_stalls_holds_little_of_a_large_file(tmp_path: Path) -> None:
    table = pa.table({"a": pa.array(range(2_000_000)), "b": pa.array([place % 97 for place in range(2_000_000)])})
    dataset = started(write(tmp_path / "t.parquet", table))
    del table
    before = pa.total_allocated_bytes()
    with cursor(dataset) as batches:
        for _ in range(20):
            next(batches)
        assert pa.total_allocated_bytes() - before < 6_000_000
    assert pa.total_allocated_bytes() - before < 100_000


def test_one_file_is_open_at_a_time_and_none_afterwards(tmp_path: Path) -> None:
    for place in range(3):
        write(tmp_path / "s" / f"{place}.parquet", TABLE)
    dataset = started(tmp_path / "s")
    for rounds in range(5):  # the last round reads to the end
        with cursor(dataset) as batches:
            for _ in range(rounds):
                next(batches, None)
                assert len([name for name in open_files() if name.startswith(str(tmp_path))]) <= 1
        assert not [name for name in open_files() if name.startswith(str(tmp_path))]


def test_only_the_asked_columns_are_read(tmp_path: Path) -> None:
    """The first column's bytes are destroyed, and nobody notices who does not ask for it."""
    table = pa.table({"a": ["x" * 5000] * 10, "b": pa.array(range(10))})
    path = write(tmp_path / "t.parquet", table, compression="none", use_dictionary=False)
    column = pq.ParquetFile(path).metadata.row_group(0).column(0)
    dataset = started(path)
    data = bytearray(path.read_bytes())
    start, size = column.data_page_offset, column.total_compressed_size
    data[start : start + size] = b"\xff" * size
    path.write_bytes(data)
    assert [row[0] for row in read(dataset, "b")] == [*range(10)]
    with pytest.raises(SourceFailed):
        read(dataset, "a")


def large(path: Path) -> Path:
    return write(path, pa.table({"a": pa.array(range(200_000))}), row_group_size=50_000)


def test_a_file_replaced_by_name_gives_the_old_contents_to_who_reads_it(tmp_path: Path) -> None:
    dataset = started(large(tmp_path / "t.parquet"))
    with cursor(dataset) as batches:
        rows = next(batches).column(0).to_pylist()
        os.replace(write(tmp_path / "new", TABLE.rename_columns(["a", "b"])), tmp_path / "t.parquet")
        rows += [value for batch in batches for value in batch.column(0).to_pylist()]
    assert rows == [*range(200_000)]
    assert [row[0] for row in read(dataset)] == [*range(10)]


@pytest.mark.parametrize("act", ["overwrite", "truncate", "append", "touch"])
def test_a_file_written_to_while_it_is_read_is_a_failure(tmp_path: Path, act: str) -> None:
    path = large(tmp_path / "t.parquet")
    dataset = started(path)
    with cursor(dataset) as batches:
        next(batches)
        if act == "touch":
            os.utime(path, ns=(0, 0))
        else:
            size = path.stat().st_size
            with path.open("ab" if act == "append" else "r+b") as file:
                file.truncate(size // 2) if act == "truncate" else file.write(b"\0" * (size + 1))
        with pytest.raises(Unavailable):
            list(batches)


def test_a_file_of_a_folder_that_goes_or_changes_before_its_turn_is_a_failure(tmp_path: Path) -> None:
    for change in (Path.unlink, large):
        for place in range(2):
            write(tmp_path / "s" / f"{place}.parquet")
        dataset = started(tmp_path / "s")
        with cursor(dataset) as batches:
            next(batches)
            change(tmp_path / "s" / "1.parquet")
            with pytest.raises(Unavailable):
                list(batches)


def test_files_that_come_after_the_start_are_read_by_the_next_export(tmp_path: Path) -> None:
    write(tmp_path / "s" / "a.parquet")
    dataset = started(tmp_path / "s")
    with cursor(dataset, "id") as batches:
        write(tmp_path / "s" / "b.parquet")
        assert sum(batch.num_rows for batch in batches) == 10
    assert len(read(dataset)) == 20


def test_a_file_that_is_gone_is_unavailable_and_fails_the_check(tmp_path: Path) -> None:
    source = FileSource(write(tmp_path / "t.parquet"))
    (dataset,) = asyncio.run(source.start())
    asyncio.run(source.check())
    (tmp_path / "t.parquet").unlink()
    with pytest.raises(FileNotFoundError):
        asyncio.run(source.check())
    with pytest.raises(Unavailable, match=r"^t: a file could not be read$"):
        read(dataset)
    asyncio.run(source.close())
    asyncio.run(source.close())


def test_an_interrupt_ends_the_export_at_the_next_batch(tmp_path: Path) -> None:
    reading = cursor(started(large(tmp_path / "t.parquet")))
    with reading as batches:
        next(batches)
        thread = threading.Thread(target=reading.interrupt)
        thread.start()
        thread.join()
        with pytest.raises(SourceFailed, match="interrupted"):
            next(batches)
    reading.interrupt()


def test_each_call_may_come_from_another_thread(tmp_path: Path) -> None:
    reading = cursor(started(large(tmp_path / "t.parquet")))
    found: list[Any] = []

    def run(function: Any, *arguments: Any) -> None:
        thread = threading.Thread(target=lambda: found.append(function(*arguments)))
        thread.start()
        thread.join()

    run(reading.__enter__)
    run(next, found[0])
    run(next, found[0])
    run(reading.__exit__, None, None, None)
    assert found[2].column(0)[0].as_py() == found[1].num_rows
    assert not [name for name in open_files() if name.startswith(str(tmp_path))]


def test_a_relative_path_is_that_of_the_start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path / "t.parquet")
    monkeypatch.chdir(tmp_path)
    source = FileSource("t.parquet")
    monkeypatch.chdir("/")
    assert len(asyncio.run(source.start())) == 1


def refused(path: Path) -> Sequence[tuple[str, str]]:
    write(path / "mixed" / "a.parquet")
    write_csv(path / "mixed" / "b.csv")
    (path / "empty").mkdir()
    for name in ("notes.parquet", "notes.arrow", "notes.txt"):
        (path / name).write_text("Dear diary, " * 100)
    (path / "zero.parquet").touch()
    (path / "zero.csv").touch()
    (path / "twice.csv").write_text("a,b,a\n1,2,3\n")
    write(path / "clash" / "1.parquet", pa.table({"a": ["x"]}))
    write(path / "clash" / "2.parquet", pa.table({"a": [[1]]}))
    write(path / "uneven" / "y=1" / "1.parquet")
    write(path / "uneven" / "z=1" / "1.parquet")
    return [
        ("missing.parquet", "no such file"),
        ("no/way/*.parquet", "no such file"),
        ("*.feather", "holds no file"),
        ("empty", "holds no file"),
        ("notes.txt", "not a kind that can be served"),
        ("notes.parquet", "cannot be read as parquet"),
        ("zero.parquet", "cannot be read as parquet"),
        ("notes.arrow", "cannot be read as arrow"),
        ("zero.csv", "cannot be read as csv"),
        ("twice.csv", "two columns 'a'"),
        ("mixed", r"several kinds \(csv, parquet\)"),
        ("clash", "2.parquet does not fit"),
        ("uneven", r"expected \['y'\]"),
        ("nul\0.parquet", "NUL"),
    ]


def test_a_location_that_cannot_be_served_stops_the_start_with_one_line_that_names_it(tmp_path: Path) -> None:
    for name, reason in refused(tmp_path):
        with pytest.raises(StartupError, match=reason) as caught:
            started(f"{tmp_path}/{name}")
        assert str(caught.value).startswith(f"{tmp_path}/{name}: ".replace("\0", r"\x00"))
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("location", "shown"),
    [
        ("s3://me:secret@lake/t.parquet?nonsense=secret", "s3://lake/t.parquet: Unexpected query"),
        ("s3://me:se/cret@lake/a@b.parquet", "s3://b.parquet: Cannot parse"),
        ("abfs://box@account/t.parquet?x=secret", "abfs://box@account/t.parquet: Unexpected query"),
    ],
)
def test_a_remote_location_that_cannot_be_meant_is_refused_without_its_secrets(location: str, shown: str) -> None:
    with pytest.raises(StartupError, match=f"^{re.escape(shown)}") as caught:
        started(location)
    assert "secret" not in str(caught.value)
    assert "cret@" not in str(caught.value)


@pytest.mark.parametrize(
    ("location", "name"),
    [
        ("/d/flights.parquet", "flights"),
        ("/d/sales/", "sales"),
        ("/d/sales/year=*/*.parquet", "sales"),
        ("/d/sales/2024-*.csv", "sales"),
        ("*.csv", "files"),
        ("s3://bucket/a/flights.parquet?region=eu-west-1", "flights"),
        ("gs://bucket/*.parquet", "bucket"),
    ],
)
def test_a_location_has_a_name(location: str, name: str) -> None:
    assert dataset_name(location) == name


def test_file_locations_are_told_from_others(tmp_path: Path) -> None:
    taken = ["a.parquet", "a.CSV", "x/*", "s3://b/k", "abfs://c@a/k", str(tmp_path)]
    assert [
        location for location in [*taken, "shop.db", "a.txt", "nothing", "a\0b"] if is_file_location(location)
    ] == (taken)


def test_a_failure_tells_no_value_of_a_row(tmp_path: Path) -> None:
    """Neither the failure nor what caused it, which go to the log."""
    table = pa.table({"n": pa.array([1], pa.int8())})
    write(tmp_path / "p/1.parquet", table)
    write(tmp_path / "p/2.parquet", table)
    (tmp_path / "t.csv").write_text("a,b\n" + "1,2\n" * 200_000 + "8675309,2,3\n")
    numbers = started(tmp_path / "p")
    write(tmp_path / "p/2.parquet", pa.table({"n": pa.array([8675309])}))
    for dataset in (numbers, started(tmp_path / "t.csv")):
        with pytest.raises(SourceFailed) as raised:
            read(dataset)
        told = "".join(traceback.format_exception(raised.value))
        assert "8675309" not in told
        assert "int8" in told or "Expected 2 columns, got 3" in told
