"""Whose seats are kept after a loss, and from whom: they count as their holders did before it.

Part of `StoreLosses`, which gives the fixtures. `lost` loses what came after `server.remember()` and the
ledger knows.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing

from sojourn.clock import MINUTE, ManualClock
from sojourn.event import EventKind
from sojourn.lease import DenialReason, Lease
from sojourn.ledger import Ledger
from sojourn.license import CountBy, Reservation, WhenFull
from sojourn.store import Recorded, Store
from sojourn.stores.recorder import LedgerRecorder
from sojourn.testing.builders import (
    acquire,
    beat,
    denied,
    give_back,
    granted,
    pool,
    refused,
    take,
    usage,
)
from sojourn.testing.contract.faults import PATIENT, works_within_bound
from sojourn.testing.contract.loss_walk import Forgetful
from sojourn.testing.contract.restarts import EVICTING, by_token

TABS = tuple(f"tab-{n}" for n in range(4))
GONE_AFTER = 3
"""Minutes: longer than anybody is waited for who does not beat."""


class KeptSeats:
    # Those for whom they are kept

    def test_its_holder_needs_no_token(
        self, server: Forgetful, store: Store, recorder: LedgerRecorder, lost: Callable[[], None]
    ) -> None:
        """Whose seat is kept is let in without one, as where nothing was lost; its old token is over."""
        server.remember()
        lease = take(store, "ann")
        recorder.run()
        lost()
        again = take(store, "ann")
        assert (again.id, again.pool_id) == (lease.id, lease.pool_id)
        assert again.fence > lease.fence
        assert beat(store, lease) is None
        denied(store.acquire([by_token(lease)])[0], DenialReason.LEASE_ENDED)
        assert beat(store, again) is not None
        assert refused(store, "bob").in_use == 1
        assert not [event for event in store.events(limit=1_000) if event.data.get("overage")]

    def test_who_came_without_a_token_is_counted_once(
        self, server: Forgetful, store: Store, recorder: LedgerRecorder, lost: Callable[[], None]
    ) -> None:
        """Nobody is kept out for a seat whose holder is there."""
        self.with_capacity(store, 2)
        server.remember()
        take(store, "ann")
        recorder.run()
        lost()
        take(store, "ann")
        take(store, "bob")
        assert refused(store, "cid").in_use == 2

    def test_in_one_batch(
        self, server: Forgetful, store: Store, recorder: LedgerRecorder, lost: Callable[[], None]
    ) -> None:
        """Who comes beside others has its seat whatever their order is, and one holder has one."""
        self.with_capacity(store, 3)
        server.remember()
        for user in ("ann", "bob"):
            take(store, user)
        recorder.run()
        lost()
        asked = ("cid", "dan", "ann", "ann", "bob", "eve")
        answers = store.acquire([acquire(user) for user in asked])
        assert [isinstance(x, Lease) for x in answers] == [True, False, True, True, True, False]
        assert [x.in_use for x in answers if not isinstance(x, Lease)] == [1, 3]
        assert usage(store).in_use == 3

    def test_a_lease_that_was_given_back_keeps_nothing(
        self, server: Forgetful, store: Store, recorder: LedgerRecorder, lost: Callable[[], None]
    ) -> None:
        """Whoever came without a token and left again leaves a free seat, after another loss, too."""
        server.remember()
        take(store, "ann")
        recorder.run()
        lost()
        server.remember()
        give_back(store, take(store, "ann"))
        recorder.run()
        lost()
        take(store, "bob")

    # Who shares one

    def test_tabs_of_a_present_user_count_once(
        self, server: Forgetful, store: Store, recorder: LedgerRecorder, lost: Callable[[], None]
    ) -> None:
        """A lost tab of somebody who is there takes no second seat, before it is back and afterwards."""
        self.by_user(store, 2)
        here = take(store, "ann", "here")
        server.remember()
        away = take(store, "ann", "away")
        recorder.run()
        lost()
        assert beat(store, here) is not None
        bob = take(store, "bob")
        back = granted(store.acquire([by_token(away)])[0])
        assert back.id == away.id
        assert refused(store, "cid").in_use == 2
        give_back(store, bob)
        take(store, "cid")

    def test_lost_tabs_keep_one_seat_a_user(
        self, server: Forgetful, store: Store, recorder: LedgerRecorder, lost: Callable[[], None]
    ) -> None:
        """As many as they had, however many tabs they have and whichever comes first."""
        self.by_user(store, 4)
        server.remember()
        tabs = [take(store, user, tab) for user in ("ann", "bob", "cid") for tab in TABS]
        recorder.run()
        lost()
        dan = take(store, "dan")
        refused(store, "eve")
        for lease in tabs:
            assert granted(store.acquire([by_token(lease)])[0]).id == lease.id
        assert usage(store).in_use == 4
        give_back(store, dan)
        take(store, "eve")

    def test_another_tab_shares_a_kept_seat(
        self, server: Forgetful, store: Store, recorder: LedgerRecorder, lost: Callable[[], None]
    ) -> None:
        """A new tab of a user whose seat is kept is let in; the seat is kept on when it leaves."""
        self.by_user(store, 1)
        server.remember()
        lease = take(store, "ann", "away")
        recorder.run()
        lost()
        other = take(store, "ann", "new")
        assert other.id != lease.id
        assert refused(store, "bob").in_use == 1
        give_back(store, other)
        refused(store, "bob")
        back = granted(store.acquire([by_token(lease)])[0])
        give_back(store, back)
        take(store, "bob")

    def test_a_seat_with_a_lost_tab_is_not_taken_away(
        self, server: Forgetful, store: Store, recorder: LedgerRecorder, lost: Callable[[], None]
    ) -> None:
        """Nobody knows whether the lost tab is idle, too: its user keeps the seat while it may live."""
        store.define([pool(1, **EVICTING, count_by=CountBy.USER)])
        here = take(store, "ann", "here")
        server.remember()
        away = take(store, "ann", "away")
        recorder.run()
        lost()
        assert beat(store, here, idle_for=3_600_000) is not None
        refused(store, "bob")
        granted(store.acquire([by_token(away)])[0])
        assert usage(store).in_use == 1

    # Beside reservations, and for good

    def test_in_its_reservation(
        self, server: Forgetful, store: Store, recorder: LedgerRecorder, lost: Callable[[], None]
    ) -> None:
        """A seat that is kept for somebody with a reservation is one of those, and not one more."""
        ours = (Reservation(name="ours", seats=1, users=("ann",)),)
        store.define([pool(2, **PATIENT, when_full=WhenFull.DENY, reservations=ours)])
        server.remember()
        lease = take(store, "ann")
        recorder.run()
        lost()
        take(store, "bob")
        refused(store, "cid")
        assert granted(store.acquire([by_token(lease)])[0]).id == lease.id
        assert usage(store).reserved == (1,)

    def test_who_never_came_is_no_holder_for_good(
        self,
        server: Forgetful,
        database_url: str,
        open_at: Callable[..., Store],
        ledger: Ledger,
    ) -> None:
        """The end of a lease whose holder did not come back is told: another loss keeps no seat for it."""
        clock = ManualClock()
        server.remember()
        with closing(open_at(database_url, clock=clock)) as store:
            assert isinstance(store, Recorded)
            recorder = LedgerRecorder(store, store, ledger)

            def lose() -> None:
                server.lose()
                works_within_bound(store.pulse)
                recorder.run()
                store.define([pool(1)])

            lose()
            take(store, "ann")
            recorder.run()
            lose()
            refused(store, "bob")
            for _ in range(GONE_AFTER):
                clock.advance(milliseconds=MINUTE)
                store.pulse()
            assert store.sweep().leases_expired == 1
            [told] = [e for e in store.events(limit=1_000) if e.kind == EventKind.LEASE_EXPIRED]
            assert (told.user_id, told.client_id, told.data["lost"]) == ("ann", "tab", True)
            assert store.sweep().leases_expired == 0
            recorder.run()
            lose()
            take(store, "bob")

    def by_user(self, store: Store, capacity: int) -> None:
        store.define([pool(capacity, **PATIENT, when_full=WhenFull.DENY, count_by=CountBy.USER)])

    def with_capacity(self, store: Store, capacity: int) -> None:
        store.define([pool(capacity, **EVICTING)])
