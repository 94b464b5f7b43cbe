"""What waiting for a seat means: see `sojourn.line`."""

from __future__ import annotations

from msgspec.structs import replace

from sojourn.clock import SECOND, ManualClock
from sojourn.event import EventKind
from sojourn.idempotency import Replayed
from sojourn.lease import AGEING, Denied, Lease, LeaseFilter, Origin, Resume
from sojourn.license import CountBy, LicenseStatus, Reservation, WhenFull
from sojourn.line import LINE_MAX, OFFER_FOR, WAITING_FOR
from sojourn.store import Store
from sojourn.testing.builders import (
    OPERATOR,
    POOL,
    acquire,
    beat,
    give_back,
    granted,
    key,
    news,
    pool,
    refused,
    sign_in,
    take,
    usage,
)
from sojourn.testing.contract.base import OnManualClock


def wait(store: Store, user_id: str, client_id: str = "tab", **fields: object) -> Denied:
    """Ask for a seat, which there must not be, and wait in the line."""
    answer = refused(store, user_id, client_id, wait=True, **fields)
    assert answer.entry is not None, "not in the line"
    return answer


def line(store: Store, pool_id: str = POOL) -> list[str]:
    """Name who waits, in order."""
    return [entry.user_id for entry in store.waiting(pool_id)[0]]


class LineMeaning(OnManualClock):
    """Who waits is served in order, and nobody who is gone is waited for."""

    def test_who_came_first_is_served_first(self, store: Store) -> None:
        """A free seat goes to the first in the line, whoever asks first."""
        store.define([pool(1)])
        held = take(store, "ann")
        assert wait(store, "bob").position == 1
        later = wait(store, "cid")
        assert (later.position, later.waiting) == (2, 2)
        give_back(store, held)
        assert line(store) == ["bob", "cid"]
        newcomer = refused(store, "dan")
        assert (newcomer.in_use, newcomer.waiting, newcomer.position) == (0, 2, 0)
        assert wait(store, "cid").position == 2
        held = take(store, "bob", wait=True)
        assert held.origin is Origin.GRANTED
        assert wait(store, "cid").position == 1
        give_back(store, held)
        take(store, "cid")  # who has an entry need not say so
        assert line(store) == []

    def test_who_does_not_wait_is_not_in_line(self, store: Store) -> None:
        """A request without `wait` leaves no entry, and takes none away."""
        store.define([pool(1)])
        take(store, "ann")
        assert refused(store, "bob").entry is None
        wait(store, "cid")
        assert refused(store, "cid").position == 0
        assert line(store) == ["cid"]

    def test_one_batch_comes_in_its_order(self, store: Store) -> None:
        """Many who ask in the same millisecond are in the line as they came, and are served so."""
        store.define([pool(1)])
        held = take(store, "ann")
        names = [f"user{i:04}" for i in range(1_000)]
        answers = store.acquire(
            [acquire(x, wait=True, lease_id=f"lea_{9_999 - i}") for i, x in enumerate(names)]
        )
        assert [each.position for each in answers if isinstance(each, Denied)] == [*range(1, 1_001)]
        assert line(store) == names
        for name in names[:3]:
            give_back(store, held)
            again = store.acquire([acquire(each, wait=True) for each in reversed(names)])
            served = [each for each in again if isinstance(each, Lease)]
            assert [each.user_id for each in served] == [name]
            held = served[0]
            names.remove(name)

    def test_entry_lives_as_long_as_it_is_asked_for(self, store: Store, clock: ManualClock) -> None:
        """An entry is gone `WAITING_FOR` after its holder asked last, and blocks nobody then."""
        store.define([pool(1)])
        held = take(store, "ann")
        wait(store, "bob")
        clock.advance(milliseconds=1)
        wait(store, "cid")
        clock.advance(milliseconds=WAITING_FOR - 1)
        assert wait(store, "cid").position == 1
        give_back(store, held)
        assert line(store) == ["cid"]
        clock.advance(milliseconds=WAITING_FOR)
        assert line(store) == []
        take(store, "dan")

    def test_asking_again_keeps_the_place(self, store: Store, clock: ManualClock) -> None:
        """An entry keeps its id and its beginning, however often its holder asks."""
        store.define([pool(1)])
        take(store, "ann")
        first = wait(store, "bob").entry
        assert first is not None
        clock.advance(milliseconds=10)
        again = wait(store, "bob").entry
        assert again == replace(first, expires_at=first.expires_at + 10)

    def test_offer_passes_to_the_next(self, store: Store, clock: ManualClock) -> None:
        """A free seat is held for the first for `OFFER_FOR`, then for the next."""
        store.define([pool(1)])
        held = take(store, "ann")
        wait(store, "bob")
        wait(store, "cid")
        give_back(store, held)
        offered = wait(store, "cid")
        assert offered.position == 2
        entries, now = store.waiting(POOL)
        assert [entry.offer_until for entry in entries] == [now + OFFER_FOR, None]
        clock.advance(milliseconds=OFFER_FOR - 1)
        wait(store, "cid")
        clock.advance(milliseconds=1)
        take(store, "cid", wait=True)
        assert line(store) == ["bob"]

    def test_passed_over_keeps_its_place(self, store: Store, clock: ManualClock) -> None:
        """Who missed an offer, and asks again while its entry lives, is where it was."""
        store.define([pool(1)])
        held = take(store, "ann")
        wait(store, "bob")
        wait(store, "cid")
        give_back(store, held)
        refused(store, "dan")  # which makes the offer
        clock.advance(milliseconds=OFFER_FOR)
        beside = store.acquire([acquire("dan"), acquire("bob", wait=True)])
        assert isinstance(beside[0], Denied)  # the seat is cid's by now
        assert isinstance(beside[1], Lease)  # but bob asks, who came before
        assert line(store) == ["cid"]

    def test_seats_beyond_the_line_are_granted(self, store: Store) -> None:
        """Who has no entry gets what the line leaves."""
        store.define([pool(3)])
        held = [take(store, name) for name in ("ann", "bob", "cid")]
        wait(store, "dan")
        for lease in held:
            give_back(store, lease)
        take(store, "eve")
        take(store, "fay")
        assert refused(store, "gus").in_use == 2
        take(store, "dan")

    def test_holder_is_not_held_up(self, store: Store, clock: ManualClock) -> None:
        """Who has a seat, or comes back to its lease, does not stand in the line, even if the seat has
        been offered: that offer is taken back."""
        store.define([pool(2, when_full=WhenFull.DENY)])
        ann, bob = take(store, "ann"), take(store, "bob")
        wait(store, "cid")
        assert take(store, "ann").origin is Origin.TAKEN_OVER
        clock.advance(seconds=85)
        beat(store, take(store, "ann"))
        wait(store, "cid")
        clock.advance(seconds=6)  # bob's is gone
        refused(store, "dan")
        entries, now = store.waiting(POOL)
        assert [entry.offered(now) for entry in entries] == [True]
        back = take(store, "bob", resume=Resume(lease_id=bob.id, fence=bob.fence))
        assert back.origin is Origin.RESUMED
        entries, _ = store.waiting(POOL)
        assert [entry.offer_until for entry in entries] == [None]
        assert usage(store).in_use == 2
        assert ann.id == take(store, "ann").id

    def test_shared_seat_is_not_held_up(self, store: Store) -> None:
        """Who shares a live seat needs none from the line; entries that share one claim one."""
        store.define([pool(2, count_by=CountBy.USER)])
        take(store, "ann", "1")
        held = take(store, "bob", "1")
        wait(store, "cid", "1")
        wait(store, "cid", "2")
        wait(store, "dan", "1")
        take(store, "ann", "2")
        give_back(store, held)
        take(store, "cid", "2")  # the seat is cid's, on whichever client
        take(store, "cid", "1")
        assert line(store) == ["dan"]

    def test_own_seat_is_moved(self, store: Store) -> None:
        """Who takes its own seat along takes nobody's turn."""
        store.define([pool(2)])
        held = take(store, "ann", "1")
        take(store, "bob", "1")
        wait(store, "cid")
        moved = take(store, "bob", "2", takeover=True)
        give_back(store, held)
        take(store, "bob", "3", takeover=True)
        assert not store.release([])
        assert store.leases(LeaseFilter(ids=(moved.id,)))[0] == []
        take(store, "cid")

    def test_priority_comes_first_for_a_while(self, store: Store, clock: ManualClock) -> None:
        """One step of priority weighs as much as having waited for `AGEING`."""
        store.define([pool(1)])
        take(store, "ann")
        wait(store, "bob")
        wait(store, "cid", priority=1)
        assert line(store) == ["cid", "bob"]
        for _ in range(AGEING // (10 * SECOND)):
            clock.advance(seconds=10)
            wait(store, "bob")
            beat(store, take(store, "ann"))
        wait(store, "dan", priority=1)
        assert line(store) == ["bob", "dan"]

    def test_suspects_make_room_for_the_line(self, store: Store, clock: ManualClock) -> None:
        """A seat that a suspect must give up belongs to the line, whoever asks."""
        store.define([pool(1)])
        take(store, "ann")
        clock.advance(seconds=69)
        wait(store, "bob")
        clock.advance(seconds=1)
        denied = refused(store, "cid")
        assert denied.in_use == 0
        take(store, "bob", wait=True)

    def test_line_is_bounded(self, store: Store) -> None:
        """Past `LINE_MAX` who asks is denied, and told why."""
        store.define([pool(1)])
        take(store, "ann")
        for at in range(0, LINE_MAX, 500):
            store.acquire([acquire(f"user{at + i}", wait=True) for i in range(500)])
        answer = refused(store, "late", wait=True)
        assert answer.line_full
        assert (answer.entry, answer.position, answer.waiting) == (None, 0, LINE_MAX)
        assert wait(store, "user7").position == 8

    def test_preview_enters_no_line(self, store: Store) -> None:
        """A preview says where one would stand, and leaves no entry."""
        store.define([pool(1)])
        take(store, "ann")
        asked = [acquire("bob", wait=True)]
        answer = store.preview(asked)[0]
        assert isinstance(answer, Denied)
        assert answer.position == 1
        assert line(store) == []
        assert store.acquire(asked) == [answer]

    def test_key_keeps_the_seat_and_not_the_waiting(self, store: Store) -> None:
        """A request with a key waits as others do, and is told its first grant again."""
        store.define([pool(1)])
        held = take(store, "ann")
        asked = acquire("bob", wait=True, idempotency=key())
        assert isinstance(store.acquire([asked])[0], Denied)
        give_back(store, held)
        lease = granted(store.acquire([asked])[0])
        again = store.acquire([asked])[0]
        assert isinstance(again, Replayed)
        assert again.answer == lease

    def test_waiting_is_recorded_once(self, store: Store, clock: ManualClock) -> None:
        """The stream tells who began to wait, for whom a seat is held, and how long a holder had waited."""
        store.define([pool(1)])
        held = take(store, "ann")
        entry = wait(store, "bob").entry
        assert entry is not None
        clock.advance(seconds=3)
        wait(store, "bob")
        give_back(store, held)
        refused(store, "cid")
        take(store, "bob")
        told = [(x.kind, x.subject) for x in news(store) if x.user_id == "bob"]
        assert [kind for kind, _ in told] == [
            EventKind.LEASE_WAITING,
            EventKind.LEASE_OFFERED,
            EventKind.LEASE_ACQUIRED,
        ]
        assert told[0][1] == told[1][1] == entry.id
        begun, offered, served = (x.data for x in news(store) if x.user_id == "bob")
        assert (begun["position"], begun["line"], begun["inUse"]) == (1, 1, 1)
        assert (offered["waited"], offered["offerFor"]) == (3_000, OFFER_FOR)
        assert served["waited"] == 3_000

    def test_who_may_not_have_a_seat_leaves(self, store: Store) -> None:
        """A refusal for another reason than want of seats ends the waiting."""
        store.define([pool(1)])
        held = take(store, "ann")
        sign_in(store, "ses_1", "bob")
        wait(store, "bob", session_id="ses_1")
        wait(store, "cid")
        store.end(ids=["ses_1"])
        give_back(store, held)
        refused(store, "bob", session_id="ses_1", wait=True)
        take(store, "cid")
        store.define([pool(1, status=LicenseStatus.SUSPENDED)])
        assert refused(store, "dan", wait=True).entry is None
        assert line(store) == []

    def test_smaller_pool_offers_nothing(self, store: Store) -> None:
        """Offers follow the capacity."""
        store.define([pool(2)])
        held = take(store, "ann")
        take(store, "bob")
        wait(store, "cid")
        give_back(store, held)
        refused(store, "dan")
        store.define([pool(1)])
        refused(store, "dan")
        assert [entry.offer_until for entry in store.waiting(POOL)[0]] == [None]
        wait(store, "cid")

    def test_larger_pool_serves_the_line_first(self, store: Store) -> None:
        """Seats that a new policy brings belong to those who wait already."""
        store.define([pool(1)])
        take(store, "ann")
        wait(store, "bob")
        wait(store, "cid")
        store.define([pool(3)])
        assert refused(store, "dan").waiting == 2
        take(store, "cid", wait=True)
        assert refused(store, "dan").waiting == 1
        take(store, "bob", wait=True)
        assert usage(store).in_use == 3

    def test_pool_smaller_than_what_is_held(self, store: Store) -> None:
        """Seats that are given back above the new capacity are nobody's; the line goes on with the next."""
        store.define([pool(3)])
        held = [take(store, name) for name in ("ann", "bob", "cid")]
        wait(store, "dan")
        wait(store, "eve")
        store.define([pool(1)])
        for lease in held[:2]:
            give_back(store, lease)
            assert wait(store, "dan").position == 1
        give_back(store, held[2])
        assert wait(store, "eve").position == 2
        take(store, "dan", wait=True)
        assert (usage(store).in_use, line(store)) == (1, ["eve"])

    def test_seat_is_reserved_for_somebody_who_waits(self, store: Store) -> None:
        """Who stands further behind has it, and who stands before does not."""
        kept = Reservation(name="one", seats=1, users=("cid",))
        store.define([pool(1)])
        take(store, "ann")
        wait(store, "bob")
        wait(store, "cid")
        store.define([pool(2, reservations=(kept,))])
        assert wait(store, "bob").reserved_free == 1
        held = take(store, "cid", wait=True)
        give_back(store, held)
        assert wait(store, "bob").position == 1
        store.define([pool(2)])
        take(store, "bob", wait=True)

    def test_reservation_of_somebody_who_waits_is_gone(self, store: Store) -> None:
        """An entry that names it claims a common seat."""
        kept = Reservation(name="one", seats=1, users=("bob",))
        store.define([pool(1, reservations=(kept,))])
        held = take(store, "bob", "first")
        assert wait(store, "bob", "second").entry is not None
        wait(store, "cid")
        store.define([pool(1)])
        give_back(store, held)
        assert wait(store, "cid").position == 2
        take(store, "bob", "second", wait=True)

    def test_policy_begins_to_take_from_suspects(self, store: Store, clock: ManualClock) -> None:
        """Who waits is served by it; until then nobody is ended."""
        store.define([pool(1, when_full=WhenFull.DENY)])
        ghost = take(store, "ann")
        clock.advance(seconds=75)
        wait(store, "bob")
        store.define([pool(1)])
        assert refused(store, "cid").waiting == 1
        take(store, "bob", wait=True)
        assert beat(store, ghost) is None

    def test_sweep_forgets_the_dead(self, store: Store, clock: ManualClock) -> None:
        """Entries that are over are removed; those that live stay."""
        store.define([pool(1)])
        take(store, "ann")
        wait(store, "bob")
        clock.advance(milliseconds=WAITING_FOR)
        wait(store, "cid")
        store.sweep()
        assert line(store) == ["cid"]
        assert wait(store, "bob").position == 2

    def test_dropped_pool_has_no_line(self, store: Store) -> None:
        """A pool that is gone grants nothing to those who wait; one that comes back goes on."""
        store.define([pool(1)])
        take(store, "ann")
        wait(store, "bob")
        store.drop([POOL], OPERATOR)
        assert refused(store, "bob", wait=True).entry is None
        assert line(store) == ["bob"]
        store.define([pool(1)])
        take(store, "bob")

    def test_pools_have_lines_of_their_own(self, store: Store) -> None:
        """Who waits for one feature is in nobody's way on another."""
        store.define([pool(1), pool(1, feature="viewer")])
        take(store, "ann")
        wait(store, "bob")
        take(store, "cid", pool_id="lic_1:viewer")
        assert store.waiting("lic_1:viewer")[0] == []
        assert store.waiting("lic_1:none")[0] == []
