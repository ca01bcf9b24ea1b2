"""PostgreSQL through the whole service: text untouched, queries cancelled in the server, and a server that dies."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import polars as pl
import pytest

from tests.conformance.servers import Server, ask, curl, eventually, get, running
from tests.postgres_server import PostgresServer
from tests.sources.postgres_shop import OURS

EXPORTS = "/api/v1/exports"
TABLE = """
CREATE TABLE orders (id bigint, note text, price numeric(10,2), paid boolean, at timestamptz, tags text[]);
INSERT INTO orders VALUES
  (1, 'a,b', 1.50, true, '2024-02-29 12:00:00.5+00', '{x,y}'),
  (9223372036854775807, 'say "é"' || chr(10) || 'x', NULL, false, NULL, '{}'),
  (NULL, '', 0.10, NULL, '1999-12-31 23:59:59+00', NULL);
CREATE VIEW large AS SELECT generate_series(1, 2000000) AS id, repeat('x', 100) AS text;
CREATE VIEW slow AS SELECT 1 AS id FROM pg_sleep(1000);
"""
RUNNING = f"SELECT count(*) FROM pg_stat_activity WHERE {OURS} AND state = 'active'"


@pytest.fixture(scope="module")
def database(postgres_server: PostgresServer) -> Iterator[PostgresServer]:
    postgres_server.make_database("conformance", TABLE)
    yield postgres_server
    if not postgres_server.running:
        postgres_server.start()


@pytest.fixture(scope="module")
def service(database: PostgresServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    output = tmp_path_factory.mktemp("postgres") / "output"
    command = ["asgi_export", "serve", database.dsn("conformance"), "--port", "0", "--limit", "100000/1s"]
    with running(command, output) as server:
        yield server


def running_queries(database: PostgresServer) -> int:
    return int(database.text(f"COPY ({RUNNING}) TO STDOUT", "conformance"))


def test_copy_writes_the_text(service: Server) -> None:
    answer = get(service, f"{EXPORTS}/csv?dataset=orders")
    assert answer.body.decode() == (
        "id,note,price,paid,at,tags\n"
        '1,"a,b",1.50,true,2024-02-29 12:00:00.5+00,"[""x"",""y""]"\n'
        '9223372036854775807,"say ""é""\nx",,false,,[]\n'
        ',"",0.10,,1999-12-31 23:59:59+00,\n'
    )


def test_a_dialect_beyond_copy_has_the_same_values(service: Server) -> None:
    plain = get(service, f"{EXPORTS}/csv?dataset=orders&columns=id,note,price,paid").body
    quoted = get(service, f"{EXPORTS}/csv?dataset=orders&columns=id,note,price,paid&quote=all&newline=crlf").body
    one, other = (pl.read_csv(data, infer_schema=False) for data in (plain, quoted))
    assert one.fill_null("").rows() == other.fill_null("").rows()


def test_types_survive_in_parquet(service: Server, tmp_path: Path) -> None:
    path = tmp_path / "orders.parquet"
    path.write_bytes(get(service, f"{EXPORTS}/parquet?dataset=orders").body)
    frame = pl.read_parquet(path)
    assert frame.schema["price"] == pl.Decimal(10, 2)
    assert frame.schema["at"] == pl.Datetime("us", "UTC")
    assert frame["id"].to_list() == [1, 9223372036854775807, None]


def test_ndjson_is_one_object_a_row(service: Server) -> None:
    lines = get(service, f"{EXPORTS}/ndjson?dataset=orders&columns=id,price,tags").body.splitlines()
    assert lines[0] == b'{"id":1,"price":"1.50","tags":["x","y"]}'


@pytest.mark.parametrize("dataset", ["large", "slow"])
def test_a_client_that_leaves_cancels_the_query_in_the_server(
    service: Server, database: PostgresServer, dataset: str
) -> None:
    client = ask(service, f"{EXPORTS}/csv?dataset={dataset}")
    assert eventually(lambda: running_queries(database) == 1)
    client.close()
    assert eventually(lambda: running_queries(database) == 0)


def test_a_session_that_is_terminated_in_mid_stream_is_a_broken_download(
    service: Server, database: PostgresServer
) -> None:
    client = ask(service, f"{EXPORTS}/csv?dataset=large")
    assert client.recv(1000)
    terminate = f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE {OURS}"
    database.execute(terminate, "conformance")
    received = bytearray()
    while part := client.recv(1 << 20):
        received[:] = (received + part)[-200:]
    client.close()
    assert b'"__ERROR__","internal_server_error"\n' in received
    assert not received.endswith(b"0\r\n\r\n")
    assert get(service, f"{EXPORTS}/csv?dataset=orders&columns=id").status == 200


def test_a_server_that_is_restarted_is_reached_again(service: Server, database: PostgresServer) -> None:
    database.stop("immediate")
    assert get(service, f"{EXPORTS}/csv?dataset=orders").status == 503
    assert get(service, "/readyz").status == 503
    database.start()
    assert eventually(lambda: get(service, f"{EXPORTS}/csv?dataset=orders").status == 200)
    assert curl(f"{service.url}/readyz", "--fail").returncode == 0
