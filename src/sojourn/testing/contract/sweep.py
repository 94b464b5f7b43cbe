"""What housekeeping does, and that it is only housekeeping."""

from __future__ import annotations

from sojourn.clock import DAY, SECOND, ManualClock
from sojourn.event import CANARY_LICENSE, CANARY_USER, EventKind
from sojourn.lease import EndReason, LeaseFilter
from sojourn.session import TOMBSTONE, GoneReason
from sojourn.store import Store, Swept
from sojourn.testing.builders import (
    acquire,
    beat,
    give_back,
    gone,
    latest,
    look_up,
    new_session,
    news,
    pool,
    read_at,
    refused,
    sign_in,
    take,
    token_hash,
    usage,
)
from sojourn.testing.contract.base import OnManualClock

LOST_AFTER = 90 * SECOND
EVENT_RETENTION = 30 * DAY


class SweepMeaning(OnManualClock):
    def test_nothing_to_do(self, store: Store) -> None:
        """A sweep of a store in good order does nothing, and says so."""
        store.define([pool(2)])
        take(store)
        sign_in(store)
        assert store.sweep() == Swept()

    def test_expired_lease_is_noted(self, store: Store, clock: ManualClock) -> None:
        """A silent lease is noted as ended when it expired, not when it was found; and told."""
        store.define([pool(2)])
        silent, living = take(store, "ann"), take(store, "bob")
        clock.advance(seconds=60)
        beat(store, living)
        mark = latest(store)
        clock.advance(seconds=40)
        assert store.sweep() == Swept(leases_expired=1)
        noted = look_up(store, silent.id)
        assert noted is not None
        assert (noted.ended_at, noted.end_reason) == (silent.expires_at, EndReason.EXPIRED)
        (event,) = news(store, mark)
        assert (event.kind, event.subject) == (EventKind.LEASE_EXPIRED, silent.id)
        assert (event.user_id, event.client_id) == ("ann", "tab")
        assert (event.actor, event.at) == ("system:sweep", clock.now())
        assert event.data == {
            "reason": "expired",
            "fence": silent.fence,
            "silentFor": 100 * SECOND,
            "heldFor": 90 * SECOND,
            "expiredFor": 10 * SECOND,
        }
        assert beat(store, living) is not None

    def test_expiry_to_the_millisecond(self, store: Store, clock: ManualClock) -> None:
        """A lease is left alone until the instant it expires."""
        store.define([pool(2)])
        take(store)
        clock.advance(milliseconds=LOST_AFTER - 1)
        assert store.sweep() == Swept()
        clock.advance(milliseconds=1)
        assert store.sweep() == Swept(leases_expired=1)

    def test_sweep_is_idempotent(self, store: Store, clock: ManualClock) -> None:
        """A second sweep at the same time finds nothing left to do, and tells nothing."""
        store.define([pool(2)])
        take(store)
        clock.advance(milliseconds=LOST_AFTER)
        store.sweep()
        told = store.events()
        assert store.sweep() == Swept()
        assert store.events() == told

    def test_sweep_changes_no_answer(self, store: Store, clock: ManualClock) -> None:
        """Swept or not, the seat is free, the beat too late and the release in vain."""
        store.define([pool(1)])
        lease = take(store, "ann")
        clock.advance(milliseconds=LOST_AFTER)
        assert usage(store).in_use == 0
        store.sweep()
        assert usage(store).in_use == 0
        assert beat(store, lease) is None
        assert give_back(store, lease) is False
        assert take(store, "ann").id == lease.id

    def test_lease_tombstones_last_a_day(self, store: Store, clock: ManualClock) -> None:
        """Ended leases are kept for a day after they ended, expired ones after they expired."""
        store.define([pool(3)])
        silent = take(store, "ann")
        released = take(store, "bob")
        clock.advance(seconds=90)
        give_back(store, take(store, "bob"))
        clock.advance(milliseconds=TOMBSTONE - LOST_AFTER)
        store.sweep()
        clock.advance(milliseconds=LOST_AFTER - 1)
        assert store.sweep() == Swept()
        assert look_up(store, silent.id) is not None
        clock.advance(milliseconds=1)
        assert store.sweep() == Swept(leases_removed=2)
        assert look_up(store, silent.id) is None
        assert look_up(store, released.id) is None

    def test_long_forgotten_lease_goes_in_one_sweep(self, store: Store, clock: ManualClock) -> None:
        """After a day without any sweep, the first one tells of the expiry and forgets the lease."""
        store.define([pool(1)])
        lease = take(store)
        clock.advance(milliseconds=LOST_AFTER + TOMBSTONE)
        assert store.sweep() == Swept(leases_expired=1, leases_removed=1)
        assert news(store)[-1].kind is EventKind.LEASE_EXPIRED
        assert look_up(store, lease.id) is None

    def test_events_are_kept_for_the_retention(self, store: Store, clock: ManualClock) -> None:
        """Events older than 30 days go; the ids of later ones go on as if they were there."""
        store.define([pool(2)])
        take(store, "ann")
        clock.advance(milliseconds=1)
        take(store, "bob")
        clock.advance(milliseconds=EVENT_RETENTION - 1)
        swept = store.sweep()
        assert swept.events_removed == 1
        assert store.events()[0].id == 2
        clock.advance(milliseconds=EVENT_RETENTION)
        store.sweep()
        assert store.events() == []
        take(store, "cid")
        assert store.events()[0].id > 2

    def test_sweep_is_bounded(self, store: Store, clock: ManualClock) -> None:
        """No more than the limit of each kind per sweep; `more` says there may be; then it ends."""
        store.define([pool(25)])
        store.acquire([acquire(f"user-{i}") for i in range(25)])
        store.create([new_session(f"ses_{i}", lifetime=SECOND) for i in range(15)])
        clock.advance(milliseconds=LOST_AFTER)
        counts = []
        while True:
            swept = store.sweep(limit=10)
            counts.append((swept.leases_expired, swept.more))
            if not swept.more:
                break
        assert counts == [(10, True), (10, True), (5, False)]
        clock.advance(milliseconds=TOMBSTONE)
        totals = Swept()
        while True:
            swept = store.sweep(limit=10)
            assert max(swept.leases_removed, swept.sessions_removed, swept.events_removed) <= 10
            totals = Swept(
                leases_removed=totals.leases_removed + swept.leases_removed,
                sessions_removed=totals.sessions_removed + swept.sessions_removed,
            )
            if not swept.more:
                break
        assert totals == Swept(leases_removed=25, sessions_removed=15)

    def test_sweep_by_filter(self, store: Store, clock: ManualClock) -> None:
        """With a filter, only the leases that match are swept, and nothing else."""
        store.define([pool(9), pool(9, feature="viewer")])
        sign_in(store, lifetime=SECOND)
        mine, other = take(store, "ann"), take(store, "bob")
        viewer = take(store, "ann", pool_id="lic_1:viewer")
        clock.advance(milliseconds=LOST_AFTER + TOMBSTONE)
        which = LeaseFilter(license_id="lic_1", user_id="ann", feature="editor")
        assert store.sweep(which=which) == Swept(leases_expired=1, leases_removed=1)
        assert look_up(store, mine.id) is None
        assert look_up(store, other.id) == other
        assert look_up(store, viewer.id) == viewer
        swept = store.sweep()
        assert (swept.leases_removed, swept.sessions_removed) == (2, 1)

    def test_live_things_are_never_swept(self, store: Store, clock: ManualClock) -> None:
        """However old, what lives stays."""
        store.define([pool(2)])
        session = sign_in(store, lifetime=90 * DAY, idle_timeout=90 * DAY)
        lease = take(store)
        for _ in range(40):
            clock.advance(seconds=60)
            assert beat(store, lease) is not None
        store.sweep()
        assert beat(store, lease) is not None
        now = clock.advance(milliseconds=40 * DAY)
        store.sweep()
        assert store.of("ann") == [read_at(now, session)]

    def test_canaries_leave_no_trace(self, store: Store, clock: ManualClock) -> None:
        """Doctor's own people come and go unseen: no event, no row, nobody else's seat."""
        user, canary_pool = f"{CANARY_USER}1", f"{CANARY_LICENSE}:canary"
        sign_in(store, "ann's")
        store.define([pool(), pool(license_id=CANARY_LICENSE, feature="canary")])
        take(store, lease_id="anns")
        last = latest(store)
        for name in ("bird", "other"):
            sign_in(store, name, user)
            take(store, user, name, pool_id=canary_pool, session_id=name)
        refused(store, user, "third", pool_id=canary_pool)
        assert store.rotate("bird", token_hash("second")) is not None
        store.end(ids=["bird"])
        clock.advance(milliseconds=LOST_AFTER)
        store.forget(user, session_ids=["bird", "other", "ann's"], pool_ids=[canary_pool])
        store.sweep()

        assert {event.user_id for event in news(store, last)} == {"ann"}
        assert [x and x.reason for x in store.gone(["bird", "other", "ann's"])] == [
            GoneReason.ABSENT,
            GoneReason.ABSENT,
            None,
        ]
        for token in ("bird", "second", "other"):
            assert gone(store, token).reason is GoneReason.ABSENT
        assert store.of(user) == []
        assert store.pools([canary_pool]) == [None]
        assert store.leases(LeaseFilter(user_id=user, include_ended=True))[0] == []
        assert look_up(store, "anns") is not None
        sign_in(store, "bird", user)  # nothing of it is in the way
        store.define([pool(license_id=CANARY_LICENSE, feature="canary")])
        take(store, user, "bird", pool_id=canary_pool, session_id="bird")
