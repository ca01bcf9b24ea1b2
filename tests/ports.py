"""Ports for servers of tests, which run beside each other in several processes."""

from __future__ import annotations

import random
import socket

PORTS = range(10_000, 32_000)
"""Below those that the system gives to clients, of which a test may open thousands: none takes it meanwhile."""


def free_port() -> int:
    """A port that nobody listens on; a random one, as another process may be looking for one just now."""
    while True:
        port = random.choice(PORTS)
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)):
                return port
