"""Lua scripts that Redis runs for us, each on one key."""

from __future__ import annotations

from hashlib import sha1
from importlib.resources import files


class Script:
    """A script, and how it is asked for by its digest or sent whole."""

    def __init__(self, source: bytes) -> None:
        self.by_digest = (b"EVALSHA", sha1(source, usedforsecurity=False).hexdigest().encode())
        self.whole = (b"EVAL", source)


def read_script(package: str, name: str) -> bytes:
    """The text of a Lua script that lies in a package."""
    return files(package).joinpath(name).read_bytes()
