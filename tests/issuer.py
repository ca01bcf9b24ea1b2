"""An issuer of tokens with real keys, and its key set at an address, where it changes, breaks and hangs."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import jwt
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from jwt.algorithms import ECAlgorithm, OKPAlgorithm, RSAAlgorithm

ISSUER = "https://id.example/"
AUDIENCE = "exports"
SECRET = "a secret of thirty-two bytes, or more"


@cache
def rsa_key(name: str = "rsa") -> rsa.RSAPrivateKey:
    """An RSA key of 2048 bits; made once a name."""
    return rsa.generate_private_key(65537, 2048)


@cache
def ec_key() -> ec.EllipticCurvePrivateKey:
    return ec.generate_private_key(ec.SECP256R1())


@cache
def ed_key() -> ed25519.Ed25519PrivateKey:
    return ed25519.Ed25519PrivateKey.generate()


KEYS: Mapping[str, Callable[[], Any]] = {"RS256": rsa_key, "PS256": rsa_key, "ES256": ec_key, "EdDSA": ed_key}
WRITERS: Mapping[str, Any] = {
    "RS256": RSAAlgorithm,
    "PS256": RSAAlgorithm,
    "ES256": ECAlgorithm,
    "EdDSA": OKPAlgorithm,
}


def jwk(algorithm: str = "RS256", kid: str | None = "k1", *, key: Any = None, **members: Any) -> dict[str, Any]:
    """The public key that verifies tokens of this algorithm, as a JSON Web Key."""
    private = key if key is not None else KEYS[algorithm]()
    found: dict[str, Any] = WRITERS[algorithm].to_jwk(private.public_key(), as_dict=True)
    found.pop("key_ops", None)
    return {**found, **({} if kid is None else {"kid": kid}), "alg": algorithm, **members}


def jwks(*keys: dict[str, Any]) -> bytes:
    return json.dumps({"keys": keys or (jwk(),)}).encode()


def claims(**changes: Any) -> dict[str, Any]:
    """The claims of a token that is valid for five minutes; a change to None leaves one out."""
    now = int(time.time())
    found = {"iss": ISSUER, "aud": AUDIENCE, "sub": "alice", "exp": now + 300, "iat": now, **changes}
    return {name: value for name, value in found.items() if value is not None}


def token(algorithm: str = "RS256", kid: str | None = "k1", *, key: Any = None, **changes: Any) -> str:
    """A signed token of any claims, also of those that PyJWT itself would not sign."""
    return signed(json.dumps(claims(**changes)).encode(), algorithm, kid, key=key)


def signed(
    payload: bytes, algorithm: str = "RS256", kid: str | None = "k1", *, key: Any = None, **header: Any
) -> str:
    """A signed payload."""
    signer = key if key is not None else KEYS[algorithm]()
    return jwt.PyJWS().encode(payload, signer, algorithm, headers={**({} if kid is None else {"kid": kid}), **header})


class JwksServer:
    """A key set at an address; `answer` writes each answer, and `asked` counts the requests."""

    def __init__(self, port: int) -> None:
        self.base = f"http://127.0.0.1:{port}"
        self.url = f"{self.base}/jwks.json"
        self.asked = 0
        self.release = threading.Event()
        self.serve(jwks())

    def serve(self, body: bytes, status: int = 200, **headers: str) -> None:
        """Answer with this from now on."""

        def answer(handler: BaseHTTPRequestHandler) -> None:
            handler.send_response(status)
            for name, value in headers.items():
                handler.send_header(name, value)
            handler.send_header("content-length", str(len(body)))
            handler.end_headers()
            handler.wfile.write(body)

        self.answer: Callable[[BaseHTTPRequestHandler], None] = answer

    def hang(self) -> None:
        """Answer nothing until `release` is set."""

        def answer(handler: BaseHTTPRequestHandler) -> None:
            self.release.wait(20)

        self.answer = answer

    def drip(self) -> None:
        """Send a byte now and then."""

        def answer(handler: BaseHTTPRequestHandler) -> None:
            handler.send_response(200)
            handler.end_headers()
            while not self.release.wait(0.05):
                handler.wfile.write(b" ")

        self.answer = answer


@contextmanager
def jwks_server() -> Iterator[JwksServer]:
    """A server of its own thread, for one test."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            found.asked += 1
            try:
                found.answer(self)
            except OSError:
                self.close_connection = True

        def log_message(self, *args: object) -> None:
            """Stay quiet."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    found = JwksServer(server.server_port)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield found
    finally:
        found.release.set()
        server.shutdown()
        thread.join()
        server.server_close()
