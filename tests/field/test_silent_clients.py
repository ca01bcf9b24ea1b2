"""Clients that read nothing cost little memory, and leave it to the system when they have gone."""

from __future__ import annotations

import contextlib
import sys
from pathlib import Path

import pytest

from tests.conformance.servers import Server, ask, eventually, get, running

CLIENTS = 200
MOST_KIB_EACH = 256
MOST_KIB_LEFT = CLIENTS * MOST_KIB_EACH // 2
CSV = "/api/v1/exports/csv"


def resident_kib(server: Server) -> int:
    for line in Path(f"/proc/{server.process.pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1])
    raise AssertionError("no VmRSS")


@pytest.mark.slow
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
@pytest.mark.parametrize("name", ["uvicorn", "hypercorn"])
def test_a_client_that_reads_nothing_costs_a_quarter_of_a_mebibyte(tmp_path: Path, name: str) -> None:
    arguments = ["serve", "simulated", "--port", "0", "--server", name, "--limit", "100000/1s"]
    arguments += ["--stall-seconds", "600"]
    with running(["asgi_export", *arguments], tmp_path / "output") as server:
        for _ in range(20):
            get(server, f"{CSV}?total=20000")
        idle = resident_kib(server)
        with contextlib.ExitStack() as stack:
            for _ in range(CLIENTS):
                stack.enter_context(ask(server, f"{CSV}?total=10000000"))
            sizes = [0]

            def still() -> bool:
                """Every export waits for its client: the process has had the same size for a while."""
                sizes.append(resident_kib(server))
                return sizes[-1] > idle + CLIENTS * 64 and len(set(sizes[-50:])) == 1

            assert eventually(still, 60)
            assert sizes[-1] - idle < CLIENTS * MOST_KIB_EACH
        assert eventually(lambda: resident_kib(server) - idle < MOST_KIB_LEFT, 20)
