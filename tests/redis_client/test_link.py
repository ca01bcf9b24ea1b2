"""Many callers on one connection: each gets its own reply, within its bound, whatever becomes of the others."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterator

import pytest

from asgi_export.redis_client.driver import Reply, ReplyError, StoreDown
from asgi_export.redis_client.link import RedisLink, pack

PATIENT = 5.0


class Echo:
    """A wire whose other side gives each command back when the test says so, or at once."""

    def __init__(self, *, at_once: bool = False, connects: bool = True, takes: bool = True) -> None:
        self.sent: list[bytes] = []
        self.closed = False
        self._replies: asyncio.Queue[Reply | Exception] = asyncio.Queue()
        self._at_once = at_once
        self._connects = connects
        self._takes = takes

    async def connect(self) -> None:
        if not self._connects:
            await asyncio.Event().wait()

    async def send(self, commands: bytes) -> None:
        self.sent.append(commands)
        if not self._takes:
            await asyncio.Event().wait()
        if self._at_once:
            for command in commands.split():
                self.answer(command)

    async def receive(self) -> Reply:
        reply = await self._replies.get()
        if isinstance(reply, StoreDown) and not isinstance(reply, ReplyError):
            raise reply
        return reply

    async def close(self) -> None:
        self.closed = True

    def answer(self, *replies: Reply) -> None:
        for reply in replies:
            self._replies.put_nowait(reply)


def with_link(scenario: Callable[[RedisLink], Awaitable[None]], *wires: Echo) -> None:
    async def run() -> None:
        coming: Iterator[Echo] = iter(wires)
        link = RedisLink(lambda: next(coming))
        try:
            await scenario(link)
        finally:
            await link.close()
        assert all(wire.closed for wire in wires)

    asyncio.run(run())


def calls(link: RedisLink, *words: bytes, seconds: float = PATIENT) -> list[asyncio.Task[Reply]]:
    return [asyncio.create_task(link.call(word + b" ", seconds)) for word in words]


async def turns(count: int = 5) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


def test_a_command_is_packed_as_the_protocol_says() -> None:
    """RESP: an array of bulk strings, of which each tells its length in bytes."""
    assert (
        pack(b"SET", b"", "ключ".encode())
        == b"*3\r\n$3\r\nSET\r\n$0\r\n\r\n$8\r\n\xd0\xba\xd0\xbb\xd1\x8e\xd1\x87\r\n"
    )


def test_calls_of_one_turn_go_out_in_one_write() -> None:
    wire = Echo(at_once=True)

    async def scenario(link: RedisLink) -> None:
        assert await asyncio.gather(*calls(link, b"a", b"b", b"c")) == [b"a", b"b", b"c"]
        assert await asyncio.gather(*calls(link, b"d")) == [b"d"]
        assert wire.sent == [b"a b c ", b"d "]

    with_link(scenario, wire)


def test_a_cancelled_caller_leaves_the_others_their_replies() -> None:
    wire = Echo()

    async def scenario(link: RedisLink) -> None:
        tasks = calls(link, b"a", b"b", b"c")
        await turns()
        tasks[1].cancel()
        await turns()
        wire.answer(b"a", b"b", b"c")
        answers = await asyncio.gather(*tasks, return_exceptions=True)
        assert [answers[0], answers[2]] == [b"a", b"c"]
        assert isinstance(answers[1], asyncio.CancelledError)

    with_link(scenario, wire)


def test_an_error_reply_is_for_its_caller_only() -> None:
    wire = Echo()

    async def scenario(link: RedisLink) -> None:
        tasks = calls(link, b"a", b"b")
        await turns()
        wire.answer(ReplyError("OOM"), b"b")
        answers = await asyncio.gather(*tasks, return_exceptions=True)
        assert isinstance(answers[0], ReplyError)
        assert answers[1] == b"b"

    with_link(scenario, wire)


def test_a_connection_that_breaks_fails_all_who_wait_on_one_occasion() -> None:
    first, second = Echo(), Echo(at_once=True)

    async def scenario(link: RedisLink) -> None:
        tasks = calls(link, b"a", b"b")
        await turns()
        first.answer(StoreDown("gone"))
        answers = await asyncio.gather(*tasks, return_exceptions=True)
        assert [str(answer) for answer in answers] == ["gone", "gone"]
        assert len({answer.occasion for answer in answers if isinstance(answer, StoreDown)}) == 1
        assert await asyncio.gather(*calls(link, b"c")) == [b"c"]

    with_link(scenario, first, second)


def test_a_late_reply_is_never_given_to_the_next_caller() -> None:
    """Who has waited in vain gives the connection up."""
    first, second = Echo(), Echo(at_once=True)

    async def scenario(link: RedisLink) -> None:
        with pytest.raises(StoreDown, match="no answer in time"):
            await link.call(b"a ", 0.01)
        first.answer(b"a")
        assert await asyncio.gather(*calls(link, b"b")) == [b"b"]

    with_link(scenario, first, second)


@pytest.mark.parametrize("wire", [lambda: Echo(connects=False), lambda: Echo(takes=False)], ids=["connect", "send"])
def test_the_bound_holds_for_connecting_and_sending_too(wire: Callable[[], Echo]) -> None:
    async def scenario(link: RedisLink) -> None:
        began = time.monotonic()
        tasks = calls(link, b"a", b"b", seconds=0.02)
        answers = await asyncio.gather(*tasks, return_exceptions=True)
        assert all(isinstance(answer, StoreDown) for answer in answers)
        assert 0.02 <= time.monotonic() - began < 1.0

    with_link(scenario, wire())


def test_time_in_which_the_loop_was_held_does_not_count() -> None:
    """The reply had no chance to come while somebody else had the loop."""
    wire = Echo()

    async def scenario(link: RedisLink) -> None:
        (task,) = calls(link, b"a", seconds=0.05)
        await turns()
        time.sleep(0.2)  # noqa: ASYNC251  # this is what holds the loop
        await turns()
        asyncio.get_running_loop().call_later(0.02, wire.answer, b"a")
        assert await task == b"a"

    with_link(scenario, wire)


def test_a_loop_that_is_held_again_and_again_ends_the_wait_all_the_same() -> None:
    wire = Echo()

    async def scenario(link: RedisLink) -> None:
        (task,) = calls(link, b"a", seconds=0.01)
        for _ in range(20):
            await turns(1)
            time.sleep(0.02)  # noqa: ASYNC251  # this is what holds the loop
            if task.done():
                break
        assert isinstance(task.exception(), StoreDown)

    with_link(scenario, wire)


def test_a_reply_that_nobody_asked_for_ends_the_connection() -> None:
    first, second = Echo(), Echo(at_once=True)

    async def scenario(link: RedisLink) -> None:
        tasks = calls(link, b"a")
        await turns()
        first.answer(b"a", b"what is this?")
        assert await asyncio.gather(*tasks) == [b"a"]
        await turns()
        assert await asyncio.gather(*calls(link, b"b")) == [b"b"]

    with_link(scenario, first, second)


def test_closing_fails_who_waits() -> None:
    async def scenario(link: RedisLink) -> None:
        tasks = calls(link, b"a", b"b")
        await turns()
        await link.close()
        answers = await asyncio.gather(*tasks, return_exceptions=True)
        assert [str(answer) for answer in answers] == ["closed", "closed"]

    with_link(scenario, Echo())
