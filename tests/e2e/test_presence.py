"""A seat that is kept by an open socket: what a client hears, and what becomes of its lease."""

from __future__ import annotations

import contextlib
import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import httpx
import pytest
from tests.seat_clients import PATH, RawClient, attend, close_code, heard
from tests.serving import Served, acquire, beat, new_client, release, served
from tests.waiting import DEADLINE
from websockets.exceptions import InvalidStatus
from websockets.frames import Frame, Opcode
from websockets.sync.client import connect

T = TypeVar("T")

FAST = {"heartbeatInterval": 1, "lostAfter": 4, "linger": 2}
USUAL = {"heartbeatInterval": 1, "lostAfter": 60, "linger": 30}
SLOW = {"heartbeatInterval": 30, "lostAfter": 90, "linger": 30}
TICK = threading.Event()


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with served(tmp_path_factory.mktemp("presence") / "data") as server:
        yield server


@pytest.fixture
def http() -> Iterator[httpx.Client]:
    with new_client() as http:
        yield http


def eventually(look: Callable[[], T | None], what: str = "it") -> T:
    """Look again and again until there is something."""
    deadline = time.monotonic() + DEADLINE
    while time.monotonic() < deadline:
        found = look()
        if found:
            return found
        TICK.wait(0.03)
    raise AssertionError(f"{what} never came true")


class Feature:
    """A license with one feature, and its leases as an operator sees them."""

    def __init__(self, server: Served, http: httpx.Client, **policy: Any) -> None:
        self.server, self.http = server, http
        self.license_id, self.key = server.license(editor={"capacity": 1, **policy})

    def take(self, user: str = "ann", client: str = "one", **more: Any) -> dict[str, Any]:
        answer = self.ask(user, client, **more)
        assert answer.status_code == 201, answer.text
        found: dict[str, Any] = answer.json()["data"]
        return found

    def ask(self, user: str, client: str = "one", **more: Any) -> httpx.Response:
        return acquire(self.http, self.server.url, self.key, "editor", user, client, **more)

    def lease(self, user: str = "ann") -> dict[str, Any]:
        query = {"licenseId": self.license_id, "userId": user, "includeEnded": "true"}
        with self.server.admin() as http:
            answer = http.get("/api/licenses/sessions", params=query)
        found: dict[str, Any] = answer.json()["data"]["items"][0]
        return found

    def state(self, user: str = "ann") -> str:
        return str(self.lease(user)["state"])

    def suspect(self, user: str = "ann") -> None:
        eventually(lambda: self.state(user) == "suspect", "suspicion")


def metric(server: Served, name: str) -> float:
    with new_client() as http:
        lines = http.get(f"{server.url}/metrics").text.splitlines()
    return float(next((line.split()[1] for line in lines if line.startswith(name + " ")), 0))


class TestAKeptSeat:
    def test_socket_keeps_its_lease(self, server: Served, http: httpx.Client) -> None:
        """A lease whose socket is open lives past its lost_after without a heartbeat."""
        feature = Feature(server, http, **FAST)
        seat = feature.take()
        with attend(server, seat["token"]) as client:
            opened = heard(client)
            assert opened["type"] == "open"
            assert (opened["heartbeatInterval"], opened["lostAfter"]) == (1, 4)
            assert opened["expiresIn"] <= 4
            eventually(lambda: feature.lease()["heldFor"] > 5, "five seconds")
            eventually(lambda: feature.state() == "active", "activity")
            assert feature.lease()["fence"] == seat["fence"]
            assert metric(server, "sojourn_seat_sockets") >= 1

    def test_drop_makes_suspect(self, server: Served, http: httpx.Client) -> None:
        """A socket that is gone without a word makes its lease suspect, and ends nothing."""
        feature = Feature(server, http, **SLOW)
        client = RawClient(server, feature.take()["token"])
        client.hear("open")
        assert feature.state() == "active"
        client.drop()
        feature.suspect()
        assert feature.lease()["expiresIn"] > 50

    def test_reopened_socket_keeps_the_fence(self, server: Served, http: httpx.Client) -> None:
        """A client that comes back within the linger has the lease that it had."""
        feature = Feature(server, http, **SLOW)
        seat = feature.take()
        client = RawClient(server, seat["token"])
        client.hear("open")
        client.drop()
        feature.suspect()
        with attend(server, seat["token"]) as again:
            assert heard(again)["type"] == "open"
            assert feature.state() == "active"
            assert feature.lease()["fence"] == seat["fence"]

    def test_heartbeat_is_as_good_as_a_socket(self, server: Served, http: httpx.Client) -> None:
        """A client whose socket dropped, and which beats over HTTP, is not doubted: not even if the drop is
        noticed later than its beat."""
        feature = Feature(server, http, **SLOW)
        seat = feature.take()
        client = RawClient(server, seat["token"])
        client.hear("open")
        eventually(lambda: feature.lease()["lastBeatAgo"] > 0.5, "half a second")
        assert beat(http, server.url, seat["token"]).status_code == 200
        client.drop()
        eventually(lambda: feature.lease()["lastBeatAgo"] > 1, "a second")
        assert feature.state() == "active"

    def test_goodbye_lingers(self, server: Served, http: httpx.Client) -> None:
        """A goodbye is the closing heartbeat: the seat is given up a linger later."""
        feature = Feature(server, http, **{**USUAL, "linger": 10})
        with attend(server, feature.take()["token"]) as client:
            heard(client)
            client.send('{"type": "goodbye"}')
            assert close_code(client) == 1000
        lease = feature.lease()
        assert lease["state"] == "suspect"
        assert lease["expiresIn"] <= 10

    def test_idleness_is_told_on_the_socket(self, server: Served, http: httpx.Client) -> None:
        feature = Feature(server, http, **USUAL)
        with attend(server, feature.take()["token"]) as client:
            heard(client)
            client.send('{"type": "beat", "idleFor": 300}')
            eventually(lambda: feature.lease().get("idleFor", 0) >= 300, "idleness")

    def test_token_in_the_protocol(self, server: Served, http: httpx.Client) -> None:
        """Where headers cannot be set, the token is the second protocol, and the first is chosen."""
        seat = Feature(server, http, **USUAL).take()
        with connect(
            f"ws://127.0.0.1:{server.port}{PATH}",
            subprotocols=["sojourn.v1", seat["token"]],  # type: ignore[list-item]  # NewType of str
            proxy=None,
        ) as client:
            assert client.subprotocol == "sojourn.v1"
            assert heard(client)["type"] == "open"


class TestTwoSockets:
    def test_newer_socket_wins(self, server: Served, http: httpx.Client) -> None:
        """The older of two is told and closed, and nobody is doubted for it."""
        feature = Feature(server, http, **USUAL)
        seat = feature.take()
        with attend(server, seat["token"]) as older:
            heard(older)
            with attend(server, seat["token"]) as newer:
                assert heard(newer)["type"] == "open"
                assert heard(older) == {"type": "superseded"}
                assert close_code(older) == 4409
                eventually(lambda: feature.state() == "active", "activity")

    def test_newer_fence_wins(self, server: Served, http: httpx.Client) -> None:
        """A client that has acquired again cuts off the socket of its older token."""
        feature = Feature(server, http, **USUAL)
        with attend(server, feature.take()["token"]) as older:
            heard(older)
            seat = feature.take()
            assert heard(older) == {"type": "superseded"}
            assert close_code(older) == 4409
            with attend(server, seat["token"]) as newer:
                assert heard(newer)["type"] == "open"

    def test_older_token_gets_no_socket(self, server: Served, http: httpx.Client) -> None:
        """Who opens a socket with a token that was taken over is told so."""
        feature = Feature(server, http, **USUAL)
        old = feature.take()
        feature.take()
        with attend(server, old["token"]) as client:
            assert heard(client) == {"type": "superseded"}
            assert close_code(client) == 4409


class TestNews:
    def test_revocation_is_told(self, server: Served, http: httpx.Client) -> None:
        feature = Feature(server, http, **USUAL)
        seat = feature.take()
        with attend(server, seat["token"]) as client, server.admin() as admin:
            heard(client)
            admin.delete(f"/api/licenses/sessions/{seat['leaseId']}")
            assert heard(client) == {"type": "lost", "reason": "revoked", "resumable": False}
            assert close_code(client) == 4410

    def test_release_over_http_is_told(self, server: Served, http: httpx.Client) -> None:
        feature = Feature(server, http, **USUAL)
        seat = feature.take()
        with attend(server, seat["token"]) as client:
            heard(client)
            release(http, server.url, seat["token"])
            assert heard(client)["reason"] == "released"

    def test_end_of_its_session_is_told(self, server: Served, http: httpx.Client) -> None:
        """Signing out gives the seat back, and the client learns of both."""
        with server.admin() as admin:
            made = admin.post("/api/sessions", json={"userId": "ann"}).json()["data"]
            session_id = made["session"]["id"]
            feature = Feature(server, http, **USUAL)
            seat = feature.take(sessionId=session_id)
            with attend(server, seat["token"]) as client:
                heard(client)
                admin.delete(f"/api/sessions/{session_id}")
                assert heard(client)["reason"] == "session_ended"

    def test_expiry_of_its_session_is_told(self, server: Served, http: httpx.Client) -> None:
        """No event tells of it: the session itself is looked at. Its seat is given back."""
        with server.admin() as admin:
            body = {"userId": "ann", "timeouts": {"lifetime": 2, "idleTimeout": 2}}
            made = admin.post("/api/sessions", json=body)
            assert made.status_code == 201, made.text
            feature = Feature(server, http, **USUAL)
            seat = feature.take(sessionId=made.json()["data"]["session"]["id"])
            with attend(server, seat["token"]) as client:
                heard(client)
                assert heard(client) == {"type": "session_expired"}
                assert heard(client)["reason"] == "session_ended"
                assert close_code(client) == 4410
        eventually(lambda: feature.state() == "ended", "the end of the lease")

    def test_idle_holder_is_told_that_its_seat_is_needed(
        self, server: Served, http: httpx.Client
    ) -> None:
        """Somebody was refused: whose person does nothing may give the seat back; others hear nothing."""
        feature = Feature(server, http, **{**SLOW, "capacity": 2})
        with (
            attend(server, feature.take("ann")["token"]) as idle,
            attend(server, feature.take("bob")["token"]) as busy,
        ):
            heard(idle)
            heard(busy)
            idle.send('{"type": "beat", "idleFor": 300}')
            busy.send('{"type": "beat", "idleFor": 1}')

            def told() -> bool:
                assert feature.ask("cid").status_code == 409
                with contextlib.suppress(TimeoutError):
                    return bool(json.loads(idle.recv(timeout=1))["type"] == "needed")
                return False

            eventually(told, "news of the need")
            busy.send('{"type": "goodbye"}')
            heard_so_far = {json.loads(said)["type"] for said in busy}
            assert heard_so_far <= {"alive", "ask"}, "nobody needs its seat"

    def test_policy_is_told(self, server: Served, http: httpx.Client) -> None:
        feature = Feature(server, http, **USUAL)
        with attend(server, feature.take()["token"]) as client, server.admin() as admin:
            heard(client)
            path = f"/api/licenses/{feature.license_id}/features/editor"
            said = {"capacity": 3, **USUAL, "heartbeatInterval": 2}
            changed = admin.put(path, json=said)
            assert changed.status_code == 200, changed.text
            assert heard(client) == {"type": "policy", "heartbeatInterval": 2, "lostAfter": 60}
            eventually(lambda: feature.state() == "active", "activity")

    def test_suspended_license_is_told(self, server: Served, http: httpx.Client) -> None:
        feature = Feature(server, http, **{**USUAL, "heartbeatInterval": 30})
        with attend(server, feature.take()["token"]) as client, server.admin() as admin:
            heard(client)
            path = f"/api/licenses/{feature.license_id}"
            changed = admin.patch(path, json={"status": "suspended"})
            assert changed.status_code == 200, changed.text
            assert heard(client)["reason"] == "license_suspended"

    def test_restart_frees_nobody(self, tmp_path: Path, http: httpx.Client) -> None:
        """A server that stops says 1012, and doubts nobody for it."""
        with served(tmp_path / "data") as server:
            feature = Feature(server, http, **SLOW)
            seat = feature.take()
            with attend(server, seat["token"]) as client:
                heard(client)
                server.stop()
                assert close_code(client) == 1012
            server.start()
            assert feature.state() == "active"
            with attend(server, seat["token"]) as client:
                assert heard(client)["type"] == "open"
                assert feature.lease()["fence"] == seat["fence"]


class TestBounds:
    @pytest.mark.parametrize(
        ("headers", "status", "code"),
        [
            ({"Authorization": ""}, 401, "unauthenticated"),
            ({"Authorization": "Bearer sjl_none"}, 401, "token_forged"),
            ({"Authorization": "Bearer sjk_none"}, 401, "token_wrong_kind"),
            ({"Origin": "https://evil.example"}, 403, "cross_origin"),
        ],
    )
    def test_handshake_is_refused(
        self, server: Served, http: httpx.Client, headers: dict[str, str], status: int, code: str
    ) -> None:
        seat = Feature(server, http, **USUAL).take()
        with pytest.raises(InvalidStatus) as refused:
            attend(server, seat["token"], **headers)
        assert refused.value.response.status_code == status
        assert json.loads(refused.value.response.body or b"")["code"] in (code, "invalid_token")

    def test_page_that_its_license_allows_may(self, server: Served, http: httpx.Client) -> None:
        feature = Feature(server, http, **USUAL)
        token = feature.take()["token"]
        page = "chrome-extension://abcdefghijklmnopabcdefghijklmnop"
        with pytest.raises(InvalidStatus):
            attend(server, token, Origin=page)
        with server.admin() as admin:
            path = f"/api/licenses/{feature.license_id}"
            changed = admin.patch(path, json={"allowedOrigins": [page]})
            assert changed.status_code == 200, changed.text
        with attend(server, token, Origin=page) as client:
            assert heard(client)["type"] == "open"
        with pytest.raises(InvalidStatus):
            attend(server, token, Origin="https://evil.example")

    def test_page_of_this_server_may(self, server: Served, http: httpx.Client) -> None:
        seat = Feature(server, http, **USUAL).take()
        with attend(server, seat["token"], Origin=server.url) as client:
            assert heard(client)["type"] == "open"

    @pytest.mark.parametrize(
        ("said", "code"),
        [
            (b"\x00", 1003),
            ("no JSON", 1008),
            ('{"type": "dance"}', 1008),
            ('{"type": "beat", "x": 1}', 1008),
        ],
    )
    def test_what_nobody_should_say(
        self, server: Served, http: httpx.Client, said: bytes | str, code: int
    ) -> None:
        """A client that says what is no message of ours is closed, and doubted as if it had dropped."""
        feature = Feature(server, http, **USUAL)
        with attend(server, feature.take()["token"]) as client:
            heard(client)
            client.send(said)
            assert close_code(client) == code
        feature.suspect()

    def test_flood_is_closed(self, server: Served, http: httpx.Client) -> None:
        with attend(server, Feature(server, http, **USUAL).take()["token"]) as client:
            heard(client)
            for _ in range(30):
                client.send('{"type": "here"}')
            assert close_code(client) == 1008

    def test_half_a_frame_is_no_sign_of_life(self, server: Served, http: httpx.Client) -> None:
        """A client that sends frames without an end answers no ping, and is given up."""
        feature = Feature(server, http, **USUAL)
        client = RawClient(server, feature.take()["token"])
        client.hear("open")
        frame = Frame(Opcode.TEXT, b"x" * 100).serialize(mask=True)
        client.send(frame[:50])
        assert client.end() == 4408
        feature.suspect()

    def test_silent_client_is_given_up(self, server: Served, http: httpx.Client) -> None:
        """A connection that is there, and a client that is not: its socket is closed, its lease suspect."""
        feature = Feature(server, http, **USUAL)
        client = RawClient(server, feature.take()["token"])
        client.hear("open")
        assert client.end() == 4408
        feature.suspect()


FEW_FILES = """
import resource, sys
resource.setrlimit(resource.RLIMIT_NOFILE, (400, 400))
from sojourn.cli.entry import main
sys.argv[0] = "sojourn"
main()
"""


class TestCrowds:
    def test_sockets_leave_files_for_the_others(self, tmp_path: Path, http: httpx.Client) -> None:
        """However few the system allows: past a share of them a socket is refused, and a heartbeat is not."""
        server = Served(tmp_path / "data", program=("-c", FEW_FILES))
        server.start()
        try:
            feature = Feature(server, http, **{**SLOW, "capacity": 200})
            tokens = [feature.take(f"user-{n}")["token"] for n in range(110)]
            with contextlib.ExitStack() as held:
                statuses = [knock(server, token, held) for token in tokens]
                assert statuses == [101] * 100 + [503] * 10
                for token in (tokens[0], tokens[-1]):
                    assert beat(http, server.url, token).status_code == 200
        finally:
            server.stop()

    def test_a_lease_that_is_lost_opens_few_sockets(
        self, server: Served, http: httpx.Client
    ) -> None:
        """Its token is signed for ever: whoever has one fills no server with sockets that nobody closes."""
        feature = Feature(server, http, **SLOW)
        token = feature.take()["token"]
        release(http, server.url, token)
        with contextlib.ExitStack() as held:
            statuses = [knock(server, token, held) for _ in range(100)]
            assert set(statuses) == {101, 503}
            assert statuses.count(101) <= 80  # of one address; a few of them may be closed by now
        token = feature.take()["token"]  # once those are gone, there is room again

        def attends() -> bool:
            with contextlib.suppress(InvalidStatus), attend(server, token) as client:
                return bool(heard(client)["type"] == "open")
            return False

        eventually(attends, "room")

    def test_many_sockets_of_one_lease_are_not_waited_for(
        self, server: Served, http: httpx.Client
    ) -> None:
        """The newest holds it; of those before only a few are closed in good order."""
        token = Feature(server, http, **SLOW).take()["token"]
        cut = 'sojourn_http_refused_total{code="socket_superseded"}'
        with contextlib.ExitStack() as held:
            assert {knock(server, token, held) for _ in range(30)} == {101}
            eventually(lambda: metric(server, cut) >= 10, "an end of most")
        with attend(server, token) as client:
            assert heard(client)["type"] == "open"


def knock(server: Served, token: str, held: contextlib.ExitStack) -> int:
    """Open a socket, and neither read nor close it; return the status."""
    client = socket.create_connection(("127.0.0.1", server.port), timeout=DEADLINE)
    held.enter_context(client)
    lines = (
        f"GET {PATH} HTTP/1.1",
        "Host: x",
        f"Authorization: Bearer {token}",
        "Connection: Upgrade",
        "Upgrade: websocket",
        "Sec-WebSocket-Version: 13",
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
    )
    client.sendall("\r\n".join([*lines, "", ""]).encode())
    said = b""
    while b" " not in said or len(said) < 12:
        said += client.recv(12 - len(said))
    return int(said.split()[1])
