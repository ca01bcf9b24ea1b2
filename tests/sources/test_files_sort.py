"""Files are sorted by DuckDB, and their values do not pass through it."""

from __future__ import annotations

import os
import tempfile
import threading
from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pyarrow import ipc

from asgi_export import Selection
from asgi_export.columns.exact_text import ExactText
from asgi_export.errors import SourceFailed, Unavailable
from asgi_export.sources.files import sorting
from asgi_export.sources.files.sort_keys import keys_of
from asgi_export.table import Filter, Sort
from asgi_export.values.ordering import number_key
from tests.questions.filter_oracle import answer
from tests.sources.test_files_filters import COLUMNS, TABLES, dataset_of, write_arrow, write_groups


@pytest.fixture(autouse=True)
def folder_of_sorts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Where sorts spill; each leaves nothing."""
    folder = tmp_path / "spilled"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    yield folder
    assert os.listdir(folder) == []


def sorted_rows(
    dataset: Any, sort: str, *filters: Filter, columns: Sequence[str] = (), limit: int | None = None
) -> list[Any]:
    """The rows of an export by `a,-b`, with the values of Python."""
    names = tuple(columns or [column.name for column in dataset.columns])
    by = tuple([Sort(name.removeprefix("-"), name.startswith("-")) for name in sort.split(",")])
    found: list[Any] = []
    with dataset.open(Selection(names, limit, filters=filters, sort=by)) as batches:
        for batch in batches:
            batch.validate(full=True)
            assert batch.schema.names == list(names)
            found += zip(*[column.to_pylist() for column in batch.columns], strict=True)
    return found


NAMES = [name for name, *_ in COLUMNS]
SORTS = st.lists(st.sampled_from(NAMES), min_size=1, max_size=3, unique=True).flatmap(
    lambda names: st.tuples(*[st.builds(Sort, st.just(name), st.booleans()) for name in names])
)


@settings(max_examples=40, deadline=None)
@given(data=TABLES, sort=SORTS, arrow=st.booleans(), limit=st.none() | st.integers(0, 5))
def test_the_order_is_that_of_the_values(
    tmp_path_factory: pytest.TempPathFactory,
    data: dict[str, list[Any]],
    sort: tuple[Sort, ...],
    arrow: bool,
    limit: int | None,
) -> None:
    """NaN is the greatest number, nulls are last in both directions, and equal rows keep their order."""
    table = pa.table({name: pa.array(data[name], kind) for name, kind, _, _ in COLUMNS})
    table = table.append_column("n", pa.array(range(table.num_rows), pa.int64()))
    path = tmp_path_factory.mktemp("table") / ("table.arrow" if arrow else "table.parquet")
    (write_arrow if arrow else write_groups)(table, path)
    expected = answer(table.to_pylist(), sort=sort, limit=limit)
    text = ",".join(("-" if one.descending else "") + one.column for one in sort)
    dataset = dataset_of(path)
    assert sorted_rows(dataset, text, columns=["n"], limit=limit) == [(row["n"],) for row in expected]
    found = sorted_rows(dataset, text, limit=limit)
    assert list(map(repr, found)) == [repr(tuple(row.values())) for row in expected]


ODD = [
    pa.array(["b", "a", None, "b"]).dictionary_encode(),
    pa.array(["b", "a", None, "b"], pa.string_view()),
    pa.array([b"\x01" * 16, b"\x00" * 16, None, b"\x01" * 16], pa.uuid()),
    pa.array([2, 1, None, 2], pa.duration("us")),
    pa.array([Decimal("2E60"), Decimal("-1E60"), None, Decimal("2E60")], pa.decimal256(76, 0)),
    pa.array([Decimal("2E2"), Decimal("1E2"), None, Decimal("2E2")], pa.decimal128(5, -2)),
    pa.array([2.0, 1.0, None, 2.0], pa.float16()),
    pa.array([2, 1, None, 2], pa.timestamp("ns", "Europe/Berlin")),
    pa.array([-1, -2, None, -1], pa.timestamp("ms")),
    pa.array(["b" * 5000, "a" * 5000, None, "b" * 5000], pa.large_string()),
]


@pytest.mark.parametrize("column", ODD, ids=lambda column: str(column.type))
def test_types_that_duckdb_lacks_are_sorted_too(tmp_path: Path, column: pa.Array) -> None:
    path = tmp_path / "table.arrow"
    nested = pa.array([[1], None, [2, 3], []])
    batch = pa.record_batch([column, nested, pa.array(range(4), pa.uint64())], ["a", "l", "n"])
    with ipc.new_file(path, batch.schema) as writer:
        writer.write_batch(batch)
    dataset = dataset_of(path)
    assert sorted_rows(dataset, "a", columns=["n", "l"]) == [(1, None), (0, [1]), (3, []), (2, [2, 3])]
    assert sorted_rows(dataset, "-a", columns=["n"]) == [(0,), (3,), (1,), (2,)]
    assert sorted_rows(dataset, "-n", columns=["a"]) == [(value,) for value in reversed(column.to_pylist())]


def test_instants_of_int96_are_sorted_whatever_holds_them(tmp_path: Path) -> None:
    """A year 9999 and nanoseconds are of different types, batch by batch."""
    path = tmp_path / "files"
    path.mkdir()
    late, early = datetime(9999, 1, 1, tzinfo=UTC), datetime(1, 1, 1, tzinfo=UTC)
    whole = pa.array([late, early], pa.timestamp("us", "UTC")).cast(pa.timestamp("us"))
    pq.write_table(pa.table({"t": whole, "n": [0, 1]}), path / "1.parquet", use_deprecated_int96_timestamps=True)
    fine = pa.array([1, None, -1], pa.timestamp("ns"))
    pq.write_table(pa.table({"t": fine, "n": [2, 3, 4]}), path / "2.parquet", use_deprecated_int96_timestamps=True)
    dataset = dataset_of(path)
    assert sorted_rows(dataset, "t", columns=["n"]) == [(1,), (4,), (2,), (0,), (3,)]
    assert sorted_rows(dataset, "-t", columns=["n"]) == [(0,), (2,), (4,), (1,), (3,)]
    with dataset.open(Selection(("t",), sort=(Sort("t"),))) as found:
        assert sum(batch.num_rows for batch in found) == 5


def test_text_that_stands_for_instants_is_sorted_as_instants() -> None:
    texts = ["-0001-01-01T00:00:00", "1969-12-31T23:59:59.000000001", "2026-01-01T00:00:00", "12000-01-01T00:00:00"]
    column = pa.ExtensionArray.from_storage(ExactText(), pa.array([*texts, None]))
    seconds, nanoseconds = [found.to_pylist() for found in keys_of(column, "timestamp")]
    assert nanoseconds == [0, 1, 0, 0, None]
    assert seconds[:4] == sorted(seconds[:4])
    assert seconds[1] == -1
    assert seconds[4] is None


def test_columns_of_text_files_are_sorted_by_their_kinds(tmp_path: Path) -> None:
    path = tmp_path / "table.csv"
    path.write_text("n,d,at\n10,2026-01-01,12:30\n9.5,2025-12-31,12:30:00\n,,\n-1e3,2026-01-01,09:00\n")
    dataset = dataset_of(path)
    assert sorted_rows(dataset, "n", columns=["n"]) == [("-1e3",), ("9.5",), ("10",), (None,)]
    assert sorted_rows(dataset, "-d,n", columns=["n"]) == [("-1e3",), ("10",), ("9.5",), (None,)]
    assert sorted_rows(dataset, "at", columns=["n"]) == [("-1e3",), ("10",), ("9.5",), (None,)]


@given(numbers=st.lists(st.decimals(allow_nan=False) | st.integers() | st.floats(allow_nan=False), max_size=8))
def test_keys_of_numbers_are_in_their_order(numbers: list[Any]) -> None:
    exact = [Decimal(number) for number in numbers]
    assert sorted(exact, key=number_key) == sorted(exact)


def test_filters_come_before_the_sort(tmp_path: Path) -> None:
    path = tmp_path / "table.parquet"
    pq.write_table(pa.table({"n": range(100), "m": [one % 7 for one in range(100)]}), path, row_group_size=10)
    found = sorted_rows(dataset_of(path), "-m,n", Filter("n", "lt", 20), columns=["n"], limit=4)
    assert found == [(6,), (13,), (5,), (12,)]


def test_a_sort_that_does_not_fit_in_memory_spills(tmp_path: Path) -> None:
    path = tmp_path / "table.parquet"
    count = 200_000
    texts = [f"{(one * 7919) % count:0500d}" for one in range(count)]
    pq.write_table(pa.table({"t": texts, "n": range(count)}), path)
    dataset = replace(dataset_of(path), sort_memory_mb=96)
    found = sorted_rows(dataset, "t", columns=["n"])
    assert [row[0] for row in found] == sorted(range(count), key=texts.__getitem__)


def test_a_sort_that_has_too_little_memory_is_unavailable(tmp_path: Path) -> None:
    path = tmp_path / "table.parquet"
    pq.write_table(pa.table({"t": [f"{one:0100d}" for one in range(100_000)]}), path)
    with pytest.raises(Unavailable):
        sorted_rows(replace(dataset_of(path), sort_memory_mb=1), "t")


def test_a_sort_is_interrupted_while_it_waits_for_another(tmp_path: Path) -> None:
    path = tmp_path / "table.parquet"
    write_groups(pa.table({"n": [1, 2]}), path)
    with sorting._places, sorting._places, dataset_of(path).open(Selection(("n",), sort=(Sort("n"),))) as cursor:
        timer = threading.Timer(0.1, cursor.interrupt)
        timer.start()
        with pytest.raises(SourceFailed):
            next(cursor)
        timer.join()


def test_a_sort_is_interrupted_while_it_runs(tmp_path: Path) -> None:
    path = tmp_path / "table.parquet"
    pq.write_table(pa.table({"n": range(3_000_000)}), path)
    with dataset_of(path).open(Selection(("n",), sort=(Sort("n", descending=True),))) as cursor:
        timer = threading.Timer(0.2, cursor.interrupt)
        timer.start()
        with pytest.raises(SourceFailed):
            for _ in cursor:
                pass
        timer.join()


def test_a_damaged_file_fails_as_without_a_sort(tmp_path: Path) -> None:
    path = tmp_path / "table.parquet"
    pq.write_table(pa.table({"n": range(100_000)}), path, row_group_size=30_000)
    content = bytearray(path.read_bytes())
    place = pq.ParquetFile(path).metadata.row_group(2).column(0).data_page_offset
    content[place : place + 1000] = b"\xff" * 1000
    dataset = dataset_of(path)
    path.write_bytes(content)
    with pytest.raises(SourceFailed):
        sorted_rows(dataset, "n")


def test_a_full_disk_is_unavailable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Here of a folder that does not exist; a write that fails is the same error."""
    path = tmp_path / "table.parquet"
    write_groups(pa.table({"n": [1, 2]}), path)
    dataset = dataset_of(path)
    with monkeypatch.context() as changed:
        changed.setattr(tempfile, "tempdir", str(tmp_path / "none"))
        with pytest.raises(Unavailable):
            sorted_rows(dataset, "n")
