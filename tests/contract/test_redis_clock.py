"""A store on Valkey whose server's clock is set; see docs/adr/0021."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from functools import partial
from typing import Any

import pytest
import redis

from sojourn.clock import DAY, HOUR, MINUTE, SECOND, uptime
from sojourn.finding import Finding, Verdict
from sojourn.lease import LeaseFilter
from sojourn.store import Held, HeldLease, Store
from sojourn.stores.open import open_store
from sojourn.stores.redis.store import RedisStore
from sojourn.testing import processes
from sojourn.testing.builders import (
    acquire,
    beat,
    denied,
    key,
    pool,
    present,
    sign_in,
    take,
    usage,
)
from sojourn.testing.contract.clocks import QUICK, StoreClocks, after, go_on
from sojourn.testing.contract.faults import works_within_bound
from sojourn.testing.redis_server import RedisServer, redis_server
from sojourn.testing.wall_clock import WallClock

NEAR = 1.5 * SECOND
STATE = "sojourn:{s}:m"


class SeenClock(WallClock):
    """One that is set when the server goes by it: Valkey looks at a clock once a millisecond."""

    server: RedisServer | None = None

    def shift(self, *, days: float = 0, hours: float = 0, seconds: float = 0) -> None:
        super().shift(days=days, hours=hours, seconds=seconds)
        ahead = (days * 24 + hours) * 3_600 + seconds
        if self.server is not None:
            assert processes.wait_until(partial(_goes_by, self.server.url, ahead), 10)


def _goes_by(url: str, ahead: float) -> bool:
    with redis.Redis.from_url(url, socket_timeout=1) as client:
        try:
            told: Any = client.time()
        except (redis.ConnectionError, redis.TimeoutError):
            return True  # it is down, or frozen: it has no clock to be waited for
    return bool(abs(told[0] + told[1] / 1e6 - time.time() - ahead) < 1)


@pytest.fixture(scope="module")
def wall() -> Iterator[SeenClock]:
    with SeenClock() as wall:
        yield wall


@pytest.fixture(scope="module")
def server(wall: SeenClock) -> Iterator[RedisServer]:
    with redis_server(wall=wall) as server:
        wall.server = server
        yield server


@pytest.fixture
def database_url(wall: WallClock, server: RedisServer) -> Iterator[str]:
    wall.shift()
    with redis.Redis.from_url(server.url) as client:
        client.flushall()
    yield server.url
    wall.shift()


@pytest.fixture
def open_at() -> Callable[[str], Store]:
    return open_store


class TestValkeyClocks(StoreClocks):
    pass


@pytest.fixture
def store(database_url: str) -> Iterator[RedisStore]:
    with closing(open_store(database_url)) as store:
        assert isinstance(store, RedisStore)
        store.define([pool(2, **QUICK)])
        store.pulse()
        yield store


def shift_of(url: str) -> int:
    with redis.Redis.from_url(url) as client:
        return int(client.hget(STATE, "shift") or 0)


@contextmanager
def evenly(store: Store) -> Iterator[None]:
    """See to it that the store's time goes on as this test's does."""
    began, told = uptime(), store.now()
    yield
    assert abs((store.now() - told) - (uptime() - began)) < NEAR


@pytest.mark.parametrize("hours", [-24, -1, 1, 24])
def test_put_right_again(store: RedisStore, wall: WallClock, database_url: str, hours: int) -> None:
    """What was taken back is given back: afterwards the store goes by the server's clock again."""
    lease = take(store)
    with evenly(store):
        wall.shift(hours=hours)
        go_on(store, after(0.3), holders=[lease])
        assert abs(shift_of(database_url) + hours * HOUR) < NEAR
        wall.shift()
        go_on(store, after(0.3), holders=[lease])
        assert abs(shift_of(database_url)) < NEAR
    assert [x for x in store.check() if "clock" in x.title and x.verdict is not Verdict.OK] == []


@pytest.mark.parametrize("seconds", [-300, 300], ids=["behind", "ahead"])
def test_another_machine_with_another_clock(
    store: RedisStore, server: RedisServer, wall: WallClock, seconds: int
) -> None:
    """A server that takes over may have another clock: time goes on."""
    lease = take(store)
    session = sign_in(store, idle_timeout=MINUTE)
    with evenly(store):
        server.kill()
        wall.shift(seconds=seconds)
        server.start()
        works_within_bound(store.pulse)
        go_on(store, after(0.3), holders=[lease])
    assert present(store).id == session.id


def test_whoever_was_asleep_says_nothing(store: RedisStore, database_url: str) -> None:
    """A process whose own clock stood still for an hour does not hold up the store's time."""
    lease = take(store)
    with closing(open_store(database_url)) as other, evenly(store):
        assert isinstance(other, RedisStore)
        other.pulse()
        assert other._db._ahead is not None
        other._db._ahead -= HOUR
        assert beat(other, lease) is not None
        assert abs(other.now() - store.now()) < NEAR
    assert shift_of(database_url) == 0


@pytest.mark.parametrize("seconds", [-0.7, -2])
def test_those_who_ask_do_not_hurry_it(
    store: RedisStore, wall: WallClock, database_url: str, seconds: float
) -> None:
    """However late the answers come from which callers know what the store's now should be: it does not
    go faster than time does."""
    with closing(open_store(database_url)) as other:
        callers = (store._db, other._db) if isinstance(other, RedisStore) else ()
        other.pulse()
        wall.shift(seconds=seconds)
        store.pulse()
        began, told = uptime(), store.now()
        for _ in range(20):
            for caller, each in zip(callers, (store, other), strict=True):
                assert caller._ahead is not None
                caller._ahead += 50  # as if the question had been sent so much later than it was
                each.pulse()
        assert store.now() - told - (uptime() - began) < SECOND / 5


def test_ahead_while_nobody_was_there(
    store: RedisStore, wall: WallClock, database_url: str
) -> None:
    """Whoever comes after it cannot tell it from an outage: everybody who lived then lives on."""
    leases = [take(store, "ann"), take(store, "bob")]
    store.close()
    wall.shift(hours=24)
    with closing(open_store(database_url)) as again:
        for lease in leases:
            assert beat(again, lease) is not None
        assert usage(again).in_use == 2
        go_on(again, after(0.3), holders=leases)


def test_no_key_is_forgotten_early(store: RedisStore, database_url: str) -> None:
    """Valkey forgets keys by its own clock. What a store needs outlives a clock set a day ahead."""
    lease = take(store)
    take(store, "bob", idempotency=key("bob"))
    sign_in(store, idempotency=key("begin"))
    denied(store.acquire([acquire("cem", wait=True)])[0])
    with redis.Redis.from_url(database_url) as client:
        client.hset(STATE, "run", "of another server")
        denied(store.acquire([acquire("dee")])[0])
        lost = HeldLease("lse_lost", lease.fence + 1, "eve", "tab")
        store.hold([Held(lease.pool_id, MINUTE, lease.fence, (lost,))])
        left = {name: client.pttl(name) for name in client.scan_iter("*")}
    kept = {name.split(b"}:")[1][:1] for name, ms in left.items() if ms != -1}
    assert kept == {b"q", b"d", b"w", b"k", b"j", b"i"}, left
    assert all(ms == -1 or ms > DAY + HOUR for ms in left.values()), left


def test_back_to_the_servers_clock(wall: WallClock, database_url: str) -> None:
    """Where the clock was right after all, the store goes by it again once every server has stopped."""
    pause = 200
    with closing(open_store(database_url, max_pause=pause)) as store:
        store.define([pool(2, **QUICK)])
        store.pulse()
        lease = take(store)
        wall.shift(hours=1)
        assert beat(store, lease) is not None
        go_on(store, after(2 * pause / SECOND), holders=[lease])
        assert shift_of(database_url) < -HOUR + NEAR
    stopped = after(2 * pause / SECOND)
    assert processes.wait_until(stopped, 10)
    with closing(open_store(database_url, max_pause=pause)) as again:
        again.pulse()
        assert shift_of(database_url) == 0
        assert beat(again, lease) is not None


def test_pool_time_never_goes_back(store: RedisStore, wall: WallClock, database_url: str) -> None:
    """Instants of a pool only grow, whatever is set."""
    instants = []
    for hours in (0, -24, 0, 24, 0, -1):
        wall.shift(hours=hours)
        lease = take(store)
        instants.append(lease.last_beat_at)
        at = store.leases(LeaseFilter())[1]
        instants.append(at)
    assert instants == sorted(instants)
    assert instants[-1] - instants[0] < MINUTE


def found(store: Store) -> list[Finding]:
    return [x for x in store.check() if "clock" in x.title and x.verdict is not Verdict.OK]


def test_what_is_said_of_it(
    store: RedisStore, wall: WallClock, caplog: pytest.LogCaptureFixture
) -> None:
    """Doctor says by how much it was set, and which way; the log does once."""
    assert found(store) == []
    for _ in range(3):
        wall.shift(hours=-1)
        store.pulse()
    [back] = found(store)
    wall.shift()
    store.pulse()
    wall.shift(days=1)
    for _ in range(3):
        store.pulse()
    [ahead] = found(store)
    assert "set back by 36" in back.title
    assert "set ahead by 86" in ahead.title
    records: list[Any] = [x for x in caplog.records if x.name.startswith("sojourn.")]
    told = [x.facts["ahead_of_it"] for x in records if x.event == "store_clock_was_set"]
    assert [round(each / 3_600) for each in told] == [1, 0, -24]
    assert abs(told[2] * SECOND + DAY) < NEAR
