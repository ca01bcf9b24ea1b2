"""The clients of `bench.soak`: a process for each kind, several threads in it, and an account of all they met.

Everything that a client was promised is checked here; what was broken is told with the time it took, and the soak
says whether there was a cause.
"""

from __future__ import annotations

import gzip
import json
import random
import socket
import struct
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from http.client import HTTPConnection, HTTPException, HTTPResponse
from io import BytesIO
from multiprocessing import get_context
from multiprocessing.queues import Queue
from multiprocessing.synchronize import Event
from typing import Any

import pyarrow.ipc
import pyarrow.parquet
import zstandard

from asgi_export import errors

EXPORTS = "/api/v1/exports"
PATIENCE_SECONDS = 60.0
"""A client that waits longer than this for anything has met an export that is stuck."""

ROWS = 200_000
DATASETS = ("users", "table", "events", "simulated")
FORMATS = ("csv", "tsv", "ndjson", "parquet", "arrow")
CODINGS = ("identity", "gzip", "zstd")
RESET = struct.pack("ii", 1, 0)
SHORT = {found.status: found.error for found in vars(errors).values() if hasattr(found, "error")}
"""The error table: what `error` says for each status."""

BROKEN = (HTTPException, OSError)


@dataclass(frozen=True, slots=True)
class Broken:
    """An export that did not arrive, or was refused for want of a source: which one, and from when to when."""

    kind: str
    dataset: str
    request_id: str
    what: str
    began: float
    ended: float


@dataclass(slots=True)
class Account:
    """What the threads of one process met: how often, what was broken, and what broke the contract."""

    counts: Counter[tuple[str, str]] = field(default_factory=Counter)
    broken: list[Broken] = field(default_factory=list)
    breaches: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Place:
    """Where the service is, and the keys: one for everything, one for 5 requests a minute, one for one dataset."""

    port: int
    key: str
    small_key: str
    narrow_key: str
    stall_seconds: float


class Clients:
    """One kind of client: a thread does one thing after another until the soak is over."""

    def __init__(self, kind: str, place: Place, over: Event, account: Account, seed: int) -> None:
        self.kind = kind
        self.place = place
        self.chance = random.Random(seed)
        self._over = over
        self._account = account
        self._number = 0
        self._seed = seed

    def run(self, act: Callable[[Clients], None], pause_seconds: float) -> None:
        while not self._over.is_set():
            self._number += 1
            try:
                act(self)
            except Exception as error:  # the soak shall tell, and go on
                self.breach(f"{act.__name__}: {error!r}")
            self._over.wait(pause_seconds * self.chance.random() * 2)

    @property
    def over(self) -> bool:
        return self._over.is_set()

    @property
    def request_id(self) -> str:
        return f"{self.kind}-{self._seed}-{self._number}"

    def count(self, what: str) -> None:
        self._account.counts[(self.kind, what)] += 1

    def breach(self, what: str) -> None:
        self.count("BREACH")
        if len(self._account.breaches) < 50:
            self._account.breaches.append(f"{self.request_id}: {what}")

    def broke(self, dataset: str, what: str, began: float) -> None:
        self.count(what)
        self._account.broken.append(Broken(self.kind, dataset, self.request_id, what, began, time.monotonic()))

    def target(self, dataset: str, format_: str, total: int) -> str:
        return f"{EXPORTS}/{format_}?dataset={dataset}&total={total}"

    @contextmanager
    def asked(
        self, target: str, *, method: str = "GET", buffer: int = 0, **headers: str
    ) -> Iterator[tuple[HTTPConnection, HTTPResponse]]:
        """A connection with its answer's head. `key` is the full one unless another is given."""
        with closing(HTTPConnection("127.0.0.1", self.place.port, timeout=PATIENCE_SECONDS)) as connection:
            if buffer:
                connection.sock = socket.socket()
                connection.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer)
                connection.sock.settimeout(PATIENCE_SECONDS)
                connection.sock.connect(("127.0.0.1", self.place.port))
            fixed = {"X-Request-Id": self.request_id, "X-API-Key": self.place.key, "Connection": "close"}
            connection.request(method, target, headers={**fixed, **headers})
            yield connection, connection.getresponse()


def fast(clients: Clients) -> None:
    """Any export in any format and coding, read as it comes, and counted."""
    chance = clients.chance
    _whole(clients, chance.choice(DATASETS), chance.choice(FORMATS), chance.choice(CODINGS), _some_rows(chance), 0.0)


def slow(clients: Clients) -> None:
    """Some 300 KiB a second of what was asked for."""
    chance = clients.chance
    _whole(clients, chance.choice(DATASETS), chance.choice(FORMATS), chance.choice(CODINGS), 50_000, 0.2)


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
                _check_problem(clients, response, {503}, dataset, began)
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
        _check_problem(clients, response, expected, "", began)


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
                    _whole(clients, dataset, format_, coding, 20_000, 0.0)
    return account


def _whole(clients: Clients, dataset: str, format_: str, coding: str, total: int, pause_seconds: float) -> None:
    began = time.monotonic()
    buffer = 16384 if pause_seconds else 0
    options = {"Accept-Encoding": coding}
    try:
        with clients.asked(clients.target(dataset, format_, total), buffer=buffer, **options) as (_, response):
            if response.status != 200:
                _check_problem(clients, response, {503}, dataset, began)
                return
            body = _read(clients, response, pause_seconds)
    except BROKEN as error:
        clients.broke(dataset, f"broken: {type(error).__name__}", began)
        return
    found = rows_of(format_, _decoded(coding, body))
    clients.count("complete")
    if found != total:
        clients.breach(f"{dataset} {format_} {coding}: {found} rows, expected {total}")


def _read(clients: Clients, response: HTTPResponse, pause_seconds: float) -> bytes:
    parts = []
    while part := response.read(65536):
        parts.append(part)
        if pause_seconds and not clients.over:
            time.sleep(pause_seconds)
    return b"".join(parts)


def _decoded(coding: str, body: bytes) -> bytes:
    if coding == "gzip":
        return gzip.decompress(body)
    return zstandard.ZstdDecompressor().stream_reader(body).read() if coding == "zstd" else body


def rows_of(format_: str, body: bytes) -> int:
    """How many rows a body has; no value of ours holds a line feed."""
    if format_ == "parquet":
        return int(pyarrow.parquet.ParquetFile(BytesIO(body)).metadata.num_rows)
    if format_ == "arrow":
        return int(pyarrow.ipc.open_stream(body).read_all().num_rows)
    return body.count(b"\n") - (format_ != "ndjson")


def _some_rows(chance: random.Random) -> int:
    return min(ROWS, int(10 ** chance.uniform(0, 5.5)))


def _check_problem(clients: Clients, response: HTTPResponse, expected: set[int], dataset: str, began: float) -> None:
    """A refusal as the table has it. RFC 9457."""
    body, status, headers = response.read(), response.status, response.headers
    wrong = [] if status in expected else [f"{status}, expected {expected}: {body[:200]!r}"]
    if headers.get("Content-Type") != "application/problem+json":
        wrong.append(f"{status}: {headers.get('Content-Type')}")
    elif response.getheader("Content-Length") != str(len(body)):
        wrong.append(f"{status}: half an answer")
    else:
        document = json.loads(body)
        has = (document["status"], document["error"], document["request_id"], bool(document["type"]))
        if has != (status, SHORT.get(status), clients.request_id, True) or not document["detail"]:
            wrong.append(f"{status}: {body[:300]!r}")
    needed = {429: "Retry-After", 503: "Retry-After", 401: "WWW-Authenticate", 405: "Allow"}.get(status)
    if needed and not headers.get(needed):
        wrong.append(f"{status}: no {needed}")
    for what in wrong:
        clients.breach(what)
    if status == 503:
        clients.broke(dataset, "503", began)
    else:
        clients.count(str(status))
