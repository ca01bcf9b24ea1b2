"""A client of HTTP/2 with prior knowledge, on one connection: several streams, each of which may be reset."""

from __future__ import annotations

from collections import defaultdict
from types import TracebackType
from typing import Self

import h2.config
import h2.connection
import h2.errors
import h2.events

from tests.conformance.servers import Server, connect


class Http2Client:
    """One connection. `ask` opens a stream; `pump` reads what has come, and gives the windows back.

    By stream: `statuses`, `headers`, `bodies`; `ended` are those with END_STREAM, `reset` those with RST_STREAM.
    `closed` is True when the server has closed the connection.
    """

    def __init__(self, server: Server) -> None:
        self._socket = connect(server)
        self._connection = h2.connection.H2Connection(h2.config.H2Configuration(header_encoding="utf-8"))
        self._connection.initiate_connection()
        self._authority = f"127.0.0.1:{server.port}"
        self.headers: dict[int, dict[str, str]] = {}
        self.bodies: dict[int, bytearray] = defaultdict(bytearray)
        self.ended: set[int] = set()
        self.reset: set[int] = set()
        self.closed = False
        self._flush()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._socket.close()

    def ask(self, target: str, *, method: str = "GET", headers: tuple[tuple[str, str], ...] = ()) -> int:
        """Send a request without a body: the number of its stream."""
        stream = self._connection.get_next_available_stream_id()
        pseudo = [(":method", method), (":path", target), (":scheme", "http"), (":authority", self._authority)]
        self._connection.send_headers(stream, [*pseudo, *headers], end_stream=True)
        self._flush()
        return stream

    def cancel(self, stream: int) -> None:
        """Tell the server that nobody wants the rest of that stream."""
        self._connection.reset_stream(stream, h2.errors.ErrorCodes.CANCEL)
        self._flush()

    def status(self, stream: int) -> int:
        return int(self.headers[stream][":status"])

    def wait(self, stream: int, seconds: float = 10.0) -> bytes:
        """The whole body of a stream that ends with END_STREAM."""
        self._socket.settimeout(seconds)
        while stream not in self.ended:
            assert stream not in self.reset
            assert not self.closed
            self.pump()
        return bytes(self.bodies[stream])

    def pump(self) -> None:
        """Block until something comes, at most for the socket's time-out; take it in."""
        try:
            data = self._socket.recv(1 << 16)
        except ConnectionResetError:
            data = b""
        if not data:
            self.closed = True
            return
        for event in self._connection.receive_data(data):
            self._take(event)
        self._flush()

    def _take(self, event: h2.events.Event) -> None:
        match event:
            case h2.events.ResponseReceived():
                self.headers[event.stream_id] = {str(name): str(value) for name, value in event.headers}
            case h2.events.DataReceived():
                self.bodies[event.stream_id] += event.data
                self._connection.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
            case h2.events.StreamEnded():
                self.ended.add(event.stream_id)
            case h2.events.StreamReset():
                self.reset.add(event.stream_id)

    def _flush(self) -> None:
        try:
            self._socket.sendall(self._connection.data_to_send())
        except (BrokenPipeError, ConnectionResetError):
            self.closed = True
