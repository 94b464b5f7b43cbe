"""What an administrator checks when somebody cannot get in, end to end: a real server, in real time.

Nothing here must be quick: thresholds are short where something is to end, and an hour where nothing may.
"""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest
from tests.e2e.test_presence import Feature, eventually
from tests.seat_clients import RawClient, attend, heard
from tests.serving import Served, beat, new_client, release, served

HOUR = 3_600
ENDLESS = {"heartbeatInterval": 600, "lostAfter": HOUR, "linger": HOUR}
CLOSED = {**ENDLESS, "linger": 1}
"""Only a goodbye ends anything."""
STOPPED = {"heartbeatInterval": 1, "lostAfter": 2, "linger": 2, "whenFull": "deny"}
"""Only time ends anything."""
HOLD = """
import sys
from sojourn.client import Client
client = Client(sys.argv[1], license_key=sys.argv[2], timeout=60)
client.seat("editor", user="ann", client_id="one").acquire()
print("held", flush=True)
sys.stdin.read()
"""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with served(tmp_path_factory.mktemp("stuck") / "data") as server:
        yield server


@pytest.fixture
def http() -> Iterator[httpx.Client]:
    with new_client(timeout=120) as http:
        yield http


def in_use(feature: Feature) -> int:
    """Return the count that an operator sees."""
    with feature.server.admin() as http:
        answer = http.get(f"/api/licenses/{feature.license_id}/session-stats")
    (pool,) = answer.json()["data"]["features"]
    found: int = pool["usage"]["inUse"]
    return found


def frees(feature: Feature, seats: int = 0) -> None:
    eventually(lambda: in_use(feature) == seats, f"a count of {seats}")


class TestATabThatIsClosed:
    def test_by_a_heartbeat(self, server: Served, http: httpx.Client) -> None:
        """The page's last word: the count falls once the linger is over, and somebody else signs in."""
        feature = Feature(server, http, **CLOSED)
        seat = feature.take("ann")
        assert (feature.ask("bob").status_code, in_use(feature)) == (409, 1)
        assert beat(http, server.url, seat["token"], closing=True).status_code == 200
        frees(feature)
        feature.take("bob")

    def test_on_a_socket(self, server: Served, http: httpx.Client) -> None:
        feature = Feature(server, http, **CLOSED)
        with attend(server, feature.take("ann")["token"]) as client:
            heard(client)
            assert feature.ask("bob").status_code == 409
            client.send('{"type": "goodbye"}')
            frees(feature)
        feature.take("bob")

    def test_without_a_word(self, server: Served, http: httpx.Client) -> None:
        """The browser is gone, and its socket with it: who signs in has the seat, however long the linger."""
        feature = Feature(server, http, **ENDLESS)
        client = RawClient(server, feature.take("ann")["token"])
        client.hear("open")
        client.drop()
        feature.suspect("ann")
        feature.take("bob")
        assert feature.lease("ann")["endReason"] == "evicted"


class TestHeartbeatsThatStop:
    def test_seat_is_freed_after_the_threshold(self, server: Served, http: httpx.Client) -> None:
        """Nobody need sign in for that, and nobody sweep."""
        feature = Feature(server, http, **STOPPED)
        seat = feature.take("ann")
        frees(feature)
        assert beat(http, server.url, seat["token"]).status_code == 410
        feature.take("bob")

    def test_of_a_program_that_was_killed(self, server: Served, http: httpx.Client) -> None:
        """The client of the package beats until it is killed."""
        feature = Feature(server, http, **STOPPED)
        command = [sys.executable, "-c", HOLD, server.url, feature.key]
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as program:
            try:
                assert program.stdout is not None
                assert program.stdout.readline()
            finally:
                program.send_signal(signal.SIGKILL)
        frees(feature)
        feature.take("bob")


@pytest.mark.parametrize("crash", [False, True], ids=["stopped", "killed"])
def test_nobody_is_a_ghost_after_a_restart(
    tmp_path: Path, http: httpx.Client, *, crash: bool
) -> None:
    """All clients are gone when the server starts again: one gave its seat back, one said goodbye, and one
    vanished. The count falls to nothing, and all seats are there for others."""
    with served(tmp_path / "data") as server:
        feature = Feature(server, http, **{**STOPPED, "capacity": 3})
        given, closed, _ = (feature.take(name) for name in ("ann", "bob", "cid"))
        assert release(http, server.url, given["token"]).status_code == 200
        beat(http, server.url, closed["token"], closing=True)
        if crash:
            server.kill()
        else:
            server.stop()
        server.start()
        frees(feature)
        for name in ("dan", "eve", "fay"):
            feature.take(name)


class TestForceCleanup:
    def clean(self, feature: Feature, user: str) -> dict[str, Any]:
        with feature.server.admin() as http:
            answer = http.delete(f"/api/licenses/sessions/force-cleanup/{user}/editor")
        assert answer.status_code == 200, answer.text
        found: dict[str, Any] = answer.json()["data"]
        return found

    def test_blocked_user_gets_in_at_once(self, server: Served, http: httpx.Client) -> None:
        """With its very next request; and the one who was cleaned away cannot beat on."""
        feature = Feature(server, http, **ENDLESS)
        held = feature.take("stuck")
        assert feature.ask("bob").status_code == 409
        assert self.clean(feature, "stuck")["ended"] == 1
        feature.take("bob")
        assert beat(http, server.url, held["token"]).status_code == 410

    def test_who_waits_is_served_by_it(self, server: Served, http: httpx.Client) -> None:
        feature = Feature(server, http, **ENDLESS)
        feature.take("stuck too")
        with ThreadPoolExecutor(1) as threads:
            waits = threads.submit(feature.ask, "bob", wait=60)
            path = f"/api/licenses/sessions/waiting?licenseId={feature.license_id}&feature=editor"
            with server.admin() as admin:
                eventually(lambda: "bob" in admin.get(path).text, "a place in the line")
            self.clean(feature, "stuck too")
            assert waits.result().status_code == 201
