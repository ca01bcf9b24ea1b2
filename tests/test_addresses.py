"""What is shown of an address has no password, no query and no token, however it was written."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from itertools import product
from typing import Any

import pytest

from asgi_export.addresses import place_of, redacted, without_password
from asgi_export.errors import ExportError
from asgi_export.locations import open_location
from asgi_export.redis_client.driver import Redis
from asgi_export.redis_client.driver import place_of as place_of_redis
from asgi_export.settings import load_settings
from asgi_export.sources.postgres.dsn import place_of as place_of_postgres
from asgi_export.sources.postgres.dsn import read_target

SECRETS = ("s3cret", "pa55")
SCHEMES = (
    "postgresql",
    "POSTGRES",
    "mysql+pymysql",
    "mssql+pyodbc",
    "https",
    "S3",
    "file",
    "sqlite",
    "redis",
    "unix",
)
PASSWORDS = (
    *(
        "s3cret",
        "s3cret@x",
        "pa55:s3cret",
        "pa55/s3cret",
        "pa55//s3cret",
        "pa55?s3cret",
        "pa55?s3cret=1",
        "pa55#s3cret",
    ),
    *(
        "s3cret%40x",
        "s3cret[x",
        "pa55]s3cret",
        "s3cret*x",
        "s3cret x",
        "pa55\\s3cret",
        "'s3cret",
        "s3cret\n",
        "s3cret\0",
    ),
)
ENDS = (
    *("", "/db", "/x.csv", "/x.db", "/a@b.csv", "?password=s3cret", "/db?sslpassword=s3%20cret&a=s3cret@x"),
    *("/db?password=s3cret", "/db;password=s3cret", "/x.parquet?token=s3cret", "/x?s3cret"),
)
BEFORE = ("", "name=", "jdbc:")
KEYWORDS = (
    "host=db user=me password=s3cret",
    "host=db password='pa55 s3cret' sslmode=disable",
    "password=pa55:x@s3cret host=db",
    "host=db sslpassword=s3cret dbname=x.csv",
    "host=db dbname=x.db passwd=s3cret",
    "Server=h;Database=d;Uid=me;Pwd=s3cret;",
    "DefaultEndpointsProtocol=https;AccountName=a;AccountKey=s3cret",
    "me/s3cret@h:1521/db",
    "mssql+pyodbc:///?odbc_connect=DRIVER%3D%7BX%7D%3BPWD%3Ds3cret",
    "https://account.blob.core.windows.net/c/x.csv?sv=1&sig=s3cret",
    "jdbc:sqlserver://h;user=me;password=s3cret",
    "postgresql://me%3As3cret%40h/db",
    "redis://:s3cret",
    "mysql://me:pa55/s3cret",
    "a.csv postgresql://me:s3cret@h/db b=mysql://me:pa55@h/db",
)


def addresses() -> Iterator[str]:
    yield from KEYWORDS
    for scheme, end, before in product(SCHEMES, ENDS, BEFORE):
        yield from (f"{before}{scheme}://{host}{end}" for host in ("h", "[::1]:5", "[::1"))
    for password, end in product(PASSWORDS, ENDS):
        yield from (f"{scheme}://me:{password}@{host}{end}" for scheme in SCHEMES for host in ("h:5", "[::1]", ""))
        yield from (f"{before}me:{password}@h{end}" for before in BEFORE)


def shown_by(show: Callable[[str], object], address: str) -> str:
    try:
        return str(show(address))
    except ExportError as error:
        return str(error)


def holds_nothing(text: str) -> bool:
    return not any(secret in text for secret in SECRETS) and "\n" not in text


@pytest.mark.parametrize(
    "show", [redacted, place_of, place_of_postgres, place_of_redis], ids=["any", "server", "postgres", "redis"]
)
def test_no_shape_of_an_address_shows_its_secrets(show: Callable[[str], str]) -> None:
    assert [address for address in addresses() if not holds_nothing(show(address))] == []


async def started(location: str) -> None:
    source: Any = open_location(location)
    if not location.startswith("postgresql://"):
        await source.start()
    else:
        read_target(location, connect_seconds=1)


REFUSERS: dict[str, Callable[[str], object]] = {
    "a flag": lambda text: load_settings({"limiter": f"x{text}"}, {}),
    "the environment": lambda text: load_settings({}, {"ASGI_EXPORT_SOURCES": f"{text}'\""}),
    "a store": lambda text: Redis(text) and None,
    "a location": lambda text: asyncio.run(started(text)),
}


@pytest.mark.parametrize("refuser", REFUSERS)
def test_no_refusal_of_an_address_shows_its_secrets(refuser: str) -> None:
    shown = {
        address: shown_by(REFUSERS[refuser], address) for address in list(addresses())[:: 1 + 6 * ("loc" in refuser)]
    }
    assert [pair for pair in shown.items() if not holds_nothing(pair[1])] == []


@pytest.mark.parametrize(
    "address", ["s3://me:pa55?x=s3cret@lake/t.csv", "s3://me:pa55/x?s3cret@lake", "gs://:s3cret@b"]
)
def test_a_file_in_a_store_is_shown_without_a_password_that_holds_a_question_mark(address: str) -> None:
    assert holds_nothing(without_password(address))


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("shop.db", "shop.db"),
        ("/data/a@b.csv", "/data/a@b.csv"),
        ("/data/year=2024/*.csv", "/data/year=2024/*.csv"),
        ("mysql://db.example:3306/shop", "mysql://db.example:3306/shop"),
        ("mysql://me:s3cret@[::1]:3306/shop?x=1", "mysql://…@[::1]:3306/shop?…"),
        ("name=mysql://me:s3cret@db/shop", "name=mysql://…@db/shop"),
        ("a\nb", "a\\nb"),
    ],
)
def test_the_rest_stays_as_it_was_written(text: str, shown: str) -> None:
    assert redacted(text) == shown
