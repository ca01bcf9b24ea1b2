"""Files in which many rows share one large value: what is written out at once is bounded, whatever the file says."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pyarrow import ipc

from asgi_export.columns import shared_values
from asgi_export.columns.shared_values import cut
from asgi_export.sources.arrow_items import column_slices
from tests.field.read_files import outcomes

ROWS = 5000
LARGE = "x" * 10_000_000
KINDS: dict[str, Callable[[str, int], pa.Array]] = {
    "dictionary": lambda text, rows: pa.DictionaryArray.from_arrays(
        pa.repeat(pa.scalar(0, pa.int32()), rows), [text]
    ),
    "runs": lambda text, rows: pa.RunEndEncodedArray.from_arrays(pa.array([rows], pa.int32()), [text]),
    "list views": lambda text, rows: list_views(pa.array([text]), rows),
    "list views of nothing": lambda text, rows: list_views(pa.array([""] * len(text)), rows),
    "a dictionary in a structure": lambda text, rows: pa.StructArray.from_arrays([dictionary(text, rows)], ["a"]),
    "a dictionary in lists": lambda text, rows: pa.ListArray.from_arrays(
        pa.array(range(rows + 1), pa.int32()), dictionary(text, rows)
    ),
    "a dictionary in a map": lambda text, rows: pa.MapArray.from_arrays(
        pa.array(range(rows + 1), pa.int32()), pa.array(["k"] * rows), dictionary(text, rows)
    ),
    "a dictionary in pairs": lambda text, rows: pa.FixedSizeListArray.from_arrays(dictionary(text, 2 * rows), 2),
    "a dense union": lambda text, rows: pa.UnionArray.from_dense(
        pa.array([0] * rows, pa.int8()), pa.array([0] * rows, pa.int32()), [pa.array([text])]
    ),
}


def dictionary(text: str, rows: int) -> pa.Array:
    return KINDS["dictionary"](text, rows)


def list_views(values: pa.Array, rows: int) -> pa.Array:
    starts, lengths = (pa.array([number] * rows, pa.int32()) for number in (0, len(values)))
    return pa.ListViewArray.from_arrays(starts, lengths, values)


@pytest.mark.parametrize("kind", KINDS)
def test_rows_that_share_a_large_value_are_cut_before_they_are_written_out(kind: str) -> None:
    batch = pa.record_batch({"a": KINDS[kind](LARGE[:3_000_000], 20)})
    assert [part.num_rows for part in cut(batch)] in ([2] * 10, [1] * 20)
    assert [part.num_rows for part in cut(batch.slice(7, 1))] == [1]


@pytest.mark.parametrize("kind", KINDS)
def test_rows_that_share_small_values_stay_together(kind: str) -> None:
    batch = pa.record_batch({"a": KINDS[kind]("x", 1000), "b": pa.array(range(1000))})
    assert [part.num_rows for part in cut(batch)] == [1000]
    assert [part.num_rows for part in cut(batch.slice(0, 0))] == [0]


def test_a_dictionary_larger_than_its_batch_is_cut_by_the_values_that_occur() -> None:
    for kind in pa.string(), pa.large_binary():
        values = pa.array(["", *["x" * 300_000] * 100], kind)
        found = pa.DictionaryArray.from_arrays(pa.array([0, 0, None, *[1] * 50], pa.int8()), values)
        assert [part.num_rows for part in cut(pa.record_batch({"a": found}))] == [3 + 27, 23]


def test_lists_of_lists_that_say_more_than_any_memory_holds_are_refused() -> None:
    array = pa.array(["x"] * 1000)
    for _ in range(6):
        array = list_views(array, 1000)
    for found in array, list_views(array, 1000):  # 10^18 bytes a row, and more than an int64 holds
        with pytest.raises(pa.ArrowInvalid, match=r"shared values are written out|overflow"):
            list(cut(pa.record_batch({"a": found})))


def test_batches_of_functions_are_cut_too() -> None:
    batch = pa.record_batch({"a": dictionary(LARGE[:3_000_000], 20)})
    assert [part.num_rows for part in column_slices(batch, ["a"], None)] == [2] * 10
    assert [part.num_rows for part in column_slices(batch, ["a"], 3)] == [2, 1]


def test_a_small_parquet_file_that_holds_hundreds_of_megabytes_is_whole(tmp_path: Path) -> None:
    """100 KB that come to 600 MB: pyarrow would make text of all of it in its first batch."""
    pq.write_table(pa.table({"a": dictionary(LARGE[:2_000_000], 300)}), tmp_path / "t.parquet")
    assert (tmp_path / "t.parquet").stat().st_size < 1_000_000
    (outcome,) = outcomes([tmp_path / "t.parquet"])
    assert (outcome.ending, outcome.size) == ("whole", 2 + 300 * 2_000_001)


def test_a_stream_that_holds_terabytes_breaks_off_with_a_reason(tmp_path: Path) -> None:
    array = list_views(list_views(pa.array(["x"] * 100_000), 100_000), ROWS)
    batch = pa.record_batch({"a": array})
    with ipc.new_stream(tmp_path / "t.arrows", batch.schema) as writer:
        writer.write_batch(batch)
    (outcome,) = outcomes([tmp_path / "t.arrows"])
    assert outcome.ending == "SourceFailed"
    assert f"more than {shared_values.MAX_ROW_BYTES} bytes" in outcome.reason
