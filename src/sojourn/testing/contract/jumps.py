"""What a clock that jumps may cost: time, never a promise."""

from __future__ import annotations

from sojourn.clock import DAY, HOUR, SECOND, ManualClock
from sojourn.lease import LeaseFilter
from sojourn.store import Store
from sojourn.testing.builders import (
    beat,
    give_back,
    gone,
    look_up,
    pool,
    present,
    refused,
    sign_in,
    take,
    token_hash,
    usage,
)
from sojourn.testing.contract.base import OnManualClock


class JumpMeaning(OnManualClock):
    def test_what_was_noted_as_expired_stays_so(self, store: Store, clock: ManualClock) -> None:
        """A jump forward loses leases; once that is noted, a jump back revives none."""
        store.define([pool(2)])
        lease = take(store, "ann")
        clock.advance(milliseconds=HOUR)
        store.sweep()
        clock.advance(milliseconds=-HOUR)
        assert beat(store, lease) is None
        assert store.leases(LeaseFilter())[0] == []
        assert usage(store).in_use == 0

    def test_seat_given_away_stays_given_away(self, store: Store, clock: ManualClock) -> None:
        """Whose seat was granted to another after a jump forward has lost it, jump back or not."""
        store.define([pool(1)])
        lost = take(store, "ann")
        clock.advance(milliseconds=HOUR)
        holder = take(store, "bob")
        clock.advance(milliseconds=-HOUR)
        assert beat(store, lost) is None
        assert give_back(store, lost) is False
        assert (usage(store).in_use, usage(store).leases) == (1, 1)
        assert [lease.id for lease in store.leases(LeaseFilter())[0]] == [holder.id]
        assert refused(store, "ann").in_use == 1
        assert beat(store, holder) is not None

    def test_what_was_ended_stays_so(self, store: Store, clock: ManualClock) -> None:
        """A release, a session's end and a rotation hold under a clock that was set back."""
        store.define([pool(2)])
        lease = take(store, "ann")
        sign_in(store, "ended")
        sign_in(store, "rotated")
        give_back(store, lease)
        store.end(ids=["ended"])
        store.rotate("rotated", token_hash("new"))
        clock.advance(milliseconds=-DAY)
        assert beat(store, lease) is None
        assert gone(store, "ended").ended_by is None
        assert gone(store, "rotated").at is None
        assert present(store, "new").id == "rotated"

    def test_fences_grow_through_jumps(self, store: Store, clock: ManualClock) -> None:
        """Whatever the clock does, each grant's fence is higher than all before."""
        store.define([pool(9)])
        fences = []
        for i, jump in enumerate((0, HOUR, -2 * HOUR, DAY, -DAY, -1, 1)):
            clock.advance(milliseconds=jump)
            fences.append(take(store, "ann").fence)
            fences.append(take(store, f"user-{i}").fence)
        assert fences == list(range(1, len(fences) + 1))

    def test_later_beat_never_shortens(self, store: Store, clock: ManualClock) -> None:
        """A beat after the clock was set back leaves the lease at least as long as it was."""
        store.define([pool(1)])
        lease = take(store)
        for jump in (-5, -60, -3_600):
            clock.advance(seconds=jump)
            assert beat(store, lease) is not None
            later = look_up(store, lease.id)
            assert later is not None
            assert later.expires_at >= lease.expires_at
            assert later.suspect_at >= lease.suspect_at
            assert later.last_beat_at >= lease.last_beat_at

    def test_capacity_holds_after_a_jump_back(self, store: Store, clock: ManualClock) -> None:
        """Whoever holds a seat goes on holding it when the clock is set back."""
        store.define([pool(2)])
        take(store, "ann")
        take(store, "bob")
        clock.advance(seconds=-600)
        assert usage(store).in_use == 2
        assert beat(store, take(store, "ann")) is not None
        assert usage(store).in_use == 2

    def test_outage_is_no_jump_back(self, store: Store, clock: ManualClock) -> None:
        """A pulse under a clock that was set back notices no outage, and goes on from there."""
        store.define([pool(1)])
        store.pulse()
        clock.advance(milliseconds=-HOUR)
        assert store.pulse() is None
        lease = take(store, "ann")
        clock.advance(seconds=60)
        outage = store.pulse()
        assert outage is not None
        assert (outage.lasted, outage.extended) == (60 * SECOND, 1)
        assert beat(store, lease) is not None
