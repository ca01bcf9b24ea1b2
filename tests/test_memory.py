"""Memory that a crowd of exports leaves behind goes back to the system, and nothing is done without one."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from asgi_export.memory import CROWD, MemoryReturn, give_memory_back


@pytest.fixture
def given_back(monkeypatch: pytest.MonkeyPatch) -> asyncio.Event:
    event = asyncio.Event()

    def noting() -> None:
        give_memory_back()
        loop.append(1)

    loop: list[int] = []
    event.calls = loop  # type: ignore[attr-defined]
    monkeypatch.setattr("asgi_export.memory.give_memory_back", noting)
    monkeypatch.setattr("asgi_export.memory.QUIET_SECONDS", 0.0)
    return event


def trimmed(given_back: Any, *counts: int) -> int:
    async def scenario() -> None:
        memory = MemoryReturn()
        for running in counts:
            memory.changed(running)
        for _ in range(3):
            await asyncio.sleep(0)
        await asyncio.get_running_loop().shutdown_default_executor()
        memory.close()

    asyncio.run(scenario())
    return len(given_back.calls)


def test_it_goes_back_when_half_of_a_crowd_has_left(given_back: Any) -> None:
    assert trimmed(given_back, 1, CROWD, CROWD - 1, CROWD // 2) == 1


def test_it_goes_back_once_however_many_leave(given_back: Any) -> None:
    assert trimmed(given_back, CROWD, 3, 2, 1, 0) == 1


@pytest.mark.parametrize("counts", [(1, 0), (CROWD - 1, 0), (CROWD, CROWD // 2 + 1)])
def test_nothing_is_done_without_a_crowd_or_while_it_is_there(given_back: Any, counts: tuple[int, ...]) -> None:
    assert trimmed(given_back, *counts) == 0
