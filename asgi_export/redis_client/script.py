"""Lua scripts that run in Redis, each on one key."""

from __future__ import annotations

from hashlib import sha1
from importlib.resources import files


class Script:
    """A script as two commands: by its digest, and as a whole."""

    def __init__(self, source: bytes) -> None:
        self.by_digest = (b"EVALSHA", sha1(source, usedforsecurity=False).hexdigest().encode())
        self.whole = (b"EVAL", source)


def read_script(package: str, name: str) -> bytes:
    """Read a Lua script of a package."""
    return files(package).joinpath(name).read_bytes()
