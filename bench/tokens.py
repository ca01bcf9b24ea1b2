"""What does a JSON Web Token cost a request?

Microseconds of `Tokens.find` in one coroutine: a token that comes again, a token that comes for the first time, and
two that are refused (of an unknown key, and signed by another key), for RS256 and ES256; beside them the signature
alone, by cryptography. Medians of 9, the sides alternating. The token has 13 claims and 720 characters.

Decided: verified tokens are cached until they expire or the keys change; PyJWT takes five times as long as the
signature, most of it for base64.

    python -m bench.tokens
"""

from __future__ import annotations

import asyncio
import base64
import json
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from statistics import median
from typing import Any

import jwt
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from jwt.algorithms import ECAlgorithm, RSAAlgorithm

from asgi_export import Tokens
from asgi_export.errors import Unauthorized

REPEATS = 9
CALLS = 200
TARGET = 100.0
ISSUER, AUDIENCE = "https://id.example/", "exports"

Side = Callable[[], Awaitable[float]]


def claims(number: int) -> dict[str, Any]:
    now = int(time.time())
    return {
        "iss": ISSUER,
        "aud": AUDIENCE,
        "sub": f"auth0|5f7c8ec7c33c6c004bbafe{number:04}",
        "exp": now + 3600,
        "iat": now,
        "nbf": now,
        "jti": f"{number:032x}",
        "plan": "basic",
        "tenant": 42,
        "email": "someone@example.org",
        "name": "Some One",
        "scope": "openid profile email exports:read",
        "roles": ["reader", "writer"],
    }


async def each(tokens: Tokens, texts: list[str]) -> float:
    """Microseconds of one token."""
    begun = time.perf_counter()
    for text in texts:
        try:
            await tokens.find(text)
        except Unauthorized:
            continue
    return (time.perf_counter() - begun) / len(texts) * 1e6


def sides(algorithm: str, private: Any, other: Any, folder: Path) -> dict[str, Side]:
    writer: Any = RSAAlgorithm if algorithm == "RS256" else ECAlgorithm
    path = folder / f"{algorithm}.json"
    path.write_text(json.dumps({"keys": [{**json.loads(writer.to_jwk(private.public_key())), "kid": "k1"}]}))
    texts = [jwt.encode(claims(number), private, algorithm, headers={"kid": "k1"}) for number in range(CALLS)]
    forged = [jwt.encode(claims(number), other, algorithm, headers={"kid": "k1"}) for number in range(CALLS)]
    unknown = [jwt.encode(claims(number), other, algorithm, headers={"kid": "k2"}) for number in range(CALLS)]
    again = Tokens(str(path), issuer=ISSUER, audience=AUDIENCE)

    def fresh() -> Tokens:
        return Tokens(str(path), issuer=ISSUER, audience=AUDIENCE)

    async def signature() -> float:
        message, _, encoded = texts[0].rpartition(".")
        raw = base64.urlsafe_b64decode(encoded + "==")
        key = private.public_key()
        verifier = writer(writer.SHA256)
        begun = time.perf_counter()
        for _ in range(CALLS):
            if algorithm == "RS256":
                key.verify(raw, message.encode(), padding.PKCS1v15(), hashes.SHA256())
            elif not verifier.verify(message.encode(), key, raw):
                raise AssertionError
        return (time.perf_counter() - begun) / CALLS * 1e6

    return {
        "the signature alone": signature,
        "a token that comes again": lambda: each(again, texts[:1] * CALLS),
        "a token that comes first": lambda: each(fresh(), texts),
        "signed by another key": lambda: each(fresh(), forged),
        "of an unknown key": lambda: each(fresh(), unknown),
    }


async def measure() -> bool:
    with tempfile.TemporaryDirectory() as folder:
        rsa_keys = [rsa.generate_private_key(65537, 2048) for _ in range(2)]
        ec_keys = [ec.generate_private_key(ec.SECP256R1()) for _ in range(2)]
        rows = {
            f"{algorithm}, {name}": side
            for algorithm, keys in (("RS256", rsa_keys), ("ES256", ec_keys))
            for name, side in sides(algorithm, keys[0], keys[1], Path(folder)).items()
        }
        taken: dict[str, list[float]] = {name: [] for name in rows}
        for _ in range(REPEATS):
            for name, side in rows.items():
                taken[name].append(await side())
    for name, found in taken.items():
        print(f"{name:40} {median(found):8.1f} µs  (best {min(found):.1f})")
    return median(taken["RS256, a token that comes again"]) <= TARGET


if __name__ == "__main__":
    sys.exit(0 if asyncio.run(measure()) else 1)
