"""Keys, plans and what they may read, through the whole service, in raw ASGI."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from asgi_export import Caller, ExportApp, RateLimit, Selection, dataset
from asgi_export.access.key_file import KeyFile
from asgi_export.access.plans import digest_of
from asgi_export.asgi.pump import BrokenOff
from asgi_export.middleware.callers import ApiKeys
from tests.doubles import communicator, http_scope

KEYS = """
[plans.full]
[plans.few]
limits = ["3/60s", "100/1d"]
exports_at_once = 1
max_rows = 5
datasets = ["people"]
columns = { people = ["id", "name"] }
[plans.small]
max_bytes = 40
"""


@dataset(columns=["id", "email", "name"])
def people(selection: Selection) -> Any:
    for number in range(20):
        row = {"id": number, "email": f"{number}@example.org", "name": f"n{number}"}
        yield row


@dataset(columns=["id"])
def salaries(selection: Selection) -> Any:
    yield (1,)


class Held:
    """A dataset that stays open until the test lets it go."""

    def __init__(self) -> None:
        self.opened = asyncio.Event()
        self.release = asyncio.Event()

    async def rows(self, selection: Selection) -> AsyncIterator[tuple[int]]:
        yield (1,)
        self.opened.set()
        await self.release.wait()
        yield (2,)


def service(tmp_path: Path, *datasets: Any) -> ApiKeys:
    path = tmp_path / "keys.toml"
    digests = {plan: digest_of(f"key-{plan}").hex() for plan in ("full", "few", "small")}
    keys = [f'[keys.{plan}]\nsha256 = "{digest}"\nplan = "{plan}"' for plan, digest in digests.items()]
    path.write_text(KEYS + "\n".join(keys))
    return ApiKeys(RateLimit(ExportApp(datasets or [people, salaries]), limit=10), keys=KeyFile(path))


async def get(
    app: ApiKeys, path: str = "/api/v1/exports/csv", query: str = "", headers: Any = (), client: str = "192.0.2.1"
) -> tuple[int, dict[bytes, bytes], bytes]:
    server = communicator(app, http_scope(path, query, headers=list(headers), client=(client, 1)))
    await server.send_input({"type": "http.request"})
    await server.wait(timeout=20)
    head, *parts = [await server.receive_output() for _ in range(server.output_queue.qsize())]
    return head["status"], dict(head["headers"]), b"".join(part["body"] for part in parts)


def test_without_a_key_there_is_nothing(tmp_path: Path) -> None:
    status, headers, body = asyncio.run(get(service(tmp_path)))
    assert status == 401
    assert headers[b"www-authenticate"] == b'Bearer realm="exports"'
    assert json.loads(body)["error"] == "unauthorized"


@pytest.mark.parametrize(
    ("query", "headers"),
    [
        ("apiKey=key-full", ()),
        ("", [(b"x-api-key", b"key-full")]),
        ("", [(b"authorization", b"Bearer key-full")]),
        ("", [(b"authorization", b"bearer  key-full")]),
        ("apiKey=key-full", [(b"x-api-key", b"wrong")]),
        ("apiKey=", [(b"x-api-key", b"key-full")]),
    ],
)
def test_a_key_opens_from_any_of_its_places(tmp_path: Path, query: str, headers: Any) -> None:
    status, _, _ = asyncio.run(get(service(tmp_path), query=query, headers=headers))
    assert status == 200


def test_guessing_keys_is_limited_by_address(tmp_path: Path) -> None:
    async def scenario() -> list[int]:
        app = service(tmp_path)
        guesses = [await get(app, query=f"apiKey=guess{number}") for number in range(12)]
        other = await get(app, query="apiKey=guess", client="192.0.2.2")
        known = await get(app, query="apiKey=key-full")
        return [answer[0] for answer in [*guesses, other, known]]

    assert asyncio.run(scenario()) == [401] * 10 + [429] * 2 + [401, 200]


def test_all_ipv6_addresses_of_one_site_are_one_guesser(tmp_path: Path) -> None:
    """A /64 is what a single host gets; one who guesses has 2^64 addresses of it."""

    async def scenario() -> list[int]:
        app = service(tmp_path)
        addresses = [f"2001:db8:0:7::{number:x}" for number in range(1, 13)]
        others = ["2001:db8:0:8::1", "::ffff:192.0.2.1", "fe80::1%eth0", "unix"]
        return [(await get(app, query="apiKey=guess", client=client))[0] for client in [*addresses, *others]]

    assert asyncio.run(scenario()) == [401] * 10 + [429] * 2 + [401] * 4


def test_a_plan_s_own_limits_are_in_the_heads_and_hold(tmp_path: Path) -> None:
    async def scenario() -> list[tuple[int, dict[bytes, bytes], bytes]]:
        app = service(tmp_path)
        return [await get(app, query="apiKey=key-few&total=1") for _ in range(4)]

    answers = asyncio.run(scenario())
    assert [answer[0] for answer in answers] == [200, 200, 200, 429]
    assert answers[0][1][b"ratelimit-policy"] == b'"default";q=3;w=60, "1d";q=100;w=86400'
    assert answers[0][1][b"ratelimit"] == b'"default";r=2;t=60'


def test_all_columns_are_those_that_the_plan_may_read(tmp_path: Path) -> None:
    status, _, body = asyncio.run(get(service(tmp_path), query="apiKey=key-few&total=1"))
    assert (status, body) == (200, b"id,name\n0,n0\n")


@pytest.mark.parametrize(
    ("query", "detail"),
    [
        ("columns=id,email", "columns=email: this key may not read it; it may read id, name"),
        ("dataset=salaries", "dataset=salaries: this key may not read it; it may read people"),
        ("total=6", "total=6: an export may have 5 rows at most"),
    ],
)
def test_what_the_plan_does_not_allow_is_forbidden(tmp_path: Path, query: str, detail: str) -> None:
    status, _, body = asyncio.run(get(service(tmp_path), query=f"apiKey=key-few&{query}"))
    assert status == 403
    assert json.loads(body)["error"] == "forbidden"
    assert detail in json.loads(body)["detail"]


def test_an_unknown_name_does_not_tell_of_forbidden_ones(tmp_path: Path) -> None:
    app = service(tmp_path)
    _, _, dataset_answer = asyncio.run(get(app, query="apiKey=key-few&dataset=nope"))
    _, _, column_answer = asyncio.run(get(app, query="apiKey=key-few&columns=nope"))
    assert b"salaries" not in dataset_answer
    assert b"email" not in column_answer


def test_the_catalogue_lists_what_the_plan_may_read(tmp_path: Path) -> None:
    _, _, body = asyncio.run(get(service(tmp_path), path="/api/v1/exports/", query="apiKey=key-few"))
    listed = json.loads(body)
    assert [found["name"] for found in listed["datasets"]] == ["people"]
    assert [column["name"] for column in listed["datasets"][0]["columns"]] == ["id", "name"]
    assert [limit["limit"] for limit in listed["limits"]] == [3, 100]


@pytest.mark.parametrize("plan", ["few", "small"])
def test_an_export_past_its_rows_or_bytes_is_broken_off_and_never_cut_short(tmp_path: Path, plan: str) -> None:
    with pytest.raises(BrokenOff, match="cut off"):
        asyncio.run(get(service(tmp_path), query=f"apiKey=key-{plan}"))


def test_exports_at_once_are_bounded_and_a_slot_is_free_when_the_body_has_ended(tmp_path: Path) -> None:
    async def scenario() -> list[int]:
        held = Held()
        app = service(tmp_path, dataset(columns=["id"], name="people")(held.rows))
        first = asyncio.create_task(get(app, query="apiKey=key-few&total=2"))
        await held.opened.wait()
        second = await get(app, query="apiKey=key-few&total=2")
        held.release.set()
        done = (await first)[0]
        third = await get(app, query="apiKey=key-few&total=2")
        assert second[1][b"retry-after"] == b"5"
        return [done, second[0], third[0]]

    assert asyncio.run(scenario()) == [200, 429, 200]


def test_a_function_sees_the_owner_of_the_key(tmp_path: Path) -> None:
    seen: list[Any] = []

    @dataset(columns=["id"], name="people")
    def rows(selection: Selection) -> Any:
        seen.append(selection.caller)
        yield (1,)

    assert asyncio.run(get(service(tmp_path, rows), query="apiKey=key-few"))[0] == 200
    assert seen == [Caller("few", "few")]


def test_probes_need_no_key(tmp_path: Path) -> None:
    app = service(tmp_path)
    assert asyncio.run(get(app, path="/healthz"))[0] == 200
    assert asyncio.run(get(app, path="/readyz"))[0] == 200


def test_keys_hold_without_a_limiter_too(tmp_path: Path) -> None:
    service(tmp_path)
    app = ApiKeys(ExportApp([people]), keys=KeyFile(tmp_path / "keys.toml"))
    assert asyncio.run(get(app))[0] == 401
    assert asyncio.run(get(app, query="apiKey=key-full"))[0] == 200
    assert asyncio.run(get(app, path="/healthz"))[0] == 200
