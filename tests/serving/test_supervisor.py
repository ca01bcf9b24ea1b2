"""The supervisor with workers that obey, end, hang, die or fail; without a server."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from asgi_export.serving.supervisor import LEAST_SECONDS
from tests.conformance.servers import ENVIRONMENT, ROOT, Server, eventually
from tests.conformance.test_worker_metrics import worker_pids

LONG_SECONDS = 600


@contextlib.contextmanager
def supervised(
    work: str, folder: Path, *, count: int = 2, drain_seconds: float = LONG_SECONDS, wait: bool = True
) -> Iterator[Server]:
    """A supervisor in a process of its own, once its workers have started."""
    output = folder / "output"
    command = [sys.executable, "-m", "tests.serving.supervised", work, str(count), str(drain_seconds)]
    with output.open("wb") as log:
        process = subprocess.Popen(command, cwd=ROOT, env=ENVIRONMENT, stdout=log, stderr=subprocess.STDOUT)
    server = Server(0, process, output)
    try:
        assert not wait or eventually(lambda: said(server, "started") >= count, 30), server.log()
        yield server
    finally:
        process.kill()
        process.wait()
    assert "Traceback" not in server.log()


def said(server: Server, word: str) -> int:
    return sum(line.startswith(f"{word} ") for line in server.log().splitlines())


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_the_first_signal_drains_all_and_the_next_hurries_them(tmp_path: Path, number: signal.Signals) -> None:
    with supervised("obeys", tmp_path) as server:
        server.process.send_signal(number)
        assert eventually(lambda: said(server, "drains") == 2)
        time.sleep(0.3)  # signals closer together are taken for one
        assert said(server, "hurries") == 0
        assert server.stop(number) == 0
        assert said(server, "hurries") == 2


def test_it_ends_when_the_last_worker_has(tmp_path: Path) -> None:
    with supervised("ends", tmp_path, count=3) as server:
        assert server.stop() == 0
        assert said(server, "ends") == 3


def test_a_signal_to_all_processes_is_one(tmp_path: Path) -> None:
    with supervised("obeys", tmp_path) as server:
        for pid in (server.process.pid, *worker_pids(server)):
            os.kill(pid, signal.SIGTERM)
        assert eventually(lambda: said(server, "drains") == 2)
        time.sleep(0.3)
        assert said(server, "hurries") == 0
        assert server.stop() == 0


def test_a_terminal_s_signal_to_workers_that_are_just_starting_harms_none(tmp_path: Path) -> None:
    """They have not come to ignore it yet."""
    with supervised("ends", tmp_path, wait=False) as server:
        assert eventually(lambda: len(worker_pids(server)) == 2, 30)
        for pid in worker_pids(server):
            os.kill(pid, signal.SIGINT)
        assert eventually(lambda: said(server, "started") == 2, 30)
        assert server.stop() == 0
        assert said(server, "ends") == 2
        assert "another one is started" not in server.log()


def test_a_worker_that_hangs_is_killed_after_the_time_to_drain(tmp_path: Path) -> None:
    with supervised("hangs", tmp_path, drain_seconds=0.1) as server:
        assert server.stop() == 1
        assert server.log().count("does not end; it is killed") == 2


@pytest.mark.parametrize(
    "number",
    [signal.SIGKILL, *[pytest.param(found, marks=pytest.mark.slow) for found in (signal.SIGTERM, signal.SIGSEGV)]],
)
def test_a_worker_that_ends_is_replaced(tmp_path: Path, number: signal.Signals) -> None:
    with supervised("ends", tmp_path) as server:
        gone, stays = worker_pids(server)
        os.kill(gone, number)
        assert eventually(lambda: said(server, "started") == 3, 30)
        assert gone not in worker_pids(server)
        assert stays in worker_pids(server)
        assert server.stop() == 0


def test_workers_that_die_at_once_are_not_started_without_a_pause(tmp_path: Path) -> None:
    begun = time.monotonic()
    with supervised("dies", tmp_path, count=1) as server:
        assert eventually(lambda: said(server, "started") >= 3, 30)
        assert time.monotonic() - begun >= 2 * LEAST_SECONDS
        server.process.send_signal(signal.SIGTERM)
        assert server.process.wait(10) == 0


def test_a_worker_that_cannot_start_ends_all(tmp_path: Path) -> None:
    with supervised("fails", tmp_path, count=1) as server:
        assert server.process.wait(10) == 1
        assert said(server, "started") == 1


def test_a_hang_up_is_passed_on_to_all(tmp_path: Path) -> None:
    with supervised("counts_hang_ups", tmp_path) as server:
        server.process.send_signal(signal.SIGHUP)
        assert eventually(lambda: said(server, "hung up") == 2)
        assert server.stop() == 0


def test_workers_end_where_the_supervisor_is_killed(tmp_path: Path) -> None:
    with supervised("obeys", tmp_path) as server:
        workers = worker_pids(server)
        server.process.kill()
        server.process.wait()
        assert eventually(lambda: said(server, "drains") == 2)
        for pid in workers:
            os.kill(pid, signal.SIGKILL)
