"""What a policy that was lowered means for those who hold a seat."""

from __future__ import annotations

from typing import Any

import pytest

from sojourn.clock import HOUR, MINUTE, SECOND, ManualClock
from sojourn.event import EventKind
from sojourn.lease import LeaseFilter, LeaseState, Renewal
from sojourn.license import Pool, WhenFull
from sojourn.store import Store
from sojourn.testing.builders import (
    OPERATOR,
    beat,
    look_up,
    news,
    pool,
    refused,
    take,
    usage,
)
from sojourn.testing.contract.base import OnManualClock

RARE = 10 * MINUTE  # a heartbeat


def patient(**policy: Any) -> Pool:
    """Build a pool that takes nobody's seat before it is lost, and is slow to call it that."""
    usual: dict[str, Any] = {"lost_after": HOUR, "linger": 0, "when_full": WhenFull.DENY}
    return pool(1, **{**usual, **policy})


class PolicyMeaning(OnManualClock):
    def test_lost_after_counts_from_the_last_beat(self, store: Store, clock: ManualClock) -> None:
        """A ghost of half a minute is lost when the new time is over, counted from its last beat."""
        store.define([patient()])
        ghost = take(store, "ghost")
        clock.advance(seconds=30)
        store.define([patient(lost_after=40 * SECOND)])
        clock.advance(milliseconds=10 * SECOND - 1)
        assert refused(store, "ann").retry_after == 1
        assert usage(store).in_use == 1
        clock.advance(milliseconds=1)
        assert usage(store).in_use == 0
        assert beat(store, ghost) is None
        take(store, "ann")

    def test_whom_the_new_policy_calls_lost_is_lost_now(
        self, store: Store, clock: ManualClock
    ) -> None:
        """Silence of longer than the new time ends with the change: not before, whatever was said then."""
        store.define([patient()])
        ghost = take(store, "ghost")
        now = clock.advance(seconds=600)
        refused(store, "ann")
        store.define([patient(lost_after=40 * SECOND)])
        assert (store.leases(LeaseFilter()), usage(store).in_use) == (([], now), 0)
        found = look_up(store, ghost.id)
        assert found is not None
        assert (found.expires_at, found.last_beat_at) == (now, ghost.last_beat_at)
        assert store.sweep().leases_expired == 1
        [told] = news(store, 0, EventKind.LEASE_EXPIRED)
        assert (told.subject, told.data["silentFor"]) == (ghost.id, 600 * SECOND)
        take(store, "ann")

    def test_who_beats_as_told_is_not_lost(self, store: Store, clock: ManualClock) -> None:
        """A holder that was told to beat every ten minutes learns of a faster pace with its next beat."""
        store.define([patient(heartbeat_interval=RARE)])
        lease, now = take(store), clock.now()
        store.define([patient(heartbeat_interval=SECOND, lost_after=3 * SECOND)])
        found = look_up(store, lease.id)
        assert found is not None
        assert found.expires_at == now + RARE + 2 * SECOND
        clock.advance(milliseconds=RARE + SECOND)
        assert beat(store, lease) == Renewal(expires_in=3 * SECOND)
        clock.advance(seconds=3)
        assert beat(store, lease) is None

    def test_who_was_told_by_an_earlier_policy(self, store: Store, clock: ManualClock) -> None:
        """It has its first pace through any number of changes, and what it is told with a beat, it has."""
        store.define([patient(heartbeat_interval=RARE)])
        lease = take(store)
        for lost_after in (90, 60, 3):
            clock.advance(seconds=100)
            store.define([patient(heartbeat_interval=SECOND, lost_after=lost_after * SECOND)])
        clock.advance(milliseconds=RARE - 300 * SECOND)
        told = beat(store, lease)
        assert told == Renewal(expires_in=89 * SECOND)  # as of the first change
        store.define([patient(heartbeat_interval=SECOND, lost_after=2 * SECOND)])
        clock.advance(milliseconds=told.expires_in // 2)
        assert beat(store, lease) is not None
        clock.advance(milliseconds=told.expires_in // 2)
        assert beat(store, lease) is None

    def test_who_never_beats_again_is_lost_after_one_pace(
        self, store: Store, clock: ManualClock
    ) -> None:
        """Nobody can tell it from the living before, and nothing keeps its seat any longer."""
        store.define([patient(heartbeat_interval=RARE)])
        take(store, "ghost")
        clock.advance(seconds=1)
        store.define([patient(heartbeat_interval=SECOND, lost_after=3 * SECOND)])
        clock.advance(milliseconds=RARE + SECOND - 1)
        refused(store, "ann")
        clock.advance(milliseconds=1)
        take(store, "ann")

    def test_suspect_after_counts_at_once(self, store: Store, clock: ManualClock) -> None:
        """A suspect keeps its seat until somebody needs it; a beat makes it active."""
        store.define([pool(1, heartbeat_interval=RARE, lost_after=HOUR)])
        ghost = take(store, "ghost")
        now = clock.advance(seconds=5)
        store.define([pool(1, heartbeat_interval=SECOND, lost_after=3 * SECOND, linger=SECOND)])
        found = look_up(store, ghost.id)
        assert found is not None
        assert found.state(now) is LeaseState.SUSPECT
        assert usage(store).suspect == 1
        assert beat(store, ghost) == Renewal(
            expires_in=found.expires_at - now, state=LeaseState.ACTIVE
        )
        clock.advance(milliseconds=3 * SECOND - 1)
        refused(store, "ann")
        clock.advance(milliseconds=1)
        take(store, "ann")
        [told] = news(store, 0, EventKind.LEASE_EVICTED)
        assert told.subject == ghost.id

    def test_silence_that_was_announced_is_no_suspicion(
        self, store: Store, clock: ManualClock
    ) -> None:
        """A holder that said it would be silent for longer than usual is late by as much."""
        store.define([pool(1, heartbeat_interval=30 * SECOND, lost_after=HOUR)])
        lease = take(store)
        assert beat(store, lease, next_in=5 * MINUTE) is not None
        store.define([pool(1, heartbeat_interval=30 * SECOND, lost_after=30 * MINUTE,
                           suspect_after=40 * SECOND)])  # fmt: skip
        now = clock.advance(milliseconds=5 * MINUTE + 10 * SECOND)
        found = look_up(store, lease.id)
        assert found is not None
        assert found.suspect_at == now
        assert found.expires_at == lease.acquired_at + 30 * MINUTE

    @pytest.mark.parametrize("after", [5 * SECOND, 0])
    def test_linger_counts_for_who_said_goodbye(
        self, store: Store, clock: ManualClock, after: int
    ) -> None:
        """A tab that said goodbye gives its seat back when the new linger is over."""
        store.define([patient(linger=MINUTE)])
        lease = take(store)
        assert beat(store, lease, closing=True) is not None
        clock.advance(seconds=1)
        store.define([patient(linger=after)])
        if after:
            clock.advance(milliseconds=after - SECOND - 1)
            refused(store, "bob")
            clock.advance(milliseconds=1)
        take(store, "bob")

    def test_max_lease_counts_from_the_grant(self, store: Store, clock: ManualClock) -> None:
        """A lease that is older has one interval more, in which its holder hears of it."""
        store.define([patient(lost_after=90 * SECOND)])
        lease = take(store)
        for _ in range(4):
            clock.advance(seconds=30)
            assert beat(store, lease) is not None
        store.define([patient(lost_after=90 * SECOND, max_lease=MINUTE)])
        clock.advance(milliseconds=30 * SECOND - 1)
        assert beat(store, lease) == Renewal(expires_in=1)
        clock.advance(milliseconds=1)
        assert beat(store, lease) is None
        take(store, "bob")

    def test_a_longer_time_is_given_with_the_next_beat(
        self, store: Store, clock: ManualClock
    ) -> None:
        """Raising changes no lease that is there, and neither does what has no time in it."""
        store.define([patient(lost_after=90 * SECOND)])
        lease = take(store)
        store.define([patient(lost_after=HOUR, linger=HOUR, suspect_after=HOUR)])
        store.define([pool(7, lost_after=HOUR, linger=HOUR, suspect_after=HOUR)])
        assert look_up(store, lease.id) == lease
        clock.advance(seconds=30)
        assert beat(store, lease) == Renewal(expires_in=HOUR)

    def test_cleaning_up_frees_whom_the_new_policy_doubts(
        self, store: Store, clock: ManualClock
    ) -> None:
        """An operator's cleanup, which spares the living, goes by the new times."""
        store.define([pool(2, lost_after=HOUR, suspect_after=HOUR)])
        ghost = take(store, "ghost")
        clock.advance(seconds=80)
        living = take(store, "ann")
        assert store.revoke(LeaseFilter(), OPERATOR, suspects_only=True) == []
        store.define([pool(2, lost_after=90 * SECOND)])
        freed = store.revoke(LeaseFilter(), OPERATOR, suspects_only=True)
        assert [lease.id for lease in freed] == [ghost.id]
        assert beat(store, living) is not None

    def test_other_pools_are_not_touched(self, store: Store, clock: ManualClock) -> None:
        """Only the pool whose policy was lowered has its leases looked at; of two that say so, the last
        word counts."""
        other = pool(1, feature="other", lost_after=HOUR)
        store.define([patient(), other])
        mine, theirs = take(store), take(store, pool_id=other.id)
        store.define([patient(lost_after=MINUTE), patient(lost_after=30 * MINUTE), other])
        assert look_up(store, theirs.id) == theirs
        found = look_up(store, mine.id)
        assert found is not None
        assert found.expires_at == mine.acquired_at + 30 * MINUTE
        assert clock.now() == mine.acquired_at
