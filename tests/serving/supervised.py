"""Workers without a server, under the supervisor: `python -m tests.serving.supervised WORK COUNT DRAIN_SECONDS`.

Each worker prints what happens to it, with its process id.
"""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import sys
from multiprocessing.connection import Connection

from asgi_export.logs import set_up_logs
from asgi_export.serving import supervisor
from asgi_export.serving.signals import signals_of_worker


def say(word: str) -> None:
    os.write(1, f"{word} {os.getpid()}\n".encode())


def obeys(listening: socket.socket, commands: Connection) -> None:
    """Drains until it is told to force."""
    asyncio.run(_obey(commands))


async def _obey(commands: Connection) -> None:
    with signals_of_worker(commands) as signals:
        say("started")
        await signals.draining.wait()
        say("drains")
        await signals.forced.wait()
        say("hurries")


def ends(listening: socket.socket, commands: Connection) -> None:
    """Ends when it is told to drain."""
    say("started")
    commands.recv()
    say("ends")


def hangs(listening: socket.socket, commands: Connection) -> None:
    """Does nothing of what it is told."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    say("started")
    while True:
        signal.pause()


def dies(listening: socket.socket, commands: Connection) -> None:
    """Does not get far."""
    say("started")
    os.kill(os.getpid(), signal.SIGKILL)


def fails(listening: socket.socket, commands: Connection) -> None:
    """Cannot start."""
    say("started")
    sys.exit(3)


def counts_hang_ups(listening: socket.socket, commands: Connection) -> None:
    """Says when it is to read its keys again."""
    signal.signal(signal.SIGHUP, lambda *_: say("hung up"))
    signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGHUP])  # as a worker does when it is ready for it
    ends(listening, commands)


if __name__ == "__main__":
    work, count, drain_seconds = sys.argv[1:]
    set_up_logs()
    supervisor.END_SECONDS = 0.5
    with socket.create_server(("127.0.0.1", 0)) as listening:
        supervised = supervisor.Supervisor(
            globals()[work], listening, count=int(count), drain_seconds=float(drain_seconds)
        )
        sys.exit(supervised.run())
