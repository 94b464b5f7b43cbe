"""How the store on Redis keeps things: rows that fit no common form, what they weigh, other layouts."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from typing import Any

import pytest
import redis

from sojourn.clock import DAY, ManualClock
from sojourn.device import Device
from sojourn.errors import StoreBroken
from sojourn.lease import Lease, LeaseFilter, Resume
from sojourn.store import Recorded, Store
from sojourn.stores.memory import MemoryStore
from sojourn.stores.open import open_store
from sojourn.stores.redis import sessions as session_verbs
from sojourn.stores.redis.health import SAMPLE
from sojourn.testing.builders import acquire, beat, give_back, pool, sign_in, take
from sojourn.testing.redis_server import RedisServer, redis_server
from sojourn.token import new_id

POOLS, LEASES = 150, 40


@pytest.fixture(scope="module")
def server() -> Iterator[RedisServer]:
    with redis_server() as server:
        yield server


@pytest.fixture
def client(server: RedisServer) -> Iterator[Any]:
    with redis.Redis.from_url(server.url) as client:
        client.flushall()
        yield client


def far_and_wide(store: Store, clock: ManualClock) -> list[Lease]:
    """Leases with numbers, names and instants that are larger than usual, after some time."""
    store.define([pool(9, feature="usual")])
    store.define([pool(9, lost_after=365 * DAY, heartbeat_interval=300 * DAY, resume_window=DAY)])
    store.pulse()
    leases = [
        take(store, "usual", lease_id="a"),
        take(store, "éłkö" * 20, "c" * 90, lease_id="bb"),
        take(store, "on a device", lease_id="ccc", device=Device(name="n" * 150, ip="10.0.0.1")),
        take(store, "from afar", lease_id="d", resume=Resume(lease_id="d", fence=2**40)),
        take(store, "idle", lease_id="e-1"),
        take(store, "idle for long", lease_id="e-2"),
        take(store, "leaving", lease_id="f"),
        take(store, "gone", lease_id="g"),
    ]
    clock.advance(milliseconds=60 * DAY)
    store.pulse()
    beat(store, leases[4], idle_for=1_000)
    beat(store, leases[5], idle_for=59 * DAY)
    beat(store, leases[6], closing=True)
    give_back(store, leases[7])
    clock.advance(seconds=1)
    beat(store, leases[1], idle_for=2**31)
    for name in ("usual", "idle"):
        lease = take(store, name, pool_id="lic_1:usual", lease_id=f"usual {name}")
        clock.advance(seconds=1)
        beat(store, lease, idle_for=500 if name == "idle" else None)
    return store.leases(LeaseFilter(include_ended=True))[0]


def test_rows_of_every_form(server: RedisServer, client: Any) -> None:
    """What does not fit the short forms of a row is told as exactly as what does."""
    clocks = [ManualClock(), ManualClock()]
    expected = far_and_wide(MemoryStore(clocks[0]), clocks[0])
    with closing(open_store(server.url, clock=clocks[1])) as store:
        assert far_and_wide(store, clocks[1]) == expected
    assert len(expected) == 10
    forms = {
        raw[0] % 4 for key in client.scan_iter("sojourn:{s}:[lt]:*") for raw in client.hvals(key)
    }
    assert forms == {0, 1, 2}


def filled(store: Store) -> None:
    pools = [pool(LEASES, feature=f"f{n}") for n in range(POOLS)]
    store.define(pools)
    for each in pools:
        store.acquire(
            [
                acquire(new_id("")[:12], new_id(""), pool_id=each.id, lease_id=new_id("lse_"))
                for _ in range(LEASES)
            ]
        )
    for n in range(60):
        sign_in(store, f"ses_{n}", f"user {n % 7}")


def kept(client: Any) -> int:
    """Return the bytes in use, but for what connections have at hand, and for scripts: at first that is
    as much as all that is kept here."""
    memory = client.info("memory")
    return int(memory["used_memory"] - memory["mem_clients_normal"] - memory["used_memory_scripts"])


def test_what_one_takes(server: RedisServer, client: Any) -> None:
    """It is known from a sample, whose size does not grow; and is near what memory grows by."""
    with closing(open_store(server.url)) as store:
        assert isinstance(store, Recorded)
        assert (store.sizes().lease, store.sizes().session) == (0, 0)
        store.define([pool(1)])
        take(store)
        before = kept(client)
        filled(store)
        stream = client.memory_usage("sojourn:{s}:ev", samples=0)
        grown = kept(client) - before - stream
        client.config_resetstat()
        sizes = store.sizes()
        asked = client.info("commandstats")["cmdstat_memory|usage"]["calls"]
    assert asked <= SAMPLE * (1 + 2 * 4) + 2 * SAMPLE + 3
    assert 100 < sizes.lease < 300
    assert 300 < sizes.session < 1_500
    said = sizes.lease * POOLS * LEASES + sizes.session * 60
    assert 0.7 < said / grown < 1.3


def test_another_layout_is_refused(server: RedisServer, client: Any) -> None:
    """What another version wrote is left as it is; a free prefix is offered."""
    with closing(open_store(server.url)) as store:
        sign_in(store)
    with closing(open_store(server.url)):
        pass
    for layout in (None, "1"):
        client.hdel("sojourn:{s}:m", "layout")
        if layout:
            client.hset("sojourn:{s}:m", "layout", layout)
        with pytest.raises(StoreBroken, match="Another version") as refused:
            open_store(server.url)
        assert "prefix" in refused.value.hint
    with closing(open_store(f"{server.url}?prefix=free")):
        pass


def crowded(store: Store, clock: ManualClock) -> list[Any]:
    """Everything that lists a user's sessions, of whom some are as old as others, and some have ended."""
    store.define([pool(9)])
    for number, name in enumerate("qwertyuiopasdf"):
        sign_in(store, f"ses_{name}", idle_timeout=DAY if name in "wtu" else 2 * DAY)
        if number not in {1, 2, 3, 4, 5, 9}:
            clock.advance(milliseconds=1)
    take(store, "ann", "first", session_id="ses_q")
    take(store, "ann", "last", session_id="ses_f")
    store.end(ids=["ses_i"])
    clock.advance(milliseconds=DAY)
    told: list[Any] = [store.of("ann", limit=n) for n in (0, 1, 3, 5, 50)]
    told += [store.sessions(user_id="ann", limit=n) for n in (0, 4, 50)]
    told.append(store.sessions(user_id="ann", after="ses_f", limit=4))
    told.append(sorted(store.held(user_id="ann").items()))
    after = None
    while (page := store.page("ann", after=after, limit=4)).sessions:
        told.append(page)
        after = (page.sessions[-1].created_at, page.sessions[-1].id)
    return told


def test_many_sessions_are_read_in_pieces(
    server: RedisServer, client: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the pieces end makes no difference to what is told; others get in between."""
    clocks = [ManualClock() for _ in range(4)]
    expected = crowded(MemoryStore(clocks[0]), clocks[0])
    assert expected[-1].total == 10
    for clock, piece in zip(clocks[1:], (1, 3, 1_000), strict=True):
        client.flushall()
        monkeypatch.setattr(session_verbs, "PIECE", piece)
        with closing(open_store(server.url, clock=clock)) as store:
            assert crowded(store, clock) == expected
