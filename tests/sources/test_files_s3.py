"""Files in an object store, against a server that speaks S3."""

from __future__ import annotations

from collections.abc import Iterator
from urllib.parse import quote

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from moto.server import ThreadedMotoServer
from pyarrow import fs

from asgi_export.errors import StartupError, Unavailable
from tests.sources.test_files import cursor, read, started

TABLE = pa.table({"a": pa.array(range(100_000))})


class Lake:
    """A bucket."""

    def __init__(self, endpoint: str) -> None:
        self._query = f"?region=us-east-1&endpoint_override={quote(endpoint, safe='')}"
        self._files = fs.S3FileSystem(
            endpoint_override=endpoint, region="us-east-1", allow_bucket_creation=True, access_key="x", secret_key="y"
        )
        self._files.create_dir("lake")

    def write(self, path: str, table: pa.Table = TABLE) -> None:
        with self._files.open_output_stream(f"lake/{path}") as file:
            pq.write_table(table, file, row_group_size=20_000)

    def location(self, path: str) -> str:
        return f"s3://lake/{path}{self._query}"


@pytest.fixture(scope="module")
def endpoint() -> Iterator[str]:
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture
def lake(endpoint: str, monkeypatch: pytest.MonkeyPatch) -> Lake:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "x")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "y")
    return Lake(endpoint)


@pytest.mark.parametrize("path", ["s/year=2024/1.parquet", "s", "s/year=*/*.parquet", "s/**"])
def test_an_object_a_prefix_or_a_glob_is_a_dataset(lake: Lake, path: str) -> None:
    for year in (2023, 2024):
        lake.write(f"s/year={year}/1.parquet", pa.table({"a": [year]}))
    dataset = started(lake.location(path))
    if path.endswith("1.parquet"):
        assert (dataset.name, read(dataset)) == ("1", [(2024,)])
    else:
        assert (dataset.name, read(dataset)) == ("s", [(2023, 2023), (2024, 2024)])


def test_an_object_replaced_while_it_is_read_is_a_failure_though_its_columns_are_the_same(lake: Lake) -> None:
    lake.write("t.parquet")
    dataset = started(lake.location("t.parquet"))
    with cursor(dataset) as batches:
        next(batches)
        lake.write("t.parquet", pa.table({"a": pa.array(range(100_000, 200_001))}))
        with pytest.raises(Unavailable):
            list(batches)


def test_a_limit_ends_the_export_early(lake: Lake) -> None:
    lake.write("t.parquet")
    assert len(read(started(lake.location("t.parquet")), limit=30_000)) == 30_000


def test_an_object_that_does_not_exist_stops_the_start(lake: Lake) -> None:
    with pytest.raises(StartupError, match=r"^s3://lake/none\.parquet: no such file"):
        started(lake.location("none.parquet"))
