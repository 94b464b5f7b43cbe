"""What the stream of events means."""

from __future__ import annotations

from sojourn.clock import ManualClock
from sojourn.event import Event, EventKind
from sojourn.store import Store
from sojourn.testing.builders import (
    POOL,
    acquire,
    beat,
    give_back,
    pool,
    refused,
    sign_in,
    take,
)
from sojourn.testing.contract.base import OnManualClock


class EventMeaning(OnManualClock):
    def test_empty_stream(self, store: Store) -> None:
        """A new store has nothing to tell; defining pools is told by the ledger, not here."""
        store.define([pool(1)])
        assert store.events() == []
        assert store.events(newest_first=True) == []

    def test_ids_have_no_gap(self, store: Store) -> None:
        """The first event is number 1, and each next one the next number."""
        store.define([pool(1)])
        for _ in range(3):
            lease = take(store, "ann")
            refused(store, "bob")
            give_back(store, lease)
            sign_in(store, f"ses_{lease.id}")
        assert [event.id for event in store.events()] == list(range(1, 13))

    def test_lease_events_in_full(self, store: Store, clock: ManualClock) -> None:
        """Each grant and each end is told once, with whom, what and when."""
        store.define([pool(1)])
        started = clock.now()
        lease = take(store, "ann", lease_id="lea_1")
        clock.advance(seconds=2)
        again = take(store, "ann")
        clock.advance(seconds=1)
        give_back(store, again)
        common = {
            "pool_id": POOL,
            "subject": "lea_1",
            "user_id": "ann",
            "client_id": "tab",
        }
        assert store.events() == [
            Event(
                kind=EventKind.LEASE_ACQUIRED,
                id=1,
                at=started,
                data={"fence": lease.fence},
                **common,
            ),
            Event(
                kind=EventKind.LEASE_TAKEN_OVER,
                id=2,
                at=started + 2_000,
                data={"fence": again.fence},
                **common,
            ),
            Event(
                kind=EventKind.LEASE_RELEASED,
                id=3,
                at=started + 3_000,
                data={
                    "reason": "released",
                    "fence": again.fence,
                    "silentFor": 1_000,
                    "heldFor": 3_000,
                },
                **common,
            ),
        ]

    def test_lapse_is_told_with_the_return(self, store: Store, clock: ManualClock) -> None:
        """A lease found expired by its returning holder is told as expired, then as resumed."""
        store.define([pool(1)])
        take(store, "ann")
        clock.advance(seconds=100)
        take(store, "ann")
        told = store.events()
        assert [event.kind for event in told] == [
            EventKind.LEASE_ACQUIRED,
            EventKind.LEASE_EXPIRED,
            EventKind.LEASE_RESUMED,
        ]
        assert (told[1].data["silentFor"], told[1].data["heldFor"]) == (100_000, 90_000)

    def test_stream_is_read_in_pages(self, store: Store) -> None:
        """What comes after an id, no more than asked for, until there is nothing more."""
        store.define([pool(9)])
        for i in range(7):
            take(store, f"user-{i}")
        pages, after = [], 0
        while page := store.events(after=after, limit=3):
            pages.append([event.id for event in page])
            after = page[-1].id
        assert pages == [[1, 2, 3], [4, 5, 6], [7]]

    def test_newest_first(self, store: Store) -> None:
        """Backwards, `after` means before: pages lead from now into the past."""
        store.define([pool(9)])
        for i in range(7):
            take(store, f"user-{i}")
        pages, after = [], 0
        while page := store.events(after=after, limit=3, newest_first=True):
            pages.append([event.id for event in page])
            after = page[-1].id
        assert pages == [[7, 6, 5], [4, 3, 2], [1]]

    def test_filters(self, store: Store) -> None:
        """Kinds, pool and user restrict, together and in both directions; ids stay what they are."""
        store.define([pool(1), pool(1, feature="viewer")])
        sign_in(store, "ses_1", "ann")
        take(store, "ann")
        take(store, "bob", pool_id="lic_1:viewer")
        refused(store, "ann", pool_id="lic_1:viewer")
        refused(store, "bob")
        denials = (EventKind.LEASE_DENIED,)

        def ids(**filters: object) -> list[int]:
            return [event.id for event in store.events(**filters)]  # type: ignore[arg-type]  # any

        assert ids(user_id="ann") == [1, 2, 4]
        assert ids(pool_id=POOL) == [2, 5]
        assert ids(kinds=denials) == [4, 5]
        assert ids(kinds=(EventKind.SESSION_CREATED, EventKind.LEASE_DENIED)) == [1, 4, 5]
        assert ids(kinds=denials, user_id="ann") == [4]
        assert ids(kinds=denials, pool_id=POOL, user_id="ann") == []
        assert ids(user_id="ann", after=1, limit=1) == [2]
        assert ids(user_id="ann", newest_first=True, after=4) == [2, 1]
        assert ids(user_id="Ann") == []

    def test_stream_is_bounded(self, store: Store) -> None:
        """No page has more than 1,000, whatever was asked for."""
        store.define([pool(1)])
        for _ in range(67):
            store.acquire([acquire()] * 15)
        assert len(store.events(limit=5_000)) == 1_000
        assert len(store.events(limit=5_000, newest_first=True)) == 1_000

    def test_events_are_not_shared(self, store: Store) -> None:
        """Changing what was handed out changes nothing in the store."""
        store.define([pool(1)])
        take(store)
        store.events()[0].data["fence"] = "forged"
        assert store.events()[0].data == {"fence": 1}

    def test_reading_changes_nothing(self, store: Store) -> None:
        """Looking at a store leaves no trace in its stream."""
        store.define([pool(1)])
        lease = take(store)
        sign_in(store)
        before = store.events()
        beat(store, lease)
        store.usage([POOL])
        store.of("ann")
        store.sessions()
        store.pools([POOL])
        store.check()
        store.preview([acquire("cid")])
        store.sweep()
        store.pulse()
        assert store.events() == before
