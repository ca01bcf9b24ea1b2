"""Tokens: which are taken, which are refused, and how much work a stranger's text can cause."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import json
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from hypothesis import given
from hypothesis import strategies as st

from asgi_export import Caller, Tokens
from asgi_export.access.jwks import FETCH_AGAIN_SECONDS, JwksAddress
from asgi_export.access.tokens import LEEWAY_SECONDS, MAX_CACHED, looks_like_token
from asgi_export.errors import StartupError, Unauthorized
from tests.issuer import AUDIENCE, ISSUER, SECRET, claims, jwk, jwks, jwks_server, rsa_key, signed, token

ALL = (jwk(), jwk("PS256", "ps"), jwk("ES256", "ec"), jwk("EdDSA", "ed"))


def write(path: Path, body: bytes) -> Path:
    """A file that was written long ago."""
    path.write_bytes(body)
    os.utime(path, (0, time.time() - 60))
    return path


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(write(tmp_path_factory.mktemp("keys") / "jwks.json", jwks(*ALL)))


def made(keys: str, **options: Any) -> Tokens:
    return Tokens(keys, **{"issuer": ISSUER, "audience": AUDIENCE, "secret": SECRET, **options})


def found(tokens: Tokens, text: str) -> Caller:
    return asyncio.run(tokens.find(text))


def refused(tokens: Tokens, text: str) -> str:
    """Why a token is refused; never in its own words."""
    with pytest.raises(Unauthorized) as caught:
        found(tokens, text)
    assert caught.value.headers == ((b"www-authenticate", b'Bearer realm="exports", error="invalid_token"'),)
    assert text not in caught.value.detail or len(text) < 20
    assert caught.value.__cause__ is None
    return caught.value.detail.removesuffix("; expected a token that is valid here")


def encoded(part: Any) -> str:
    text = part if isinstance(part, bytes) else json.dumps(part).encode()
    return base64.urlsafe_b64encode(text).rstrip(b"=").decode()


def by_hand(header: Any, payload: Any, signature: bytes = b"signature") -> str:
    return f"{encoded(header)}.{encoded(payload)}.{encoded(signature)}"


# What is taken


@pytest.mark.parametrize(("algorithm", "kid"), [("RS256", "k1"), ("PS256", "ps"), ("ES256", "ec"), ("EdDSA", "ed")])
def test_a_token_of_each_algorithm_is_taken_with_and_without_the_id_of_its_key(
    keys: str, algorithm: str, kid: str
) -> None:
    for key_id in (kid, None):
        assert found(made(keys), token(algorithm, key_id)) == Caller("alice", claims={"sub": "alice"})


def test_a_token_of_the_secret_is_taken(keys: str) -> None:
    text = token("HS256", None, key=SECRET)
    assert found(made(keys), text).id == "alice"
    assert found(Tokens(secret=SECRET, audience=AUDIENCE), text).id == "alice"
    assert refused(made(keys, secret=""), text) == "a token of an unknown key or algorithm"


def test_its_claims_are_the_caller_s_but_for_those_of_the_token_itself(keys: str) -> None:
    """Two tokens of one caller are the same caller."""
    own: dict[str, Any] = {"tenant": 42, "regions": ["eu", "us"], "admin": False, "deep": {"a": [1]}}
    texts = [token(plan="basic", jti=jti, nbf=int(time.time()) - 5, nonce=jti, **own) for jti in ("a", "b")]
    assert texts[0] != texts[1]
    for text in texts:
        assert found(made(keys), text) == Caller("alice", "basic", {"sub": "alice", "plan": "basic", **own})


def test_other_claims_may_name_caller_and_plan(keys: str) -> None:
    tokens = made(keys, caller_claim="email", plan_claim="https://app/plan", default_plan="free")
    assert found(tokens, token(email="a@b", **{"https://app/plan": "gold"})).plan == "gold"
    assert found(tokens, token(email="a@b", sub=None)) == Caller("a@b", "free", {"email": "a@b"})


@pytest.mark.parametrize("audience", [AUDIENCE, [AUDIENCE], ["other", AUDIENCE]])
def test_one_of_its_audiences_is_ours(keys: str, audience: Any) -> None:
    assert found(made(keys), token(aud=audience)).id == "alice"


@pytest.mark.parametrize("seconds", [LEEWAY_SECONDS - 10, 0, -100])
def test_clocks_may_differ_a_little(keys: str, seconds: int) -> None:
    now = int(time.time())
    assert found(made(keys), token(exp=now - min(seconds, 20), iat=now + seconds, nbf=now + seconds)).id == "alice"


# What is refused


NOW = int(time.time())
SIGNED: dict[str, tuple[dict[str, Any], str]] = {
    "expired": ({"exp": NOW - 3600}, "a token that has expired"),
    "expired as text": ({"exp": "1"}, "a token that has expired"),
    "expired a moment ago": ({"exp": NOW - LEEWAY_SECONDS - 5}, "a token that has expired"),
    "without an end": ({"exp": None}, "a token without exp, iss or aud"),
    "an end that is none": ({"exp": "soon"}, "a token that cannot be read"),
    "an end that is a list": ({"exp": [1]}, "a token that cannot be read"),
    "an end beyond all": ({"exp": float("inf")}, "a token that cannot be read"),
    "an end that is no number": ({"exp": float("nan")}, "a token that cannot be read"),
    "not yet": ({"nbf": NOW + 3600}, "a token that is not valid yet"),
    "made tomorrow": ({"iat": NOW + 86400}, "a token that is not valid yet"),
    "made never": ({"iat": float("-inf")}, "a token that cannot be read"),
    "another audience": ({"aud": "other"}, "a token for another audience"),
    "no audience": ({"aud": None}, "a token without exp, iss or aud"),
    "audiences that are none": ({"aud": [7]}, "a token for another audience"),
    "another issuer": ({"iss": "https://evil.example/"}, "a token of another issuer"),
    "almost this issuer": ({"iss": ISSUER.rstrip("/")}, "a token of another issuer"),
    "issuers": ({"iss": [ISSUER]}, "a token of another issuer"),
    "no issuer": ({"iss": None}, "a token without exp, iss or aud"),
    "a caller that is a number": ({"sub": 42}, "a token that cannot be read"),
    "a caller that is a list": ({"sub": ["alice"]}, "a token that cannot be read"),
}
NO_TEXT = "a token whose sub or plan is no text of 1 to 256 printable characters"
NAMES: dict[str, dict[str, Any]] = {
    "no caller": {"sub": None},
    "an empty caller": {"sub": ""},
    "a long caller": {"sub": "x" * 10_000},
    "a caller with a line end": {"sub": "alice\nstatus=200"},
    "a caller with an escape": {"sub": "\x1b[31malice"},
    "a caller with a lone surrogate": {"sub": "\ud800"},
    "a caller that turns text around": {"sub": "\u202eecila"},
    "a plan that is a number": {"plan": 7},
    "a plan that is a list": {"plan": ["basic"]},
    "an empty plan": {"plan": ""},
    "a plan with a line end": {"plan": "a\nb"},
}


@pytest.mark.parametrize("name", SIGNED)
def test_a_signed_token_that_does_not_hold_is_refused_with_the_reason(keys: str, name: str) -> None:
    changes, reason = SIGNED[name]
    assert refused(made(keys), token(**changes)) == reason


@pytest.mark.parametrize("name", NAMES)
def test_callers_and_plans_have_printable_names(keys: str, name: str) -> None:
    assert refused(made(keys), token(**NAMES[name])) == NO_TEXT


def test_without_an_audience_of_ours_a_token_for_somebody_is_for_somebody_else(keys: str) -> None:
    tokens = made(keys, audience="")
    assert found(tokens, token(aud=None)).id == "alice"
    assert refused(tokens, token()) == "a token for another audience"


PEM = rsa_key().public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
UNKNOWN = "a token of an unknown key or algorithm"
UNREADABLE = "no JSON Web Token"


def signed_by(secret: bytes, header: dict[str, Any]) -> str:
    """A token whose signature is HMAC-SHA256 by anything."""
    text = f"{encoded(header)}.{encoded(claims())}"
    return f"{text}.{encoded(hmac.digest(secret, text.encode(), hashlib.sha256))}"


FORGED: dict[str, tuple[Callable[[], str], str]] = {
    "unsigned": (lambda: by_hand({"alg": "none"}, claims(), b""), UNKNOWN),
    "unsigned with the id of a key": (lambda: by_hand({"alg": "none", "kid": "k1"}, claims(), b""), UNKNOWN),
    "unsigned in capitals": (lambda: by_hand({"alg": "NONE", "kid": "k1"}, claims(), b""), UNKNOWN),
    "a public key as secret": (
        lambda: signed_by(PEM, {"alg": "HS256", "kid": "k1"}),
        "a token that was not signed by this key",
    ),
    "a modulus as secret": (
        lambda: signed_by(jwk()["n"].encode(), {"alg": "HS256", "kid": "k1"}),
        "a token that was not signed by this key",
    ),
    "no secret": (lambda: signed_by(b"", {"alg": "HS256"}), "a token that was not signed by this key"),
    "a secret for a longer digest": (lambda: jwt.encode(claims(), SECRET * 3, "HS512"), UNKNOWN),
    "another key": (lambda: token(key=rsa_key("evil")), "a token that was not signed by this key"),
    "its own key": (
        lambda: jwt.encode(
            claims(), rsa_key("evil"), "RS256", headers={"kid": "k1", "jwk": jwk(key=rsa_key("evil"))}
        ),
        "a token that was not signed by this key",
    ),
    "an unknown key": (lambda: token(kid="k9"), UNKNOWN),
    "the key of another algorithm": (lambda: token("ES256", "k1"), UNKNOWN),
    "another algorithm of the key": (lambda: token("PS256", "k1"), UNKNOWN),
    "an id that is a list": (lambda: by_hand({"alg": "RS256", "kid": ["k1"]}, claims()), UNREADABLE),
    "an algorithm that is a list": (lambda: by_hand({"alg": ["RS256"], "kid": "k1"}, claims()), UNREADABLE),
    "no algorithm": (lambda: by_hand({"kid": "k1"}, claims()), UNREADABLE),
    "a header that is a list": (lambda: by_hand([], claims()), UNREADABLE),
    "a header that is no JSON": (lambda: by_hand(b"{alg", claims()), UNREADABLE),
    "a header of a thousand lists": (lambda: by_hand(b'{"a":' + b"[" * 5000, claims()), UNREADABLE),
    "what must be understood": (
        lambda: jwt.encode(claims(), rsa_key(), "RS256", headers={"kid": "k1", "crit": ["exp2"], "exp2": 1}),
        "a token that cannot be read",
    ),
    "a changed payload": (
        lambda: ".".join([token().split(".")[0], encoded(claims(sub="root")), token().split(".")[2]]),
        "a token that was not signed by this key",
    ),
    "a signature that is cut off": (lambda: token()[:-42], "a token that was not signed by this key"),
    "no signature": (lambda: token().rpartition(".")[0] + ".", "a token that was not signed by this key"),
    "two parts": (lambda: token().rpartition(".")[0], "a token that cannot be read"),
    "five parts": (lambda: f"{token()}.a.b", "a token that cannot be read"),
    "bad base64": (lambda: token()[:-1] + "!", "a token that cannot be read"),
    "a blank within": (lambda: token().replace(".", ". ", 1), "a token that cannot be read"),
    "another alphabet": (lambda: "éy" + token()[2:], UNREADABLE),
    "a payload that is no JSON": (
        lambda: signed(b"{"),
        "a token that cannot be read",
    ),
    "a payload of a thousand lists": (
        lambda: signed(b"[" * 5000),
        "a token that cannot be read",
    ),
    "a payload that is a list": (
        lambda: signed(b"[]"),
        "a token that cannot be read",
    ),
    "an integer of 8000 digits": (
        lambda: signed(b'{"exp":' + b"9" * 8000 + b"}"),
        "a token that cannot be read",
    ),
    "nothing": (lambda: "", UNREADABLE),
    "dots": (lambda: "..", UNREADABLE),
    "100 KB": (
        lambda: by_hand({"alg": "RS256", "kid": "k1"}, {"a": "x" * 100_000}),
        "a token of more than 16384 characters",
    ),
    "surrogates": (lambda: "ey\udcff.\udcff.\udcff", UNREADABLE),
}


@pytest.mark.parametrize("name", FORGED)
def test_a_forged_or_broken_token_is_refused(keys: str, name: str) -> None:
    make, reason = FORGED[name]
    assert refused(made(keys), make()) == reason


def test_a_key_of_a_set_never_verifies_with_a_secret_s_algorithm(tmp_path: Path) -> None:
    """Even where the set itself says so: HS256 has its own setting."""
    entry = {"kty": "oct", "k": encoded(SECRET.encode()), "kid": "s", "alg": "HS256"}
    path = write(tmp_path / "jwks.json", jwks(jwk(), entry))
    tokens = made(str(path), secret="")
    assert refused(tokens, token("HS256", "s", key=SECRET)) == UNKNOWN


def test_several_keys_without_ids_are_no_key(tmp_path: Path) -> None:
    path = write(tmp_path / "jwks.json", jwks(jwk(kid="a"), jwk(kid="b", key=rsa_key("other"))))
    assert refused(made(str(path)), token(kid=None)) == UNKNOWN


PARTS = st.one_of(
    st.binary(max_size=60),
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
        max_leaves=8,
    ),
)
HEADERS = st.fixed_dictionaries(
    {"alg": st.sampled_from(["RS256", "HS256", "ES256", "EdDSA", "none", "", None, 7]) | PARTS},
    optional={"kid": st.sampled_from(["k1", "ec", "ed", "k9"]) | PARTS, "crit": PARTS, "b64": PARTS, "typ": PARTS},
)


def _text_of(part: Any) -> bytes:
    return part if isinstance(part, bytes) else json.dumps(part).encode()


@given(header=HEADERS | PARTS, payload=PARTS, signature=st.binary(max_size=300))
def test_no_text_is_taken_or_makes_another_error(keys: str, header: Any, payload: Any, signature: bytes) -> None:
    try:
        head = _text_of(header)
    except TypeError:
        return  # bytes within
    refused(made(keys), by_hand(head, _text_of(payload), signature))


@given(text=st.text(max_size=100))
def test_no_other_text_either(keys: str, text: str) -> None:
    refused(made(keys), text)


SURPRISES = st.dictionaries(
    st.sampled_from(["exp", "nbf", "iat", "iss", "aud", "sub", "jti", "plan", "x"]),
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=9)
    | st.lists(st.integers(), max_size=2),
)


@given(changes=SURPRISES)
def test_what_a_trusted_issuer_signs_is_a_caller_or_refused(keys: str, changes: dict[str, Any]) -> None:
    text = signed(json.dumps({**claims(), **changes}).encode(), "HS256", None, key=SECRET)
    try:
        caller = found(made(keys), text)
    except Unauthorized:
        return
    assert caller.id.isprintable()


# The work


def test_an_unknown_key_or_a_long_text_costs_no_signature(keys: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def decode(*args: Any, **options: Any) -> Any:
        raise AssertionError("a signature was verified")

    monkeypatch.setattr(jwt, "decode", decode)
    tokens = made(keys)
    for name in ("unsigned", "an unknown key", "the key of another algorithm", "no algorithm", "100 KB"):
        refused(tokens, FORGED[name][0]())


class Clock:
    """Seconds that the test moves."""

    def __init__(self) -> None:
        self.now = float(NOW)

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def verified(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The tokens whose signatures were verified."""
    seen: list[str] = []
    decode = jwt.decode

    def counted(text: str, *args: Any, **options: Any) -> Any:
        seen.append(text)
        return decode(text, *args, **options)

    monkeypatch.setattr(jwt, "decode", counted)
    return seen


def test_a_token_is_verified_once_until_it_expires(keys: str, verified: list[str]) -> None:
    clock = Clock()
    tokens, text = made(keys, wall_clock=clock), token(exp=NOW + 300)
    callers = [found(tokens, text) for _ in range(3)]
    clock.now += 300 + LEEWAY_SECONDS - 1
    callers.append(found(tokens, text))
    assert len(verified) == 1
    assert all(caller is callers[0] for caller in callers)
    clock.now += 1
    found(tokens, text)  # by the clock of the test it has expired, by that of the library it has not
    assert len(verified) == 2


def test_a_refused_token_is_not_remembered(keys: str, verified: list[str]) -> None:
    tokens, text = made(keys), token(key=rsa_key("evil"))
    for _ in range(2):
        refused(tokens, text)
    assert len(verified) == 2


def test_what_is_remembered_is_bounded(keys: str) -> None:
    tokens = made(keys)

    async def scenario() -> None:
        for number in range(MAX_CACHED + 20):
            await tokens.find(token("HS256", None, key=SECRET, sub=str(number)))

    asyncio.run(scenario())
    assert len(tokens._cache) == MAX_CACHED


def test_a_withdrawn_key_ends_what_was_remembered(tmp_path: Path) -> None:
    path = write(tmp_path / "jwks.json", jwks())
    tokens, text = made(str(path)), token()
    assert found(tokens, text).id == "alice"
    write(path, jwks(jwk(kid="k2", key=rsa_key("other"))))
    asyncio.run(tokens.reload())
    assert refused(tokens, text) == UNKNOWN


def test_a_rotated_key_is_fetched_with_its_first_token() -> None:
    async def scenario() -> None:
        with jwks_server() as server:
            tokens = made(server.url)
            await tokens.start()
            assert (await tokens.find(token())).id == "alice"
            server.serve(jwks(jwk(kid="k2", key=rsa_key("other"))))
            assert isinstance(tokens._jwks, JwksAddress)
            tokens._jwks._begun_at -= FETCH_AGAIN_SECONDS
            assert (await tokens.find(token(kid="k2", key=rsa_key("other")))).id == "alice"
            with pytest.raises(Unauthorized):
                await tokens.find(token())
            assert server.asked == 2
            await tokens.close()

    asyncio.run(scenario())


# Settings


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({}, "expected keys .* or a secret"),
        ({"keys": "jwks.json"}, "expected the issuer whose keys these are"),
        ({"secret": "short"}, "the secret of tokens has 5 bytes; expected at least 32"),
        ({"secret": PEM.decode()}, "the secret of tokens is a public key; expected a shared secret"),
        ({"keys": "nowhere.json", "issuer": ISSUER}, "nowhere.json: No such file"),
        ({"keys": "ftp://id/", "issuer": ISSUER}, "expected a file, or an address"),
    ],
)
def test_what_cannot_work_is_told_at_the_start(options: dict[str, Any], told: str) -> None:
    with pytest.raises(StartupError, match=told) as caught:
        Tokens(**options)
    assert "\n" not in str(caught.value)
    assert options.get("secret", "…") not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "is_token"),
    [
        ("", False),
        ("ax_" + "a" * 43, False),
        ("eyJ", False),
        ("eyJ.a", False),
        ("my.dotted.key", False),
        ("eyJhbGciOiJub25lIn0..", True),
        ("ewogICJhbGciOiAiUlMyNTYiCn0.e30.c2ln", True),
        ("eyJ!.?.é", True),
    ],
)
def test_what_looks_like_a_token(text: str, is_token: bool) -> None:
    assert looks_like_token(text) is is_token
