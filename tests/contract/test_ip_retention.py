"""Addresses are forgotten after a while, on every store; they are nowhere left behind."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import closing

import pytest
from msgspec.structs import replace
from sqlalchemy import text

from sojourn.clock import DAY, ManualClock
from sojourn.device import Device
from sojourn.errors import StoreBroken
from sojourn.event import EventKind
from sojourn.stores.open import migrate, open_store
from sojourn.stores.sql import maintenance
from sojourn.stores.sql.database import Tx
from sojourn.stores.sql.store import SqlStore
from sojourn.testing.builders import news, present, sign_in
from sojourn.testing.redis_server import redis_server

PHONE = Device(name="Safari on iPhone", kind="phone", ip="192.0.2.7", user_agent='"ip":"192.0.2.7"')


@pytest.fixture
def valkey_url() -> Iterator[str]:
    with redis_server() as server:
        yield server.url


@pytest.mark.parametrize(
    "kind", ["memory", "valkey_url", "sqlite_url", "postgres_url", "mariadb_url"]
)
def test_a_sweep_forgets_old_addresses(kind: str, request: pytest.FixtureRequest) -> None:
    """Bounded, oldest first; the rest of the device stays, and events never held the address."""
    url = "memory:" if kind == "memory" else str(request.getfixturevalue(kind))
    migrate(url)
    clock = ManualClock()
    with closing(open_store(url, clock=clock, ip_retention=2 * DAY)) as store:
        for name in ("a", "b", "c"):
            sign_in(store, name, name, device=PHONE, lifetime=9 * DAY, idle_timeout=9 * DAY)
            clock.advance(milliseconds=DAY)
        sign_in(store, "none", "d", lifetime=9 * DAY, idle_timeout=9 * DAY)
        swept = store.sweep(limit=1)
        assert (swept.ips_forgotten, swept.more) == (1, True)
        assert store.sweep().ips_forgotten == 1
        assert store.sweep().ips_forgotten == 0
        kept = [present(store, name).device for name in ("a", "b", "c")]
        assert [device.ip if device else "none" for device in kept] == [None, None, "192.0.2.7"]
        assert kept[0] is not None
        assert (kept[0].name, kept[0].user_agent) == (PHONE.name, PHONE.user_agent)
        told = news(store, 0, EventKind.SESSION_NEW_DEVICE)
        assert len(told) == 3
        assert not any("ip" in event.data for event in told)


@pytest.mark.parametrize(
    "kind", ["memory", "valkey_url", "sqlite_url", "postgres_url", "mariadb_url"]
)
def test_the_last_address_is_forgotten_after_the_last_use(
    kind: str, request: pytest.FixtureRequest
) -> None:
    """The address of a sign-in goes two days after that, the last one two days after the last use, however
    old the session is. The rest of both devices stays."""
    url = "memory:" if kind == "memory" else str(request.getfixturevalue(kind))
    migrate(url)
    clock = ManualClock()
    train = replace(PHONE, ip="198.51.100.9", place="Train")
    with closing(open_store(url, clock=clock, ip_retention=2 * DAY)) as store:

        def ips() -> list[str | None]:
            found = present(store, "a")
            assert found.device is not None
            assert found.last_device is not None
            assert (found.device.name, found.last_device.place) == (PHONE.name, "Train")
            return [found.device.ip, found.last_device.ip]

        sign_in(store, "a", device=PHONE, lifetime=90 * DAY, idle_timeout=90 * DAY)
        sign_in(store, "none", lifetime=90 * DAY, idle_timeout=90 * DAY)
        clock.advance(milliseconds=DAY)
        store.touch(["a", "none"], {"a": train})
        assert store.sweep().ips_forgotten == 0
        clock.advance(milliseconds=DAY)
        assert store.sweep().ips_forgotten == 1
        assert ips() == [None, train.ip]
        store.touch(["a"])
        clock.advance(milliseconds=DAY)
        assert store.sweep().ips_forgotten == 0
        clock.advance(milliseconds=DAY)
        assert store.sweep().ips_forgotten == 1
        assert ips() == [None, None]
        assert store.sweep().ips_forgotten == 0
        store.touch(["a", "none"], {"a": train, "none": train})
        assert ips() == [None, train.ip]
        clock.advance(milliseconds=2 * DAY)
        assert store.sweep().ips_forgotten == 2
        assert ips() == [None, None]


@pytest.mark.parametrize("kind", ["sqlite_url", "postgres_url", "mariadb_url"])
def test_whoever_comes_back_before_the_lock_keeps_the_address(
    kind: str, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A sweep found the address of a last use, and its session is used again before it is locked: there is
    nothing left to forget, and the sweep goes on."""
    url = str(request.getfixturevalue(kind))
    migrate(url)
    clock = ManualClock()
    with closing(open_store(url, clock=clock, ip_retention=2 * DAY)) as store:
        sign_in(store, "a", lifetime=90 * DAY, idle_timeout=90 * DAY)
        store.touch(["a"], {"a": PHONE})
        clock.advance(milliseconds=2 * DAY)
        with_ip = maintenance._with_ip
        came_back: list[str] = []

        def found(until: int) -> Callable[[Tx, int], Sequence[str]]:
            def due(tx: Tx, limit: int) -> Sequence[str]:
                ids = with_ip(until)(tx, limit)
                store.touch(ids, dict.fromkeys(ids, PHONE))
                came_back.extend(ids)
                return ids

            return due

        monkeypatch.setattr(maintenance, "_with_ip", found)
        swept = store.sweep()
        assert came_back == ["a"]
        assert (swept.ips_forgotten, swept.more) == (0, False)
        last = present(store, "a").last_device
        assert last is not None
        assert last.ip == PHONE.ip


@pytest.mark.parametrize("kind", ["sqlite_url", "postgres_url", "mariadb_url"])
def test_addresses_are_forgotten_though_the_line_cannot_be_read(
    kind: str, request: pytest.FixtureRequest
) -> None:
    """Where the table of those who wait is gone, a sweep says so, and has done all else before."""
    url = str(request.getfixturevalue(kind))
    migrate(url)
    clock = ManualClock()
    with closing(open_store(url, clock=clock, ip_retention=2 * DAY)) as store:
        assert isinstance(store, SqlStore)
        sign_in(store, "a", device=PHONE, lifetime=9 * DAY, idle_timeout=9 * DAY)
        clock.advance(milliseconds=3 * DAY)
        with store._db.writing() as tx:
            tx.core(text("DROP TABLE sojourn_waiting"))
        with pytest.raises(StoreBroken):
            store.sweep()
        found = present(store, "a").device
        assert found is not None
        assert found.ip is None
