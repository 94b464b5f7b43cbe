"""After a failover the old primary may live on as a replica: nobody stays connected to it."""

from __future__ import annotations

from contextlib import closing

import pytest
import redis

from sojourn.errors import StoreUnavailable
from sojourn.stores.open import open_store
from sojourn.testing import processes
from sojourn.testing.builders import pool, take, usage
from sojourn.testing.proxy import FaultProxy
from sojourn.testing.redis_server import redis_server


def test_leaves_a_server_that_has_become_a_replica() -> None:
    with (
        redis_server() as old,
        redis_server() as new,
        redis.Redis.from_url(old.url) as demoted,
        redis.Redis.from_url(new.url) as promoted,
        FaultProxy(old.url) as proxy,
        closing(open_store(proxy.url)) as store,
    ):
        promoted.replicaof("127.0.0.1", str(old.port))
        store.define([pool(2)])
        assert take(store, "ann").fence == 1
        assert processes.wait_until(lambda: promoted.dbsize() == demoted.dbsize(), 30)
        promoted.replicaof("NO", "ONE")
        demoted.replicaof("127.0.0.1", str(new.port))
        with pytest.raises(StoreUnavailable, match="READONLY"):
            take(store, "bob")
        proxy.lead_to(new.url)
        take(store, "bob")
        assert usage(store).in_use == 2
