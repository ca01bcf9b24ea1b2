"""The made-up rows: as in the example that they come from, the same in every export."""

from __future__ import annotations

import asyncio
import re

import pytest

from asgi_export import ExportApp, Selection, SimulatedDataset
from asgi_export.sources.simulated import BLOCK_ROWS, blocks
from tests.doubles import Client, Turns, http_scope

COLUMNS = ("id", "name", "value", "created_at")
LINE = re.compile(r"(\d+),user-(\d+),\d+\.\d\d,\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z")


@pytest.mark.parametrize("total", [0, 1, BLOCK_ROWS - 1, BLOCK_ROWS, BLOCK_ROWS + 1, 12_345])
def test_rows_look_as_in_the_example(total: int) -> None:
    client = Client()
    app = ExportApp([SimulatedDataset()])
    asyncio.run(app(http_scope(query=f"total={total}"), client.receive, client.send))
    header, *lines = client.body.decode().splitlines()
    assert header == "id,name,value,created_at"
    assert len(lines) == total
    for number, line in enumerate(lines, 1):
        match = LINE.fullmatch(line)
        assert match
        assert match[1] == match[2] == str(number)


def test_ten_thousand_rows_are_the_default() -> None:
    client = Client()
    asyncio.run(ExportApp([SimulatedDataset()])(http_scope(), client.receive, client.send))
    assert client.body.count(b"\n") == 10_001


def test_columns_come_in_the_asked_order() -> None:
    (rows,) = blocks(Selection(("value", "id"), limit=2))
    assert [row[1] for row in rows] == [1, 2]


def test_moments_go_on_a_millisecond_a_row() -> None:
    moments = [row[0] for block in blocks(Selection(("created_at",), limit=2001)) for row in block]
    assert moments[0] == "2024-01-01T00:00:00.001Z"
    assert moments[999] == "2024-01-01T00:00:01.000Z"
    assert moments[2000] == "2024-01-01T00:00:02.001Z"
    assert moments == sorted(set(moments))


def test_the_loop_turns_at_least_once_a_thousand_rows() -> None:
    async def scenario() -> int:
        client = Client()
        async with Turns() as turns:
            await ExportApp([SimulatedDataset()])(http_scope(query="total=100000"), client.receive, client.send)
        return turns.count

    assert asyncio.run(scenario()) >= 100
