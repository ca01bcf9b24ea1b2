"""What the tests of sources share."""

from __future__ import annotations

import pytest

from tests.postgres_server import PostgresServer, postgres_server
from tests.sources.postgres_shop import Shop, make_shop

__all__ = ["postgres_server", "shop"]


@pytest.fixture(scope="session")
def shop(postgres_server: PostgresServer) -> Shop:
    """A database with a table of each kind, and a role that may read some of it. Tests do not change it."""
    return make_shop(postgres_server)
