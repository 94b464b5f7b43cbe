"""What acquiring and releasing mean: whose seat it is."""

from __future__ import annotations

import pytest

from sojourn.clock import MINUTE, SECOND, ManualClock
from sojourn.device import Device
from sojourn.lease import (
    DenialReason,
    EndReason,
    Lease,
    LeaseFilter,
    LeaseState,
    Origin,
    Release,
    Resume,
)
from sojourn.license import CountBy, Policy, WhenFull
from sojourn.store import Store
from sojourn.testing.builders import (
    OPERATOR,
    POOL,
    acquire,
    beat,
    denied,
    give_back,
    granted,
    look_up,
    pool,
    refused,
    sign_in,
    take,
    usage,
)
from sojourn.testing.contract.base import OnManualClock, exact_pairs, own_id

LOST_AFTER = Policy(capacity=1).lost_after
WINDOW = Policy(capacity=1).resume_window


class SeatMeaning(OnManualClock):
    def test_granted_lease(self, store: Store, clock: ManualClock) -> None:
        """A new lease has the caller's id, the pool's first fence, and times by the policy."""
        store.define([pool(1)])
        sign_in(store)
        device = Device(browser="Chrome 150", os="Windows")
        lease = take(store, lease_id="lea_mine", session_id="ses_1", device=device)
        now = clock.now()
        assert lease == Lease(
            id="lea_mine",
            pool_id=POOL,
            user_id="ann",
            client_id="tab",
            fence=1,
            acquired_at=now,
            last_beat_at=now,
            suspect_at=now + 60 * SECOND,
            expires_at=now + 90 * SECOND,
            origin=Origin.GRANTED,
            session_id="ses_1",
            device=device,
        )
        assert look_up(store, "lea_mine") == lease

    def test_capacity_is_the_limit(self, store: Store) -> None:
        """As many holders as the capacity get a seat, and no more."""
        store.define([pool(3)])
        answers = store.acquire([acquire(f"user-{i}") for i in range(5)])
        assert [isinstance(answer, Lease) for answer in answers] == [True] * 3 + [False] * 2
        assert usage(store).in_use == 3

    def test_expired_lease_frees_its_seat_by_itself(self, store: Store, clock: ManualClock) -> None:
        """Without any sweep, a silent holder's seat is free at the instant its lease expires."""
        store.define([pool(1, when_full=WhenFull.DENY)])
        lease = take(store, "ann")
        clock.advance(milliseconds=LOST_AFTER - 1)
        assert refused(store, "bob").in_use == 1
        clock.advance(milliseconds=1)
        assert take(store, "bob").fence > lease.fence
        assert usage(store).in_use == 1

    def test_same_holder_keeps_its_seat(self, store: Store, clock: ManualClock) -> None:
        """The same user and client again: same lease, same seat, new fence, full time."""
        store.define([pool(1)])
        first = take(store, lease_id="lea_first")
        sign_in(store, "ses_9")
        now = clock.advance(seconds=20)
        second = take(store, lease_id="lea_second", session_id="ses_9")
        assert second.id == "lea_first"
        assert second.fence > first.fence
        assert second.origin is Origin.TAKEN_OVER
        assert second.acquired_at == first.acquired_at
        assert (second.last_beat_at, second.expires_at) == (now, now + LOST_AFTER)
        assert second.session_id == "ses_9"
        assert (usage(store).in_use, usage(store).leases) == (1, 1)

    def test_takeover_cuts_the_old_fence_off(self, store: Store, clock: ManualClock) -> None:
        """After a takeover the old fence neither renews nor releases, and the new one does."""
        store.define([pool(1)])
        old = take(store)
        new = take(store)
        clock.advance(seconds=10)
        assert beat(store, old) is None
        assert give_back(store, old) is False
        assert usage(store).in_use == 1
        assert look_up(store, new.id) == new
        assert beat(store, new) is not None
        assert give_back(store, new) is True

    def test_release_frees_the_seat(self, store: Store, clock: ManualClock) -> None:
        """A released seat is free at once; the lease is ended, by its holder, now."""
        store.define([pool(1)])
        lease = take(store, "ann")
        at = clock.advance(seconds=1)
        assert give_back(store, lease) is True
        ended = look_up(store, lease.id)
        assert ended is not None
        assert (ended.ended_at, ended.end_reason) == (at, EndReason.RELEASED)
        assert ended.state(at) is LeaseState.ENDED
        assert beat(store, lease) is None
        take(store, "bob")

    def test_release_happens_once(self, store: Store) -> None:
        """Releasing again, or what is not known, answers False; a batch answers in its order."""
        store.define([pool(3)])
        one, two = take(store, "ann"), take(store, "bob")
        batch = [
            Release(lease_id="unknown", fence=1),
            Release(lease_id=one.id, fence=one.fence),
            Release(lease_id=two.id, fence=two.fence + 1),
            Release(lease_id=one.id, fence=one.fence),
            Release(lease_id=two.id, fence=two.fence),
        ]
        assert store.release(batch) == [False, True, False, False, True]
        assert store.release([]) == []

    def test_late_release_frees_nobody_elses_seat(self, store: Store, clock: ManualClock) -> None:
        """A release that comes after expiry leaves the next holder alone."""
        store.define([pool(1)])
        late = take(store, "ann")
        clock.advance(milliseconds=LOST_AFTER)
        next_one = take(store, "bob")
        assert give_back(store, late) is False
        assert look_up(store, next_one.id) == next_one
        assert usage(store).in_use == 1

    def test_fences_grow(self, store: Store, clock: ManualClock) -> None:
        """Every grant of a pool has a higher fence than all before, whoever it is for, and how."""
        store.define([pool(2)])
        fences = [take(store, "ann").fence, take(store, "bob").fence, take(store, "ann").fence]
        give_back(store, take(store, "ann"))
        fences.append(take(store, "cid").fence)
        clock.advance(milliseconds=LOST_AFTER)
        fences.append(take(store, "bob").fence)
        assert fences == sorted(set(fences))

    def test_resume_within_the_window(self, store: Store, clock: ManualClock) -> None:
        """A holder that was lost comes back to its lease: same id, new fence, same beginning."""
        store.define([pool(1)])
        first = take(store)
        now = clock.advance(milliseconds=LOST_AFTER + WINDOW)
        back = take(store)
        assert (back.id, back.origin) == (first.id, Origin.RESUMED)
        assert back.fence > first.fence
        assert (back.acquired_at, back.last_beat_at) == (first.acquired_at, now)
        assert back.ended_at is None
        assert back.end_reason is None
        assert beat(store, first) is None

    def test_no_resume_after_the_window(self, store: Store, clock: ManualClock) -> None:
        """A millisecond later it gets a new lease, and the old one is forgotten."""
        store.define([pool(1)])
        first = take(store)
        now = clock.advance(milliseconds=LOST_AFTER + WINDOW + 1)
        back = take(store, lease_id="lea_new")
        assert (back.id, back.origin, back.acquired_at) == ("lea_new", Origin.GRANTED, now)
        assert look_up(store, first.id) is None

    def test_swept_lease_is_resumed_too(self, store: Store, clock: ManualClock) -> None:
        """Housekeeping between loss and return changes nothing: the window runs from the expiry."""
        store.define([pool(1)])
        first = take(store)
        clock.advance(milliseconds=LOST_AFTER + WINDOW)
        assert store.sweep().leases_expired == 1
        assert take(store).id == first.id
        clock.advance(milliseconds=LOST_AFTER + WINDOW + 1)
        assert store.sweep().leases_expired == 1
        assert take(store).id != first.id

    def test_resume_needs_a_free_seat(self, store: Store, clock: ManualClock) -> None:
        """Whoever comes back to a full pool is denied, and may try again within the window."""
        store.define([pool(1)])
        first = take(store, "ann")
        clock.advance(milliseconds=LOST_AFTER)
        bob = take(store, "bob")
        assert refused(store, "ann").in_use == 1
        give_back(store, bob)
        assert take(store, "ann").id == first.id

    def test_no_resume_of_what_was_ended_on_purpose(self, store: Store) -> None:
        """A lease that was released or revoked is over: its holder gets a new one."""
        store.define([pool(2)])
        released, revoked = take(store, "ann"), take(store, "bob")
        give_back(store, released)
        store.revoke(LeaseFilter(user_id="bob"), OPERATOR)
        for user_id, lease in (("ann", released), ("bob", revoked)):
            again = take(store, user_id)
            assert again.id != lease.id
            assert again.origin is Origin.GRANTED
            assert again.fence > lease.fence
            assert beat(store, lease) is None

    def test_evicted_holder_may_resume(self, store: Store, clock: ManualClock) -> None:
        """Who lost its seat to somebody else, silent, comes back to its lease when there is room."""
        store.define([pool(1)])
        first = take(store, "ann")
        clock.advance(seconds=70)
        bob = take(store, "bob")
        give_back(store, bob)
        back = take(store, "ann")
        assert (back.id, back.origin) == (first.id, Origin.RESUMED)

    def test_resume_by_token(self, store: Store, clock: ManualClock) -> None:
        """An old lease token of the present fence gets its lease back, live or lost."""
        store.define([pool(1)])
        first = take(store)
        taken = take(store, resume=Resume(lease_id=first.id, fence=first.fence))
        assert (taken.id, taken.origin) == (first.id, Origin.TAKEN_OVER)
        clock.advance(milliseconds=LOST_AFTER)
        back = take(store, resume=Resume(lease_id=first.id, fence=taken.fence))
        assert (back.id, back.origin) == (first.id, Origin.RESUMED)

    def test_superseded_token_is_refused(self, store: Store, clock: ManualClock) -> None:
        """A token whose fence is no longer the present one may not push its successor out."""
        store.define([pool(2)])
        old = take(store)
        new = take(store)
        resume = Resume(lease_id=old.id, fence=old.fence)
        assert refused(store, resume=resume).reason is DenialReason.LEASE_ENDED
        clock.advance(milliseconds=LOST_AFTER)
        assert refused(store, resume=resume).reason is DenialReason.LEASE_ENDED
        assert look_up(store, new.id) == new

    @pytest.mark.parametrize("how", ["released", "revoked", "window over"])
    def test_token_of_an_ended_lease_is_refused(
        self, store: Store, clock: ManualClock, how: str
    ) -> None:
        """A token proves nothing once its lease was ended on purpose, or lost too long ago."""
        store.define([pool(2)])
        lease = take(store)
        if how == "released":
            give_back(store, lease)
        elif how == "revoked":
            store.revoke(LeaseFilter(user_id="ann"), OPERATOR)
        else:
            clock.advance(milliseconds=LOST_AFTER + WINDOW + 1)
        resume = Resume(lease_id=lease.id, fence=lease.fence)
        assert refused(store, resume=resume).reason is DenialReason.LEASE_ENDED
        assert usage(store).in_use == 0

    def test_token_of_a_lost_row_is_re_admitted(self, store: Store) -> None:
        """If the store lost the lease, its token alone brings it back, and fences go on from there."""
        store.define([pool(2)])
        back = take(store, resume=Resume(lease_id="lea_lost", fence=41))
        assert (back.id, back.fence) == ("lea_lost", 42)
        assert take(store, "bob").fence == 43

    def test_token_of_a_lost_row_needs_a_seat(self, store: Store) -> None:
        """Re-admission never exceeds the capacity."""
        store.define([pool(1)])
        take(store, "bob")
        resume = Resume(lease_id="lea_lost", fence=41)
        assert refused(store, resume=resume).reason is DenialReason.SEAT_LIMIT

    def test_token_newer_than_its_row_is_re_admitted(self, store: Store) -> None:
        """A store that came back from a backup finds an older fence: the token's word counts."""
        store.define([pool(1)])
        restored = take(store)
        back = take(store, resume=Resume(lease_id=restored.id, fence=restored.fence + 10))
        assert (back.id, back.fence) == (restored.id, restored.fence + 11)

    def test_takeover_moves_ones_own_seat(self, store: Store, clock: ManualClock) -> None:
        """In a full pool a user may ask for the seat of its own most silent client."""
        store.define([pool(3)])
        other = take(store, "bob", "phone")
        clock.advance(seconds=1)
        silent = take(store, "ann", "old")
        clock.advance(seconds=1)
        recent = take(store, "ann", "newer")
        assert refused(store, "ann", "new").reason is DenialReason.SEAT_LIMIT
        moved = take(store, "ann", "new", takeover=True)
        assert moved.origin is Origin.GRANTED
        ended = look_up(store, silent.id)
        assert ended is not None
        assert ended.end_reason is EndReason.MOVED
        assert look_up(store, other.id) == other
        assert look_up(store, recent.id) == recent
        assert usage(store).in_use == 3

    def test_takeover_takes_nothing_unless_needed(self, store: Store) -> None:
        """With a seat free, a takeover ends nothing; without a seat of one's own, it is denied."""
        store.define([pool(2)])
        one = take(store, "ann", "old")
        two = take(store, "ann", "new", takeover=True)
        assert (look_up(store, one.id), look_up(store, two.id)) == (one, two)
        assert refused(store, "bob", takeover=True).reason is DenialReason.SEAT_LIMIT

    def test_moved_holder_may_not_resume(self, store: Store) -> None:
        """Whose seat its own user took elsewhere has to ask for a new lease."""
        store.define([pool(1)])
        old = take(store, "ann", "old")
        new = take(store, "ann", "new", takeover=True)
        resume = Resume(lease_id=old.id, fence=old.fence)
        assert refused(store, "ann", "old", resume=resume).reason is DenialReason.LEASE_ENDED
        give_back(store, new)
        assert take(store, "ann", "old").id != old.id

    def test_batch_is_decided_in_order(self, store: Store) -> None:
        """Requests of a batch see what those before them got, across pools, and answer in order."""
        store.define([pool(1), pool(1, feature="viewer")])
        answers = store.acquire(
            [
                acquire("ann", lease_id="one"),
                acquire("bob", pool_id="lic_1:viewer"),
                acquire("bob"),
                acquire("ann", lease_id="two"),
                acquire("bob", pool_id="lic_1:viewer"),
                acquire("cid", pool_id="lic_1:nothing"),
            ]
        )
        first, viewer, no, again, same, unknown = answers
        assert granted(again).id == granted(first).id == "one"
        assert granted(again).fence > granted(first).fence
        assert granted(again).origin is Origin.TAKEN_OVER
        assert granted(same).id == granted(viewer).id
        assert denied(no, DenialReason.SEAT_LIMIT).in_use == 1
        denied(unknown, DenialReason.FEATURE_UNKNOWN)
        assert beat(store, granted(first)) is None
        assert beat(store, granted(again)) is not None
        assert store.acquire([]) == []

    def test_duplicates_in_a_batch_hold_one_seat(self, store: Store) -> None:
        """A request sent many times in one batch holds one seat, under its last fence."""
        store.define([pool(5)])
        request = acquire("ann", lease_id="one")
        leases = [granted(answer) for answer in store.acquire([request] * 10)]
        assert {lease.id for lease in leases} == {"one"}
        assert [lease.fence for lease in leases] == list(range(1, 11))
        assert (usage(store).in_use, usage(store).leases) == (1, 1)
        assert look_up(store, "one") == leases[-1]

    def test_preview_is_what_acquire_answers(self, store: Store, clock: ManualClock) -> None:
        """A preview answers as acquire would, in order, and then acquire still answers so."""
        store.define([pool(2)])
        take(store, "ann")
        clock.advance(seconds=75)
        take(store, "bob")
        requests = [
            acquire("cid"),
            acquire("bob"),
            acquire("dan"),
            acquire("bob", "new", takeover=True),
            acquire("eve", pool_id="lic_1:unknown"),
        ]
        previewed = store.preview(requests)
        assert store.preview(requests) == previewed
        assert store.acquire(requests) == previewed
        assert store.preview([]) == []

    def test_preview_changes_nothing(self, store: Store, clock: ManualClock) -> None:
        """Neither leases nor fences nor events nor the pulse know of a preview."""
        store.define([pool(1)])
        store.pulse()
        lease = take(store, "ann")
        clock.advance(seconds=75)
        before = store.events()
        answers = store.preview([acquire("bob"), acquire("cid")])
        assert denied(answers[0]).in_use == denied(answers[1]).in_use == 1  # grace: a long pause
        assert store.events() == before
        assert look_up(store, lease.id) == lease
        assert store.pulse() is not None
        clock.advance(seconds=75)
        store.pulse()
        assert granted(store.preview([acquire("bob")])[0]).fence == lease.fence + 1
        assert beat(store, lease) is not None
        assert take(store, "ann").fence == lease.fence + 1

    @exact_pairs
    def test_holders_are_byte_exact(self, store: Store, one: str, other: str) -> None:
        """Users, clients and leases whose ids differ in one byte are different holders."""
        store.define([pool(10)])
        by_user = [take(store, user_id, lease_id=own_id(user_id)) for user_id in (one, other)]
        by_client = [take(store, "max", client_id) for client_id in (one, other)]
        assert len({lease.id for lease in by_user + by_client}) == 4
        assert usage(store).in_use == 4
        assert store.leases(LeaseFilter(user_id=one))[0] == [by_user[0]]
        assert store.leases(LeaseFilter(client_id=other))[0] == [by_client[1]]
        assert store.leases(LeaseFilter(ids=(own_id(other),)))[0] == [by_user[1]]
        assert give_back(store, by_user[1]) is True
        assert look_up(store, by_user[0].id) == by_user[0]

    @exact_pairs
    def test_shared_seats_are_byte_exact(self, store: Store, one: str, other: str) -> None:
        """Counted by user, two users whose ids differ in one byte take two seats."""
        store.define([pool(2, count_by=CountBy.USER)])
        take(store, one)
        take(store, other)
        assert usage(store).in_use == 2

    def test_user_and_client_never_run_together(self, store: Store) -> None:
        """Where one id ends and the other begins is part of who the holder is."""
        store.define([pool(5)])
        leases = [take(store, "ab", "c"), take(store, "a", "bc"), take(store, "1:a", "bc")]
        assert len({lease.id for lease in leases}) == usage(store).in_use == 3

    def test_max_lease_ends_the_best_holder(self, store: Store, clock: ManualClock) -> None:
        """However well it beats, a lease lives no longer than max_lease, and is not resumed then."""
        store.define([pool(1, max_lease=2 * MINUTE)])
        lease = take(store)
        clock.advance(seconds=60)
        renewed = beat(store, lease)
        assert renewed is not None
        assert renewed.expires_in == 60 * SECOND
        clock.advance(milliseconds=59_999)
        assert beat(store, lease) is not None
        assert take(store).expires_at == lease.acquired_at + 2 * MINUTE
        clock.advance(milliseconds=1)
        again = take(store)
        assert (again.id != lease.id, again.origin) == (True, Origin.GRANTED)

    def test_takeover_under_a_shorter_max_lease_keeps_what_is_left(
        self, store: Store, clock: ManualClock
    ) -> None:
        """Who comes again just before the new time is over has no less of its lease than before."""
        store.define([pool(1)])
        lease = take(store)
        clock.advance(seconds=40)
        assert beat(store, lease) is not None
        clock.advance(seconds=9)
        store.define([pool(1, max_lease=50 * SECOND)])
        had = look_up(store, lease.id)
        assert had is not None
        assert had.expires_at > clock.now() + SECOND
        again = take(store)
        assert (again.id, again.expires_at) == (lease.id, had.expires_at)

    def test_shorter_max_lease_ends_no_living_lease(self, store: Store, clock: ManualClock) -> None:
        """A policy that becomes shorter lets a lease of who beats run out; a takeover meanwhile is one."""
        store.define([pool(1)])
        lease = take(store)
        now = clock.advance(seconds=60)
        assert beat(store, lease) is not None
        store.define([pool(1, max_lease=MINUTE)])
        again = take(store)
        assert (again.id, again.expires_at) == (lease.id, now + 30 * SECOND)
