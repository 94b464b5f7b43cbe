"""The store on PostgreSQL behind PgBouncer against the contract: a part always, all of it in a campaign."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest
from tests.contract.test_sql import SqlContract

from sojourn.testing.contract import StoreConcurrency, StoreContract
from sojourn.testing.contract.policies import PolicyMeaning
from sojourn.testing.pooler import Pooler, pgbouncer
from sojourn.testing.servers import Server

TIERS: tuple[type, ...] = (
    (StoreContract,) if os.environ.get("SOJOURN_CAMPAIGN") else (StoreConcurrency, PolicyMeaning)
)


@pytest.fixture(scope="module")
def pooler(postgres_server: Server) -> Iterator[Pooler]:
    with pgbouncer(postgres_server) as pooler:
        yield pooler


class TestPooled(*TIERS):  # type: ignore[misc]  # chosen when the tests are collected
    store = SqlContract.store
    open_store = SqlContract.open_store

    @pytest.fixture
    def store_url(self, pooler: Pooler, empty_postgres: str) -> str:
        return pooler.url_of(empty_postgres)
