"""What the pulse means: our outage never costs a customer a seat, and never gives one twice."""

from __future__ import annotations

import pytest

from sojourn.clock import MINUTE, SECOND, ManualClock
from sojourn.event import EventKind
from sojourn.lease import Doubt, EndReason, Lease, LeaseFilter, LeaseState
from sojourn.license import WhenFull
from sojourn.session import AtLimit, Session
from sojourn.store import Outage, Store, Swept
from sojourn.testing.builders import (
    OPERATOR,
    POOL,
    acquire,
    beat,
    give_back,
    granted,
    latest,
    look_up,
    new_session,
    news,
    pool,
    refused,
    sign_in,
    take,
    usage,
)
from sojourn.testing.contract.base import OnManualClock

LOST_AFTER = 90 * SECOND
MAX_PAUSE = 10 * SECOND
OUTAGE = 10 * MINUTE


def looked_up(store: Store, lease: Lease) -> Lease:
    found = look_up(store, lease.id)
    assert found is not None
    return found


class PulseMeaning(OnManualClock):
    @pytest.fixture
    def lease(self, store: Store, clock: ManualClock) -> Lease:
        """A lease that was beaten 30 s before the last pulse; then the outage begins."""
        store.define([pool(2)])
        store.pulse()
        lease = take(store, "ann", lease_id="lea_ann")
        for _ in range(3):
            clock.advance(seconds=10)
            store.pulse()
        return lease

    @pytest.mark.parametrize("left", [60, 20])
    def test_grace_ends_with_the_longest_lease(
        self, store: Store, clock: ManualClock, left: int
    ) -> None:
        """Who may hold a seat for so long only, may not hold it longer because we were away."""
        longest = OUTAGE + (30 + left) * SECOND
        store.define([pool(2, max_lease=longest)])
        store.pulse()
        lease = take(store)
        clock.advance(seconds=10)
        beat(store, lease)
        store.pulse()
        now = clock.advance(milliseconds=OUTAGE + 20 * SECOND)
        assert store.pulse() == Outage(lasted=OUTAGE + 20 * SECOND, extended=1)
        end = min(lease.acquired_at + longest, now + LOST_AFTER)
        assert looked_up(store, lease).expires_at == end == now + left * SECOND

    def test_regular_pulse_does_nothing(self, store: Store, clock: ManualClock) -> None:
        """While the pulse comes in time, leases expire as ever."""
        store.define([pool(1)])
        assert store.pulse() is None
        lease = take(store, "ann")
        for _ in range(9):
            clock.advance(milliseconds=MAX_PAUSE)
            assert store.pulse() is None
        assert beat(store, lease) is None
        assert usage(store).in_use == 0
        assert [event.kind for event in news(store)] == [EventKind.LEASE_ACQUIRED]

    def test_first_pulse_extends_nothing(self, store: Store, clock: ManualClock) -> None:
        """A store that never had a pulse was not away, as far as anybody knows."""
        store.define([pool(1)])
        lease = take(store, "ann")
        clock.advance(milliseconds=OUTAGE)
        assert store.pulse() is None
        assert beat(store, lease) is None
        take(store, "bob")

    def test_outage_is_given_back(self, store: Store, clock: ManualClock, lease: Lease) -> None:
        """After an outage a surviving lease lives on as if the clock had stood still; it is told."""
        mark = latest(store)
        now = clock.advance(milliseconds=OUTAGE)
        assert store.pulse() == Outage(lasted=OUTAGE, extended=1)
        graced = looked_up(store, lease)
        assert graced.expires_at == lease.expires_at + OUTAGE == now + LOST_AFTER - 30 * SECOND
        assert graced.suspect_at == lease.suspect_at + OUTAGE
        assert (graced.graced_at, graced.last_beat_at) == (now, lease.last_beat_at)
        assert graced.state(now) is LeaseState.ACTIVE
        (event,) = news(store, mark)
        assert (event.kind, event.at) == (EventKind.STORE_RETURNED, now)
        assert event.data == {"lasted": OUTAGE, "extended": 1}
        assert beat(store, lease) is not None

    def test_pause_to_the_millisecond(self, store: Store, clock: ManualClock, lease: Lease) -> None:
        """Only a pause longer than max_pause is an outage."""
        clock.advance(milliseconds=MAX_PAUSE)
        assert store.pulse() is None
        clock.advance(milliseconds=MAX_PAUSE + 1)
        assert store.pulse() == Outage(lasted=MAX_PAUSE + 1, extended=1)
        assert looked_up(store, lease).expires_at == lease.expires_at + MAX_PAUSE + 1

    def test_outage_is_noticed_once(self, store: Store, clock: ManualClock, lease: Lease) -> None:
        """The pulse after the one that noticed finds nothing."""
        clock.advance(milliseconds=OUTAGE)
        assert store.pulse() is not None
        assert store.pulse() is None
        clock.advance(milliseconds=MAX_PAUSE)
        assert store.pulse() is None

    def test_grace_is_at_most_lost_after(self, store: Store, clock: ManualClock) -> None:
        """However fresh the last beat, nobody has longer than lost_after from the return."""
        store.define([pool(1)])
        store.pulse()
        clock.advance(milliseconds=MAX_PAUSE)
        lease = take(store, "ann")
        now = clock.advance(milliseconds=OUTAGE)
        store.pulse()
        assert looked_up(store, lease).expires_at == now + LOST_AFTER

    def test_acquire_notices_the_outage(
        self, store: Store, clock: ManualClock, lease: Lease
    ) -> None:
        """An acquire that finds the pulse stale gives grace before it decides: no seat is stolen."""
        store.define([pool(1)])
        mark = latest(store)
        clock.advance(milliseconds=OUTAGE)
        assert refused(store, "bob").in_use == 1
        assert [event.kind for event in news(store, mark)] == [
            EventKind.STORE_RETURNED,
            EventKind.LEASE_DENIED,
        ]
        assert beat(store, lease) is not None
        assert store.pulse() is None

    def test_renew_notices_the_outage(self, store: Store, clock: ManualClock, lease: Lease) -> None:
        """A beat that comes before the pulse does is not turned away for our fault."""
        other = take(store, "bob")
        clock.advance(milliseconds=OUTAGE)
        renewed = beat(store, lease)
        assert renewed is not None
        assert renewed.expires_in == LOST_AFTER
        assert news(store)[-1].data["extended"] == 2
        assert store.pulse() is None
        assert beat(store, other) is not None

    def test_sweep_notices_the_outage(self, store: Store, clock: ManualClock, lease: Lease) -> None:
        """Housekeeping after an outage notes nobody as expired who is owed grace."""
        clock.advance(milliseconds=OUTAGE)
        assert store.sweep() == Swept()
        assert beat(store, lease) is not None
        assert store.pulse() is None

    def test_ghost_gets_at_most_one_grace(
        self, store: Store, clock: ManualClock, lease: Lease
    ) -> None:
        """A holder that died gets one grace, however often we are away after that."""
        clock.advance(milliseconds=OUTAGE)
        assert store.pulse() == Outage(lasted=OUTAGE, extended=1)
        graced = looked_up(store, lease)
        clock.advance(milliseconds=MAX_PAUSE + 1)
        assert store.pulse() == Outage(lasted=MAX_PAUSE + 1, extended=0)
        assert looked_up(store, lease) == graced
        clock.advance(milliseconds=OUTAGE)
        assert store.pulse() == Outage(lasted=OUTAGE, extended=0)
        assert beat(store, lease) is None
        assert usage(store).in_use == 0

    def test_flapping_keeps_no_ghost(self, store: Store, clock: ManualClock, lease: Lease) -> None:
        """A service that comes and goes for an hour keeps a dead holder for one grace only."""
        for _ in range(300):
            clock.advance(milliseconds=MAX_PAUSE + 2 * SECOND)
            store.pulse()
        assert looked_up(store, lease).expires_at <= lease.expires_at + MAX_PAUSE + 2 * SECOND
        assert usage(store).in_use == 0

    def test_whoever_beats_again_gets_the_next_grace(
        self, store: Store, clock: ManualClock, lease: Lease
    ) -> None:
        """A holder heard since its last grace is alive: the next outage is given back too."""
        for _ in range(3):
            clock.advance(milliseconds=OUTAGE)
            assert store.pulse() == Outage(lasted=OUTAGE, extended=1)
            clock.advance(seconds=1)
            assert beat(store, lease) is not None
            store.pulse()

    def test_expired_before_the_outage(self, store: Store, clock: ManualClock) -> None:
        """Whoever was lost while we were there stays lost."""
        store.define([pool(2)])
        store.pulse()
        lost = take(store, "ann")
        for _ in range(9):
            clock.advance(milliseconds=MAX_PAUSE)
            store.pulse()
        clock.advance(milliseconds=OUTAGE)
        assert store.pulse() == Outage(lasted=OUTAGE, extended=0)
        assert beat(store, lost) is None

    def test_ended_before_the_outage(self, store: Store, clock: ManualClock, lease: Lease) -> None:
        """Whatever was ended stays ended."""
        other = take(store, "bob")
        give_back(store, other)
        clock.advance(milliseconds=OUTAGE)
        assert store.pulse() == Outage(lasted=OUTAGE, extended=1)
        assert looked_up(store, other).end_reason is EndReason.RELEASED
        assert looked_up(store, other).graced_at is None

    def test_grace_never_gives_a_seat_twice(self, store: Store, clock: ManualClock) -> None:
        """A seat that came free and was granted again before the pulse was missed is not given back."""
        store.define([pool(1)])
        take(store, "ann")
        clock.advance(seconds=85)
        store.pulse()
        clock.advance(seconds=5)
        bob = take(store, "bob")
        clock.advance(seconds=6)
        store.pulse()
        assert usage(store).in_use == 1
        assert beat(store, bob) is not None
        assert refused(store, "ann").in_use == 1

    def test_grace_brings_back_no_suspicion(
        self, store: Store, clock: ManualClock, lease: Lease
    ) -> None:
        """After our outage nobody loses a seat for having been silent during it."""
        store.define([pool(1)])
        clock.advance(milliseconds=MAX_PAUSE + 45 * SECOND)
        assert refused(store, "bob").suspect == 0
        assert beat(store, lease) is not None

    def test_grace_across_policies(self, store: Store, clock: ManualClock) -> None:
        """Every pool's leases get grace by their own policy, shared seats and strict pools too."""
        slow = pool(2, feature="slow", lost_after=300 * SECOND, when_full=WhenFull.DENY)
        store.define([pool(2), slow])
        store.pulse()
        answers = store.acquire([acquire("ann"), acquire("ann", pool_id=slow.id)])
        quick, slow_lease = (granted(answer) for answer in answers)
        now = clock.advance(milliseconds=OUTAGE)
        assert store.pulse() == Outage(lasted=OUTAGE, extended=2)
        assert looked_up(store, quick).expires_at == now + LOST_AFTER
        assert looked_up(store, slow_lease).expires_at == now + 300 * SECOND
        assert store.usage([POOL, slow.id])[1] is not None

    @pytest.mark.parametrize("ending", ["release", "revoke", "drop", "session", "limit"])
    def test_what_is_ended_before_the_outage_is_noticed_stays_ended(
        self, store: Store, clock: ManualClock, ending: str
    ) -> None:
        """Whoever is first after an outage may be somebody who leaves: that lease is given no time back."""
        store.define([pool(1, when_full=WhenFull.DENY)])
        store.pulse()
        sign_in(store, "ses_1", user_id="ann")
        lease = take(store, "ann", session_id="ses_1")
        store.pulse()
        clock.advance(milliseconds=LOST_AFTER + MINUTE)
        if ending == "release":
            assert give_back(store, lease)
        elif ending == "revoke":
            assert [x.id for x in store.revoke(LeaseFilter(user_id="ann"), OPERATOR)] == [lease.id]
        elif ending == "drop":
            assert store.drop([POOL], OPERATOR) == 1
            store.define([pool(1, when_full=WhenFull.DENY)])
        elif ending == "session":
            store.end(ids=["ses_1"])
        else:
            new = new_session("ses_2", user_id="ann", limit=1, at_limit=AtLimit.END_OLDEST)
            assert isinstance(store.create([new])[0], Session)
        store.pulse()
        assert beat(store, lease) is None
        take(store, "bob")

    def test_a_doubt_before_the_outage_is_noticed_counts(
        self, store: Store, clock: ManualClock
    ) -> None:
        store.define([pool(1)])
        store.pulse()
        lease = take(store, "ann")
        store.pulse()
        now = clock.advance(milliseconds=LOST_AFTER + MINUTE)
        doubt = Doubt(lease_id=lease.id, fence=lease.fence, pool_id=POOL)
        assert store.doubt([doubt]) == [True]
        assert looked_up(store, lease).suspect_at <= now
        assert beat(store, lease) is not None
