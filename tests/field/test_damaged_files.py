"""Files that are damaged, or say what is not so: an error of one line, never a process that dies."""

from __future__ import annotations

import base64
import io
import random
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pyarrow.parquet.encryption as encryption
import pytest
from pyarrow import feather, ipc

from tests.field.read_files import EVERY_FORMAT, Outcome, outcomes

ROWS = 60
DAMAGES = 20
REFUSED = {"StartupError", "Unavailable", "SourceFailed"}


def table() -> pa.Table:
    """A column of every layout that Arrow has."""
    places = range(ROWS)
    return pa.table({
        "integer": pa.array(places),
        "text": pa.array([f"text {place}" * (place % 5) if place % 7 else None for place in places]),
        "view": pa.array([f"a text longer than twelve {place}" for place in places], pa.string_view()),
        "list": pa.array([[*range(place % 4)] for place in places]),
        "list view": pa.array([[*range(place % 4)] for place in places], pa.list_view(pa.int8())),
        "pair": pa.array([[1, 2]] * ROWS, pa.list_(pa.int8(), 2)),
        "struct": pa.array([{"a": place, "b": [str(place)]} for place in places]),
        "map": pa.array([[("k", place)] for place in places], pa.map_(pa.string(), pa.int64())),
        "dictionary": pa.array([f"c{place % 5}" for place in places]).dictionary_encode(),
        "runs": pa.RunEndEncodedArray.from_arrays(pa.array([15, ROWS], pa.int32()), ["x", "y"]),
        "union": pa.UnionArray.from_dense(
            pa.array([place % 2 for place in places], pa.int8()),
            pa.array([place // 2 for place in places], pa.int32()),
            [pa.array(places), pa.array([str(place) for place in places])],
        ),
        "moment": pa.array(places, pa.timestamp("us", "Europe/Berlin")),
        "decimal": pa.array(places).cast(pa.decimal128(25, 2)),
        "bytes": pa.array([b"\xff" * (place % 3) for place in places]),
        "boolean": pa.array([place % 2 == 0 for place in places]),
        "null": pa.nulls(ROWS),
    })  # fmt: skip


def parquet_bytes() -> bytes:
    file = io.BytesIO()
    pq.write_table(table().drop_columns(["list view", "runs", "union"]), file, row_group_size=40)
    return file.getvalue()


def arrow_bytes(opened: Callable[..., Any], compression: str | None) -> bytes:
    found = table()
    file = io.BytesIO()
    with opened(file, found.schema, options=ipc.IpcWriteOptions(compression=compression)) as writer:
        writer.write_table(found, max_chunksize=40)
    return file.getvalue()


def feather_bytes() -> bytes:
    file = io.BytesIO()
    feather.write_feather(table().select(["integer", "text"]), file, compression="zstd")
    return file.getvalue()


WHOLE: dict[str, Callable[[], bytes]] = {
    "t.parquet": parquet_bytes,
    "file.arrow": lambda: arrow_bytes(ipc.new_file, None),
    "file-lz4.arrow": lambda: arrow_bytes(ipc.new_file, "lz4"),
    "file-zstd.arrow": lambda: arrow_bytes(ipc.new_file, "zstd"),
    "stream.arrows": lambda: arrow_bytes(ipc.new_stream, None),
    "stream-lz4.arrows": lambda: arrow_bytes(ipc.new_stream, "lz4"),
    "stream-zstd.arrows": lambda: arrow_bytes(ipc.new_stream, "zstd"),
    "t.feather": feather_bytes,
}


def damaged(data: bytes, dice: random.Random) -> bytes:
    """The bytes with one change, or with some."""
    found = bytearray(data)
    for _ in range(dice.choice([1, 1, 1, 3, 20])):
        place = dice.randrange(len(found))
        match dice.randrange(5):
            case 0:
                found[place] ^= 1 << dice.randrange(8)
            case 1:
                found[place] = 255
            case 2:
                found[place : place + 4] = dice.choice([b"\xff\xff\xff\x7f", b"\0\0\0\x80", bytes(4), b"\1\0\0\0"])
            case 3:
                found[place : place + 8] = dice.choice([b"\xff" * 7 + b"\x7f", b"\0\0\0\0\0\1\0\0", b"\xff" * 8])
            case _:
                del found[max(64, place) :]
    return bytes(found)


def expect_answers(found: list[Outcome]) -> None:
    for outcome in found:
        assert outcome.ending in {"whole", *REFUSED}, outcome
        assert "\n" not in outcome.reason, outcome


def write_damaged(folder: Path, name: str) -> list[Path]:
    """The first is whole."""
    whole = WHOLE[name]()
    dice = random.Random(name)
    paths = [folder / f"{place}-{name}" for place in range(DAMAGES)]
    paths[0].write_bytes(whole)
    for path in paths[1:]:
        path.write_bytes(damaged(whole, dice))
    return paths


@pytest.mark.slow
def test_no_damage_ends_the_process(tmp_path: Path) -> None:
    """Some damage is not seen, as where it is within a value: then the export is whole. One process reads all."""
    paths = {name: write_damaged(tmp_path, name) for name in WHOLE}
    found = outcomes([path for several in paths.values() for path in several], EVERY_FORMAT)
    expect_answers(found)
    for first, *others in paths.values():
        assert {outcome.ending for outcome in found if outcome.path == first} == {"whole"}, first
        assert {outcome.ending for outcome in found if outcome.path in others} & REFUSED, first


def stream_of(batch: pa.RecordBatch) -> bytes:
    file = io.BytesIO()
    with ipc.new_stream(file, batch.schema) as writer:
        writer.write_batch(batch)
    return file.getvalue()


def lie(array: pa.Array, told: bytes, lies: bytes) -> bytes:
    """A stream of one column, in which other bytes stand for these."""
    whole = stream_of(pa.RecordBatch.from_arrays([array], ["a"]))
    assert whole.count(told) == 1
    return whole.replace(told, lies)


def int32(*values: int) -> bytes:
    return b"".join([value.to_bytes(4, "little", signed=True) for value in values])


LIES: dict[str, Callable[[], bytes]] = {
    "offsets past the text": lambda: lie(pa.array(["abcd", "efgh"]), int32(0, 4, 8), int32(0, 300, 8)),
    "offsets that go back": lambda: lie(pa.array(["abcd", "efgh"]), int32(0, 4, 8), int32(0, 9, 8)),
    "text that is no UTF-8": lambda: lie(pa.array(["XYXYX"]), b"XYXYX", b"XY\xffYX"),
    "a view past its text": lambda: lie(
        pa.array(["a text that is long"], pa.string_view()), b"a te" + int32(0, 0), b"a te" + int32(0, 9999)
    ),
    "an index past the dictionary": lambda: lie(
        pa.DictionaryArray.from_arrays(pa.array([0, 1, 0, 1], pa.int32()), ["x", "y"]),
        int32(0, 1, 0, 1), int32(0, 1, 0, 9000),
    ),
    "a type that the union lacks": lambda: lie(
        pa.UnionArray.from_sparse(pa.array([0, 0, 1, 0, 1], pa.int8()), [pa.array([7] * 5), pa.array([9] * 5)]),
        b"\0\0\1\0\1", b"\0\0\1\0\5",
    ),
    "a list past its values": lambda: lie(pa.array([[1, 2], [3]]), int32(0, 2, 3), int32(0, 2, 3000)),
    "runs that end early": lambda: lie(
        pa.RunEndEncodedArray.from_arrays(pa.array([3, 5, 900], pa.int32()), ["x", "y", "z"]),
        int32(3, 5, 900), int32(3, 5, 2),
    ),
    "a decimal past its precision": lambda: lie(
        pa.array([123], pa.int8()).cast(pa.decimal128(3, 0)), int32(123, 0, 0, 0), int32(123, 0, 0, 99)
    ),
}  # fmt: skip


def test_a_stream_that_says_what_is_not_so_is_refused_before_a_row_of_it_is_sent(tmp_path: Path) -> None:
    paths = []
    for name, made in LIES.items():
        paths.append(tmp_path / f"{name}.arrows")
        paths[-1].write_bytes(made())
    for outcome in outcomes(paths, EVERY_FORMAT):
        assert outcome.ending == "SourceFailed", outcome
        assert re.search(r"'a' is damaged|View at slot", outcome.reason), outcome


def test_parquet_text_that_is_no_utf8_is_refused_by_its_column(tmp_path: Path) -> None:
    file = io.BytesIO()
    pq.write_table(pa.table({"ok": [1], "a": ["XYXYX"]}), file, compression="none")
    (tmp_path / "t.parquet").write_bytes(file.getvalue().replace(b"XYXYX", b"XY\xffYX"))
    (outcome,) = outcomes([tmp_path / "t.parquet"])
    assert outcome.ending == "SourceFailed"
    assert "column 'a' is damaged" in outcome.reason


class OwnKeys(encryption.KmsClient):  # type: ignore[misc]
    """Wraps keys in nothing."""

    def wrap_key(self, key_bytes: bytes, _: str) -> bytes:
        return base64.b64encode(key_bytes)

    def unwrap_key(self, wrapped_key: bytes, _: str) -> bytes:
        return base64.b64decode(wrapped_key)


def write_encrypted(path: Path, *, plaintext_footer: bool) -> None:
    found = pa.table({"id": [1, 2], "secret": ["x", "y"]})
    options = encryption.EncryptionConfiguration(
        footer_key="footer", column_keys={"key": ["secret"]}, plaintext_footer=plaintext_footer
    )
    factory = encryption.CryptoFactory(lambda _: OwnKeys())
    properties = factory.file_encryption_properties(encryption.KmsConnectionConfig(), options)
    with pq.ParquetWriter(path, found.schema, encryption_properties=properties) as writer:
        writer.write_table(found)


def test_an_encrypted_parquet_file_is_refused(tmp_path: Path) -> None:
    """With a plaintext footer the file starts, and the columns that are not encrypted can be had."""
    write_encrypted(tmp_path / "footer.parquet", plaintext_footer=False)
    write_encrypted(tmp_path / "column.parquet", plaintext_footer=True)
    footer, column = outcomes([tmp_path / "footer.parquet", tmp_path / "column.parquet"])
    assert (footer.ending, column.ending) == ("StartupError", "SourceFailed")
    assert "decrypt" in column.reason


def hostile_names() -> pa.Table:
    names = [
        "a\0b",
        "a\nb",
        "",
        "\u202e",
        "x" * 100_000,
        '"',
        "\udcff".encode("utf-8", "surrogatepass").decode("latin-1"),
    ]
    return pa.table([pa.array([place]) for place in range(len(names))], names)


HOSTILE: dict[str, Callable[[], pa.Table]] = {
    "names": hostile_names,
    "10,000 columns": lambda: pa.table({str(place): pa.array([place]) for place in range(10_000)}),
    "50 levels": lambda: pa.table({"a": nested(50)}),
    "an unknown extension": lambda: pa.table(
        {"a": pa.array([1])},
        pa.schema(
            [pa.field("a", pa.int64(), metadata={"ARROW:extension:name": "x\n", "ARROW:extension:metadata": ""})]
        ),
    ),
}


def nested(depth: int) -> pa.Array:
    array: pa.Array = pa.array([1])
    for _ in range(depth):
        array = pa.StructArray.from_arrays([array], ["a"])
    return array


def test_what_is_merely_odd_is_served(tmp_path: Path) -> None:
    paths = []
    for name, made in HOSTILE.items():
        table = made()
        paths += [tmp_path / f"{name}.parquet", tmp_path / f"{name}.arrow"]
        pq.write_table(table, paths[-2])
        feather.write_feather(table, str(paths[-1]))
    for outcome in outcomes(paths):
        assert outcome.ending == "whole", outcome


def test_dictionaries_that_are_replaced_and_added_to_are_read_as_they_are_at_each_batch(tmp_path: Path) -> None:
    """Deltas add to a dictionary, and a stream may replace one."""
    path = tmp_path / "t.arrows"
    kind = pa.dictionary(pa.int8(), pa.string())
    parts = (["x"], ["x", "y"], ["z"])
    batches = [
        pa.record_batch({"a": pa.DictionaryArray.from_arrays(pa.array([len(part) - 1], pa.int8()), part)})
        for part in parts
    ]
    options = ipc.IpcWriteOptions(emit_dictionary_deltas=True)
    with ipc.new_stream(str(path), pa.schema([("a", kind)]), options=options) as writer:
        for batch in batches:
            writer.write_batch(batch)
    (outcome,) = outcomes([path])
    assert (outcome.ending, outcome.size) == ("whole", len("a\nx\ny\nz\n"))
