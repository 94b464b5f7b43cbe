"""What renewing means: heartbeats, goodbyes, and the list of leases."""

from __future__ import annotations

import pytest

from sojourn.clock import SECOND, ManualClock
from sojourn.event import SWEEP_LICENSE
from sojourn.lease import Beat, LeaseFilter, LeaseState, Renew, Renewal
from sojourn.license import LicenseStatus
from sojourn.store import Store
from sojourn.testing.builders import (
    OPERATOR,
    acquire,
    beat,
    give_back,
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

LOST_AFTER = 90 * SECOND
LINGER = 10 * SECOND


class LeaseMeaning(OnManualClock):
    def test_beat_gives_full_time(self, store: Store, clock: ManualClock) -> None:
        """A beat puts expiry off to lost_after from now, and suspicion to suspect_after."""
        store.define([pool(1)])
        lease = take(store)
        now = clock.advance(seconds=30)
        assert beat(store, lease) == Renewal(expires_in=LOST_AFTER, state=LeaseState.ACTIVE)
        renewed = look_up(store, lease.id)
        assert renewed is not None
        assert (renewed.last_beat_at, renewed.suspect_at) == (now, now + 60 * SECOND)
        assert renewed.expires_at == now + LOST_AFTER
        assert (renewed.fence, renewed.origin) == (lease.fence, lease.origin)

    def test_beat_restores_a_suspect(self, store: Store, clock: ManualClock) -> None:
        """A suspect that beats is active again."""
        store.define([pool(1)])
        lease = take(store)
        now = clock.advance(seconds=60)
        assert lease.state(now) is LeaseState.SUSPECT
        assert usage(store).suspect == 1
        assert beat(store, lease) == Renewal(expires_in=LOST_AFTER)
        assert usage(store).suspect == 0

    def test_beat_never_revives(self, store: Store, clock: ManualClock) -> None:
        """A beat at the instant of expiry, or after, is too late: the seat stays free."""
        store.define([pool(1)])
        lease = take(store)
        clock.advance(milliseconds=LOST_AFTER)
        assert beat(store, lease) is None
        assert usage(store).in_use == 0
        take(store, "bob")
        assert beat(store, lease) is None
        assert usage(store).in_use == 1

    def test_beat_in_the_last_millisecond(self, store: Store, clock: ManualClock) -> None:
        """A beat one millisecond before expiry still counts."""
        store.define([pool(1)])
        lease = take(store)
        clock.advance(milliseconds=LOST_AFTER - 1)
        assert beat(store, lease) == Renewal(expires_in=LOST_AFTER)

    @pytest.mark.parametrize("fence", [-1, 1, 1_000_000])
    def test_beat_needs_the_present_fence(self, store: Store, fence: int) -> None:
        """Neither an older nor a newer fence renews."""
        store.define([pool(1)])
        lease = take(store)
        assert store.renew([Renew(lease_id=lease.id, fence=lease.fence + fence)]) == [None]
        assert look_up(store, lease.id) == lease

    def test_beats_answer_in_order(self, store: Store, clock: ManualClock) -> None:
        """A batch answers in its order: each beat counts on its own, twice the same one too."""
        store.define([pool(3)])
        one, two, ended = take(store, "ann"), take(store, "bob"), take(store, "cid")
        give_back(store, ended)
        clock.advance(seconds=10)
        batch = [
            Renew(lease_id=two.id, fence=two.fence),
            Renew(lease_id="unknown", fence=1),
            Renew(lease_id=one.id, fence=one.fence + 5),
            Renew(lease_id=ended.id, fence=ended.fence),
            Renew(lease_id=one.id, fence=one.fence, beat=Beat(closing=True)),
            Renew(lease_id=two.id, fence=two.fence),
        ]
        full = Renewal(expires_in=LOST_AFTER)
        closing = Renewal(expires_in=LINGER, state=LeaseState.SUSPECT)
        assert store.renew(batch) == [full, None, None, None, closing, full]
        assert store.renew([]) == []

    def test_two_beats_of_one_lease_in_a_batch(self, store: Store, clock: ManualClock) -> None:
        """A goodbye and a beat in one batch count in their order: the later word holds."""
        store.define([pool(2)])
        back, away = take(store, "ann"), take(store, "bob")
        clock.advance(seconds=1)
        bye = Beat(closing=True)
        answers = store.renew(
            [
                Renew(lease_id=back.id, fence=back.fence, beat=bye),
                Renew(lease_id=away.id, fence=away.fence),
                Renew(lease_id=back.id, fence=back.fence),
                Renew(lease_id=away.id, fence=away.fence, beat=bye),
            ]
        )
        full = Renewal(expires_in=LOST_AFTER)
        closing = Renewal(expires_in=LINGER, state=LeaseState.SUSPECT)
        assert answers == [closing, full, full, closing]
        clock.advance(milliseconds=LINGER)
        live, _ = store.leases(LeaseFilter())
        assert [lease.id for lease in live] == [back.id]

    def test_same_beat_again_after_another(self, store: Store, clock: ManualClock) -> None:
        """In one batch a beat counts in its place, even if the same one came before another."""
        store.define([pool(2)])
        stays, leaves = take(store, "ann"), take(store, "bob")
        clock.advance(seconds=1)
        here, bye = Beat(idle_for=0), Beat(idle_for=60 * SECOND, closing=True)
        batch = [
            Renew(lease_id=lease.id, fence=lease.fence, beat=said)
            for lease, order in ((stays, (here, bye, here)), (leaves, (bye, here, bye)))
            for said in order
        ]
        states = [answer.state for answer in store.renew(batch) if answer is not None]
        suspect, active = LeaseState.SUSPECT, LeaseState.ACTIVE
        assert states == [active, suspect, active, suspect, active, suspect]
        now = clock.now()
        times = [
            (found.expires_at - now, now - (found.idle_since or 0))
            for lease in (stays, leaves)
            if (found := look_up(store, lease.id)) is not None
        ]
        assert times == [(LOST_AFTER, 0), (LINGER, 60 * SECOND)]

    def test_goodbye_pulls_expiry_in(self, store: Store, clock: ManualClock) -> None:
        """A tab that says goodbye frees its seat after the linger, unless it says more."""
        store.define([pool(1)])
        lease = take(store, "ann")
        clock.advance(seconds=5)
        closing = beat(store, lease, closing=True)
        assert closing == Renewal(expires_in=LINGER, state=LeaseState.SUSPECT)
        clock.advance(milliseconds=LINGER - 1)
        answer = refused(store, "bob")
        assert (answer.suspect, answer.retry_after) == (1, 1)
        clock.advance(milliseconds=1)
        take(store, "bob")
        assert beat(store, lease) is None

    def test_goodbye_is_taken_back_by_any_beat(self, store: Store, clock: ManualClock) -> None:
        """A page that was only reloaded beats within the linger, and has all its time again."""
        store.define([pool(1)])
        lease = take(store)
        beat(store, lease, closing=True)
        clock.advance(milliseconds=LINGER - 1)
        assert beat(store, lease) == Renewal(expires_in=LOST_AFTER)
        assert usage(store).suspect == 0

    def test_goodbye_never_lengthens(self, store: Store, clock: ManualClock) -> None:
        """A goodbye shortly before expiry, or a second one, gives no time."""
        store.define([pool(1)])
        lease = take(store)
        clock.advance(seconds=85)
        assert beat(store, lease, closing=True) == Renewal(
            expires_in=5 * SECOND, state=LeaseState.SUSPECT
        )
        clock.advance(seconds=2)
        assert beat(store, lease, closing=True) == Renewal(
            expires_in=3 * SECOND, state=LeaseState.SUSPECT
        )

    def test_goodbye_without_linger(self, store: Store) -> None:
        """Where the linger is zero, a goodbye frees the seat at once."""
        store.define([pool(1, linger=0)])
        lease = take(store, "ann")
        assert beat(store, lease, closing=True) == Renewal(expires_in=0, state=LeaseState.EXPIRED)
        take(store, "bob")

    def test_next_in_puts_off_suspicion_only(self, store: Store, clock: ManualClock) -> None:
        """A holder that announces a late beat is not suspect before it, yet expires as ever."""
        store.define([pool(1)])
        lease = take(store)
        now = clock.now()
        assert beat(store, lease, next_in=45 * SECOND) == Renewal(expires_in=LOST_AFTER)
        patient = look_up(store, lease.id)
        assert patient is not None
        assert patient.suspect_at == now + 75 * SECOND
        assert patient.expires_at == now + LOST_AFTER

    def test_next_in_is_no_loophole(self, store: Store, clock: ManualClock) -> None:
        """However late a beat is announced, suspicion comes with lost_after at the latest."""
        store.define([pool(1)])
        lease = take(store)
        beat(store, lease, next_in=365 * 24 * 3600 * SECOND)
        patient = look_up(store, lease.id)
        assert patient is not None
        assert patient.suspect_at == clock.now() + LOST_AFTER

    def test_early_next_in_shortens_nothing(self, store: Store, clock: ManualClock) -> None:
        """Announcing an early beat does not bring suspicion forward."""
        store.define([pool(1)])
        lease = take(store)
        beat(store, lease, next_in=1)
        eager = look_up(store, lease.id)
        assert eager is not None
        assert eager.suspect_at == clock.now() + 60 * SECOND

    def test_longer_policy_counts_from_the_next_beat(
        self, store: Store, clock: ManualClock
    ) -> None:
        """A longer lost_after is given by the next beat; a shorter one, which is a policy's for those who
        hold a seat, too, by none."""
        store.define([pool(1)])
        lease = take(store)
        store.define([pool(1, lost_after=200 * SECOND)])
        assert beat(store, lease) == Renewal(expires_in=200 * SECOND)
        store.define([pool(1, lost_after=60 * SECOND, suspect_after=45 * SECOND)])
        clock.advance(seconds=10)
        assert beat(store, lease) == Renewal(expires_in=60 * SECOND)

    def test_beat_needs_a_valid_license(self, store: Store, clock: ManualClock) -> None:
        """While its license is suspended or out of its dates, no beat counts; then it does again."""
        now = clock.now()
        store.define([pool(1)])
        lease = take(store)
        for refusing in (
            pool(1, status=LicenseStatus.SUSPENDED),
            pool(1, valid_until=now),
            pool(1, valid_from=now + 1),
        ):
            store.define([refusing])
            assert beat(store, lease) is None
        store.define([pool(1, valid_from=now, valid_until=now + 1)])
        assert beat(store, lease) == Renewal(expires_in=LOST_AFTER)

    def test_beat_is_no_event(self, store: Store) -> None:
        """A plain renewal leaves no trace in the stream, and neither does a refused one."""
        store.define([pool(1)])
        lease = take(store)
        before = store.events()
        beat(store, lease)
        beat(store, lease, closing=True)
        store.renew([Renew(lease_id="unknown", fence=1)])
        assert store.events() == before

    def test_leases_are_listed_by_filter(self, store: Store) -> None:
        """Every field of a filter restricts; together they restrict further."""
        store.define([pool(9), pool(9, feature="viewer"), pool(9, license_id="lic_2")])
        sign_in(store, "ses_1")
        sign_in(store, "ses_2", "bob")
        a = take(store, "ann", "one", lease_id="a", session_id="ses_1")
        b = take(store, "ann", "two", lease_id="b")
        c = take(store, "bob", "one", lease_id="c", pool_id="lic_1:viewer", session_id="ses_2")
        d = take(store, "bob", "one", lease_id="d", pool_id="lic_2:editor", session_id="ses_2")
        expected = {
            LeaseFilter(): [a, b, c, d],
            LeaseFilter(license_id="lic_1"): [a, b, c],
            LeaseFilter(license_id="lic_"): [],
            LeaseFilter(feature="editor"): [a, b, d],
            LeaseFilter(license_id="lic_1", feature="editor"): [a, b],
            LeaseFilter(user_id="ann"): [a, b],
            LeaseFilter(client_id="one"): [a, c, d],
            LeaseFilter(user_id="ann", client_id="one"): [a],
            LeaseFilter(session_id="ses_2"): [c, d],
            LeaseFilter(session_id="ses_2", feature="viewer"): [c],
            LeaseFilter(ids=("d", "a", "zzz")): [a, d],
            LeaseFilter(ids=("d", "a"), user_id="bob"): [d],
            LeaseFilter(ids=()): [],
        }
        for which, leases in expected.items():
            assert store.leases(which)[0] == leases, which

    def test_leases_are_paged_by_id(self, store: Store) -> None:
        """Pages follow each other by id, in the order of bytes, with no overlap and no gap."""
        ids = ["B", "a", "b", "\u00e9", "\N{GRINNING FACE}", "b0", "_"]
        store.define([pool(99)])
        for lease_id in ids:
            take(store, f"user-{lease_id}", lease_id=lease_id)
        seen: list[str] = []
        while True:
            page, _ = store.leases(LeaseFilter(), after=seen[-1] if seen else None, limit=3)
            seen += [lease.id for lease in page]
            if len(page) < 3:
                break
        assert seen == sorted(ids)

    def test_leases_are_bounded(self, store: Store) -> None:
        """No list returns more than 1,000, whatever was asked for."""
        store.define([pool(2_000)])
        store.acquire([acquire(f"user-{i}") for i in range(1_005)])
        assert len(store.leases(LeaseFilter(), limit=5_000)[0]) == 1_000
        assert len(store.leases(LeaseFilter(), limit=7)[0]) == 7
        ended = store.revoke(LeaseFilter(), OPERATOR)
        assert len(ended) == 1_000
        assert len(store.revoke(LeaseFilter(), OPERATOR)) == 5

    def test_leases_live_or_all(self, store: Store, clock: ManualClock) -> None:
        """Expired and ended leases are listed on request only, with the now to judge them by."""
        store.define([pool(9)])
        expired = take(store, "ann", lease_id="a")
        clock.advance(seconds=60)
        ended, live = take(store, "bob", lease_id="b"), take(store, "cid", lease_id="c")
        give_back(store, ended)
        now = clock.advance(seconds=30)
        assert store.leases(LeaseFilter()) == ([live], now)
        everything, _ = store.leases(LeaseFilter(include_ended=True))
        assert [(lease.id, lease.state(now)) for lease in everything] == [
            (expired.id, LeaseState.EXPIRED),
            (ended.id, LeaseState.ENDED),
            (live.id, LeaseState.ACTIVE),
        ]

    def test_filter_by_the_last_beat(self, store: Store, clock: ManualClock) -> None:
        """A beat that came after an instant keeps its lease out of what is meant by that, for every verb."""
        store.define([pool(4)])
        silent, living = take(store, "ann"), take(store, "bob")
        looked_at = clock.now()
        clock.advance(seconds=30)
        beat(store, living)
        which = LeaseFilter(silent_since=looked_at)
        assert [x.id for x in store.leases(which)[0]] == [silent.id]
        just_before = LeaseFilter(silent_since=looked_at - 1)
        assert store.leases(just_before)[0] == []
        assert store.revoke(just_before, OPERATOR) == []
        assert [x.id for x in store.revoke(which, OPERATOR)] == [silent.id]
        assert beat(store, living) is not None
        clock.advance(seconds=200)
        assert store.sweep(which=which).leases_expired == 0
        assert store.sweep(which=LeaseFilter(silent_since=clock.now())).leases_expired == 1

    def test_leases_of_our_own_are_not_shown_unasked(
        self, store: Store, clock: ManualClock
    ) -> None:
        """The seat of who carries out sweeps is in no list, is told by no event, and is not swept away by
        what means everybody; it runs out like any other."""
        own = pool(1, license_id=SWEEP_LICENSE, feature="leader")
        store.define([pool(4), own])
        theirs = take(store, "ann")
        mark = latest(store)
        ours = take(store, "ann", pool_id=own.id)
        assert refused(store, "bob", pool_id=own.id).in_use == 1
        assert store.leases(LeaseFilter())[0] == [theirs]
        assert store.leases(LeaseFilter(user_id="ann"))[0] == [theirs]
        assert store.leases(LeaseFilter(feature="leader"))[0] == []
        assert store.leases(LeaseFilter(license_id=SWEEP_LICENSE))[0] == [ours]
        assert store.leases(LeaseFilter(ids=(ours.id,)))[0] == [ours]
        assert [x.id for x in store.revoke(LeaseFilter(user_id="ann"), OPERATOR)] == [theirs.id]
        assert beat(store, ours) is not None
        assert {x.pool_id for x in news(store, mark)} == {theirs.pool_id, None}
        clock.advance(seconds=200)
        assert store.sweep(which=LeaseFilter(user_id="ann")).leases_expired == 0
        assert store.sweep().leases_expired == 1
        assert {x.pool_id for x in news(store, mark)} == {theirs.pool_id, None}
