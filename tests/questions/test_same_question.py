"""The same question gets the same rows, in the same order, from every source that holds the same table.

hypothesis draws filters, a sort, columns and a limit; the answers are read back and must be those of
`filter_oracle.py`.
"""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from asgi_export.declared import Kind
from asgi_export.export.filters import OPERATORS, read_value
from asgi_export.table import Filter, Sort
from asgi_export.values.text import text_of
from tests.questions.filter_oracle import answer
from tests.questions.nasty_table import (
    COLUMNS,
    DIGITS,
    NULL,
    SOURCES,
    TABLE,
    TEXTS,
    NastyService,
    read_moment,
    table_of,
)


@dataclass(frozen=True, slots=True)
class Question:
    """What is asked: names and texts of filters, the sort, the columns of the output, and the limit."""

    columns: tuple[str, ...]
    filters: tuple[tuple[str, str, str], ...] = ()
    sort: tuple[Sort, ...] = ()
    limit: int | None = None

    @property
    def names(self) -> set[str]:
        return {*self.columns, *[name for name, *_ in self.filters], *[found.column for found in self.sort]}

    @property
    def query(self) -> list[tuple[str, str]]:
        pairs = [("columns", ",".join(self.columns)), ("null", NULL)]
        pairs += [(f"{name}__{operator}", text) for name, operator, text in self.filters]
        if self.sort:
            pairs.append(("sort", ",".join(("-" if found.descending else "") + found.column for found in self.sort)))
        return pairs if self.limit is None else [*pairs, ("total", str(self.limit))]

    @property
    def expected(self) -> list[tuple[Any, ...]]:
        filters = [
            Filter(name, operator, read_value(operator, COLUMNS[name].kind, text))  # type: ignore[arg-type]
            for name, operator, text in self.filters
        ]
        found = answer(TABLE, filters, self.sort, self.limit)
        return [tuple([row[name] for name in self.columns]) for row in found]


NUMBERS = ["0", "-0.0", "1", "9", "9.5", "10", "10.0", "1e1", "0.1", "0.30000000000000004", "0.3", "9007199254740993"]
NUMBERS += ["9223372036854775807", "9223372036854775808", "-9223372036854775809", "1e308", "1e309", "-1e400", "nan"]
NUMBERS += ["inf", "-inf", "1e-400", "2147483648", "16777217", "0.10", "0.105", "1.00000000005", "9" * 60]
OTHERS: Mapping[Kind, Sequence[str]] = {
    "number": NUMBERS,
    "text": [*TEXTS, *DIGITS, "B", "e", "a\0b", "\\", "x" * 100, "\ud7ff", "\ue000", "\U0010ffff"],
    "boolean": ["true", "false"],
    "date": ["0001-01-02", "2024-02-28", "2024-03-01"],
    "time": ["00:00", "12:00:00.000001", "23:59"],
    "timestamp": ["2024-02-29", "2024-02-29T17:45:00.5%2B05:45", "1970-01-01 00:00", "9999-12-31T23:59:59.999999Z"],
    "bytes": ["", "00", "61", "6162", "\\xff", "ffff"],
}
OTHERS = {**OTHERS, "timestamp": [text.replace("%2B", "+") for text in OTHERS["timestamp"]]}


def text_for(name: str) -> st.SearchStrategy[str]:
    held = COLUMNS[name]
    own = [str(text_of(value)) for value in held.values]
    return st.sampled_from([*own, *OTHERS.get(held.kind, ())])


@st.composite
def filters(draw: st.DrawFn, names: Sequence[str]) -> tuple[str, str, str]:
    name = draw(st.sampled_from(names))
    operator = draw(st.sampled_from(OPERATORS[COLUMNS[name].kind]))
    if operator == "isnull":
        return name, operator, draw(st.sampled_from(["true", "false"]))
    if operator in ("in", "notin"):
        return name, operator, json.dumps(draw(st.lists(text_for(name), max_size=4)))
    return name, operator, draw(text_for(name))


@st.composite
def questions(draw: st.DrawFn, names: Sequence[str], *, sorts: bool) -> Question:
    chosen = draw(st.lists(st.sampled_from([name for name in names if name != "id"]), max_size=3, unique=True))
    found = draw(st.lists(filters(names), max_size=3))
    orders = [name for name in names if COLUMNS[name].kind != "nested"]
    by = draw(st.lists(st.sampled_from(orders), max_size=3, unique=True)) if sorts else []
    sort = tuple([Sort(name, draw(st.booleans())) for name in by])
    return Question(("id", *chosen), tuple(found), sort, draw(st.none() | st.integers(0, 20)))


def read_csv(body: bytes, names: Sequence[str]) -> list[tuple[Any, ...]]:
    header, *lines = csv.reader(io.StringIO(body.decode(), newline=""), strict=True)
    assert header == list(names)
    reads = [COLUMNS[name].read for name in names]
    return [
        tuple(None if text == NULL else read(text) for read, text in zip(reads, line, strict=True)) for line in lines
    ]


def comparable(found: Sequence[tuple[Any, ...]]) -> list[tuple[Any, ...]]:
    """NaN equals itself here, and instants without an offset are UTC."""
    return [tuple([_comparable(value) for value in row]) for row in found]


def _comparable(value: Any) -> Any:
    if isinstance(value, float | np.float32) and math.isnan(value):
        return "NaN"
    if isinstance(value, datetime):
        return read_moment(value.isoformat()).astimezone(UTC)
    return value


def check(nasty_service: NastyService, source: str, question: Question) -> None:
    """Ask once for CSV, which databases may write themselves, and once for NDJSON, which comes from values."""
    client = nasty_service.ask(f"{source}.csv", question.query)
    assert client.status == 200, client.body
    assert comparable(read_csv(client.body, question.columns)) == comparable(question.expected)
    client = nasty_service.ask(f"{source}.ndjson", [pair for pair in question.query if pair[0] != "null"])
    assert client.status == 200, client.body
    assert [int(json.loads(line)["id"]) for line in client.body.splitlines()] == [row[0] for row in question.expected]


def sorts(nasty_service: NastyService, source: str) -> bool:
    return "sort" in getattr(nasty_service.datasets[source], "applies", ())


def ask_everything(nasty_service: NastyService, source: str, data: st.DataObject) -> None:
    check(nasty_service, source, data.draw(questions(table_of(source), sorts=sorts(nasty_service, source))))


@pytest.mark.parametrize("source", SOURCES)
@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_every_source_answers_as_the_oracle_does(
    nasty_service: NastyService, source: str, data: st.DataObject
) -> None:
    ask_everything(nasty_service, source, data)


@pytest.mark.slow
@pytest.mark.parametrize("source", SOURCES)
@settings(max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_every_source_answers_many_questions_as_the_oracle_does(
    nasty_service: NastyService, source: str, data: st.DataObject
) -> None:
    ask_everything(nasty_service, source, data)


@pytest.mark.parametrize("source", SOURCES)
def test_every_source_holds_the_same_table(nasty_service: NastyService, source: str) -> None:
    """Else nothing here is compared: the same kinds, the same values, in the same order."""
    found = nasty_service.datasets[source]
    assert [(column.name, column.kind) for column in found.columns] == [
        (name, COLUMNS[name].kind) for name in table_of(source)
    ]
    check(nasty_service, source, Question(tuple(table_of(source))))
