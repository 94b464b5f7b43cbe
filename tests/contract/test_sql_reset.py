"""MariaDB on connections that forget what was set on them, against the contract: a part always, all of it in
a campaign.

ProxySQL follows what it knows of a session, keeps to itself the connection of a session in which it does not,
and resets what it lends to another (COM_RESET_CONNECTION). There is no package of it to try it with. So here
the worst of poolers is tried: one that resets a connection before each transaction, and follows nothing.
"""

from __future__ import annotations

import os
from contextlib import closing
from typing import Any

import pytest
from sqlalchemy import URL, Engine, event
from tests.contract.test_sql import SqlContract

from sojourn.clock import STORE_CLOCK
from sojourn.errors import StoreBroken
from sojourn.finding import Verdict
from sojourn.stores import open as stores
from sojourn.stores.sql import lent, server
from sojourn.stores.sql.doctor import settings
from sojourn.testing.builders import pool, sign_in, take
from sojourn.testing.contract import StoreConcurrency, StoreContract
from sojourn.testing.contract.policies import PolicyMeaning
from sojourn.testing.contract.text import TextMeaning

COM_RESET_CONNECTION = 0x1F
TIERS: tuple[type, ...] = (
    (StoreContract,)
    if os.environ.get("SOJOURN_CAMPAIGN")
    else (StoreConcurrency, PolicyMeaning, TextMeaning)
)


@pytest.fixture
def resets(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Have each connection reset when it is taken from the pool of connections; grows with each."""
    done: list[int] = []
    make = server._mysql_engine

    def forgetful(url: URL, *, durable: bool) -> Engine:
        engine = make(url, durable=durable)

        @event.listens_for(engine, "checkout")
        def reset(connection: Any, _record: Any, _fairy: Any) -> None:
            connection._execute_command(COM_RESET_CONNECTION, b"")
            connection._read_ok_packet()
            done.append(connection.thread_id())

        return engine

    monkeypatch.setattr(server, "_mysql_engine", forgetful)
    return done


@pytest.fixture
def proxied(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have who answers be another than who greeted us."""
    monkeypatch.setattr(lent, "WHO_MYSQL", "SELECT connection_id() + 1")


@pytest.mark.usefixtures("proxied", "resets")
class TestReset(*TIERS):  # type: ignore[misc]  # chosen when the tests are collected
    store = SqlContract.store
    open_store = SqlContract.open_store

    @pytest.fixture
    def store_url(self, empty_mariadb: str) -> str:
        return empty_mariadb


def test_a_connection_to_the_server_is_our_own(
    empty_mariadb: str, request: pytest.FixtureRequest
) -> None:
    """Where a proxy answers, it is not."""

    def lent_to_us() -> bool:
        db = stores._connected(empty_mariadb, clock=STORE_CLOCK, durable=True)
        with closing(db), db.writing() as tx:
            return tx.lent

    assert not lent_to_us()
    request.getfixturevalue("proxied")
    assert lent_to_us()


@pytest.mark.usefixtures("proxied")
def test_what_we_set_is_gone_and_told(empty_mariadb: str, resets: list[int]) -> None:
    """So these tests are of something; and doctor says which of it changes what is promised."""
    with closing(stores.open_store(empty_mariadb)) as store:
        sign_in(store)
    assert resets
    with closing(stores._connected(empty_mariadb, clock=STORE_CLOCK, durable=True)) as db:
        assert db.read(settings.isolation).verdict is Verdict.WARNING
        assert db.read(settings.silent_locks).verdict is not Verdict.OK
        isolation = db.transaction(lambda tx: tx.rows(lent.IN_FORCE_MARIADB, {})[0][0])
        assert isolation == lent.ISOLATED


@pytest.mark.usefixtures("proxied", "resets")
def test_a_proxy_that_keeps_no_isolation_is_refused(
    empty_mariadb: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In words that say what to set, before a seat is sold twice."""
    with closing(stores.open_store(empty_mariadb)) as store:
        store.define([pool(2)])
        take(store)
        monkeypatch.setattr(
            lent, "ISOLATE_MYSQL", "DO 1"
        )  # it goes to another connection, or nowhere
        with pytest.raises(StoreBroken, match="isolation") as told:
            take(store, "bob")
        assert "READ-COMMITTED" in told.value.hint
