"""Whatever is asked of any source: a 400 or a 403 that says why, never a 5xx, an exception or a database's words."""

from __future__ import annotations

import gzip
import io
import json
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any
from urllib.parse import quote_from_bytes

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from asgi_export import AccessPlan, ApiKeys, KeyRing, Owner, digest_of
from asgi_export.asgi.pump import BrokenOff
from asgi_export.export.filters import OPERATORS
from asgi_export.table import Filter, Sort
from tests.doubles import Client
from tests.questions.filter_oracle import answer
from tests.questions.nasty_table import COLUMNS, ROWS, SOURCES, TABLE, NastyService, table_of

QUICK = settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
LONG = settings(max_examples=400, suppress_health_check=[HealthCheck.function_scoped_fixture])

BAD: Sequence[tuple[str, str, str]] = [
    ("nope__exact", "1", "nope__exact: unknown column; there are id, "),
    ("whole__like", "1", "whole__like: unknown operator; a column of kind number has exact, not"),
    ("whole__", "1", "whole__: unknown operator"),
    ("__", "1", "__: unknown column"),
    ("__exact", "1", "__exact: unknown column"),
    ("whole____exact", "1", "whole____exact: unknown column"),
    ("WHOLE__exact", "1", "WHOLE__exact: unknown column"),
    ("whole__exact", "abc", "whole__exact=abc: expected a number, as the column is of kind number"),
    ("whole__exact", "1 or 1=1", "expected a number"),
    ("whole__exact", "1e401", "expected a number"),
    ("whole__contains", "1", "unknown operator"),
    ("price__gt", "1,5", "expected a number"),
    ("flag__gt", "true", "flag__gt: unknown operator; a column of kind boolean has exact, not, in, notin, isnull"),
    ("flag__exact", "1", "expected true or false"),
    ("flag__isnull", "yes", "expected true or false"),
    ("day__gte", "2026-13-01", "day__gte=2026-13-01: expected a date (2026-01-31)"),
    ("clock__lt", "24:00", "expected a time"),
    ("zoned__gte", "2026-01-31T00:00:00 01:00", "a + in a query is a blank, write %2B"),
    ("naive__exact", "0000-01-01", "expected a timestamp"),
    ("raw__exact", "0g", "expected hex digits"),
    ("items__exact", "[1,2]", "items__exact: unknown operator; a column of kind nested has isnull"),
    ("whole__in", ",".join(["1"] * 1001), "at most 1000"),
    ("whole__in", "[" * 100_000, "expected values with commas between, or a JSON array"),
    ("text__in", '[{"a": 1}]', "expected values with commas between, or a JSON array"),
    ("sort", "nope", "sort"),
    ("sort", "items", "sort"),
    ("sort", "id,id", "sort"),
    ("sort", "--id", "sort"),
    ("sort", "-", "sort"),
    ("sort", '"id', 'sort="id: expected names with commas between'),
]


def column_of(name: str) -> str:
    return name.rpartition("__")[0]


def detail(client: Client) -> str:
    return str(json.loads(client.body)["detail"])


@pytest.mark.parametrize("source", SOURCES)
def test_a_question_that_cannot_be_answered_is_a_bad_request_that_says_why(
    nasty_service: NastyService, source: str
) -> None:
    """The same from every source; but what a source cannot hold, it cannot be asked for."""
    for name, text, said in BAD:
        if column_of(name) in COLUMNS and column_of(name) not in table_of(source):
            continue
        client = nasty_service.ask(f"{source}.csv", [(name, text)])
        assert (client.status, said in detail(client)) == (400, True), (name, text[:50], client.body)
        assert len(detail(client)) < 1000


@pytest.mark.parametrize("source", SOURCES)
def test_more_filters_than_the_bound_are_a_bad_request(nasty_service: NastyService, source: str) -> None:
    client = nasty_service.ask(f"{source}.csv", [("whole__gte", "0")] * 51)
    assert (client.status, detail(client)) == (400, "51 filters: expected at most 50")
    assert nasty_service.ask(f"{source}.csv", [("whole__gte", "0")] * 50).status == 200


KEY = "k" * 32
NARROW = AccessPlan("narrow", columns=dict.fromkeys(SOURCES, frozenset({"id", "text"})))
FEW = AccessPlan("few", max_rows=5)


def ask_by_plan(nasty_service: NastyService, plan: AccessPlan, path: str, query: Sequence[tuple[str, str]]) -> Client:
    app = ApiKeys(nasty_service.app, keys=KeyRing([(digest_of(KEY), Owner("alice", plan))]))
    return nasty_service.ask(path, query, app, headers=[(b"x-api-key", KEY.encode())])


@pytest.mark.parametrize("source", SOURCES)
def test_a_column_that_may_not_be_read_tells_nothing(nasty_service: NastyService, source: str) -> None:
    """Not whether its values fit, nor its operators: the 403 comes first, and is the same for each."""
    for name, text in (("whole__gte", "0"), ("whole__like", "0"), ("whole__gte", "abc")):
        client = ask_by_plan(nasty_service, NARROW, f"{source}.csv", [(name, text)])
        assert (client.status, detail(client)) == (
            403,
            f"{name}: this key may not read the column; it may read id, text",
        )
    client = ask_by_plan(nasty_service, NARROW, f"{source}.csv", [("sort", "whole")])
    assert client.status == (403 if is_sorted(nasty_service, source) else 400)
    assert ask_by_plan(nasty_service, NARROW, f"{source}.csv", [("text__gte", "a")]).status == 200


def is_sorted(nasty_service: NastyService, source: str) -> bool:
    return "sort" in getattr(nasty_service.datasets[source], "applies", ())


@pytest.mark.parametrize("source", SOURCES)
def test_the_rows_of_a_plan_are_counted_after_the_filters(nasty_service: NastyService, source: str) -> None:
    few = [("id__lte", "5"), ("columns", "id")]
    client = ask_by_plan(nasty_service, FEW, f"{source}.csv", few)
    assert (client.status, client.complete, client.body.count(b"\n")) == (200, True, 6)
    with suppress(BrokenOff):  # which it is after the head; before it, there is a status
        assert ask_by_plan(nasty_service, FEW, f"{source}.csv", [("id__lte", "6")]).status == 403
    assert ask_by_plan(nasty_service, FEW, f"{source}.csv", [("id__lte", "5"), ("total", "6")]).status == 403


def ids_of_csv(body: bytes) -> list[int]:
    return [int(line) for line in body.split()[1:]]


def ids_of_json(body: bytes) -> list[int]:
    return [int(json.loads(line)["id"]) for line in body.splitlines()]


READERS: dict[str, Callable[[bytes], list[int]]] = {
    "csv": ids_of_csv,
    "tsv": ids_of_csv,
    "ndjson": ids_of_json,
    "parquet": lambda body: list(map(int, pq.read_table(io.BytesIO(body))["id"].to_pylist())),
    "arrow": lambda body: list(map(int, pa.ipc.open_stream(body).read_all()["id"].to_pylist())),
}
ASKED: Sequence[tuple[list[tuple[str, str]], list[Filter], list[Sort], int | None]] = [
    ([("whole__gte", "9.5")], [Filter("whole", "gte", 10)], [], None),
    ([("text__isnull", "true"), ("total", "1")], [Filter("text", "isnull", value=True)], [], 1),
    (
        [("id__in", "90,1,45"), ("small__not", "7")],
        [Filter("id", "in", (1, 45, 90)), Filter("small", "not", 7)],
        [],
        9,
    ),
    ([("id__gt", "90")], [Filter("id", "gt", 90)], [], None),
    ([("whole__lt", "0"), ("sort", "-text,id")], [Filter("whole", "lt", 0)], [Sort("text", True), Sort("id")], None),
]


@pytest.mark.parametrize("source", SOURCES)
@pytest.mark.parametrize("name", READERS)
def test_every_format_has_the_rows_that_are_asked_for(nasty_service: NastyService, source: str, name: str) -> None:
    """Also through gzip; HEAD has the same head, or the same error."""
    for query, filters, sort, limit in ASKED:
        pairs = [*query, ("columns", "id")]
        if sort and not is_sorted(nasty_service, source):
            assert nasty_service.ask(f"{source}.{name}", pairs).status == 400
            assert nasty_service.ask(f"{source}.{name}", pairs, method="HEAD").status == 400
            continue
        expected = [row["id"] for row in answer(TABLE, filters, sort, limit)]
        client = nasty_service.ask(f"{source}.{name}", pairs, headers=[(b"accept-encoding", b"gzip")])
        zipped = client.headers.get(b"content-encoding") == b"gzip"
        assert READERS[name](gzip.decompress(client.body) if zipped else client.body) == expected
        plain = nasty_service.ask(f"{source}.{name}", pairs)
        assert READERS[name](plain.body) == expected
        head = nasty_service.ask(f"{source}.{name}", pairs, method="HEAD")
        assert (head.status, head.body) == (200, b"")
        assert {name for name, _ in plain.sent[0]["headers"]} == {name for name, _ in head.sent[0]["headers"]}


OPERATOR_NAMES = sorted({name for names in OPERATORS.values() for name in names})
ANY = st.text(st.characters(exclude_categories=()), max_size=20)
LONG_TEXTS = ["9" * 400, "-" + "9" * 399, "[" * 9000, "[" + "1," * 1500 + "1]", "x" * 20_000]
NUMBER_TEXTS = ["1e400", "-1e-400", "infinity", "-inf", "nan", "true", "null"]
TIME_TEXTS = ["0001-01-01", "9999-12-31", "0001-01-01T00:00:00Z", "9999-12-31T23:59:59.999999Z", "00:00", "now"]
SQL_TEXTS = ["'", "''", '"', "\\", "\\'", "$$", "$1", "%s", "%(a)s", ":a", "?", "--", "/*", ";", "E'\\000'", "\\x00"]
JSON_TEXTS = ["[null]", "{}", '["\\ud800"]', '["a\\u0000"]', "\0", "a\0b", "\ufeff", "\U0010ffff"]
HUGE = st.sampled_from(LONG_TEXTS + NUMBER_TEXTS + TIME_TEXTS + SQL_TEXTS + JSON_TEXTS)
COLUMN_NAMES = (
    st.sampled_from([*COLUMNS, "rowid", "ctid", "oid", "nope", "", "_", "id__", "__id", '"id"', "id "]) | ANY
)
FILTER_NAMES = st.builds("{}__{}".format, COLUMN_NAMES, st.sampled_from(OPERATOR_NAMES) | ANY)
VALUES = HUGE | ANY | st.integers().map(str) | st.floats().map(repr) | st.dates().map(str) | st.datetimes().map(str)
SORTS = st.lists(st.builds("{}{}".format, st.sampled_from(["", "-", "+", " ", '"']), COLUMN_NAMES)).map(",".join)
LISTS = st.lists(VALUES, max_size=5).map(json.dumps)
PAIRS = st.lists(
    st.tuples(FILTER_NAMES, VALUES | LISTS) | st.tuples(st.just("sort"), SORTS) | st.tuples(st.just("total"), VALUES),
    max_size=4,
)
RAW = st.binary(max_size=40) | st.from_regex(
    rb"(%[0-9A-Fa-f]{0,2}|id|__|exact|=|&|\+|;|,|-|sort){0,12}", fullmatch=True
)
FORMATS = st.sampled_from(["csv", "ndjson"])
NOT_OURS = ("syntax", "sqlstate", "sqlite", "asyncpg", "postgres", "pyarrow", "arrow_error", "traceback", "near ")


def encoded(pairs: Sequence[tuple[str, str]]) -> str:
    coded = [[quote_from_bytes(text.encode("utf-8", "surrogatepass")) for text in pair] for pair in pairs]
    return "&".join("=".join(pair) for pair in coded)


def ask_anything(nasty_service: NastyService, source: str, name: str, query: Any) -> None:
    scope = {"query_string": query} if isinstance(query, bytes) else {}
    client = nasty_service.ask(f"{source}.{name}", "" if scope else encoded(query), **scope)
    assert client.status in (200, 400, 414), client.body
    assert client.complete
    if client.status != 200:
        words = detail(client).lower()
        assert len(words) < 3000
        asked = str(query).lower()
        assert [word for word in NOT_OURS if word in words and word not in asked] == []


@pytest.mark.parametrize("source", SOURCES)
@QUICK
@given(name=FORMATS, query=PAIRS | RAW)
def test_no_question_breaks_a_source(nasty_service: NastyService, source: str, name: str, query: Any) -> None:
    ask_anything(nasty_service, source, name, query)


@st.composite
def fitting(draw: st.DrawFn, source: str) -> list[tuple[str, str]]:
    """Filters that the reader lets through as far as it can, so that it is the source that must hold."""
    pairs = []
    for column in draw(st.lists(st.sampled_from(table_of(source)), min_size=1, max_size=3)):
        operator = draw(st.sampled_from(OPERATORS[COLUMNS[column].kind]))
        text = draw(LISTS if operator in ("in", "notin") else VALUES)
        pairs.append((f"{column}__{operator}", text))
    return pairs


@pytest.mark.parametrize("source", SOURCES)
@QUICK
@given(data=st.data())
def test_no_value_breaks_a_source(nasty_service: NastyService, source: str, data: st.DataObject) -> None:
    ask_anything(nasty_service, source, data.draw(FORMATS), data.draw(fitting(source)))


@pytest.mark.slow
@pytest.mark.parametrize("source", SOURCES)
@LONG
@given(data=st.data())
def test_none_of_many_questions_breaks_a_source(
    nasty_service: NastyService, source: str, data: st.DataObject
) -> None:
    ask_anything(nasty_service, source, data.draw(FORMATS), data.draw(fitting(source) | PAIRS | RAW))


@pytest.mark.parametrize("source", SOURCES)
def test_a_list_of_a_thousand_values_is_answered(nasty_service: NastyService, source: str) -> None:
    values = ",".join(map(str, range(1, 1001)))
    client = nasty_service.ask(f"{source}.csv", [("columns", "id"), *[("id__in", values)] * 3])
    assert client.status == 200
    assert len(ids_of_csv(client.body)) == ROWS
