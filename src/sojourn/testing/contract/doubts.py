"""What doubting a holder means: its seat is somebody's who needs it, and its own as soon as it beats."""

from __future__ import annotations

import pytest

from sojourn.clock import SECOND, ManualClock
from sojourn.event import EventKind
from sojourn.idempotency import Replayed
from sojourn.lease import Doubt, EndReason, Lease, LeaseState, Renewal
from sojourn.license import CountBy, WhenFull
from sojourn.store import Store
from sojourn.testing.builders import (
    POOL,
    acquire,
    beat,
    denied,
    give_back,
    granted,
    key,
    latest,
    look_up,
    news,
    pool,
    refused,
    take,
    usage,
)
from sojourn.testing.contract.base import OnManualClock

LINGER = 10 * SECOND
LOST_AFTER = 90 * SECOND


def doubt(store: Store, lease: Lease, *, at_once: bool = False, silent_for: int = 0) -> bool:
    """Doubt one lease."""
    each = Doubt(lease_id=lease.id, fence=lease.fence, silent_for=silent_for)
    return store.doubt([each], at_once=at_once)[0]


class DoubtMeaning(OnManualClock):
    def test_doubt_makes_suspect_and_keeps_the_expiry(
        self, store: Store, clock: ManualClock
    ) -> None:
        """Who is doubted is suspect from now on, and holds its seat for as long as before."""
        store.define([pool(1)])
        lease = take(store)
        now, before = clock.advance(seconds=5), latest(store)
        assert doubt(store, lease)
        found = look_up(store, lease.id)
        assert found is not None
        assert (found.suspect_at, found.expires_at) == (now, lease.expires_at)
        assert (found.last_beat_at, found.fence) == (lease.last_beat_at, lease.fence)
        assert (usage(store).in_use, usage(store).suspect) == (1, 1)
        assert latest(store) == before, "no event tells of a doubt"

    def test_doubted_seat_is_taken_a_linger_later(self, store: Store, clock: ManualClock) -> None:
        """A seat whose holder is doubted goes to who needs it once the linger is over, not before."""
        store.define([pool(1)])
        lease = take(store)
        clock.advance(seconds=5)
        doubt(store, lease)
        clock.advance(milliseconds=LINGER - 1)
        assert refused(store, "bob").retry_after == 1
        clock.advance(milliseconds=1)
        take(store, "bob")
        ended = look_up(store, lease.id)
        assert ended is not None
        assert ended.end_reason is EndReason.EVICTED

    def test_doubt_at_once_frees_for_whoever_needs_it(self, store: Store) -> None:
        """Doubted at once, a seat is taken in the same moment; nobody else's is."""
        store.define([pool(2)])
        lease, other = take(store), take(store, "other")
        assert doubt(store, lease, at_once=True)
        assert usage(store).in_use == 2
        take(store, "bob")
        assert beat(store, lease) is None
        assert beat(store, other) == Renewal(expires_in=LOST_AFTER)
        refused(store, "cid")

    def test_doubt_at_once_after_a_doubt(self, store: Store, clock: ManualClock) -> None:
        """A holder that is doubted already can be doubted at once, and that is not taken back by a
        doubt that lingers."""
        store.define([pool(1)])
        lease = take(store)
        clock.advance(seconds=1)
        assert doubt(store, lease)
        assert doubt(store, lease, at_once=True)
        assert doubt(store, lease)
        take(store, "bob")

    def test_beat_restores_who_is_doubted(self, store: Store, clock: ManualClock) -> None:
        """Any beat takes a doubt back, whichever it was."""
        store.define([pool(1)])
        lease = take(store)
        for at_once in (False, True):
            clock.advance(seconds=1)
            assert doubt(store, lease, at_once=at_once)
            assert beat(store, lease) == Renewal(expires_in=LOST_AFTER, state=LeaseState.ACTIVE)
            refused(store, "bob")

    def test_takeover_restores_who_is_doubted(self, store: Store) -> None:
        """The same holder again has its seat again, and the doubt of the older fence is none of it."""
        store.define([pool(1)])
        lease = take(store)
        doubt(store, lease, at_once=True)
        again = take(store)
        assert again.id == lease.id
        assert not doubt(store, lease, at_once=True)
        refused(store, "bob")

    @pytest.mark.parametrize("off", [-1, 1])
    def test_doubt_needs_the_present_fence(self, store: Store, off: int) -> None:
        """Neither an older nor a newer fence is doubted."""
        store.define([pool(1)])
        lease = take(store)
        each = Doubt(lease_id=lease.id, fence=lease.fence + off)
        assert store.doubt([each], at_once=True) == [False]
        assert look_up(store, lease.id) == lease

    def test_doubt_spares_who_has_beaten_since(self, store: Store, clock: ManualClock) -> None:
        """A holder that was heard within `silent_for`, by whatever way, is not doubted."""
        store.define([pool(1)])
        lease = take(store)
        clock.advance(seconds=30)
        beat(store, lease)
        clock.advance(milliseconds=1_499)
        assert not doubt(store, lease, at_once=True, silent_for=1_500)
        refused(store, "bob")
        clock.advance(milliseconds=1)
        assert doubt(store, lease, at_once=True, silent_for=1_500)
        take(store, "bob")

    def test_nothing_to_doubt(self, store: Store, clock: ManualClock) -> None:
        """Leases that are unknown, ended or expired are not doubted; a batch answers in its order."""
        store.define([pool(3)])
        expired = take(store, "ann")
        clock.advance(seconds=80)
        live, ended = take(store, "bob"), take(store, "cid")
        give_back(store, ended)
        clock.advance(seconds=10)
        batch = [
            Doubt(lease_id=each.id, fence=each.fence, pool_id=POOL)
            for each in (expired, live, ended, live)
        ]
        batch.append(Doubt(lease_id="unknown", fence=1))
        assert store.doubt(batch) == [False, True, False, True, False]
        assert store.doubt([]) == []

    def test_doubts_of_several_pools(self, store: Store, clock: ManualClock) -> None:
        """Each pool's own linger counts."""
        pools = [pool(1, feature=f"f{n}", linger=n * SECOND) for n in (0, 10, 20)]
        store.define(pools)
        leases = [take(store, pool_id=each.id) for each in pools]
        clock.advance(seconds=30)
        batch = [Doubt(lease_id=each.id, fence=each.fence) for each in leases]
        assert store.doubt(batch) == [True] * 3
        take(store, "bob", pool_id=pools[0].id)
        refused(store, "bob", pool_id=pools[1].id)
        assert store.doubt(batch, at_once=True) == [False, True, True]
        for each in pools[1:]:
            take(store, "bob", pool_id=each.id)

    def test_seat_that_is_shared(self, store: Store) -> None:
        """A seat is taken only when all who share it are doubted."""
        store.define([pool(1, count_by=CountBy.USER)])
        one, two = take(store, "ann", "1"), take(store, "ann", "2")
        doubt(store, one, at_once=True)
        refused(store, "bob")
        doubt(store, two, at_once=True)
        take(store, "bob")

    def test_pool_that_takes_from_nobody(self, store: Store) -> None:
        """Where the policy is to deny, a doubted holder keeps its seat."""
        store.define([pool(1, when_full=WhenFull.DENY)])
        doubt(store, take(store), at_once=True)
        refused(store, "bob")
        assert not denied(store.acquire([acquire("bob", tentative=True)])[0]).tentative

    def test_shorter_policy_takes_a_doubt_for_no_goodbye(
        self, store: Store, clock: ManualClock
    ) -> None:
        """A doubted holder's expiry is its policy's, not that of somebody who has said goodbye."""
        store.define([pool(1)])
        lease = take(store)
        clock.advance(seconds=5)
        doubt(store, lease, at_once=True)
        store.define([pool(1, linger=SECOND)])
        found = look_up(store, lease.id)
        assert found is not None
        assert found.expires_at == lease.expires_at
        clock.advance(seconds=20)
        assert beat(store, lease) is not None

    def test_denied_by_what_was_found_before(self, store: Store, clock: ManualClock) -> None:
        """A pool that was found full is looked at again when somebody in it was doubted."""
        store.define([pool(2, linger=20 * SECOND)])
        lease, _ = take(store), take(store, "other")
        clock.advance(seconds=1)
        refused(store, "bob")
        refused(store, "bob")
        doubt(store, lease)
        assert refused(store, "bob").suspect == 1
        doubt(store, lease, at_once=True)
        take(store, "bob")

    def test_tentative_refusal_is_not_recorded(self, store: Store, clock: ManualClock) -> None:
        """While a seat is a suspect's, a tentative request is refused and nothing tells of it; without
        one it is refused as every other."""
        store.define([pool(1)])
        lease = take(store)
        clock.advance(seconds=1)
        before = latest(store)
        assert not denied(store.acquire([acquire("bob", tentative=True)])[0]).tentative
        assert [each.kind for each in news(store, before)] == [EventKind.LEASE_DENIED]
        doubt(store, lease)
        before = latest(store)
        answer = denied(store.acquire([acquire("bob", tentative=True)])[0])
        assert (answer.tentative, answer.suspect, len(answer.evidence)) == (True, 1, 1)
        assert latest(store) == before
        assert not refused(store, "bob").tentative
        doubt(store, lease, at_once=True)
        granted(store.acquire([acquire("bob", tentative=True)])[0])

    def test_all_can_be_asked(self, store: Store, clock: ManualClock) -> None:
        """Where all holders can be asked, a tentative refusal is not final though none seems to be gone; it
        is if nobody holds a seat."""
        store.define([pool(1)])
        wish = acquire("bob", tentative=True, ask_all=True, wait=True)
        lease = take(store)
        clock.advance(seconds=1)
        before = latest(store)
        answer = denied(store.acquire([wish])[0])
        assert (answer.tentative, answer.suspect, answer.entry) == (True, 0, None)
        assert [each.id for each in answer.evidence] == [lease.id]
        assert latest(store) == before
        assert not denied(store.acquire([acquire("cid", ask_all=True)])[0]).tentative
        store.define([pool(1, when_full=WhenFull.DENY)])
        assert not denied(
            store.acquire([acquire("dan", tentative=True, ask_all=True)])[0]
        ).tentative
        store.define([pool(0)])
        give_back(store, lease)
        empty = denied(store.acquire([acquire("eve", tentative=True, ask_all=True)])[0])
        assert (empty.tentative, empty.in_use) == (False, 0)

    def test_tentative_refusal_is_not_kept(self, store: Store, clock: ManualClock) -> None:
        """A key whose request was refused tentatively is decided anew, and then kept."""
        store.define([pool(1)])
        lease = take(store)
        clock.advance(seconds=1)
        doubt(store, lease)
        asked = acquire("bob", tentative=True, idempotency=key())
        assert denied(store.acquire([asked])[0]).tentative
        doubt(store, lease, at_once=True)
        seat = granted(store.acquire([asked])[0])
        again = store.acquire([asked])[0]
        assert isinstance(again, Replayed)
        assert granted(again.answer) == seat

    def test_asking_is_told_to_all(self, store: Store) -> None:
        """Who reads the stream learns that a pool's holders are asked, and by whom."""
        before = latest(store)
        store.ask(POOL, "server:srv_1")
        store.ask("lic_1:other", None, {"asked": 2, "answered": 1})
        told = news(store, before)
        assert [(x.kind, x.pool_id, x.actor, x.data) for x in told] == [
            (EventKind.LEASE_ASKED, POOL, "server:srv_1", {}),
            (EventKind.LEASE_ASKED, "lic_1:other", None, {"asked": 2, "answered": 1}),
        ]
