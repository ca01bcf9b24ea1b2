"""Exports in typed formats, read by every reader that people have for them."""

from __future__ import annotations

import asyncio
import io
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import duckdb
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from asgi_export import ExportApp, dataset
from asgi_export.asgi.pump import BrokenOff
from tests.doubles import Client, http_scope

TYPED = ("parquet", "arrow")


def export(source: Any, name: str, query: str = "") -> bytes:
    """The body of a whole export."""
    client = exported(source, name, query)
    assert client.status == 200, client.body
    assert client.complete
    return client.body


def exported(source: Any, name: str, query: str = "") -> Client:
    """What a client was sent, whole or broken off."""

    async def run() -> Client:
        client, app = Client(), ExportApp([source])
        try:
            await app(http_scope(f"/api/v1/exports/{name}", query), client.receive, client.send)
        except BrokenOff:
            assert not client.complete
        finally:
            await app.stop()
        return client

    return asyncio.run(run())


def is_refused(client: Client) -> bool:
    """Whether an export ended as an error, or broken off behind its head."""
    return client.status >= 500 or not client.complete


def table_of(data: bytes, name: str) -> pa.Table:
    return pq.read_table(io.BytesIO(data)) if name == "parquet" else pa.ipc.open_stream(data).read_all()


def rows_of(function_rows: Iterable[Any], columns: Sequence[Any] = ("a",)) -> Any:
    """A dataset of these rows."""

    @dataset(columns=columns, name="rows")
    def rows() -> Any:
        yield from function_rows

    return rows


def every_reader(data: bytes, name: str, folder: Path) -> dict[str, list[dict[str, Any]]]:
    """The rows as each reader gives them."""
    path = folder / f"read.{name}"
    path.write_bytes(data)
    found: dict[str, Callable[[], list[dict[str, Any]]]] = {
        "pyarrow": lambda: table_of(data, name).to_pylist(),
        "polars": lambda: (pl.read_parquet if name == "parquet" else pl.read_ipc_stream)(io.BytesIO(data)).to_dicts(),
        "duckdb": lambda: _by_duckdb(path, table_of(data, name) if name == "arrow" else None),
        "pandas": lambda: table_of(data, name).to_pandas().to_dict("records"),
    }
    return {reader: read() for reader, read in found.items()}


def _by_duckdb(path: Path, table: pa.Table | None) -> list[dict[str, Any]]:
    relation = duckdb.read_parquet(str(path)) if table is None else duckdb.from_arrow(table)
    return [dict(zip(relation.columns, row, strict=True)) for row in relation.fetchall()]
