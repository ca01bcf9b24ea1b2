"""The socket that servers listen on, and what the system bounds on its connections."""

from __future__ import annotations

import socket
import sys

from asgi_export.errors import StartupError
from asgi_export.settings import Settings

BACKLOG = 2048
UNREAD_SECONDS = 5.0
"""How long after `stall_seconds` the system gives up a connection: later than the export, which says why it ends."""

UNSENT_BYTES = 128 * 1024
"""Two chunks; a download over loopback takes as long as without it."""

UNREAD_BYTES = 16 * 1024
"""What a server gets at once of a request: h11 parses 256 KiB of one-byte chunks for seconds; nobody else runs."""


def bind(settings: Settings) -> socket.socket:
    """A listening socket. Raises `StartupError` where the port is taken or the address is none of ours."""
    try:
        family, _, _, _, address = socket.getaddrinfo(
            settings.host, settings.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        listening = socket.socket(family)
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if sys.platform == "linux":
            _bound_connections(listening, settings)
        listening.bind(address)
        listening.listen(BACKLOG)
    except (OSError, ValueError, OverflowError) as error:  # a name that is none has an exception of any of them
        reason = getattr(error, "strerror", None) or "expected an address or the name of a host"
        raise StartupError(f"cannot listen on {settings.host}:{settings.port}: {reason}") from None
    listening.set_inheritable(True)
    return listening


def _bound_connections(listening: socket.socket, settings: Settings) -> None:
    """What its connections inherit: they end when nothing is taken from them, hold little that is in transit, and
    do not keep a body back until the client has acknowledged the head, which takes it 40 ms.

    Servers keep a connection whose client reads nothing for ever. Linux takes up to 4 MB from an export for a slow
    client, and room for more only when a third of that has gone: a client that reads 20 KB/s would seem to stall.
    """
    unread_ms = round((settings.stall_seconds + UNREAD_SECONDS) * 1000)
    listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, unread_ms)
    listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, UNSENT_BYTES)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, UNREAD_BYTES)


def head_bytes(settings: Settings) -> int:
    """What a server must let through, so that a longer head gets our answer and not its own."""
    return settings.max_header_bytes + settings.max_query_bytes + 4096
