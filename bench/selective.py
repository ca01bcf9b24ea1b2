"""Does a filter cost no more than the engine beneath takes for it?

Seconds for the 10,000 of 1,000,000 rows that a condition on an indexed column holds for, as CSV over HTTP to a client
that discards, next to ``psql -c "COPY (SELECT … WHERE …) TO STDOUT" | wc -c``. Both sides alternate; each figure is
the median of 21 turns of five exports, as one takes some ten milliseconds. psql is started once a turn, with five
statements; it takes 20 ms to start.

Decided: values are literals of the column's own type, as bound ones would keep COPY from filtered exports.

    python -m bench.selective
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable
from contextlib import contextmanager
from statistics import median
from urllib.parse import urlencode

from bench.engines import timed
from bench.servers import EXPORT, seconds_of, serve_ours
from tests.postgres_server import PostgresServer, running_server

ROWS = 1_000_000
REPEATS = 21
EXPORTS = 5
PSQL_TARGET = 0.9

TABLE = f"""
CREATE TABLE big AS SELECT g AS id, g * 7919 % 100 AS hundredth, g / 10000 AS run,
  'user-' || (g * 31) % 1000 AS name, g * 31 % 100000 / 100.0 AS price,
  timestamptz '2024-01-01 00:00+00' + g * interval '1 s' AS at
FROM generate_series(0::bigint, {ROWS - 1}) g;
CREATE INDEX ON big(hundredth); CREATE INDEX ON big(run); CREATE INDEX ON big(at); CREATE INDEX ON big(name);
VACUUM (FREEZE, ANALYZE) big;
"""

CONDITIONS = {
    "a number, scattered": ({"hundredth__exact": "7"}, "hundredth = 7"),
    "a number, together": ({"run__exact": "7"}, "run = 7"),
    "a span of time": (
        {"at__gte": "2024-01-02T00:00:00Z", "at__lt": "2024-01-02T02:46:40Z"},
        "at >= '2024-01-02 00:00:00+00' AND at < '2024-01-02 02:46:40+00'",
    ),
    "ten texts": (
        {"name__in": ",".join([f"user-{n}" for n in range(10)])},
        f"name IN ({', '.join([repr(f'user-{n}') for n in range(10)])})",
    ),
}

Side = Callable[[], object]


def medians(*sides: Side) -> list[float]:
    """The sides one after another: the median of each."""
    turns = [[timed(side) for side in sides] for _ in range(REPEATS)]
    return [median(times) for times in zip(*turns, strict=True)]


def report(what: str, ours: float, engine: str, theirs: float, target: float) -> None:
    """One line with the target, a figure an export."""
    verdict = "met" if theirs / ours >= target else "MISSED"
    figures = f"{ours / EXPORTS * 1000:6.1f} ms   {engine} {theirs / EXPORTS * 1000:6.1f} ms   {theirs / ours:5.2f}"
    print(f"{what:22} {figures}   target {target} {verdict}", flush=True)


def postgres(database: PostgresServer) -> None:
    """A table in PostgreSQL against psql."""
    database.execute(TABLE)
    with serve_ours(database.dsn()) as server:
        for name, (filters, condition) in CONDITIONS.items():
            path = f"{EXPORT}?{urlencode({'dataset': 'big', **filters})}"
            copy = f"COPY (SELECT * FROM big WHERE {condition}) TO STDOUT (FORMAT csv)"
            psql = ["psql", "-q", database.dsn(), *["-c", copy] * EXPORTS]
            ours, theirs = medians(
                lambda path=path: [seconds_of(server.port, path) for _ in range(EXPORTS)],  # type: ignore[misc]
                lambda psql=psql: subprocess.run(psql, check=True, stdout=subprocess.DEVNULL),  # type: ignore[misc]
            )
            report(name, ours, "psql COPY", theirs, PSQL_TARGET)


def main() -> None:
    """Measure each engine with its conditions."""
    print(f"{ROWS:,} rows, 1 % of them chosen, {os.cpu_count()} cores, medians of {REPEATS}", flush=True)
    with contextmanager(running_server)() as database:
        postgres(database)


if __name__ == "__main__":
    main()
