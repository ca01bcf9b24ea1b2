"""Callers that a framework's own login identifies, in raw ASGI."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Iterator, Mapping
from typing import Any

import pytest

from asgi_export import AccessPlan, Caller, Callers, ExportApp, MemoryStore, RateLimit, Rule, Selection, dataset
from tests.doubles import Client

ROWS = {"a": [(1, 10), (2, 20)], "b": [(3, 30)]}
FEW = AccessPlan("few", rules=(Rule(2, 60 * 10**9),), datasets=frozenset({"orders"}))


@dataset(columns=["id", "total"])
def orders(selection: Selection) -> Iterator[dict[str, int]]:
    """The rows of the caller's tenant."""
    assert selection.caller is not None
    for row in ROWS[str(selection.caller.claims["tenant"])]:
        yield dict(zip(("id", "total"), row, strict=True))


@dataset(columns=["id"])
def salaries() -> Iterator[tuple[int]]:
    yield (1,)


USERS = {
    "alice": Caller("alice", claims={"tenant": "a"}),
    "bob": Caller("bob", claims={"tenant": "b"}),
    "few": Caller("few", "few", {"tenant": "a"}),
}


class Login:
    """What an outer middleware has found out, and how often somebody looked."""

    def __init__(self) -> None:
        self.calls = 0

    async def __call__(self, scope: Any) -> Caller | None:
        self.calls += 1
        await asyncio.sleep(0)
        return USERS.get(scope["state"]["user"])


def service(
    identify: Callable[[Any], Awaitable[Caller | None]],
    plans: Mapping[str, AccessPlan] | None = None,
    *,
    limit: int = 10,
) -> Callers:
    app = RateLimit(ExportApp([orders, salaries]), store=MemoryStore(), limit=limit)
    return Callers(app, identify, plans)


async def ask(app: Any, user: str = "", query: str = "", **scope: Any) -> Client:
    client = Client()
    await client.ask(app, query, **{"state": {"user": user}, "client": ("192.0.2.1", 1), **scope})
    return client


def asked(app: Any, user: str = "", query: str = "", **scope: Any) -> Client:
    return asyncio.run(ask(app, user, query, **scope))


def detail(client: Client) -> str:
    return str(json.loads(client.body)["detail"])


def test_each_caller_gets_the_rows_of_its_claims() -> None:
    app = service(Login())
    assert asked(app, "alice").body == b"id,total\n1,10\n2,20\n"
    assert asked(app, "bob").body == b"id,total\n3,30\n"


def test_none_is_a_401_with_a_challenge() -> None:
    client = asked(service(Login()), "nobody")
    assert client.status == 401
    assert client.headers[b"www-authenticate"] == b'Bearer realm="exports"'
    assert json.loads(client.body)["error"] == "unauthorized"


def test_strangers_are_limited_by_address_and_callers_by_id() -> None:
    async def scenario() -> list[int | None]:
        app = service(Login(), limit=2)
        strangers = [await ask(app, "nobody") for _ in range(3)]
        other = await ask(app, "nobody", client=("192.0.2.2", 1))
        alice = [await ask(app, "alice", client=(f"192.0.2.{number}", 1)) for number in range(3)]
        bob = await ask(app, "bob")
        return [client.status for client in [*strangers, other, *alice, bob]]

    assert asyncio.run(scenario()) == [401, 401, 429, 401, 200, 200, 429, 200]


@pytest.mark.parametrize(
    "scope",
    [
        {"method": "OPTIONS"},
        {"method": "OPTIONS", "headers": [(b"origin", b"https://a"), (b"access-control-request-method", b"GET")]},
        {"path": "/healthz"},
        {"path": "/readyz"},
        {"path": "/exports/healthz", "root_path": "/exports"},
    ],
)
def test_what_needs_no_caller_does_not_ask_who_it_is(scope: dict[str, Any]) -> None:
    login = Login()
    assert asked(service(login), "nobody", **scope).status in (200, 204)
    assert login.calls == 0


@pytest.mark.parametrize("path", ["/api/v1/exports/csv", "/api/v1/exports/", "/openapi.json", "/api/v1/exports/nope"])
def test_everything_else_asks_once(path: str) -> None:
    login = Login()
    assert asked(service(login), "nobody", path=path).status == 401
    assert login.calls == 1


@pytest.mark.parametrize("limited", [True, False])
@pytest.mark.parametrize(
    "found", [RuntimeError("secret"), KeyError("user"), "alice", {"id": "alice"}, True, ValueError()]
)
def test_a_login_that_fails_lets_nobody_in(found: Any, limited: bool, caplog: pytest.LogCaptureFixture) -> None:
    async def identify(scope: Any) -> Any:
        if isinstance(found, Exception):
            raise found
        return found

    app = service(identify) if limited else Callers(ExportApp([orders]), identify)
    client = asked(app, headers=[(b"x-request-id", b"r-1")])
    assert client.status == 500
    assert detail(client) == "the caller cannot be identified; the log has the reason"
    (record,) = [record for record in caplog.records if record.name == "asgi_export"]
    assert record.getMessage() == "request r-1: its caller cannot be identified"
    assert record.exc_info is not None


def test_failures_of_the_login_are_counted_too() -> None:
    async def identify(scope: Any) -> Caller | None:
        raise RuntimeError

    async def scenario() -> list[int | None]:
        app = service(identify, limit=2)
        return [(await ask(app)).status for _ in range(3)]

    assert asyncio.run(scenario()) == [500, 500, 429]


def test_a_caller_has_the_limits_and_rights_of_its_plan() -> None:
    async def scenario() -> list[Client]:
        app = service(Login(), {"few": FEW})
        return [await ask(app, "few", query) for query in ("", "dataset=salaries", "")]

    found = asyncio.run(scenario())
    assert [client.status for client in found] == [200, 403, 429]
    assert found[0].headers[b"ratelimit-policy"] == b'"default";q=2;w=60'


@pytest.mark.parametrize(
    ("user", "plans", "told"),
    [
        ("few", {}, "plan=few: expected a plan of this service"),
        ("few", {"other": FEW}, "plan=few: expected a plan of this service"),
        ("alice", {"few": FEW}, "no plan: expected a plan of this service"),
    ],
)
@pytest.mark.parametrize("limited", [True, False])
def test_a_caller_without_a_plan_of_the_service_is_refused(
    user: str, plans: dict[str, AccessPlan], told: str, limited: bool
) -> None:
    app = service(Login(), plans) if limited else Callers(ExportApp([orders]), Login(), plans)
    for path in ("/api/v1/exports/csv", "/api/v1/exports/", "/openapi.json"):
        client = asked(app, user, path=path)
        assert (client.status, detail(client)) == (403, told)


def test_a_caller_of_one_request_is_not_that_of_another() -> None:
    """Also where their logins take turns."""

    async def scenario() -> list[bytes]:
        app = service(Login(), limit=100)
        users = ["alice", "bob"] * 20
        return [client.body for client in await asyncio.gather(*[ask(app, user) for user in users])]

    assert asyncio.run(scenario()) == [b"id,total\n1,10\n2,20\n", b"id,total\n3,30\n"] * 20


def test_other_scopes_pass() -> None:
    login = Login()

    async def scenario() -> None:
        sent: list[Any] = []

        async def receive() -> Any:
            return {"type": "lifespan.startup"} if not sent else {"type": "lifespan.shutdown"}

        async def send(message: Any) -> None:
            sent.append(message["type"])

        await service(login)({"type": "lifespan"}, receive, send)
        assert sent == ["lifespan.startup.complete", "lifespan.shutdown.complete"]

    asyncio.run(scenario())
    assert login.calls == 0
