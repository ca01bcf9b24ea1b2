"""One process and its end, where a source does not do its part."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.conformance.servers import ask, running


@pytest.mark.parametrize("name", ["uvicorn", "hypercorn"])
def test_a_thread_that_hangs_does_not_keep_the_process(name: str, tmp_path: Path) -> None:
    with running(["tests.serving.hanging", name, "0.1"], tmp_path / "output") as server:
        with ask(server, "/api/v1/exports/csv") as client:
            assert client.recv(1000)
            assert server.logged("it hangs")
            assert server.stop() == 0
        assert "was not left within 0.5 s" in server.log()
        assert "Traceback" not in server.log()
