"""What a full pool does: whom it displaces, and what it says to whom it denies."""

from __future__ import annotations

from typing import Any

import pytest

from sojourn.clock import DAY, MINUTE, SECOND, ManualClock
from sojourn.event import EventKind
from sojourn.lease import Acquire, DenialReason, Denied, EndReason, Lease, Resume
from sojourn.license import CountBy, WhenFull
from sojourn.store import Store
from sojourn.testing.builders import (
    POOL,
    acquire,
    beat,
    denied,
    granted,
    latest,
    look_up,
    news,
    pool,
    refused,
    sign_in,
    take,
    usage,
)
from sojourn.testing.contract.base import OnManualClock

SUSPECT_AFTER = 60 * SECOND
LINGER = 10 * SECOND
IDLE_AFTER = 5 * MINUTE


def ended_by(store: Store, lease: Lease) -> EndReason | None:
    """Say why a lease has ended; None while it has not."""
    found = look_up(store, lease.id)
    return found.end_reason if found else None


def keep_alive(store: Store, clock: ManualClock, *leases: Lease, seconds: int, **said: int) -> None:
    """Let time pass while these holders beat every 30 seconds."""
    for _ in range(seconds // 30):
        clock.advance(seconds=30)
        for lease in leases:
            assert beat(store, lease, **said) is not None


class DenialMeaning(OnManualClock):
    def test_unknown_pool(self, store: Store, clock: ManualClock) -> None:
        """What nobody has bought is denied, and the denial is recorded."""
        answer = refused(store, pool_id="lic_1:unheard-of")
        assert answer == Denied(reason=DenialReason.FEATURE_UNKNOWN, at=clock.now())
        event = news(store)[0]
        assert (event.kind, event.pool_id) == (EventKind.LEASE_DENIED, "lic_1:unheard-of")

    def test_denial_names_its_evidence(self, store: Store, clock: ManualClock) -> None:
        """A denial says when, how many, who, how silent, whose are one's own, and when to try again."""
        store.define([pool(3)])
        cid = take(store, "cid")
        clock.advance(seconds=10)
        own = take(store, "ann", "phone")
        clock.advance(seconds=10)
        bob = take(store, "bob")
        at = clock.advance(seconds=45)
        assert refused(store, "ann", "laptop") == Denied(
            reason=DenialReason.SEAT_LIMIT,
            at=at,
            limit=3,
            in_use=3,
            suspect=1,
            retry_after=5 * SECOND,  # cid has been silent for 65 of 60 + 10 seconds
            mine=(own,),
            evidence=(cid, own, bob),
        )

    def test_denial_is_recorded_with_its_evidence(self, store: Store, clock: ManualClock) -> None:
        """The event of a denial proves it: who held the seats, and how long ago each was heard."""
        store.define([pool(2, when_full=WhenFull.DENY)])
        cid = take(store, "cid")
        clock.advance(seconds=10)
        bob = take(store, "bob")
        at = clock.advance(seconds=70)
        mark = latest(store)
        refused(store, "ann", "laptop")
        (event,) = news(store, mark)
        assert (event.kind, event.at, event.pool_id) == (EventKind.LEASE_DENIED, at, POOL)
        assert (event.user_id, event.client_id, event.actor) == ("ann", "laptop", None)
        assert event.data == {
            "reason": "seat_limit",
            "limit": 2,
            "inUse": 2,
            "suspect": 2,
            "retryAfter": 10 * SECOND,
            "holders": [
                {
                    "leaseId": lease.id,
                    "userId": lease.user_id,
                    "clientId": "tab",
                    "lastBeatAgo": ago * SECOND,
                    "expiresIn": (90 - ago) * SECOND,
                }
                for lease, ago in ((cid, 80), (bob, 70))
            ],
        }

    def test_evidence_is_bounded(self, store: Store, clock: ManualClock) -> None:
        """A denial names the twenty most silent holders; its counts are complete all the same."""
        store.define([pool(30)])
        leases = []
        for i in range(30):
            leases.append(take(store, f"user-{i:02}"))
            clock.advance(seconds=1)
        answer = refused(store, "ann")
        assert (answer.limit, answer.in_use) == (30, 30)
        assert answer.evidence == tuple(leases[:20])

    def test_evidence_within_a_batch(self, store: Store) -> None:
        """Denied because of those before it in its own batch, a request is told of them."""
        store.define([pool(2)])
        answers = store.acquire([acquire("ann"), acquire("bob"), acquire("ann", "other")])
        ann, bob = granted(answers[0]), granted(answers[1])
        answer = denied(answers[2], DenialReason.SEAT_LIMIT)
        assert (answer.in_use, answer.suspect) == (2, 0)
        assert answer.evidence == tuple(sorted((ann, bob), key=lambda lease: lease.id))
        assert answer.mine == (ann,)
        assert answer.retry_after == SUSPECT_AFTER + LINGER

    def test_one_after_another_is_the_same_as_a_batch(
        self, store: Store, clock: ManualClock
    ) -> None:
        """A batch decides as its requests would be decided one by one."""
        # In each of two pools: a suspect, a seat of one's own, then five requests.
        names = ("batch", "single")
        store.define([pool(3, feature=name) for name in names])
        for name in names:
            take(store, "cid", pool_id=f"lic_1:{name}", lease_id=f"{name}-1")
        clock.advance(milliseconds=SUSPECT_AFTER + LINGER)
        requests: dict[str, list[Acquire]] = {}
        for name in names:
            where = f"lic_1:{name}"
            take(store, "ann", "old", pool_id=where, lease_id=f"{name}-2")
            requests[name] = [
                acquire("ann", "new", pool_id=where, lease_id=f"{name}-3"),
                acquire("bob", pool_id=where, lease_id=f"{name}-4"),
                acquire("cid", pool_id=where, lease_id=f"{name}-5"),
                acquire("ann", "newest", pool_id=where, lease_id=f"{name}-6", takeover=True),
                acquire("ann", "old", pool_id=where, lease_id=f"{name}-7"),
            ]
        together = store.acquire(requests["batch"])
        alone = [store.acquire([request])[0] for request in requests["single"]]
        kinds = [(type(answer), getattr(answer, "origin", None)) for answer in together]
        assert kinds == [(type(answer), getattr(answer, "origin", None)) for answer in alone]
        assert usage(store, "lic_1:batch").in_use == usage(store, "lic_1:single").in_use == 3
        told = [
            [(e.kind, e.user_id, e.client_id) for e in store.events(pool_id=f"lic_1:{name}")]
            for name in names
        ]
        assert told[0] == told[1]

    def test_suspect_keeps_its_seat_unless_needed(self, store: Store, clock: ManualClock) -> None:
        """With another seat free, nobody displaces a suspect, and its next beat restores it."""
        store.define([pool(2)])
        silent = take(store, "ann")
        clock.advance(seconds=89)
        take(store, "bob")
        assert ended_by(store, silent) is None
        assert beat(store, silent) is not None

    def test_suspect_is_safe_within_its_linger(self, store: Store, clock: ManualClock) -> None:
        """Until suspect_at + linger the seat is not taken; the denial says when it can be."""
        store.define([pool(1)])
        silent = take(store, "ann")
        clock.advance(milliseconds=SUSPECT_AFTER + LINGER - 1)
        answer = refused(store, "bob")
        assert (answer.in_use, answer.suspect, answer.retry_after) == (1, 1, 1)
        clock.advance(milliseconds=answer.retry_after)
        take(store, "bob")
        assert ended_by(store, silent) is EndReason.EVICTED
        assert beat(store, silent) is None

    def test_most_silent_suspect_goes_first(self, store: Store, clock: ManualClock) -> None:
        """Of several suspects the one heard last the longest ago loses its seat, one per need."""
        store.define([pool(3)])
        second = take(store, "ann")
        third = take(store, "bob")
        first = take(store, "cid")
        clock.advance(seconds=1)
        beat(store, second, next_in=30 * SECOND)
        clock.advance(seconds=1)
        beat(store, third)
        clock.advance(seconds=80)
        take(store, "dan")
        assert [ended_by(store, x) for x in (first, second, third)] == [
            EndReason.EVICTED,
            None,
            None,
        ]
        take(store, "eve")
        assert [ended_by(store, x) for x in (second, third)] == [EndReason.EVICTED, None]

    def test_eviction_is_told(self, store: Store, clock: ManualClock) -> None:
        """The event of an eviction says why, by whom, and how long its holder had been silent."""
        store.define([pool(1)])
        lease = take(store, "ann")
        clock.advance(seconds=75)
        mark = latest(store)
        take(store, "bob")
        evicted, acquired = news(store, mark)
        assert (evicted.kind, evicted.subject) == (EventKind.LEASE_EVICTED, lease.id)
        assert (evicted.user_id, evicted.actor) == ("ann", "system:acquire")
        assert evicted.data == {
            "reason": "evicted",
            "fence": lease.fence,
            "silentFor": 75 * SECOND,
            "heldFor": 75 * SECOND,
        }
        assert acquired.kind is EventKind.LEASE_ACQUIRED

    def test_deny_displaces_nobody(self, store: Store, clock: ManualClock) -> None:
        """Under when_full = deny a suspect keeps its seat until it expires."""
        store.define([pool(1, when_full=WhenFull.DENY)])
        silent = take(store, "ann")
        clock.advance(seconds=89)
        answer = refused(store, "bob")
        assert (answer.suspect, answer.retry_after) == (1, SECOND)
        assert ended_by(store, silent) is None
        clock.advance(seconds=1)
        take(store, "bob")

    def test_deny_still_lets_a_user_move(self, store: Store) -> None:
        """A user may take its own seat elsewhere under every policy."""
        store.define([pool(1, when_full=WhenFull.DENY)])
        old = take(store, "ann", "old")
        take(store, "ann", "new", takeover=True)
        assert ended_by(store, old) is EndReason.MOVED

    def test_idle_holder_is_evicted(self, store: Store, clock: ManualClock) -> None:
        """Under evict_idle, whoever has done nothing for idle_after loses its seat, the longest first."""
        store.define([pool(3, when_full=WhenFull.EVICT_IDLE, idle_after=IDLE_AFTER)])
        idle, idler, busy = take(store, "ann"), take(store, "bob"), take(store, "cid")
        clock.advance(seconds=30)
        beat(store, idle, idle_for=IDLE_AFTER)
        beat(store, idler, idle_for=IDLE_AFTER + 1)
        beat(store, busy, idle_for=IDLE_AFTER - 1)
        take(store, "dan")
        assert ended_by(store, idler) is EndReason.EVICTED
        assert ended_by(store, idle) is None
        take(store, "eve")
        assert ended_by(store, idle) is EndReason.EVICTED
        assert refused(store, "fay").in_use == 3
        assert ended_by(store, busy) is None

    def test_idleness_grows_between_beats(self, store: Store, clock: ManualClock) -> None:
        """Idle since an instant: time that passes without a word counts, a beat without one too."""
        store.define([pool(1, when_full=WhenFull.EVICT_IDLE, idle_after=IDLE_AFTER)])
        lease = take(store, "ann")
        beat(store, lease, idle_for=IDLE_AFTER - 30 * SECOND)
        clock.advance(milliseconds=29_999)
        beat(store, lease)
        refused(store, "bob")
        clock.advance(milliseconds=1)
        take(store, "bob")
        assert ended_by(store, lease) is EndReason.EVICTED

    def test_activity_ends_idleness(self, store: Store, clock: ManualClock) -> None:
        """A person who comes back to work keeps the seat."""
        store.define([pool(1, when_full=WhenFull.EVICT_IDLE, idle_after=IDLE_AFTER)])
        lease = take(store, "ann")
        beat(store, lease, idle_for=IDLE_AFTER)
        clock.advance(seconds=1)
        beat(store, lease, idle_for=0)
        refused(store, "bob")
        assert ended_by(store, lease) is None

    def test_suspects_go_before_idle_holders(self, store: Store, clock: ManualClock) -> None:
        """Whoever is probably gone loses its seat before anybody who is there but idle."""
        store.define([pool(2, when_full=WhenFull.EVICT_IDLE, idle_after=IDLE_AFTER)])
        silent, idle = take(store, "ann"), take(store, "bob")
        keep_alive(store, clock, idle, seconds=60, idle_for=2 * IDLE_AFTER)
        clock.advance(seconds=20)
        take(store, "cid")
        assert (ended_by(store, silent), ended_by(store, idle)) == (EndReason.EVICTED, None)

    def test_idle_holder_is_never_ended_in_vain(self, store: Store, clock: ManualClock) -> None:
        """If ending every idle holder would not free a seat, none of them is ended."""
        policy: dict[str, Any] = {"when_full": WhenFull.EVICT_IDLE, "idle_after": IDLE_AFTER}
        store.define([pool(3, **policy)])
        leases = [take(store, name) for name in ("ann", "bob", "cid")]
        beat(store, leases[0], idle_for=IDLE_AFTER)
        beat(store, leases[1], idle_for=IDLE_AFTER)
        store.define([pool(1, **policy)])
        assert refused(store, "dan").in_use == 3
        assert [ended_by(store, lease) for lease in leases] == [None, None, None]
        store.define([pool(2, **policy)])
        take(store, "dan")
        assert [ended_by(store, lease) for lease in leases] == [EndReason.EVICTED] * 2 + [None]
        assert usage(store).in_use == 2

    def test_every_suspect_goes_before_a_denial(self, store: Store, clock: ManualClock) -> None:
        """In a pool that was shrunk, no suspect keeps a seat while a living person is denied."""
        store.define([pool(3)])
        silent = [take(store, "ann"), take(store, "bob")]
        living = take(store, "cid")
        keep_alive(store, clock, living, seconds=60)
        clock.advance(seconds=20)
        store.define([pool(1)])
        answer = refused(store, "dan")
        assert (answer.limit, answer.in_use, answer.suspect) == (1, 1, 0)
        assert answer.evidence == (look_up(store, living.id),)
        assert [ended_by(store, lease) for lease in silent] == [EndReason.EVICTED] * 2

    def test_shared_seat_is_suspect_only_as_a_whole(self, store: Store, clock: ManualClock) -> None:
        """Counted by user, one client that beats keeps the seat of all the user's clients."""
        store.define([pool(1, count_by=CountBy.USER)])
        silent = take(store, "ann", "laptop")
        living = take(store, "ann", "phone")
        keep_alive(store, clock, living, seconds=60)
        clock.advance(seconds=25)
        answer = refused(store, "bob")
        assert (answer.in_use, answer.suspect) == (1, 0)
        assert answer.mine == ()
        assert ended_by(store, silent) is None

    def test_shared_seat_is_evicted_as_a_whole(self, store: Store, clock: ManualClock) -> None:
        """When all of a user's clients are silent, all of them lose the one seat."""
        store.define([pool(1, count_by=CountBy.USER)])
        leases = [take(store, "ann", "laptop"), take(store, "ann", "phone")]
        clock.advance(seconds=70)
        take(store, "bob")
        assert [ended_by(store, lease) for lease in leases] == [EndReason.EVICTED] * 2
        assert usage(store).in_use == 1

    def test_joined_seat_is_not_reclaimed_in_the_same_batch(
        self, store: Store, clock: ManualClock
    ) -> None:
        """A suspect seat that its user's new client has just joined is nobody else's to take."""
        store.define([pool(1, count_by=CountBy.USER)])
        take(store, "ann", "laptop")
        clock.advance(seconds=70)
        joined, other = store.acquire([acquire("ann", "phone"), acquire("bob")])
        granted(joined)
        denied(other, DenialReason.SEAT_LIMIT)
        assert (usage(store).in_use, usage(store).leases) == (1, 2)

    def test_touched_holder_is_not_reclaimed_in_the_same_batch(
        self, store: Store, clock: ManualClock
    ) -> None:
        """A suspect that comes back is nobody else's to take, however early in the batch."""
        store.define([pool(2)])
        first, second = take(store, "ann"), take(store, "bob")
        clock.advance(seconds=70)
        answers = store.acquire([acquire("ann"), acquire("cid"), acquire("dan")])
        assert granted(answers[0]).id == first.id
        granted(answers[1])
        assert denied(answers[2], DenialReason.SEAT_LIMIT).suspect == 0
        assert ended_by(store, second) is EndReason.EVICTED

    @pytest.mark.parametrize("how", ["never", "ended", "idle", "expired", "cut", "replaced"])
    def test_no_seat_for_a_session_that_is_gone(
        self, store: Store, clock: ManualClock, how: str
    ) -> None:
        """A seat that nothing would give back is refused, though seats are free; others are served."""
        store.define([pool(5)])
        for name in ("ended", "idle", "expired", "cut", "replaced", "live"):
            sign_in(
                store,
                name,
                name,
                idle_timeout=MINUTE if name == "idle" else DAY,
                lifetime=MINUTE if name == "expired" else DAY,
            )
        store.end(ids=["ended"])
        store.cut_off("cut")
        sign_in(store, "new", "replaced", replaces="replaced")
        clock.advance(milliseconds=MINUTE)
        mark = latest(store)
        batch = [acquire("ann", session_id=how), acquire("bob", session_id="live"), acquire("eve")]
        assert [type(answer) for answer in store.preview(batch)] == [Denied, Lease, Lease]
        answer, *others = store.acquire(batch)
        assert denied(answer, DenialReason.SESSION_GONE).evidence == ()
        assert [granted(each).session_id for each in others] == ["live", None]
        assert usage(store).in_use == 2
        (told,) = news(store, mark, EventKind.LEASE_DENIED)
        assert (told.user_id, told.data["reason"]) == ("ann", "session_gone")

    def test_no_seat_is_resumed_for_a_session_that_is_gone(self, store: Store) -> None:
        """Nor is a lease taken over, or come back to by its token, under another session's name."""
        store.define([pool(1)])
        sign_in(store)
        lease = take(store, session_id="ses_1")
        store.end(ids=["ses_1"])
        resume = Resume(lease_id=lease.id, fence=lease.fence)
        for again in (acquire(session_id="ses_1"), acquire(session_id="ses_1", resume=resume)):
            denied(store.acquire([again])[0], DenialReason.SESSION_GONE)
