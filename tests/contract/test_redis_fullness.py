"""What a large pool on Redis that had to be read whole is denied by, without being read again each time."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from contextlib import closing
from typing import Any

import pytest
import redis
from msgspec.structs import replace
from tests.contract.test_redis import emptied

from sojourn.clock import MINUTE, SECOND, ManualClock
from sojourn.device import Device
from sojourn.lease import Doubt, Lease, LeaseFilter
from sojourn.license import CountBy, Reservation, WhenFull
from sojourn.store import Store
from sojourn.stores.open import open_store
from sojourn.stores.redis import scripts, seats
from sojourn.testing.builders import (
    OPERATOR,
    POOL,
    acquire,
    beat,
    denied,
    give_back,
    granted,
    pool,
    refused,
    sign_in,
    take,
    usage,
)
from sojourn.testing.machine import OlderEvidence, drive
from sojourn.testing.redis_server import RedisServer, redis_server
from sojourn.testing.regions import Region

KEPT = Reservation(name="kept", seats=1, users=("vip",))
KINDS: dict[str, dict[str, Any]] = {
    "by user": {"count_by": CountBy.USER},
    "by client": {"count_by": CountBy.CLIENT},
    "reserved": {"reservations": (replace(KEPT, seats=1, users=("ann0",)),)},
    "idle": {"when_full": WhenFull.EVICT_IDLE, "idle_after": MINUTE},
}
MANY = 600
BOUNDED = 150
"""Commands that a decision in a pool of MANY may take; to read it takes more than MANY."""


@pytest.fixture(scope="module")
def server() -> Iterator[RedisServer]:
    with redis_server() as server:
        yield server


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def of_any_size(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have every pool be as a large one."""
    monkeypatch.setattr(seats, "FULL_FROM", 1)


@pytest.fixture
def store(server: RedisServer, clock: ManualClock) -> Iterator[Store]:
    with closing(open_store(emptied(server.url), clock=clock)) as store:
        yield store


@pytest.fixture
def commands(server: RedisServer) -> Iterator[Callable[[], int]]:
    """Say how many commands the server has carried out since it was asked last."""
    with redis.Redis.from_url(server.url) as client:

        def since() -> int:
            calls = sum(x["calls"] for x in client.info("commandstats").values())
            client.config_resetstat()
            return int(calls)

        yield since


def filled(
    store: Store,
    capacity: int = 2,
    at: ManualClock | None = None,
    *,
    allotted: int = 0,
    **policy: Any,
) -> list[Lease]:
    """Fill a pool, a few at an instant, and have somebody denied."""
    store.define([pool(capacity, **policy)])
    leases = []
    most = capacity - allotted
    for first in range(0, most, 20):
        asked = [acquire(f"ann{n}", f"tab{n}") for n in range(first, min(first + 20, most))]
        leases += [granted(x) for x in store.acquire(asked)]
        if at is not None:
            at.advance(milliseconds=1)
    refused(store, "bob", "bob's")
    return leases


@pytest.mark.parametrize("policy", KINDS.values(), ids=KINDS)
def test_is_read_once(
    store: Store,
    clock: ManualClock,
    commands: Callable[[], int],
    policy: dict[str, Any],
) -> None:
    """However many are denied, whoever beats meanwhile: the figures say as of when they are, and are no older
    than a second. Where a beat may say that its person has been idle, it is read again each second."""
    leases = filled(store, MANY, clock, **policy)
    first = clock.now()
    for number in range(20):
        clock.advance(milliseconds=10)
        assert beat(store, leases[number]) is not None
        commands()
        answer = refused(store, f"bob{number}", f"bob's {number}")
        assert commands() < BOUNDED
        assert (answer.at, answer.in_use, answer.limit) == (first, MANY, MANY)
        assert [x.id for x in answer.evidence] == sorted(x.id for x in leases[:20])
        assert {x.last_beat_at for x in answer.evidence} == {leases[0].last_beat_at}
    assert denied(store.preview([acquire("bob", "bob's")])[0]).at == first
    assert commands() < BOUNDED
    for _ in range(3):
        clock.advance(seconds=1)
        answer = refused(store, "bob", "bob's")
        assert (commands() > MANY) == ("idle_after" in policy)
        assert (answer.at, answer.in_use) == (clock.now(), MANY)
        assert [x.id for x in answer.evidence] == sorted(x.id for x in leases[20:40])
        assert answer.retry_after == leases[20].last_beat_at + 70 * SECOND - clock.now()


@pytest.mark.parametrize("policy", KINDS.values(), ids=KINDS)
def test_full_beside_relays_is_read_once(
    store: Store, clock: ManualClock, commands: Callable[[], int], policy: dict[str, Any]
) -> None:
    """And read again once a relay has given a seat back and it was granted."""
    east = Region(store)
    store.define([pool(MANY + 5, **policy)])
    east.ask(5)
    assert east.seats == 5
    filled(store, MANY + 5, clock, allotted=5, **policy)
    for number in range(5):
        clock.advance(milliseconds=10)
        commands()
        answer = refused(store, f"bob{number}", f"bob's {number}")
        assert commands() < BOUNDED
        assert (answer.in_use, answer.allotted) == (MANY, 5)
    east.keep(4)
    take(store, "cid", "cid's")
    assert refused(store, "bob", "bob's").in_use == MANY + 1
    east.ask(5)
    assert east.seats == 4


@pytest.mark.parametrize("count_by", list(CountBy))
def test_beat_of_a_relay_reads_no_pool(
    store: Store, clock: ManualClock, commands: Callable[[], int], count_by: CountBy
) -> None:
    """An allotment that is but renewed takes as many commands however many sit at the authority."""
    east = Region(store)
    store.define([pool(MANY + 50, count_by=count_by)])
    east.ask(20)
    east.ask(20)
    commands()
    east.ask(20)
    few = commands()
    for first in range(0, MANY, 20):
        store.acquire([acquire(f"ann{n}", f"tab{n}") for n in range(first, first + 20)])
    commands()
    east.ask(20)
    assert commands() <= few + 2
    assert (east.seats, usage(store).allotted) == (20, 20)


@pytest.mark.parametrize("count_by", [CountBy.USER, CountBy.CLIENT])
def test_a_grant_reads_no_pool_either(
    store: Store, clock: ManualClock, commands: Callable[[], int], count_by: CountBy
) -> None:
    """Neither where a seat is shared, nor where there is surely room, once it was counted."""
    filled(store, MANY, count_by=count_by)
    second = ("ann7", "two") if count_by is CountBy.USER else ("two", "tab7")
    commands()
    shared = take(store, *second)
    assert commands() < BOUNDED
    assert refused(store, "bob", "bob's").at == clock.now()
    assert commands() < BOUNDED
    assert usage(store).in_use == MANY
    store.define([pool(MANY + 300, count_by=count_by)])
    take(store, "cid", "cid's")  # counts it for the new policy
    commands()
    for number in range(50):
        take(store, f"dan{number}", f"dan's {number}")
        joined = (f"dan{number}", "two") if count_by is CountBy.USER else ("two", f"dan's {number}")
        take(store, *joined)
        assert commands() < BOUNDED
    assert give_back(store, shared)
    assert usage(store).in_use == MANY + 51


def released(store: Store, lease: Lease) -> None:
    assert give_back(store, lease)


def revoked(store: Store, lease: Lease) -> None:
    assert store.revoke(LeaseFilter(ids=(lease.id,)), OPERATOR)


def session_ended(store: Store, lease: Lease) -> None:
    assert store.end(ids=["ses_1"]) == ["ses_1"]


def dropped(store: Store, lease: Lease) -> None:
    found = store.pools([POOL])[0]
    assert found is not None
    assert store.drop([POOL], OPERATOR) == 2
    store.define([found])


def enlarged(store: Store, lease: Lease) -> None:
    found = store.pools([POOL])[0]
    assert found is not None
    store.define([replace(found, policy=replace(found.policy, capacity=3))])


def doubted(store: Store, lease: Lease) -> None:
    asked = Doubt(lease_id=lease.id, fence=lease.fence, pool_id=POOL, silent_for=0)
    assert store.doubt([asked], at_once=True) == [True]


WAYS = (released, revoked, session_ended, dropped, enlarged, doubted)


def free_in(store: Store, way: Callable[[Store, Lease], None], **policy: Any) -> None:
    store.define([pool(2, **policy)])
    sign_in(store)
    lease = take(store, "ann0", "tab0", session_id="ses_1")
    take(store, "ann1", "tab1")
    refused(store, "bob", "bob's")
    refused(store, "bob", "bob's")
    way(store, lease)
    take(store, "bob", "bob's")


@pytest.mark.usefixtures("of_any_size")
@pytest.mark.parametrize("policy", KINDS.values(), ids=KINDS)
@pytest.mark.parametrize("way", WAYS, ids=lambda way: way.__name__)
def test_a_seat_that_comes_free_is_given_at_once(
    store: Store, way: Callable[[Store, Lease], None], policy: dict[str, Any]
) -> None:
    if policy.get("reservations"):
        policy = {"reservations": (KEPT,), "overdraft": 1}
    free_in(store, way, **policy)


def planted(monkeypatch: pytest.MonkeyPatch, *wrong: tuple[str, str, str]) -> None:
    """Have scripts be wrong somewhere."""
    for name, right, other in wrong:
        script = getattr(scripts, name)
        assert right in script.text
        pieces = script.text.replace(right, other)
        digest = hashlib.sha1(pieces.encode(), usedforsecurity=False).hexdigest()
        monkeypatch.setattr(scripts, name, scripts.Script(script.name, pieces, digest))


FORGETS = ("  call('HDEL', p.G, 'f')\n", "")
LOOKS = ("call('ZCOUNT', p.Y, k.since, '+inf') > 0", "false")
LEASES = ("  local leases = live_count(D.p)\n", "  local leases = live_count(D.p) + 1000\n")
"""No seat is denied while there are fewer leases than seats, whatever is known."""
OF_INTEREST = (
    "return p.count_by ~= BY_LEASE or #p.reservations > 0 or p.when_full == EVICT_IDLE",
    "return true",
)


@pytest.mark.usefixtures("of_any_size")
def test_an_end_by_a_server_of_before_is_seen(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It does not know that something is kept."""
    planted(monkeypatch, ("ENDS", *FORGETS))
    free_in(store, released, count_by=CountBy.USER)


@pytest.mark.usefixtures("of_any_size")
def test_an_end_that_is_overlooked_is_found(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """Were the look at what has ended missing, too, these tests would say so."""
    planted(monkeypatch, ("ENDS", *FORGETS), ("ACQUIRE", *LOOKS), ("ACQUIRE", *LEASES))
    with pytest.raises(AssertionError, match="denied"):
        free_in(store, released, count_by=CountBy.USER)


@pytest.mark.usefixtures("of_any_size")
@pytest.mark.parametrize("policy", KINDS.values(), ids=KINDS)
@pytest.mark.parametrize("linger", [0, SECOND // 2])
def test_a_goodbye_ends_it(
    store: Store, clock: ManualClock, policy: dict[str, Any], linger: int
) -> None:
    leases = filled(store, 3, linger=linger, **policy)
    assert beat(store, leases[1], closing=True) is not None
    if linger:
        clock.advance(milliseconds=linger - 1)
        refused(store, "bob", "bob's")
        clock.advance(milliseconds=1)
    take(store, "bob", "bob's")


@pytest.mark.usefixtures("of_any_size")
@pytest.mark.parametrize("count_by", list(CountBy))
def test_who_says_to_be_idle_ends_it(store: Store, clock: ManualClock, count_by: CountBy) -> None:
    """At the instant from which on it may be evicted, whether it has been idle for long or is so soon."""
    policy: dict[str, Any] = {"when_full": WhenFull.EVICT_IDLE, "idle_after": MINUTE}
    leases = filled(store, count_by=count_by, **policy)
    assert beat(store, leases[1], idle_for=MINUTE - 500) is not None
    refused(store, "bob", "bob's")
    clock.advance(milliseconds=499)
    refused(store, "bob", "bob's")
    clock.advance(milliseconds=1)
    take(store, "bob", "bob's")
    refused(store, "cid", "cid's")
    assert beat(store, leases[0], idle_for=2 * MINUTE) is not None
    take(store, "cid", "cid's")


@pytest.mark.usefixtures("of_any_size")
@pytest.mark.parametrize(
    ("policy", "wait"),
    [
        ({"count_by": CountBy.USER}, 70 * SECOND),
        ({"count_by": CountBy.CLIENT, "when_full": WhenFull.DENY}, 90 * SECOND),
        ({"reservations": (replace(KEPT, users=("ann0",)),)}, 70 * SECOND),
    ],
)
def test_silence_ends_it_to_the_millisecond(
    store: Store, clock: ManualClock, policy: dict[str, Any], wait: int
) -> None:
    leases = filled(store, 3, **policy)
    clock.advance(milliseconds=1_000)
    assert beat(store, leases[0]) is not None
    clock.advance(milliseconds=wait - 1_500)
    refused(store, "cid", "three")
    clock.advance(milliseconds=499)
    assert refused(store, "cid", "three").retry_after == 1
    clock.advance(milliseconds=1)
    take(store, "cid", "three")


@pytest.mark.parametrize("count_by", [CountBy.USER, CountBy.CLIENT])
def test_suspects_are_those_of_now(
    store: Store, clock: ManualClock, commands: Callable[[], int], count_by: CountBy
) -> None:
    """A seat is a suspect's when all who share it are silent. By user that is told by few leases; by client
    the pool is read again."""
    leases = filled(store, MANY, clock, count_by=count_by)
    second = ("ann7", "two") if count_by is CountBy.USER else ("two", "tab7")
    shared = take(store, *second)
    clock.advance(seconds=61)
    beating = [x for x in leases if x.user_id not in ("ann7", "ann8")]
    for number, lease in enumerate([*beating, shared]):
        clock.advance(milliseconds=number % 10 == 0)
        assert beat(store, lease) is not None
    refused(store, "bob", "bob's")
    clock.advance(seconds=1)
    commands()
    answer = refused(store, "bob", "bob's")
    assert (answer.at, answer.in_use, answer.suspect) == (clock.now(), MANY, 1)
    assert (commands() > MANY) == (count_by is CountBy.CLIENT)
    clock.advance(seconds=8)
    taken = take(store, "bob", "bob's")
    assert beat(store, leases[8]) is None
    assert beat(store, leases[7]) is not None
    assert beat(store, taken) is not None
    assert refused(store, "cid", "cid's").suspect == 0


@pytest.mark.usefixtures("of_any_size")
def test_a_shorter_policy_of_meanwhile_ends_it(store: Store, clock: ManualClock) -> None:
    """Whom it called lost has lost its seat, though the pool is as it was by now."""
    usual = pool(2, heartbeat_interval=50, lost_after=MINUTE, count_by=CountBy.USER)
    filled(store, heartbeat_interval=50, lost_after=MINUTE, count_by=CountBy.USER)
    clock.advance(milliseconds=500)
    refused(store, "bob")
    store.define([pool(2, heartbeat_interval=50, lost_after=100, linger=0, count_by=CountBy.USER)])
    store.define([usual])
    take(store, "bob")


@pytest.mark.usefixtures("of_any_size")
def test_the_same_policy_again_leaves_it(store: Store, clock: ManualClock) -> None:
    """A server that starts defines its pools anew."""
    filled(store, count_by=CountBy.USER)
    first = clock.now()
    store.define([pool(2, count_by=CountBy.USER)])
    clock.advance(milliseconds=1)
    assert refused(store, "cid").at == first


@pytest.mark.usefixtures("of_any_size")
def test_a_seat_that_is_kept_is_granted_and_counted(store: Store, clock: ManualClock) -> None:
    """A pool in which only some get a seat is known as it is until one of them does."""
    store.define([pool(2, overdraft=1, reservations=(KEPT,))])
    take(store, "ann")
    assert take(store, "bob").overdraft
    first = refused(store, "cid")
    clock.advance(milliseconds=1)
    again = refused(store, "cid")
    assert (again.at, again.reserved_free) == (first.at, 1)
    answers = store.acquire([acquire("cid"), acquire("vip", "1"), acquire("vip", "2")])
    assert [isinstance(x, Lease) for x in answers] == [False, True, False]
    assert refused(store, "vip", "2").in_use == 3
    assert refused(store, "cid").reserved_free == 0


@pytest.mark.usefixtures("of_any_size")
def test_who_moves_a_seat_of_their_own_counts_where_they_counted(store: Store) -> None:
    """Ending a seat that was kept for them frees none for others' places."""
    kept = (replace(KEPT, users=(), kinds=("laptop",)),)
    store.define([pool(2, reservations=kept)])
    first = take(store, "ann", "desk", device=Device(kind="laptop"))
    take(store, "bob")
    refused(store, "cid")
    answer = store.acquire([acquire("ann", "phone", takeover=True)])[0]
    assert not isinstance(answer, Lease)
    moved = take(store, "ann", "other desk", device=Device(kind="laptop"), takeover=True)
    assert beat(store, first) is None
    assert beat(store, moved) is not None
    assert refused(store, "cid").in_use == 2


@pytest.mark.usefixtures("of_any_size")
def test_clients_that_a_server_of_before_has_let_in_are_seen(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is kept of clients is complete up to a fence; who grants without adding to it, raises that."""
    store.define([pool(3, count_by=CountBy.CLIENT)])
    take(store, "ann", "one")
    take(store, "ann", "two")
    with monkeypatch.context() as patched:
        planted(
            patched, ("ACQUIRE", "  if #granted > 0 then fullness.add_clients", "  if false then x")
        )
        take(store, "ann", "three")
    refused(store, "ann", "four")
    take(store, "bob", "three")
    assert usage(store).in_use == 3


@pytest.mark.usefixtures("of_any_size")
@pytest.mark.parametrize("pools", ["as usual", "all kept"])
def test_against_the_model(
    server: RedisServer, monkeypatch: pytest.MonkeyPatch, pools: str
) -> None:
    """In whatever order things happen, nobody is denied whom a store that counts each time lets in."""
    if pools == "all kept":
        planted(monkeypatch, ("ACQUIRE", *OF_INTEREST))
    drive(
        lambda clock: open_store(emptied(server.url), clock=clock),
        examples=15,
        steps=50,
        shrink=False,
        machine=OlderEvidence,
    )


@pytest.mark.usefixtures("of_any_size")
def test_against_the_model_finds_an_end_that_is_overlooked(
    server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As it would if an end were overlooked."""
    for name in ("ENDS", "SWEEP"):
        planted(monkeypatch, (name, *FORGETS))
    for wrong in (LOOKS, LEASES, OF_INTEREST):
        planted(monkeypatch, ("ACQUIRE", *wrong))
    with pytest.raises(AssertionError):
        drive(
            lambda clock: open_store(emptied(server.url), clock=clock),
            examples=200,
            steps=50,
            shrink=False,
            machine=OlderEvidence,
        )
