"""The socket that servers listen on."""

from __future__ import annotations

import socket
import sys

import pytest

from asgi_export.serving.listening import bind
from asgi_export.settings import Settings


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere a connection inherits nothing, and servers see to it")
def test_answers_do_not_wait_for_the_client_s_acknowledgement() -> None:
    """Head and body are two writes: the second would wait 40 ms on every connection that is used again.

    asyncio switches that off only for sockets that were made with the protocol's number.
    """
    with bind(Settings(port=0)) as listening, socket.create_connection(listening.getsockname()):
        accepted, _ = listening.accept()
        with accepted:
            assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
