"""One connection that any number of callers share, each with its own bound on the wait.

Commands are pipelined: those of one turn of the event loop go out in one write, and replies come back in the same
order, so a thousand hits in flight need one connection. Tasks of the link own the connection, never a caller: the
reply of a cancelled caller is read and dropped, and no caller gets the reply of another.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable

from asgi_export.redis_client.driver import Reply, ReplyError, StoreDown, Wire

LATE_SECONDS = 0.005
"""A timer that fires later than this was held up by the event loop, and says nothing about the store."""

_EXTENSIONS = 3


def pack(*words: bytes) -> bytes:
    """Encode a command. RESP, arrays of bulk strings."""
    return b"*%d\r\n" % len(words) + b"".join([b"$%d\r\n%b\r\n" % (len(word), word) for word in words])


class RedisLink:
    """Call a store over one connection, which is made on demand and again after a failure."""

    def __init__(self, make_wire: Callable[[], Wire]) -> None:
        self._make_wire = make_wire
        self._connection: _Connection | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    async def call(self, command: bytes, seconds: float) -> Reply:
        """Send a packed command and return its reply.

        Raises `StoreDown` if there is no reply within that time, including the connect, or the connection breaks; the
        connection is then closed for all its callers. Raises `ReplyError` for an error reply.
        """
        connection = self._connection
        if connection is None or connection.ended:
            connection = self._open()
        loop = asyncio.get_running_loop()
        reply: asyncio.Future[Reply] = loop.create_future()
        connection.send(command, reply)
        deadline = _Deadline(reply, seconds, connection.give_up)
        try:
            return await reply
        finally:
            deadline.cancel()

    async def close(self) -> None:
        """Close the connection; waiting callers get `StoreDown`."""
        self._connection = None
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _open(self) -> _Connection:
        connection = self._connection = _Connection(self._make_wire())
        self._tasks.add(connection.task)
        connection.task.add_done_callback(self._tasks.discard)
        return connection


class _Connection:
    """One connection: the commands to send, and the callers that wait for replies."""

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
        """Close the connection after a reply that is late: replies have no ids, so the next one could be that one."""
        # The callers fail now; the task closes the socket later. Until then `ended` has `call` open another one.
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
            reader.result()  # raises what ended the reader
        finally:
            reader.cancel()
            await asyncio.gather(reader, return_exceptions=True)  # its error was raised above, or the writer's is

    async def _read(self) -> None:
        while True:
            answer = await self._wire.receive()
            if not self._awaited:
                raise StoreDown("a reply to no command")
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


class _Deadline:
    """Call `give_up` after some seconds without a reply, not counting the time in which the loop was held up.

    When the time is over, the reply may have arrived and not been read: the loop gets one more turn for that. If the
    timer itself is late, the loop was held up, and the store gets the lost time back, up to the bound, and three
    times at most.
    """

    __slots__ = ("_due_at", "_extensions", "_give_up", "_handle", "_loop", "_reply", "_seconds")

    def __init__(self, reply: asyncio.Future[Reply], seconds: float, give_up: Callable[[], None]) -> None:
        self._loop = reply.get_loop()
        self._reply = reply
        self._seconds = seconds
        self._give_up = give_up
        self._extensions = _EXTENSIONS
        self._due_at = self._loop.time() + seconds
        self._handle: asyncio.Handle = self._loop.call_at(self._due_at, self._expire)

    def cancel(self) -> None:
        self._handle.cancel()

    def _expire(self) -> None:
        now = self._loop.time()
        held = now - self._due_at
        if held > LATE_SECONDS and self._extensions:
            self._extensions -= 1
            self._due_at = now + min(held, self._seconds)
            self._handle = self._loop.call_at(self._due_at, self._expire)
        else:
            self._handle = self._loop.call_soon(self._look_again)

    def _look_again(self) -> None:
        if not self._reply.done():
            self._give_up()
