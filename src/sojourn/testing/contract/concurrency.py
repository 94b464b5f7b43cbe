"""What still holds with many at once, over two instances of a store on the same data."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from functools import partial

import pytest

from sojourn.clock import SECOND, ManualClock
from sojourn.event import Event, EventKind
from sojourn.lease import Acquire, Denied, Lease, LeaseFilter, Renew
from sojourn.license import CountBy, Reservation
from sojourn.session import Save
from sojourn.store import Outage, Store
from sojourn.testing.builders import (
    OPERATOR,
    acquire,
    beat,
    denied,
    give_back,
    pool,
    sign_in,
    take,
    usage,
)
from sojourn.testing.contract.crowds import ROUNDS, START_TIMEOUT, crowd, everything, together
from sojourn.testing.contract.session_races import SessionRaces
from sojourn.testing.regions import Region

OVERTAKEN_WITHIN = 1.0  # seconds; a store that holds a lock meanwhile lets the rival in after it
CROWD = 200


def most_held(events: Sequence[Event]) -> int:
    """Replay the stream, which is in the order of commits: how many leases lived at once?"""
    held: set[str | None] = set()
    most = 0
    for event in events:
        match event.kind:
            case EventKind.LEASE_ACQUIRED | EventKind.LEASE_RESUMED:
                held.add(event.subject)
            case EventKind.LEASE_RELEASED | EventKind.LEASE_EVICTED | EventKind.LEASE_REVOKED:
                held.discard(event.subject)
            case _:
                pass
        most = max(most, len(held))
    return most


class StoreConcurrency(SessionRaces):
    def test_crowd_gets_exactly_the_capacity(self, stores: tuple[Store, Store]) -> None:
        """200 at once on 5 seats: exactly 5 leases, in every round, and 195 denials with proof."""
        for i in range(ROUNDS):
            here = pool(5, feature=f"round-{i}")
            stores[0].define([here])

            def one(number: int, pool_id: str = here.id) -> Lease | Denied:
                request = acquire(f"user-{number}", pool_id=pool_id)
                return stores[number % 2].acquire([request])[0]

            answers = crowd(CROWD, one)
            leases = [answer for answer in answers if isinstance(answer, Lease)]
            refusals = [denied(answer) for answer in answers if not isinstance(answer, Lease)]
            assert sorted(lease.fence for lease in leases) == [1, 2, 3, 4, 5]
            assert {(r.in_use, r.limit, len(r.evidence)) for r in refusals} == {(5, 5, 5)}
            for store in stores:
                assert usage(store, here.id).in_use == 5

    def test_crowd_on_reserved_seats_and_an_overdraft(self, stores: tuple[Store, Store]) -> None:
        """200 at once on 5 seats, 2 of them kept for 4 of the crowd, and 2 above: never more than 7 are
        held or kept, no reserved seat goes to others, and two of the four have theirs."""
        kept = Reservation(name="kept", seats=2, users=tuple(f"user-{n}" for n in range(4)))
        for i in range(ROUNDS):
            here = pool(5, feature=f"kept-{i}", overdraft=2, reservations=(kept,))
            stores[0].define([here])

            def one(number: int, pool_id: str = here.id) -> Lease | Denied:
                request = acquire(f"user-{number}", pool_id=pool_id)
                return stores[number % 2].acquire([request])[0]

            answers = crowd(CROWD, one)
            leases = [answer for answer in answers if isinstance(answer, Lease)]
            inside = [lease for lease in leases if lease.user_id in kept.users]
            assert len(leases) == 7
            assert len(inside) >= 2
            assert sum(lease.overdraft for lease in leases) == 2
            refusals = [denied(answer) for answer in answers if not isinstance(answer, Lease)]
            assert {r.in_use + r.reserved_free for r in refusals} == {7}
            for store in stores:
                counted = usage(store, here.id)
                assert (counted.in_use, counted.overdrawn, counted.reserved) == (
                    7,
                    2,
                    (len(inside),),
                )

    def test_crowd_and_relays_share_the_capacity(self, stores: tuple[Store, Store]) -> None:
        """Relays that ask for more and give some back, beside a crowd: what they have and what is held here
        is never more than there is, whoever looks, and in the end not less."""
        here = pool(12, feature="shared")
        stores[0].define([here])
        names = ("east", "west", "north", "south")

        def relay(name: str, store: Store) -> int:
            region = Region(store, name, pool_id=here.id)
            for want in (4, 9, 2, 6, 3, 9):
                region.ask(want)
                region.keep(min(region.seats, want))
                seen = usage(store, here.id)
                assert seen.in_use + seen.allotted <= here.policy.capacity
            return region.seats

        def one(number: int) -> bool | int:
            store = stores[number % 2]
            if number < len(names):
                return relay(names[number], store)
            request = acquire(f"user-{number}", pool_id=here.id)
            return isinstance(store.acquire([request])[0], Lease)

        answers = crowd(60, one)
        allotted, held = sum(answers[: len(names)]), sum(answers[len(names) :])
        for store in stores:
            seen = usage(store, here.id)
            assert (seen.allotted, seen.in_use) == (allotted, held)
        last = Region(stores[0], "last", pool_id=here.id)
        last.ask(12)
        assert allotted + held + last.seats == here.policy.capacity

    def test_crowd_in_batches(self, stores: tuple[Store, Store]) -> None:
        """Batches that race keep the capacity as single requests do."""
        stores[0].define([pool(25)])

        def one(number: int) -> list[Lease | Denied]:
            return stores[number % 2].acquire(
                [acquire(f"user-{number}-{i}", f"{number % 3}") for i in range(10)]
            )

        answers = crowd(20, one)
        leases = [x for batch in answers for x in batch if isinstance(x, Lease)]
        assert sorted(lease.fence for lease in leases) == list(range(1, 26))
        assert usage(stores[1]).in_use == 25

    def test_same_holder_from_everywhere(self, stores: tuple[Store, Store]) -> None:
        """50 times the same holder at once: one live lease, and one fence that counts."""
        stores[0].define([pool(5)])
        leases = crowd(50, lambda n: take(stores[n % 2], "ann", lease_id=f"lea_{n}"))
        assert len({lease.id for lease in leases}) == 1
        assert sorted(lease.fence for lease in leases) == list(range(1, 51))
        assert (usage(stores[0]).in_use, usage(stores[0]).leases) == (1, 1)
        alive = [lease.fence for lease in leases if beat(stores[0], lease) is not None]
        assert alive == [50]

    def test_shared_seats(self, stores: tuple[Store, Store]) -> None:
        """Counted by user, many clients of many users at once: no more users than seats."""
        stores[0].define([pool(3, count_by=CountBy.USER)])

        def one(number: int) -> Lease | Denied:
            request = acquire(f"user-{number % 8}", f"client-{number // 8}")
            return stores[number % 2].acquire([request])[0]

        answers = crowd(40, one)
        winners = {answer.user_id for answer in answers if isinstance(answer, Lease)}
        assert len(winners) == usage(stores[0]).in_use == 3

    def test_suspects_are_evicted_once(
        self, stores: tuple[Store, Store], clock: ManualClock
    ) -> None:
        """A crowd that needs the seats of five suspects gets those five, once each."""
        stores[0].define([pool(5)])
        suspects = [take(stores[0], f"silent-{i}") for i in range(5)]
        clock.advance(seconds=75)
        answers = crowd(60, lambda n: stores[n % 2].acquire([acquire(f"user-{n}")])[0])
        assert sum(isinstance(answer, Lease) for answer in answers) == 5
        evicted = [e.subject for e in everything(stores[0]) if e.kind is EventKind.LEASE_EVICTED]
        assert sorted(map(str, evicted)) == sorted(lease.id for lease in suspects)

    def test_capacity_holds_in_every_committed_state(self, stores: tuple[Store, Store]) -> None:
        """While many come and go, the stream shows no instant with more leases than seats."""
        stores[0].define([pool(3)])

        def come_and_go(number: int) -> int:
            store, got = stores[number % 2], 0
            for _ in range(10):
                answer = store.acquire([acquire(f"user-{number}")])[0]
                assert usage(store).in_use <= 3
                if isinstance(answer, Lease):
                    got += 1
                    assert give_back(store, answer)
            return got

        got = sum(crowd(20, come_and_go))
        events = everything(stores[0])
        assert most_held(events) <= 3
        assert sum(event.kind is EventKind.LEASE_RELEASED for event in events) == got
        assert [event.id for event in events] == list(range(1, len(events) + 1))
        assert usage(stores[1]).in_use == 0

    def test_overtaken_beat(
        self, stores: tuple[Store, Store], clock: ManualClock, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A beat that set out in time, and arrives when its seat was given away, comes too late."""
        stores[0].define([pool(1)])
        lease = take(stores[0], "ann")
        clock.advance(seconds=89)
        answers: list[Lease | Denied] = []
        rival = threading.Thread(
            target=lambda: answers.extend(stores[1].acquire([acquire("bob")])), name="rival"
        )
        look = clock.now

        def look_slowly() -> int:
            """The first look is at a clock that has moved on before anything is done with it."""
            seen = look()
            if threading.current_thread() is not rival and rival.ident is None:
                clock.advance(seconds=2)
                rival.start()
                rival.join(OVERTAKEN_WITHIN)
            return seen

        monkeypatch.setattr(clock, "now", look_slowly)
        renewed = beat(stores[0], lease)
        rival.join(START_TIMEOUT)
        assert isinstance(answers[0], Lease) == (renewed is None)
        assert usage(stores[0]).in_use == 1

    def test_reader_misses_no_event(self, stores: tuple[Store, Store]) -> None:
        """Whoever follows the stream while others write gets every event, once, in order."""
        stores[0].define([pool(5)])
        done = threading.Event()

        def write(number: int) -> list[int]:
            for i in range(15):
                store = stores[(number + i) % 2]
                store.acquire([acquire(f"user-{number}")])
                sign_in(store, f"ses_{number}_{i}")
            return []

        def follow(store: Store) -> list[int]:
            read: list[int] = []
            while True:
                over = done.is_set()  # before the read, so that the last one sees the last event
                page = store.events(after=read[-1] if read else 0, limit=7)
                read += [event.id for event in page]
                if over and not page:
                    return read

        def write_all() -> list[int]:
            crowd(8, write)
            done.set()
            return []

        followers: list[Callable[[], list[int]]] = [partial(follow, store) for store in stores]
        *read, _ = together([*followers, write_all])
        ids = [event.id for event in everything(stores[0])]
        assert ids == list(range(1, 8 * 15 * 2 + 1))
        assert read == [ids, ids]

    def test_sweeps_side_by_side(self, stores: tuple[Store, Store], clock: ManualClock) -> None:
        """Many sweeps at once note each expired lease once, and hinder nobody who acquires."""
        stores[0].define([pool(100), pool(50, feature="viewer")])
        stores[0].acquire([acquire(f"user-{i}") for i in range(100)])
        clock.advance(seconds=90)

        def sweep(number: int) -> int:
            return stores[number % 2].sweep(limit=30).leases_expired

        def work(number: int) -> int:
            take(stores[number % 2], f"new-{number}")
            take(stores[number % 2], f"new-{number}", pool_id="lic_1:viewer")
            return 0

        noted = sum(crowd(20, lambda n: (sweep if n % 2 else work)(n)))
        while more := stores[0].sweep(limit=500).leases_expired:
            noted += more
        told = [e.subject for e in everything(stores[0]) if e.kind is EventKind.LEASE_EXPIRED]
        assert noted == len(told) == len(set(told)) == 100
        assert usage(stores[1]).in_use == 10

    def test_pulses_side_by_side(self, stores: tuple[Store, Store], clock: ManualClock) -> None:
        """An outage is noticed by exactly one of many that come back at once, acquires among them."""
        stores[0].define([pool(5)])
        stores[0].pulse()
        leases = [take(stores[0], f"user-{i}") for i in range(5)]
        now = clock.advance(seconds=600)

        def come_back(number: int) -> Outage | None:
            store = stores[number // 2 % 2]
            if number % 2:
                return store.pulse()
            assert store.acquire([acquire("late")])[0] is not None
            return None

        noticed = crowd(20, come_back)
        told = [e for e in everything(stores[0]) if e.kind is EventKind.STORE_RETURNED]
        assert [event.data for event in told] == [{"lasted": 600 * SECOND, "extended": 5}]
        assert sum(outage is not None for outage in noticed) <= 1
        live, _ = stores[0].leases(LeaseFilter())
        assert {(x.id, x.expires_at) for x in live} == {(x.id, now + 90 * SECOND) for x in leases}

    def test_no_beat_counts_after_a_revoke(self, stores: tuple[Store, Store]) -> None:
        """Once a revoke has answered, no beat that starts later counts, on either instance."""
        stores[0].define([pool(20)])
        leases = [take(stores[0], f"user-{i}") for i in range(20)]
        revoked = threading.Event()

        def keep_beating(number: int) -> list[bool]:
            seen, store = [], stores[number % 2]
            batch = [Renew(lease_id=x.id, fence=x.fence) for x in leases]
            for _ in range(10):
                over = revoked.is_set()
                answers = store.renew(batch if number % 2 else batch[::-1])
                if over:
                    seen.append(any(answer is not None for answer in answers))
            return seen

        def revoke() -> list[bool]:
            assert len(stores[1].revoke(LeaseFilter(license_id="lic_1"), OPERATOR)) == 20
            revoked.set()
            return []

        work: list[Callable[[], list[bool]]] = [partial(keep_beating, n) for n in range(8)]
        assert not any(flag for seen in together([*work, revoke]) for flag in seen)
        assert usage(stores[0]).in_use == 0

    def test_everything_at_once(self, stores: tuple[Store, Store], clock: ManualClock) -> None:
        """All verbs side by side, on several pools in any order: no fault, no deadlock, no oversell."""
        pools = [pool(4, feature=f"pool-{i}") for i in range(4)]
        stores[0].define(pools)
        stores[0].pulse()

        def live(number: int) -> None:
            store = stores[number % 2]
            order = pools[number % 4 :] + pools[: number % 4]
            for step in range(6):
                user_id = f"user-{number}"
                session_id = f"{user_id}-{step}"
                batch = [acquire(user_id, pool_id=p.id, session_id=session_id) for p in order]
                self._live_once(store, user_id, batch, step)
                clock.advance(milliseconds=10)

        crowd(16, live)
        events = everything(stores[0])
        assert [event.id for event in events] == list(range(1, len(events) + 1))
        for each in pools:
            assert usage(stores[0], each.id).in_use <= 4
            assert most_held([event for event in events if event.pool_id == each.id]) <= 4

    @staticmethod
    def _live_once(store: Store, user_id: str, batch: list[Acquire], step: int) -> None:
        name = f"{user_id}-{step}"
        sign_in(store, name, user_id, limit=3)
        leases = [x for x in store.acquire(batch) if isinstance(x, Lease)]
        store.renew([Renew(lease_id=x.id, fence=x.fence) for x in leases])
        store.save([Save(id=name, set={"step": step})])
        store.define([pool(4, feature="pool-0")])
        store.pulse()
        store.sweep(limit=50)
        for lease in leases[: step % 4]:
            give_back(store, lease)
        if step % 3 == 2:
            store.revoke(LeaseFilter(user_id=user_id), OPERATOR)
        store.end(user_id=user_id, keep=[name] if step % 2 else [])
        store.leases(LeaseFilter(user_id=user_id))
        store.events(limit=10, newest_first=True)
        store.usage([request.pool_id for request in batch])
        assert all(session.user_id == user_id for session in store.of(user_id))
