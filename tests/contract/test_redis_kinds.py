"""What can differ between the servers that speak Redis: the same verbs on Debian's Redis 7 and a Cluster.

The whole contract is held on Valkey, in `test_redis`; here is the part where servers differ: their Lua,
their sorted sets and streams, hash slots, the driver's other client.
"""

from __future__ import annotations

import re
import subprocess
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import Any

import pytest
import redis
from tests.doctor.app import certificate
from tests.serving import free_port

from sojourn.clock import ManualClock
from sojourn.errors import SettingsError, StoreBroken, StoreUnavailable
from sojourn.finding import Verdict
from sojourn.store import Recorded, Store
from sojourn.stores.open import open_examiner, open_store
from sojourn.testing import processes
from sojourn.testing.builders import POOL, acquire, beat, pool, present, sign_in, take, usage
from sojourn.testing.contract import StoreLosses, StoreProcesses, StoreRestarts
from sojourn.testing.contract.faults import VERBS
from sojourn.testing.contract.pools import PoolMeaning
from sojourn.testing.contract.sweep import SweepMeaning
from sojourn.testing.machine import drive
from sojourn.testing.redis_server import (
    NO_OPTIONS,
    RedisServer,
    redis_cluster,
    redis_program,
    redis_server,
)

BOUND = 15.0  # seconds


@pytest.fixture(scope="module")
def redis7() -> Iterator[RedisServer]:
    with redis_server(program=redis_program()) as server:
        yield server


@pytest.fixture(scope="module")
def cluster() -> Iterator[list[RedisServer]]:
    with redis_cluster() as nodes:
        yield nodes


def emptied(*servers: RedisServer) -> None:
    for server in servers:
        with redis.Redis.from_url(server.url) as client:
            client.flushall()


class Subset(PoolMeaning, SweepMeaning):
    @pytest.fixture
    def store(self, store_url: str, clock: ManualClock) -> Iterator[Store]:
        with closing(open_store(store_url, clock=clock)) as store:
            yield store


class TestRedis7(Subset):
    @pytest.fixture
    def store_url(self, redis7: RedisServer) -> str:
        emptied(redis7)
        return redis7.url

    def test_against_memory(self, redis7: RedisServer) -> None:
        """Driven side by side with the reference model, every answer, event and row is the same."""

        def fresh(clock: ManualClock) -> Store:
            emptied(redis7)
            return open_store(redis7.url, clock=clock)

        drive(fresh, examples=8, steps=50)


class OwnRedis7:
    """A server of one's own, to start again."""

    @pytest.fixture
    def server(self) -> Iterator[RedisServer]:
        with redis_server(program=redis_program()) as server:
            yield server

    @pytest.fixture
    def open_at(self) -> Callable[..., Store]:
        return open_store

    @pytest.fixture
    def database_url(self, server: RedisServer) -> str:
        return f"{server.url}?socket_timeout=1"


class TestRedis7Restarts(OwnRedis7, StoreRestarts):
    pass


class TestRedis7Losses(OwnRedis7, StoreLosses):
    @pytest.fixture
    def ledger_url(self, empty_sqlite: str) -> str:
        return empty_sqlite


def cluster_url(nodes: list[RedisServer]) -> str:
    return nodes[0].url.replace("redis://", "redis+cluster://").removesuffix("/0")


class TestCluster(Subset):
    @pytest.fixture
    def store_url(self, cluster: list[RedisServer]) -> str:
        emptied(*cluster)
        return cluster_url(cluster)


class TestClusterProcesses(StoreProcesses):
    @pytest.fixture
    def store_url(self, cluster: list[RedisServer]) -> str:
        emptied(*cluster)
        return cluster_url(cluster)


def owner_of(nodes: list[RedisServer], key: str) -> RedisServer:
    with redis.RedisCluster.from_url(nodes[0].url) as client:
        port = client.get_node_from_key(key).port
    return next(node for node in nodes if node.port == port)


def failing(nodes: list[RedisServer]) -> bool:
    """Tell whether any node takes another for dead."""
    for node in nodes:
        with redis.Redis.from_url(node.url) as client:
            if "fail" in str(client.execute_command("CLUSTER NODES")):
                return True
    return False


def works_within_bound(work: Any) -> None:
    def tried() -> bool:
        try:
            work()
        except StoreUnavailable:
            return False
        return True

    assert processes.wait_until(tried, BOUND)


def test_a_cluster_that_is_away() -> None:
    with pytest.raises(StoreUnavailable):
        open_store(f"redis+cluster://127.0.0.1:{free_port()}")


def test_one_shard_of_a_cluster_killed() -> None:
    """Where another shard dies all goes on; where ours dies its replica takes over, and all is there."""
    with redis_cluster(3, replicas=3) as nodes:
        url = cluster_url(nodes)
        with closing(open_store(url)) as store:
            store.define([pool(5, lost_after=600_000)])
            lease, session = take(store, "ann"), sign_in(store)
            ours = owner_of(nodes, "sojourn:{s}:m")
            other = next(node for node in nodes[:3] if node is not ours)
            other.kill()
            works_within_bound(lambda: beat(store, lease))
            assert usage(store, POOL).in_use == 1
            other.start()
            assert processes.wait_until(lambda: not failing(nodes), BOUND)
            with redis.Redis.from_url(ours.url) as client:
                client.set("{s}", 1)  # WAIT asks for what its own connection wrote last
                assert client.execute_command("WAIT", 1, 5_000) == 1
            ours.kill()
            works_within_bound(lambda: store.usage([POOL]))
            assert beat(store, lease) is not None
            assert present(store).id == session.id
            assert store.acquire([acquire("bob")])


def test_a_server_that_may_drop_things_is_refused(redis7: RedisServer) -> None:
    """With an eviction policy the store does not open, and says how to set it."""
    with redis.Redis.from_url(redis7.url) as client, closing(open_store(redis7.url)) as store:
        assert not [x for x in store.check() if x.verdict is Verdict.FAILURE]
        client.config_set("maxmemory-policy", "allkeys-lru")
        try:
            with pytest.raises(SettingsError, match="allkeys-lru") as refused:
                open_store(redis7.url)
            assert "noeviction" in refused.value.hint
            [bad] = [x for x in store.check() if x.verdict is Verdict.FAILURE]
            assert "allkeys-lru" in bad.title
        finally:
            client.config_set("maxmemory-policy", "noeviction")


@pytest.mark.parametrize(
    ("setting", "value"),
    [("maxmemory", "1mb"), ("min-replicas-to-write", "1")],
    ids=["full", "too few replicas"],
)
def test_a_server_that_takes_no_writes_is_away(
    redis7: RedisServer, setting: str, value: str
) -> None:
    """By its code: try again. What was there is there afterwards."""
    emptied(redis7)
    with redis.Redis.from_url(redis7.url) as client, closing(open_store(redis7.url)) as store:
        store.define([pool(5)])
        lease = take(store, "ann")
        before = client.config_get(setting)[setting]
        client.config_set(setting, value)
        try:
            with pytest.raises(StoreUnavailable):
                take(store, "bob")
        finally:
            client.config_set(setting, before)
        assert take(store, "ann").id == lease.id
        assert usage(store).in_use == 1


@pytest.fixture(params=["one server", "a Cluster"])
def place(request: pytest.FixtureRequest) -> tuple[list[RedisServer], str]:
    """Servers, and the URL of a store on them."""
    if request.param == "a Cluster":
        nodes: list[RedisServer] = request.getfixturevalue("cluster")
        return nodes, cluster_url(nodes)
    server: RedisServer = request.getfixturevalue("redis7")
    return [server], server.url


def test_the_user_that_the_guide_describes(place: tuple[list[RedisServer], str]) -> None:
    """The ACL of docs/guide/redis.md is enough for every verb and for doctor, and for little else; a wrong
    password is told."""
    servers, plain = place
    emptied(*servers)
    guide = (Path(__file__).parents[2] / "docs" / "guide" / "redis.md").read_text()
    found = re.search(r"^user sojourn on >password (.+)$", guide, re.MULTILINE)
    assert found is not None
    url = plain.replace("://", "://sojourn:password@")
    with ExitStack() as stack:
        for server in servers:
            client = stack.enter_context(redis.Redis.from_url(server.url))
            client.execute_command(
                "ACL", "SETUSER", "sojourn", "on", ">password", *found[1].split()
            )
            stack.callback(client.execute_command, "ACL", "DELUSER", "sojourn")
        with closing(open_store(url)) as store:
            for name, verb in VERBS.items():
                assert verb(store) is not NotImplemented, name
            assert isinstance(store, Recorded)
            assert store.attach("ledger", 0).last_event_id > 0
            assert store.sizes().session > 0
            store.sweep()
        examiner = open_examiner(url, place="the store")
        assert examiner is not None
        with closing(examiner):
            found_by = {check.id: check.look().verdict for check in examiner.checks()}
        assert Verdict.FAILURE not in found_by.values()
        assert len(found_by) == 10
        with pytest.raises(StoreBroken, match=r"NOAUTH|WRONGPASS"):
            open_store(url.replace("password", "wrong"))
        with redis.Redis.from_url(servers[0].url, username="sojourn", password="password") as user:
            for command in (
                "KEYS *",
                "SCAN 0",
                "FLUSHALL",
                "CONFIG GET *",
                "GET other",
                "SCRIPT FLUSH",
            ):
                with pytest.raises(redis.exceptions.NoPermissionError):
                    user.execute_command(*command.split())


def test_a_socket_and_a_prefix(tmp_path: Path) -> None:
    """Two prefixes on one server are two stores; a socket is a way to it."""
    path = tmp_path / "s"
    with (
        redis_server(program=redis_program(), options={"unixsocket": str(path)}),
        closing(open_store(f"redis+unix://{path}?prefix=one")) as one,
        closing(open_store(f"valkey+unix://{path}?db=0&prefix=two")) as two,
    ):
        sign_in(one)
        assert present(one).id == "ses_1"
        assert two.of("ann") == []


@contextmanager
def sentinel_of(primary: int, folder: Path, tls: Mapping[str, str] = NO_OPTIONS) -> Iterator[int]:
    """Run a Sentinel that watches the primary at a port; answer with its own."""
    port = free_port()
    own = {"port": "0", "tls-port": str(port), **tls} if tls else {"port": str(port)}
    own |= {"dir": str(folder), "sentinel monitor": f"mine 127.0.0.1 {primary} 1"}
    configuration = folder / "sentinel.conf"
    configuration.write_text("".join(f"{name} {value}\n" for name, value in own.items()))
    argv = [str(redis_program()), str(configuration), "--sentinel"]
    with subprocess.Popen(argv, stdout=subprocess.DEVNULL) as process:
        try:
            yield port
        finally:
            process.kill()


def test_by_sentinel(redis7: RedisServer, tmp_path: Path) -> None:
    """The primary that a Sentinel names is the one that serves."""
    emptied(redis7)
    with sentinel_of(redis7.port, tmp_path) as port:
        works_within_bound(lambda: signed_in(f"redis+sentinel://127.0.0.1:{port}/mine/0"))
    with closing(open_store(redis7.url)) as store:
        assert present(store).user_id == "ann"


def signed_in(url: str) -> None:
    with closing(open_store(url)) as store:
        sign_in(store)


def test_tls(tmp_path: Path) -> None:
    """By TLS, to a server and through a Sentinel, both of which ask for a certificate of ours too; and not
    to one that we have no reason to trust."""
    certificate(tmp_path)
    pem, port = tmp_path / "certificate.pem", free_port()
    names = ("tls-cert-file", "tls-key-file", "tls-ca-cert-file")
    tls = dict.fromkeys(names, str(pem)) | {"tls-replication": "yes"}
    options = {"tls-port": str(port), **tls}
    ours = f"ssl_ca_certs={pem}&ssl_certfile={pem}&ssl_keyfile={pem}"
    with redis_server(program=redis_program(), options=options) as server:
        with closing(open_store(f"rediss://127.0.0.1:{port}/0?{ours}&prefix=direct")) as store:
            sign_in(store)
        with sentinel_of(port, tmp_path, tls) as watcher:
            found = f"rediss+sentinel://127.0.0.1:{watcher}/mine/0?{ours}"
            works_within_bound(lambda: signed_in(f"{found}&prefix=found"))
        for prefix in ("direct", "found"):
            with closing(open_store(f"{server.url}?prefix={prefix}")) as store:
                assert present(store).user_id == "ann"
        with pytest.raises(StoreUnavailable) as refused:
            open_store(f"rediss://127.0.0.1:{port}/0?ssl_certfile={pem}&ssl_keyfile={pem}")
        assert "ssl_ca_certs" in str(refused.value.hint)
        with pytest.raises(StoreUnavailable):
            open_store(f"rediss://127.0.0.1:{port}/0?ssl_ca_certs={pem}")
