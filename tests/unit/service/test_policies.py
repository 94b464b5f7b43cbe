"""What beats are told: never more than the policy allows by now, as a rule without a look at the store."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from sojourn.clock import SECOND, ManualClock
from sojourn.errors import NotFound, StoreUnavailable
from sojourn.lease import Beat, Lease, LeaseFilter, Renew, Renewal
from sojourn.license import Pool
from sojourn.service import policies
from sojourn.service.policies import POLICY_MAX, Policies
from sojourn.stores.memory import MemoryStore
from sojourn.testing.builders import OPERATOR, POOL, pool, take
from sojourn.testing.contract.leases import LOST_AFTER

SHORTER: dict[str, Any] = {
    "heartbeat_interval": 5 * SECOND,
    "suspect_after": 10 * SECOND,
    "lost_after": 20 * SECOND,
}


class CountingStore(MemoryStore):
    """Counts how often it is asked for pools; fails where it is told to."""

    def __init__(self) -> None:
        super().__init__(ManualClock())
        self.looks: list[list[str]] = []
        self.away = False

    def pools(self, pool_ids: Sequence[str]) -> list[Pool | None]:
        self.looks.append(list(pool_ids))
        if self.away:
            raise StoreUnavailable("away")
        return super().pools(pool_ids)


@pytest.fixture
def store() -> CountingStore:
    store = CountingStore()
    store.define([pool(5)])
    return store


@pytest.fixture
def known(store: CountingStore) -> Policies:
    return Policies(store)


def told(
    known: Policies, store: CountingStore, *leases: Lease, beat: Beat | None = None
) -> list[int]:
    """Renew leases; return what their holders are told, in ms."""
    beats = [
        Renew(lease_id=x.id, fence=x.fence, pool_id=x.pool_id, beat=beat or Beat()) for x in leases
    ]
    found = known.bounded(beats, store.renew(beats))
    assert None not in found
    return [x.expires_in for x in found if x is not None]


def test_beats_as_usual_look_once(store: CountingStore, known: Policies) -> None:
    """A pool is looked at when its first beat comes to a process, and not again, however long it runs."""
    ann, bob = take(store, "ann"), take(store, "bob")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(policies, "POLICY_TTL", 0.0)
        for _ in range(5):
            assert told(known, store, ann, bob) == [LOST_AFTER, LOST_AFTER]
    assert store.looks == [[POOL]]


def test_goodbyes_look_at_nothing(store: CountingStore, known: Policies) -> None:
    """A linger is no longer than a holder may be silent."""
    lease = take(store, "ann")
    assert told(known, store, lease, beat=Beat(closing=True)) == [pool(1).policy.linger]
    assert store.looks == []


def test_lowered_policy_bounds_what_is_told(
    store: CountingStore, known: Policies, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The lease lives for longer: whoever was told its pace before beats as it was told."""
    lease = take(store, "ann")
    assert told(known, store, lease) == [LOST_AFTER]
    monkeypatch.setattr(policies, "POLICY_TTL", 0.0)
    other = Policies(store)
    assert told(other, store, lease) == [
        LOST_AFTER
    ]  # it knows the policy of before, and for no time
    store.define([pool(5, **SHORTER)])
    assert told(other, store, lease) == [20 * SECOND]
    (row,), now = store.leases(LeaseFilter())
    assert row.expires_at - now > 20 * SECOND


def test_change_is_known_at_once_where_it_was_made(store: CountingStore, known: Policies) -> None:
    lease = take(store, "ann")
    assert told(known, store, lease) == [LOST_AFTER]
    store.define([pool(5, **SHORTER)])
    known.forget("somebody else's")
    assert told(known, store, lease)[0] > 20 * SECOND, "not known here yet"
    known.forget(lease.pool_id.split(":")[0])
    assert told(known, store, lease) == [20 * SECOND]


def test_many_pools_are_looked_at_together(store: CountingStore, known: Policies) -> None:
    store.define([pool(5, feature=f"f{i}") for i in range(3)])
    leases = [take(store, "ann", pool_id=f"lic_1:f{i}") for i in range(3)]
    assert told(known, store, *leases, *leases) == [LOST_AFTER] * 6
    assert [sorted(names) for names in store.looks] == [[x.pool_id for x in leases]]


def test_beats_count_while_policies_cannot_be_read(store: CountingStore, known: Policies) -> None:
    """By what was known last, if anything was."""
    lease = take(store, "ann")
    store.away = True
    assert told(known, store, lease) == [LOST_AFTER]
    with pytest.raises(StoreUnavailable):
        known.pool(POOL)


def test_pool_that_is_gone(store: CountingStore, known: Policies) -> None:
    assert known.pool(POOL).policy.capacity == 5
    store.drop([POOL], OPERATOR)
    known.forget("lic_1")
    with pytest.raises(NotFound):
        known.pool(POOL)
    beat = Renew(lease_id="lea_1", fence=1, pool_id=POOL)
    assert known.bounded([beat], [None]) == [None]
    assert known.bounded([beat], [Renewal(expires_in=7)]) == [Renewal(expires_in=7)]


def test_memory_is_bounded(
    store: CountingStore, known: Policies, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert POLICY_MAX == 10_000
    monkeypatch.setattr(policies, "POLICY_MAX", 2)
    names = [f"lic_1:f{i}" for i in range(5)]
    store.define([pool(5, feature=f"f{i}") for i in range(5)])
    for name in names:
        assert known.pool(name).id == name
    assert len(known._known) <= 2
