"""JSON Web Tokens of an issuer that the operator trusts, verified by PyJWT (the extra `jwt`). RFC 7519, RFC 8725.

The work on a token is bounded: its length first, then its header, and only if that names a known key and the
algorithm of this key, one signature. What has been verified is cached until it expires or the keys change.
"""

from __future__ import annotations

import hashlib
import json
import time
from base64 import urlsafe_b64decode
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from asgi_export.access.jwks import ALGORITHMS, Jwks, KeySet, open_jwks
from asgi_export.caller import Caller
from asgi_export.errors import Header, StartupError, Unauthorized
from asgi_export.extras import extra

MAX_TOKEN_CHARACTERS = 16 * 1024
"""Half of what header fields may have; an issuer that lists two hundred groups needs 10 KB."""

LEEWAY_SECONDS = 30
"""Clocks of issuer and service may differ by so much. RFC 7519 §4.1.4."""

MAX_CACHED = 1000
MIN_SECRET_BYTES = 32
"""Of HS256. RFC 7518 §3.2."""

SECRET_ALGORITHM = "HS256"  # noqa: S105 - a name
KEY_ALGORITHMS = frozenset(name for names in ALGORITHMS.values() for name in names)
OF_THE_TOKEN = frozenset({"iss", "aud", "exp", "nbf", "iat", "jti", "auth_time", "nonce", "at_hash", "c_hash", "sid"})
"""Claims about one token or session, not about its caller: they differ from one token to the next."""

CHALLENGE: Header = (b"www-authenticate", b'Bearer realm="exports", error="invalid_token"')
"""RFC 6750 §3.1."""


@dataclass(frozen=True, slots=True)
class _Verified:
    """A token that was verified with these keys, and holds until a moment of the wall clock."""

    caller: Caller
    until: float
    keys: KeySet


class Tokens:
    """Verify JSON Web Tokens: `find` returns the caller of one, or raises `Unauthorized`.

    `keys` is the file or address of a JSON Web Key Set. `secret`, of 32 bytes at least, verifies HS256, and nothing
    else does. A token must expire (`exp`), be of `issuer`, which must be given with `keys`, and for `audience`;
    without `audience`, tokens that name one are refused. `caller_claim` is the id of the caller and `plan_claim` the
    name of its plan, `default_plan` if the token names none. All claims but those of `OF_THE_TOKEN` are the caller's.

    Raises `StartupError` for what cannot work, and if the extra `jwt` is not installed.
    """

    def __init__(
        self,
        keys: str = "",
        *,
        secret: str = "",
        issuer: str = "",
        audience: str = "",
        caller_claim: str = "sub",
        plan_claim: str = "plan",
        default_plan: str | None = None,
        wall_clock: Callable[[], float] = time.time,
    ) -> None:
        if not (keys or secret):
            raise StartupError("tokens: expected keys (a file or an address) or a secret to verify them with")
        if keys and not issuer:
            raise StartupError("tokens: expected the issuer whose keys these are")
        self._secret = _checked_secret(secret) if secret else None
        self._jwks: Jwks | None = open_jwks(keys) if keys else None
        self._issuer = issuer or None
        self._audience = audience or None
        self._caller_claim = caller_claim
        self._plan_claim = plan_claim
        self._default_plan = default_plan
        self._wall_clock = wall_clock
        self._cache: dict[bytes, _Verified] = {}

    async def start(self) -> None:
        """Fetch the keys. Raises `StartupError`."""
        if self._jwks is not None:
            await self._jwks.start()

    async def reload(self) -> None:
        """Read or fetch the keys now; the log has the result."""
        if self._jwks is not None:
            await self._jwks.reload()

    async def close(self) -> None:
        """End what runs in the background. May be called twice."""
        if self._jwks is not None:
            await self._jwks.close()

    async def find(self, token: str) -> Caller:
        """Return the caller of a token. Raises `Unauthorized`, and `Unavailable` as long as there are no keys."""
        if len(token) > MAX_TOKEN_CHARACTERS:
            raise _invalid(f"a token of more than {MAX_TOKEN_CHARACTERS} characters")
        keys = await self._jwks.key_set() if self._jwks is not None else _NO_KEYS
        digest = hashlib.sha256(token.encode("utf-8", "surrogatepass")).digest()
        found = self._cache.get(digest)
        if found is not None and found.keys is keys and self._wall_clock() < found.until:
            return found.caller
        algorithm, key_id = _read_header(token)
        claims = self._verify(token, algorithm, await self._key(algorithm, key_id, keys))
        caller = self._caller(claims)
        self._remember(digest, _Verified(caller, int(claims["exp"]) + LEEWAY_SECONDS, keys))
        return caller

    async def _key(self, algorithm: str, key_id: str | None, keys: KeySet) -> Any:
        """Find the key of an algorithm: for HS256 the secret, for all others one of the set of that type."""
        key = None
        if algorithm == SECRET_ALGORITHM:
            key = self._secret
        elif algorithm in KEY_ALGORITHMS:
            key = keys.find(algorithm, key_id)
            if key is None and self._jwks is not None:
                key = (await self._jwks.newer()).find(algorithm, key_id)
        if key is None:
            raise _invalid("a token of an unknown key or algorithm")
        return key

    def _verify(self, token: str, algorithm: str, key: Any) -> dict[str, Any]:
        import jwt

        try:
            return jwt.decode(
                token,
                key,
                algorithms=[algorithm],
                audience=self._audience,
                issuer=self._issuer,
                leeway=LEEWAY_SECONDS,
                options={"require": ["exp"]},
            )
        except Exception as error:  # the text is a stranger's: whatever it raises, it is refused
            raise _invalid(_reason(error)) from None

    def _caller(self, claims: Mapping[str, Any]) -> Caller:
        plan = claims.get(self._plan_claim)
        own = {name: value for name, value in claims.items() if name not in OF_THE_TOKEN}
        try:
            return Caller(claims.get(self._caller_claim, ""), self._default_plan if plan is None else plan, own)
        except ValueError:
            names = f"{self._caller_claim} or {self._plan_claim}"
            raise _invalid(f"a token whose {names} is no text of 1 to 256 printable characters") from None

    def _remember(self, digest: bytes, verified: _Verified) -> None:
        self._cache.pop(digest, None)
        self._cache[digest] = verified
        if len(self._cache) > MAX_CACHED:
            del self._cache[next(iter(self._cache))]


_NO_KEYS = KeySet({})


def looks_like_token(text: str) -> bool:
    """Return whether a key is a token: it begins like JSON in base64, and has at least two dots.

    >>> looks_like_token("eyJhbGciOiJSUzI1NiJ9.e30.c2ln"), looks_like_token("ax_k6Yv")
    (True, False)
    """
    return text.startswith(("ey", "ew")) and text.count(".") >= 2


def _checked_secret(secret: str) -> bytes:
    """Return the bytes of a secret. Raises `StartupError`, which does not show it."""
    with extra("jwt"):
        import jwt
    found = secret.encode("utf-8", "surrogateescape")
    if len(found) < MIN_SECRET_BYTES:
        raise StartupError(f"the secret of tokens has {len(found)} bytes; expected at least {MIN_SECRET_BYTES}")
    try:
        jwt.get_algorithm_by_name(SECRET_ALGORITHM).prepare_key(found)
    except jwt.InvalidKeyError:  # a public key, with which anybody could sign
        raise StartupError("the secret of tokens is a public key; expected a shared secret") from None
    return found


def _read_header(token: str) -> tuple[str, str | None]:
    """Return the algorithm and the key id of a token, before anything else of it is read. RFC 7515 §4.1."""
    text = token.partition(".")[0]
    try:
        header = json.loads(urlsafe_b64decode(text + "=" * (-len(text) % 4)))
        algorithm, key_id = header["alg"], header.get("kid")
    except (ValueError, RecursionError, TypeError, LookupError, AttributeError):
        raise _invalid("no JSON Web Token") from None
    if not isinstance(algorithm, str) or not isinstance(key_id, str | None):
        raise _invalid("no JSON Web Token")
    return algorithm, key_id


def _reason(error: Exception) -> str:
    """Say what is wrong with a token that could not be verified, in our own words."""
    import jwt

    for kind, words in (
        (jwt.ExpiredSignatureError, "a token that has expired"),
        (jwt.ImmatureSignatureError, "a token that is not valid yet"),
        (jwt.InvalidAudienceError, "a token for another audience"),
        (jwt.InvalidIssuerError, "a token of another issuer"),
        (jwt.MissingRequiredClaimError, "a token without exp, iss or aud"),
        (jwt.InvalidSignatureError, "a token that was not signed by this key"),
    ):
        if isinstance(error, kind):
            return words
    return "a token that cannot be read"


def _invalid(found: str) -> Unauthorized:
    return Unauthorized(f"{found}; expected a token that is valid here", headers=(CHALLENGE,))
