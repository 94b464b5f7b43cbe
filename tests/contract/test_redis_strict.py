"""A Valkey that lost its last second, with `failover=strict`: a seat too few for a while, never too many."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing
from typing import Any

import pytest

from sojourn.clock import ManualClock
from sojourn.ledger import Ledger
from sojourn.license import CountBy, License, Policy
from sojourn.store import Recorded, Store
from sojourn.stores.open import open_ledger, open_store
from sojourn.stores.recorder import LedgerRecorder
from sojourn.testing.builders import beat, give_back, granted, pool, refused, take, usage
from sojourn.testing.contract.faults import PATIENT, works_within_bound
from sojourn.testing.contract.restarts import by_token
from sojourn.testing.redis_server import RedisServer, redis_server

LATE = 2_500
"""Ms after a loss in which a ledger tells what it knows: servers wait for three seconds at most."""


@pytest.fixture
def server() -> Iterator[RedisServer]:
    with redis_server() as server:
        yield server


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def store(server: RedisServer, clock: ManualClock) -> Iterator[Store]:
    url = f"{server.url}?socket_timeout=1&failover=strict"
    with closing(open_store(url, clock=clock)) as store:
        store.define([pool(1, **PATIENT)])
        store.pulse()
        yield store


@pytest.fixture
def lose(server: RedisServer, store: Store, clock: ManualClock) -> Callable[[], None]:
    def lose() -> None:
        server.lose()
        clock.advance(milliseconds=1)
        works_within_bound(store.pulse)

    return lose


def test_nobody_takes_over_what_they_may_have_given_back(
    server: RedisServer, store: Store, lose: Callable[[], None]
) -> None:
    """A lease whose release was lost is no proof that its holder still has the seat: somebody else may."""
    ghost = take(store, "ann")
    server.remember()
    give_back(store, ghost)
    holder = take(store, "bob")
    lose()
    refused(store, "ann")
    back = granted(store.acquire([by_token(holder)])[0])
    assert back.user_id == "bob"
    refused(store, "ann")
    assert beat(store, back) is not None


@pytest.mark.parametrize("count_by", [CountBy.USER, CountBy.CLIENT])
def test_nobody_shares_a_seat_that_they_may_have_given_back(
    server: RedisServer, store: Store, lose: Callable[[], None], count_by: CountBy
) -> None:
    store.define([pool(1, count_by=count_by, **PATIENT)])
    ghost = take(store, "ann", "one")
    server.remember()
    give_back(store, ghost)
    holder = take(store, "bob", "two")
    lose()
    refused(store, "ann", "another" if count_by is CountBy.USER else "one")
    assert granted(store.acquire([by_token(holder)])[0]).user_id == "bob"


def test_who_has_beaten_since_keeps_the_seat_without_a_token(
    server: RedisServer, store: Store, lose: Callable[[], None]
) -> None:
    """Whoever beats holds the seat: a program that starts anew then gets its own lease again."""
    lease = take(store, "ann")
    server.remember()
    lose()
    assert beat(store, lease) is not None
    assert take(store, "ann").id == lease.id


def test_who_has_a_token_keeps_the_seat(
    server: RedisServer, store: Store, lose: Callable[[], None]
) -> None:
    lease = take(store, "ann")
    server.remember()
    lose()
    assert granted(store.acquire([by_token(lease)])[0]).id == lease.id
    assert usage(store).in_use == 1


def test_a_ledger_that_is_late_does_not_prolong_the_doubt(
    server: RedisServer,
    store: Store,
    clock: ManualClock,
    lose: Callable[[], None],
    empty_sqlite: str,
) -> None:
    """Seats are kept for as long as their holders can live, counted from when the loss was seen."""
    with closing(open_ledger(empty_sqlite)) as ledger:
        recorder = _recorded(store, ledger)
        server.remember()
        take(store, "ann")  # the ledger knows it, and the store will not
        recorder.run()
        lose()
        clock.advance(milliseconds=LATE)
        recorder.run()
        lost_after = pool(1, **PATIENT).policy.lost_after
        clock.advance(milliseconds=lost_after - LATE - 1)
        refused(store, "bob")
        clock.advance(milliseconds=1)
        take(store, "bob")


@pytest.mark.parametrize("count_by", list(CountBy))
def test_a_kept_seat_is_for_a_token_alone(
    server: RedisServer,
    store: Store,
    lose: Callable[[], None],
    empty_sqlite: str,
    count_by: CountBy,
) -> None:
    """What the ledger knows may have been given back since, too; who then has shown a token has the seat."""
    with closing(open_ledger(empty_sqlite)) as ledger:
        recorder = _recorded(store, ledger)
        store.define([pool(1, count_by=count_by, **PATIENT)])
        server.remember()
        lease = take(store, "ann")
        recorder.run()
        lose()
        recorder.run()
        refused(store, "ann")
        refused(store, "bob", "other")
        back = granted(store.acquire([by_token(lease)])[0])
        assert back.id == lease.id
        assert take(store, "ann").id == lease.id
        assert refused(store, "bob", "other").in_use == 1


def _recorded(store: Any, ledger: Ledger) -> LedgerRecorder:
    assert isinstance(store, Recorded)
    policy = {"editor": Policy(capacity=1, **PATIENT)}
    ledger.create_license(License(id="lic_1", name="Acme"), policy, b"k" * 32, actor="test")
    recorder = LedgerRecorder(store, store, ledger)  # type: ignore[arg-type]  # both, as `Services` has it
    recorder.run()
    return recorder
