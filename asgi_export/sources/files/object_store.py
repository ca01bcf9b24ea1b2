"""Check at the start whether an object store answers."""

from __future__ import annotations

import atexit
import os
import sys
import threading

import pyarrow as pa

from asgi_export.errors import StartupError
from asgi_export.sources.files.listing import find_place
from asgi_export.sources.files.location import bucket_of

ANSWER_SECONDS = 8.0


def expect_answer(location: str) -> None:
    """Raise `StartupError` if the location names no bucket, or if the store refuses or does not answer in time.

    The stores' libraries ask again and again where there are no credentials, some of them for minutes, and cannot
    be interrupted: the thread is a daemon, and the process ends without them.
    """
    if not bucket_of(location):
        raise StartupError("names no bucket; expected SCHEME://BUCKET/PATH")
    found: list[Exception] = []
    answered = threading.Event()

    def ask() -> None:
        try:
            find_place(location).exists()
        except (OSError, ValueError, pa.ArrowException) as error:
            found.append(error)
        finally:
            answered.set()

    thread = threading.Thread(target=ask, daemon=True, name="asgi-export-ask")
    thread.start()
    if not answered.wait(ANSWER_SECONDS):
        atexit.register(_leave, thread)
        seconds = f"{ANSWER_SECONDS:g} seconds"
        raise StartupError(f"no answer within {seconds}; are the credentials, the region and the bucket right?")
    if found:
        raise StartupError(" ".join(str(found[0]).split())) from found[0]


def _leave(thread: threading.Thread) -> None:
    """Exit now if the store is still being asked: the exit handler of pyarrow, which is next, would wait for it."""
    if thread.is_alive():
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(2)
