"""Allotments: what relays may grant by themselves, and what that leaves at the authority."""

from __future__ import annotations

from msgspec.structs import replace

from sojourn.allotment import AllotmentGrant, AllotmentWish, RelayBeat, RelayRefusal
from sojourn.clock import DAY, HOUR, MINUTE, ManualClock
from sojourn.event import EventKind
from sojourn.license import CountBy, LicenseStatus, Reservation
from sojourn.store import Store
from sojourn.testing.builders import (
    OPERATOR,
    POOL,
    acquire,
    beat,
    denied,
    give_back,
    granted,
    latest,
    news,
    pool,
    refused,
    take,
    usage,
)
from sojourn.testing.contract.base import OnManualClock
from sojourn.testing.regions import TTL, Region, agreed, crowd, shares


class AllotmentMeaning(OnManualClock):
    def test_relay_gets_what_it_wants_and_others_what_is_left(self, store: Store) -> None:
        """An acquire sees the capacity less what is allotted, and says how much that is."""
        store.define([pool(5)])
        east = Region(store)
        grant = east.ask(3)
        assert grant == AllotmentGrant(POOL, 3, 1, TTL)
        assert crowd(store, 5) == 2
        told = refused(store, "dan")
        assert (told.limit, told.in_use, told.allotted) == (5, 2, 3)
        counted = usage(store)
        assert (counted.in_use, counted.allotted, counted.overdrawn) == (2, 3, 0)
        agreed(store, east)

    def test_no_more_is_given_than_is_free(self, store: Store) -> None:
        store.define([pool(5)])
        take(store, "ann")
        east, west = Region(store), Region(store, "west")
        east.ask(3)
        west.ask(9)
        assert (east.seats, west.seats) == (3, 1)
        assert Region(store, "north").ask(1) is None
        assert crowd(store, 3) == 0

    def test_pools_of_a_beat_are_decided_one_by_one(self, store: Store) -> None:
        """A beat speaks of several pools; one that is not there is passed over."""
        store.define([pool(5), pool(2, feature="viewer")])
        wishes = [AllotmentWish(x, want=4) for x in ("lic_1:viewer", "no:pool", POOL)]
        [answer] = store.allot([RelayBeat("east", "life", 1, 0, tuple(wishes))])
        assert [(x.pool_id, x.seats) for x in answer.grants] == [("lic_1:viewer", 2), (POOL, 4)]
        found, _ = store.authority()
        assert {name: x.allotted for name, x in found.pools.items()} == {POOL: 4, "lic_1:viewer": 2}
        assert [usage(store, name).allotted for name in (POOL, "lic_1:viewer")] == [4, 2]

    def test_beats_of_a_batch_are_heard_in_order(self, store: Store) -> None:
        store.define([pool(5)])
        east, west = Region(store), Region(store, "west")
        first, second = store.allot([east.next_beat(4), west.next_beat(4)])
        assert [x.grants[0].seats for x in (first, second)] == [4, 1]

    def test_repeated_beat_is_answered_as_before(self, store: Store) -> None:
        """An answer that was lost is given again under the same fence, and nothing is reserved twice."""
        store.define([pool(5)])
        said = Region(store).next_beat(3)
        answers = store.allot([said, said, said])
        assert answers[1:] == answers[:1] * 2
        assert shares(store).allotted == 3
        assert len(news(store, 0, EventKind.ALLOTMENT_CHANGED)) == 1

    def test_repeated_beat_is_promised_no_more_time(self, store: Store) -> None:
        """Though allotments live for longer by now: whoever is cut off must not believe in more."""
        store.define([pool(5)])
        said = Region(store).next_beat(3)
        [first] = store.allot([said], ttl=HOUR)
        [again] = store.allot([said], ttl=2 * HOUR)
        assert again == first
        assert [grant.ttl for grant in again.grants] == [HOUR]

    def test_late_beat_is_refused_and_changes_nothing(self, store: Store) -> None:
        store.define([pool(9)])
        east = Region(store)
        first = east.next_beat(3)
        east.ask(4)
        before, after = shares(store), latest(store)
        [answer] = store.allot([first])
        assert (answer.refused, answer.number, answer.grants) == (RelayRefusal.LATE, 2, ())
        assert (shares(store), latest(store)) == (before, after)

    def test_copy_of_a_relay_is_refused_and_changes_nothing(self, store: Store) -> None:
        """Two processes with one name: the one that came later goes on, the other is told."""
        store.define([pool(9)])
        east = Region(store)
        east.ask(3)
        copy = replace(east, life="life-2")
        copy.ask(5)
        before = shares(store)
        for number in (1, 2):
            said = replace(east.next_beat(9), number=number)
            [answer] = store.allot([said])
            assert (answer.refused, answer.grants) == (RelayRefusal.CLONED, ())
        assert shares(store) == before
        assert (before.allotted, copy.seats) == (5, 5)

    def test_smaller_number_counts_when_it_is_said_under_its_fence(self, store: Store) -> None:
        store.define([pool(5)])
        east = Region(store)
        east.ask(4)
        old = (east.seats, east.fence)
        east.ask(5)
        east.keep(2)
        assert shares(store).allotted == 2
        assert crowd(store, 9) == 3
        # What is said under the fence of before changes nothing: the relay may not know of the other yet.
        east.seats, east.fence = 1, old[1]
        east.ask(0)
        assert shares(store).allotted == 2

    def test_larger_number_takes_a_new_fence(self, store: Store) -> None:
        store.define([pool(5)])
        east = Region(store)
        fences = []
        for want in (1, 3, 3, 5):
            east.ask(want)
            fences.append(east.fence)
        east.keep(1)
        east.ask(2)
        assert fences == [1, 2, 2, 3]
        assert (east.fence, east.seats) == (4, 2)

    def test_relay_cannot_have_more_by_saying_so(self, store: Store) -> None:
        store.define([pool(5)])
        east = Region(store)
        east.ask(2)
        east.seats = 5
        east.ask(0)
        assert shares(store).allotted == 2

    def test_all_that_is_given_back_is_free(self, store: Store) -> None:
        store.define([pool(3)])
        east = Region(store)
        east.ask(3)
        assert crowd(store, 1) == 0
        east.keep(0)
        assert crowd(store, 4) == 3

    def test_silent_relay_has_its_seats_until_they_are_over(
        self, store: Store, clock: ManualClock
    ) -> None:
        """Counted until the very end, and free then; the fence is not given again."""
        store.define([pool(3)])
        east = Region(store)
        east.ask(3, ttl=HOUR)
        store.pulse()
        clock.advance(milliseconds=HOUR - 1)
        assert crowd(store, 1) == 0
        assert usage(store).allotted == 3
        clock.advance(milliseconds=1)
        assert usage(store).allotted == 0
        take(store, "ann")
        assert shares(store).allotments == {}
        after = latest(store)
        east.seats = 0
        east.ask(2)
        assert (east.seats, east.fence) == (2, 2)
        [event] = news(store, after, EventKind.ALLOTMENT_CHANGED)
        assert event.data == {"seats": 2, "had": 3, "fence": 2}

    def test_what_was_seen_to_be_over_stays_so(self, store: Store, clock: ManualClock) -> None:
        """Its seats were granted anew: however the clock is set, a late beat brings nothing back."""
        store.define([pool(3)])
        east = Region(store)
        east.ask(2, ttl=HOUR)
        clock.advance(milliseconds=HOUR)
        assert crowd(store, 3) == 3
        clock.advance(milliseconds=-1)
        after = latest(store)
        east.ask(2, ttl=HOUR)
        assert shares(store).allotments == {}
        [event] = news(store, after, EventKind.ALLOTMENT_CHANGED)
        assert event.data == {"seats": 0, "had": 2, "fence": 1, "expired": True}

    def test_expiry_is_told_with_the_next_beat(self, store: Store, clock: ManualClock) -> None:
        store.define([pool(3)])
        Region(store).ask(3, ttl=HOUR)
        clock.advance(milliseconds=HOUR)
        after = latest(store)
        assert Region(store, "west").ask(1) is not None
        told = [(x.subject, x.data) for x in news(store, after, EventKind.ALLOTMENT_CHANGED)]
        assert told == [
            ("east", {"seats": 0, "had": 3, "fence": 1, "expired": True}),
            ("west", {"seats": 1, "had": 0, "fence": 1}),
        ]

    def test_beats_keep_an_allotment(self, store: Store, clock: ManualClock) -> None:
        store.define([pool(3)])
        east = Region(store)
        for _ in range(5):
            east.ask(2, ttl=HOUR)
            clock.advance(milliseconds=HOUR - 1)
        assert (shares(store).allotted, east.fence) == (2, 1)

    def test_shorter_ttl_shortens_nothing(self, store: Store, clock: ManualClock) -> None:
        """A relay may believe for as long as it was told before."""
        store.define([pool(3)])
        east = Region(store)
        east.ask(2, ttls={POOL: 30 * DAY})
        east.ask(2, ttl=HOUR)
        east.ask(3, ttl=HOUR)
        clock.advance(milliseconds=30 * DAY - 1)
        assert shares(store).allotted == 3
        clock.advance(milliseconds=1)
        assert shares(store).allotted == 0

    def test_lowered_capacity_is_asked_back_and_evicts_nobody(self, store: Store) -> None:
        store.define([pool(8)])
        east = Region(store)
        east.ask(6)
        own = take(store, "ann")
        store.define([pool(4)])
        assert shares(store).allotted == 6
        grant = east.ask(9, held=5)
        assert grant is not None
        assert (grant.seats, grant.keep) == (6, 3)
        assert crowd(store, 1) == 0
        assert beat(store, own) is not None
        grant = east.keep(5)  # nobody loses a seat for it
        assert grant is not None
        assert (grant.seats, grant.keep) == (5, 3)
        assert (usage(store).allotted, usage(store).overdrawn) == (5, 2)
        assert east.keep(3) == AllotmentGrant(POOL, 3, east.fence, TTL)
        store.define([pool(8)])
        east.ask(9)
        assert east.seats == 7

    def test_reserved_seats_are_not_given(self, store: Store) -> None:
        kept = Reservation(name="kept", seats=2, users=("ann", "bob"))
        store.define([pool(5, reservations=(kept,))])
        east = Region(store)
        east.ask(9)
        assert east.seats == 3
        assert [take(store, name).user_id for name in ("ann", "bob")] == ["ann", "bob"]
        told = refused(store, "cid")
        assert (told.in_use, told.allotted, told.reserved_free) == (2, 3, 0)

    def test_overdraft_is_not_given_and_stands_above_what_is(self, store: Store) -> None:
        store.define([pool(2, overdraft=1)])
        east = Region(store)
        east.ask(9)
        assert east.seats == 2
        assert take(store, "ann").overdraft
        assert refused(store, "bob").in_use == 1
        grant = east.ask(2)
        assert grant is not None
        assert grant.keep is None

    def test_seat_that_is_shared_is_counted_once(self, store: Store) -> None:
        store.define([pool(3, count_by=CountBy.USER)])
        take(store, "ann", "one")
        take(store, "ann", "two")
        east = Region(store)
        east.ask(9)
        assert east.seats == 2
        take(store, "ann", "three")
        assert refused(store, "bob").allotted == 2

    def test_who_waits_here_comes_first(self, store: Store) -> None:
        """A seat that is free for who waits at the authority is not given to a relay."""
        store.define([pool(2)])
        held = [take(store, name) for name in ("ann", "bob")]
        assert refused(store, "cid", wait=True).entry is not None
        give_back(store, held[0])
        east = Region(store)
        assert east.ask(2) is None
        take(store, "cid", wait=True)
        give_back(store, held[1])
        east.ask(2)
        assert east.seats == 1

    def test_suspended_license_is_given_nothing_of(self, store: Store) -> None:
        """What is allotted of it is asked back."""
        store.define([pool(5)])
        east = Region(store)
        east.ask(2)
        store.define([pool(5, status=LicenseStatus.SUSPENDED)])
        grant = east.ask(4)
        assert grant is not None
        assert (grant.seats, grant.keep) == (2, 0)
        assert shares(store).closed
        store.define([pool(5)])
        east.ask(4)
        assert east.seats == 4

    def test_dropped_pool_keeps_what_is_allotted_until_it_is_over(
        self, store: Store, clock: ManualClock
    ) -> None:
        store.define([pool(3)])
        east = Region(store)
        east.ask(2, ttl=HOUR)
        store.drop([POOL], OPERATOR)
        clock.advance(milliseconds=HOUR - 1)
        assert east.ask(3, ttl=HOUR) == AllotmentGrant(POOL, 2, 1, 0, keep=0)
        store.define([pool(3)])
        assert crowd(store, 3) == 1
        clock.advance(milliseconds=1)
        assert crowd(store, 3) == 3

    def test_takeover_and_resume_beside_allotments(self, store: Store, clock: ManualClock) -> None:
        """Who has a seat keeps it however full the pool is; who comes back needs a free one."""
        store.define([pool(2)])
        own = take(store, "ann")
        east = Region(store)
        east.ask(2)
        assert take(store, "ann").id == own.id
        clock.advance(seconds=91)
        east.ask(2)
        assert east.seats == 2
        assert refused(store, "ann").allotted == 2

    def test_suspect_is_evicted_for_a_seat_here(self, store: Store, clock: ManualClock) -> None:
        store.define([pool(2)])
        take(store, "ann")
        Region(store).ask(1)
        clock.advance(seconds=75)
        take(store, "bob")
        assert usage(store).in_use == 1

    def test_seats_that_an_outage_is_owed_are_not_given(
        self, store: Store, clock: ManualClock
    ) -> None:
        """Whoever held a seat when we went away gets the time back before relays get anything."""
        store.define([pool(2)])
        own = take(store, "ann")
        store.pulse()
        clock.advance(milliseconds=10 * MINUTE)
        east = Region(store)
        east.ask(2)
        assert east.seats == 1
        assert beat(store, own) is not None

    def test_preview_of_what_is_allotted_changes_nothing(self, store: Store) -> None:
        store.define([pool(2)])
        Region(store).ask(1)
        before = shares(store)
        answers = store.preview([acquire("ann"), acquire("bob")])
        granted(answers[0])
        assert denied(answers[1]).allotted == 1
        assert shares(store) == before
