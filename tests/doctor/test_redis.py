"""Faults of a Redis or Valkey, each made for real: doctor names it, and nothing else."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager, nullcontext
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import redis
from tests.serving import free_port

from sojourn.doctor.doctor import Doctor
from sojourn.finding import Verdict
from sojourn.stores.open import open_examiner, open_store
from sojourn.stores.redis import doctor as module
from sojourn.stores.redis import health
from sojourn.stores.redis.orphans import UNUSED
from sojourn.testing import processes
from sojourn.testing.builders import pool, sign_in, take
from sojourn.testing.redis_server import RedisServer, redis_program, redis_server

BOUND = 15.0  # seconds


def examined(url: str) -> Doctor:
    examiner = open_examiner(url, place="the store")
    assert examiner is not None
    return Doctor([examiner], nullcontext)


def wrong(url: str) -> dict[str, Any]:
    with closing(examined(url)) as doctor:
        return {x.check.id: x.finding for x in doctor.examine() if x.finding.verdict.rank}


@pytest.fixture(scope="module")
def server() -> Iterator[RedisServer]:
    with redis_server() as running:
        yield running


@pytest.fixture
def client(server: RedisServer) -> Iterator[Any]:
    with redis.Redis.from_url(server.url) as opened:
        opened.flushall()
        yield opened


@contextmanager
def configured(client: Any, **settings: str) -> Iterator[None]:
    """Set it so, and back."""
    names = {name.replace("_", "-"): value for name, value in settings.items()}
    was = {name: client.config_get(name)[name] for name in names}
    for name, value in names.items():
        client.config_set(name, value)
    try:
        yield
    finally:
        for name, value in was.items():
            client.config_set(name, value)


def test_healthy(server: RedisServer, client: Any) -> None:
    assert wrong(server.url) == {}
    with closing(open_store(server.url)) as store:
        store.define([pool(capacity=50)])
        for n in range(30):
            sign_in(store, f"s{n}", f"user {n}")
            take(store, f"user {n}", f"tab {n}", session_id=f"s{n}")
        assert wrong(server.url) == {}
        with closing(examined(server.url)) as doctor:
            found = {x.check.id: x.finding for x in doctor.examine()}
        assert any("A lease takes about" in x for x in found["store.redis-memory"].evidence)
        assert all(x.verdict is Verdict.OK for x in store.check())


SETTINGS: dict[str, tuple[dict[str, str], str, Verdict, str]] = {
    "eviction": (
        {"maxmemory_policy": "volatile-lru"},
        "store.redis-eviction",
        Verdict.FAILURE,
        "volatile-lru",
    ),
    "no append-only file": (
        {"appendonly": "no"},
        "store.redis-durability",
        Verdict.WARNING,
        "append-only",
    ),
}


@pytest.mark.parametrize("name", SETTINGS)
def test_settings(name: str, server: RedisServer, client: Any) -> None:
    settings, check, verdict, words = SETTINGS[name]
    with configured(client, **settings):
        found = wrong(server.url)
    assert set(found) == {check}
    assert found[check].verdict is verdict
    assert words in found[check].title


def test_memory_nearly_full(server: RedisServer, client: Any) -> None:
    used = int(client.info("memory")["used_memory"])
    with configured(client, maxmemory=str(round(used * 1.05))):
        assert set(wrong(server.url)) == {"store.redis-memory"}


def test_nobody_there_and_a_wrong_password(server: RedisServer, client: Any) -> None:
    found = wrong(f"redis://127.0.0.1:{free_port()}/0")
    assert set(found) == {"store.redis"}
    assert found["store.redis"].title == "Redis cannot be reached."
    found = wrong(server.url.replace("redis://", "redis://sojourn:a-wrong-password@"))
    assert set(found) == {"store.redis"}
    assert found["store.redis"].title == "Redis does not let us in."
    assert "a-wrong-password" not in str(found)


def test_a_release_with_a_hole(server: RedisServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """The server is what it is; what is known of its branch is made up."""
    with redis.Redis.from_url(server.url) as asked:
        said: dict[str, Any] = asked.info("server")
    _, version = health.version_of(said)
    known = {**module.FIXED, "valkey": {version[:2]: version[2] + 1}}
    monkeypatch.setattr(module, "FIXED", known)
    assert set(wrong(server.url)) == {"store.redis-version"}
    monkeypatch.setattr(module, "FIXED", {**known, "valkey": {version[:2]: version[2]}})
    assert wrong(server.url) == {}


def test_replicas(server: RedisServer, client: Any) -> None:
    """Named as the store; without bounds; behind; and as it must be."""
    with redis_server() as other, redis.Redis.from_url(other.url) as copy:
        copy.replicaof("127.0.0.1", str(server.port))
        assert processes.wait_until(lambda: _following(client), BOUND)
        assert set(wrong(other.url)) == {"store.redis"}
        assert set(wrong(server.url)) == {"store.redis-replicas"}
        with configured(client, min_replicas_to_write="1", min_replicas_max_lag="10"):
            assert wrong(server.url) == {}
            other.pause()
            for _ in range(4):
                client.set("{s}big", "x" * 500_000)
            try:
                found = wrong(server.url)
            finally:
                other.resume()
            assert set(found) == {"store.redis-replicas"}
            assert "behind" in found["store.redis-replicas"].evidence[0]
        copy.replicaof("NO", "ONE")


def _following(client: Any) -> bool:
    said: dict[str, Any] = client.info("replication")
    return bool(said.get("connected_slaves")) and said["slave0"]["state"] == "online"


@contextmanager
def sentinel_of(primary: RedisServer, folder: Path) -> Iterator[int]:
    port = free_port()
    configuration = folder / f"sentinel-{port}.conf"
    configuration.write_text(
        f"port {port}\ndir {folder}\nsentinel monitor mine 127.0.0.1 {primary.port} 1\n"
    )
    argv = [str(redis_program()), str(configuration), "--sentinel"]
    with subprocess.Popen(argv, stdout=subprocess.DEVNULL) as process:
        try:
            with redis.Redis(port=port) as asked:
                assert processes.wait_until(lambda: _answers(asked), BOUND)
            yield port
        finally:
            process.kill()


def _answers(client: Any) -> bool:
    try:
        return bool(client.execute_command("SENTINEL", "GET-MASTER-ADDR-BY-NAME", "mine"))
    except redis.RedisError:
        return False


def test_two_writable_primaries(server: RedisServer, client: Any, tmp_path: Path) -> None:
    """Cut in two: on each side a Sentinel, and a primary that takes writes."""
    with ExitStack() as stack:
        other = stack.enter_context(redis_server())
        one, two = (stack.enter_context(sentinel_of(x, tmp_path)) for x in (server, other))
        healthy = f"redis+sentinel://127.0.0.1:{one}/mine/0"
        assert wrong(healthy) == {}
        found = wrong(f"redis+sentinel://127.0.0.1:{one},127.0.0.1:{two}/mine/0")
        assert set(found) == {"store.redis-primaries"}
        evidence = " ".join(found["store.redis-primaries"].evidence)
        assert f"127.0.0.1:{server.port}" in evidence
        assert f"127.0.0.1:{other.port}" in evidence


def names(client: Any) -> set[bytes]:
    return set(client.keys())


def forgotten(client: Any, key: str, make: Callable[[str], object]) -> None:
    """Make a key that nobody has used for a month."""
    make(key)
    dump = client.dump(key)
    client.execute_command("RESTORE", key, 0, dump, "REPLACE", "IDLETIME", UNUSED + 60)


def test_orphans_of_the_older_layout(server: RedisServer, client: Any) -> None:
    """What nobody needs is found and moved aside; what may be in use is left alone."""
    with closing(open_store(server.url)) as store:
        sign_in(store, "ours", "ann")
    for n in range(3):
        forgotten(client, f"session:old-{n}", lambda key: client.set(key, "{}"))
    forgotten(client, "feature:editor:count", lambda key: client.set(key, 7))
    client.set("session:live", "{}", ex=600)
    client.set("session:recent", "{}")
    client.set("feature:viewer:count", 2)
    client.sadd("user_sessions:ann", "live", "gone-1", "gone-2")
    client.sadd("user_sessions:bob", "gone-3")
    ours = {key for key in names(client) if key.startswith(b"sojourn:")}

    found = wrong(server.url)
    assert set(found) == {"store.redis-orphans"}
    with closing(examined(server.url)) as doctor:
        (seen,) = [x for x in doctor.examine() if x.check.id == "store.redis-orphans"]
        assert [step.rows for step in seen.steps] == [3, 3, 1]
        assert client.exists("session:old-1")
        assert [x.step.rows for x in doctor.repair()] == [3, 3, 1]
        assert list(doctor.repair()) == []
    assert wrong(server.url) == {}
    assert client.smembers("user_sessions:ann") == {b"live"}
    left = {key for key in names(client) if not key.startswith((b"sojourn-aside:", b"sojourn:"))}
    assert left == {
        b"session:live",
        b"session:recent",
        b"feature:viewer:count",
        b"user_sessions:ann",
    }
    assert {key for key in names(client) if key.startswith(b"sojourn:")} == ours
    (aside,) = client.keys("sojourn-aside:*:feature:editor:count")
    assert client.get(aside) == b"7"
    assert 0 < client.ttl(aside) <= 7 * 86_400


def test_nothing_that_was_moved_aside_is_overwritten(server: RedisServer, client: Any) -> None:
    """The same key again on the same day, and one of another kind under its name: each is kept."""

    def mended() -> None:
        with closing(examined(server.url)) as doctor:
            assert list(doctor.repair())
        assert wrong(server.url) == {}

    key = "sessions:user:ann"  # a name for a session's key, and for a user's set
    for value in ("one", "two", "three"):
        forgotten(client, key, partial(client.set, value=value))
        mended()
    asides = client.keys(f"sojourn-aside:*:{key}")
    assert {client.get(each) for each in asides} == {b"one", b"two", b"three"}
    for name in ("gone-1", "gone-2"):
        client.sadd(key, name)
        mended()
    (kept,) = set(client.keys(f"sojourn-aside:*:{key}")) - set(asides)
    assert client.smembers(kept) == {b"gone-1", b"gone-2"}
    assert all(client.ttl(each) > 6 * 86_400 for each in (*asides, kept))
