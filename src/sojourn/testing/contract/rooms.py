"""Reservations and the overdraft: whose seats are whose, and what is granted above the capacity."""

from __future__ import annotations

from typing import Any

from sojourn.clock import MINUTE, SECOND, ManualClock
from sojourn.device import Device
from sojourn.event import EventKind
from sojourn.lease import EndReason, Lease
from sojourn.license import CountBy, Reservation, WhenFull
from sojourn.store import Store
from sojourn.testing.builders import (
    acquire,
    beat,
    denied,
    give_back,
    granted,
    latest,
    look_up,
    news,
    pool,
    refused,
    take,
    usage,
)
from sojourn.testing.contract.base import OnManualClock

DESKTOP = Device(kind="desktop")
STAFF = Reservation(name="staff", seats=1, groups=("staff",))


def kept(name: str = "one", seats: int = 1, **members: Any) -> Reservation:
    members = {key: (value,) for key, value in members.items()}
    return Reservation(name=name, seats=seats, **members)


def row(store: Store, lease: Lease) -> Lease:
    found = look_up(store, lease.id)
    assert found is not None
    return found


class RoomMeaning(OnManualClock):
    def test_overdraft_is_granted_and_marked(self, store: Store) -> None:
        """Above the capacity a seat is granted, and says so: in its answer, its row and its event."""
        store.define([pool(1, overdraft=1)])
        within = take(store, "ann")
        after = latest(store)
        above = take(store, "bob")
        assert (within.overdraft, above.overdraft) == (False, True)
        assert look_up(store, above.id) == above
        [event] = news(store, after, EventKind.LEASE_ACQUIRED)
        assert event.data == {"fence": above.fence, "overdraft": True}
        told = refused(store, "cid")
        assert (told.limit, told.overdraft, told.in_use) == (1, 1, 2)
        counted = usage(store)
        assert (counted.capacity, counted.in_use, counted.overdraft, counted.overdrawn) == (
            1,
            2,
            1,
            1,
        )

    def test_overdraft_ends_when_a_seat_is_given_back(self, store: Store) -> None:
        """Usage says what is above the capacity now; the mark says how a seat was granted."""
        store.define([pool(1, overdraft=1)])
        within, above = take(store, "ann"), take(store, "bob")
        assert give_back(store, within)
        assert usage(store).overdrawn == 0
        same = take(store, "bob")
        assert (same.id, same.overdraft) == (above.id, True)
        assert take(store, "cid").overdraft
        assert give_back(store, same)
        assert take(store, "dan").overdraft

    def test_suspects_go_before_an_overdraft(self, store: Store, clock: ManualClock) -> None:
        """A ghost's seat is taken before one is granted above the capacity."""
        store.define([pool(1, overdraft=1)])
        ghost = take(store, "ann")
        clock.advance(seconds=70)
        assert not take(store, "bob").overdraft
        assert row(store, ghost).end_reason is EndReason.EVICTED

    def test_overdraft_goes_before_the_idle(self, store: Store) -> None:
        """Nobody who lives loses a seat to idleness while one may be granted above the capacity."""
        store.define([pool(1, overdraft=1, when_full=WhenFull.EVICT_IDLE, idle_after=MINUTE)])
        idle = take(store, "ann")
        beat(store, idle, idle_for=2 * MINUTE)
        assert take(store, "bob").overdraft
        assert take(store, "cid").overdraft  # now nothing else is left
        assert row(store, idle).end_reason is EndReason.EVICTED
        assert usage(store).in_use == 2

    def test_overdraft_goes_before_a_takeover(self, store: Store) -> None:
        """A user who wants to move keeps both seats while the overdraft lasts."""
        store.define([pool(1, overdraft=1)])
        first = take(store, "ann", "a")
        second = take(store, "ann", "b", takeover=True)
        assert second.overdraft
        assert row(store, first).ended_at is None
        third = take(store, "ann", "c", takeover=True)
        assert third.overdraft
        assert row(store, first).end_reason is EndReason.MOVED

    def test_lowered_overdraft_ends_nobody(self, store: Store) -> None:
        """Who holds a seat above the capacity keeps it when the policy allows none any more."""
        store.define([pool(1, overdraft=2)])
        leases = [take(store, user) for user in ("ann", "bob", "cid")]
        store.define([pool(1)])
        assert all(beat(store, lease) is not None for lease in leases)
        assert refused(store, "dan").in_use == 3
        counted = usage(store)
        assert (counted.overdraft, counted.overdrawn) == (0, 2)

    def test_batch_stays_within_the_overdraft(self, store: Store) -> None:
        """Of many who ask at once, as many are let in as there are seats with the overdraft."""
        store.define([pool(2, overdraft=2)])
        answers = store.acquire([acquire(f"user_{n}") for n in range(8)])
        leases = [x for x in answers if isinstance(x, Lease)]
        assert [lease.overdraft for lease in leases] == [False, False, True, True]
        assert usage(store).in_use == 4

    def test_shared_seat_is_no_overdraft(self, store: Store) -> None:
        """Who joins a seat that is held needs none above the capacity."""
        store.define([pool(1, overdraft=1, count_by=CountBy.USER)])
        take(store, "ann", "a")
        assert not take(store, "ann", "b").overdraft
        assert take(store, "bob", "c").overdraft

    def test_reserved_seat_is_kept(self, store: Store) -> None:
        """Others are refused while a reserved seat is free, and are told so; its holder gets it."""
        store.define([pool(2, reservations=(kept(users="ann"),))])
        take(store, "bob")
        told = refused(store, "cid")
        assert (told.limit, told.in_use, told.reserved, told.reserved_free) == (2, 1, 1, 1)
        [event] = news(store, 0, EventKind.LEASE_DENIED)
        assert (event.data["reserved"], event.data["reservedFree"]) == (1, 1)
        take(store, "ann")
        told = refused(store, "cid")
        assert (told.in_use, told.reserved, told.reserved_free) == (2, 1, 0)
        assert usage(store).reserved == (1,)

    def test_holders_use_reserved_seats_first(self, store: Store) -> None:
        """A reservation guarantees its seats, whoever came first, and keeps no more than those."""
        store.define([pool(2, reservations=(kept(users="ann"),))])
        take(store, "ann", "a")
        take(store, "bob")
        told = refused(store, "ann", "b")
        assert (told.in_use, told.reserved_free) == (2, 0)

    def test_holders_use_common_seats_too(self, store: Store) -> None:
        """Who counts into a reservation competes for what is common like everybody."""
        store.define([pool(2, reservations=(kept(users="ann"),))])
        take(store, "ann", "a")
        take(store, "ann", "b")
        assert refused(store, "bob").in_use == 2

    def test_counts_by_group_and_by_kind(self, store: Store) -> None:
        """A proved group and the kind of a device count, and only for who has them."""
        store.define([pool(2, reservations=(STAFF, kept("desks", kinds="desktop")))])
        refused(store, "ann")
        refused(store, "ann", member_of=("others",), device=Device(kind="phone"))
        lease = take(store, "ann", member_of=("others", "staff"))
        assert row(store, lease).member_of == ("others", "staff")
        refused(store, "bob", member_of=("staff",))
        take(store, "bob", device=DESKTOP)
        assert usage(store).reserved == (1, 1)

    def test_first_reservation_counts(self, store: Store) -> None:
        """Who is named by several counts into the first of them."""
        store.define([pool(3, reservations=(kept("one", users="ann"), kept("two", users="ann")))])
        take(store, "ann", "a")
        take(store, "ann", "b")
        assert usage(store).reserved == (2, 0)
        refused(store, "ann", "c")

    def test_suspects_in_reserved_seats(self, store: Store, clock: ManualClock) -> None:
        """A ghost in a reserved seat loses it to who counts into that, and to nobody whom it would not
        help."""
        store.define([pool(2, reservations=(kept(users="ann"),))])
        ghost = take(store, "ann", "a")
        take(store, "bob")
        clock.advance(seconds=65)
        held = take(store, "bob")  # beats again, in effect
        clock.advance(seconds=5)
        refused(store, "cid")
        assert row(store, ghost).ended_at is None
        take(store, "ann", "b")
        assert row(store, ghost).end_reason is EndReason.EVICTED
        assert row(store, held).ended_at is None

    def test_suspects_behind_useless_ones_are_found(self, store: Store, clock: ManualClock) -> None:
        """The one ghost whose end helps is taken, though others have been silent for longer."""
        names = tuple(f"kept_{n}" for n in range(4))
        reservation = Reservation(name="many", seats=4, users=names)
        store.define([pool(5, reservations=(reservation,))])
        reserved = [take(store, name) for name in names]
        clock.advance(milliseconds=1)
        common = take(store, "bob")
        clock.advance(seconds=71)
        take(store, "cid")
        assert row(store, common).end_reason is EndReason.EVICTED
        assert all(row(store, lease).ended_at is None for lease in reserved)

    def test_idle_in_reserved_seats(self, store: Store) -> None:
        """Nobody idle in a reserved seat is ended for who may not have it."""
        store.define(
            [
                pool(
                    2,
                    reservations=(kept(users="ann"),),
                    when_full=WhenFull.EVICT_IDLE,
                    idle_after=MINUTE,
                )
            ]
        )
        mine, other = take(store, "ann"), take(store, "bob")
        beat(store, mine, idle_for=3 * MINUTE)
        refused(store, "cid")
        beat(store, other, idle_for=2 * MINUTE)
        take(store, "cid")
        assert row(store, mine).ended_at is None
        assert row(store, other).end_reason is EndReason.EVICTED

    def test_takeover_between_kinds_of_seats(self, store: Store, clock: ManualClock) -> None:
        """A user's own seat is moved where that gives one, and not where it would not."""
        store.define([pool(2, reservations=(kept("desks", kinds="desktop"),))])
        desk = take(store, "ann", "desk", device=DESKTOP)
        clock.advance(milliseconds=1)
        phone = take(store, "ann", "phone")
        clock.advance(milliseconds=1)
        moved = take(store, "ann", "tablet", takeover=True)
        assert row(store, desk).ended_at is None
        assert row(store, phone).end_reason is EndReason.MOVED
        assert give_back(store, moved)
        take(store, "bob")
        refused(store, "ann", "tablet", takeover=True)

    def test_policy_changes_under_holders(self, store: Store) -> None:
        """Seats that are held count as a new policy has them, at once: nobody is ended, and the reserved
        are free for theirs as soon as there is room."""
        store.define([pool(2)])
        holders = [take(store, "ann"), take(store, "bob")]
        store.define([pool(2, reservations=(kept(users="cid"), kept("two", users="bob")))])
        assert usage(store).reserved == (0, 1)
        refused(store, "cid")
        assert give_back(store, holders[0])
        refused(store, "dan")
        take(store, "cid")
        store.define([pool(2)])
        assert give_back(store, holders[1])
        take(store, "dan")

    def test_reservations_over_the_heads_of_holders(self, store: Store) -> None:
        """Where others hold what was reserved meanwhile, the next seat goes to who counts, whichever
        reservation that is, and to nobody else."""
        store.define([pool(2)])
        holders = [take(store, "ann"), take(store, "bob")]
        store.define([pool(2, reservations=(kept("c", users="cid"), kept("d", users="dan")))])
        assert give_back(store, holders[0])
        told = refused(store, "eve")
        assert (told.in_use, told.reserved, told.reserved_free) == (1, 2, 2)
        take(store, "dan")
        refused(store, "cid")

    def test_overdraft_takes_nothing_that_is_reserved(self, store: Store) -> None:
        """Seats held and seats kept stay within capacity and overdraft."""
        store.define([pool(2, overdraft=1, reservations=(kept(users="ann"),))])
        assert not take(store, "bob").overdraft
        assert take(store, "cid").overdraft
        assert usage(store).overdrawn == 1
        told = refused(store, "dan")
        assert (told.in_use, told.overdraft, told.reserved_free) == (2, 1, 1)
        assert not take(store, "ann").overdraft
        counted = usage(store)
        assert (counted.in_use, counted.overdrawn) == (3, 1)

    def test_batch_follows_itself(self, store: Store) -> None:
        """Within a batch each answer knows what those before it have taken."""
        store.define([pool(3, reservations=(kept(users="ann"), STAFF))])
        answers = store.acquire(
            [
                acquire("bob", "a"),
                acquire("bob", "b"),
                acquire("ann", "a"),
                acquire("ann", "b"),
                acquire("cid", "a", member_of=("staff",)),
            ]
        )
        granted(answers[0])
        assert denied(answers[1]).reserved_free == 2
        granted(answers[2])
        assert denied(answers[3]).reserved_free == 1
        granted(answers[4])

    def test_shared_seat_counts_into_the_first(self, store: Store) -> None:
        """A seat that a user's clients share counts into that of the first of them who counts into one."""
        store.define(
            [pool(2, count_by=CountBy.USER, reservations=(kept("desks", kinds="desktop"),))]
        )
        take(store, "ann", "phone")
        refused(store, "bob", "phone")
        desk = take(store, "ann", "desk", device=DESKTOP)
        assert usage(store).reserved == (1,)
        take(store, "bob", "phone")
        assert give_back(store, desk)
        assert usage(store).reserved == (0,)
        assert usage(store).overdrawn == 1

    def test_joining_a_seat_takes_it_from_no_reservation(
        self, store: Store, clock: ManualClock
    ) -> None:
        """Who joins a seat that counts into a reservation leaves it there, also where it would count into one
        that comes before: else that would be kept anew, above the capacity."""
        reservations = (kept("desks", kinds="desktop"), kept("ann", users="ann"))
        store.define([pool(2, count_by=CountBy.USER, reservations=reservations)])
        first = take(store, "ann", "x")
        take(store, "bob", "1", device=DESKTOP)
        joined = take(store, "ann", "1", device=DESKTOP)
        assert (usage(store).reserved, usage(store).overdrawn) == ((1, 1), 0)
        clock.advance(milliseconds=1)
        take(store, "ann", "y")
        assert take(store, "ann", "1", device=DESKTOP).id == joined.id
        assert (usage(store).reserved, usage(store).overdrawn) == ((1, 1), 0)
        assert give_back(store, first)
        assert usage(store).reserved == (2, 0)

    def test_first_of_a_batch_decides_for_a_shared_seat(self, store: Store) -> None:
        """Of who came in the same instant, too."""
        reservations = (kept("desks", kinds="desktop"), kept("ann", users="ann"))
        store.define([pool(2, count_by=CountBy.USER, reservations=reservations)])
        store.acquire(
            [
                acquire("ann", "x", lease_id="lea_z"),
                acquire("bob", "1", device=DESKTOP),
                acquire("ann", "1", device=DESKTOP, lease_id="lea_a"),
            ]
        )
        assert (usage(store).reserved, usage(store).overdrawn) == ((1, 1), 0)

    def test_expired_seats_are_free_for_theirs(self, store: Store, clock: ManualClock) -> None:
        """A reserved seat whose holder has expired is kept for the others of the reservation."""
        store.define(
            [pool(2, reservations=(Reservation(name="two", seats=1, users=("ann", "bob")),))]
        )
        take(store, "ann")
        clock.advance(seconds=91)
        take(store, "cid")
        refused(store, "dan")
        take(store, "bob")

    def test_pool_keeps_its_reservations(self, store: Store) -> None:
        """A policy is read back as it was defined, names and all."""
        odd = Reservation(name="odd", seats=2, users=("ånn", 'q"uote', "back\\slash", "100%"))
        policy = pool(9, overdraft=4, reservations=(STAFF, odd, kept("k", kinds="desk top")))
        store.define([pool(1)])
        store.define([policy])
        assert store.pools([policy.id]) == [policy]
        take(store, 'q"uote')
        take(store, "x", device=Device(name='a"kind":"b', kind="desk top"))
        take(store, "y", device=Device(name='","kind":"desk top"'))
        assert usage(store).reserved == (0, 1, 1)

    def test_room_to_spare_needs_no_reservation(self, store: Store) -> None:
        """While seats are left beyond all that are reserved, everybody is let in."""
        store.define([pool(10, reservations=(kept("k", 3, users="ann"),))])
        answers = store.acquire([acquire(f"user_{n}") for n in range(9)])
        assert [isinstance(x, Lease) for x in answers] == [True] * 7 + [False] * 2

    def test_long_silence_of_all(self, store: Store, clock: ManualClock) -> None:
        """After everybody has gone silent, each seat is for whom it is kept, and the rest for all."""
        store.define([pool(3, overdraft=1, reservations=(kept(users="ann"),))])
        for user in ("ann", "bob", "cid", "dan"):
            take(store, user)
        clock.advance(milliseconds=85 * SECOND)
        for user in ("eve", "fay"):
            assert not take(store, user).overdraft
        assert usage(store).in_use <= 4
        assert not take(store, "ann", "new").overdraft
