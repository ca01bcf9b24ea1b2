"""Documents are made once for those who have the same rights, whatever they cost."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from asgi_export import ExportApp, dataset
from asgi_export.access.key_file import KeyFile
from asgi_export.access.plans import AccessPlan, digest_of
from asgi_export.middleware.callers import ApiKeys
from asgi_export.openapi.cache import MAX_KEPT, Documents, rights_of
from asgi_export.table import Column, Dataset
from tests.openapi.described import ALICE, KEYS, ask


class Looked:
    """A dataset that counts how often its columns are looked at."""

    name = "people"
    default_limit = None

    def __init__(self) -> None:
        self.looks = 0

    @property
    def columns(self) -> Sequence[Column]:
        self.looks += 1
        return (Column("id"), Column("name"))

    def open(self, selection: object) -> Any:
        raise NotImplementedError


class Changing:
    """A source that has another table at each start."""

    name = "changing"

    def __init__(self) -> None:
        self.starts = 0

    async def start(self) -> Sequence[Dataset]:
        self.starts += 1
        return [dataset(lambda: [(1,)], columns=["id"], name=f"table_{self.starts}")]

    async def refresh(self) -> Sequence[Dataset] | None:
        return None

    async def check(self) -> None:
        """It always answers."""

    async def close(self) -> None:
        """It has nothing open."""


def test_the_same_document_is_made_once() -> None:
    looked = Looked()

    async def scenario() -> None:
        app = ExportApp([looked])
        first = await ask(app)
        looks = looked.looks
        assert looks > 0
        assert (await ask(app)).body == first.body
        assert looked.looks == looks
        assert (await ask(app, query="dataset=people")).status == 200
        assert looked.looks > looks

    asyncio.run(scenario())


BOB: dict[str, Any] = {"headers": [(b"x-api-key", b"bob's")]}
ALL = f"""
[plans.all]
[keys.bob]
sha256 = "{digest_of("bob's").hex()}"
plan = "all"
"""


def test_nobody_is_shown_what_was_made_for_another(tmp_path: Path) -> None:
    """Who asks first may read all of it, who asks next may not."""
    (tmp_path / "keys.toml").write_text(KEYS + ALL)

    async def scenario() -> None:
        people = dataset(lambda: [(1, 2)], columns=["id", "email"], name="people")
        app = ApiKeys(ExportApp([people]), keys=KeyFile(tmp_path / "keys.toml"))
        for asking, shown in (BOB, True), (ALICE, False), (BOB, True):
            client = await ask(app, **asking)
            assert client.status == 200
            assert (b"email" in client.body) == shown

    asyncio.run(scenario())


def test_where_it_is_mounted_is_not_mixed_up() -> None:
    async def scenario() -> None:
        app = ExportApp([Looked()])
        for root in "/a", "/b", "/a":
            client = await ask(app, path=f"{root}/openapi.json", root_path=root)
            assert json.loads(client.body)["servers"] == [{"url": root}]

    asyncio.run(scenario())


def test_a_new_start_has_a_new_document() -> None:
    async def scenario() -> None:
        app = ExportApp([Changing()])
        for start in 1, 2:
            lifespan = asyncio.Queue[dict[str, str]]()
            answers = asyncio.Queue[dict[str, str]]()
            running = asyncio.create_task(app({"type": "lifespan"}, lifespan.get, answers.put))
            await lifespan.put({"type": "lifespan.startup"})
            assert (await answers.get())["type"] == "lifespan.startup.complete"
            assert f"table_{start}".encode() in (await ask(app)).body
            await lifespan.put({"type": "lifespan.shutdown"})
            await running

    asyncio.run(scenario())


def test_however_many_ask_at_once_it_is_made_once() -> None:
    made: list[int] = []
    go = threading.Event()

    def make() -> bytes:
        made.append(1)
        go.wait(30)
        return b"document"

    async def scenario() -> None:
        documents = Documents()
        asking = [asyncio.create_task(documents.get("key", make)) for _ in range(5)]
        await asyncio.sleep(0)
        go.set()
        assert await asyncio.gather(*asking) == [b"document"] * 5

    asyncio.run(scenario())
    assert made == [1]


def test_those_that_nobody_asks_for_are_forgotten() -> None:
    made: list[int] = []

    async def get(documents: Documents, key: int) -> bytes:
        def make() -> bytes:
            made.append(key)
            return str(key).encode()

        return await documents.get(key, make)

    async def scenario() -> None:
        documents = Documents()
        for key in range(1, MAX_KEPT + 1):
            assert await get(documents, 0) == b"0"
            assert await get(documents, key) == str(key).encode()
        assert made == list(range(MAX_KEPT + 1))
        await get(documents, 1)
        assert made[-1] == 1
        await get(documents, 0)
        assert made.count(0) == 1

    asyncio.run(scenario())


def test_a_failure_is_not_kept() -> None:
    def fail() -> bytes:
        raise LookupError("no such dataset")

    async def scenario() -> None:
        documents = Documents()
        with pytest.raises(LookupError):
            await documents.get("key", fail)
        assert await documents.get("key", lambda: b"now") == b"now"

    asyncio.run(scenario())


def test_rights_are_what_may_be_read_and_not_what_a_plan_is_called() -> None:
    some = AccessPlan("a", max_rows=5, datasets=frozenset({"x"}), columns={"x": frozenset({"y"})})
    same = AccessPlan("b", max_rows=5, datasets=frozenset({"x"}), columns={"x": frozenset({"y"})})
    others = [
        AccessPlan("a", max_rows=6, datasets=some.datasets, columns=some.columns),
        AccessPlan("a", max_rows=5, datasets=None, columns=some.columns),
        AccessPlan("a", max_rows=5, datasets=some.datasets, columns={"x": frozenset({"z"})}),
    ]
    assert rights_of(some) == rights_of(same)
    assert rights_of(some) not in [rights_of(other) for other in others]
