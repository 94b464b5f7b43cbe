"""What still holds when things break: a killed server, a cut connection, a lost answer.

A backend behind a server gives three fixtures: `server`, which may be killed and started at will,
`database_url`, an empty database on it, and `open_at(url)`, which opens a store there on the database's
own clock. Backends behind no server leave this tier out.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from functools import partial
from typing import Any

import pytest
from msgspec import Struct

from sojourn.clock import HOUR, MINUTE
from sojourn.errors import StoreUnavailable
from sojourn.event import EventKind
from sojourn.lease import Lease, LeaseFilter, Release, Renew
from sojourn.session import Save, Session
from sojourn.store import Store
from sojourn.testing.builders import (
    OPERATOR,
    POOL,
    acquire,
    beat,
    denied,
    give_back,
    granted,
    key,
    look_up,
    new_session,
    pool,
    present,
    sign_in,
    take,
    token_hash,
    usage,
)
from sojourn.testing.contract.crowds import together
from sojourn.testing.proxy import FaultProxy
from sojourn.testing.servers import Server

BOUND = 15.0  # seconds within which a store says that its server is away, or works again
WRITERS = 6
ACKNOWLEDGED = 60  # writes to wait for before the kill

PATIENT: dict[str, Any] = {"heartbeat_interval": 10 * MINUTE, "lost_after": HOUR}
"""Nothing expires while a test waits for a server."""

VERBS: dict[str, Callable[[Store], object]] = {
    "create": lambda store: store.create([new_session("ses_new")]),
    "load": lambda store: store.load([token_hash("ses_1")]),
    "save": lambda store: store.save([Save(id="ses_1", set={"a": 1})]),
    "touch": lambda store: store.touch(["ses_1"]),
    "rotate": lambda store: store.rotate("ses_1", token_hash("rotated")),
    "end": lambda store: store.end(ids=["ses_1"]),
    "sign_in": lambda store: store.create([new_session("ses_in", "eve", limit=1)]),
    "cut_off": lambda store: store.cut_off("nobody"),
    "of": lambda store: store.of("ann"),
    "sessions": lambda store: store.sessions(),
    "define": lambda store: store.define([pool(5, **PATIENT)]),
    "pools": lambda store: store.pools([POOL]),
    "acquire": lambda store: store.acquire([acquire("ann")]),
    "acquire_once": lambda store: store.acquire([acquire("ann", idempotency=key("seat"))]),
    "save_once": lambda store: store.save([Save(id="ses_1", idempotency=key("save"))]),
    "end_once": lambda store: store.end(user_id="nobody", idempotency=key("end")),
    "answered": lambda store: store.answered([key("end")]),
    "renew": lambda store: store.renew([Renew(lease_id="lea", fence=1)]),
    "preview": lambda store: store.preview([acquire("bob")]),
    "release": lambda store: store.release([Release(lease_id="lea", fence=1)]),
    "revoke": lambda store: store.revoke(LeaseFilter(user_id="nobody"), OPERATOR),
    "leases": lambda store: store.leases(LeaseFilter()),
    "usage": lambda store: store.usage([POOL]),
    "events": lambda store: store.events(),
    "pulse": lambda store: store.pulse(),
    "sweep": lambda store: store.sweep(),
}


class Acknowledged(Struct):
    """What a writer was told is done."""

    sessions: dict[str, int]  # id: its highest revision
    leases: list[Lease]
    released: list[Lease]


def unavailable_within_bound(work: Callable[[], object]) -> None:
    started = time.monotonic()
    with pytest.raises(StoreUnavailable):
        work()
    assert time.monotonic() - started < BOUND


def works_within_bound(work: Callable[[], object]) -> None:
    """Try again while the store says so; anything but an answer or `StoreUnavailable` is a failure."""
    deadline = time.monotonic() + BOUND
    while True:
        try:
            work()
        except StoreUnavailable:
            assert time.monotonic() < deadline
        else:
            return


class StoreFaults:
    @pytest.fixture
    def store(self, database_url: str, open_at: Callable[[str], Store]) -> Iterator[Store]:
        with closing(open_at(database_url)) as store:
            store.define([pool(5, **PATIENT)])
            sign_in(store)
            yield store

    @pytest.fixture
    def proxy(self, database_url: str, store: Store) -> Iterator[FaultProxy]:
        with FaultProxy(database_url) as proxy:
            yield proxy

    @pytest.fixture
    def remote(self, proxy: FaultProxy, open_at: Callable[[str], Store]) -> Iterator[Store]:
        """The same data, by way of the proxy."""
        with closing(open_at(proxy.url)) as remote:
            assert usage(remote).in_use == 0
            yield remote
            proxy.pass_through()

    def test_killed_server(self, store: Store, server: Server) -> None:
        """While its server is dead every verb says so soon, and all work again when it is back."""
        lease = take(store, "ann")
        server.kill()
        for verb in VERBS.values():
            unavailable_within_bound(partial(verb, store))
        server.start()
        works_within_bound(lambda: beat(store, lease))
        assert beat(store, lease) is not None
        for verb in VERBS.values():
            works_within_bound(partial(verb, store))

    def test_nothing_acknowledged_is_lost(self, store: Store, server: Server) -> None:
        """What was answered before the server was killed is there when it is back."""
        store.define([pool(1_000_000, **PATIENT)])
        told = [Acknowledged(sessions={}, leases=[], released=[]) for _ in range(WRITERS)]
        enough = threading.Semaphore(0)
        writers = [
            threading.Thread(target=_write_until_cut, args=(store, n, told[n], enough))
            for n in range(WRITERS)
        ]
        for writer in writers:
            writer.start()
        for _ in range(ACKNOWLEDGED):
            assert enough.acquire(timeout=BOUND)
        server.kill()
        for writer in writers:
            writer.join(2 * BOUND)
            assert not writer.is_alive()
        server.start()
        works_within_bound(lambda: store.usage([POOL]))
        for one in told:
            for session_id, revision in one.sessions.items():
                session = present(store, session_id)
                assert session.revision >= revision
                assert (
                    session.data.items() >= {f"key-{n}": n for n in range(2, revision + 1)}.items()
                )
            released = {lease.id for lease in one.released}
            for lease in one.leases:
                found = look_up(store, lease.id)
                assert found is not None
                assert found.fence >= lease.fence
                assert (found.ended_at is not None) or lease.id not in released
        events = store.events(limit=1_000)
        ids = [event.id for event in events if event.kind is not EventKind.STORE_REPLACED]
        assert ids == list(range(1, len(ids) + 1))

    def test_paused_server(self, store: Store, server: Server) -> None:
        """A server that hangs is one that is away: every caller is told soon."""
        lease = take(store, "ann")
        server.pause()
        callers = [
            lambda: beat(store, lease),
            lambda: store.acquire([acquire("bob")]),
            lambda: store.load([token_hash("ses_1")]),
        ]
        try:
            together([partial(unavailable_within_bound, caller) for caller in callers])
        finally:
            server.resume()
        works_within_bound(lambda: store.load([token_hash("ses_1")]))
        works_within_bound(lambda: beat(store, lease))
        assert beat(store, lease) is not None

    def test_cut_connections(self, remote: Store, proxy: FaultProxy) -> None:
        """However often its connections are cut, a store comes back; none is leaked on the way."""
        lease = take(remote, "ann")
        for _ in range(30):
            proxy.cut()
            works_within_bound(lambda: remote.load([token_hash("ses_1")]))
            proxy.cut()
            works_within_bound(lambda: remote.acquire([acquire("ann")]))
        found = look_up(remote, lease.id)
        assert found is not None
        assert found.fence > lease.fence
        assert usage(remote).in_use == 1

    @pytest.mark.parametrize("fault", ["reset", "refuse", "blackhole"])
    def test_network_fault(self, remote: Store, proxy: FaultProxy, fault: str) -> None:
        """Under every fault of the network each verb says so soon, and works once it is healed."""
        verbs = [partial(VERBS[verb], remote) for verb in ("load", "acquire", "usage")]
        getattr(proxy, fault)()  # the one connection of before is caught by it, as are new ones
        together([partial(unavailable_within_bound, verb) for verb in verbs])
        proxy.pass_through()
        together([partial(works_within_bound, verb) for verb in verbs])
        getattr(proxy, fault)()  # and now one for each verb
        together([partial(unavailable_within_bound, verb) for verb in verbs])
        proxy.pass_through()
        together([partial(works_within_bound, verb) for verb in verbs])
        assert usage(remote).in_use == 1

    def test_network_heals_under_load(self, remote: Store, proxy: FaultProxy) -> None:
        """Threads that were caught by a fault all get through after it, and no seat is taken twice."""

        def one(number: int) -> None:
            for _ in range(5):
                works_within_bound(lambda: remote.acquire([acquire(f"user-{number}")]))

        threads = [threading.Thread(target=one, args=(n,)) for n in range(5)]
        for thread in threads:
            thread.start()
        for _ in range(5):
            proxy.cut()
        for thread in threads:
            thread.join(2 * BOUND)
            assert not thread.is_alive()
        works_within_bound(lambda: remote.usage([POOL]))
        assert (usage(remote).in_use, usage(remote).leases) == (5, 5)

    def test_lost_answer_to_acquire(self, remote: Store, proxy: FaultProxy, store: Store) -> None:
        """If the answer was lost after the commit, asking again gives the same lease, not a second."""
        request = acquire("ann", lease_id="lea_ann")
        proxy.drop_response()
        with suppress(StoreUnavailable):  # the outcome is unknown to the caller
            remote.acquire([request])
        proxy.pass_through()
        answers = []
        works_within_bound(lambda: answers.append(remote.acquire([request])[0]))
        assert granted(answers[0]).id == "lea_ann"
        assert (usage(store).in_use, usage(store).leases) == (1, 1)
        for i in range(4):
            take(store, f"user-{i}")
        denied(store.acquire([acquire("one too many")])[0])

    def test_lost_answer_to_others(self, remote: Store, proxy: FaultProxy, store: Store) -> None:
        """Creating, saving, releasing and ending again after a lost answer leads to the same state."""
        lease = take(store, "ann")
        steps: list[Callable[[], object]] = [
            lambda: remote.create([new_session("ses_2", data={"a": 1})]),
            lambda: remote.save([Save(id="ses_2", set={"b": 2}, unset=("a",))]),
            lambda: give_back(remote, lease),
            lambda: remote.end(ids=["ses_1"], reason="first"),
        ]
        for step in steps:
            proxy.drop_response()
            with suppress(StoreUnavailable):  # the outcome is unknown to the caller
                step()
            proxy.pass_through()
            works_within_bound(step)
        assert present(store, "ses_2").data == {"b": 2}
        assert usage(store).in_use == 0
        assert [s.id for s in store.of("ann")] == ["ses_2"]

    def test_no_answer_is_ever_somebody_elses(self, remote: Store, proxy: FaultProxy) -> None:
        """After any fault, each thread's load answers with the session it asked for."""
        names = [f"own-{n}" for n in range(8)]
        remote.create([new_session(name, name) for name in names])
        wrong: list[object] = []

        def one(name: str) -> None:
            for _ in range(40):
                with suppress(StoreUnavailable):  # the fault itself
                    answer = remote.load([token_hash(name)])[0]
                    if not isinstance(answer, Session) or answer.user_id != name:
                        wrong.append((name, answer))

        threads = [threading.Thread(target=one, args=(name,)) for name in names]
        for thread in threads:
            thread.start()
        for _ in range(10):
            proxy.cut()
        for thread in threads:
            thread.join(2 * BOUND)
            assert not thread.is_alive()
        assert wrong == []


def _write_until_cut(
    store: Store, number: int, told: Acknowledged, enough: threading.Semaphore
) -> None:
    """Write until the store is away, and note whatever was acknowledged."""
    step = 0
    with suppress(StoreUnavailable):  # the kill
        while True:
            name = f"ses_{number}_{step}"
            if store.create([new_session(name)])[0] is not None:
                told.sessions[name] = 1
            revision = store.save([Save(id=name, set={"key-2": 2})])[0]
            if revision is not None:
                told.sessions[name] = revision
            lease = take(store, f"user-{number}", f"client-{step}")
            told.leases.append(lease)
            if step % 3 == 0 and give_back(store, lease):
                told.released.append(lease)
            step += 1
            enough.release()
