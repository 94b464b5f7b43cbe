"""Seats that operators move by hand, and relays that are drained: nobody who sits there loses a seat."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from tests.relays.test_services import Sites, seated

from sojourn.clock import HOUR, MINUTE
from sojourn.errors import Conflict, InvalidInput, NotFound
from sojourn.lease import Denied, Lease
from sojourn.relays.demand import ACTIVE_FOR
from sojourn.service.orders import MOVED_FOR_MAX, RelayOrders


@pytest.fixture
def sites(tmp_path: Path, migrated_sqlite: Path) -> Iterator[Sites]:
    with closing(Sites(tmp_path, migrated_sqlite)) as made:
        yield made


@pytest.fixture
def orders(sites: Sites) -> RelayOrders:
    return RelayOrders(sites.center.store, sites.center.ledger)


def settle(sites: Sites) -> None:
    """Let both relays beat until what one gives back is the other's."""
    for _ in range(3):
        for site in sites.all:
            site.beat()


def test_a_drained_relay_gives_back_what_nobody_sits_on(sites: Sites, orders: RelayOrders) -> None:
    """Who sits there stays, nobody else gets in, and each seat goes back when it is left."""
    ann, bob = seated(sites.east, "ann", "bob")
    assert orders.drain(sites.east.api_key.id, actor="op") == sites.east.seats
    settle(sites)
    assert sites.east.seats == 2
    assert sites.east.renew(ann) is not None
    sites.east.beat(asks=1)
    assert isinstance(sites.east.acquire("cem"), Denied)
    for lease in (ann, bob):
        sites.east.release(lease)
    settle(sites)
    assert sites.east.seats == 0
    assert sites.center.out() == 0
    sites.east.beat(asks=1)
    assert isinstance(sites.east.acquire("cem"), Denied)
    orders.fill(sites.east.api_key.id, actor="op")
    sites.east.beat(asks=1)
    assert isinstance(sites.east.acquire("cem"), Lease)


def test_a_drain_stands_above_a_move(sites: Sites, orders: RelayOrders) -> None:
    """Seats that were moved to a relay go back, too, when it is drained."""
    sites.west.learn()
    sites.west.beat()
    west = sites.west.api_key.id
    orders.move(sites.center.pool_id, 4, giver=None, taker=west, actor="op")
    settle(sites)
    assert sites.west.seats == 4
    orders.drain(west, actor="op")
    settle(sites)
    assert sites.west.seats == 0


def test_a_drain_outlives_a_restart_of_the_relay(sites: Sites, orders: RelayOrders) -> None:
    seated(sites.east, "ann")
    orders.drain(sites.east.api_key.id, actor="op")
    sites.east.restart()
    settle(sites)
    sites.east.beat(asks=1)
    assert isinstance(sites.east.acquire("bob"), Denied)


def test_seats_are_moved_and_stay(sites: Sites, orders: RelayOrders) -> None:
    """They go as they come free, and demand does not move them on before the time is over."""
    seated(sites.east, "ann")
    seated(sites.west, "bob")
    sites.east.beat(asks=3)
    assert sites.east.seats >= 3
    moved = orders.move(
        sites.center.pool_id,
        2,
        giver=sites.east.api_key.id,
        taker=sites.west.api_key.id,
        lasting=3 * HOUR,
        actor="op",
    )
    assert moved.giver is not None
    assert moved.taker is not None
    settle(sites)
    assert sites.east.seats == moved.giver.most
    assert sites.west.seats == moved.taker.least
    assert sites.center.out() <= 5
    for _ in range(5):
        sites.advance(25 * MINUTE)
        settle(sites)
    assert sites.west.seats == moved.taker.least
    sites.advance(HOUR + ACTIVE_FOR)
    settle(sites)
    assert sites.west.seats < moved.taker.least


def test_nobody_loses_a_seat_that_is_moved(sites: Sites, orders: RelayOrders) -> None:
    leases = seated(sites.east, "ann", "bob", "cem")
    giver, taker = sites.east.api_key.id, sites.west.api_key.id
    sites.west.learn()
    sites.west.beat()
    orders.move(sites.center.pool_id, sites.east.seats, giver=giver, taker=taker, actor="op")
    settle(sites)
    assert sites.east.seats == 3
    assert all(sites.east.renew(each) is not None for each in leases)
    sites.east.release(leases[0])
    settle(sites)
    assert sites.east.seats == 2
    assert sites.west.seats == 3


def test_seats_go_to_and_from_the_authority(sites: Sites, orders: RelayOrders) -> None:
    sites.west.learn()
    sites.west.beat()
    orders.move(sites.center.pool_id, 4, giver=None, taker=sites.west.api_key.id, actor="op")
    settle(sites)
    assert sites.west.seats == 4
    orders.move(sites.center.pool_id, 3, giver=sites.west.api_key.id, taker=None, actor="op")
    settle(sites)
    assert sites.west.seats <= 1


def test_what_cannot_be_moved_is_refused(sites: Sites, orders: RelayOrders) -> None:
    """And nothing is ordered by it."""
    seated(sites.east, "ann")
    sites.west.beat()
    east, west, pool = sites.east.api_key.id, sites.west.api_key.id, sites.center.pool_id
    for fault, seats, giver, taker, which in (
        (InvalidInput, 0, east, west, pool),
        (InvalidInput, 1, east, east, pool),
        (InvalidInput, 1, None, None, pool),
        (NotFound, 1, "nobody", west, pool),
        (NotFound, 1, east, "nobody", pool),
        (NotFound, 1, east, west, sites.center.license_id + ":other"),
        (Conflict, 99, east, west, pool),
        (Conflict, 1, west, east, pool),
    ):
        with pytest.raises(fault):
            orders.move(which, seats, giver=giver, taker=taker, actor="op")
    with pytest.raises(InvalidInput):
        orders.move(pool, 1, giver=east, taker=west, lasting=MOVED_FOR_MAX + 1, actor="op")
    with pytest.raises(NotFound):
        orders.drain("nobody", actor="op")
    with pytest.raises(NotFound):
        orders.fill("nobody", actor="op")
    assert sites.center.ledger.relay_commands.orders() == []
