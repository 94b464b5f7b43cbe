"""What still holds where a store has lost what it had answered, and a ledger knows most of it.

A backend whose events a recorder carries (`store.Recorded`) gives four fixtures: `server`, which keeps a
copy of its data (`remember`) and is started again with that copy (`lose`), `database_url`, an empty
database on it, `open_at(url)`, which opens a store there on the database's own clock, and `ledger_url`, a
migrated database for the record.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import closing

import pytest

from sojourn.errors import StoreUnavailable
from sojourn.event import Event
from sojourn.lease import DenialReason, Lease
from sojourn.ledger import Ledger
from sojourn.license import License, Policy
from sojourn.store import Recorded, Store
from sojourn.stores.open import open_ledger
from sojourn.stores.recorder import LedgerRecorder, history
from sojourn.testing.builders import (
    acquire,
    beat,
    denied,
    give_back,
    gone,
    granted,
    load,
    pool,
    present,
    refused,
    sign_in,
    take,
    token_hash,
    usage,
)
from sojourn.testing.contract.faults import works_within_bound
from sojourn.testing.contract.kept import KeptSeats
from sojourn.testing.contract.loss_walk import Forgetful, Walk
from sojourn.testing.contract.restarts import EVICTING, by_token, evict
from sojourn.testing.regions import Region

BEATS = 3
SEEDS = range(40) if os.environ.get("SOJOURN_CAMPAIGN") else (2, 24)
STEPS = 150
GRANTS = 5


def beats_on(store: Store, lease: Lease) -> None:
    for _ in range(BEATS):
        assert beat(store, lease) is not None


class StoreLosses(KeptSeats):
    @pytest.fixture
    def store(self, database_url: str, open_at: Callable[[str], Store]) -> Iterator[Store]:
        with closing(open_at(database_url)) as store:
            self.with_capacity(store, 1)
            store.pulse()
            yield store

    @pytest.fixture
    def ledger(self, ledger_url: str) -> Iterator[Ledger]:
        with closing(open_ledger(ledger_url)) as ledger:
            policy = {"editor": Policy(capacity=1)}
            ledger.create_license(License(id="lic_1", name="Acme"), policy, b"k" * 32, actor="test")
            yield ledger

    @pytest.fixture
    def recorder(self, store: Store, ledger: Ledger) -> LedgerRecorder:
        assert isinstance(store, Recorded)
        recorder = LedgerRecorder(store, store, ledger)
        recorder.run()
        return recorder

    @pytest.fixture
    def lost(self, server: Forgetful, store: Store, recorder: LedgerRecorder) -> Callable[[], None]:
        """Lose what came after `remember`, but not what the recorder had carried; find that out."""

        def lose() -> None:
            server.lose()
            works_within_bound(store.pulse)
            recorder.run()

        return lose

    def test_relay_keeps_what_the_lost_server_gave(
        self, server: Forgetful, store: Store, lost: Callable[[], None]
    ) -> None:
        """What it has got since the copy is given to nobody else, and is counted when it speaks."""
        self.with_capacity(store, 3)
        east = Region(store)
        east.ask(1)
        east.ask(1)
        server.remember()
        east.ask(2)
        began = east.epoch
        lost()
        assert usage(store).allotted == 1
        assert refused(store, "bob").in_use == 0
        for _ in range(2):
            east.ask(2)
        assert (east.seats, usage(store).allotted) == (2, 2)
        assert east.epoch > began
        take(store, "bob")
        assert refused(store, "cid").allotted == 2

    # Fences

    @pytest.mark.parametrize("recorded", [True, False], ids=["recorded", "not"])
    def test_fences_never_repeat(
        self, server: Forgetful, store: Store, request: pytest.FixtureRequest, *, recorded: bool
    ) -> None:
        """No fence is handed out twice, however often the same copy is put back."""
        run = request.getfixturevalue("recorder").run if recorded else store.pulse
        fences: list[int] = []

        def grant(count: int) -> None:
            for _ in range(count):
                lease = take(store, "ann")
                fences.append(lease.fence)
                give_back(store, lease)

        grant(GRANTS)
        server.remember()
        for count in (4 * GRANTS, GRANTS, GRANTS, GRANTS):
            grant(count)
            run()
            server.lose()
            works_within_bound(store.pulse)
            run()
        grant(GRANTS)
        assert fences == sorted(set(fences))

    def test_two_losses_in_a_row(self, server: Forgetful, store: Store) -> None:
        """After another one it is still known who may come back from the first, and who may not."""
        self.with_capacity(store, 2)
        kept = take(store, "kept")
        server.remember()
        unknown = take(store, "unknown")
        server.lose()
        works_within_bound(store.pulse)
        released = take(store, "released")
        give_back(store, released)
        again = take(store, "released")
        give_back(store, again)
        holder = take(store, "holder")
        server.kill()
        server.start()
        works_within_bound(store.pulse)
        for lease in (kept, holder):
            beats_on(store, lease)
        for lease in (released, again):
            denied(store.acquire([by_token(lease)])[0], DenialReason.LEASE_ENDED)
        back = granted(store.acquire([by_token(unknown)])[0])
        assert (back.id, usage(store).in_use) == (unknown.id, 3)
        refused(store, "somebody else")

    def test_event_ids_never_repeat(
        self, server: Forgetful, store: Store, ledger: Ledger, recorder: LedgerRecorder
    ) -> None:
        """The record goes on, whatever the store has lost: no id twice, and nothing left out."""
        server.remember()
        told: list[Event] = []
        for _ in range(3):
            give_back(store, take(store, "ann"))
            recorder.run()
            told += store.events(after=told[-1].id if told else 0, limit=1_000)
            server.lose()
            works_within_bound(store.pulse)
            recorder.run()
        told += store.events(after=told[-1].id, limit=1_000)
        assert list(history(ledger)) == told

    # What was refused stays refused

    def test_evicted_holder_stays_out(
        self, server: Forgetful, store: Store, recorder: LedgerRecorder, lost: Callable[[], None]
    ) -> None:
        """Its token does not count again, and the seat is its heir's."""
        evicted = take(store, "ann")
        server.remember()
        heir = evict(store, evicted, "bob")
        recorder.run()
        lost()
        assert beat(store, evicted) is None
        denied(store.acquire([by_token(evicted)])[0], DenialReason.SEAT_LIMIT)
        back = granted(store.acquire([by_token(heir)])[0])
        assert (back.id, usage(store).in_use) == (heir.id, 1)
        beats_on(store, back)
        denied(store.acquire([by_token(evicted)])[0], DenialReason.SEAT_LIMIT)
        assert not [event for event in store.events(limit=1_000) if event.data.get("overage")]

    def test_nothing_counts_before_the_ledger_is_asked(
        self, server: Forgetful, store: Store, recorder: LedgerRecorder
    ) -> None:
        """A beat, a grant or a session's use comes to no decision before it is known what was lost."""
        evicted = take(store, "ann")
        sign_in(store, "ended")
        server.remember()
        evict(store, evicted, "bob")
        store.end(ids=["ended"])
        recorder.run()
        server.lose()
        works_within_bound(store.pulse)
        verbs: tuple[Callable[[], object], ...] = (
            lambda: load(store, "ended"),
            lambda: beat(store, evicted),
            lambda: store.acquire([by_token(evicted)]),
            lambda: store.acquire([acquire("eve")]),
            lambda: give_back(store, evicted),
        )
        for verb in verbs:
            with pytest.raises(StoreUnavailable):
                verb()
        recorder.run()
        gone(store, "ended")
        assert beat(store, evicted) is None

    def test_an_emptied_store_waits_for_its_ledger(
        self,
        server: Forgetful,
        database_url: str,
        open_at: Callable[[str], Store],
        ledger: Ledger,
    ) -> None:
        """Also where somebody defines its pools before: else it gives out its first fences again."""
        server.remember()  # with nothing in it
        one = pool(1, **EVICTING)
        with closing(open_at(database_url)) as store:
            assert isinstance(store, Recorded)
            recorder = LedgerRecorder(store, store, ledger)
            recorder.run()
            store.define([one])
            lease = take(store, "ann")
            recorder.run()
            server.lose()
            works_within_bound(store.pulse)
            store.define([one])
            verbs: tuple[Callable[[], object], ...] = (
                lambda: store.acquire([acquire("bob")]),
                lambda: store.acquire([by_token(lease)]),
                lambda: Region(store).ask(1),
            )
            for verb in verbs:
                with pytest.raises(StoreUnavailable):
                    verb()
            assert beat(store, lease) is None
            assert usage(store).in_use == 0
            recorder.run()
            assert refused(store, "bob").in_use == 0
            back = granted(store.acquire([by_token(lease)])[0])
            assert (back.id, usage(store).in_use) == (lease.id, 1)
            assert back.fence > lease.fence
            beats_on(store, back)

    def test_a_ledger_that_is_away_is_not_waited_for_long(
        self, server: Forgetful, store: Store, recorder: LedgerRecorder
    ) -> None:
        """Nobody loses a seat because nothing can be asked."""
        lease = take(store, "ann")
        recorder.run()
        server.kill()
        server.start()
        works_within_bound(lambda: beat(store, lease))
        beats_on(store, lease)

    def test_stale_token_of_a_lost_takeover(
        self, server: Forgetful, store: Store, recorder: LedgerRecorder, lost: Callable[[], None]
    ) -> None:
        """Of one holder's two tokens, the later one counts, and its bearer notices nothing."""
        stale = take(store, "ann")
        server.remember()
        holder = take(store, "ann")
        assert beat(store, stale) is None
        recorder.run()
        lost()
        assert beat(store, stale) is None
        denied(store.acquire([by_token(stale)])[0], DenialReason.LEASE_ENDED)
        beats_on(store, holder)

    def test_stale_token_of_a_lease_that_is_not_there(
        self, server: Forgetful, store: Store, recorder: LedgerRecorder, lost: Callable[[], None]
    ) -> None:
        """Nor does it count where both grants were lost: the seat is kept for the later one's bearer."""
        server.remember()
        stale = take(store, "ann")
        holder = take(store, "ann")
        recorder.run()
        lost()
        denied(store.acquire([by_token(stale)])[0], DenialReason.LEASE_ENDED)
        assert refused(store, "bob").in_use == 0
        back = granted(store.acquire([by_token(holder)])[0])
        assert back.id == holder.id
        beats_on(store, back)

    @pytest.mark.parametrize("before", ["taken", "not"])
    def test_released_lease_gives_no_seat(
        self,
        server: Forgetful,
        store: Store,
        recorder: LedgerRecorder,
        lost: Callable[[], None],
        before: str,
    ) -> None:
        """A lease that was given back is over, whether its grant was lost, too, or not."""
        if before == "not":
            server.remember()
        released = take(store, "ann")
        if before == "taken":
            server.remember()
        give_back(store, released)
        holder = take(store, "bob")
        recorder.run()
        lost()
        assert beat(store, released) is None
        denied(store.acquire([by_token(released)])[0])
        back = granted(store.acquire([by_token(holder)])[0])
        beats_on(store, back)
        denied(store.acquire([by_token(released)])[0])
        assert usage(store).in_use == 1

    def test_ended_session_stays_ended(
        self, server: Forgetful, store: Store, recorder: LedgerRecorder, lost: Callable[[], None]
    ) -> None:
        """However long ago that was, with the leases that belonged to it."""
        sign_in(store, "ended")
        lease = take(store, "ann", session_id="ended")
        server.remember()
        store.end(ids=["ended"], reason="stolen", actor="user:ann")
        recorder.run()
        lost()
        assert gone(store, "ended").end_reason == "stolen"
        assert beat(store, lease) is None
        assert usage(store).in_use == 0

    def test_rotated_token_stays_dead(
        self, server: Forgetful, store: Store, recorder: LedgerRecorder, lost: Callable[[], None]
    ) -> None:
        """A session whose rotation was lost is over: only the token that was refused would open it. One
        that is rotated afterwards is not."""
        sign_in(store, "rotated")
        sign_in(store, "later")
        server.remember()
        assert store.rotate("rotated", token_hash("new")) is not None
        gone(store, "rotated")
        recorder.run()
        lost()
        gone(store, "rotated")
        gone(store, "new")
        assert store.rotate("later", token_hash("newer")) is not None
        recorder.run()
        server.kill()
        server.start()
        works_within_bound(store.pulse)
        recorder.run()
        assert present(store, "newer").id == "later"

    # The living

    def test_resumed_just_before_a_restart(
        self, server: Forgetful, store: Store, recorder: LedgerRecorder
    ) -> None:
        """Of a lease whose end is recorded, and its resume is not yet, nobody ends the second life."""
        lease = take(store, "ann")
        heir = evict(store, lease, "bob")
        give_back(store, heir)
        recorder.run()
        resumed = granted(store.acquire([by_token(lease)])[0])
        assert resumed.id == lease.id
        server.kill()
        server.start()
        works_within_bound(store.pulse)
        recorder.run()
        beats_on(store, resumed)
        recorder.run()
        beats_on(store, resumed)

    def test_lost_eviction_and_resume(
        self, server: Forgetful, store: Store, recorder: LedgerRecorder, lost: Callable[[], None]
    ) -> None:
        """Whose lease ended and was resumed, of which the store knows neither, beats on."""
        lease = take(store, "ann")
        server.remember()
        give_back(store, evict(store, lease, "bob"))
        resumed = granted(store.acquire([by_token(lease)])[0])
        recorder.run()
        lost()
        beats_on(store, resumed)
        assert beat(store, lease) is None

    def test_seat_is_kept_for_nobody_who_left(
        self, server: Forgetful, store: Store, recorder: LedgerRecorder, lost: Callable[[], None]
    ) -> None:
        """A seat that was kept before another loss is free where its holder has given it back since."""
        server.remember()
        lease = take(store, "ann")
        recorder.run()
        lost()
        refused(store, "bob")
        server.remember()
        give_back(store, granted(store.acquire([by_token(lease)])[0]))
        recorder.run()
        lost()
        take(store, "bob")

    def test_lost_resume(
        self, server: Forgetful, store: Store, recorder: LedgerRecorder, lost: Callable[[], None]
    ) -> None:
        """Who had resumed, and is known to have, comes back to the seat that is kept for it."""
        lease = take(store, "ann")
        give_back(store, evict(store, lease, "bob"))
        server.remember()
        resumed = granted(store.acquire([by_token(lease)])[0])
        recorder.run()
        lost()
        assert refused(store, "bob").in_use == 0
        back = granted(store.acquire([by_token(resumed)])[0])
        assert back.id == lease.id
        beats_on(store, back)

    def test_capacity_beside_those_who_come_back(
        self, server: Forgetful, store: Store, recorder: LedgerRecorder, lost: Callable[[], None]
    ) -> None:
        """Those whom the ledger knows have their seats; others get what is left, and no more."""
        self.with_capacity(store, 6)
        kept = [take(store, f"kept-{n}") for n in range(2)]
        server.remember()
        known = [take(store, f"known-{n}") for n in range(3)]
        recorder.run()
        lost()
        fresh = store.acquire([acquire(f"new-{n}") for n in range(9)])
        assert sum(isinstance(x, Lease) for x in fresh) == 1
        for lease in kept:
            beats_on(store, lease)
        back = [granted(x) for x in store.acquire([by_token(lease) for lease in known])]
        assert [x.id for x in back] == [x.id for x in known]
        assert usage(store).in_use == 6
        assert not [event for event in store.events(limit=1_000) if event.data.get("overage")]

    def test_what_nobody_recorded(
        self, server: Forgetful, store: Store, recorder: LedgerRecorder, lost: Callable[[], None]
    ) -> None:
        """Who was granted a seat that neither store nor ledger knows of is let in; an overage is told."""
        recorder.run()
        server.remember()
        unknown = take(store, "ann")
        lost()
        holder = take(store, "bob")
        back = granted(store.acquire([by_token(unknown)])[0])
        assert (back.id, usage(store).in_use) == (unknown.id, 2)
        [told] = [event for event in store.events(limit=1_000) if event.data.get("overage")]
        assert told.subject == unknown.id
        beats_on(store, back)
        beats_on(store, holder)

    # All of it

    @pytest.mark.parametrize("seed", SEEDS)
    def test_in_any_order(
        self,
        server: Forgetful,
        database_url: str,
        open_at: Callable[[str], Store],
        ledger: Ledger,
        seed: int,
    ) -> None:
        """Whatever is done, restarted and lost: the living have their seats, and nobody else has."""
        server.remember()  # with nothing in it: to lose all is one of what may happen
        three = pool(3, **EVICTING)
        with closing(open_at(database_url)) as store:
            assert isinstance(store, Recorded)
            recorder = LedgerRecorder(store, store, ledger)
            recorder.run()
            store.define([three])
            Walk(store, server, recorder, three, seed).go(STEPS)
