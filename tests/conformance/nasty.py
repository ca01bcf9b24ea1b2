"""An application whose datasets misbehave; what happens to them is appended to the file `NASTY_EVENTS`."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

from asgi_export import Bounds, ExportApp, Observe, RateLimit, Selection, SqliteSource, dataset
from asgi_export.logs import set_up_logs

TEXT = "x" * 100
COLUMNS = ["id", "text"]


def note(event: str) -> None:
    with Path(os.environ["NASTY_EVENTS"]).open("a") as file:
        file.write(event + "\n")


@dataset(columns=COLUMNS)
async def failing() -> AsyncIterator[list[tuple[int, str]]]:
    try:
        for first in range(0, 20_000, 1000):
            yield [(number, TEXT) for number in range(first, first + 1000)]
        raise RuntimeError("the disk is on fire")
    finally:
        note("failing closed")


@dataset(columns=COLUMNS)
async def failing_at_once() -> AsyncIterator[tuple[int, str]]:
    raise RuntimeError("the disk is on fire")
    yield (1, TEXT)


@dataset(columns=COLUMNS)
async def endless() -> AsyncIterator[tuple[int, str]]:
    number = 0
    try:
        note("endless opened")
        while True:
            number += 1
            yield (number, TEXT)
    finally:
        note("endless closed")


@dataset(columns=COLUMNS)
def endless_sync() -> Iterator[tuple[int, str]]:
    number = 0
    try:
        note("endless_sync opened")
        while True:
            number += 1
            yield (number, TEXT)
    finally:
        note("endless_sync closed")


@dataset(columns=COLUMNS)
async def slow(selection: Selection) -> AsyncIterator[tuple[object, ...]]:
    try:
        note("slow opened")
        await asyncio.Event().wait()
        yield tuple(selection.columns)
    finally:
        note("slow closed")


@dataset(columns=COLUMNS)
def slow_sync() -> Iterator[tuple[int, str]]:
    yield (1, TEXT)
    note("slow_sync opened")
    time.sleep(0.5)  # a driver that cannot be interrupted
    note("slow_sync woke")
    yield (2, TEXT)


set_up_logs()
sources: list[Any] = [
    failing,
    failing_at_once,
    endless,
    endless_sync,
    slow,
    slow_sync,
    SqliteSource(os.environ["NASTY_DB"]),
]
app = Observe(RateLimit(ExportApp(sources, bounds=Bounds(stall_seconds=1.0, close_seconds=5.0)), limit=1_000_000))
