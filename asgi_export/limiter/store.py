"""The contract of every store of hits."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from asgi_export.limiter.sliding_window import Decision, Rule


class Store(Protocol):
    """Remember hits and decide on the next one.

    `start` connects, or raises `StartupError` with one line for the operator. `check` raises if the store does not
    answer. `close` releases everything and may be called twice.
    """

    async def start(self) -> None: ...
    async def check(self) -> None: ...
    async def close(self) -> None: ...

    async def hit(self, key: str, rules: Sequence[Rule]) -> Decision:
        """Admit or refuse one hit of `key` under all `rules` at once, and note it if it was admitted.

        A refused hit changes nothing. A hit is remembered for the longest window of the rules of the key's last
        admitted hit. Without rules every hit is admitted and none is noted.
        """
        ...
