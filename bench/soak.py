"""Does the service leak, get stuck or lie in the long run, whoever asks and whatever ends beneath it?

Fifteen minutes of fast, slow, stalled and dying clients, of bad requests and garbage, in processes of their own, on
`asgi-export serve` with two workers, keys, a SQLite file, a Parquet file, PostgreSQL and Redis; one of the two
is stopped, killed or frozen again and again. Then the load ends, and this must hold, or the exit code is 1:

- resident memory of the workers, median of the last third, is at most 5 % over the second third's;
- no export runs and no thread works; file descriptors are those of the start; PostgreSQL has idle sessions of the
  pools at most;
- every answer was one of the error table, well-formed; every 200 was whole and had the rows asked for, or was visibly
  broken for a cause: its client stalled, or PostgreSQL was gone; and no log holds a key.

    python -m bench.soak [--minutes 15] [--server uvicorn|hypercorn]
"""

from __future__ import annotations

import argparse
import itertools
import re
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import astuple
from multiprocessing import get_context
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

from bench.servers import SERVERS
from bench.soak_account import Account, Broken
from bench.soak_clients import KINDS, client_process, warm_up
from bench.soak_service import BUSY, WORKERS, Service, running_service

LEAK = 0.05
IDLE_SECONDS = 30.0
POOL = 10
GRACE_SECONDS = 12.0
"""How long an outage shows after its end: waiting for a connection, giving one up."""

FAULTS = re.compile(
    r"never retrieved|never awaited|Exception in ASGI|was destroyed but|abandoned|Unhandled exc|request \S+ failed"
)


class Report:
    """Lines of a table, and whether one of them is a breach."""

    def __init__(self) -> None:
        self.breached = False

    def line(self, holds: bool, what: str, found: object) -> None:
        """One thing that must hold."""
        self.breached = self.breached or not holds
        print(f"{'ok    ' if holds else 'BREACH'} {what}: {found}", flush=True)


def soak(service: Service, seconds: float) -> tuple[list[int], list[Account]]:
    """Load and outages for so long: resident bytes, one sample a second, and what the clients met."""
    spawning = get_context("spawn")
    over, results = spawning.Event(), spawning.Queue()
    processes = [spawning.Process(target=client_process, args=(kind, service.place, over, results)) for kind in KINDS]
    for process in processes:
        process.start()
    try:
        samples = sampled(service, seconds)
    finally:
        over.set()
    accounts = [results.get(timeout=120) for _ in processes]
    for process in processes:
        process.join()
    return samples, accounts


def sampled(service: Service, seconds: float) -> list[int]:
    """The samples; outages come one after another, the last one well before the end."""
    samples: list[int] = []
    began = now = time.monotonic()
    acts, between = itertools.cycle(service.disturbances), max(10.0, seconds / 30)
    due = began + between
    while now < began + seconds:
        if due <= now < began + seconds - between:
            service.disturb(next(acts))
            due = now + between
        samples.append(service.resident_bytes())
        if len(samples) % 30 == 0:
            print(f"{now - began:5.0f} s  {service.state()}", flush=True)
        time.sleep(max(0.0, now + 1.0 - time.monotonic()))
        now = time.monotonic()
    return samples


def judge_answers(report: Report, service: Service, accounts: Sequence[Account]) -> None:
    """What the clients met."""
    breaches = [breach for account in accounts for breach in account.breaches]
    broken = [one for account in accounts for one in account.broken]
    for account in accounts:
        for (kind, what), number in sorted(account.counts.items()):
            print(f"       {kind:8} {what:36} {number:7,}")
    report.line(not breaches, "answers as promised", breaches[:10] or "all")
    lines = service.access_lines()
    causeless = [one for one in broken if not has_cause(one, service.outages, lines)]
    for one in causeless[:20]:
        report.line(False, "broken without a cause", f"{one} {lines.get(one.request_id)}")
    report.line(not causeless, "broken for a cause", len(broken) - len(causeless))


def has_cause(one: Broken, outages: Sequence[tuple[str, float, float]], lines: Mapping[str, str]) -> bool:
    """Its client took nothing for too long, or PostgreSQL was gone meanwhile; and the access line says so."""
    line = lines.get(one.request_id, "")
    if 'ending="stalled"' in line:
        return one.kind in ("stalled", "slow")
    gone = any(
        "postgres" in what and began <= one.ended and one.began <= ended + GRACE_SECONDS
        for what, began, ended in outages
    )
    return gone and one.dataset in ("events", "") and ('ending="failed"' in line or " status=503 " in line)


def settled(found: Callable[[], Sequence[float]], most: Sequence[float]) -> tuple[bool, Sequence[float]]:
    """Whether figures come down to their bounds in time, and the last of them."""
    deadline = time.monotonic() + IDLE_SECONDS
    while True:
        figures = found()
        holds = all(figure <= bound for figure, bound in zip(figures, most, strict=True))
        if holds or time.monotonic() > deadline:
            return holds, figures
        time.sleep(0.2)


def judge_rest(report: Report, service: Service, files: Sequence[int]) -> None:
    """What is left when nobody asks any more."""
    holds, figures = settled(service.busy, [0] * len(BUSY))
    report.line(holds, "figures that are nothing when nobody asks", dict(zip(BUSY, figures, strict=True)))
    holds, figures = settled(service.open_files, files)
    report.line(holds, f"file descriptors, {list(files)} at the start", figures)
    fallbacks = service.metrics()["limiter_fallbacks_total"]
    report.line(bool(fallbacks) or not service.outages, "decisions without Redis", fallbacks)
    sessions = service.sessions()
    idle = set(sessions) <= {"idle"} and sum(sessions.values()) <= POOL * WORKERS
    report.line(idle, "sessions of PostgreSQL", dict(sessions))


def judge_memory(report: Report, samples: Sequence[int]) -> None:
    """A leak would show in the last third."""
    third = len(samples) // 3
    first, second, last = [median(samples[at * third : (at + 1) * third]) / 2**20 for at in range(3)]
    growth = last / second - 1
    thirds = f"{first:.0f}, {second:.0f}, {last:.0f} MiB, the last {growth:+.1%}"
    report.line(growth <= LEAK, "resident memory by thirds", thirds)


def judge_log(report: Report, service: Service) -> None:
    """The whole log, after the end."""
    code, text = service.stop(), service.text()
    report.line(code == 0, "exit code", code)
    faults = FAULTS.findall(text)
    report.line(not faults, "faults of ours in the log", faults[:5])
    keys = [word for word in astuple(service.place) if str(word).startswith("ax_") and str(word) in text]
    report.line(not keys, "keys in the log", len(keys))


def main() -> int:
    """0 where everything held."""
    parser = argparse.ArgumentParser(description="Soak the service.")
    parser.add_argument("--minutes", type=float, default=15.0)
    parser.add_argument("--server", choices=SERVERS, default="uvicorn")
    parser.add_argument("--keep-log", metavar="FILE", help="where the log of the service goes")
    options = parser.parse_args()
    report = Report()
    with (
        TemporaryDirectory(prefix="asgi-export-bench-") as folder,
        running_service(options.server, Path(folder)) as service,
    ):
        warm = warm_up(service.place)
        settled(service.busy, [0] * len(BUSY))
        files = service.open_files()
        samples, accounts = soak(service, options.minutes * 60)
        judge_rest(report, service, files)
        judge_memory(report, samples)
        judge_answers(report, service, [warm, *accounts])
        judge_log(report, service)
        if options.keep_log:
            Path(options.keep_log).write_text(service.text(), encoding="utf-8")
    return int(report.breached)


if __name__ == "__main__":
    sys.exit(main())
