"""The proof for bytes a day: processes that share nothing but one Redis grant one limit, all of it and no more."""

from __future__ import annotations

import asyncio
from multiprocessing import get_context
from multiprocessing.queues import Queue
from multiprocessing.synchronize import Barrier

import pytest

from asgi_export.limiter.redis_byte_quota import RedisByteQuotas
from asgi_export.redis_client.shared import SharedRedis
from tests.redis_server import RedisServer

PROCESSES = 4
LIMIT = 10_001
"""No multiple of what is wanted, so that the last grant is a part."""

WANTED = 7
UNUSED = 3
START_SECONDS = 60.0


def take(url: str, together: Barrier, results: Queue[int]) -> None:
    """One process: all it can get, part of each grant given back; when all are there, the rest. Puts what it kept."""

    async def client(quotas: RedisByteQuotas, unused: int) -> int:
        kept = 0
        while granted := (grant := await quotas.reserve("a", LIMIT, WANTED)).granted_bytes:
            assert grant.shared
            returned = min(unused, granted - 1)
            kept += granted - returned
            if returned:
                await quotas.give_back("a", grant, returned)
        return kept

    async def run() -> int:
        quotas = RedisByteQuotas(SharedRedis(url, bound_seconds=5.0))
        await quotas.start()
        kept = 0
        for unused in (UNUSED, 0):
            await asyncio.to_thread(together.wait, START_SECONDS)
            kept += sum(await asyncio.gather(*[client(quotas, unused) for _ in range(4)]))
        await quotas.close()
        return kept

    results.put(asyncio.run(run()))


@pytest.mark.slow
def test_processes_on_one_redis_grant_exactly_the_limit(empty_redis: RedisServer) -> None:
    """With grants given back and granted again all the while."""
    spawning = get_context("spawn")
    together, queue = spawning.Barrier(PROCESSES), spawning.Queue()
    processes = [spawning.Process(target=take, args=(empty_redis.url, together, queue)) for _ in range(PROCESSES)]
    for process in processes:
        process.start()
    kept = [queue.get(timeout=START_SECONDS) for _ in processes]
    for process in processes:
        process.join()
    assert sum(kept) == LIMIT
    assert min(kept) > 0
