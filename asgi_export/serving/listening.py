"""The listening socket of the servers, and the bounds of the system on its connections."""

from __future__ import annotations

import socket
import sys

from asgi_export.errors import StartupError
from asgi_export.settings import Settings

BACKLOG = 2048
UNREAD_SECONDS = 5.0
"""Time after `stall_seconds` until the system drops a connection: later than the export, which logs the reason."""

UNSENT_BYTES = 128 * 1024
"""Two chunks; a download over loopback takes as long as without it."""

UNREAD_BYTES = 16 * 1024
"""What a server reads of a request at once: h11 parses 256 KiB of one-byte chunks for seconds, blocking the loop."""


def bind(settings: Settings) -> socket.socket:
    """Open a listening socket. Raises `StartupError` if the port is in use or the address is not of this host."""
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
    except (OSError, ValueError, OverflowError) as error:  # an invalid host name raises any of them
        reason = getattr(error, "strerror", None) or "expected an address or the name of a host"
        raise StartupError(f"cannot listen on {settings.host}:{settings.port}: {reason}") from None
    listening.set_inheritable(True)
    return listening


def _bound_connections(listening: socket.socket, settings: Settings) -> None:
    """Set options that connections inherit: a time-out of unread data, small buffers, and no delay of small writes.

    Servers keep a connection for ever whose client reads nothing. Linux buffers up to 4 MB for a slow client, and
    takes more only when a third of that has gone: a client that reads 20 KB/s would seem to stall. With Nagle's
    algorithm the body would wait until the client has acknowledged the head, up to 40 ms.
    """
    unread_ms = round((settings.stall_seconds + UNREAD_SECONDS) * 1000)
    listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, unread_ms)
    listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, UNSENT_BYTES)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, UNREAD_BYTES)


def head_bytes(settings: Settings) -> int:
    """Return the bound of a server on heads: above our own, so that a longer head gets our answer."""
    return settings.max_header_bytes + settings.max_query_bytes + 4096
