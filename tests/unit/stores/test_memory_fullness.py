"""What a large pool in memory that was found full is denied by, without a look at each of its leases."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from sojourn.clock import MINUTE, SECOND, ManualClock
from sojourn.lease import Lease, LeaseFilter
from sojourn.license import CountBy, Reservation, WhenFull
from sojourn.store import Store
from sojourn.stores.memory import MemoryStore
from sojourn.stores.memory.rows import LeaseRows
from sojourn.testing.builders import (
    OPERATOR,
    POOL,
    beat,
    give_back,
    pool,
    refused,
    sign_in,
    take,
    usage,
)
from sojourn.testing.machine import OlderEvidence, drive
from sojourn.testing.regions import Region


class OfAnySize(MemoryStore):
    """Takes every pool for a large one."""

    full_from = 1


class Forgetful(OfAnySize):
    """Overlooks that leases end."""

    def _write(self, lease: Lease) -> None:
        known = dict(self._full)
        super()._write(lease)
        self._full = known


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def store(clock: ManualClock) -> Store:
    return OfAnySize(clock)


@pytest.fixture
def looks(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Grow by the number of rows that are looked at, each time that all of a pool's are."""
    looked: list[int] = []
    real = LeaseRows.values

    def values(rows: LeaseRows) -> Iterator[Lease]:
        looked.append(len(rows))
        return real(rows)

    monkeypatch.setattr(LeaseRows, "values", values)
    return looked


def filled(store: Store, capacity: int = 2, **policy: Any) -> list[Lease]:
    store.define([pool(capacity, **policy)])
    leases = [take(store, f"ann{number}", f"tab{number}") for number in range(capacity)]
    refused(store, "bob")
    return leases


@pytest.mark.parametrize("count_by", list(CountBy))
def test_it_is_looked_through_once_a_second(
    clock: ManualClock, looks: list[int], count_by: CountBy
) -> None:
    """However many are denied, whoever beats meanwhile: the figures say as of when they are."""
    store = MemoryStore(clock)
    leases = filled(store, 600, count_by=count_by)
    first = clock.now()
    looks.clear()
    for number in range(50):
        clock.advance(milliseconds=10)
        assert beat(store, leases[number]) is not None
        answer = refused(store, f"bob{number}")
        assert (answer.at, answer.in_use) == (first, 600)
    if count_by is CountBy.LEASE:
        mine = refused(store, "ann0", "other").mine
        assert [lease.last_beat_at for lease in mine] == [first + 10]
    assert looks == []
    clock.advance(milliseconds=500)
    assert refused(store, "bob").at == clock.now()
    assert looks == [600]


def released(store: Store, lease: Lease) -> None:
    assert give_back(store, lease)


def revoked(store: Store, lease: Lease) -> None:
    assert store.revoke(LeaseFilter(ids=(lease.id,)), OPERATOR)


def session_ended(store: Store, lease: Lease) -> None:
    assert store.end(ids=["ses_1"]) == ["ses_1"]


def dropped(store: Store, lease: Lease) -> None:
    assert store.drop([POOL], OPERATOR) == 2
    store.define([pool(2)])


def enlarged(store: Store, lease: Lease) -> None:
    store.define([pool(3)])


WAYS = (released, revoked, session_ended, dropped, enlarged)


def free_in(store: Store, way: Callable[[Store, Lease], None]) -> None:
    store.define([pool(2)])
    sign_in(store)
    lease = take(store, "ann0", session_id="ses_1")
    take(store, "ann1")
    refused(store, "bob")
    refused(store, "bob")
    way(store, lease)
    take(store, "bob")


@pytest.mark.parametrize("way", WAYS, ids=lambda way: way.__name__)
def test_a_seat_that_comes_free_is_given_at_once(
    store: Store, way: Callable[[Store, Lease], None]
) -> None:
    free_in(store, way)


def test_an_end_that_is_overlooked_is_found(clock: ManualClock) -> None:
    """Were a pool taken for full though a lease has ended, these tests would say so."""
    with pytest.raises(AssertionError, match="denied"):
        free_in(Forgetful(clock), released)


@pytest.mark.parametrize("linger", [0, 3 * SECOND])
def test_a_goodbye_ends_it(store: Store, clock: ManualClock, linger: int) -> None:
    leases = filled(store, linger=linger)
    assert beat(store, leases[0], closing=True) is not None
    if linger:
        clock.advance(milliseconds=linger - 1)
        refused(store, "bob")
        clock.advance(milliseconds=1)
    take(store, "bob")


@pytest.mark.parametrize(
    ("policy", "wait"),
    [
        ({"when_full": WhenFull.DENY}, 90 * SECOND),
        ({}, 70 * SECOND),
        ({"count_by": CountBy.USER}, 70 * SECOND),
        ({"count_by": CountBy.CLIENT, "when_full": WhenFull.DENY}, 90 * SECOND),
    ],
)
def test_silence_ends_it_to_the_millisecond(
    store: Store, clock: ManualClock, policy: dict[str, Any], wait: int
) -> None:
    filled(store, **policy)
    clock.advance(milliseconds=wait - 500)
    refused(store, "cid", "three")
    clock.advance(milliseconds=499)
    assert refused(store, "cid", "three").retry_after == 1
    clock.advance(milliseconds=1)
    take(store, "cid", "three")


def test_a_shorter_policy_ends_it(store: Store, clock: ManualClock) -> None:
    filled(store, heartbeat_interval=50, lost_after=MINUTE)
    clock.advance(milliseconds=500)
    refused(store, "bob")
    store.define([pool(2, heartbeat_interval=50, lost_after=100, linger=0)])
    store.define([pool(2, heartbeat_interval=50, lost_after=MINUTE)])
    take(store, "bob")


@pytest.mark.parametrize("more", [{"capacity": 3}, {"overdraft": 1}])
def test_a_policy_of_meanwhile_ends_it(store: Store, more: dict[str, Any]) -> None:
    """What was counted is not who is there after a policy that let more in, though it is gone again."""
    filled(store)
    store.define([pool(**{"capacity": 2} | more)])
    take(store, "bob")
    store.define([pool(2)])
    assert refused(store, "cid").in_use == 3
    assert usage(store).in_use == 3


def test_usage_is_of_now(store: Store, clock: ManualClock) -> None:
    """What a denial says of suspects is as old as the count; usage looks."""
    leases = filled(store)
    clock.advance(seconds=61)
    assert refused(store, "bob").suspect == 2
    clock.advance(milliseconds=1)
    assert beat(store, leases[0]) is not None
    assert refused(store, "bob").suspect == 2
    counted = usage(store)
    assert (counted.in_use, counted.suspect, counted.at) == (2, 1, clock.now())


def test_the_same_policy_again_leaves_it(store: Store, clock: ManualClock) -> None:
    """A server that starts defines its pools anew."""
    filled(store)
    first = clock.now()
    store.define([pool(2)])
    clock.advance(milliseconds=1)
    assert refused(store, "cid").at == first


def test_full_beside_relays(store: Store, looks: list[int]) -> None:
    """It is looked through for the first who is refused, and again once a seat was given back and granted."""
    store.define([pool(5)])
    east = Region(store)
    east.ask(3)
    take(store, "ann0")
    take(store, "ann1")
    refused(store, "bob")
    looks.clear()
    for number in range(5):
        answer = refused(store, f"cid{number}")
        assert (answer.in_use, answer.allotted) == (2, 3)
    assert not looks
    east.keep(2)
    take(store, "dan")
    assert refused(store, "bob").in_use == 3
    east.ask(3)
    assert east.seats == 2


def test_a_pool_is_full_when_nobody_gets_a_seat(store: Store) -> None:
    """Not while one is kept for some: what they are granted ends no lease, and would not be counted."""
    kept = Reservation(name="kept", seats=1, users=("vip",))
    store.define([pool(2, overdraft=1, reservations=(kept,))])
    take(store, "ann")
    assert take(store, "bob").overdraft
    assert refused(store, "cid").reserved_free == 1
    take(store, "vip", "1")
    assert refused(store, "vip", "2").in_use == 3
    assert refused(store, "cid").in_use == 3


def test_against_the_model() -> None:
    """In whatever order things happen, nobody is denied whom a store that counts each time lets in."""
    drive(OfAnySize, examples=15, steps=50, machine=OlderEvidence)


def test_against_the_model_finds_an_end_that_is_overlooked() -> None:
    """As it would if an end were overlooked in any of them."""
    with pytest.raises(AssertionError):
        drive(Forgetful, examples=1_000, steps=50, shrink=False, machine=OlderEvidence)
