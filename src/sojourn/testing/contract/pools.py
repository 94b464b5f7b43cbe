"""What pools mean: their policy, their license, their seats in use."""

from __future__ import annotations

import pytest

from sojourn.clock import SECOND, ManualClock
from sojourn.event import EventKind
from sojourn.lease import DenialReason, EndReason, LeaseFilter, Usage
from sojourn.license import CountBy, LicenseStatus, Policy, Pool, Reservation, WhenFull
from sojourn.store import Action, Store
from sojourn.testing.builders import (
    OPERATOR,
    POOL,
    acquire,
    beat,
    give_back,
    granted,
    latest,
    look_up,
    news,
    pool,
    refused,
    take,
    usage,
)
from sojourn.testing.contract.base import OnManualClock

EVERYTHING = Pool(
    license_id="lic_9",
    feature="A.b_c-9",
    policy=Policy(
        capacity=7,
        heartbeat_interval=20 * SECOND,
        lost_after=70 * SECOND,
        suspect_after=30 * SECOND,
        linger=0,
        resume_window=0,
        count_by=CountBy.CLIENT,
        when_full=WhenFull.EVICT_IDLE,
        idle_after=100 * SECOND,
        max_lease=1_000 * SECOND,
        overdraft=3,
        reservations=(
            Reservation(name="ours", seats=2, users=("ann", "bob"), groups=("staff",)),
            Reservation(name="desks", seats=4, kinds=("desktop",)),
        ),
    ),
    status=LicenseStatus.SUSPENDED,
    valid_from=1,
    valid_until=2,
)


class PoolMeaning(OnManualClock):
    def test_pool_is_kept_whole(self, store: Store) -> None:
        """Every field of a pool and its policy is kept, and replaced by the next definition."""
        plain = pool(1)
        store.define([EVERYTHING, plain])
        asked = [plain.id, "lic_9:unknown", EVERYTHING.id, plain.id]
        assert store.pools(asked) == [plain, None, EVERYTHING, plain]
        replaced = pool(3, license_id="lic_9", feature="A.b_c-9")
        store.define([replaced])
        assert store.pools([EVERYTHING.id]) == [replaced]
        store.define([])
        assert store.pools([]) == []

    def test_pool_ids_are_byte_exact(self, store: Store) -> None:
        """Features that differ in case are different pools."""
        store.define([pool(1, feature="Editor"), pool(2, feature="editor")])
        assert [p and p.policy.capacity for p in store.pools(["lic_1:Editor", POOL])] == [1, 2]
        take(store, pool_id="lic_1:Editor")
        assert usage(store).in_use == 0

    def test_redefining_keeps_leases_and_fence(self, store: Store, clock: ManualClock) -> None:
        """A new policy ends nobody, and the next grant's fence goes on from the last."""
        store.define([pool(2)])
        lease = take(store, "ann")
        store.define([pool(2, linger=0)])
        assert look_up(store, lease.id) == lease
        assert take(store, "bob").fence == lease.fence + 1

    def test_shrinking_evicts_nobody(self, store: Store) -> None:
        """Below the seats in use, everybody stays and beats on, and nobody new gets in."""
        store.define([pool(3)])
        leases = [take(store, name) for name in ("ann", "bob", "cid")]
        store.define([pool(1)])
        assert (usage(store).in_use, usage(store).capacity) == (3, 1)
        assert all(beat(store, lease) is not None for lease in leases)
        assert refused(store, "dan").in_use == 3
        assert take(store, "ann").id == leases[0].id
        for lease in (take(store, "ann"), leases[1]):
            give_back(store, lease)
            assert refused(store, "dan").limit == 1
        give_back(store, leases[2])
        take(store, "dan")

    def test_no_capacity(self, store: Store) -> None:
        """A pool of no seats denies everybody, and says so."""
        store.define([pool(0)])
        answer = refused(store)
        assert (answer.reason, answer.limit, answer.in_use) == (DenialReason.SEAT_LIMIT, 0, 0)
        assert answer.retry_after == 0

    def test_growing_opens_seats(self, store: Store) -> None:
        """More capacity counts at once."""
        store.define([pool(1)])
        take(store, "ann")
        refused(store, "bob")
        store.define([pool(2)])
        take(store, "bob")

    def test_suspended_license(self, store: Store) -> None:
        """A suspended license grants nothing and takes nothing over; its leases live on as they are."""
        store.define([pool(2)])
        lease = take(store, "ann")
        store.define([pool(2, status=LicenseStatus.SUSPENDED)])
        for user_id in ("ann", "bob"):
            answer = refused(store, user_id)
            assert (answer.reason, answer.limit) == (DenialReason.LICENSE_SUSPENDED, 2)
        assert look_up(store, lease.id) == lease
        store.define([pool(2)])
        assert take(store, "ann").id == lease.id

    def test_license_dates_to_the_millisecond(self, store: Store, clock: ManualClock) -> None:
        """A license counts from valid_from on and up to, but not at, valid_until."""
        now = clock.now()
        store.define([pool(2, valid_from=now + 10, valid_until=now + 20)])
        for wait, reason in (
            (9, DenialReason.LICENSE_NOT_YET_VALID),
            (1, None),
            (9, None),
            (1, DenialReason.LICENSE_EXPIRED),
        ):
            clock.advance(milliseconds=wait)
            if reason is None:
                take(store)
            else:
                assert refused(store).reason is reason

    def test_give_back_under_a_suspended_license(self, store: Store) -> None:
        """Giving a seat back is always possible."""
        store.define([pool(1)])
        lease = take(store)
        store.define([pool(1, status=LicenseStatus.SUSPENDED)])
        assert give_back(store, lease) is True

    @pytest.mark.parametrize(
        ("count_by", "seats"), [(CountBy.USER, 2), (CountBy.CLIENT, 3), (CountBy.LEASE, 4)]
    )
    def test_what_counts_as_a_seat(self, store: Store, count_by: CountBy, seats: int) -> None:
        """Leases of one user, or of one client, share a seat where the policy says so."""
        store.define([pool(seats, count_by=count_by)])
        holders = [("ann", "one"), ("ann", "two"), ("bob", "one"), ("bob", "three")]
        for user_id, client_id in holders:
            take(store, user_id, client_id)
        assert (usage(store).in_use, usage(store).leases) == (seats, 4)
        assert refused(store, "cid", "four").in_use == seats

    @pytest.mark.parametrize("count_by", [CountBy.USER, CountBy.CLIENT])
    def test_shared_seat_is_free_with_its_last_lease(self, store: Store, count_by: CountBy) -> None:
        """A shared seat is in use until the last of its leases is given back."""
        store.define([pool(1, count_by=count_by)])
        others = {CountBy.USER: ("ann", "two"), CountBy.CLIENT: ("bob", "one")}
        leases = [take(store, "ann", "one"), take(store, *others[count_by])]
        give_back(store, leases[0])
        assert refused(store, "cid", "three").in_use == 1
        give_back(store, leases[1])
        take(store, "cid", "three")

    def test_sharing_needs_no_free_seat(self, store: Store) -> None:
        """In a full pool, or one that was shrunk, another client of the same user still gets in."""
        store.define([pool(2, count_by=CountBy.USER)])
        take(store, "ann", "one")
        take(store, "bob", "one")
        store.define([pool(1, count_by=CountBy.USER)])
        take(store, "ann", "two")
        assert usage(store).in_use == 2

    def test_expired_lease_shares_nothing(self, store: Store, clock: ManualClock) -> None:
        """A seat whose leases have all expired must be taken anew."""
        store.define([pool(1, count_by=CountBy.USER)])
        take(store, "ann", "one")
        clock.advance(seconds=90)
        take(store, "bob", "one")
        assert refused(store, "ann", "two").in_use == 1

    def test_sharing_within_a_batch(self, store: Store) -> None:
        """Counted by user, a batch of one user's clients takes one seat."""
        store.define([pool(1, count_by=CountBy.USER)])
        answers = store.acquire([acquire("ann", f"tab-{i}") for i in range(3)])
        assert [granted(answer).fence for answer in answers] == [1, 2, 3]
        assert (usage(store).in_use, usage(store).leases) == (1, 3)

    def test_usage(self, store: Store, clock: ManualClock) -> None:
        """Usage counts live seats, and how many of them are suspect, now; unknown pools are None."""
        store.define([pool(5), pool(5, feature="viewer", count_by=CountBy.USER)])
        for user_id, client_id in (("ann", "one"), ("ann", "two"), ("bob", "one")):
            take(store, user_id, client_id)
            take(store, user_id, client_id, pool_id="lic_1:viewer")
        clock.advance(seconds=60)
        take(store, "ann", "two")
        now = clock.now()
        take(store, "ann", "two", pool_id="lic_1:viewer")
        assert store.usage(["lic_1:viewer", "lic_1:unknown", POOL]) == [
            Usage(pool_id="lic_1:viewer", capacity=5, in_use=2, suspect=1, leases=3, at=now),
            None,
            Usage(pool_id=POOL, capacity=5, in_use=3, suspect=2, leases=3, at=now),
        ]
        now = clock.advance(seconds=30)
        assert store.usage([POOL]) == [
            Usage(pool_id=POOL, capacity=5, in_use=1, suspect=0, leases=1, at=now)
        ]
        assert store.usage([]) == []

    def test_drop_revokes_and_removes(self, store: Store, clock: ManualClock) -> None:
        """Dropping a pool revokes its live leases, tells of them, and leaves the feature unknown."""
        store.define([pool(5), pool(5, feature="viewer")])
        live, given_back = take(store, "ann"), take(store, "bob")
        other = take(store, "ann", pool_id="lic_1:viewer")
        give_back(store, given_back)
        mark = latest(store)
        action = Action(actor="key:ops", name="feature_removed", data={"ticket": 7})
        assert store.drop([POOL, "lic_1:unknown"], action) == 1
        assert store.pools([POOL, "lic_1:viewer"]) == [None, pool(5, feature="viewer")]
        assert refused(store, "ann").reason is DenialReason.FEATURE_UNKNOWN
        assert store.usage([POOL]) == [None]
        assert beat(store, live) is None
        assert look_up(store, other.id) == other
        revoked, acted, _ = news(store, mark)
        assert (revoked.kind, revoked.subject) == (EventKind.LEASE_REVOKED, live.id)
        assert revoked.actor == acted.actor == "key:ops"
        assert acted.kind is EventKind.OPERATOR_ACTED
        assert (acted.data["name"], acted.data["ticket"]) == ("feature_removed", 7)
        assert acted.data["ended"] == 1
        assert store.drop([POOL], action) == 0

    def test_dropped_pool_may_come_back(self, store: Store) -> None:
        """Defined again, a pool starts empty, its fences go on, and what it had revoked stays so."""
        store.define([pool(1)])
        old = take(store, "ann")
        store.drop([POOL], OPERATOR)
        store.define([pool(1)])
        assert usage(store).in_use == 0
        assert beat(store, old) is None
        again = take(store, "ann")
        assert again.id != old.id
        assert again.fence > old.fence

    def test_revoke_by_filter(self, store: Store, clock: ManualClock) -> None:
        """Revoking ends the live leases that match, once, and answers them as they now are."""
        store.define([pool(9), pool(9, feature="viewer")])
        mine = [
            take(store, "ann", "one", lease_id="a"),
            take(store, "ann", "two", lease_id="b", pool_id="lic_1:viewer"),
        ]
        bob = take(store, "bob", lease_id="c")
        gone = take(store, "ann", "three", lease_id="d")
        give_back(store, gone)
        at = clock.advance(seconds=1)
        which = LeaseFilter(license_id="lic_1", user_id="ann")
        ended = store.revoke(which, OPERATOR)
        assert [lease.id for lease in ended] == [lease.id for lease in mine]
        assert {(lease.ended_at, lease.end_reason) for lease in ended} == {(at, EndReason.REVOKED)}
        assert [look_up(store, lease.id) for lease in mine] == ended
        assert [beat(store, lease) for lease in mine] == [None, None]
        assert look_up(store, bob.id) == bob
        assert store.revoke(which, OPERATOR) == []

    def test_revoke_is_told(self, store: Store) -> None:
        """Each ended lease and the operator's act are told, the act even if nothing matched."""
        store.define([pool(9)])
        lease = take(store, "ann")
        mark = latest(store)
        which = LeaseFilter(license_id="lic_1", user_id="ann", feature="editor")
        action = Action(actor="key:ops", name="force_cleanup", data={"reason": "ghost"})
        store.revoke(which, action)
        store.revoke(which, action)
        revoked, acted, again = news(store, mark)
        assert (revoked.kind, revoked.subject) == (EventKind.LEASE_REVOKED, lease.id)
        assert (revoked.actor, revoked.data["reason"]) == ("key:ops", "revoked")
        for event, ended in ((acted, 1), (again, 0)):
            assert (event.kind, event.actor) == (EventKind.OPERATOR_ACTED, "key:ops")
            assert event.data == {
                "name": "force_cleanup",
                "filter": {"license_id": "lic_1", "feature": "editor", "user_id": "ann"},
                "ended": ended,
                "reason": "ghost",
            }

    def test_revoke_suspects_only(self, store: Store, clock: ManualClock) -> None:
        """On request, those that keep beating stay."""
        store.define([pool(9)])
        silent, living = take(store, "ann"), take(store, "bob")
        clock.advance(seconds=59)
        beat(store, living)
        assert store.revoke(LeaseFilter(), OPERATOR, suspects_only=True) == []
        clock.advance(seconds=1)
        ended = store.revoke(LeaseFilter(), OPERATOR, suspects_only=True)
        assert [lease.id for lease in ended] == [silent.id]
        assert beat(store, living) is not None
