"""What people really use to read it: data frames straight from the address, and clients that must see a break."""

from __future__ import annotations

import http.client
import shutil
import sqlite3
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pandas as pd
import polars as pl
import pytest

from tests.conformance.servers import ROOT, Server, ask, curl, eventually, get, running

CSV = "/api/v1/exports/csv"

WRITER = """
import sqlite3, sys
connection = sqlite3.connect(sys.argv[1], isolation_level=None)
print("writing", flush=True)
while True:
    connection.execute("BEGIN IMMEDIATE")
    connection.execute("UPDATE accounts SET amount = amount - 1 WHERE id % 2 = 0")
    connection.execute("UPDATE accounts SET amount = amount + 1 WHERE id % 2 = 1")
    connection.execute("INSERT INTO journal VALUES (1)")
    connection.execute("COMMIT")
"""


def test_pandas_reads_the_address(service: Server) -> None:
    frame = pd.read_csv(f"{service.url}{CSV}?dataset=shop")
    assert list(frame.columns) == ["id", "name", "price"]
    assert frame["name"].tolist()[::2] == ["a,b", 'say "é"']
    assert frame["name"].isna().tolist() == [False, True, False]
    for form in ("delimiter=%3B", "delimiter=tab", "newline=crlf&quote=all", "bom=true"):
        separator = {"delimiter=%3B": ";", "delimiter=tab": "\t"}.get(form, ",")
        again = pd.read_csv(f"{service.url}{CSV}?dataset=shop&{form}", sep=separator)
        pd.testing.assert_frame_equal(again, frame)


def body_of(url: str) -> bytes:
    with urllib.request.urlopen(url) as answer:
        body: bytes = answer.read()
        return body


def test_polars_reads_the_body(service: Server) -> None:
    """Not the address: polars asks for the length first and then for ranges, and a stream has neither."""
    frame = pl.read_csv(body_of(f"{service.url}{CSV}?dataset=shop"))
    assert frame.rows() == [(1, "a,b", 1.5), (2, None, 2.0), (3, 'say "é"', None)]
    assert pl.read_csv(body_of(f"{service.url}{CSV}?dataset=simulated&total=5000")).height == 5000
    parquet = body_of(f"{service.url}/api/v1/exports/parquet?dataset=shop")
    assert pl.read_parquet(parquet)["id"].to_list() == [1, 2, 3]


def test_curl_names_the_file_as_the_head_says(service: Server, tmp_path: Path) -> None:
    url = f"{service.url}{CSV}?dataset=shop&filename=my%20shop.csv"
    line = ["curl", "-sfOJ", "--remote-header-name", url]
    subprocess.run(line, cwd=tmp_path, check=True, timeout=30)
    assert (tmp_path / "my shop.csv").read_bytes().startswith(b"id,name,price\n")


def test_curl_stops_quietly_when_the_reader_has_enough(service: Server) -> None:
    """`curl … | head` is how people look at a table; the export ends with the pipe."""
    request_id = f"head-{service.name}"
    line = (
        f"curl -sN -H 'X-Request-Id: {request_id}' '{service.url}{CSV}?dataset=simulated&total=100000000' | head -3"
    )
    shown = subprocess.run(line, shell=True, capture_output=True, timeout=30, check=True).stdout
    assert shown.startswith(b"id,name,value,created_at\n1,user-1,")
    assert eventually(
        lambda: any(request_id in line and "client left" in line for line in service.log().splitlines()), 5.0
    )


def test_python_s_own_client_sees_a_broken_download(nasty: Server) -> None:
    with (
        pytest.raises((http.client.IncompleteRead, ConnectionResetError)),
        urllib.request.urlopen(f"{nasty.url}{CSV}?dataset=failing") as answer,
    ):
        answer.read()


def test_data_frames_are_not_made_of_a_broken_download(nasty: Server) -> None:
    with pytest.raises((http.client.IncompleteRead, ConnectionResetError)):
        pd.read_csv(f"{nasty.url}{CSV}?dataset=failing")


@pytest.mark.skipif(shutil.which("node") is None, reason="node is not installed")
def test_fetch_sees_a_broken_download(nasty: Server) -> None:
    script = "fetch(process.argv[1]).then(a => a.text()).then(() => process.exit(0), () => process.exit(7))"
    line = ["node", "-e", script, f"{nasty.url}{CSV}?dataset=failing"]
    assert subprocess.run(line, timeout=30, check=False, capture_output=True).returncode == 7


@pytest.fixture(scope="module")
def busy(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A file in WAL mode that another process writes to without a pause; the sum of all amounts never changes."""
    path = tmp_path_factory.mktemp("busy") / "busy.db"
    with closing(sqlite3.connect(path)) as connection:
        connection.executescript(
            "PRAGMA journal_mode=WAL; CREATE TABLE journal (id INTEGER);"
            "CREATE TABLE accounts (id INTEGER PRIMARY KEY, amount INTEGER, note TEXT);"
            "WITH RECURSIVE n(id) AS (SELECT 1 UNION ALL SELECT id + 1 FROM n WHERE id < 20000)"
            "INSERT INTO accounts SELECT id, 100, printf('%.*c', 40, 'x') FROM n;"
        )
    writer = subprocess.Popen([sys.executable, "-c", WRITER, str(path)], stdout=subprocess.PIPE, cwd=ROOT)
    try:
        assert writer.stdout
        assert writer.stdout.readline() == b"writing\n"
        yield path
        assert writer.poll() is None, "the writer was stopped by a lock"
    finally:
        writer.kill()
        writer.wait()
        if writer.stdout:
            writer.stdout.close()


@pytest.mark.parametrize("server_name", ["uvicorn", "hypercorn"])
def test_a_table_that_another_process_writes_comes_as_it_was_at_one_moment(
    busy: Path, tmp_path: Path, server_name: str
) -> None:
    command = ["asgi_export", "serve", str(busy), "--port", "0", "--server", server_name]
    with running(command, tmp_path / "output") as server:
        sums: list[int] = []
        for _ in range(5):
            result = curl(f"{server.url}{CSV}?dataset=accounts&columns=id,amount&header=false")
            rows = [line.split(b",") for line in result.stdout.splitlines()]
            assert (result.returncode, len(rows)) == (0, 20_000)
            assert sum(int(amount) for _, amount in rows) == 2_000_000
            sums.append(int(rows[0][1]))
        assert sums == sorted(sums)
        assert sums[0] < sums[-1], "nothing was written meanwhile"


def test_a_slow_download_of_a_table_in_wal_mode_does_not_stop_the_writer(busy: Path, tmp_path: Path) -> None:
    def written() -> int:
        with closing(sqlite3.connect(f"file:{busy}?mode=ro", uri=True)) as connection:
            return int(connection.execute("SELECT count(*) FROM journal").fetchone()[0])

    with running(["asgi_export", "serve", str(busy), "--port", "0"], tmp_path / "output") as server:
        with ask(server, f"{CSV}?dataset=accounts") as client:
            assert client.recv(100)
            before = written()
            assert eventually(lambda: written() > before + 1)
        assert get(server, f"{CSV}?dataset=accounts&total=1").status == 200
