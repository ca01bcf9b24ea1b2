"""The clients of `bench.soak`: a process for each kind, several threads in it."""

from __future__ import annotations

import random
import socket
import struct
import threading
import time
from collections.abc import Callable
from multiprocessing import get_context
from multiprocessing.queues import Queue
from multiprocessing.synchronize import Event
from typing import Any

from bench.soak_account import (
    BROKEN,
    EXPORTS,
    PATIENCE_SECONDS,
    Account,
    Clients,
    Place,
    check_problem,
    whole,
)

ROWS = 200_000
DATASETS = ("users", "table", "events", "simulated")
FORMATS = ("csv", "tsv", "ndjson", "parquet", "arrow")
CODINGS = ("identity", "gzip", "zstd")
RESET = struct.pack("ii", 1, 0)


def fast(clients: Clients) -> None:
    """Any export in any format and coding, read as it comes, and counted."""
    chance = clients.chance
    whole(clients, chance.choice(DATASETS), chance.choice(FORMATS), chance.choice(CODINGS), _some_rows(chance), 0.0)


def slow(clients: Clients) -> None:
    """Some 300 KiB a second of what was asked for."""
    chance = clients.chance
    whole(clients, chance.choice(DATASETS), chance.choice(FORMATS), chance.choice(CODINGS), 50_000, 0.2)


def dying(clients: Clients) -> None:
    """Gone by a reset, somewhere in the middle, at the head or before it."""
    chance = clients.chance
    target = clients.target(chance.choice(DATASETS), chance.choice(FORMATS), ROWS)
    ask = f"GET {target} HTTP/1.1\r\nHost: x\r\nX-API-Key: {clients.place.key}\r\n\r\n".encode()
    with socket.create_connection(("127.0.0.1", clients.place.port), PATIENCE_SECONDS) as connection:
        connection.sendall(ask)
        wanted = int(chance.choice([0, 1, 10**4, 10**6]) * chance.random())
        while wanted > 0 and (part := connection.recv(65536)):
            wanted -= len(part)
        time.sleep(chance.choice([0, 0.01, 0.1]))
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
    clients.count("reset")


def stalled(clients: Clients) -> None:
    """Takes nothing until it must have been cut off, and then finds that it was."""
    dataset, began = clients.chance.choice(DATASETS), time.monotonic()
    total = 10**8 if dataset == "simulated" else ROWS
    try:
        with clients.asked(clients.target(dataset, "csv", total), buffer=4096) as (_, response):
            if response.status != 200:
                check_problem(clients, response, {503}, dataset, began)
                return
            deadline = time.monotonic() + clients.place.stall_seconds + 2
            while time.monotonic() < deadline and not clients.over:
                time.sleep(0.1)
            while not clients.over and response.read(1 << 20):
                pass
        clients.count("complete, of what the kernel held" if not clients.over else "left")
    except BROKEN as error:
        clients.broke(dataset, f"broken: {type(error).__name__}", began)


def bad(clients: Clients) -> None:
    """Each refusal of the table in turn, and each probe."""
    place, began = clients.place, time.monotonic()
    small = f"{EXPORTS}/csv?dataset=simulated&total=1"
    turns: list[tuple[str, dict[str, Any], set[int]]] = [
        (f"{EXPORTS}/csv?total=x", {}, {400}),
        (f"{EXPORTS}/csv?columns=nope&apiKey=%ff", {}, {400}),
        (f"{EXPORTS}/csv?bogus=1", {}, {400}),
        (small, {"X-API-Key": ""}, {401}),
        (small, {"X-API-Key": "guessed"}, {401}),
        (f"{EXPORTS}/csv?dataset=users", {"X-API-Key": place.narrow_key}, {403}),
        (f"{EXPORTS}/csv?dataset=simulated&total=1000", {"X-API-Key": place.narrow_key}, {403}),
        (f"{EXPORTS}/xml", {}, {404}),
        (f"{EXPORTS}/csv?dataset=nope", {}, {404}),
        ("/nowhere%0d%0a", {}, {404}),
        (small, {"method": "DELETE"}, {405}),
        (f"{small}&filename={'x' * 9000}", {}, {414}),
        (small, {"Cookie": "x" * 35_000}, {431}),
        (small, {"X-API-Key": place.small_key}, {200, 429}),
        (small, {"method": "HEAD"}, {200}),
        ("/healthz", {}, {200}),
        ("/readyz", {}, {200, 503}),
        ("/metrics", {}, {200}),
        (f"{EXPORTS}/", {}, {200}),
    ]
    target, options, expected = clients.chance.choice(turns)
    with clients.asked(target, **options) as (_, response):
        if response.status < 300 or target == "/readyz":
            response.read()
            clients.count(str(response.status))
            if response.status not in expected:
                clients.breach(f"{target[:60]}: {response.status}, expected {expected}")
            return
        check_problem(clients, response, expected, "", began)


def garbage(clients: Clients) -> None:
    """Bytes that are no HTTP, half a request, a body that nobody wants, and silence."""
    chance = clients.chance
    head = f"POST {EXPORTS}/csv HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000\r\n\r\n".encode()
    said = chance.choice([b"\0\xff\x16\x03\x01 garbage\r\n\r\n", b"GET /", head + b"x" * 5000, b""])
    with socket.create_connection(("127.0.0.1", clients.place.port), PATIENCE_SECONDS) as connection:
        connection.sendall(said)
        time.sleep(chance.random())
    clients.count("said")


KINDS: dict[str, tuple[Callable[[Clients], None], int, float]] = {
    "fast": (fast, 2, 0.05),
    "slow": (slow, 6, 0.1),
    "dying": (dying, 2, 0.1),
    "stalled": (stalled, 4, 0.5),
    "bad": (bad, 2, 0.05),
    "garbage": (garbage, 1, 0.2),
}
"""What it does, in how many threads, and the mean pause between two times."""


def client_process(kind: str, place: Place, over: Event, results: Queue[Account]) -> None:
    """One kind, until the soak is over; then its account."""
    act, number, pause_seconds = KINDS[kind]
    account = Account()
    all_ = [Clients(kind, place, over, account, seed) for seed in range(number)]
    threads = [threading.Thread(target=one.run, args=(act, pause_seconds)) for one in all_]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    results.put(account)


def warm_up(place: Place) -> Account:
    """Every dataset in every format and coding, several times, so that each worker has met them."""
    account = Account()
    clients = Clients("warm", place, get_context("spawn").Event(), account, 0)
    for _ in range(3):
        for dataset in DATASETS:
            for format_ in FORMATS:
                for coding in CODINGS:
                    whole(clients, dataset, format_, coding, 20_000, 0.0)
    return account


def _some_rows(chance: random.Random) -> int:
    return min(ROWS, int(10 ** chance.uniform(0, 5.5)))
