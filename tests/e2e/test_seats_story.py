"""The main job over real servers: nobody is refused because of a ghost, and nobody gets a seat too many."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import httpx
import pytest
from tests.serving import Served, acquire, beat, new_client, release, served

from sojourn.event import EventKind

BACKENDS = ("sqlite", "postgres", "mariadb")


@pytest.fixture(params=BACKENDS)
def store_url(request: pytest.FixtureRequest) -> str:
    """An empty database of each kind."""
    return str(request.getfixturevalue(f"empty_{request.param}"))


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Served]:
    with served(tmp_path / "data") as server:
        yield server


def in_parallel(threads: int, work: Callable[[int], None]) -> None:
    """Run `work(n)` on so many threads that start together; the first failure is raised."""
    barrier = threading.Barrier(threads)
    failures: list[BaseException] = []

    def run(n: int) -> None:
        try:
            barrier.wait(30)
            work(n)
        except BaseException as failure:  # noqa: BLE001 - handed to the test's own thread below
            failures.append(failure)

    started = [threading.Thread(target=run, args=(n,)) for n in range(threads)]
    for thread in started:
        thread.start()
    for thread in started:
        thread.join()
    if failures:
        raise failures[0]


def take(
    urls: tuple[str, str], key: str, feature: str, answers: list[httpx.Response], n: int
) -> None:
    """One of many that want a seat at the same moment, each over a connection of its own."""
    with new_client(60) as http:
        answers.append(acquire(http, urls[n % 2], key, feature, f"user-{n}"))


def test_200_threads_on_capacity_5_over_two_servers(store_url: str, tmp_path: Path) -> None:
    """Exactly five get a seat, every time; the other 195 read who holds them."""
    with (
        served(tmp_path / "a", store=store_url) as one,
        served(tmp_path / "b", store=store_url) as two,
    ):
        for round_number in range(3):
            feature = f"round-{round_number}"
            _, key = one.license(**{feature: {"capacity": 5}})
            answers: list[httpx.Response] = []

            work = partial(take, (one.url, two.url), key, feature, answers)
            in_parallel(200, work)
            assert Counter(a.status_code for a in answers) == {201: 5, 409: 195}
            winners = {a.json()["data"]["leaseId"] for a in answers if a.status_code == 201}
            assert len(winners) == 5
            for answer in answers:
                if answer.status_code == 409:
                    problem = answer.json()
                    assert problem["code"] == "seat_limit"
                    assert problem["error"] == "Maximum user limit reached"
                    assert (problem["limit"], problem["inUse"]) == (5, 5)
                    assert len(problem["holders"]) == 5
                    assert int(answer.headers["Retry-After"]) >= 1


def test_a_client_that_crashes_a_thousand_times_holds_one_seat(server: Served) -> None:
    """The same client comes back to its own seat, at once, and never holds two."""
    license_id, key = server.license(editor={"capacity": 2})
    fences: list[int] = []
    leases: set[str] = set()
    with new_client() as http, server.admin() as admin:
        for n in range(1_000):
            answer = acquire(http, server.url, key, "editor", "ada", "laptop")
            assert answer.status_code == 201, answer.text
            fences.append(answer.json()["data"]["fence"])
            leases.add(answer.json()["data"]["leaseId"])
            if n % 100 == 0:
                stats = admin.get(f"/api/licenses/{license_id}/session-stats").json()["data"]
                assert stats["features"][0]["usage"]["inUse"] == 1
        assert len(leases) == 1
        assert fences == sorted(set(fences))
        listed = admin.get("/api/licenses/sessions", params={"licenseId": license_id}).json()
        assert len(listed["data"]["items"]) == 1


def test_the_troubleshooting_guide(server: Served) -> None:
    """A user was refused: look, see the ghost, free the seat, and she is in. Four calls, each audited."""
    license_id, key = server.license(
        editor={"capacity": 1, "lostAfter": 600, "heartbeatInterval": 200}
    )
    with new_client() as http, server.admin() as admin:
        ghost = acquire(http, server.url, key, "editor", "ghost/of ada", "old laptop")
        assert ghost.status_code == 201
        refused = acquire(http, server.url, key, "editor", "grace")
        assert refused.status_code == 409

        debug = admin.get(
            "/api/licenses/sessions/debug", params={"userId": "grace", "feature": "editor"}
        )
        story = debug.json()["data"]
        assert debug.status_code == 200
        (pool,) = story["pools"]
        assert pool["licenseId"] == license_id
        assert pool["status"] == "active"
        assert (pool["usage"]["inUse"], pool["usage"]["capacity"]) == (1, 1)
        assert pool["wouldGrant"] is False
        assert pool["refusal"]["code"] == "seat_limit"
        (denial,) = story["denials"]
        (holder,) = denial["data"]["holders"]
        assert holder["userId"] == "ghost/of ada"
        assert holder["lastBeatAgo"] >= 0

        cleanup = admin.post("/api/licenses/cleanup-sessions", json={"licenseId": license_id})
        assert cleanup.status_code == 200
        assert cleanup.json()["data"]["ended"] == 0  # not silent for long enough to be called dead

        path = "/api/licenses/sessions/force-cleanup/ghost%2Fof%20ada/editor"
        forced = admin.delete(path)
        assert forced.status_code == 200
        assert forced.json()["data"]["ended"] == 1
        assert admin.delete(path).json()["data"]["ended"] == 0

        assert acquire(http, server.url, key, "editor", "grace").status_code == 201
        lost = beat(http, server.url, ghost.json()["data"]["token"])
        assert (lost.status_code, lost.json()["code"]) == (410, "lease_lost")
        assert (lost.json()["reason"], lost.json()["resumable"]) == ("revoked", False)

        stats = admin.get(f"/api/licenses/{license_id}/session-stats").json()["data"]
        assert stats["features"][0]["usage"]["inUse"] == 1
        acted = admin.get("/api/events", params={"kind": EventKind.OPERATOR_ACTED.value}).json()
        names = [e["data"]["name"] for e in acted["data"]["items"]]
        assert names == ["cleanup_sessions", "force_cleanup", "force_cleanup"]


def test_a_ghost_loses_its_seat_to_whoever_needs_it(server: Served) -> None:
    """In real time, with short thresholds: nobody beats for the first holder, and the second gets in."""
    _, key = server.license(editor={"capacity": 1, "lostAfter": 1.2, "heartbeatInterval": 0.4})
    with new_client() as http:
        ghost = acquire(http, server.url, key, "editor", "ghost").json()["data"]
        living = acquire(http, server.url, key, "editor", "ada")
        assert living.status_code == 409
        while living.status_code == 409:  # ends by itself, or by the suite's timeout
            living = acquire(http, server.url, key, "editor", "ada")
        assert living.status_code == 201
        assert beat(http, server.url, ghost["token"]).status_code == 410
        token = living.json()["data"]["token"]
        assert beat(http, server.url, token).json()["data"]["state"] == "active"
        assert release(http, server.url, token).json()["data"]["released"] is True
