"""What a client of `bench.soak` was promised, checked; and its account of what it met.

What was broken is told with the time it took, and the soak says whether there was a cause.
"""

from __future__ import annotations

import gzip
import json
import random
import socket
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from http.client import HTTPConnection, HTTPException, HTTPResponse
from io import BytesIO
from multiprocessing.synchronize import Event

import pyarrow.ipc
import pyarrow.parquet
import zstandard

from asgi_export import errors

EXPORTS = "/api/v1/exports"
PATIENCE_SECONDS = 60.0
"""A client that waits longer than this for anything has met an export that is stuck."""

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


def whole(clients: Clients, dataset: str, format_: str, coding: str, total: int, pause_seconds: float) -> None:
    """Read an export to its end, with a pause after each 64 KiB, and count its rows."""
    began = time.monotonic()
    buffer = 16384 if pause_seconds else 0
    options = {"Accept-Encoding": coding}
    try:
        with clients.asked(clients.target(dataset, format_, total), buffer=buffer, **options) as (_, response):
            if response.status != 200:
                check_problem(clients, response, {503}, dataset, began)
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


def check_problem(clients: Clients, response: HTTPResponse, expected: set[int], dataset: str, began: float) -> None:
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
