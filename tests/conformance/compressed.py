"""An application to be read in content codings: tables that are whole, break off or wait, and a page that fetches."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from typing import Any

from asgi_export import ExportApp, Observe, dataset
from asgi_export.asgi.message import send_whole
from asgi_export.logs import set_up_logs

COLUMNS = ["id", "text"]
ROWS = 40_000
WORDS = ("Grüße", "a,b", 'say "é"', "two\nlines", "", "東京")

PAGE = """<!doctype html><meta charset="utf-8"><body>waiting<script>
function crc32(bytes) {
  let crc = -1;
  for (const byte of bytes) {
    crc ^= byte;
    for (let bit = 0; bit < 8; bit++) crc = (crc >>> 1) ^ (crc & 1 ? 0xedb88320 : 0);
  }
  return ~crc >>> 0;
}
async function read(target) {
  const answer = await fetch("/api/v1/exports/" + target);
  const coding = answer.headers.get("content-encoding");
  try {
    const bytes = new Uint8Array(await answer.arrayBuffer());
    return { coding, bytes: bytes.length, crc32: crc32(bytes) };
  } catch (error) {
    return { coding, error: error.name };
  }
}
async function all() {
  const found = {};
  for (const target of new URLSearchParams(location.search).getAll("read")) found[target] = await read(target);
  document.body.textContent = JSON.stringify(found);
}
all();
</script>"""
"""Reads the exports in its query, and becomes the JSON of what `fetch` made of them."""


def rows() -> Iterator[tuple[int, str]]:
    for number in range(ROWS):
        yield (number, f"{WORDS[number % len(WORDS)]} {number * 7919 % 1000}")


@dataset(columns=COLUMNS)
async def awaits() -> AsyncIterator[tuple[int, str]]:
    for row in rows():
        yield row


@dataset(columns=COLUMNS)
def blocks() -> Iterator[tuple[int, str]]:
    return rows()


@dataset(columns=COLUMNS)
async def breaks() -> AsyncIterator[tuple[int, str]]:
    for row in rows():
        yield row
    raise RuntimeError("the disk is on fire")


@dataset(columns=COLUMNS)
async def breaks_behind_a_flush() -> AsyncIterator[tuple[int, str]]:
    """The first row is sent at once, and a flush behind it."""
    yield (0, "first")
    raise RuntimeError("the disk is on fire")


@dataset(columns=COLUMNS)
async def waits() -> AsyncIterator[tuple[int, str]]:
    yield (0, "first")
    await asyncio.Event().wait()


@dataset(columns=COLUMNS)
async def breaks_at_once() -> AsyncIterator[tuple[int, str]]:
    raise RuntimeError("the disk is on fire")
    yield (0, "first")


class WithPage:
    """`/page` beside the exports, of the same origin."""

    def __init__(self, app: Any) -> None:
        self._app = app

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "http" and scope["path"] == "/page":
            await send_whole(send, 200, [(b"content-type", b"text/html")], PAGE.encode(), method="GET")
        else:
            await self._app(scope, receive, send)


set_up_logs()
app = WithPage(Observe(ExportApp([awaits, blocks, breaks, breaks_behind_a_flush, waits, breaks_at_once])))
