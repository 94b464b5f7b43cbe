"""What others are answered while somebody stands still, or is cut off, in the middle of a transaction.

Two fixtures: `database_url`, an empty database, and `open_at(url)`, which opens a store there on its own
clock. `StoreFreezes` freezes a process; `StoreCutOffs` needs a server, and cuts the way to it.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import Any

import pytest

from sojourn.clock import HOUR, MINUTE
from sojourn.errors import StoreUnavailable
from sojourn.lease import Lease, LeaseFilter
from sojourn.session import Save, Session
from sojourn.store import Store
from sojourn.testing.builders import (
    acquire,
    beat,
    give_back,
    granted,
    load,
    look_up,
    new_session,
    pool,
    sign_in,
    take,
    usage,
)
from sojourn.testing.contract.processes import PATIENCE, read, start
from sojourn.testing.proxy import FaultProxy

SEATS = 8
PATIENT: dict[str, Any] = {"heartbeat_interval": 10 * MINUTE, "lost_after": HOUR}
BOUND = 20.0  # seconds within which all verbs, one after the other, are answered
VERBS = ("acquire", "create", "save", "release", "end", "revoke", "sweep", "pulse")
LOCKS = Path("/proc/locks")
"""Where the system says who has locked what."""
PILE = 3  # processes that stand still in each other's way


@contextmanager
def frozen(verb: str, url: str, name: str, *, wait: bool = True) -> Iterator[subprocess.Popen[str]]:
    """Run a process that stands still in the middle of this (see `testing.freezing`); it is killed at
    the end. With `wait`, it stands still by now."""
    command = [sys.executable, "-m", "sojourn.testing.freezing", verb, url, name]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        try:
            assert read(process) == "ready"
            start(process)
            if wait:
                stands_still(process)
            yield process
        finally:
            process.kill()


def stands_still(process: subprocess.Popen[str]) -> None:
    assert read(process) == "frozen"
    os.waitid(os.P_PID, process.pid, os.WSTOPPED | os.WNOWAIT)


def let_go(process: subprocess.Popen[str]) -> bool | None:
    """Let a process go on; return whether it did what it was about to; None if it does not know."""
    process.send_signal(signal.SIGCONT)
    answer: dict[str, Any] = json.loads(read(process))
    assert process.wait(PATIENCE) == 0
    done: bool | None = answer["done"]
    return done


def prepare(store: Store) -> None:
    """A session, a seat that somebody holds, and one for everybody else."""
    store.define([pool(SEATS, **PATIENT)])
    store.pulse()
    sign_in(store)
    assert take(store, "held", lease_id="lea_held").fence == 1


def use(store: Store, holder: Lease, number: int) -> None:
    """Do what a server does all day, on the rows that the others may hold."""
    lease = take(store, f"user-{number}", lease_id=f"lea_{number}")
    assert beat(store, lease) is not None
    assert beat(store, holder) is not None
    assert store.pulse() is None
    assert store.create([new_session(f"mine-{number}", "crowd", limit=100)])[0] is not None
    store.save([Save(id="ses_1", set={f"mine-{number}": 1})])
    assert give_back(store, lease)


def whole(store: Store) -> None:
    """What is there fits together: no seat too many, no event twice or without its change."""
    live, _ = store.leases(LeaseFilter())
    assert usage(store).in_use == len(live) <= SEATS
    events = store.events(limit=1_000)
    assert [event.id for event in events] == list(range(1, len(events) + 1))
    for kind, ids in (
        ("lease.acquired", [lease.id for lease in live]),
        ("session.created", [each.id for each in store.sessions(limit=1_000)]),
    ):
        told = [event.subject for event in events if event.kind == kind]
        assert len(told) == len(set(told))
        assert set(ids) <= set(told)


class Freezes:
    @pytest.fixture
    def store(self, database_url: str, open_at: Callable[[str], Store]) -> Iterator[Store]:
        with closing(open_at(database_url)) as store:
            prepare(store)
            yield store


class StoreFreezes(Freezes):
    """A store that ends what is silent. One that cannot says so soon: see `StoreFileFreezes`."""

    @pytest.mark.parametrize("verb", VERBS)
    def test_nobody_waits_for_a_frozen_process(
        self, store: Store, database_url: str, verb: str
    ) -> None:
        """Whatever a process was about to commit when it froze, the others' verbs are answered, none
        by an error; and when it goes on, it has done its part wholly, or not at all."""
        holder = take(store, "ann")
        with frozen(verb, database_url, "frozen") as process:
            began = time.monotonic()
            for number in range(3):
                use(store, holder, number)
            assert time.monotonic() - began < BOUND
            done = let_go(process)
        whole(store)
        use(store, holder, 9)
        if verb == "acquire" and done is not None:
            assert (look_up(store, "frozen") is not None) is done
        if verb == "create" and done is not None:
            assert isinstance(load(store, "frozen"), Session) is done
        if verb == "release" and done:
            held = look_up(store, "lea_held")
            assert held is not None
            assert held.ended_at is not None

    def test_several_that_freeze_in_each_others_way(self, store: Store, database_url: str) -> None:
        """A server's threads wait for one another when it freezes: all their silences together are
        over before anybody else is refused."""
        holder = take(store, "ann")
        with ExitStack() as stack:
            pile = [
                stack.enter_context(frozen("acquire", database_url, f"frozen-{n}", wait=n == 0))
                for n in range(PILE)
            ]
            began = time.monotonic()
            for number in range(3):
                use(store, holder, number)
            assert time.monotonic() - began < BOUND
            for process in pile[1:]:
                stands_still(process)
            for process in pile:
                let_go(process)
        whole(store)


class StoreFileFreezes(Freezes):
    """A store that nobody can take from who holds it: a file under a lock."""

    @pytest.mark.parametrize("verb", VERBS)
    def test_others_are_told_soon(self, store: Store, database_url: str, verb: str) -> None:
        """While a process stands still in the middle of writing, others are told so, soon, and may read;
        when it goes on, it has done its part, and they theirs."""
        holder = take(store, "ann")
        with frozen(verb, database_url, "frozen") as process:
            began = time.monotonic()
            with pytest.raises(StoreUnavailable) as caught:
                use(store, holder, 0)
            assert time.monotonic() - began < BOUND
            if LOCKS.exists():
                assert str(process.pid) in f"{caught.value.message} {caught.value.hint}"
            assert isinstance(load(store), Session)
            assert let_go(process) is True
        whole(store)
        if verb != "end":
            use(store, holder, 1)

    def test_killed_while_it_stands_still(self, store: Store, database_url: str) -> None:
        """A process that is ended then has done nothing, and is in nobody's way."""
        holder = take(store, "ann")
        with frozen("acquire", database_url, "frozen") as process:
            process.kill()
        use(store, holder, 0)
        assert look_up(store, "frozen") is None
        whole(store)


class StoreCutOffs(Freezes):
    MIDDLE = b"COMMIT"
    """What a request holds with which the way to the server is cut."""

    @pytest.mark.parametrize("verb", ["acquire", "create", "release"])
    def test_cut_off_in_the_middle(
        self, store: Store, database_url: str, open_at: Callable[[str], Store], verb: str
    ) -> None:
        """A server of ours behind a cable that was pulled is in nobody's way. When the cable is put
        back, what it was about to commit is there wholly, or not at all."""
        holder = take(store, "ann")
        held = look_up(store, "lea_held")
        assert held is not None
        work: dict[str, Callable[[Store], object]] = {
            "acquire": lambda remote: granted(remote.acquire([acquire("far", lease_id="far")])[0]),
            "create": lambda remote: sign_in(remote, "far", "crowd", limit=100),
            "release": lambda remote: give_back(remote, held),
        }
        outcomes: list[object] = []
        with FaultProxy(database_url) as proxy, closing(open_at(proxy.url)) as remote:
            remote.pulse()

            def run() -> None:
                try:
                    outcomes.append(work[verb](remote))
                except StoreUnavailable as error:
                    outcomes.append(error)

            proxy.hold(matching=self.MIDDLE)
            thread = threading.Thread(target=run)
            thread.start()
            assert proxy.wait_held()
            began = time.monotonic()
            for number in range(3):
                use(store, holder, number)
            assert time.monotonic() - began < BOUND
            proxy.pass_through()
            thread.join(PATIENCE)
            assert len(outcomes) == 1
        whole(store)
        if not isinstance(outcomes[0], StoreUnavailable):
            if verb == "acquire":
                assert look_up(store, "far") is not None
            elif verb == "create":
                assert isinstance(load(store, "far"), Session)
        use(store, holder, 9)
