"""What a restart of the server that a store is on may change: nothing.

A backend behind a server that keeps all it has answered gives three fixtures: `server`, which may be
killed and started at will, `database_url`, an empty database on it, and `open_at(url, clock=…)`, which
opens a store there, on the database's own clock if none is given.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing
from typing import Any, Protocol

import pytest

from sojourn.clock import DAY, HOUR, ManualClock
from sojourn.lease import Acquire, DenialReason, Lease, LeaseFilter, Origin, Resume
from sojourn.license import WhenFull
from sojourn.store import Store
from sojourn.testing.builders import (
    OPERATOR,
    beat,
    denied,
    give_back,
    gone,
    granted,
    pool,
    present,
    refused,
    sign_in,
    take,
    token_hash,
    usage,
)
from sojourn.testing.contract.faults import PATIENT, works_within_bound
from sojourn.testing.regions import Region

EVICTING: dict[str, Any] = {**PATIENT, "when_full": WhenFull.EVICT_IDLE, "idle_after": 60_000}


class Restarted(Protocol):
    def kill(self) -> None: ...

    def start(self) -> None: ...


def by_token(lease: Lease) -> Acquire:
    """Ask as a client does that was told that its lease is lost."""
    return Acquire(
        pool_id=lease.pool_id,
        user_id=lease.user_id,
        client_id=lease.client_id,
        lease_id=lease.id,
        resume=Resume(lease_id=lease.id, fence=lease.fence),
    )


def evict(store: Store, lease: Lease, heir: str) -> Lease:
    """Let its holder be idle, and somebody else take the seat."""
    assert beat(store, lease, idle_for=HOUR) is not None
    taken = take(store, heir)
    assert beat(store, lease) is None
    return taken


class StoreRestarts:
    """Each asks the same before a restart of the server and after it; see `restarted`."""

    @pytest.fixture
    def store(self, database_url: str, open_at: Callable[..., Store]) -> Iterator[Store]:
        with closing(open_at(database_url)) as store:
            store.define([pool(1, **EVICTING)])
            store.pulse()
            yield store

    @pytest.fixture
    def restarted(self, server: Restarted, store: Store) -> Callable[[], Iterator[str]]:
        """Say "before", restart the server, and say "after"."""

        def each() -> Iterator[str]:
            yield "before"
            server.kill()
            server.start()
            works_within_bound(store.pulse)
            yield "after"

        return each

    def test_living_holder_beats_on(
        self, store: Store, restarted: Callable[[], Iterator[str]]
    ) -> None:
        """Whoever holds a seat beats on, and keeps it when it acquires again: by its token or not."""
        lease = take(store, "ann")
        for _ in restarted():
            assert beat(store, lease) is not None
            assert refused(store, "bob").in_use == 1
        again = granted(store.acquire([by_token(lease)])[0])
        assert (again.id, again.origin) == (lease.id, Origin.TAKEN_OVER)
        assert take(store, "ann").id == lease.id
        assert usage(store).in_use == 1

    def test_relay_has_what_it_was_given(
        self, store: Store, restarted: Callable[[], Iterator[str]]
    ) -> None:
        """Its seats are given to nobody else, and it is told of them under the same fence."""
        east = Region(store)
        east.ask(1)
        for _ in restarted():
            assert refused(store, "bob").allotted == 1
            assert Region(store, "west").ask(1) is None
            grant = east.ask(1)
            assert grant is not None
            assert (grant.seats, grant.fence) == (1, 1)
        assert usage(store).overdrawn == 0

    def test_evicted_holder_is_no_exception(
        self, store: Store, restarted: Callable[[], Iterator[str]]
    ) -> None:
        """Whose seat was given to another may resume when one is free, and not before."""
        evicted = take(store, "ann")
        holder = evict(store, evicted, "bob")
        for _ in restarted():
            denied(store.acquire([by_token(evicted)])[0], DenialReason.SEAT_LIMIT)
            assert beat(store, evicted) is None
            assert beat(store, holder) is not None
            assert usage(store).in_use == 1
        give_back(store, holder)
        back = granted(store.acquire([by_token(evicted)])[0])
        assert (back.id, back.origin) == (evicted.id, Origin.RESUMED)

    def test_released_lease_stays_released(
        self, store: Store, restarted: Callable[[], Iterator[str]]
    ) -> None:
        """The token of a lease that was given back, or revoked, is no way in: full or not."""
        released = take(store, "ann")
        give_back(store, released)
        revoked = take(store, "eve")
        store.revoke(LeaseFilter(ids=(revoked.id,)), OPERATOR)
        for _ in restarted():
            for lease in (released, revoked):
                denied(store.acquire([by_token(lease)])[0], DenialReason.LEASE_ENDED)
                assert beat(store, lease) is None
        take(store, "bob")
        for lease in (released, revoked):
            denied(store.acquire([by_token(lease)])[0], DenialReason.LEASE_ENDED)

    def test_stale_token_of_a_lease_taken_over(
        self, store: Store, restarted: Callable[[], Iterator[str]]
    ) -> None:
        """The token from before a takeover neither beats nor resumes, nor frees the seat."""
        stale = take(store, "ann")
        holder = take(store, "ann")
        for _ in restarted():
            assert beat(store, stale) is None
            denied(store.acquire([by_token(stale)])[0], DenialReason.LEASE_ENDED)
            assert give_back(store, stale) is False
            assert beat(store, holder) is not None

    def test_another_lease_of_the_holder(
        self, store: Store, restarted: Callable[[], Iterator[str]]
    ) -> None:
        """Who gave a lease back and has another cannot come back to the first."""
        first = take(store, "ann")
        give_back(store, first)
        holder = take(store, "ann")
        assert holder.id != first.id
        for _ in restarted():
            denied(store.acquire([by_token(first)])[0], DenialReason.LEASE_ENDED)
            assert beat(store, holder) is not None

    def test_fences_grow(self, store: Store, restarted: Callable[[], Iterator[str]]) -> None:
        """Each grant has a higher fence than all before it."""
        fences = []
        for _ in restarted():
            for _ in range(3):
                lease = take(store, "ann")
                fences.append(lease.fence)
                give_back(store, lease)
        assert fences == sorted(set(fences))

    def test_sessions_stay_as_they_are(
        self, store: Store, restarted: Callable[[], Iterator[str]]
    ) -> None:
        """What was ended stays ended, and what was rotated has one token."""
        sign_in(store, "ended")
        sign_in(store, "rotated")
        store.end(ids=["ended"], reason="stolen")
        store.rotate("rotated", token_hash("new"))
        for _ in restarted():
            assert gone(store, "ended").end_reason == "stolen"
            gone(store, "rotated")
            assert present(store, "new").id == "rotated"

    def test_forgotten_lease(
        self, server: Restarted, database_url: str, open_at: Callable[..., Store]
    ) -> None:
        """The token of a lease that a sweep has forgotten gives its bearer no more than others have."""
        clock = ManualClock()
        with closing(open_at(database_url, clock=clock)) as store:
            store.define([pool(1, **EVICTING)])
            forgotten = take(store, "ann")
            give_back(store, forgotten)
            clock.advance(milliseconds=2 * DAY)
            assert store.sweep().leases_removed == 1
            store.pulse()
            holder = take(store, "bob")
            denied(store.acquire([by_token(forgotten)])[0], DenialReason.SEAT_LIMIT)
            server.kill()
            server.start()
            works_within_bound(store.pulse)
            denied(store.acquire([by_token(forgotten)])[0], DenialReason.SEAT_LIMIT)
            assert beat(store, holder) is not None
            assert usage(store).in_use == 1
