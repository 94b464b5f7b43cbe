"""Redis holds the live state and SQL the record: they agree, whatever is killed on the way."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest
import redis
from tests.serving import acquire as http_acquire
from tests.serving import beat as http_beat
from tests.serving import new_client, served

from sojourn.cli.main import main
from sojourn.event import Event, EventKind
from sojourn.lease import Acquire, Denied, Lease, LeaseFilter, Resume
from sojourn.ledger import Ledger
from sojourn.license import License, Policy, Pool
from sojourn.store import Recorded, Store
from sojourn.stores.open import migrate, open_ledger, open_store
from sojourn.stores.reconcile import Reconciler, Why
from sojourn.stores.recorder import LedgerRecorder
from sojourn.testing import processes
from sojourn.testing.builders import (
    POOL,
    acquire,
    beat,
    give_back,
    gone,
    granted,
    pool,
    sign_in,
    take,
    usage,
)
from sojourn.testing.redis_server import RedisServer, redis_server

KILLS = 500 if os.environ.get("SOJOURN_CAMPAIGN") else 50
CHILD = Path(__file__).with_name("recorder_child.py")
HOLDERS = 1_000


@pytest.fixture(scope="module")
def server() -> Iterator[RedisServer]:
    with redis_server() as server:
        yield server


@pytest.fixture
def store_url(server: RedisServer) -> str:
    with redis.Redis.from_url(server.url) as client:
        client.flushall()
    return server.url


@pytest.fixture
def ledger_url(sqlite_url: str) -> str:
    migrate(sqlite_url)
    return sqlite_url


class Pair:
    """A store, its ledger with one license, and what carries events between them."""

    def __init__(self, store: Store, ledger: Ledger) -> None:
        assert isinstance(store, Recorded)
        self.store, self.live, self.ledger = store, store, ledger
        self.recorder = LedgerRecorder(store, store, ledger)

    def license(self, capacity: int) -> None:
        policy = Policy(capacity=capacity)
        if self.ledger.license("lic_1") is None:
            named = License(id="lic_1", name="Acme")
            self.ledger.create_license(named, {"editor": policy}, b"k" * 32, actor="test")
        self.store.define([Pool(license_id="lic_1", feature="editor", policy=policy)])

    def recorded(self) -> list[Event]:
        return list(self.pages())

    def pages(self) -> Iterator[Event]:
        after = 0
        while page := self.ledger.history(after=after):
            yield from page
            after = page[-1].id

    def stream(self) -> list[Event]:
        events: list[Event] = []
        while page := self.store.events(after=events[-1].id if events else 0, limit=1_000):
            events += page
        return events


@contextmanager
def paired(store_url: str, ledger_url: str) -> Iterator[Pair]:
    with closing(open_store(store_url)) as store, closing(open_ledger(ledger_url)) as ledger:
        yield Pair(store, ledger)


@pytest.fixture
def pair(store_url: str, ledger_url: str) -> Iterator[Pair]:
    with paired(store_url, ledger_url) as pair:
        pair.recorder.run()
        yield pair


def test_recorder_killed_under_load(store_url: str, ledger_url: str, pair: Pair) -> None:
    """However often it is killed, ledger and stream agree, event by event."""
    pair.license(1_000_000)
    done = threading.Event()

    def write() -> None:
        number = 0
        while not done.is_set():
            number += 1
            leases = pair.store.acquire([acquire(f"user-{number}", str(n)) for n in range(5)])
            assert give_back(pair.store, granted(leases[0]))

    writer = threading.Thread(target=write)
    writer.start()
    command = [sys.executable, str(CHILD), store_url, ledger_url, str(KILLS)]
    try:
        said = subprocess.run(command, capture_output=True, text=True, timeout=600, check=True)
    finally:
        done.set()
        writer.join()
    assert said.stdout.split() == [str(number) for number in range(KILLS)]
    recorded_on_the_way = len(pair.recorded())
    assert recorded_on_the_way > 0
    pair.recorder.run()
    assert pair.recorded() == pair.stream()
    assert pair.recorder.lag.events == 0


def test_many_recorders(pair: Pair, store_url: str, ledger_url: str) -> None:
    """Two that run at once write nothing twice."""
    pair.license(1_000_000)
    with paired(store_url, ledger_url) as other:

        def carry(recorder: LedgerRecorder) -> None:
            for _ in range(30):
                recorder.run()

        carriers = [threading.Thread(target=carry, args=(p.recorder,)) for p in (pair, other)]
        for carrier in carriers:
            carrier.start()
        for number in range(60):
            take(pair.store, f"user-{number}")
        for carrier in carriers:
            carrier.join()
    pair.recorder.run()
    assert pair.recorded() == pair.stream()
    assert len(pair.recorded()) == 60


def test_what_is_not_recorded_is_not_forgotten(pair: Pair, store_url: str) -> None:
    """A sweep leaves old events to a ledger that was away."""
    pair.license(5)
    take(pair.store, "ann")
    with closing(open_store(store_url, event_retention=-1_000)) as forgetful:
        assert forgetful.sweep().events_removed == 0
        pair.recorder.run()
        assert forgetful.sweep().events_removed == 1
    assert len(pair.recorded()) == 1


def test_a_user_who_may_not_weigh_keys(store_url: str, ledger_url: str) -> None:
    """What a lease takes stays unknown; events are carried all the same."""
    with redis.Redis.from_url(store_url) as admin:
        admin.execute_command("ACL", "SETUSER", "thin", "on", ">pw", "~*", "+@all", "-memory")
        try:
            with paired(store_url.replace("redis://", "redis://thin:pw@"), ledger_url) as pair:
                pair.license(5)
                take(pair.store, "ann")
                assert pair.recorder.run() == 1
                assert pair.recorder.sizes.lease == 0
        finally:
            admin.execute_command("ACL", "DELUSER", "thin")


def again(lease: Lease) -> Acquire:
    """What a client asks whose beat was not known."""
    return Acquire(
        pool_id=lease.pool_id,
        user_id=lease.user_id,
        client_id=lease.client_id,
        lease_id=lease.id,
        resume=Resume(lease_id=lease.id, fence=lease.fence),
    )


def test_emptied_under_holders(pair: Pair, store_url: str) -> None:
    """FLUSHALL: everybody comes back, nobody else gets a seat that is theirs, ids of events go on."""
    pair.license(HOLDERS)
    leases = [
        granted(x)
        for start in range(0, HOLDERS, 250)
        for x in pair.store.acquire([acquire(f"user-{start + n}") for n in range(250)])
    ]
    pair.recorder.run()
    before = pair.recorded()
    with redis.Redis.from_url(store_url) as client:
        client.flushall()
    assert beat(pair.store, leases[0]) is None
    pair.recorder.run()
    pair.license(HOLDERS)
    intruder = pair.store.acquire([acquire("somebody else")])[0]
    assert isinstance(intruder, Denied)
    assert intruder.in_use == 0
    back = [
        granted(x)
        for start in range(0, HOLDERS, 250)
        for x in pair.store.acquire([again(y) for y in leases[start : start + 250]])
    ]
    assert [x.id for x in back] == [x.id for x in leases]
    assert all(new.fence > old.fence for new, old in zip(back, leases, strict=True))
    assert usage(pair.store).in_use == HOLDERS
    pair.recorder.run()
    after = pair.recorded()
    assert after[: len(before)] == before
    assert after[len(before)].kind is EventKind.STORE_REPLACED
    assert len({event.id for event in after}) == len(after)
    assert after[len(before) :] == pair.stream()


def test_emptied_again_and_again(pair: Pair, store_url: str) -> None:
    """No fence is handed out twice, whether its grant was recorded or not."""
    fences = []
    for emptied in range(4):
        pair.license(1)
        for number in range(5 + 20 * (emptied == 0)):
            lease = take(pair.store, "ann")
            fences.append(lease.fence)
            assert give_back(pair.store, lease)
            if number == 2:
                pair.recorder.run()
        with redis.Redis.from_url(store_url) as client:
            client.flushall()
        pair.recorder.run()
    assert fences == sorted(set(fences))


def replicated(client: Any) -> None:
    """Wait until the replica has everything; WAIT asks for what its own connection wrote last."""
    client.set("replicated", 1)
    assert client.execute_command("WAIT", 1, 5_000) == 1


@contextmanager
def replica_of(primary: RedisServer) -> Iterator[RedisServer]:
    options = {"replicaof": f"127.0.0.1 {primary.port}"}
    with redis_server(options=options) as replica:
        yield replica


@pytest.mark.parametrize("failover", ["strict", "lenient"])
def test_failover_that_lost_the_last_acquires(
    server: RedisServer, ledger_url: str, failover: str
) -> None:
    """Strict: not one seat too many. Lenient: the overage is told, and nobody who lives is denied."""
    with (
        redis_server() as primary,
        replica_of(primary) as replica,
        redis.Redis.from_url(primary.url) as old,
        redis.Redis.from_url(replica.url) as new,
    ):
        with closing(open_store(primary.url)) as store:
            store.define([pool(10)])
            known = take(store, "known")
            replicated(old)
            new.execute_command("REPLICAOF", "NO", "ONE")  # from here on it learns of nothing more
            lost = [take(store, f"lost-{n}") for n in range(9)]
            ended = usage(store)
            primary.kill()
        assert ended.in_use == 10
        with closing(open_store(f"{replica.url}?failover={failover}")) as store:
            fresh = store.acquire([acquire(f"new-{n}") for n in range(20)])
            granted_anew = [x for x in fresh if isinstance(x, Lease)]
            assert beat(store, known) is not None
            back = [granted(x) for x in store.acquire([again(lease) for lease in lost])]
            assert [x.id for x in back] == [x.id for x in lost]
            total = usage(store).in_use
            told = [e for e in store.events(limit=100) if e.data.get("overage")]
            replaced = store.events(kinds=[EventKind.STORE_REPLACED])
            assert len(replaced) == 1
            if failover == "strict":
                assert granted_anew == []
                assert total == 10
                assert told == []
            else:
                assert len(granted_anew) == 9
                assert total == 19
                assert len(told) == 9


def test_what_had_ended_ends_again(ledger_url: str) -> None:
    """A session and a lease whose end a failover has lost end again: the ledger knows."""
    with redis_server() as primary, replica_of(primary) as replica:
        with (
            paired(primary.url, ledger_url) as pair,
            redis.Redis.from_url(primary.url) as old,
            redis.Redis.from_url(replica.url) as new,
        ):
            pair.recorder.run()
            pair.license(5)
            sign_in(pair.store, "ses_ended")
            lease, other = take(pair.store, "ann"), take(pair.store, "bob")
            replicated(old)
            new.execute_command("REPLICAOF", "NO", "ONE")
            pair.store.end(ids=["ses_ended"], reason="stolen", actor="user:ann")
            give_back(pair.store, lease)
            pair.recorder.run()
            primary.kill()
        with paired(replica.url, ledger_url) as pair:
            pair.recorder.run()
            assert gone(pair.store, "ses_ended").end_reason == "stolen"
            assert beat(pair.store, lease) is None
            assert beat(pair.store, other) is not None
            assert Reconciler(pair.store, pair.live, pair.ledger, pair.recorder).compare() == []


def test_reconcile(
    pair: Pair, store_url: str, ledger_url: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Each difference is explained, and mended by a plan that was read first."""
    pair.license(5)
    lost, kept = take(pair.store, "lost"), take(pair.store, "kept")
    pair.recorder.run()
    reconciler = Reconciler(pair.store, pair.live, pair.ledger, pair.recorder)
    assert reconciler.compare() == []
    with redis.Redis.from_url(store_url) as client:  # as a bug, or a hand, would
        for rows in client.scan_iter(f"sojourn:{{s}}:l:{POOL}:*"):
            client.hdel(rows, lost.id)
        client.zrem(f"sojourn:{{s}}:z:{POOL}", lost.id)
    plan = reconciler.compare()
    assert [(x.lease_id, x.why) for x in plan] == [(lost.id, Why.LOST)]
    assert main(["reconcile", "--store", store_url, "--ledger", ledger_url, "--json"]) == 0
    said = msgspec.json.decode(capsys.readouterr().out)
    assert [x["lease"] for x in said["differences"]] == [lost.id]
    assert said["mended"] == 0
    assert reconciler.repair(plan, actor="key:ops") == 1
    assert reconciler.compare() == []
    assert reconciler.repair(plan, actor="key:ops") == 0
    last = pair.recorded()[-1]
    assert (last.kind, last.subject, last.actor) == (EventKind.LEASE_EXPIRED, lost.id, "key:ops")
    assert [x.id for x in pair.store.leases(LeaseFilter())[0]] == [kept.id]


def test_serving_on_redis_with_a_ledger(store_url: str, tmp_path: Path) -> None:
    """`sojourn serve --store redis://…` end to end: a seat, an emptied Redis, the seat again, the record."""
    ledger_url = f"sqlite:///{tmp_path}/ledger.db"
    migrate(ledger_url)
    with closing(open_store(store_url)) as store:
        sign_in(store)
    environ = {"SOJOURN_LEDGER": ledger_url}
    with (
        served(tmp_path / "data", store=store_url, environ=environ) as server,
        new_client() as http,
    ):
        _, key = server.license(editor={"capacity": 1})
        answer = http_acquire(http, server.url, key, "editor", "ann")
        assert answer.status_code == 201
        token = answer.json()["data"]["token"]
        assert http_beat(http, server.url, token).status_code == 200
        assert http_acquire(http, server.url, key, "editor", "bob").status_code == 409
        recorded(ledger_url, 3)
        with server.admin() as admin:
            said = admin.get("/metrics").text
        [taken] = re.findall(r'^sojourn_store_bytes{of="session"} ([\d.]+)', said, re.MULTILINE)
        assert 200 < float(taken) < 2_000
        with redis.Redis.from_url(store_url) as client:
            client.flushall()
        lost = http_beat(http, server.url, token)
        assert (lost.status_code, lost.json()["code"]) == (410, "lease_lost")
        assert lost.json()["resumable"] is True
        assert http_acquire(http, server.url, key, "editor", "bob").status_code == 409
        headers = {"Authorization": f"Bearer {token}"}
        back = http.post(f"{server.url}/api/licenses/sessions", headers=headers, json={})
        assert back.status_code == 201, back.text
        assert http_beat(http, server.url, back.json()["data"]["token"]).status_code == 200
        kinds = [event.kind.value for event in recorded(ledger_url, 6)]
    assert kinds[:4] == ["session.created", "lease.acquired", "lease.denied", "store.replaced"]
    assert kinds[4:] == ["lease.denied", "lease.acquired"]


def test_served_through_a_loss(tmp_path: Path) -> None:
    """Over HTTP, from the instant of the restart on: the token that was refused never counts again, and
    its successor is never refused."""
    ledger_url = f"sqlite:///{tmp_path}/ledger.db"
    migrate(ledger_url)
    with (
        redis_server() as valkey,
        served(
            tmp_path / "data", store=valkey.url, environ={"SOJOURN_LEDGER": ledger_url}
        ) as server,
        new_client() as http,
    ):
        _, key = server.license(editor={"capacity": 1})

        def taken() -> str:
            answer = http_acquire(http, server.url, key, "editor", "ann")
            return str(answer.json()["data"]["token"])

        stale = taken()
        valkey.remember()
        holder = taken()
        assert http_beat(http, server.url, stale).status_code == 410
        recorded(ledger_url, 2)
        valkey.lose()
        said: dict[str, list[int]] = {stale: [], holder: []}

        def counted() -> bool:
            for token, codes in said.items():
                codes.append(http_beat(http, server.url, token).status_code)
            return said[holder].count(200) >= 20

        assert processes.wait_until(counted, 15)
        assert set(said[holder]) <= {200, 503}
        assert set(said[stale]) <= {410, 503}
        assert 410 in said[stale]


def recorded(ledger_url: str, count: int) -> list[Event]:
    """Wait until a ledger has so many events."""
    with closing(open_ledger(ledger_url)) as ledger:
        assert processes.wait_until(lambda: len(ledger.history()) >= count, 15)
        return ledger.history()
