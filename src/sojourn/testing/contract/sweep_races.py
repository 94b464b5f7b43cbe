"""What sweeps end beside everything else: nobody twice, and nobody who lives."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from functools import partial
from typing import Any

from sojourn.clock import ManualClock
from sojourn.event import EventKind
from sojourn.lease import Lease, LeaseFilter, Renew
from sojourn.plans.plan import RunState, SelectiveRun, SweepScope
from sojourn.store import Store
from sojourn.sweeps.selective import Selective
from sojourn.testing.builders import acquire, beat, pool, take
from sojourn.testing.contract.crowds import everything, together

GHOSTS, LIVING, NEWCOMERS = 60, 30, 100


class SweepRaces:
    def test_two_sweepers_and_a_hundred_acquires_at_once(
        self, stores: tuple[Store, Store], clock: ManualClock
    ) -> None:
        """Nothing is swept twice, nothing alive is swept: who beats or acquires meanwhile has a seat, who
        was told that its beat counted keeps it, and each silent one is ended once."""
        stores[0].define([pool(GHOSTS + LIVING + NEWCOMERS)])
        ghosts = [take(stores[0], f"ghost-{i:03}") for i in range(GHOSTS)]
        living = [take(stores[0], f"living-{i:03}") for i in range(LIVING)]
        clock.advance(seconds=75)
        for lease in living:
            beat(stores[0], lease)

        def sweep(number: int) -> SelectiveRun:
            run = SelectiveRun(
                id=f"run-{number}",
                actor=f"sweeper-{number}",
                scope=SweepScope(feature="editor", silent_for=60_000),
                started_at=clock.now(),
            )
            selective = Selective(stores[number % 2], page=25, step=7)
            return selective.carry_out(run, go_on=lambda _: True, beat=lambda: True)

        def come(number: int) -> Lease:
            answer = stores[number % 2].acquire([acquire(f"new-{number:03}")])[0]
            assert isinstance(answer, Lease), answer
            return answer

        def wake(number: int) -> Lease | None:
            """Beat as one of the ghosts, who is not gone yet."""
            lease = ghosts[number]
            renew = Renew(lease_id=lease.id, fence=lease.fence, pool_id=lease.pool_id)
            return lease if stores[number % 2].renew([renew])[0] is not None else None

        work: list[Callable[[], Any]] = [partial(sweep, n) for n in range(2)]
        work += [partial(come, n) for n in range(NEWCOMERS)]
        work += [partial(wake, n) for n in range(0, GHOSTS, 3)]
        work += [partial(stores[n].sweep, limit=50) for n in range(2)]
        answers = together(work)
        runs = answers[:2]
        newcomers = answers[2 : 2 + NEWCOMERS]
        woken = [x for x in answers[2 + NEWCOMERS : -2] if x is not None]
        ended = [e.subject for e in everything(stores[0]) if e.kind is EventKind.LEASE_REVOKED]
        assert max(Counter(ended).values()) == 1
        assert sorted(map(str, ended)) == sorted({x.id for x in ghosts} - {x.id for x in woken})
        assert [run.state for run in runs] == [RunState.DONE] * 2
        assert sum(run.ended for run in runs) == len(ended)
        live, _ = stores[1].leases(LeaseFilter(), limit=1_000)
        assert sorted(x.id for x in live) == sorted(x.id for x in [*living, *newcomers, *woken])

    def test_sweepers_note_each_expiry_once(
        self, stores: tuple[Store, Store], clock: ManualClock
    ) -> None:
        """Housekeeping and sweeps of a scope side by side, while seats are given away again."""
        stores[0].define([pool(GHOSTS)])
        ghosts = [take(stores[0], f"ghost-{i:03}") for i in range(GHOSTS)]
        clock.advance(seconds=100)

        def tidy(number: int) -> int:
            which = LeaseFilter(feature="editor") if number % 4 > 1 else None
            noted = 0
            for _ in range(GHOSTS):
                swept = stores[number % 2].sweep(limit=10, which=which)
                noted += swept.leases_expired
                if not swept.more:
                    break
            return noted

        def come(number: int) -> Lease:
            answer = stores[number % 2].acquire([acquire(f"new-{number:03}")])[0]
            assert isinstance(answer, Lease), answer
            return answer

        work: list[Callable[[], Any]] = [partial(tidy, n) for n in range(4)]
        work += [partial(come, n) for n in range(GHOSTS)]
        together(work)
        tidy(0)
        told = [e.subject for e in everything(stores[0]) if e.kind is EventKind.LEASE_EXPIRED]
        assert sorted(map(str, told)) == sorted(x.id for x in ghosts)
        live, _ = stores[0].leases(LeaseFilter(), limit=1_000)
        assert len(live) == GHOSTS
