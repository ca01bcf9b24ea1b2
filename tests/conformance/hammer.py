"""Client processes that ask as fast as they can, and note when by Redis' clock they asked and were answered."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass
from http.client import HTTPConnection
from multiprocessing import get_context
from multiprocessing.queues import Queue
from multiprocessing.synchronize import Barrier

import redis

PROCESSES = 3
START_SECONDS = 60.0
REQUESTS_A_CONNECTION = 15
"""A server hands a connection to one of its workers, so that a client that stays would know that one alone."""


@dataclass(frozen=True, slots=True)
class Asked:
    """One request: its answer, and microseconds of Redis' clock before it was sent and after it was answered."""

    key: str
    status: int
    retry_after_seconds: int
    sent_us: int
    answered_us: int


def hammer(ports: Sequence[int], redis_port: int, keys: Sequence[str], seconds: float) -> list[Asked]:
    """What all clients were answered: in each process one a key, which goes from port to port."""
    spawning = get_context("spawn")
    ready, queue = spawning.Barrier(PROCESSES), spawning.Queue()
    arguments = (tuple(ports), redis_port, tuple(keys), seconds, ready, queue)
    processes = [spawning.Process(target=_client_process, args=arguments) for _ in range(PROCESSES)]
    for process in processes:
        process.start()
    try:
        return [asked for _ in processes for asked in queue.get(timeout=START_SECONDS + seconds)]
    finally:
        for process in processes:
            process.join(START_SECONDS)


def _client_process(
    ports: Sequence[int],
    redis_port: int,
    keys: Sequence[str],
    seconds: float,
    ready: Barrier,
    queue: Queue[list[Asked]],
) -> None:
    results: list[Asked] = []
    clients = [Client(ports, redis_port, key, results) for key in keys]
    threads = [threading.Thread(target=client.run, args=(seconds,)) for client in clients]
    ready.wait(START_SECONDS)
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    queue.put(results)


class Client:
    """Asks on one key, over connections that are kept for a while."""

    def __init__(self, ports: Sequence[int], redis_port: int, key: str, results: list[Asked]) -> None:
        self._ports = ports
        self._redis = redis.Redis(port=redis_port)
        self._key = key
        self._results = results

    def run(self, seconds: float) -> None:
        """Until that time has passed on Redis' clock."""
        now_us = self._now_us()
        end_us, turn = now_us + round(seconds * 1_000_000), 0
        while now_us < end_us:
            turn += 1
            connection = HTTPConnection("127.0.0.1", self._ports[turn % len(self._ports)], timeout=START_SECONDS)
            for _ in range(REQUESTS_A_CONNECTION):
                now_us = self._ask(connection, now_us)
            connection.close()
        self._redis.close()

    def _ask(self, connection: HTTPConnection, sent_us: int) -> int:
        connection.request("GET", "/api/v1/exports/csv?total=1", headers={"X-API-Key": self._key})
        answer = connection.getresponse()
        answer.read()
        answered_us = self._now_us()
        wait = int(answer.headers.get("Retry-After", 0))
        self._results.append(Asked(self._key, answer.status, wait, sent_us, answered_us))
        return answered_us

    def _now_us(self) -> int:
        seconds, microseconds = self._redis.time()
        return int(seconds) * 1_000_000 + int(microseconds)
