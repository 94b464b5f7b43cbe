"""Events of kinds that only newer servers know stand in the stream, and nobody here falls over them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing

import msgspec
import pytest
from sqlalchemy import text

from sojourn.api.events import event_body
from sojourn.api.webhooks import letter_of
from sojourn.console.stories import story
from sojourn.event import EventKind
from sojourn.store import Store
from sojourn.stores.open import migrate, open_ledger, open_store
from sojourn.stores.redis.store import RedisStore
from sojourn.stores.sql.store import SqlStore
from sojourn.testing.builders import pool, take
from sojourn.testing.redis_server import redis_server
from sojourn.wire.reply import encode

NEWER = "lease.parked"


@pytest.fixture
def valkey_url() -> Iterator[str]:
    with redis_server() as server:
        yield server.url


def make_newer(store: Store, number: int) -> None:
    """Make the event what a newer server writes: of a kind that is unheard of."""
    if isinstance(store, SqlStore):
        changed = text("UPDATE sojourn_events SET kind = :kind WHERE id = :id")
        with store._db.writing() as tx:
            tx.core(changed, {"kind": NEWER, "id": number})
        return
    assert isinstance(store, RedisStore)
    client, stream = store._db.client, store._db.key("ev")
    entries = client.xrange(stream)
    client.delete(stream)
    for entry, fields in entries:
        at, kind, *rest = msgspec.msgpack.decode(fields[b"e"])
        kind = NEWER if entry == b"%d-0" % number else kind
        client.xadd(stream, {b"e": msgspec.msgpack.encode([at, kind, *rest])}, entry)


@pytest.mark.parametrize("kind", ["valkey_url", "sqlite_url", "postgres_url", "mariadb_url"])
def test_a_kind_that_only_newer_servers_know(kind: str, request: pytest.FixtureRequest) -> None:
    """It is read in its place, found by its name, shown, sent and recorded under it; and is none of ours."""
    url = str(request.getfixturevalue(kind))
    migrate(url)
    with closing(open_store(url)) as store:
        store.define([pool(3)])
        for user in ("ann", "bob", "cid"):
            take(store, user)
        make_newer(store, 2)
        told = store.events()
        assert [(x.id, x.kind.value, x.user_id) for x in told] == [
            (1, "lease.acquired", "ann"),
            (2, NEWER, "bob"),
            (3, "lease.acquired", "cid"),
        ]
        newer = told[1]
        assert newer.kind == NEWER
        assert newer.kind not in set(EventKind)
        assert store.events(kinds=(NEWER,)) == [newer]
        assert store.events(after=2) == told[2:]
        assert store.events(newest_first=True) == told[::-1]
        assert msgspec.json.decode(encode(event_body(newer)))["kind"] == NEWER
        assert letter_of(newer).kind == NEWER
        assert story(newer, newer.at).sign == "unknown"
    if kind == "valkey_url":
        url = str(request.getfixturevalue("empty_sqlite"))
        with closing(open_ledger(url)) as ledger:
            assert ledger.append(told, after=0)
            assert ledger.history() == told
