"""A proxy that sends every request twice, in front of two servers on one PostgreSQL: nobody loses what is
theirs."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from enum import StrEnum
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Self

import httpx
import pytest
from tests.serving import TLS, Served, new_client, served

from sojourn.client import Change, Client, SeatState
from sojourn.client.sessions import RemoteSessions
from sojourn.event import EventKind
from sojourn.session import Begin, Begun, Check, End, Rotate, Save, Session
from sojourn.store import Store
from sojourn.stores import open as stores

PATIENCE = 30.0  # seconds until a test that hangs fails
USERS = 6
BEATS = 3
OWN = frozenset({"connection", "content-length", "date", "host", "server", "transfer-encoding"})


class When(StrEnum):
    AFTER = "after"  # the copy goes out once the first is answered
    AT_ONCE = "at once"
    LATE = "late"  # when the test says so


class Doubling:
    """An HTTP proxy. Each request goes to one server and a copy of it to another; its sender is answered by
    whichever answers first, the first where the copy comes later."""

    def __init__(self, first: str, second: str, when: When) -> None:
        self.servers = (first, second)
        self.when = when
        self.late: list[Callable[[], httpx.Response]] = []
        self.beats = 0
        self.copied: list[tuple[int, int]] = []  # statuses of the first and its copy
        self.changed = threading.Condition()
        self._turn = 0
        self._http = new_client()
        self._crowd = ThreadPoolExecutor(2 * USERS)
        proxy = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def forward(self) -> None:
                length = int(self.headers.get("Content-Length", 0))
                body = self.rfile.read(length)
                headers = {k: v for k, v in self.headers.items() if k.lower() not in OWN}
                answer = proxy.forward(self.command, self.path, headers, body)
                self.send_response(answer.status_code)
                for name, value in answer.headers.items():
                    if name not in OWN:
                        self.send_header(name, value)
                self.send_header("Content-Length", str(len(answer.content)))
                self.end_headers()
                self.wfile.write(answer.content)

            do_GET = do_POST = do_PATCH = do_DELETE = forward  # noqa: N815  # as http.server has it

            def log_message(self, *_: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        self._thread = threading.Thread(target=self._server.serve_forever)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()
        self._crowd.shutdown()
        self._http.close()

    def forward(
        self, method: str, path: str, headers: dict[str, str], body: bytes
    ) -> httpx.Response:
        with self.changed:
            self._turn += 1
            here, there = self.servers[:: 1 if self._turn % 2 else -1]

        def send(server: str) -> httpx.Response:
            return self._http.request(method, server + path, headers=headers, content=body)

        if self.when is When.LATE:
            answer = send(here)
            with self.changed:
                self.late.append(lambda: send(there))
        elif self.when is When.AFTER:
            answer, copy = send(here), send(there)
            self._note(path, answer, copy)
        else:
            one, other = (self._crowd.submit(send, server) for server in (here, there))
            answer, copy = other.result(), one.result()
            self._note(path, answer, copy)
        return answer

    def _note(self, path: str, answer: httpx.Response, copy: httpx.Response) -> None:
        with self.changed:
            self.beats += path.endswith("/heartbeat")
            self.copied.append((answer.status_code, copy.status_code))
            self.changed.notify_all()

    def wait_for_beats(self, count: int) -> None:
        with self.changed:
            assert self.changed.wait_for(lambda: self.beats >= count, PATIENCE)

    def send_late(self) -> list[httpx.Response]:
        """Let the copies go that were held back, the last one first."""
        with self.changed:
            late, self.late = self.late[::-1], []
        return [copy() for copy in late]


@pytest.fixture
def store(empty_postgres: str) -> Iterator[Store]:
    with closing(stores.open_store(empty_postgres)) as store:
        yield store


@pytest.fixture
def two(empty_postgres: str, tmp_path: Path) -> Iterator[tuple[Served, Served]]:
    with (
        served(tmp_path / "a", store=empty_postgres) as one,
        served(tmp_path / "b", store=empty_postgres) as other,
    ):
        yield one, other


@contextmanager
def doubling(two: tuple[Served, Served], when: When, *, same: bool = False) -> Iterator[Doubling]:
    with Doubling(two[0].url, two[0 if same else 1].url, when) as proxy:
        yield proxy


def app_key(server: Served) -> str:
    with server.admin() as http:
        answer = http.post("/api/keys", json={"name": "app", "role": "app"})
    assert answer.status_code == 201, answer.text
    return str(answer.json()["data"]["key"])


@pytest.mark.parametrize("same", [False, True], ids=["another server", "the same server"])
@pytest.mark.parametrize("when", [When.AFTER, When.AT_ONCE])
def test_nobody_loses_their_own_seat(
    two: tuple[Served, Served], store: Store, when: When, same: bool
) -> None:
    """As many users as seats, each request twice: all keep the seat they got, under the first fence."""
    policy = {"capacity": USERS, "lostAfter": 20, "heartbeatInterval": 0.4}
    _, key = two[0].license(render=policy)
    changes: list[Change] = []
    with (
        doubling(two, when, same=same) as proxy,
        Client(proxy.url, license_key=key, verify=TLS) as client,
    ):
        seats = [
            client.seat("render", user=f"user-{i}", client_id="c", on_change=changes.append)
            for i in range(USERS)
        ]
        with ThreadPoolExecutor(USERS) as crowd:
            list(crowd.map(lambda seat: seat.acquire(), seats))
        proxy.wait_for_beats(BEATS * USERS)
        assert {seat.state for seat in seats} <= {SeatState.SAFE, SeatState.JEOPARDY}
        assert {seat.fence for seat in seats} == set(range(1, USERS + 1))
        assert not [change for change in changes if change.state is SeatState.LOST]
        assert {status for both in proxy.copied for status in both} == {200, 201}
    told = [event.kind for event in store.events(limit=1_000)]
    assert told.count(EventKind.LEASE_ACQUIRED) == USERS
    assert EventKind.LEASE_TAKEN_OVER not in told


@pytest.mark.parametrize("when", [When.AFTER, When.AT_ONCE])
def test_sessions_live_once(two: tuple[Served, Served], store: Store, when: When) -> None:
    """A sign-in that is sent twice is one session, whose token works; so with saves and rotations."""
    with (
        doubling(two, when) as proxy,
        closing(RemoteSessions(proxy.url, app_key(two[0]))) as sessions,
    ):
        for user in ("ann", "bob"):
            (begun,) = sessions.begin([Begin(user_id=user, data={"n": 0})])
            assert isinstance(begun, Begun)
            (revision,) = sessions.save([Save(id=begun.session.id, set={"n": 1})])
            assert revision == 2
            (rotated,) = sessions.rotate([Rotate(id=begun.session.id, grace=0)])
            assert rotated is not None
            (found,) = sessions.check([Check(rotated.token)])
            assert isinstance(found, Session)
            assert (found.id, found.data, found.revision) == (begun.session.id, {"n": 1}, 2)
            assert [x.id for x in store.of(user)] == [begun.session.id]
        (ended,) = sessions.end([End(user_id="ann")])
        assert len(ended) == 1
    told = [event.kind for event in store.events(limit=1_000)]
    assert told.count(EventKind.SESSION_CREATED) == 2
    assert told.count(EventKind.SESSION_ROTATED) == 2
    assert told.count(EventKind.SESSION_ENDED) == 1


def test_late_copies_undo_nothing(two: tuple[Served, Served], store: Store) -> None:
    """Copies that come when all is over, in the wrong order: what was begun and saved since stays."""
    _, key = two[0].license(render={"capacity": 1})
    app = app_key(two[0])
    with (
        doubling(two, When.LATE) as proxy,
        closing(RemoteSessions(proxy.url, app)) as sessions,
        closing(RemoteSessions(two[0].url, app)) as direct,
    ):
        (begun,) = sessions.begin([Begin(user_id="ann")])
        assert isinstance(begun, Begun)
        sessions.save([Save(id=begun.session.id, set={"n": 1})])
        sessions.end([End(user_id="ann")])
        with Client(proxy.url, license_key=key, verify=TLS) as client:
            client.seat("render", user="ann", client_id="c").acquire().release()
        (later,) = direct.begin([Begin(user_id="ann", data={"n": 2})])
        assert isinstance(later, Begun)
        with Client(two[0].url, license_key=key, verify=TLS) as client:
            seat = client.seat("render", user="ann", client_id="c").acquire()
            statuses = {answer.status_code for answer in proxy.send_late()}
            assert statuses == {200, 201}
            assert [x.id for x in store.of("ann")] == [later.session.id]
            (found,) = direct.check([Check(later.token)])
            assert isinstance(found, Session)
            assert found.data == {"n": 2}
            answer = httpx.post(
                f"{two[1].url}/api/licenses/sessions/heartbeat",
                headers={"Authorization": f"Bearer {token_of(seat)}"},
                verify=TLS,
            )
            assert answer.status_code == 200, answer.text


def token_of(seat: Any) -> str:
    return str(seat._hold.grant.token.reveal())
