"""SIGKILL under load: of the server, and of the database. Nothing acknowledged is lost, capacity holds,
and whoever kept beating keeps the seat."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Self

import httpx
import pytest
from tests.serving import Served, acquire, beat, new_client, served

from sojourn.license import pool_id
from sojourn.stores.open import migrate, open_store
from sojourn.testing.replay import replay
from sojourn.testing.servers import Server

CAPACITY = 20
CLIENTS = 30
POLICY = {"capacity": CAPACITY, "lostAfter": 6, "heartbeatInterval": 2}


class Holder(threading.Thread):
    """A client that takes a seat and keeps beating, through whatever happens to the server.

    It trusts what it was told: a seat granted is its own until the server says that it is lost.
    """

    def __init__(self, number: int, url: str, key: str, stop: threading.Event) -> None:
        super().__init__(daemon=True)
        self.number, self.url, self.key, self.stop = number, url, key, stop
        self.granted: list[tuple[str, int]] = []
        self.lost: list[str] = []
        self.beats = 0
        self.last_beat_ok = 0.0
        self.token: str | None = None

    def run(self) -> None:
        with new_client(3) as http:
            while not self.stop.wait(0.02 if self.token is None else 0.1):
                try:
                    self._step(http)
                except httpx.HTTPError:
                    continue  # the server is away; keep trying, as a client does

    def _step(self, http: httpx.Client) -> None:
        if self.token is None:
            answer = acquire(http, self.url, self.key, "editor", f"user-{self.number}")
            if answer.status_code == 201:
                data = answer.json()["data"]
                self.token = data["token"]
                self.granted.append((data["leaseId"], data["fence"]))
            return
        answer = beat(http, self.url, self.token)
        if answer.status_code == 200:
            self.beats += 1
            self.last_beat_ok = time.monotonic()
        elif answer.status_code == 410:
            self.lost.append(answer.json()["reason"])
            self.token = None


class Crowd:
    """More clients than seats, all at once."""

    def __init__(self, urls: list[str], key: str) -> None:
        self.stop = threading.Event()
        self.holders = [Holder(n, urls[n % len(urls)], key, self.stop) for n in range(CLIENTS)]

    def __enter__(self) -> Self:
        for holder in self.holders:
            holder.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop.set()
        for holder in self.holders:
            holder.join(30)

    def holding(self) -> list[Holder]:
        return [h for h in self.holders if h.token is not None]

    def wait_full(self) -> None:
        until(lambda: len(self.holding()) == CAPACITY)

    def wait_beats(self, more: int) -> None:
        """Wait until every holder has had so many more beats acknowledged."""
        goals = {h: h.beats + more for h in self.holding()}
        until(lambda: all(h.beats >= goal or h.token is None for h, goal in goals.items()))


def until(happened: Callable[[], bool], timeout: float = 60) -> None:
    deadline = time.monotonic() + timeout
    tick = threading.Event()
    while not happened():
        if time.monotonic() > deadline:
            pytest.fail("It did not happen in time.")
        tick.wait(0.01)


def check(store_url: str, license_id: str, crowd: Crowd) -> None:
    """What the clients were told, held against what the database recorded."""
    store = open_store(store_url)
    try:
        verdict = replay(store, pool_id(license_id, "editor"), CAPACITY)
        usage = store.usage([pool_id(license_id, "editor")])[0]
    finally:
        store.close()
    told = [grant for holder in crowd.holders for grant in holder.granted]
    assert set(told) <= verdict.granted, "an acknowledged lease was lost"
    assert verdict.over_grants == 0
    assert verdict.fences_out_of_order == 0
    assert usage is not None
    assert usage.in_use <= CAPACITY
    assert [h.lost for h in crowd.holders if h.lost] == [], (
        "a holder that kept beating lost its seat"
    )


def test_server_killed_mid_load(tmp_path: Path) -> None:
    """Three SIGKILLs and restarts of a server on SQLite, at random moments of a busy time."""
    with served(tmp_path / "data") as server:
        license_id, key = server.license(editor=POLICY)
        with Crowd([server.url], key) as crowd:
            crowd.wait_full()
            for _ in range(3):
                crowd.wait_beats(3)
                server.kill()
                server.start()
            crowd.wait_beats(3)
            assert len(crowd.holding()) == CAPACITY
        server.kill()
        check(f"sqlite:///{tmp_path}/data/sojourn.db", license_id, crowd)


def test_server_away_for_longer_than_lost_after(tmp_path: Path) -> None:
    """Everybody's time runs out while the server is away; on its return they are all still there."""
    with served(tmp_path / "data") as server:
        policy = {"capacity": CAPACITY, "lostAfter": 4, "heartbeatInterval": 0.5}
        license_id, key = server.license(editor=policy)
        with Crowd([server.url], key) as crowd:
            crowd.wait_full()
            crowd.wait_beats(2)
            server.kill()
            away = time.monotonic()
            until(lambda: time.monotonic() - away > 5)
            server.start()
            crowd.wait_beats(3)
            assert len(crowd.holding()) == CAPACITY
        server.kill()
        check(f"sqlite:///{tmp_path}/data/sojourn.db", license_id, crowd)


@pytest.mark.parametrize("backend", ["postgres", "mariadb"])
def test_store_killed_mid_load(
    backend: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    """The database is killed and recovers, under two servers that stay up."""
    database: Server = request.getfixturevalue(f"own_{backend}")
    url = database.database_url("postgres" if backend == "postgres" else "mysql")
    migrate(url)
    with served(tmp_path / "a", store=url) as one, served(tmp_path / "b", store=url) as two:
        license_id, key = one.license(editor=POLICY)
        with Crowd([one.url, two.url], key) as crowd:
            crowd.wait_full()
            for _ in range(2):
                crowd.wait_beats(3)
                database.kill()
                _unready(one)
                database.start()
            crowd.wait_beats(3)
            assert len(crowd.holding()) == CAPACITY
        check(url, license_id, crowd)


def _unready(server: Served) -> None:
    """The server stays up, says that it is not ready, and answers 503 with Retry-After."""

    with new_client() as http:
        until(lambda: http.get(f"{server.url}/readyz").status_code == 503)
        assert http.get(f"{server.url}/livez").status_code == 200
    with server.admin() as http:
        answer = http.get("/api/licenses/sessions")
    assert answer.status_code == 503
    assert answer.json()["code"] == "store_unavailable"
    assert int(answer.headers["Retry-After"]) >= 1
