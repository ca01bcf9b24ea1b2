"""One connection that any number of callers share, each waiting for no longer than its bound.

Commands go out as they come, those of one turn of the event loop in one write, and the replies come back in the
same order, so a thousand hits in flight need no thousand connections. The connection belongs to tasks of the link
and never to a caller: a cancelled caller leaves its reply to be read and dropped, and nobody gets another's.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable

from asgi_export.redis_client.driver import Reply, ReplyError, StoreDown, Wire

HELD_SECONDS = 0.005
"""A timer that is later than this was held up by the event loop and says nothing about the store."""

_EXTENSIONS = 3


def pack(*words: bytes) -> bytes:
    """A command as the protocol writes it. RESP, arrays of bulk strings."""
    return b"*%d\r\n" % len(words) + b"".join([b"$%d\r\n%b\r\n" % (len(word), word) for word in words])


class RedisLink:
    """Calls to a store over one connection, made when it is needed and made anew after a failure."""

    def __init__(self, make_wire: Callable[[], Wire]) -> None:
        self._make_wire = make_wire
        self._lane: _Lane | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    async def call(self, command: bytes, seconds: float) -> Reply:
        """The reply to a packed command.

        Raises `StoreDown` when there is none within that time, connecting included, or the connection breaks; then
        the connection is given up, for all who wait on it. `ReplyError` when the reply is an error.
        """
        lane = self._lane
        if lane is None or lane.ended:
            lane = self._open()
        loop = asyncio.get_running_loop()
        reply: asyncio.Future[Reply] = loop.create_future()
        lane.send(command, reply)
        patience = _Patience(reply, seconds, lane.give_up)
        try:
            return await reply
        finally:
            patience.cancel()

    async def close(self) -> None:
        """Break the connection off; who still waits gets `StoreDown`."""
        self._lane = None
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _open(self) -> _Lane:
        lane = self._lane = _Lane(self._make_wire())
        self._tasks.add(lane.task)
        lane.task.add_done_callback(self._tasks.discard)
        return lane


class _Lane:
    """One connection from its making to its end: what goes out, and who waits for what comes in."""

    def __init__(self, wire: Wire) -> None:
        self.ended = False
        self._wire = wire
        self._outbox: list[bytes] = []
        self._awaited: deque[asyncio.Future[Reply]] = deque()
        self._wake = asyncio.Event()
        self.task = asyncio.create_task(self._run())

    def send(self, command: bytes, reply: asyncio.Future[Reply]) -> None:
        self._outbox.append(command)
        self._awaited.append(reply)
        self._wake.set()

    def give_up(self) -> None:
        """Somebody has waited in vain. What was sent before can no longer be told from what comes late."""
        self._end(StoreDown("no answer in time", self))
        self.task.cancel()

    async def _run(self) -> None:
        reason = StoreDown("closed", self)
        try:
            await self._wire.connect()
            await self._write_while_reading()
        except StoreDown as error:
            reason = StoreDown(str(error), self)
        finally:
            self._end(reason)
            await self._wire.close()

    async def _write_while_reading(self) -> None:
        reader = asyncio.create_task(self._read())
        reader.add_done_callback(lambda _: self._wake.set())
        try:
            while not reader.done():
                await self._wake.wait()
                self._wake.clear()
                if self._outbox:
                    commands = b"".join(self._outbox)
                    self._outbox.clear()
                    await self._wire.send(commands)
            reader.result()
        finally:
            reader.cancel()
            await asyncio.gather(reader, return_exceptions=True)  # its error is told already, or ours is

    async def _read(self) -> None:
        while True:
            answer = await self._wire.receive()
            if not self._awaited:
                raise StoreDown("a reply that nobody asked for")
            reply = self._awaited.popleft()
            if reply.done():
                continue  # the caller was cancelled
            if isinstance(answer, ReplyError):
                reply.set_exception(answer)
            else:
                reply.set_result(answer)

    def _end(self, reason: StoreDown) -> None:
        self.ended = True
        for reply in self._awaited:
            if not reply.done():
                reply.set_exception(reason)
        self._awaited.clear()


class _Patience:
    """Gives up after some seconds of waiting on the store, not of an event loop that was held by others.

    When the time is over, what has arrived meanwhile is still waiting to be read: the loop gets a turn for that.
    When the timer itself is late the loop was held, and the store gets as much time as it was robbed of, up to
    the bound, and three times at most.
    """

    __slots__ = ("_due_at", "_extensions", "_give_up", "_handle", "_loop", "_reply", "_seconds")

    def __init__(self, reply: asyncio.Future[Reply], seconds: float, give_up: Callable[[], None]) -> None:
        self._loop = reply.get_loop()
        self._reply = reply
        self._seconds = seconds
        self._give_up = give_up
        self._extensions = _EXTENSIONS
        self._due_at = self._loop.time() + seconds
        self._handle: asyncio.Handle = self._loop.call_at(self._due_at, self._due)

    def cancel(self) -> None:
        self._handle.cancel()

    def _due(self) -> None:
        now = self._loop.time()
        held = now - self._due_at
        if held > HELD_SECONDS and self._extensions:
            self._extensions -= 1
            self._due_at = now + min(held, self._seconds)
            self._handle = self._loop.call_at(self._due_at, self._due)
        else:
            self._handle = self._loop.call_soon(self._look_again)

    def _look_again(self) -> None:
        if not self._reply.done():
            self._give_up()
