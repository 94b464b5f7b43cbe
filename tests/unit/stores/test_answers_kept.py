"""What is kept of first answers: bounded, swept, and no more than is needed."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import redis
from tests.databases import copied

from sojourn.clock import DAY, ManualClock
from sojourn.idempotency import ANSWERS_KEPT, Replayed
from sojourn.lease import Denied, Lease
from sojourn.stores import open as stores
from sojourn.stores.memory import MemoryStore, repeats
from sojourn.testing.builders import acquire, key, new_session, pool, take
from sojourn.testing.redis_server import redis_server

REQUESTS = 5


def ask(store: Any, *, first: int = 0, count: int = REQUESTS) -> list[Any]:
    wishes = [acquire("ann", idempotency=key(f"k{i}")) for i in range(first, first + count)]
    answers: list[Any] = store.acquire(wishes)
    return answers


def test_memory_keeps_the_newest(monkeypatch: pytest.MonkeyPatch) -> None:
    """Past its bound the oldest are forgotten."""
    monkeypatch.setattr(repeats, "KEPT_MAX", 3)
    store = MemoryStore(ManualClock())
    store.define([pool(1)])
    ask(store)
    assert len(store._firsts) == 3
    oldest, newest = ask(store, first=1, count=1) + ask(store, first=4, count=1)
    assert isinstance(oldest, Lease)
    assert isinstance(newest, Replayed)


def test_memory_is_swept() -> None:
    clock = ManualClock()
    store = MemoryStore(clock)
    store.define([pool(1)])
    ask(store)
    clock.advance(milliseconds=ANSWERS_KEPT - 1)
    assert not store.sweep().more
    assert len(store._firsts) == REQUESTS
    clock.advance(milliseconds=1)
    assert store.sweep(limit=REQUESTS).more
    assert store._firsts == {}


@pytest.fixture
def database(migrated_sqlite: Path, tmp_path: Path) -> str:
    return copied(migrated_sqlite, tmp_path / "sojourn.db")


def rows(database: str) -> list[Any]:
    with closing(sqlite3.connect(database.removeprefix("sqlite:///"))) as connection:
        return connection.execute("SELECT answer FROM sojourn_requests").fetchall()


def test_rows_are_swept(database: str) -> None:
    """A sweep deletes rows that nobody can ask for any more, at most as many as it may."""
    clock = ManualClock()
    with closing(stores.open_store(database, clock=clock)) as store:
        store.define([pool(1)])
        ask(store)
        clock.advance(milliseconds=ANSWERS_KEPT - 1)
        store.sweep()
        assert len(rows(database)) == REQUESTS
        clock.advance(milliseconds=1)
        assert store.sweep(limit=2).more
        assert len(rows(database)) == REQUESTS - 2
        while store.sweep(limit=2).more:
            pass
        assert rows(database) == []


def test_a_row_is_small(database: str) -> None:
    """A refusal is kept without the leases it names, a session by its id alone."""
    with closing(stores.open_store(database, clock=ManualClock())) as store:
        store.define([pool(50)])
        for i in range(50):
            take(store, f"user-{i}")
        (denied,) = ask(store, count=1)
        assert isinstance(denied, Denied)
        assert denied.evidence
        data = {"large": "x" * 10_000}
        store.create([new_session("ses_1", data=data, idempotency=key("s"))])
        assert all(len(answer) < 320 for (answer,) in rows(database))


def test_without_a_key_nothing_is_written(database: str) -> None:
    with closing(stores.open_store(database, clock=ManualClock())) as store:
        store.define([pool(50)])
        take(store)
        store.create([new_session("ses_1")])
        store.end(user_id="ann")
        assert rows(database) == []


def test_redis_forgets_by_itself() -> None:
    """Answers of a span go together, by the store's time: nothing needs to sweep them."""
    with (
        redis_server() as server,
        closing(stores.open_store(server.url)) as store,
        redis.Redis.from_url(server.url) as raw,
    ):
        client: Any = raw
        store.define([pool(1)])
        ask(store)
        [name] = client.keys("*:q:*")
        assert client.hlen(name) == REQUESTS
        assert client.memory_usage(name) < 400 * REQUESTS
        assert client.pttl(name) > ANSWERS_KEPT + DAY  # where nobody asks anything any more


def test_redis_forgets_span_by_span() -> None:
    with (
        redis_server() as server,
        closing(stores.open_store(server.url, clock=(clock := ManualClock()))) as store,
        redis.Redis.from_url(server.url) as raw,
    ):
        client: Any = raw
        store.define([pool(50)])
        spans = []
        for i in range(20):
            ask(store, first=i, count=1)
            clock.advance(milliseconds=ANSWERS_KEPT // 5)
            spans.append(len(client.keys("*:q:*")))
        assert max(spans) == spans[-1] == 6
        clock.advance(milliseconds=DAY)
        ask(store, first=99, count=1)
        assert len(client.keys("*:q:*")) == 1
