"""Public keys that verify tokens: a JSON Web Key Set, from a file or an address. RFC 7517 §5.

A key verifies one algorithm, which its type decides and no token: RSA is RS256 (or PS256 if the key says so), P-256
is ES256, Ed25519 is EdDSA. Shared secrets in a set are left out, and so are private parts. RFC 8725 §3.1.
"""

from __future__ import annotations

import asyncio
import json
import logging
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import IO, Any, Protocol
from urllib.error import HTTPError
from urllib.parse import urlsplit
from urllib.request import HTTPRedirectHandler, Request, build_opener

from asgi_export.access.watched_file import WatchedFile
from asgi_export.addresses import redacted
from asgi_export.errors import StartupError, Unavailable
from asgi_export.extras import extra

logger = logging.getLogger("asgi_export.keys")

ALGORITHMS: Mapping[tuple[str, str], tuple[str, ...]] = {
    ("RSA", ""): ("RS256", "PS256"),
    ("EC", "P-256"): ("ES256",),
    ("OKP", "Ed25519"): ("EdDSA",),
}
"""What keys of a type and curve may verify; the first one if the key does not say."""

PUBLIC_MEMBERS = ("kty", "crv", "n", "e", "x", "y")
MIN_RSA_BITS = 2048
"""RFC 7518 §3.3."""

MAX_BYTES = 256 * 1024
FETCH_SECONDS = 5.0
FETCH_AGAIN_SECONDS = 10.0
"""Tokens with unknown keys, which anybody can send, cause one request to the issuer in this time."""

FRESH_SECONDS = 600.0
"""From this age on a set is fetched again in the background, so that a key that was withdrawn ends."""

_SCHEMES = ("http", "https")


@dataclass(frozen=True, slots=True)
class KeySet:
    """Keys by algorithm and id (None for a key without one)."""

    keys: Mapping[tuple[str, str | None], Any]

    def find(self, algorithm: str, key_id: str | None) -> Any:
        """Return the key of that id, or without an id the only key of the algorithm; None if there is none."""
        if key_id is not None:
            return self.keys.get((algorithm, key_id))
        found = [key for (name, _), key in self.keys.items() if name == algorithm]
        return found[0] if len(found) == 1 else None

    def __str__(self) -> str:
        return f"{len(self.keys)} keys of tokens"


def parse_key_set(text: bytes) -> KeySet:
    """Parse a key set, without the keys that cannot verify tokens here. Raises `ValueError` if none is left."""
    try:
        document = json.loads(text)
    except (ValueError, RecursionError):
        raise ValueError("not JSON; expected a JSON Web Key Set") from None
    entries = document.get("keys") if isinstance(document, dict) else None
    if not isinstance(entries, list):
        raise ValueError('expected a JSON Web Key Set, {"keys": […]}')
    found: dict[tuple[str, str | None], Any] = {}
    for entry in entries:
        algorithm = _algorithm_of(entry)
        key = _public_key(entry, algorithm) if algorithm else None
        if key is not None:
            found.setdefault((algorithm, entry.get("kid")), key)
    if not found:
        raise ValueError(f"none of {len(entries)} keys can be used; expected RSA of 2048 bits, P-256 or Ed25519")
    return KeySet(found)


def _algorithm_of(entry: Any) -> str:
    """Return the algorithm that a key is for; empty if it is for something else."""
    if not isinstance(entry, dict) or not isinstance(entry.get("kid", ""), str):
        return ""
    operations = entry.get("key_ops", ["verify"])
    if entry.get("use", "sig") != "sig" or not isinstance(operations, list) or "verify" not in operations:
        return ""
    kind = str(entry.get("kty")), str(entry.get("crv", ""))
    possible = ALGORITHMS.get(kind, ())
    said = entry.get("alg", possible[0] if possible else "")
    return said if said in possible else ""


def _public_key(entry: Mapping[str, Any], algorithm: str) -> Any:
    import jwt

    try:
        key = jwt.PyJWK({name: entry[name] for name in PUBLIC_MEMBERS if name in entry}, algorithm).key
    except (jwt.PyJWTError, KeyError, TypeError, ValueError):
        return None
    return key if getattr(key, "key_size", MIN_RSA_BITS) >= MIN_RSA_BITS or algorithm == "ES256" else None


class Jwks(Protocol):
    """Where keys come from. `start` raises `StartupError`; `newer` is for a key that is not in the set."""

    async def start(self) -> None: ...
    async def reload(self) -> None: ...
    async def key_set(self) -> KeySet: ...
    async def newer(self) -> KeySet: ...
    async def close(self) -> None: ...


def open_jwks(location: str) -> Jwks:
    """Return the keys of an address or a file. Raises `StartupError` for a file that cannot be read."""
    with extra("jwt"):
        import cryptography  # noqa: F401 - PyJWT goes without, for shared secrets
        import jwt  # noqa: F401
    return JwksAddress(location) if "://" in location else JwksFile(Path(location))


class JwksFile:
    """A key set in a file, read again when it changes."""

    def __init__(self, path: Path, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._file = WatchedFile(path, _read_key_set, clock=clock)

    async def start(self) -> None:
        """Do nothing: the file has been read."""

    async def reload(self) -> None:
        """Read the file now, and log the result in one line."""
        self._file.reload()

    async def key_set(self) -> KeySet:
        """Return the keys as of the last successful read."""
        return self._file.value()

    newer = key_set
    close = start


def _read_key_set(path: Path) -> KeySet:
    try:
        with path.open("rb") as file:
            return parse_key_set(_bounded(file.read(MAX_BYTES + 1)))
    except OSError as error:
        raise StartupError(f"{path}: {error.strerror}") from None
    except ValueError as error:  # also a path with NUL
        raise StartupError(f"{path}: {error}") from None


class JwksAddress:
    """A key set at an HTTP address.

    It is fetched by `start`, by a token of an unknown key (once in `FETCH_AGAIN_SECONDS` at most), and in the
    background when it is `FRESH_SECONDS` old. One fetch runs at a time, all who need it wait for the same one, and
    none of them longer than `seconds`. A fetch that fails leaves the old keys, and one line in the log.
    """

    def __init__(
        self, address: str, *, seconds: float = FETCH_SECONDS, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._address = _checked(address)
        self._seconds = seconds
        self._clock = clock
        self._keys: KeySet | None = None
        self._begun_at = float("-inf")
        self._task: asyncio.Task[None] | None = None
        self._thread_ended = threading.Event()
        self._thread_ended.set()

    async def start(self) -> None:
        """Fetch the keys, if they have not been. Raises `StartupError`."""
        if self._keys is None:
            self._begun_at = self._clock()
            self._keys = await self._fetch()

    async def reload(self) -> None:
        """Fetch the keys now."""
        await self._refresh()

    async def key_set(self) -> KeySet:
        """Return the keys as of the last successful fetch. Raises `Unavailable` if there was none."""
        if self._keys is None:
            await self.newer()
        elif self._clock() - self._begun_at >= FRESH_SECONDS:
            self._begin()
        if self._keys is None:
            raise Unavailable("the keys of tokens cannot be fetched now", retry_after_seconds=10)
        return self._keys

    async def newer(self) -> KeySet:
        """Fetch the keys, unless that has just been tried; return those that there are."""
        running = self._task is not None and not self._task.done()
        if running or self._clock() - self._begun_at >= FETCH_AGAIN_SECONDS:
            await self._refresh()
        return self._keys or KeySet({})

    async def close(self) -> None:
        """End the fetch that runs; the keys stay."""
        task, self._task = self._task, None
        if task is not None and task.get_loop() is asyncio.get_running_loop():
            task.cancel()
            await asyncio.wait([task])

    async def _refresh(self) -> None:
        await asyncio.shield(self._begin())

    def _begin(self) -> asyncio.Task[None]:
        """Return the fetch that runs, or begin one; a task of an event loop that has ended counts as none."""
        loop = asyncio.get_running_loop()
        if self._task is None or self._task.done() or self._task.get_loop() is not loop:
            self._begun_at = self._clock()
            self._task = loop.create_task(self._replace(), name="asgi-export jwks")
        return self._task

    async def _replace(self) -> None:
        try:
            self._keys = await self._fetch()
        except StartupError as error:
            logger.error("the old keys stay: %s", error)
        else:
            logger.info("%s: %s", redacted(self._address), self._keys)

    async def _fetch(self) -> KeySet:
        """Fetch and parse. Raises `StartupError`.

        The thread is a daemon that nobody waits for longer than `seconds`: a server that sends a byte a minute can
        hold it, but neither a request nor the end of the process; and no other thread starts meanwhile.
        """
        try:
            if not self._thread_ended.is_set():
                raise TimeoutError
            fetched: asyncio.Future[KeySet] = asyncio.get_running_loop().create_future()
            run = partial(_fetch_into, fetched, self._address, self._seconds, ended := threading.Event())
            threading.Thread(target=run, daemon=True, name="asgi-export jwks").start()
            self._thread_ended = ended
            async with asyncio.timeout(self._seconds):
                return await fetched
        except TimeoutError:
            reason = f"no answer within {self._seconds:g} seconds"
        except HTTPError as error:
            reason = f"status {error.code}"
        except Exception as error:  # whatever it is, requests go on with the old keys
            text = str(getattr(error, "reason", error))[:200] or type(error).__name__
            reason = text if text.isprintable() else ascii(text)[1:-1]
        raise StartupError(f"{redacted(self._address)}: {reason}")


def _checked(address: str) -> str:
    """Return an address that can be fetched. Raises `StartupError`."""
    try:
        parts = urlsplit(address)
        if parts.scheme in _SCHEMES and parts.hostname and parts.username is None and address.isprintable():
            return address
    except ValueError:  # a port or a host that is none
        pass
    raise StartupError(f"{redacted(address)}: expected a file, or an address http(s)://HOST/PATH without a login")


class HttpOnly(HTTPRedirectHandler):
    """Follow three redirects at most, none to another scheme and none from https to http."""

    max_redirections = 3

    def redirect_request(
        self, req: Request, fp: IO[bytes], code: int, msg: str, headers: Any, newurl: str
    ) -> Request | None:
        scheme = urlsplit(newurl).scheme
        if scheme not in _SCHEMES or (req.type == "https" and scheme == "http"):
            raise HTTPError(newurl, code, msg, headers, fp)
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def _fetch_into(fetched: asyncio.Future[KeySet], address: str, seconds: float, ended: threading.Event) -> None:
    """Fetch and parse keys in this thread, for a future of an event loop, which may have ended meanwhile."""

    def settle(keys: KeySet | None, error: Exception | None) -> None:
        if fetched.done():
            return
        if keys is not None:
            fetched.set_result(keys)
        elif error is not None:
            fetched.set_exception(error)

    keys, failure = None, None
    try:
        keys = parse_key_set(_fetch(address, seconds))
    except Exception as error:
        failure = error
    ended.set()
    with suppress(RuntimeError):
        fetched.get_loop().call_soon_threadsafe(settle, keys, failure)


def _fetch(address: str, seconds: float) -> bytes:
    """Fetch an address: `MAX_BYTES` at most, `seconds` for each wait and for the body."""
    opener = build_opener(HttpOnly)
    deadline = time.monotonic() + seconds
    body = b""
    request = Request(address, headers={"Accept": "application/jwk-set+json, application/json"})  # noqa: S310 - checked
    try:
        with opener.open(request, timeout=seconds) as answer:
            while chunk := answer.read1(64 * 1024):
                body = _bounded(body + chunk)
                if time.monotonic() > deadline:
                    raise TimeoutError
    except HTTPError as error:
        error.close()
        raise
    return body


def _bounded(body: bytes) -> bytes:
    if len(body) > MAX_BYTES:
        raise ValueError(f"more than {MAX_BYTES} bytes; expected a JSON Web Key Set")
    return body
