"""What the tests of sources share."""

from __future__ import annotations

import pytest

from tests.postgres_server import PostgresServer
from tests.sources.postgres_shop import Shop, make_shop


@pytest.fixture(scope="session")
def shop(postgres_server: PostgresServer) -> Shop:
    """A database with a table of each kind, and a role that may read some of it. Tests do not change it."""
    return make_shop(postgres_server)
