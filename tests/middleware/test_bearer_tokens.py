"""Tokens beside keys, through limits, plans and rights, in raw ASGI."""

from __future__ import annotations

import asyncio
import json
import os
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import jwt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from asgi_export import (
    ApiKeys,
    ExportApp,
    KeyFile,
    MemoryStore,
    Observe,
    RateLimit,
    Selection,
    SqliteSource,
    Tokens,
    dataset,
    digest_of,
)
from asgi_export.errors import StartupError
from asgi_export.service import make_service
from asgi_export.settings import Settings
from tests.doubles import Client, communicator
from tests.issuer import AUDIENCE, ISSUER, SECRET, claims, jwk, jwks, jwks_server, signed, token

KEY = "alice's key"
KEYS = f"""
[plans.full]
[plans.few]
limits = ["2/60s"]
datasets = ["orders"]
[plans.tenant]
datasets = ["invoices"]
rows = {{ invoices = {{ tenant = "$tenant" }} }}
[keys.keyed]
sha256 = "{digest_of(KEY).hex()}"
plan = "full"
"""
CHALLENGE = b'Bearer realm="exports", error="invalid_token"'
ROWS = {1: [(1, 10)], 2: [(2, 20), (3, 30)]}


@dataset(columns=["id", "total"])
def orders(selection: Selection) -> Iterator[Any]:
    """The rows of the caller's tenant."""
    tenant: Any = selection.caller.claims.get("tenant", 1) if selection.caller else 1
    for row in ROWS[tenant]:
        named = dict(zip(("id", "total"), row, strict=True))
        yield tuple(named[name] for name in selection.columns)


@dataset(columns=["id"])
def salaries() -> Iterator[tuple[int]]:
    yield (1,)


def write(path: Path, body: bytes) -> Path:
    """A file that was written long ago."""
    path.write_bytes(body)
    os.utime(path, (0, time.time() - 60))
    return path


Make = Callable[..., Any]


def signed_token(**changes: Any) -> str:
    """A token of exactly these claims, null ones too."""
    return signed(json.dumps({**claims(), **changes}).encode())


@pytest.fixture(scope="module")
def make(tmp_path_factory: pytest.TempPathFactory) -> Make:
    """A service with keys and tokens."""
    folder = tmp_path_factory.mktemp("access")
    keys, key_set = (
        write(folder / "keys.toml", KEYS.encode()),
        write(folder / "jwks.json", jwks(jwk(), jwk("ES256", "ec"))),
    )

    def made(*, keyed: bool = True, limit: int = 10, sources: Any = (orders, salaries), **options: Any) -> Any:
        tokens = Tokens(str(key_set), issuer=ISSUER, audience=AUDIENCE, secret=SECRET, **options)
        app = RateLimit(ExportApp(sources), store=MemoryStore(), limit=limit)
        return Observe(ApiKeys(app, keys=KeyFile(keys) if keyed else None, tokens=tokens))

    return made


async def ask(app: Any, key: str = "", query: str = "", **scope: Any) -> Client:
    client = Client()
    headers = [(b"authorization", b"Bearer " + key.encode("utf-8", "surrogateescape"))] if key else []
    await client.ask(app, query, **{"headers": headers, "client": ("192.0.2.1", 1), **scope})
    return client


def asked(app: Any, key: str = "", query: str = "", **scope: Any) -> Client:
    return asyncio.run(ask(app, key, query, **scope))


def detail(client: Client) -> str:
    return str(json.loads(client.body)["detail"])


def test_a_token_and_a_key_each_open(make: Make) -> None:
    app = make()
    assert asked(app, token(plan="full", tenant=2)).body == b"id,total\n2,20\n3,30\n"
    assert asked(app, KEY).body == b"id,total\n1,10\n"
    assert asked(app).status == 401


@pytest.mark.parametrize(
    ("scope", "query"),
    [
        ({"headers": [(b"authorization", b"bearer  TOKEN")]}, ""),
        ({"headers": [(b"x-api-key", b"TOKEN")]}, ""),
        ({}, "apiKey=TOKEN"),
    ],
)
def test_a_token_opens_from_any_place_of_a_key(make: Make, scope: dict[str, Any], query: str) -> None:
    text = token(plan="full")
    headers = [(name, value.replace(b"TOKEN", text.encode())) for name, value in scope.get("headers", ())]
    assert asked(make(), query=query.replace("TOKEN", text), headers=headers).status == 200


@pytest.mark.parametrize(
    "text", [token(exp=1), token()[:-9], "eyJ.a.b", "eyJhbGciOiJub25lIn0.e30.", "ey" + "." * 20_000]
)
@pytest.mark.parametrize("place", ["bearer", "query"])
def test_a_token_that_does_not_hold_is_a_401_that_says_so(make: Make, text: str, place: str) -> None:
    """RFC 6750 §3.1. What is not asked for by a token has no error there: §3."""
    if place == "query" and len(text) > 8000:
        return
    client = asked(make(), text) if place == "bearer" else asked(make(), query=f"apiKey={text}")
    assert client.status == 401
    assert client.headers[b"www-authenticate"] == CHALLENGE
    assert client.headers[b"content-type"] == b"application/problem+json"
    assert text.encode() not in client.body
    assert asked(make()).headers[b"www-authenticate"] == b'Bearer realm="exports"'


def test_where_there_are_tokens_only_another_key_is_unknown(make: Make) -> None:
    app = make(keyed=False)
    assert asked(app, KEY).status == 401
    assert asked(app, token()).status == 200


def test_tokens_are_limited_by_their_caller_and_strangers_by_address(make: Make) -> None:
    async def scenario() -> list[int | None]:
        app = make(limit=2)
        bad = [await ask(app, token(key=None, exp=number)) for number in (1, 2, 3)]
        other = await ask(app, token(exp=4), client=("192.0.2.2", 1))
        alice = [await ask(app, token(jti=str(number), plan="full")) for number in range(3)]
        bob = await ask(app, token(sub="bob", plan="full"))
        return [client.status for client in [*bad, other, *alice, bob]]

    assert asyncio.run(scenario()) == [401, 401, 429, 401, 200, 200, 429, 200]


def test_a_token_has_the_limits_and_rights_of_its_plan(make: Make) -> None:
    async def scenario() -> list[Client]:
        app, text = make(), token(plan="few")
        return [await ask(app, text, query) for query in ("", "dataset=salaries", "")]

    found = asyncio.run(scenario())
    assert [client.status for client in found] == [200, 403, 429]
    assert found[0].headers[b"ratelimit-policy"] == b'"default";q=2;w=60'


@pytest.mark.parametrize(
    ("options", "changes", "told"),
    [
        ({}, {"plan": "gold"}, "plan=gold: expected a plan of this service"),
        ({}, {}, "no plan: expected a plan of this service"),
        ({"keyed": False}, {"plan": "full"}, "plan=full: expected a plan of this service"),
    ],
)
def test_a_token_without_a_plan_of_the_service_is_refused(
    make: Make, options: dict[str, Any], changes: dict[str, Any], told: str
) -> None:
    client = asked(make(**options), token(**changes))
    assert (client.status, detail(client)) == (403, told)


def test_a_default_plan_is_for_tokens_that_name_none(make: Make) -> None:
    app = make(default_plan="few")
    assert asked(app, token(), "dataset=salaries").status == 403
    assert asked(app, token(plan="full"), "dataset=salaries").status == 200


@pytest.mark.parametrize("scope", [{"path": "/healthz"}, {"path": "/readyz"}, {"method": "OPTIONS"}])
def test_what_needs_no_caller_reads_no_token(
    make: Make, scope: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(jwt, "decode", lambda *args, **options: pytest.fail("a signature was verified"))
    assert asked(make(), token(), **scope).status in (200, 204)


def test_no_row_of_another_tenant_is_reached_by_any_parameter(make: Make) -> None:
    app, text = make(), token(plan="full", tenant=1)
    for query in (
        "apiKey=",
        "tenant=2",
        "claims=2",
        "apiKey=x",
        f"apiKey={token(plan='full', tenant=2)[:-4]}",
        "sub=bob",
    ):
        client = asked(app, text, query)
        assert client.status in (200, 400, 401)
        assert client.status != 200 or client.body == b"id,total\n1,10\n"


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("shop") / "shop.db"
    with closing(sqlite3.connect(path)) as connection:
        connection.executescript(
            "CREATE TABLE invoices (id INTEGER, tenant INTEGER, total NUMERIC, status TEXT);"
            "INSERT INTO invoices VALUES (1, 1, 50, 'paid'), (2, 1, 100, 'open'), (3, 1, 200, 'paid'),"
            "(4, 1, 300, 'new'), (5, 2, 400, 'paid'), (6, 3, 500, 'paid'), (7, NULL, 600, 'paid')"
        )
    return path


@pytest.mark.parametrize(
    ("own", "ids"),
    [
        ({"tenant": 1}, "23"),
        ({"tenant": [2, 3]}, "56"),
        ({"tenant": []}, ""),
        ({"tenant": None}, ""),
        ({"tenant": {"any": True}}, ""),
        ({}, ""),
    ],
)
def test_a_token_s_claims_decide_which_rows_of_a_table_are_there(
    make: Make, shop: Path, own: dict[str, Any], ids: str
) -> None:
    client = asked(
        make(sources=[SqliteSource(shop)]),
        signed_token(plan="tenant", **own),
        "columns=id&header=false&total__gte=100&status__in=paid,open",
        path="/api/v1/exports/invoices.csv",
    )
    assert (client.status, client.body.decode().replace("\n", "")) == (200, ids)


def test_the_log_names_the_caller_and_never_the_token(make: Make, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(0)
    good, bad = token(plan="full", sub="auth0|1"), token(exp=1)
    for text in (good, bad):
        asked(make(), text)
        asked(make(), query=f"apiKey={text}")
    assert " owner=auth0|1 " in caplog.text
    for text in (good, bad):
        assert not any(part in caplog.text for part in text.split("."))


@pytest.mark.parametrize("form", ["csv", ""])
@given(text=st.text(st.characters(exclude_characters="&=+%#", max_codepoint=255), max_size=60))
def test_no_bearer_makes_a_5xx(make: Make, form: str, text: str) -> None:
    client = asked(
        make(),
        headers=[(b"authorization", b"Bearer eyJ" + text.encode("latin-1") + b"..")],
        path=f"/api/v1/exports/{form}",
    )
    assert client.status == 401


def test_openapi_says_that_tokens_are_bearers(make: Make) -> None:
    document = json.loads(asked(make(), token(plan="full"), path="/openapi.json").body)
    bearer = document["components"]["securitySchemes"]["bearer"]
    assert (bearer["type"], bearer["scheme"]) == ("http", "bearer")
    assert "JSON Web Token" in bearer["description"]


# The lifespan, and life without one


def service(address: str) -> Any:
    tokens = Tokens(address, issuer=ISSUER, audience=AUDIENCE)
    return ApiKeys(RateLimit(ExportApp([orders]), store=MemoryStore()), tokens=tokens)


def test_the_start_fetches_the_keys() -> None:
    async def scenario() -> None:
        with jwks_server() as server:
            application = communicator(service(server.url), {"type": "lifespan"})
            await application.send_input({"type": "lifespan.startup"})
            assert (await application.receive_output())["type"] == "lifespan.startup.complete"
            assert server.asked == 1
            await application.send_input({"type": "lifespan.shutdown"})
            assert (await application.receive_output())["type"] == "lifespan.shutdown.complete"

    asyncio.run(scenario())


def test_without_keys_the_start_fails() -> None:
    async def scenario() -> None:
        with jwks_server() as server:
            server.serve(b"no", 500)
            application = communicator(service(server.url), {"type": "lifespan"})
            await application.send_input({"type": "lifespan.startup"})
            assert await application.receive_output() == {
                "type": "lifespan.startup.failed",
                "message": f"{server.url}: status 500",
            }

    asyncio.run(scenario())


def test_a_mounted_service_fetches_them_with_the_first_token_and_is_unavailable_without() -> None:
    async def scenario() -> list[int | None]:
        with jwks_server() as server:
            up = await ask(service(server.url), token())
            server.serve(b"no", 500)
            down = await ask(service(server.url), token())
            assert down.headers[b"retry-after"] == b"10"
            return [up.status, down.status]

    assert asyncio.run(scenario()) == [200, 503]


# Settings


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"jwt_issuer": ISSUER}, "expected jwt_keys or jwt_secret with them"),
        ({"jwt_audience": AUDIENCE}, "expected jwt_keys or jwt_secret with them"),
        ({"jwt_default_plan": "few"}, "expected jwt_keys or jwt_secret with them"),
        ({"jwt_secret": SECRET, "jwt_default_plan": "few"}, "jwt_default_plan=few: expected a plan of the file"),
        ({"jwt_secret": "short"}, "expected at least 32"),
        ({"jwt_keys": "nowhere.json", "jwt_issuer": ISSUER}, "nowhere.json: No such file"),
        ({"jwt_keys": "nowhere.json"}, "expected the issuer whose keys these are"),
    ],
)
def test_settings_that_verify_nothing_stop_the_start(settings: dict[str, Any], told: str) -> None:
    """Above all, a forgotten variable must not open the service."""
    with pytest.raises(StartupError, match=told):
        make_service(Settings(**settings))


def test_a_secret_is_in_no_repr_of_the_settings() -> None:
    assert SECRET not in repr(Settings(jwt_secret=SECRET))
