"""JSON lines files: their columns, exact values, bounded memory; damaged and hostile ones are broken, not shorter."""

from __future__ import annotations

import csv
import gzip
import io
import json
import tracemalloc
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from asgi_export.access.plans import OPEN
from asgi_export.errors import BadRequest, SourceFailed, StartupError, Unavailable
from asgi_export.export.filters import check_sort
from asgi_export.sources.files import json_lines
from asgi_export.table import JsonText, Selection, Sort
from tests.conformance.servers import get, running
from tests.sources.test_files import started


def read(dataset: Any, *columns: str, limit: int | None = None) -> list[tuple[Any, ...]]:
    names = columns or tuple(column.name for column in dataset.columns)
    with dataset.open(Selection(names, limit)) as batches:
        return [row for batch in batches for row in batch]


def write(path: Path, *lines: object) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join([(line if isinstance(line, str) else json.dumps(line)) + "\n" for line in lines]))
    return path


def types(dataset: Any) -> dict[str, str]:
    return {column.name: column.type for column in dataset.columns}


def test_columns_are_the_keys_in_the_order_of_their_first_appearance(tmp_path: Path) -> None:
    path = write(tmp_path / "t.jsonl", {"a": 1}, "", {"c": "x", "b": None}, "  \r", {"b": 0.5, "a": None})
    dataset = started(path)
    assert dataset.name == "t"
    assert types(dataset) == {"a": "bigint", "c": "text", "b": "double"}
    assert read(dataset) == [(1, None, None), (None, "x", None), (None, None, 0.5)]
    assert read(dataset, "b", "a", limit=1) == [(None, 1)]
    assert read(dataset, limit=0) == []


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("t.ndjson", b'{"a":"Zo\xc3\xab"}'),
        ("t.JSONL", b'\xef\xbb\xbf{"a":"Zo\\u00eb"}\r\n'),
        ("t.jsonl.gz", gzip.compress('{"a":"Zoë"}'.encode())),
        ("t.ndjson.zst", zstandard.compress('{"a":"Zoë"}'.encode())),
        ("t.jsonl", '{"a":"Zoë"}\n'.encode("utf-16")),
        ("t.jsonl?encoding=latin-1", '{"a":"Zoë"}\n'.encode("latin-1")),
    ],
)
def test_files_are_known_by_their_suffix(tmp_path: Path, name: str, data: bytes) -> None:
    (tmp_path / name.partition("?")[0]).write_bytes(data)
    dataset = started(tmp_path / name)
    assert (dataset.name, read(dataset)) == ("t", [("Zoë",)])


TENTH = "0.1000000000000000055511151231257827"

NUMBERS: list[tuple[str, object, str, str]] = [
    ("1", 1, "1", "bigint"),
    ("-9223372036854775808", -(2**63), "-9223372036854775808", "bigint"),
    ("9007199254740993", 2**53 + 1, "9007199254740993", "bigint"),
    ("18446744073709551616", 2**64, "18446744073709551616", "numeric"),
    ("1" * 5000, "1" * 5000, "1" * 5000, "numeric"),
    ("0.1", 0.1, "0.1", "double"),
    ("1.10", 1.1, "1.1", "double"),
    ("1E+2", 100.0, "100.0", "double"),
    ("12345678901234567.89", "12345678901234567.89", "12345678901234567.89", "numeric"),
    (
        "0.1000000000000000055511151231257827",
        "0.1000000000000000055511151231257827",
        "0.1000000000000000055511151231257827",
        "numeric",
    ),
    ("1e400", "1e400", "1e400", "numeric"),
    ("1e-400", "1e-400", "1e-400", "numeric"),
    ("1e99999999999999999999", "1e99999999999999999999", "1e99999999999999999999", "numeric"),
]


@pytest.mark.parametrize(("text", "value", "shown", "kind"), NUMBERS, ids=lambda value: str(value)[:24])
def test_a_number_is_exact(tmp_path: Path, text: str, value: object, shown: str, kind: str) -> None:
    dataset = started(write(tmp_path / "t.jsonl", f'{{"n":{text}}}'))
    assert types(dataset) == {"n": kind}
    ((found,),) = read(dataset)
    assert found == value
    assert isinstance(found, JsonText) == isinstance(value, str)  # which NDJSON writes as the number that it is


def test_what_the_export_of_numbers_gives_is_what_the_file_says(tmp_path: Path) -> None:
    """In NDJSON the same numbers, in CSV their text, in Parquet text where no number type holds them all."""
    numbers = NUMBERS[:-1]  # Decimal has no such exponent, and could not compare it
    texts = [text for text, *_ in numbers]
    nested = '{"n":12345678901234567.89,"s":"\\u2028 \\"","l":[1,2.50,null,{"m":18446744073709551616}]}'
    write(tmp_path / "t.jsonl", *[f'{{"n":{text},"v":{nested}}}' for text in texts])
    with running(["asgi_export", "serve", str(tmp_path / "t.jsonl"), "--port", "0"], tmp_path / "output") as server:
        lines = get(server, "/api/v1/exports/ndjson").body.decode()
        table = list(csv.reader(io.StringIO(get(server, "/api/v1/exports/csv").body.decode())))
        file = pq.read_table(pa.BufferReader(get(server, "/api/v1/exports/parquet").body))
    expected = json.loads(nested, parse_float=Decimal)
    loaded = [json.loads(line, parse_float=Decimal, parse_int=Decimal) for line in lines.split("\n")[:-1]]
    assert [row["n"] for row in loaded] == [Decimal(text) for text in texts]
    assert all(row["v"] == expected for row in loaded)
    assert [row[0] for row in table[1:]] == [shown for _, _, shown, _ in numbers]
    assert all(json.loads(row[1], parse_float=Decimal) == expected for row in table[1:])
    assert file.column("n").to_pylist() == [shown for _, _, shown, _ in numbers]


LEAVES = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text()
VALUES = st.recursive(
    LEAVES, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4)
)
TEXT = st.text(st.characters(exclude_categories=["Cs"]))


@given(st.lists(st.dictionaries(TEXT, VALUES, max_size=4), min_size=1, max_size=8), st.integers(1, 64))
def test_what_json_wrote_is_read_whatever_the_blocks(
    tmp_path_factory: pytest.TempPathFactory, rows: list[dict[str, Any]], block: int
) -> None:
    if not any(rows):
        return
    path = write(tmp_path_factory.mktemp("j") / "t.jsonl", *rows)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(json_lines, "READ_BYTES", block)
        dataset = started(path)
        names = [column.name for column in dataset.columns]
        found = [
            [json.loads(value) if isinstance(value, JsonText) else value for value in row] for row in read(dataset)
        ]
    assert found == [[row.get(name) for name in names] for row in rows]


VARIED: tuple[dict[str, Any], ...] = ({"a": 1}, {"a": "1"}, {"a": True}, {"a": None}, {"a": [1]}, {"a": {}})


def test_values_of_several_kinds_are_each_what_they_are(tmp_path: Path) -> None:
    dataset = started(write(tmp_path / "t.jsonl", *VARIED))
    assert types(dataset) == {"a": "text"}
    assert read(dataset) == [(1,), ("1",), (True,), (None,), (JsonText("[1]"),), (JsonText("{}"),)]


BROKEN = {
    "cut in a value": ('{"a":1,"b":"x', "line {n}: no JSON: .*; was it cut off"),
    "cut in an object": ('{"a":1', "line {n}: no JSON"),
    "two in a line": ('{"a":1}{"a":2}', "line {n}: more than one JSON value"),
    "a duplicate key": ('{"a":1,"a":2}', "line {n}: a key occurs twice"),
    "a duplicate key within": ('{"a":{"b":1,"b":2}}', "line {n}: a key occurs twice"),
    "an array": ("[1,2]", "line {n}: expected a JSON object"),
    "a number": ("17", "line {n}: expected a JSON object"),
    "zeros": ("\0" * 100, "line {n}: no JSON"),
    "too deep": ('{"a":' + "[" * 100_000 + "]" * 100_000 + "}", "line {n}: it is nested too deeply"),
    "too long": ('{"a":"' + "x" * json_lines.MAX_LINE_BYTES + '"}', "a line has more than"),
    "no UTF-8": ('{"a":"\udce9"}', "not UTF-8"),
}


@pytest.mark.parametrize(("line", "reason"), BROKEN.values(), ids=BROKEN)
def test_a_broken_line_stops_the_start_or_breaks_the_export(
    tmp_path: Path, line: str, reason: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = line.encode(errors="surrogateescape")
    (tmp_path / "t.jsonl").write_bytes(b'{"a":1}\n' + data)
    with pytest.raises(StartupError, match=reason.format(n=2)) as raised:
        started(tmp_path / "t.jsonl")
    assert str(raised.value).startswith(f"{tmp_path}/t.jsonl: cannot be read as jsonl: ")
    assert len(str(raised.value)) < 300

    monkeypatch.setattr(json_lines, "SCAN_BYTES", 1000)
    rows = 20_000
    (tmp_path / "t.jsonl").write_bytes(b'{"a":1}\n' * rows + data)
    with pytest.raises(SourceFailed) as failed:
        read(started(tmp_path / "t.jsonl"))
    with pytest.raises(pa.ArrowInvalid, match=reason.format(n=rows + 1)):
        raise failed.value.__cause__ or failed.value


def test_a_key_that_is_not_seen_at_the_start_breaks_the_export_unless_all_is_looked_at(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(json_lines, "SCAN_BYTES", 1000)
    path = write(tmp_path / "t.jsonl", *[{"a": 1}] * 50_000, {"a": 2, "late": 3})
    with pytest.raises(SourceFailed) as failed:
        read(started(path))
    assert "put ?scan=all behind the location" in str(failed.value.__cause__)
    dataset = started(f"{path}?scan=all")
    assert read(dataset, "late", "a")[-1] == (3, 2)
    assert len(read(dataset)) == 50_001


@pytest.mark.parametrize("option", ["scan=some", "scan=", "delimiter=;", "null=x", "encoding=nope"])
def test_wrong_options_stop_the_start(tmp_path: Path, option: str) -> None:
    write(tmp_path / "t.jsonl", {"a": 1})
    with pytest.raises(StartupError, match=r"t.jsonl: (scan=|unknown option|encoding=)"):
        started(f"{tmp_path}/t.jsonl?{option}")


@pytest.mark.parametrize("data", [b"", b"\n\n", b"{}\n", b'{"\\ud800":1}\n', b"%PDF-1.7\n", gzip.compress(b"{}")])
def test_what_has_no_columns_stops_the_start(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "t.jsonl").write_bytes(data)
    with pytest.raises(StartupError):
        started(tmp_path / "t.jsonl")


def test_files_of_a_folder_have_the_columns_of_all_and_of_their_folders(tmp_path: Path) -> None:
    write(tmp_path / "s/year=2024/zone=01/a.jsonl", {"a": 1}, {"a": 2, "zone": "own"})
    write(tmp_path / "s/year=2025/zone=__HIVE_DEFAULT_PARTITION__/b.jsonl.gz").write_bytes(gzip.compress(b'{"b":[]}'))
    dataset = started(tmp_path / "s")
    assert [column.name for column in dataset.columns] == ["a", "zone", "b", "year"]
    assert read(dataset, "a", "b", "year") == [(1, None, 2024), (2, None, 2024), (None, JsonText("[]"), 2025)]


def test_a_folder_gives_a_column_where_no_line_does(tmp_path: Path) -> None:
    write(tmp_path / "s/year=2024/zone=01/a.jsonl", {"a": 1})
    write(tmp_path / "s/year=2025/zone=__HIVE_DEFAULT_PARTITION__/b.jsonl", {"a": 2})
    assert read(started(tmp_path / "s")) == [(1, 2024, "01"), (2, 2025, None)]


@pytest.mark.slow
def test_memory_is_bounded_whatever_the_size_of_the_file(tmp_path: Path) -> None:
    bomb = b'{"a":1,"b":"' + b"x" * 100 + b'"}\n'
    (tmp_path / "t.jsonl.gz").write_bytes(gzip.compress(bomb * 60_000, 1))
    dataset: Any = started(tmp_path / "t.jsonl.gz")
    tracemalloc.start()
    try:
        with dataset.open(Selection(("a", "b"))) as batches:
            assert sum(len(batch) for batch in batches) == 60_000
        assert tracemalloc.get_traced_memory()[1] < 2_000_000
    finally:
        tracemalloc.stop()


def test_a_truncated_stream_is_broken(tmp_path: Path) -> None:
    path = tmp_path / "t.jsonl.gz"
    path.write_bytes(gzip.compress(b'{"a":1}\n' * 10)[:-3])
    with pytest.raises(StartupError, match="Truncated"):
        started(path)


def test_a_file_that_changes_is_a_failure(tmp_path: Path) -> None:
    path = write(tmp_path / "t.jsonl", *[{"a": 1}] * 50_000)
    dataset: Any = started(path)
    with dataset.open(Selection(("a",))) as batches:
        next(batches)
        path.write_text("")
        with pytest.raises(SourceFailed):
            list(batches)
    path.unlink()
    with pytest.raises(Unavailable):
        read(dataset)


def test_a_sort_is_refused_with_what_can_be_sorted(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('{"a": 1}\n')
    found = started(tmp_path / "a.jsonl")
    with pytest.raises(BadRequest, match="expected a Parquet, Arrow or CSV file"):
        check_sort((Sort("a"),), found, OPEN)
