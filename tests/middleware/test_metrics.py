"""What `/metrics` tells beyond the requests that pass: figures that are looked at, and processes that have died."""

from __future__ import annotations

import asyncio
import os
import re
import subprocess
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from asgi_export import ExportApp, MemoryStore, Observe, RateLimit, SimulatedDataset
from asgi_export.asgi.context import context_of
from asgi_export.errors import Unavailable
from asgi_export.limiter.redis_store import RedisStore
from asgi_export.limiter.sliding_window import Decision, Rule
from asgi_export.measure import Measured, Metric
from asgi_export.middleware.metrics import MOST_ENDED, MULTIPROCESS, Metrics, forget_the_dead
from asgi_export.middleware.metrics_live import KINDS, Kind
from asgi_export.middleware.rate_limit import ADMISSION, Admission
from asgi_export.sources.postgres.source import PostgresSource
from tests.conformance.servers import ENVIRONMENT, ROOT, eventually
from tests.doubles import Client, http_scope, lifespan_of


class Told:
    """Something that is as the test says."""

    def __init__(self, *figures: Metric) -> None:
        self.now: Sequence[Metric] = figures

    def metrics(self) -> Iterable[Metric]:
        return self.now


class SilentStore(MemoryStore):
    """A store that does not answer."""

    async def hit(self, key: str, rules: Sequence[Rule]) -> Decision:
        raise Unavailable("the store does not answer")


def metrics_in(metrics: Metrics) -> Mapping[str, float]:
    """What is told of us, without `asgi_export_`."""
    text = metrics.render()[1].decode()
    return {name: float(value) for name, value in re.findall(r"^asgi_export_(\S+) (\S+)$", text, re.MULTILINE)}


def test_figures_are_those_of_the_moment_of_the_question() -> None:
    told = Told(Metric("worker_jobs", 3), Metric("limiter_fallbacks", 5))
    metrics = Metrics([told])
    assert metrics_in(metrics)["worker_jobs"] == 3
    told.now = [Metric("worker_jobs", 1), Metric("limiter_fallbacks", 7)]
    found = metrics_in(metrics)
    assert (found["worker_jobs"], found["limiter_fallbacks_total"]) == (1, 7)


def test_figures_of_several_are_summed_by_source() -> None:
    one = Told(Metric("worker_jobs", 1), Metric("pool_connections", 2, "shop"))
    metrics = Metrics([one, Told(Metric("pool_connections", 3, "shop"), Metric("pool_connections", 4, "other"))])
    found = metrics_in(metrics)
    assert found['pool_connections{source="shop"}'] == 5
    assert found['pool_connections{source="other"}'] == 4


def test_a_name_that_nobody_knows_is_left_out() -> None:
    assert "bogus" not in Metrics([Told(Metric("bogus", 1))]).render()[1].decode()


def test_one_who_fails_is_told_of_once_and_the_others_go_on(caplog: pytest.LogCaptureFixture) -> None:
    class Failing(Told):
        def metrics(self) -> Iterable[Metric]:
            raise ZeroDivisionError

    metrics = Metrics([Failing(), Told(Metric("worker_jobs", 2))])
    assert metrics_in(metrics)["worker_jobs"] == 2
    assert metrics_in(metrics)["worker_jobs"] == 2
    assert caplog.text.count("the metrics of Failing are left out") == 1


def test_every_metric_is_in_the_docs_with_its_labels() -> None:
    """And the page names no other."""
    page = (ROOT / "docs" / "operating.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| `asgi_export_(\w+)` \|([^|]*)\|", page, re.MULTILINE)
    told = {name.removesuffix("_total"): tuple(re.findall(r"`(\w+)`", labels)) for name, labels in rows}
    metrics: Iterable[Any] = Metrics([Told()])._registry._collector_to_names
    assert told == {metric._name.removeprefix("asgi_export_"): metric._labelnames for metric in metrics}
    assert all(name.endswith("_total") for name, _ in rows if KINDS.get(name.removesuffix("_total"), Kind("")).grows)


def test_between_start_and_stop_figures_are_looked_at_without_a_question() -> None:
    """Else the file of a process that nobody asks would hold old ones."""

    class Counted(Told):
        looks = 0
        thrice = asyncio.Event()

        def metrics(self) -> Iterable[Metric]:
            self.looks += 1
            if self.looks == 3:
                self.thrice.set()
            return ()

    async def scenario() -> None:
        measured = Counted()
        metrics = Metrics([measured], refresh_seconds=0.001)
        await metrics.start()
        async with asyncio.timeout(10):
            await measured.thrice.wait()
        await metrics.stop()
        await metrics.stop()
        assert len(asyncio.all_tasks()) == 1

    asyncio.run(scenario())


def test_requests_that_ended_are_counted_by_many_at_once_or_when_it_is_looked() -> None:
    """Nobody asks here: so the file of a process is never much behind."""
    metrics, ended = Metrics(), context_of(http_scope())
    ended.set(ADMISSION, Admission("refused", 0.001))

    def counted() -> float | None:
        return metrics._registry.get_sample_value("asgi_export_responses_total", {"status": "429"})

    for _ in range(MOST_ENDED):
        assert counted() is None
        metrics.answered(ended, 429, 0.1)
    assert counted() == MOST_ENDED
    metrics.answered(ended, 429, 0.1)

    async def scenario() -> None:
        await metrics.start()
        await asyncio.sleep(0)
        assert counted() == MOST_ENDED + 1
        metrics.answered(ended, 429, 0.1)
        await metrics.stop()

    asyncio.run(scenario())
    assert counted() == MOST_ENDED + 2
    assert metrics_in(metrics)['limiter_decisions_total{decision="refused"}'] == MOST_ENDED + 2


def test_the_lifespan_begins_and_ends_it() -> None:
    class Noted(Metrics):
        def __init__(self) -> None:
            super().__init__()
            self.events: list[str] = []

        async def start(self) -> None:
            self.events.append("start")

        async def stop(self) -> None:
            self.events.append("stop")

    metrics = Noted()
    answers = lifespan_of(Observe(ExportApp([SimulatedDataset()]), metrics=metrics))
    assert metrics.events == ["start", "stop"]
    assert [answer["type"] for answer in answers] == ["lifespan.startup.complete", "lifespan.shutdown.complete"]


@pytest.mark.parametrize(
    ("store", "decisions"),
    [
        (MemoryStore(), {"admitted": 1, "refused": 1}),
        (SilentStore(), {"unavailable": 2}),
    ],
)
def test_decisions_are_what_the_limiter_said(store: MemoryStore, decisions: Mapping[str, int]) -> None:
    async def scenario() -> Mapping[str, float]:
        metrics = Metrics()
        app = Observe(RateLimit(ExportApp([SimulatedDataset()]), store=store, limit=1), metrics=metrics)
        for _ in range(2):
            await Client().ask(app, "total=1")
        return metrics_in(metrics)

    found = asyncio.run(scenario())
    of_limiter = {name: value for name, value in found.items() if name.startswith("limiter_decisions_total")}
    assert of_limiter == {f'limiter_decisions_total{{decision="{name}"}}': n for name, n in decisions.items()}
    assert found["limiter_seconds_count"] == 2


def test_the_parts_of_a_service_tell_figures_that_are_known() -> None:
    measured: list[Measured] = [
        ExportApp([SimulatedDataset()]),
        MemoryStore(),
        RedisStore("redis://127.0.0.1:1/0"),
        PostgresSource("postgresql://h/shop"),
    ]
    found = {figure.name: figure.value for part in measured for figure in part.metrics()}
    assert found.keys() == KINDS.keys()
    assert not any(found.values())


ENDLESS = """
import asyncio
from asgi_export.middleware.metrics import Metrics

async def main():
    metrics = Metrics(refresh_seconds=0.01)
    await metrics.start()
    metrics.export_started()
    await asyncio.sleep(60)

asyncio.run(main())
"""
RENDERING = "from asgi_export.middleware.metrics import Metrics; print(Metrics().render()[1].decode())"


def test_exports_of_a_killed_process_do_not_run_on(tmp_path: Path) -> None:
    environ = {**ENVIRONMENT, MULTIPROCESS: str(tmp_path)}

    def running() -> str:
        command = [sys.executable, "-c", RENDERING]
        result = subprocess.run(command, cwd=ROOT, env=environ, capture_output=True, text=True, check=True)
        (found,) = re.findall(r"^asgi_export_running_exports (\S+)$", result.stdout, re.MULTILINE)
        return str(found)

    with subprocess.Popen([sys.executable, "-c", ENDLESS], cwd=ROOT, env=environ) as process:
        try:
            assert eventually(lambda: running() == "1.0", 30.0)
        finally:
            process.kill()
        process.wait()
        assert running() == "0.0"


def test_only_files_of_dead_processes_are_forgotten(tmp_path: Path) -> None:
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    names = [f"gauge_livesum_{ended.pid}.db", f"gauge_livesum_{os.getpid()}.db", "gauge_livesum_1.db"]
    others = [f"counter_{ended.pid}.db", "gauge_livesum_x.db"]
    for name in [*names, *others]:
        (tmp_path / name).touch()
    forget_the_dead(tmp_path)
    assert {file.name for file in tmp_path.iterdir()} == {*names[1:], *others}
