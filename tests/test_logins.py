"""The programs of docs/logins.md, as they stand: two users log in, and neither gets a row of the other."""

from __future__ import annotations

import re
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from http.client import HTTPConnection
from urllib.parse import quote

import pytest

from tests.conformance.servers import ENVIRONMENT, ROOT, Server, get, running
from tests.ports import free_port

pytestmark = pytest.mark.slow

PAGE = (ROOT / "docs" / "logins.md").read_text(encoding="utf-8")
PROGRAMS = dict(re.findall(r"^## (\w+)[^\n]*\n.*?^```python\n(.*?)^```$", PAGE, re.M | re.S))
ROWS = {"ann": {"1", "3"}, "bob": {"2"}}
"""The ids of each user's orders; the invoices have the same, and ten more."""


@pytest.fixture(scope="module", params=PROGRAMS)
def server(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("login")
    (folder / "program.py").write_text(PROGRAMS[request.param], encoding="utf-8")
    with closing(sqlite3.connect(folder / "invoices.db")) as connection:
        connection.executescript(
            "CREATE TABLE invoices (id INTEGER, tenant TEXT, amount REAL);"
            "INSERT INTO invoices VALUES (1, 'north', 1.5), (2, 'south', 2.5), (3, 'north', 3.5), (12, NULL, 4.5)"
        )
    if "__main__" in PROGRAMS[request.param]:
        subprocess.run([sys.executable, "program.py"], cwd=folder, env=ENVIRONMENT, check=True, timeout=60)
    port = free_port()
    command = ["uvicorn", "program:app", "--port", str(port)]
    with running(command, folder / "output", port=port, cwd=folder, ready=asks_for_a_login) as found:
        found.name = request.param
        yield found


def asks_for_a_login(server: Server) -> bool:
    try:
        return get(server, "/exports/orders.csv").status == 401
    except OSError:
        return False


@pytest.fixture(scope="module")
def cookies(server: Server) -> dict[str, str]:
    """The header of each user who is logged in."""
    return {name: f"Cookie: {logged_in(server, name, f'{name[0]}-secret')}\r\n" for name in ROWS}


def logged_in(server: Server, name: str, password: str) -> str:
    with closing(HTTPConnection("127.0.0.1", server.port, timeout=20)) as connection:
        body = f'{{"name": "{name}", "password": "{password}"}}'
        connection.request("POST", "/login", body, {"content-type": "application/json"})
        answer = connection.getresponse()
        answer.read()
        return (answer.getheader("set-cookie") or "").partition(";")[0]


def ids(body: bytes) -> set[str]:
    """The numbers of the first column, whichever line, delimiter or format it stands in."""
    return set(re.findall(r'(?:^|"id":)"?(\d+)\b', body.decode(), re.M))


def test_each_user_gets_the_rows_of_one_tenant(server: Server, cookies: dict[str, str]) -> None:
    for name, expected in ROWS.items():
        answer = get(server, "/exports/orders.csv", headers=cookies[name])
        assert (answer.status, ids(answer.body)) == (200, expected)
        assert answer.headers["ratelimit"].startswith('"default";r=')


def test_without_a_login_there_is_nothing(server: Server) -> None:
    wrong = logged_in(server, "ann", "b-secret")
    for headers in ("", f"Cookie: {wrong}\r\n" if wrong else "", "Cookie: session=ann; sessionid=ann\r\n"):
        for path in ("orders.csv", "csv", "", "openapi.json"):
            answer = get(server, f"/exports/{path}", headers=headers)
            assert (answer.status, answer.headers["www-authenticate"]) == (401, 'Bearer realm="exports"')


QUERIES = [
    "columns=id",
    "id__exact=2&id__in=1,2,3",
    "id__not=0&id__gte=0",
    "id__isnull=false&total=1000000",
    "dataset=orders",
    "header=false",
    "tenant=south",
    "user=bob",
    "caller=bob",
    "claims=" + quote('{"tenant":"south"}'),
    "apiKey=bob",
    "apiKey=eyJhbGciOiJub25lIn0.eyJzdWIiOiJib2IifQ.",
    "rows=%7B%7D&plan=user",
]


@pytest.mark.parametrize("name", ROWS)
def test_no_parameter_reaches_a_row_of_another(server: Server, cookies: dict[str, str], name: str) -> None:
    other = "bob" if name == "ann" else "ann"
    extra = f"X-API-Key: {other}\r\nAuthorization: Bearer {other}\r\nX-User: {other}\r\n"
    for query in QUERIES:
        answer = get(server, f"/exports/csv?{query}", headers=cookies[name] + extra)
        assert answer.status in (200, 400), query
        assert answer.status == 400 or ids(answer.body) <= ROWS[name], query
    for form in ("tsv", "ndjson"):
        assert ids(get(server, f"/exports/orders.{form}", headers=cookies[name]).body) == ROWS[name]


def test_a_row_of_another_is_not_there_for_a_filter_either(server: Server, cookies: dict[str, str]) -> None:
    answer = get(server, "/exports/orders.csv?id__exact=2", headers=cookies["ann"])
    assert (answer.status, answer.body) == (200, b"id,total\n")
    assert get(server, "/exports/orders.csv?id__exact=2", headers=cookies["bob"]).body == b"id,total\n2,20.0\n"


INVOICES = [
    "",
    "columns=id",
    "id__gte=0",
    "tenant__exact=south",
    "tenant__not=north",
    "tenant__isnull=true",
    "sort=-id",
]


def test_a_table_is_narrowed_by_the_plan(server: Server, cookies: dict[str, str]) -> None:
    if "invoices" not in PROGRAMS[server.name]:
        assert get(server, "/exports/invoices.csv", headers=cookies["ann"]).status == 404
        return
    for name, expected in ROWS.items():
        assert ids(get(server, "/exports/invoices.csv", headers=cookies[name]).body) == expected
        for query in INVOICES:
            answer = get(server, f"/exports/invoices.csv?{query}", headers=cookies[name])
            assert answer.status in (200, 400), query
            assert answer.status == 400 or ids(answer.body) <= expected, query


def test_the_page_has_a_program_of_each_framework() -> None:
    assert list(PROGRAMS) == ["FastAPI", "Django", "Litestar"]
    assert PAGE.count("```python") == len(PROGRAMS)
