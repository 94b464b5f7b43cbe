"""The seating decision by itself: a batch is its requests one by one, and every branch is taken."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Never

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import Struct
from msgspec.structs import replace

from sojourn.clock import MINUTE, SECOND
from sojourn.device import Device
from sojourn.event import Event, EventKind
from sojourn.lease import (
    Acquire,
    DenialReason,
    Denied,
    EndReason,
    Lease,
    Origin,
    Resume,
    seat_key,
)
from sojourn.license import CountBy, LicenseStatus, Policy, Pool, Reservation, WhenFull
from sojourn.seat_events import denial_event, end_event
from sojourn.seating import EVIDENCE_MAX, free_at, refusal, seat
from sojourn.stores.memory.pool import PoolView
from sojourn.stores.memory.rows import LeaseRows
from sojourn.testing.builders import POOL, acquire, denied, granted, pool

NOW = 1_800_000_000_000
IDLE_AFTER = 5 * MINUTE
Holder = tuple[str, str]


class Table(Struct):
    """The rows of one pool, written as a store writes them."""

    pool: Pool
    rows: dict[Holder, Lease]
    fence: int = 100

    def seat(self, *requests: Acquire, actor: str | None = None) -> list[Lease | Denied]:
        return self.decide(requests, actor=actor)[0]

    def view(self) -> PoolView:
        return PoolView(self.pool, self.fence, LeaseRows(self.rows.values()), NOW)

    def decide(
        self, requests: Sequence[Acquire], *, actor: str | None = None
    ) -> tuple[list[Lease | Denied], list[Event]]:
        seating = seat(self.view(), requests, actor=actor)
        holders = [lease.holder for lease in seating.writes]
        assert len(holders) == len(set(holders)), "a holder was written twice"
        self.rows |= {lease.holder: lease for lease in seating.writes}
        self.fence = seating.fence
        return seating.answers, seating.events

    def copy(self) -> Table:
        return Table(pool=self.pool, rows=dict(self.rows), fence=self.fence)

    def live(self) -> list[Lease]:
        return [lease for lease in self.rows.values() if lease.live(NOW)]

    def seats(self) -> set[str]:
        return {lease.seat_key(self.pool.policy.count_by) for lease in self.live()}


def lease(user_id: str = "ann", client_id: str = "tab", *, ago: int = 0, **fields: Any) -> Lease:
    """Build a lease whose last beat was so many seconds ago."""
    beat_at = NOW - ago * SECOND
    plain = Lease(
        id=f"lea_{user_id}_{client_id}",
        pool_id=POOL,
        user_id=user_id,
        client_id=client_id,
        fence=50,
        acquired_at=beat_at - 1,
        last_beat_at=beat_at,
        suspect_at=beat_at + 60 * SECOND,
        expires_at=beat_at + 90 * SECOND,
    )
    return replace(plain, **fields)


def table(capacity: int, *leases: Lease, **policy: Any) -> Table:
    return Table(pool=pool(capacity, **policy), rows={x.holder: x for x in leases})


USERS = ("ann", "bob", "cid")
CLIENTS = ("1", "2", "3")
RESERVATIONS = (
    Reservation(name="ann", seats=1, users=("ann",)),
    Reservation(name="staff", seats=2, groups=("staff",)),
    Reservation(name="desks", seats=1, kinds=("desktop",)),
)
groups = st.sampled_from([(), (), ("staff",)])
devices = st.sampled_from([None, None, Device(kind="desktop")])
ages = st.sampled_from([0, 10, 59, 60, 69, 70, 71, 89, 90, 91, 500, 990, 991, 5000])


@st.composite
def tables(draw: st.DrawFn) -> Table:
    """Pools in any state that beats, policies and time can bring about."""
    capacity = draw(st.integers(0, 5))
    reserved = draw(st.lists(st.sampled_from(RESERVATIONS), unique=True, max_size=capacity // 2))
    policy = Policy(
        capacity=capacity,
        overdraft=draw(st.sampled_from([0, 0, 0, 1, 2])),
        reservations=tuple(x for x in reserved if x.seats == 1 or capacity >= 4),
        count_by=draw(st.sampled_from(CountBy)),
        when_full=draw(st.sampled_from(WhenFull)),
        idle_after=IDLE_AFTER,
        linger=draw(st.sampled_from([10 * SECOND, 0])),
        max_lease=draw(st.sampled_from([None, None, 80 * SECOND])),
    ).validate()
    rows: dict[Holder, Lease] = {}
    holders = st.tuples(st.sampled_from(USERS), st.sampled_from(CLIENTS))
    for number, holder in enumerate(draw(st.lists(holders, unique=True, max_size=8))):
        reason = draw(st.sampled_from([None, None, None, *EndReason]))
        rows[holder] = lease(
            *holder,
            ago=draw(ages),
            idle_since=draw(st.sampled_from([None, None, NOW - IDLE_AFTER, NOW - 2 * IDLE_AFTER])),
            fence=number + 1,
            end_reason=reason,
            ended_at=None if reason is None else NOW - draw(ages) * SECOND,
            member_of=draw(groups),
            device=draw(devices),
        )
    return Table(pool=Pool(license_id="lic_1", feature="editor", policy=policy), rows=rows)


@st.composite
def batches(draw: st.DrawFn, rows: dict[Holder, Lease]) -> list[Acquire]:
    requests = []
    for number in range(draw(st.integers(1, 6))):
        holder = draw(st.sampled_from(USERS)), draw(st.sampled_from(CLIENTS))
        resume = None
        if holder in rows and draw(st.integers(0, 4)) == 0:
            fence = rows[holder].fence + draw(st.sampled_from([0, 0, -1, 200]))
            resume = Resume(lease_id=rows[holder].id, fence=fence)
        requests.append(
            acquire(
                *holder,
                lease_id=f"new_{number}",
                takeover=draw(st.integers(0, 3)) == 0,
                resume=resume,
                member_of=draw(groups),
                device=draw(devices),
            )
        )
    return requests


def settled(answer: Lease | Denied) -> Lease | Denied:
    """Leave out what a batch may know less well of what it has itself just changed."""
    return replace(answer, suspect=0, retry_after=0) if isinstance(answer, Denied) else answer


def told(event: Event) -> Event:
    if event.kind is not EventKind.LEASE_DENIED:
        return event
    return replace(event, data=event.data | {"suspect": 0, "retryAfter": 0})


@given(st.data())
def test_batch_is_its_requests_one_by_one(data: st.DataObject) -> None:
    """Whatever the pool's state, a batch answers, writes and tells what single requests would."""
    whole = data.draw(tables())
    requests = data.draw(batches(whole.rows))
    single = whole.copy()
    answers, events = whole.decide(requests)
    one_by_one = [single.decide([request]) for request in requests]
    alone = [answer for (answer,), _ in one_by_one]
    assert [settled(x) for x in answers] == [settled(x) for x in alone]
    assert [told(x) for x in events] == [told(x) for _, some in one_by_one for x in some]
    assert (whole.rows, whole.fence) == (single.rows, single.fence)
    for mine, other in zip(answers, alone, strict=True):
        if isinstance(mine, Denied) and isinstance(other, Denied):
            assert mine.retry_after <= other.retry_after
            if whole.pool.policy.count_by is CountBy.LEASE:
                assert mine.suspect == other.suspect


@given(st.data())
def test_rules_of_seating(data: st.DataObject) -> None:
    """Capacity is kept, fences grow, nobody is displaced without need, no suspect outsits a denial."""
    pool_table = data.draw(tables())
    requests = data.draw(batches(pool_table.rows))
    policy, before, seats = pool_table.pool.policy, dict(pool_table.rows), pool_table.seats()
    fence = pool_table.fence
    answers = pool_table.seat(*requests)
    leases = [answer for answer in answers if isinstance(answer, Lease)]
    assert len(pool_table.seats()) <= max(policy.most, len(seats))
    if pool_table.seats() - seats:
        assert len(pool_table.seats()) <= policy.most
    fences = [fence, *(granted_lease.fence for granted_lease in leases)]
    assert fences == sorted(set(fences))
    assert all(granted_lease.live(NOW) for granted_lease in leases)
    for old in before.values():
        new = pool_table.rows[old.holder]
        if old.live(NOW) and new.end_reason is EndReason.EVICTED:
            assert _reclaimable(old, before, policy)
    refused = [x for x in answers if isinstance(x, Denied) and x.reason is DenialReason.SEAT_LIMIT]
    for answer in refused:
        assert answer.limit == policy.capacity
        assert answer.in_use + answer.reserved_free >= policy.most
        assert len(answer.evidence) >= min(EVIDENCE_MAX, answer.in_use)
    if refused and policy.when_full is not WhenFull.DENY and not policy.reservations:
        trusted = {
            x.seat_key(policy.count_by)
            for x in pool_table.live()
            if x.suspect_at + policy.linger > NOW
        }
        assert trusted == pool_table.seats()


def _reclaimable(victim: Lease, before: dict[Holder, Lease], policy: Policy) -> bool:
    key = victim.seat_key(policy.count_by)
    sharing = [x for x in before.values() if x.live(NOW) and x.seat_key(policy.count_by) == key]
    suspect = all(x.suspect_at + policy.linger <= NOW for x in sharing)
    idle = policy.when_full is WhenFull.EVICT_IDLE and all(
        x.idle_since is not None and x.idle_since + IDLE_AFTER <= NOW for x in sharing
    )
    return policy.when_full is not WhenFull.DENY and (suspect or idle)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({}, None),
        ({"status": LicenseStatus.SUSPENDED}, DenialReason.LICENSE_SUSPENDED),
        ({"valid_from": NOW}, None),
        ({"valid_from": NOW + 1}, DenialReason.LICENSE_NOT_YET_VALID),
        ({"valid_until": NOW}, DenialReason.LICENSE_EXPIRED),
        ({"valid_until": NOW + 1}, None),
    ],
)
def test_refusal(changes: dict[str, int], reason: DenialReason | None) -> None:
    """A pool refuses by its license's status and dates; one that is not there, as unknown."""
    assert refusal(replace(pool(1), **changes), NOW) is reason
    assert refusal(None, NOW) is DenialReason.FEATURE_UNKNOWN


def test_refused_pool_decides_nothing() -> None:
    """A suspended license denies before anything is read, and takes over nothing."""
    suspended = table(1, lease())
    suspended.pool = replace(suspended.pool, status=LicenseStatus.SUSPENDED)
    answer = denied(suspended.seat(acquire())[0], DenialReason.LICENSE_SUSPENDED)
    assert (answer.limit, answer.in_use, answer.evidence) == (1, 0, ())
    assert suspended.rows == {lease().holder: lease()}


def test_room_spares_the_count() -> None:
    """Where there is surely room, the seats are not even counted."""

    class Uncounted(PoolView):
        def count(self) -> Never:
            raise AssertionError

    rows = LeaseRows([lease()])
    answers = seat(Uncounted(pool(3), 7, rows, NOW), [acquire("bob"), acquire("cid")]).answers
    assert [granted(answer).fence for answer in answers] == [8, 9]


def test_origins() -> None:
    """Live: taken over; lost within the window: resumed; else: granted afresh."""
    rows = [lease("live"), lease("lost", ago=100), lease("late", ago=5_000)]
    answers = table(3, *rows).seat(acquire("live"), acquire("lost"), acquire("late"))
    assert [granted(answer).origin for answer in answers] == [
        Origin.TAKEN_OVER,
        Origin.RESUMED,
        Origin.GRANTED,
    ]
    assert [granted(answer).id for answer in answers[:2]] == [rows[0].id, rows[1].id]


def test_actor_is_named() -> None:
    """An eviction is told with who asked for it."""
    full = table(1, lease("ann", ago=80))
    _, events = full.decide([acquire("bob")], actor="key:relay")
    assert (events[0].kind, events[0].actor) == (EventKind.LEASE_EVICTED, "key:relay")


def test_moved_seat_may_be_moved_again() -> None:
    """Within a batch a user's seat moves on from each of its clients to the next."""
    full = table(1, lease("ann", "1"))
    answers = full.seat(*(acquire("ann", client, takeover=True) for client in ("2", "3")))
    assert [granted(answer).client_id for answer in answers] == ["2", "3"]
    assert [x.client_id for x in full.live()] == ["3"]
    assert full.rows["ann", "2"].end_reason is EndReason.MOVED


def test_takeover_of_nothing() -> None:
    """Whoever has no seat of its own cannot move one, nor in a pool with more leases than seats."""
    denied(table(1, lease("bob")).seat(acquire("ann", takeover=True))[0])
    shrunk = table(1, lease("ann", "1"), lease("ann", "2"))
    denied(shrunk.seat(acquire("ann", "3", takeover=True))[0])
    assert len(shrunk.live()) == 2


def test_takeover_where_seats_are_shared() -> None:
    """Counted by client, ending one lease need not free a seat: it is not tried."""
    shared = table(1, lease("ann", "1"), count_by=CountBy.CLIENT)
    denied(shared.seat(acquire("ann", "2", takeover=True))[0])
    assert len(shared.live()) == 1


def test_evicted_holder_returns_in_the_same_batch() -> None:
    """Whoever lost its seat earlier in the batch needs a seat like everybody else."""
    full = table(1, lease("ann", ago=80))
    answers = full.seat(acquire("bob"), acquire("ann"))
    granted(answers[0])
    assert denied(answers[1]).evidence == (answers[0],)


def test_emptied_shared_seat_is_not_shared() -> None:
    """Counted by user: once a user's seat was reclaimed, its next client needs a new one."""
    full = table(1, lease("ann", "1", ago=80), count_by=CountBy.USER)
    answers = full.seat(acquire("bob"), acquire("ann", "2"))
    granted(answers[0])
    denied(answers[1], DenialReason.SEAT_LIMIT)


def test_evidence_survives_many_evictions() -> None:
    """A denial names twenty holders even if those that were read first have just been evicted."""
    silent = [lease(f"silent-{i:02}", ago=85) for i in range(25)]
    living = [lease(f"living-{i:02}", ago=i) for i in range(25)]
    full = table(50, *silent, *living)
    requests = [acquire(f"new-{i:02}") for i in range(26)]
    answer = denied(full.seat(*requests)[-1], DenialReason.SEAT_LIMIT)
    assert [x.user_id for x in answer.evidence] == [f"living-{24 - i:02}" for i in range(20)]
    assert (answer.in_use, answer.suspect) == (50, 0)


def test_evidence_is_read_again_when_it_ran_out() -> None:
    """Denials before and after many grants of one batch each name the most silent of their time."""
    full = table(1, lease("ann"), count_by=CountBy.USER)
    clients = [acquire("ann", f"{i:02}") for i in range(40)]
    answers = full.seat(acquire("bob"), *clients, acquire("cid"))
    assert len(denied(answers[0]).evidence) == 1
    assert len(denied(answers[-1]).evidence) == EVIDENCE_MAX


def test_retry_after() -> None:
    """The next seat comes free with the first expiry, or the first suspect past its linger."""
    assert free_at(lease(), pool(1).policy) == NOW + 70 * SECOND
    assert free_at(lease(), pool(1, when_full=WhenFull.DENY).policy) == NOW + 90 * SECOND
    full = table(2, lease("ann", ago=30), lease("bob", ago=20))
    assert denied(full.seat(acquire("cid"))[0]).retry_after == 40 * SECOND
    empty = table(1).seat(acquire("ann"), acquire("bob"))
    assert denied(empty[1]).retry_after == 70 * SECOND


def test_end_event_states_the_silence() -> None:
    """The end of a lease is told with how long it was held, and how long its holder was silent."""
    lost = lease(ago=100)
    event = end_event(lost, EndReason.EXPIRED, "system:sweep", NOW)
    assert (event.kind, event.subject, event.actor) == (
        EventKind.LEASE_EXPIRED,
        lost.id,
        "system:sweep",
    )
    assert event.data["silentFor"] == 100 * SECOND
    assert event.data["heldFor"] == 90 * SECOND + 1
    set_back = end_event(lease(ago=-5), EndReason.RELEASED, None, NOW)
    assert (set_back.data["silentFor"], set_back.data["heldFor"]) == (0, 0)


def test_denial_event_states_the_proof() -> None:
    """The event of a denial names each holder with its last beat, as an age."""
    holder = lease("bob", ago=40)
    answer = Denied(reason=DenialReason.SEAT_LIMIT, at=NOW, limit=1, in_use=1, evidence=(holder,))
    event = denial_event(acquire("ann"), answer)
    assert event.data["holders"] == [
        {
            "leaseId": holder.id,
            "userId": "bob",
            "clientId": "tab",
            "lastBeatAgo": 40 * SECOND,
            "expiresIn": 50 * SECOND,
        }
    ]


def test_seat_keys_never_collide() -> None:
    """Where each lease counts, no user and client run together into another's key."""
    keys = {seat_key(CountBy.LEASE, u, c) for u, c in (("ab", "c"), ("a", "bc"), ("", "abc"))}
    assert len(keys) == 3
