"""Rows of an older license backend become leases: a dry run says what the move then does."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from typing import Any

import pytest

from sojourn.adopt.formats import Reason, Unreadable
from sojourn.adopt.seats import ALL, SeatTally, SeatTerms, adopt_seats, client_of, read_seat
from sojourn.clock import DAY, SECOND, ManualClock
from sojourn.lease import Acquire, Lease, LeaseFilter, Release
from sojourn.license import CountBy, LicenseStatus, Pool, Reservation, WhenFull
from sojourn.store import Action, Store
from sojourn.stores.open import open_store
from sojourn.testing.builders import pool, take

NOW = 20_000 * DAY
TERMS = SeatTerms(licenses={ALL: "lic_1"})


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock(NOW)


@pytest.fixture
def store(clock: ManualClock) -> Iterator[Store]:
    with closing(open_store("memory:", clock=clock)) as opened:
        yield opened


def row(number: int, **more: Any) -> dict[str, Any]:
    return {
        "name": f"row {number}",
        "token": f"old-token-{number:08}",
        "user": f"user-{number}",
        "feature": "editor",
        "beat": NOW - 5 * SECOND,
    } | more


def read(pool_: Pool, **more: Any) -> str:
    return read_seat(row(1, **more), {("lic_1", "editor"): pool_}, TERMS, NOW).user_id


@pytest.mark.parametrize(
    "user", [{"id": 7}, True, False, 1.5, ["ann"], "a" * 257, "a\x00b", b"ann"]
)
def test_what_is_no_plain_id_is_no_user(user: Any) -> None:
    """A JSON value may be anything."""
    with pytest.raises(Unreadable) as refused:
        read(pool(3, license_id="lic_1"), user=user)
    assert refused.value.reason is Reason.BAD_USER


@pytest.mark.parametrize(("user", "is_"), [(7, "7"), (0, "0"), ("ann", "ann")])
def test_plain_ids(user: Any, is_: str) -> None:
    assert read(pool(3, license_id="lic_1"), user=user) == is_


def move(
    store: Store, opened: Pool, rows: Sequence[Mapping[str, Any]], *, write: bool
) -> dict[str, int]:
    """Adopt; return what became of the rows."""
    tally = SeatTally()
    pools = {(opened.license_id, opened.feature): opened}
    batches = [rows[:2], rows[2:]]
    adopt_seats(batches, store, pools, TERMS, tally, write=write)
    told = {"taken": tally.taken, "already_there": tally.already_there}
    told |= {name: each.count for name, each in tally.skipped.items()}
    assert sum(told.values()) == tally.read
    return {name: number for name, number in told.items() if number}


def clients(store: Store) -> list[str]:
    return sorted(lease.client_id for lease in store.leases(LeaseFilter())[0])


@pytest.mark.parametrize(
    ("opened", "reason"),
    [
        (pool(status=LicenseStatus.SUSPENDED), "license_suspended"),
        (pool(valid_until=NOW), "license_expired"),
        (pool(valid_from=NOW + 1), "license_not_yet_valid"),
    ],
)
@pytest.mark.parametrize("write", [False, True])
def test_a_license_that_grants_nothing(
    store: Store, opened: Pool, reason: str, *, write: bool
) -> None:
    store.define([opened])
    assert move(store, opened, [row(1), row(2), row(3)], write=write) == {reason: 3}


@pytest.mark.parametrize("write", [False, True])
def test_a_store_that_lacks_the_pool(store: Store, *, write: bool) -> None:
    assert move(store, pool(), [row(1)], write=write) == {"no_feature": 1}


@pytest.mark.parametrize("write", [False, True])
def test_seats_are_counted_as_the_policy_does(store: Store, *, write: bool) -> None:
    """Ann is in already, and Bob has three browsers: two seats, all taken."""
    opened = pool(2, count_by=CountBy.USER)
    store.define([opened])
    take(store, "ann", pool_id=opened.id)
    rows = [row(1, user="ann"), *(row(n, user="bob") for n in (2, 3, 4)), row(5, user="eve")]
    assert move(store, opened, rows, write=write) == {"taken": 4, "no_seat": 1}


@pytest.mark.parametrize("write", [False, True])
@pytest.mark.parametrize(
    ("when_full", "granted"),
    [(WhenFull.DENY, 0), (WhenFull.RECLAIM_SUSPECT, 2), (WhenFull.EVICT_IDLE, 2)],
)
def test_a_full_pool_as_its_policy_says(
    store: Store, clock: ManualClock, when_full: WhenFull, granted: int, *, write: bool
) -> None:
    opened = pool(2, when_full=when_full, idle_after=60 * SECOND)
    store.define([opened])
    for user in ("one", "two"):
        take(store, user, pool_id=opened.id)
    policy = opened.policy
    clock.advance(milliseconds=policy.suspect_after_ms + policy.linger)
    rows = [row(n, beat=clock.now()) for n in (1, 2, 3)]
    told = {"taken": granted, "no_seat": 3 - granted}
    expected = {name: number for name, number in told.items() if number}
    assert move(store, opened, rows, write=write) == expected


@pytest.mark.parametrize("write", [False, True])
def test_a_pool_with_reserved_seats_and_an_overdraft(store: Store, *, write: bool) -> None:
    """A dry run says what taking them over does: a seat is kept, and one above the capacity is granted."""
    kept = (Reservation(name="kept", seats=1, users=("user-3", "user-4")),)
    opened = pool(2, overdraft=1, reservations=kept)
    store.define([opened])
    rows = [row(n) for n in (1, 2, 5, 3, 4)]
    assert move(store, opened, rows, write=write) == {"taken": 3, "no_seat": 2}


def test_a_second_run_leaves_alone_what_the_first_took(store: Store, clock: ManualClock) -> None:
    """Neither beaten for, nor taken again from whoever has come over or was ended."""
    opened = pool(3)
    store.define([opened])
    rows = [row(1), row(2), row(3)]
    assert move(store, opened, rows, write=True) == {"taken": 3}
    leases = {lease.user_id: lease for lease in store.leases(LeaseFilter())[0]}
    store.revoke(LeaseFilter(user_id="user-2"), Action(actor="test"))
    came = store.acquire(
        [
            Acquire(
                pool_id=opened.id,
                user_id="user-3",
                client_id="new",
                lease_id="lse_new",
                takeover=True,
            )
        ]
    )[0]
    assert isinstance(came, Lease)
    store.release([Release(lease_id=leases["user-3"].id, fence=leases["user-3"].fence)])
    clock.advance(milliseconds=5 * SECOND)
    again = [dict(each, beat=clock.now()) for each in rows]
    for write in (False, True):
        assert move(store, opened, again, write=write) == {"already_there": 3}
    assert clients(store) == sorted([client_of(rows[0]["token"]), "new"])
    (kept,) = store.leases(LeaseFilter(user_id="user-1"))[0]
    assert kept == leases["user-1"]
