"""The races that could sell a seat twice, each brought about on purpose."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, closing
from typing import Any

import pytest
from sqlalchemy import event, text

from sojourn.clock import ManualClock
from sojourn.lease import Denied, EndReason, Lease, LeaseFilter
from sojourn.license import CountBy, Policy, Pool, WhenFull
from sojourn.pool_reader import SeatCount
from sojourn.stores import open as stores
from sojourn.stores.sql import pools
from sojourn.stores.sql.pools import Certificate, Certificates
from sojourn.stores.sql.store import SqlStore
from sojourn.testing.builders import acquire, beat, give_back, look_up, pool, take, usage

ROUNDS = 3
WAIT = 10.0  # seconds


@pytest.fixture(params=["empty_sqlite", "empty_postgres", "empty_mariadb"])
def url(request: pytest.FixtureRequest) -> str:
    found: str = request.getfixturevalue(request.param)
    return found


@pytest.fixture(params=["empty_postgres", "empty_mariadb"])
def server_url(request: pytest.FixtureRequest) -> str:
    found: str = request.getfixturevalue(request.param)
    return found


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def opened() -> Iterator[Callable[..., SqlStore]]:
    with ExitStack() as stack:

        def open_store(url: str, clock: ManualClock) -> SqlStore:
            store = stack.enter_context(closing(stores.open_store(url, clock=clock)))
            assert isinstance(store, SqlStore)
            return store

        yield open_store


Opened = Callable[..., SqlStore]


def test_two_crowds_of_fifty(url: str, clock: ManualClock, opened: Opened) -> None:
    """50 threads each on two stores, on 5 seats: exactly 5, whatever else they do."""
    two = opened(url, clock), opened(url, clock)
    two[0].define([pool(5)])
    with ThreadPoolExecutor(100) as crowd:
        for number in range(ROUNDS):
            work = [
                crowd.submit(two[n % 2].acquire, [acquire(f"{number}-{n}")]) for n in range(100)
            ]
            leases = [x for f in work for x in f.result() if isinstance(x, Lease)]
            assert len(leases) == usage(two[0]).in_use == 5
            for lease in leases:
                assert give_back(two[1], lease)


def test_late_beat_after_the_count(url: str, opened: Opened) -> None:
    """A beat that read the clock before the expiry, and arrives after the seat was given away."""
    early, late = ManualClock(), ManualClock()
    slow, quick = opened(url, early), opened(url, late)
    quick.define([pool(1)])
    lease = take(slow, "ann")
    late.advance(seconds=90)
    holder = take(quick, "bob")
    early.advance(seconds=89)
    assert beat(slow, lease) is None
    assert not give_back(slow, lease)
    assert usage(slow).in_use == usage(quick).in_use == 1
    assert [x.id for x in slow.leases(LeaseFilter())[0]] == [holder.id]


def test_late_acquire_after_the_count(url: str, opened: Opened) -> None:
    """Nor does its holder come back to it without a seat, under a clock that lags."""
    early, late = ManualClock(), ManualClock()
    slow, quick = opened(url, early), opened(url, late)
    quick.define([pool(1)])
    take(slow, "ann")
    late.advance(seconds=90)
    take(quick, "bob")
    early.advance(seconds=89)
    assert isinstance(slow.acquire([acquire("ann")])[0], Denied)


class Held:
    """Statements under way on a connection of their own: done, but not committed."""

    def __init__(self, store: SqlStore) -> None:
        self._connection = store._db.engine.connect()
        self._connection.execute(text("BEGIN"))

    def execute(self, sql: str, **values: Any) -> None:
        assert self._connection.execute(text(sql), values).rowcount == 1

    def commit(self) -> None:
        self._connection.execute(text("COMMIT"))
        self._connection.close()


def blocked(store: SqlStore, words: str) -> threading.Event:
    """Tell when the store sends a statement that begins with these words."""
    seen = threading.Event()

    def note(_c: Any, _k: Any, statement: str, *_: Any) -> None:
        if words in statement:
            seen.set()

    event.listen(store._db.engine, "before_cursor_execute", note)
    return seen


BEAT = "UPDATE sojourn_leases SET last_beat_at = :at, suspect_at = :at + 60000, expires_at = :at + 90000"


def test_beat_under_way_while_counting(server_url: str, clock: ManualClock, opened: Opened) -> None:
    """A beat that came in time but is not committed yet: the count waits for it."""
    store, other = opened(server_url, clock), opened(server_url, clock)
    store.define([pool(1, when_full=WhenFull.DENY)])
    lease = take(store, "ann")
    in_time = clock.advance(seconds=89)
    beating = Held(other)
    beating.execute(f"{BEAT} WHERE id = :id", id=lease.id, at=in_time)
    clock.advance(seconds=2)
    locking = blocked(store, "SELECT id FROM sojourn_leases WHERE id")
    with ThreadPoolExecutor(1) as one:
        answer: Future[Any] = one.submit(store.acquire, [acquire("bob")])
        assert locking.wait(WAIT)
        beating.commit()
        assert isinstance(answer.result()[0], Denied)
    assert beat(store, lease) is not None
    assert usage(store).in_use == 1


def test_beat_under_way_while_evicting(server_url: str, clock: ManualClock, opened: Opened) -> None:
    """A suspect whose beat is on its way when its seat is needed keeps the seat."""
    store, other = opened(server_url, clock), opened(server_url, clock)
    store.define([pool(2)])
    leases = [take(store, "ann"), take(store, "bob")]
    now = clock.advance(seconds=75)
    beating = Held(other)
    beating.execute(f"{BEAT} WHERE id = :id", id=leases[0].id, at=now)
    locking = blocked(store, "FROM sojourn_leases AS l WHERE l.id")
    with ThreadPoolExecutor(1) as one:
        answer: Future[Any] = one.submit(store.acquire, [acquire("eve"), acquire("dan")])
        assert locking.wait(WAIT)
        beating.commit()
        granted, refused = answer.result()
    assert isinstance(granted, Lease)
    assert isinstance(refused, Denied)
    assert beat(store, leases[0]) is not None
    evicted = look_up(store, leases[1].id)
    assert evicted is not None
    assert evicted.end_reason is EndReason.EVICTED


def test_nothing_ends_while_an_acquire_decides(
    server_url: str, clock: ManualClock, opened: Opened
) -> None:
    """A release that comes between an acquire's look at its holders and its count waits.

    Else one batch could keep the seat of its first request, and grant it to the second as well.
    """
    store, other = opened(server_url, clock), opened(server_url, clock)
    store.define([pool(2)])
    leases = [take(store, "ann"), take(store, "bob")]
    store._certificates._of.clear()
    released: list[Future[bool]] = []
    with ThreadPoolExecutor(1) as one:
        locking = blocked(other, "FROM sojourn_pools WHERE id IN (SELECT pool_id")

        def release_now(_c: Any, _k: Any, statement: str, *_: Any) -> None:
            if "AS seats" in statement and not released:
                released.append(one.submit(give_back, other, leases[0]))
                assert locking.wait(WAIT)

        event.listen(store._db.engine, "before_cursor_execute", release_now)
        kept, refused = store.acquire([acquire("ann"), acquire("eve")])
        assert isinstance(kept, Lease)
        assert isinstance(refused, Denied)
        assert released[0].result() is False  # its fence is old by now
    assert usage(store).in_use == 2


def test_renewals_wait_for_no_acquire(server_url: str, clock: ManualClock, opened: Opened) -> None:
    """Beats go through while a pool is locked."""
    store, other = opened(server_url, clock), opened(server_url, clock)
    store.define([pool(2)])
    lease = take(store, "ann")
    acquiring = Held(other)
    acquiring.execute("UPDATE sojourn_pools SET fence = fence + 1 WHERE id = :id", id=lease.pool_id)
    assert beat(store, lease) is not None
    acquiring.commit()


def test_id_of_another_holder(url: str, clock: ManualClock, opened: Opened) -> None:
    """An id that is taken never overwrites the lease that has it."""
    store = opened(url, clock)
    store.define([pool(5)])
    lease = take(store, "ann", lease_id="lea_same")
    with pytest.raises(Exception, match="in use already"):
        store.acquire([acquire("bob", lease_id="lea_same")])
    assert look_up(store, "lea_same") == lease
    assert usage(store).in_use == 1
    take(store, "bob", lease_id="lea_other")


# The certificate that spares a count


def test_room_is_exact_at_the_edge(
    url: str, clock: ManualClock, opened: Opened, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two stores that grant by turns, each with certificates of its own, fill a pool to the brim."""
    counts: list[int] = []
    count = pools.PoolView._count

    def noted(view: pools.PoolView) -> SeatCount:
        counts.append(view.fence)
        return count(view)

    monkeypatch.setattr(pools.PoolView, "_count", noted)
    two = opened(url, clock), opened(url, clock)
    two[0].define([pool(100)])
    answers = [two[n % 2].acquire([acquire(f"user-{n}")])[0] for n in range(103)]
    assert [isinstance(answer, Lease) for answer in answers] == [True] * 100 + [False] * 3
    assert counts[:2] == [0, 1]  # each store once, then none while there is surely room
    assert len(counts) < 12
    for lease in answers[:60]:
        assert isinstance(lease, Lease)
        assert give_back(two[0], lease)
    again = [two[n % 2].acquire([acquire(f"more-{n}")])[0] for n in range(63)]
    assert [isinstance(answer, Lease) for answer in again] == [True] * 60 + [False] * 3


def test_certificates() -> None:
    here = Pool(license_id="lic", feature="x", policy=Policy(capacity=9))
    by_user = Pool(license_id="lic", feature="x", policy=Policy(capacity=9, count_by=CountBy.USER))

    def certified(made_at: float = float("inf")) -> Certificates:
        made = Certificate(fence=10, in_use=4, count_by=CountBy.LEASE, made_at=made_at)
        kept = Certificates()
        kept.keep(here.id, made)
        return kept

    assert Certificates().bound(here, 10) is None
    assert certified().bound(here, 10) == 4
    assert certified().bound(here, 13) == 7  # a grant each
    assert certified().bound(here, 9) is None  # a database restored from a backup
    assert certified().bound(by_user, 13) is None  # other seats are counted now
    assert certified(made_at=float("-inf")).bound(here, 13) is None


def test_certificates_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pools, "CERTIFICATES_MAX", 3)
    kept = Certificates()
    made = Certificate(fence=1, in_use=1, count_by=CountBy.LEASE, made_at=float("inf"))
    for number in range(9):
        kept.keep(f"pool-{number}", made)
    assert list(kept._of) == ["pool-6", "pool-7", "pool-8"]


def test_forked_child(url: str) -> None:
    """A process that forks after it opened a store: parent and child go on, each on its own."""
    with closing(stores.open_store(url)) as store:
        store.define([pool(50)])
        take(store, "parent")
        child = os.fork()
        if child == 0:
            _exit_after(
                lambda: [take(store, "kid", f"{n}", lease_id=f"kid_{n}") for n in range(10)]
            )
        for number in range(10):
            take(store, f"parent-{number}")
        assert os.waitpid(child, 0)[1] == 0
        assert usage(store).in_use == 21


def _exit_after(work: Callable[[], object]) -> None:
    """Leave a forked child without anything of the parent's being closed or flushed."""
    try:
        work()
    except BaseException:  # noqa: BLE001  # told by the exit code
        os._exit(1)
    os._exit(0)
