"""What a process is told, and by how many signals."""

from __future__ import annotations

import asyncio
import signal
import threading
from collections.abc import Iterator
from multiprocessing import Pipe
from typing import Any

import pytest

from asgi_export.serving.signals import (
    DRAIN,
    FORCE,
    SIGNALS,
    TWICE_SECONDS,
    OnSignal,
    hold_signals,
    on_signals,
    signals_of_process,
    signals_of_worker,
)


class Told:
    """Notes what it is told, and when it is says the test."""

    def __init__(self) -> None:
        self.words: list[str] = []
        self.now = 100.0
        self.handler = OnSignal(
            lambda: self.words.append(DRAIN), lambda: self.words.append(FORCE), clock=lambda: self.now
        )


@pytest.fixture(autouse=True)
def handlers() -> Iterator[None]:
    """Every test leaves signals as they were."""
    before = {number: signal.getsignal(number) for number in SIGNALS}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.parametrize("number", SIGNALS)
def test_the_first_signal_drains_and_the_next_hurries(number: signal.Signals) -> None:
    told = Told()
    with on_signals(told.handler):
        signal.raise_signal(number)
        assert told.words == [DRAIN]
        told.now += TWICE_SECONDS
        signal.raise_signal(signal.SIGTERM)
        assert told.words == [DRAIN, FORCE]


def test_signals_close_together_are_one() -> None:
    """A wrapper passes on what its process has got from the terminal already."""
    told = Told()
    with on_signals(told.handler):
        for _ in range(3):
            signal.raise_signal(signal.SIGINT)
            told.now += TWICE_SECONDS / 3 - 0.001
        assert told.words == [DRAIN]


def test_afterwards_signals_are_ignored() -> None:
    """Python gives signals back to the system when it ends, unless they are ignored, and the system kills."""
    with on_signals(Told().handler):
        pass
    assert [signal.getsignal(number) for number in SIGNALS] == [signal.SIG_IGN, signal.SIG_IGN]


@pytest.mark.parametrize("came", [False, True])
def test_a_signal_that_comes_before_there_is_a_handler_is_kept(came: bool) -> None:
    told = Told()
    hold_signals()
    if came:
        signal.raise_signal(signal.SIGTERM)
    with on_signals(told.handler):
        assert told.words == ([DRAIN] if came else [])


def test_orders_by_signals_wake_the_loop() -> None:
    async def scenario() -> None:
        with signals_of_process() as signals:
            asyncio.get_running_loop().call_soon(signal.raise_signal, signal.SIGTERM)
            async with asyncio.timeout(10):
                await signals.draining.wait()
            assert not signals.forced.is_set()

    asyncio.run(scenario())


@pytest.mark.parametrize(("words", "forced"), [([DRAIN], False), ([FORCE], True), ([DRAIN, FORCE], True)])
def test_commands_by_pipe(words: list[str], forced: bool) -> None:
    async def scenario() -> None:
        theirs, ours = Pipe(duplex=False)
        with theirs, ours, signals_of_worker(theirs) as signals:
            for word in words:
                ours.send(word)
            async with asyncio.timeout(10):
                await (signals.forced if forced else signals.draining).wait()
            assert signals.draining.is_set()
            assert signals.forced.is_set() is forced
            await closed(ours)

    asyncio.run(scenario())


async def closed(ours: Any) -> None:
    """Have the thread that listens come to its end before its pipe goes."""
    ours.close()
    for thread in threading.enumerate():
        if thread.name == "asgi-export signals":
            await asyncio.to_thread(thread.join, 10)


def test_a_supervisor_that_is_gone_is_an_order_to_drain() -> None:
    async def scenario() -> None:
        theirs, ours = Pipe(duplex=False)
        with theirs, signals_of_worker(theirs) as signals:
            ours.close()
            async with asyncio.timeout(10):
                await signals.draining.wait()
            assert not signals.forced.is_set()

    asyncio.run(scenario())


def test_signals_of_a_worker_are_an_order_to_drain_however_many() -> None:
    """A service manager sends SIGTERM to all processes at once, and the supervisor passes it on as well."""

    async def scenario() -> None:
        theirs, ours = Pipe(duplex=False)
        with theirs, ours, signals_of_worker(theirs) as signals:
            for _ in range(5):
                signal.raise_signal(signal.SIGTERM)
            async with asyncio.timeout(10):
                await signals.draining.wait()
            assert not signals.forced.is_set()
            await closed(ours)

    asyncio.run(scenario())


def test_an_order_to_a_loop_that_is_closed_is_none() -> None:
    async def scenario() -> Any:
        with signals_of_process() as signals:
            return signals

    asyncio.run(scenario()).force()
