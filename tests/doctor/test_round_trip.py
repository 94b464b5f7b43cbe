"""Canaries on every store: they go all the way, and nothing of them is left; and what stops them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import closing, nullcontext
from typing import Any

import pytest
import redis
from sqlalchemy import func, select

from sojourn.doctor.doctor import Doctor
from sojourn.doctor.roundtrip import RoundTripExaminer
from sojourn.finding import Finding, Verdict
from sojourn.lease import Acquire, Denied, Lease
from sojourn.session import Gone, Save, Session
from sojourn.store import Store
from sojourn.stores.memory import MemoryStore
from sojourn.stores.memory.rows import LeaseRows
from sojourn.stores.open import open_store
from sojourn.stores.sql import schema
from sojourn.stores.sql.store import SqlStore
from sojourn.testing.redis_server import redis_server
from sojourn.token import Keyring

KEYRING = Keyring([b"a-secret-for-tests-0123456789-abcdefghij"])
SQL = ["empty_sqlite", "empty_postgres", "empty_mariadb"]


def examine(store: Store) -> dict[str, Finding]:
    examiner = RoundTripExaminer(lambda: store, lambda: KEYRING, place="here")
    return {x.check.id: x.finding for x in Doctor([examiner], nullcontext).examine()}


def wrong(found: dict[str, Finding]) -> set[str]:
    return {name for name, finding in found.items() if finding.verdict is not Verdict.OK}


def rows(store: SqlStore) -> dict[str, Any]:
    """Count every row there is; the pulse and what ids are counted in are rows of their own."""
    with store._db.writing() as tx:
        tables = schema.metadata.sorted_tables
        counts = {x.name: tx.core(select(func.count()).select_from(x)).scalar() for x in tables}
        marks = {row[0]: row[1] for row in tx.rows("SELECT name, value FROM sojourn_marks", {})}
        return counts | {"last event": marks["events"]}


@pytest.mark.parametrize("kind", SQL)
def test_sql(kind: str, request: pytest.FixtureRequest) -> None:
    with closing(open_store(request.getfixturevalue(kind))) as store:
        assert isinstance(store, SqlStore)
        before = rows(store)
        found = examine(store)
        assert wrong(found) == set(), found
        assert any("8 saves at once" in step for step in found["round-trip.session"].evidence)
        assert rows(store) == before


@pytest.fixture(scope="module")
def valkey() -> Iterator[str]:
    with redis_server() as server:
        yield server.url


def test_redis(valkey: str) -> None:
    with closing(open_store(valkey)) as store, redis.Redis.from_url(valkey) as client:
        store.now()
        store.pulse()
        before = set(client.keys())
        assert wrong(examine(store)) == set()
        assert set(client.keys()) == before
        assert store.events() == []


class KeepsOld(MemoryStore):
    """A token that was rotated goes on working."""

    def rotate(self, session_id: str, new_token_hash: bytes, **more: Any) -> Session | None:
        return super().rotate(session_id, new_token_hash, **more | {"grace": 10_000})


class LosesWrites(MemoryStore):
    """The last one to save wins."""

    def save(self, saves: Sequence[Save]) -> list[int | None]:
        for each in saves:
            data = self._sessions[each.id].session.data
            gone = tuple(key for key in data if key.startswith("key"))
            super().save([Save(id=each.id, unset=gone)])
        return super().save(saves)


class Oversells(MemoryStore):
    def acquire(self, requests: Sequence[Acquire]) -> list[Lease | Denied]:
        for each in requests:
            self._leases[each.pool_id] = LeaseRows()
        return super().acquire(requests)


class NeverExpires(MemoryStore):
    def load(self, token_hashes: Sequence[bytes]) -> list[Session | Gone]:
        return [
            self._sessions[self._hashes[x]].session if x in self._hashes else answer
            for x, answer in zip(token_hashes, super().load(token_hashes), strict=True)
        ]


@pytest.mark.parametrize(
    ("store", "check", "words"),
    [
        (KeepsOld(), "round-trip.session", "rotate: the old token still works"),
        (LosesWrites(), "round-trip.session", "of 8 keys, 7 were lost"),
        (Oversells(), "round-trip.seat", "two were let in on one seat"),
        (NeverExpires(), "round-trip.expiry", "the store's clock stands still"),
    ],
)
def test_a_store_that_is_wrong(
    store: MemoryStore, check: str, words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sojourn.doctor.roundtrip.EXPIRY_MAX", 0.05)
    found = examine(store)
    assert found[check].verdict is Verdict.FAILURE
    assert words in found[check].title
    assert store._pools == {}
    assert store._sessions == {}
