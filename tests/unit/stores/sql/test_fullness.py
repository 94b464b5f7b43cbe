"""What a large pool that was found full is denied by, without being counted each time."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from tests.databases import Reused, copied

from sojourn.clock import MINUTE, SECOND, ManualClock
from sojourn.event import EventKind
from sojourn.lease import Lease, LeaseFilter, Release
from sojourn.license import CountBy, WhenFull
from sojourn.store import Store
from sojourn.stores.open import open_store
from sojourn.stores.sql import fullness
from sojourn.stores.sql.pools import PoolView
from sojourn.testing.builders import (
    OPERATOR,
    POOL,
    acquire,
    beat,
    give_back,
    granted,
    news,
    pool,
    refused,
    sign_in,
    take,
)
from sojourn.testing.machine import OlderEvidence, drive
from sojourn.testing.regions import Region

pytestmark = pytest.mark.usefixtures("of_any_size")


@pytest.fixture
def of_any_size(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have every pool be as a large one."""
    monkeypatch.setattr(fullness, "FULL_FROM", 1)


@pytest.fixture(params=["sqlite", "postgres", "mariadb"])
def url(request: pytest.FixtureRequest) -> str:
    found: str = request.getfixturevalue(f"empty_{request.param}")
    return found


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def store(url: str, clock: ManualClock) -> Iterator[Store]:
    with closing(open_store(url, clock=clock)) as store:
        yield store


@pytest.fixture
def other(url: str, clock: ManualClock) -> Iterator[Store]:
    """Another server on the same database."""
    with closing(open_store(url, clock=clock)) as store:
        yield store


@pytest.fixture
def counts(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Grow with each count of a pool."""
    counted: list[int] = []
    real = PoolView._totals

    def totals(view: PoolView) -> Any:
        counted.append(view.now)
        return real(view)

    monkeypatch.setattr(PoolView, "_totals", totals)
    return counted


def filled(store: Store, capacity: int = 2, **policy: Any) -> list[Lease]:
    """Fill a pool, and have somebody denied."""
    store.define([pool(capacity, **policy)])
    leases = [take(store, f"ann{number}") for number in range(capacity)]
    refused(store, "bob")
    return leases


def test_is_counted_once(store: Store, clock: ManualClock, counts: list[int]) -> None:
    """Within a second, denials say what the first found out, as of then."""
    leases = filled(store)
    asked = len(counts)
    first = clock.now()
    clock.advance(milliseconds=900)
    assert beat(store, leases[0]) is not None
    answer = refused(store, "ann0", "other")
    assert len(counts) == asked
    assert (answer.at, answer.in_use, answer.limit) == (first, 2, 2)
    assert [lease.id for lease in answer.evidence] == [lease.id for lease in leases]
    assert {lease.last_beat_at for lease in answer.evidence} == {first}
    assert [lease.last_beat_at for lease in answer.mine] == [first + 900]
    assert answer.retry_after == 70 * SECOND - 900  # a suspect after 60 s, with a linger of 10 s
    told = news(store, 0, EventKind.LEASE_DENIED)[-1]
    assert told.at == first + 900
    assert {held["lastBeatAgo"] for held in told.data["holders"]} == {0}
    clock.advance(milliseconds=100)
    assert refused(store, "bob").at == first + 1_000
    assert len(counts) == asked + 1


def shared(store: Store, capacity: int, seats: int) -> Region:
    """Give a relay seats of a pool."""
    store.define([pool(capacity)])
    east = Region(store)
    east.ask(seats)
    assert east.seats == seats
    return east


def test_full_with_what_relays_have_is_counted_once(store: Store, counts: list[int]) -> None:
    """However many are refused beside allotments, the pool is counted for the first of them."""
    shared(store, 5, 3)
    take(store, "ann0")
    take(store, "ann1")
    refused(store, "bob")
    asked = len(counts)
    for number in range(5):
        answer = refused(store, f"cid{number}")
        assert (answer.in_use, answer.allotted) == (2, 3)
    assert len(counts) == asked


def test_grant_of_meanwhile_ends_it_beside_relays(store: Store, other: Store) -> None:
    """A relay gave a seat back, and it was granted: who asks for it then is told of another count."""
    east = shared(store, 5, 3)
    take(store, "ann0")
    take(store, "ann1")
    refused(store, "bob")
    refused(store, "bob")
    east.keep(2)
    take(other, "cid")
    assert refused(store, "bob").in_use == 3
    east.ask(3)
    assert east.seats == 2


def test_of_a_small_pool_nothing_is_kept(
    store: Store, clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is counted each time."""
    monkeypatch.setattr(fullness, "FULL_FROM", 3)
    filled(store)
    assert refused(store, "bob").at == clock.advance(milliseconds=1) - 1
    assert refused(store, "bob").at == clock.now()


@pytest.mark.parametrize("more", [{"capacity": 3}, {"overdraft": 1}])
def test_a_policy_of_meanwhile_ends_it(store: Store, other: Store, more: dict[str, Any]) -> None:
    """What was counted is not who is there after a policy that let more in, though it is gone again, and
    though another server had it."""
    filled(store)
    other.define([pool(**{"capacity": 2} | more)])
    take(other, "bob")
    other.define([pool(2)])
    assert refused(store, "cid").in_use == 3


def test_the_same_policy_again_leaves_it(
    store: Store, other: Store, clock: ManualClock, counts: list[int]
) -> None:
    """A server that starts defines its pools anew."""
    filled(store)
    other.define([pool(2)])
    asked = len(counts)
    clock.advance(milliseconds=1)
    assert refused(store, "cid").at == clock.now() - 1
    assert len(counts) == asked


def released(store: Store, lease: Lease) -> None:
    assert give_back(store, lease)


def revoked(store: Store, lease: Lease) -> None:
    assert store.revoke(LeaseFilter(ids=(lease.id,)), OPERATOR)


def session_ended(store: Store, lease: Lease) -> None:
    assert store.end(ids=["ses_1"]) == ["ses_1"]


def dropped(store: Store, lease: Lease) -> None:
    assert store.drop([POOL], OPERATOR) == 2
    store.define([pool(2)])


def moved(store: Store, lease: Lease) -> None:
    """Its user takes the seat elsewhere, and gives it back there."""
    elsewhere = granted(store.acquire([acquire("ann0", "other", takeover=True)])[0])
    assert give_back(store, elsewhere)


def enlarged(store: Store, lease: Lease) -> None:
    store.define([pool(3)])


def lowered(store: Store, lease: Lease) -> None:
    store.define([pool(2, heartbeat_interval=50, lost_after=100, linger=0)])


WAYS = (released, revoked, session_ended, dropped, moved, enlarged)


def free_in(store: Store, other: Store, way: Callable[[Store, Lease], None]) -> None:
    """Have a seat come free by way of another server, while this one knows the pool to be full."""
    store.define([pool(2)])
    sign_in(store)
    lease = take(store, "ann0", session_id="ses_1")
    take(store, "ann1")
    refused(store, "bob")
    refused(store, "bob")
    way(other, lease)
    take(store, "bob")


@pytest.mark.parametrize("way", WAYS, ids=lambda way: way.__name__)
def test_who_ends_a_lease_ends_it(
    store: Store, other: Store, way: Callable[[Store, Lease], None]
) -> None:
    """A seat that comes free is given at once, whichever server it came free by."""
    free_in(store, other, way)


def test_stale_certificate_is_found(
    store: Store, other: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Were a certificate used though a lease has ended, these tests would say so."""
    monkeypatch.setattr(fullness, "ended_since", lambda tx, pool, known: known.since)
    with pytest.raises(AssertionError, match="denied"):
        free_in(store, other, released)


def test_seat_that_comes_free_in_the_same_batch_counts(store: Store, other: Store) -> None:
    """What a batch itself has ended, its own certificate knows nothing of, and the next one does."""
    filled(store)
    batch = [
        acquire("ann0", "two", takeover=True),
        acquire("bob"),
        acquire("ann1", "two", takeover=True),
    ]
    first, denied, last = store.acquire(batch)
    assert isinstance(denied, type(refused(other, "cid")))
    assert other.release(
        [Release(lease_id=granted(x).id, fence=granted(x).fence) for x in (first, last)]
    )
    take(store, "cid")
    take(store, "dan")
    refused(store, "eve")


@pytest.mark.parametrize(
    ("policy", "wait"),
    [
        ({"when_full": WhenFull.DENY}, 90 * SECOND),
        ({}, 70 * SECOND),
        ({"count_by": CountBy.USER}, 70 * SECOND),
        ({"count_by": CountBy.CLIENT, "when_full": WhenFull.DENY}, 90 * SECOND),
    ],
)
def test_silence_ends_it_to_the_millisecond(
    store: Store, clock: ManualClock, counts: list[int], policy: dict[str, Any], wait: int
) -> None:
    """The first lease that is lost, or past its linger, is somebody else's at that instant."""
    store.define([pool(2, **policy)])
    take(store, "ann", "one")
    clock.advance(milliseconds=400)
    take(store, "bob", "two")
    clock.advance(milliseconds=wait - 900)
    asked = refused(store, "cid", "three").at
    clock.advance(milliseconds=499)
    seen = len(counts)
    assert refused(store, "cid", "three").at == asked
    assert refused(store, "cid", "three").retry_after == 1
    assert len(counts) == seen
    clock.advance(milliseconds=1)
    take(store, "cid", "three")


@pytest.mark.parametrize("linger", [0, 3 * SECOND, 6 * SECOND, 6 * SECOND + 500])
def test_goodbye_ends_it_in_time(
    store: Store, other: Store, clock: ManualClock, linger: int
) -> None:
    """A tab that says goodbye takes no lock: what was counted before holds for less than its linger."""
    leases = filled(store, linger=linger)
    assert beat(other, leases[0], closing=True) is not None
    if linger:
        clock.advance(milliseconds=linger - 1)
        refused(store, "bob")
        clock.advance(milliseconds=1)
    take(store, "bob")


def test_shorter_policy_ends_it(store: Store, other: Store, clock: ManualClock) -> None:
    """Whom the new policy calls lost has lost its seat."""
    filled(store, heartbeat_interval=50, lost_after=MINUTE)
    clock.advance(milliseconds=500)
    refused(store, "bob")
    lowered(other, take(store, "ann0"))
    take(store, "bob")


def test_shorter_policy_of_meanwhile_ends_it(
    store: Store, other: Store, clock: ManualClock
) -> None:
    """Whom it called lost has lost its seat, though the pool is as it was by now."""
    filled(store, heartbeat_interval=50, lost_after=MINUTE)
    clock.advance(milliseconds=500)
    refused(store, "bob")
    other.define([pool(2, heartbeat_interval=50, lost_after=100, linger=0)])
    other.define([pool(2, heartbeat_interval=50, lost_after=MINUTE)])
    take(store, "bob")


def test_idle_holders_are_looked_for_each_time(store: Store, other: Store) -> None:
    """A beat may say that its person has been away for as long as it takes."""
    leases = filled(store, when_full=WhenFull.EVICT_IDLE, idle_after=MINUTE)
    assert beat(other, leases[0], idle_for=2 * MINUTE) is not None
    take(store, "bob")


def test_against_memory(migrated_sqlite: Path, tmp_path: Path) -> None:
    """In whatever order things happen, nobody is denied whom the reference model lets in."""
    drive(
        lambda clock: open_store(copied(migrated_sqlite, tmp_path / "machine.db"), clock=clock),
        examples=8,
        machine=OlderEvidence,
    )


@pytest.mark.parametrize("database", ["reused_postgres", "reused_mariadb"])
def test_servers_against_memory(request: pytest.FixtureRequest, database: str) -> None:
    reused: Reused = request.getfixturevalue(database)
    drive(
        lambda clock: open_store(reused.emptied(), clock=clock), examples=4, machine=OlderEvidence
    )
