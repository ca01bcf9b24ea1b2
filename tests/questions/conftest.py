"""The application over every kind of source, once a session."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.postgres_server import PostgresServer
from tests.questions.nasty_table import (
    FUNCTIONS,
    NastyService,
    make_arrow_file,
    make_csv,
    make_jsonl,
    make_parquet,
    make_postgres,
    make_sqlite,
)


@pytest.fixture(scope="session")
def nasty_service(
    postgres_server: PostgresServer, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[NastyService]:
    folder = tmp_path_factory.mktemp("same")
    made = [make(folder) for make in (make_sqlite, make_parquet, make_arrow_file, make_csv, make_jsonl)]
    found = NastyService([*made, make_postgres(postgres_server), *FUNCTIONS])
    yield found
    found.close()
