"""The keys of tokens: which of them are used, and what becomes of a set that changes, breaks, or does not come."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import time
from collections.abc import Callable, Iterator
from email.message import Message
from io import BytesIO
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.request import Request

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from jwt.algorithms import ECAlgorithm, RSAAlgorithm

from asgi_export.access.jwks import (
    FETCH_AGAIN_SECONDS,
    FRESH_SECONDS,
    MAX_BYTES,
    HttpOnly,
    JwksAddress,
    JwksFile,
    open_jwks,
    parse_key_set,
)
from asgi_export.access.watched_file import LOOK_AGAIN_SECONDS
from asgi_export.errors import StartupError, Unavailable
from tests.doubles import run
from tests.issuer import JwksServer, jwk, jwks, jwks_server, rsa_key


@pytest.fixture
def server() -> Iterator[JwksServer]:
    with jwks_server() as found:
        yield found


class Clock:
    """Seconds that the test moves."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


# Which keys are used


@pytest.mark.parametrize("algorithm", ["RS256", "PS256", "ES256", "EdDSA"])
def test_a_key_verifies_the_algorithm_of_its_type(algorithm: str) -> None:
    found = parse_key_set(jwks(jwk(algorithm)))
    assert found.find(algorithm, "k1") is not None
    assert found.find(algorithm, None) is not None
    assert found.find(algorithm, "k2") is None
    assert [other for other in ("RS256", "PS256", "ES256", "EdDSA", "HS256", "none") if found.find(other, "k1")] == [
        algorithm
    ]


def test_a_key_that_does_not_say_its_algorithm_has_the_first_of_its_type() -> None:
    entry = jwk()
    del entry["alg"]
    assert parse_key_set(jwks(entry)).keys.keys() == {("RS256", "k1")}


def test_without_an_id_the_only_key_of_the_algorithm_is_meant() -> None:
    several = parse_key_set(jwks(jwk(), jwk(kid="k2", key=rsa_key("other")), jwk("ES256", "k3")))
    assert several.find("RS256", None) is None
    assert several.find("ES256", None) is not None


SHORT = RSAAlgorithm.to_jwk(rsa.generate_private_key(65537, 1024).public_key(), as_dict=True)
CURVE = ECAlgorithm.to_jwk(ec.generate_private_key(ec.SECP384R1()).public_key(), as_dict=True)


@pytest.mark.parametrize(
    "entry",
    [
        {"kty": "oct", "k": "c2VjcmV0", "kid": "k1", "alg": "HS256"},
        jwk(alg="HS256"),
        jwk(alg="none"),
        jwk(alg="ES256"),
        jwk(alg=["RS256"]),
        jwk(use="enc"),
        jwk(key_ops=["encrypt"]),
        jwk(key_ops=3),
        jwk(kid=None) | {"kid": 7},
        jwk(kid=None) | {"kid": None},
        jwk(kty="EC"),
        jwk(n="!"),
        jwk(n=""),
        jwk(n=7),
        jwk("ES256", x="AAAA"),
        jwk("EdDSA", x="AAAA"),
        {**SHORT, "kid": "k1"},
        {**CURVE, "kid": "k1"},
        {"kty": {}, "kid": "k1"},
        {},
        [],
        "k1",
        None,
    ],
)
def test_other_keys_are_left_out(entry: Any) -> None:
    assert parse_key_set(jwks(entry, jwk(kid="good"))).keys.keys() == {("RS256", "good")}
    with pytest.raises(ValueError, match="none of 1 keys can be used"):
        parse_key_set(jwks(entry))


def test_private_parts_are_not_kept() -> None:
    entry = RSAAlgorithm.to_jwk(rsa_key(), as_dict=True)
    found = parse_key_set(jwks({**entry, "kid": "k1", "key_ops": ["sign", "verify"]}))
    assert isinstance(found.find("RS256", "k1"), rsa.RSAPublicKey)


@pytest.mark.parametrize(
    "text", [b"", b"{", b"[" * 100_000, b"\xff", b"[]", b"3", b"{}", b'{"keys": {}}', b'{"keys": []}', b"<html>"]
)
def test_what_is_no_key_set_is_told(text: bytes) -> None:
    with pytest.raises(ValueError, match="expected"):
        parse_key_set(text)


# A file


def write(path: Path, body: bytes) -> Path:
    """A file that was written long ago."""
    path.write_bytes(body)
    os.utime(path, (0, time.time() - 60))
    return path


def test_a_file_is_read_again_when_it_changes_and_a_broken_one_keeps_the_old_keys(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async def scenario() -> None:
        clock = Clock()
        path = write(tmp_path / "jwks.json", jwks())
        source = JwksFile(path, clock=clock)
        await source.start()
        write(path, jwks(jwk(kid="second")))
        clock.now += LOOK_AGAIN_SECONDS
        assert (await source.key_set()).find("RS256", "second") is not None
        assert (await source.newer()).find("RS256", "k1") is None
        write(path, b"{")
        clock.now += LOOK_AGAIN_SECONDS
        assert (await source.key_set()).find("RS256", "second") is not None
        write(path, jwks(jwk(kid="third")))
        await source.reload()
        assert (await source.key_set()).find("RS256", "third") is not None
        await source.close()

    run(scenario())
    assert caplog.text.count("the old keys stay") == 1


@pytest.mark.parametrize("text", [b"", b"{}", b" " * (MAX_BYTES + 1)])
def test_a_file_that_is_no_key_set_stops_the_start_with_one_line(tmp_path: Path, text: bytes) -> None:
    with pytest.raises(StartupError, match=r"jwks.json: .*expected a JSON Web Key Set") as caught:
        open_jwks(str(write(tmp_path / "jwks.json", text)))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("location", ["nowhere.json", "nul\0.json"])
def test_a_file_that_is_not_there_stops_the_start(location: str) -> None:
    with pytest.raises(StartupError):
        open_jwks(location)


@pytest.mark.parametrize(
    "location",
    [
        "ftp://id/jwks",
        "file:///etc/passwd",
        "https://",
        "https://me:secret@id/jwks",
        "http://[::1",
        "http://a\nb/",
        "://",
    ],
)
def test_an_address_is_http_without_a_login(location: str) -> None:
    with pytest.raises(StartupError, match=r"expected a file, or an address http\(s\)://HOST/PATH") as caught:
        open_jwks(location)
    assert "secret" not in str(caught.value)


# An address


def test_keys_are_fetched_at_the_start(server: JwksServer) -> None:
    async def scenario() -> None:
        source = JwksAddress(server.url)
        await source.start()
        await source.start()
        assert (await source.key_set()).find("RS256", "k1") is not None
        assert server.asked == 1
        await source.close()

    run(scenario())


def test_an_unknown_key_is_asked_for_once_in_a_while(server: JwksServer) -> None:
    async def scenario() -> None:
        clock = Clock()
        source = JwksAddress(server.url, clock=clock)
        await source.start()
        server.serve(jwks(jwk(kid="second")))
        assert (await source.newer()).find("RS256", "second") is None
        clock.now += FETCH_AGAIN_SECONDS
        found = await asyncio.gather(*[source.newer() for _ in range(20)])
        assert all(keys.find("RS256", "second") is not None for keys in found)
        assert [await source.newer() for _ in range(3)] == [found[0]] * 3
        assert server.asked == 2

    run(scenario())


def test_a_set_that_is_old_is_fetched_in_the_background(server: JwksServer) -> None:
    """So a key that was withdrawn ends, and nobody waits for it."""

    async def scenario() -> None:
        clock = Clock()
        source = JwksAddress(server.url, clock=clock)
        await source.start()
        server.serve(jwks(jwk(kid="second")))
        clock.now += FRESH_SECONDS
        assert (await source.key_set()).find("RS256", "k1") is not None
        found = await source.newer()
        assert found.find("RS256", "k1") is None
        assert found.find("RS256", "second") is not None
        assert server.asked == 2

    run(scenario())


OUTAGES: dict[str, Callable[[JwksServer], None]] = {
    "status": lambda server: server.serve(b"no", 500),
    "missing": lambda server: server.serve(b"no", 404),
    "page": lambda server: server.serve(b"<html>"),
    "empty": lambda server: server.serve(b'{"keys": []}'),
    "large": lambda server: server.serve(b" " * 10_000_000),
    "hangs": lambda server: server.hang(),
    "drips": lambda server: server.drip(),
    "redirect to a file": lambda server: server.serve(b"", 302, location="file:///etc/passwd"),
    "redirect to ftp": lambda server: server.serve(b"", 302, location="ftp://127.0.0.1/jwks"),
    "redirect in a circle": lambda server: server.serve(b"", 302, location=server.url),
    "no http": lambda server: setattr(
        server, "answer", lambda handler: handler.wfile.write(b"\x1b[31mhello\r\n\r\n")
    ),
    "compressed": lambda server: server.serve(b"\x1f\x8b\x08\x00", 200, **{"content-encoding": "gzip"}),
}


@pytest.mark.parametrize("outage", OUTAGES)
def test_an_outage_keeps_the_old_keys(server: JwksServer, outage: str, caplog: pytest.LogCaptureFixture) -> None:
    async def scenario() -> None:
        clock = Clock()
        source = JwksAddress(server.url, seconds=0.5, clock=clock)
        await source.start()
        OUTAGES[outage](server)
        for _ in range(2):
            clock.now += FRESH_SECONDS
            assert (await source.newer()).find("RS256", "k1") is not None
        assert (await source.key_set()).find("RS256", "k1") is not None

    run(scenario())
    lines = [record for record in caplog.records if record.levelno >= logging.WARNING]
    assert len(lines) == 2
    assert all(line.getMessage().startswith(f"the old keys stay: {server.url}: ") for line in lines)
    assert all(line.getMessage().isprintable() for line in lines)


@pytest.mark.parametrize("outage", OUTAGES)
def test_without_keys_the_start_fails_with_one_line(server: JwksServer, outage: str) -> None:
    async def scenario() -> None:
        OUTAGES[outage](server)
        with pytest.raises(StartupError) as caught:
            await JwksAddress(server.url, seconds=0.5).start()
        assert str(caught.value).startswith(f"{server.url}: ")
        assert str(caught.value).isprintable()

    run(scenario())


def test_a_service_that_was_started_during_an_outage_has_keys_after_it(server: JwksServer) -> None:
    """Mounted in a framework, which passes on no lifespan, the first request fetches them."""

    async def scenario() -> None:
        clock = Clock()
        source = JwksAddress(server.url, clock=clock)
        server.serve(b"no", 500)
        for _ in range(3):
            with pytest.raises(Unavailable):
                await source.key_set()
        assert server.asked == 1
        server.serve(jwks())
        clock.now += FETCH_AGAIN_SECONDS
        assert (await source.key_set()).find("RS256", "k1") is not None

    run(scenario())


def test_a_redirect_by_http_is_followed(server: JwksServer) -> None:
    async def scenario() -> None:
        with jwks_server() as other:
            server.serve(b"", 302, location=other.url)
            source = JwksAddress(server.url)
            await source.start()
            assert (await source.key_set()).find("RS256", "k1") is not None

    run(scenario())


@pytest.mark.parametrize(
    ("address", "target", "followed"),
    [
        ("https://id.example/a", "https://id.example/b", True),
        ("http://id.example/a", "https://id.example/b", True),
        ("https://id.example/a", "http://id.example/b", False),
        ("http://id.example/a", "ftp://id.example/b", False),
        ("http://id.example/a", "file:///etc/passwd", False),
        ("http://id.example/a", "", False),
    ],
)
def test_no_redirect_leaves_tls_or_http(address: str, target: str, followed: bool) -> None:
    request, headers = Request(address), Message()
    if followed:
        found = HttpOnly().redirect_request(request, BytesIO(), 302, "", headers, target)
        assert found is not None
        assert found.full_url == target
        return
    with pytest.raises(HTTPError) as caught:
        HttpOnly().redirect_request(request, BytesIO(), 302, "", headers, target)
    caught.value.close()


def test_nobody_waits_for_a_server_that_does_not_answer_and_one_thread_does(
    server: JwksServer, caplog: pytest.LogCaptureFixture
) -> None:
    async def scenario() -> None:
        clock = Clock()
        source = JwksAddress(server.url, seconds=0.2, clock=clock)
        await source.start()
        server.drip()
        for _ in range(4):
            clock.now += FETCH_AGAIN_SECONDS
            await source.newer()
        assert server.asked <= 3

    run(scenario())
    assert "no answer within 0.2 seconds" in caplog.text


def test_the_end_does_not_wait_for_a_fetch(server: JwksServer) -> None:
    async def scenario() -> None:
        clock = Clock()
        source = JwksAddress(server.url, clock=clock)
        await source.start()
        server.hang()
        clock.now += FRESH_SECONDS
        await source.key_set()
        await source.close()
        await source.close()
        server.release.set()

    run(scenario())


def test_a_waiting_request_that_is_cancelled_leaves_the_fetch_to_the_others(server: JwksServer) -> None:
    async def scenario() -> None:
        clock = Clock()
        source = JwksAddress(server.url, clock=clock)
        await source.start()
        server.hang()
        clock.now += FETCH_AGAIN_SECONDS
        one, other = [asyncio.create_task(source.newer()) for _ in range(2)]
        await asyncio.sleep(0)
        one.cancel()
        with pytest.raises(asyncio.CancelledError):
            await one
        server.release.set()
        await other
        assert server.asked == 2

    run(scenario())


def test_a_set_may_have_members_that_nobody_knows() -> None:
    text = json.dumps({"keys": [jwk(x5c=["AAAA"], x5t="AA", use="sig", key_ops=["verify"], other={})], "more": 1})
    assert parse_key_set(text.encode()).find("RS256", "k1") is not None
