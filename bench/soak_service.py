"""What `bench.soak` looks at and disturbs: `asgi-export serve`, and the Redis and PostgreSQL beneath it."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, closing, contextmanager, suppress
from http.client import HTTPConnection
from pathlib import Path

import psutil

from asgi_export.access.plans import digest_of, new_key
from bench.engines import table
from bench.servers import ROOT, free_port, sqlite_file
from bench.soak_account import Place
from bench.soak_clients import ROWS
from tests.postgres_server import PostgresServer
from tests.postgres_server import running_server as running_postgres
from tests.redis_server import RedisServer
from tests.redis_server import running as running_redis

WORKERS = 2
STALL_SECONDS = 3.0
DOWN_SECONDS = 3.0
START_SECONDS = 60.0
BUSY = ("running_exports", "worker_jobs", "pool_connections_busy", "pool_waiting", "limiter_store_down")

PLANS = """
[plans.all]
limits = ["10000000/60s"]
[plans.small]
limits = ["5/60s"]
[plans.narrow]
datasets = ["simulated"]
max_rows = 100
"""

EVENTS = f"""
CREATE TABLE events AS SELECT id, 'user-' || id AS name, id * 0.25 AS value,
  timestamptz '2026-01-01 00:00:00Z' + id * interval '1 second' AS created_at FROM generate_series(1, {ROWS}) AS id
"""


class Service:
    """The running service: what can be seen of it from outside, and what can be done to what it stands on."""

    def __init__(
        self,
        process: subprocess.Popen[bytes],
        place: Place,
        output: Path,
        redis: RedisServer,
        postgres: PostgresServer,
    ) -> None:
        self.place = place
        self.outages: list[tuple[str, float, float]] = []
        self.disturbances = (
            self._redis_killed,
            self._postgres_stopped,
            self._redis_frozen,
            self._postgres_killed,
            self._postgres_frozen,
        )
        self._process = process
        self._output = output
        self._redis = redis
        self._postgres = postgres
        children = psutil.Process(process.pid).children(recursive=True)
        self._workers = sorted(
            [child for child in children if "resource_tracker" not in " ".join(child.cmdline())],
            key=lambda child: child.pid,
        )
        if len(self._workers) != WORKERS:
            raise RuntimeError(f"{len(self._workers)} workers, expected {WORKERS}")

    def disturb(self, act: Callable[[], None]) -> None:
        """One outage, as long as it takes."""
        began = time.monotonic()
        act()
        self.outages.append((act.__name__.strip("_"), began, time.monotonic()))

    def resident_bytes(self) -> int:
        """Of all workers."""
        return sum(worker.memory_info().rss for worker in self._workers)

    def state(self) -> str:
        """One line for who watches."""
        threads = [worker.num_threads() for worker in self._workers]
        resident = f"{self.resident_bytes() / 2**20:.0f} MiB"
        running = self.metrics().get("running_exports", 0)
        return f"resident {resident}, files {self.open_files()}, threads {threads}, exports {running:g}"

    def open_files(self) -> list[int]:
        """File descriptors of each worker, but for those of the pool, which is looked at in PostgreSQL."""
        return [worker.num_fds() - self._pooled(worker) for worker in self._workers]

    def _pooled(self, worker: psutil.Process) -> int:
        return sum(
            bool(found.raddr) and found.raddr.port == self._postgres.port for found in worker.net_connections("tcp")
        )

    def metrics(self) -> Mapping[str, float]:
        """What `/metrics` tells of all workers, summed over labels."""
        with closing(HTTPConnection("127.0.0.1", self.place.port, timeout=30)) as connection:
            connection.request("GET", "/metrics")
            text = connection.getresponse().read().decode()
        found: dict[str, float] = defaultdict(float)
        for name, value in re.findall(r"^asgi_export_(\w+)(?:{.*})? (\S+)$", text, re.MULTILINE):
            found[name] += float(value)
        return found

    def busy(self) -> list[float]:
        """What must be nothing when nobody asks: figures of `BUSY`."""
        metrics = self.metrics()
        return [metrics[name] for name in BUSY]

    def sessions(self) -> Counter[str]:
        """Sessions of the service in PostgreSQL by their state."""
        sql = "SELECT state FROM pg_stat_activity WHERE application_name = 'asgi_export'"
        return Counter(self._postgres.execute(sql).split("\n")) if self._postgres.execute(sql) else Counter()

    def text(self) -> str:
        """All that was printed."""
        return self._output.read_text(encoding="utf-8", errors="replace")

    def access_lines(self) -> dict[str, str]:
        """The access line of each request by its id."""
        found = re.finditer(r"asgi_export\.access request_id=(\S+) (.*)", self.text())
        return {match[1]: match[2] for match in found}

    def stop(self) -> int:
        """Tell it to end: the exit code."""
        self._process.terminate()
        return self._process.wait(60)

    def _redis_killed(self) -> None:
        self._redis.kill()
        time.sleep(DOWN_SECONDS)
        self._redis.start()

    def _redis_frozen(self) -> None:
        self._redis.freeze()
        time.sleep(DOWN_SECONDS)
        self._redis.thaw()

    def _postgres_stopped(self) -> None:
        self._postgres.stop("fast")
        time.sleep(DOWN_SECONDS)
        self._postgres.start()

    def _postgres_killed(self) -> None:
        processes = self._postgres_processes()
        for process in processes:
            with suppress(psutil.NoSuchProcess):
                process.kill()
        psutil.wait_procs(processes, timeout=30)
        time.sleep(DOWN_SECONDS)
        self._postgres.start()

    def _postgres_frozen(self) -> None:
        processes = self._postgres_processes()
        for number in (signal.SIGSTOP, signal.SIGCONT):
            for process in processes:
                with suppress(psutil.NoSuchProcess):
                    process.send_signal(number)
            if number == signal.SIGSTOP:
                time.sleep(DOWN_SECONDS)

    def _postgres_processes(self) -> list[psutil.Process]:
        postmaster = psutil.Process(int((self._postgres.folder / "data/postmaster.pid").read_text().split("\n")[0]))
        return [postmaster, *postmaster.children(recursive=True)]


def _write_keys(file: Path) -> tuple[str, str, str]:
    keys = new_key(), new_key(), new_key()
    plans = ("all", "small", "narrow")
    lines = [
        f'[keys.{plan}]\nsha256 = "{digest_of(key).hex()}"\nplan = "{plan}"\n'
        for plan, key in zip(plans, keys, strict=True)
    ]
    file.write_text(PLANS + "".join(lines))
    return keys


@contextmanager
def running_service(server: str, folder: Path) -> Iterator[Service]:
    """The service, with what it serves and what it stands on; all of it is stopped in the end."""
    with ExitStack() as stack:
        redis = stack.enter_context(running_redis())
        postgres = stack.enter_context(contextmanager(running_postgres)())
        postgres.execute(EVENTS)
        shop = stack.enter_context(sqlite_file(ROWS))
        table(4).head(ROWS).write_parquet(folder / "table.parquet")
        place = Place(free_port(), *_write_keys(folder / "keys.toml"), STALL_SECONDS)
        sources = [str(shop), str(folder / "table.parquet"), postgres.dsn(), "simulated"]
        options = {
            "--server": server,
            "--port": str(place.port),
            "--workers": str(WORKERS),
            "--limit": "10000000/60s",
            "--limiter": redis.url,
            "--api-keys": str(folder / "keys.toml"),
            "--stall-seconds": str(STALL_SECONDS),
        }
        arguments = [*sources, *[word for option in options.items() for word in option]]
        output = folder / "output"
        with output.open("wb") as log:
            command = [sys.executable, "-m", "asgi_export", "serve", *arguments]
            process = subprocess.Popen(command, cwd=ROOT, stdout=log, stderr=subprocess.STDOUT)
        stack.callback(_end, process)
        _wait_until_started(process, place.port, output)
        yield Service(process, place, output, redis, postgres)


def _end(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is None:
        process.terminate()
        process.wait(60)


def _wait_until_started(process: subprocess.Popen[bytes], port: int, output: Path) -> None:
    """All workers: a connection may be any one's."""
    deadline = time.monotonic() + START_SECONDS
    children = psutil.Process(process.pid).children
    answered = 0
    while answered < 20 or len(children(recursive=True)) < WORKERS:
        if process.poll() is not None or time.monotonic() > deadline:
            raise RuntimeError(f"the service did not start: {output.read_text()[-2000:]}")
        connection = HTTPConnection("127.0.0.1", port, timeout=5)
        with suppress(OSError):
            connection.request("GET", "/readyz")
            answered += connection.getresponse().status == 200
        connection.close()
        time.sleep(0.1)
